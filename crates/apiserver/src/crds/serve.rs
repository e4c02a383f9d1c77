//! The catalogue's part that definitions make.

use std::collections::HashMap;
use std::sync::Arc;

use api::custom::{Definition, has_condition};
use api::forms::FormName;
use parking_lot::Mutex;
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use super::convert::Webhook;
use crate::document::Document;
use crate::openapi::{Published, digest};
use crate::registry::versions::{Converter, Relabel};
use crate::registry::{Custom, Served};
use crate::server::ApiServer;

/// What is served of each definition, by its name.
#[derive(Default)]
pub(super) struct Catalog {
    served: Mutex<HashMap<String, Kept>>,
}

struct Kept {
    group: String,
    plural: String,
    /// What decides how objects are served: another state of it ends watches.
    uid: String,
    /// Of the `spec` and the accepted names.
    digest: [u8; 32],
    terminating: bool,
    retired: CancellationToken,
}

impl Kept {
    fn of(definition: &Value) -> Self {
        let (spec, names) = (&definition["spec"], &definition["status"]["acceptedNames"]);
        let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
        Self {
            group: text(&spec["group"]),
            plural: text(&names["plural"]),
            uid: definition.uid().to_owned(),
            digest: digest(format!("{spec} {names}").as_bytes()),
            terminating: has_condition(definition, "Terminating"),
            retired: CancellationToken::new(),
        }
    }

    /// True when objects are served in the same way.
    fn is_like(&self, other: &Self) -> bool {
        self.uid == other.uid && self.digest == other.digest
    }
}

impl Catalog {
    /// Serves what a definition says now.
    pub(super) async fn serve(&self, server: &ApiServer, definition: &Value) -> Result<(), store::Error> {
        let mut next = Kept::of(definition);
        let replaced = {
            let served = self.served.lock();
            let known = served.get(definition.name());
            if known.is_some_and(|known| known.is_like(&next) && known.terminating == next.terminating) {
                return Ok(());
            }
            match known {
                // On its way out it serves as it did: watches are to see the last of it.
                Some(known) if known.is_like(&next) => {
                    next.retired = known.retired.clone();
                    None
                }
                known => known.map(|known| (known.retired.clone(), known.uid != next.uid)),
            }
        };
        if let Some((_, true)) = replaced {
            server.registry.caches.remove(&next.group, &next.plural);
        }
        let versions = versions(server, definition, &next.retired).await?;
        match versions.is_empty() {
            true => server.registry.catalogue.remove(&next.group, &next.plural),
            false => server.registry.catalogue.add(versions),
        }
        self.served.lock().insert(definition.name().to_owned(), next);
        if let Some((retired, _)) = replaced {
            retired.cancel();
        }
        Ok(())
    }

    /// Stops serving what a definition said that is no more.
    pub(super) fn forget(&self, server: &ApiServer, name: &str) {
        let Some(known) = self.served.lock().remove(name) else { return };
        server.registry.catalogue.remove(&known.group, &known.plural);
        server.registry.caches.remove(&known.group, &known.plural);
        known.retired.cancel();
    }
}

/// The versions that a definition serves.
async fn versions(
    server: &ApiServer,
    definition: &Value,
    retired: &CancellationToken,
) -> Result<Vec<Served>, store::Error> {
    let read = Arc::new(Definition::read(definition));
    let row = Arc::new(read.row.clone());
    let cache = server.registry.caches.add(&row.group, &row.plural, row.selectable.clone()).await?;
    let versions = row.versions.iter().enumerate().map(|(at, version)| Served {
        row: row.clone(),
        version: version.clone(),
        built_in: None,
        cache: Some(cache.clone()),
        form: FormName::mint(),
        custom: Some(Custom {
            definition: read.clone(),
            at,
            converter: converter(server, &read),
            published: Arc::new(Published::new(&read, at)),
            retired: retired.clone(),
        }),
    });
    Ok(versions.collect())
}

/// A definition's instances as they are stored, in a version that clients may not be served: who works on them so needs
/// nobody to convert them.
pub(super) async fn stored(server: &ApiServer, definition: &Value) -> Result<Option<Served>, store::Error> {
    let mut definition = definition.clone();
    for version in definition["spec"]["versions"].as_array_mut().into_iter().flatten() {
        version["served"] = version["storage"].clone();
    }
    Ok(versions(server, &definition, &CancellationToken::new()).await?.pop())
}

fn converter(server: &ApiServer, definition: &Definition) -> Arc<dyn Converter> {
    match &definition.webhook {
        None => Arc::new(Relabel),
        Some(conversion) => Arc::new(Webhook::read(&conversion["webhook"], server.outbound.clone())),
    }
}
