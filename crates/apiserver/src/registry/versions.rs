//! One object in three forms: as it is stored, as writes work on it, and as clients see it.
//!
//! Built-in kinds are worked on in their storage version, the one that their hooks know. Custom resources are worked on
//! as their clients see them: in the served version, whose schema prunes and defaults also what is read, because it may
//! be younger than the object.

use std::sync::Arc;

use api::object::Entry;
use api::status::Status;
use serde_json::{Value, json};
use store::BoxFuture;

use super::{Served, decode};
use crate::document::Document;

/// Rewrites custom resources of one version as ones of another.
pub trait Converter: Send + Sync + 'static {
    /// The objects, in their order, with `apiVersion` `to`. None of them has it yet.
    fn convert<'a>(&'a self, objects: Vec<Value>, to: &'a str) -> BoxFuture<'a, Result<Vec<Value>, Status>>;
}

/// `strategy: None`: versions differ in nothing but their name.
pub struct Relabel;

impl Converter for Relabel {
    fn convert<'a>(&'a self, mut objects: Vec<Value>, to: &'a str) -> BoxFuture<'a, Result<Vec<Value>, Status>> {
        for object in &mut objects {
            object["apiVersion"] = json!(to);
        }
        Box::pin(async { Ok(objects) })
    }
}

/// A stored object as writes work on it.
pub(crate) async fn working(served: &Served, entry: &Entry) -> Result<Value, Status> {
    match &served.custom {
        None => Ok(entry.to_value()),
        Some(_) => shown_one(served, entry.to_value()).await,
    }
}

/// What is stored of an object that writes have worked on.
pub(crate) async fn stored(served: &Served, object: Value) -> Result<Value, Status> {
    match &served.custom {
        None => Ok(object),
        Some(_) => one(convert(served, vec![object], &served.row.storage_api_version()).await?),
    }
}

/// Stored objects as clients see them.
pub(crate) async fn shown(served: &Served, mut objects: Vec<Value>) -> Result<Vec<Value>, Status> {
    let Some(custom) = &served.custom else {
        objects.iter_mut().for_each(|object| decode::from_storage(served, object));
        return Ok(objects);
    };
    let mut objects = convert(served, objects, &served.api_version()).await?;
    objects.iter_mut().for_each(|object| custom.version().conform(object));
    Ok(objects)
}

/// [`shown`] for one object.
pub(crate) async fn shown_one(served: &Served, object: Value) -> Result<Value, Status> {
    one(shown(served, vec![object]).await?)
}

/// [`shown`] for what the cache holds.
pub(crate) async fn shown_entries(served: &Served, entries: &[Arc<Entry>]) -> Result<Vec<Value>, Status> {
    shown(served, entries.iter().map(|entry| entry.to_value()).collect()).await
}

/// Converts those that need it; an object keeps its place and its revision.
async fn convert(served: &Served, mut objects: Vec<Value>, to: &str) -> Result<Vec<Value>, Status> {
    let Some(custom) = &served.custom else { return Ok(objects) };
    let others: Vec<usize> = (0..objects.len()).filter(|at| objects[*at]["apiVersion"] != to).collect();
    if others.is_empty() {
        return Ok(objects);
    }
    let taken = others.iter().map(|at| objects[*at].take()).collect();
    let converted = custom.converter.convert(taken, to).await?;
    if converted.len() != others.len() {
        return Err(Status::internal("a conversion lost objects"));
    }
    for (at, object) in others.into_iter().zip(converted) {
        objects[at] = object;
    }
    Ok(objects)
}

fn one(mut objects: Vec<Value>) -> Result<Value, Status> {
    objects.pop().ok_or_else(|| Status::internal("a conversion lost an object"))
}

/// True when storing `object` would change nothing of what `live` holds.
pub(crate) fn is_stored(live: &Entry, object: &Value) -> bool {
    let mut held = live.to_value();
    held.remove_meta("resourceVersion");
    held == *object
}
