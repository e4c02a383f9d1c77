//! One object in three forms: as it is stored, as writes work on it, and as clients see it.
//!
//! Built-in kinds are worked on in their storage version, the one that their hooks know. Custom resources are worked on
//! as their clients see them, in the served version. The schema of the version that they are stored in prunes and defaults
//! also what is read, because it may be younger than the object. How an object is shown is kept with it, so that a read of either costs the same.

use std::sync::Arc;

use api::forms::{Form, Room};
use api::object::Entry;
use api::status::Status;
use bytes::Bytes;
use serde_json::{Value, json};
use store::BoxFuture;

use super::{Served, decode};
use crate::document::Document;
use crate::protobuf;

/// What may be kept with all objects together of how else they are asked for: 20,000 pods in protobuf. Nothing of it is
/// taken before somebody asks.
static ROOM: Room = Room::new(64 << 20);

/// The size in bytes of objects that are converted together, about. A webhook's answer about them may be several times
/// that; most lists are no more, and are asked about once, as upstream does of all.
const TOGETHER: usize = 2 << 20;

/// Rewrites custom resources of one version as ones of another.
pub trait Converter: Send + Sync + 'static {
    /// The objects, in their order, with `apiVersion` `to`. None of them has it yet.
    fn convert<'a>(&'a self, objects: Vec<Value>, to: &'a str) -> BoxFuture<'a, Result<Vec<Value>, Status>>;

    /// Converts one object, if nobody has to be asked how.
    fn convert_at_once(&self, _object: &mut Value, _to: &str) -> bool {
        false
    }
}

/// `strategy: None`: versions differ in nothing but their name.
pub struct Relabel;

impl Converter for Relabel {
    fn convert<'a>(&'a self, mut objects: Vec<Value>, to: &'a str) -> BoxFuture<'a, Result<Vec<Value>, Status>> {
        for object in &mut objects {
            self.convert_at_once(object, to);
        }
        Box::pin(async { Ok(objects) })
    }

    fn convert_at_once(&self, object: &mut Value, to: &str) -> bool {
        object["apiVersion"] = json!(to);
        true
    }
}

/// A stored object as writes work on it.
pub(crate) async fn working(served: &Served, entry: &Arc<Entry>) -> Result<Value, Status> {
    match &served.custom {
        None => Ok(entry.to_value()),
        Some(_) => Ok(shown_entry(served, entry).await?.to_value()),
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
    objects.iter_mut().for_each(|object| custom.definition.conform(object));
    convert(served, objects, &served.api_version()).await
}

/// [`shown`] for one object.
pub(crate) async fn shown_one(served: &Served, object: Value) -> Result<Value, Status> {
    one(shown(served, vec![object]).await?)
}

/// A custom resource that the cache holds, as clients see it; made once for each state of its schema. A built-in kind's
/// is what is stored.
pub(crate) async fn shown_entry(served: &Served, entry: &Arc<Entry>) -> Result<Arc<Entry>, Status> {
    match shown_at_once(served, entry)? {
        Some(shown) => Ok(shown),
        None => keep(served, entry, shown_one(served, entry.to_value()).await?),
    }
}

/// [`shown_entry`] for many. Whoever converts them is asked about as many together as are not too much for one question
/// and its answer; meanwhile the others are no documents.
pub(crate) async fn shown_entries(served: &Served, mut entries: Vec<Arc<Entry>>) -> Result<Vec<Arc<Entry>>, Status> {
    let (mut places, mut foreign, mut size) = (Vec::new(), Vec::new(), 0);
    for at in 0..entries.len() {
        match shown_at_once(served, &entries[at])? {
            Some(shown) => entries[at] = shown,
            None => {
                size += entries[at].stored_length();
                foreign.push(entries[at].to_value());
                places.push(at);
            }
        }
        if size >= TOGETHER || at + 1 == entries.len() {
            size = 0;
            let converted = shown(served, std::mem::take(&mut foreign)).await?;
            for (place, object) in places.drain(..).zip(converted) {
                entries[place] = keep(served, &entries[place], object)?;
            }
        }
    }
    Ok(entries)
}

/// [`shown_entry`], unless somebody has to be asked how it is converted.
pub(crate) fn shown_at_once(served: &Served, entry: &Arc<Entry>) -> Result<Option<Arc<Entry>>, Status> {
    let Some(custom) = &served.custom else { return Ok(Some(entry.clone())) };
    match entry.form(served.form) {
        Some(Form::Stored) => return Ok(Some(entry.clone())),
        Some(Form::Entry(shown)) => return Ok(Some(shown)),
        Some(Form::Bytes(_)) | None => {}
    }
    let (mut object, to) = (entry.to_value(), served.api_version());
    custom.definition.conform(&mut object);
    if !entry.is_of(&to) {
        if !custom.converter.convert_at_once(&mut object, &to) {
            return Ok(None);
        }
        custom.version().prune(&mut object);
    }
    keep(served, entry, object).map(Some)
}

/// Keeps how `entry` is shown.
fn keep(served: &Served, entry: &Arc<Entry>, object: Value) -> Result<Arc<Entry>, Status> {
    let selectable = served.cache.as_ref().map_or(&[][..], |cache| cache.selectable());
    let shown = Entry::from_value(object, entry.revision, selectable).map_err(Status::internal)?;
    if shown.stored_json() == entry.stored_json() {
        entry.keep_form(served.form, Form::Stored, &ROOM);
        return Ok(entry.clone());
    }
    let shown = Arc::new(shown);
    shown.keep_form(served.form, Form::Stored, &ROOM);
    entry.keep_form(served.form, Form::Entry(shown.clone()), &ROOM);
    Ok(shown)
}

/// An object of a built-in `kind` as it stands in lists in protobuf, made once.
pub(crate) fn message(served: &Served, kind: &protobuf::Kind, entry: &Entry) -> Bytes {
    if let Some(Form::Bytes(message)) = entry.form(served.form) {
        return message;
    }
    let mut object = entry.to_value();
    decode::from_storage(served, &mut object);
    let message = kind.message(&object);
    entry.keep_form(served.form, Form::Bytes(message.clone()), &ROOM);
    message
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
    for (at, mut object) in others.into_iter().zip(converted) {
        if *to == served.api_version() {
            custom.version().prune(&mut object);
        }
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
