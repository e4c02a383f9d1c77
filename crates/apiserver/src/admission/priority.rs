//! `Priority`: the class of a Pod becomes a number and a preemption policy.

use std::sync::Arc;

use api::object::ObjectKey;
use api::status::Status;
use serde_json::{Value, json};
use store::BoxFuture;

use super::{Operation, Plugin, Request};
use crate::cache::{Filter, ResourceCache};

pub struct Priority {
    pub classes: Arc<ResourceCache>,
}

impl Plugin for Priority {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async { self.fill(request) })
    }
}

impl Priority {
    fn fill(&self, request: &mut Request) -> Result<(), Status> {
        if !request.is("", "pods") || request.operation != Operation::Create {
            return Ok(());
        }
        let named =
            request.object.as_ref().and_then(|pod| pod["spec"]["priorityClassName"].as_str()).unwrap_or_default();
        let class = match named {
            "" => self.default_class(),
            name => {
                let found = self.classes.get(&ObjectKey::new("", name)).map(|entry| entry.to_value());
                let why = format!("no PriorityClass with name {name} was found");
                Some(found.ok_or_else(|| request.forbid(&why))?)
            }
        };
        let value = class.as_ref().and_then(|class| class["value"].as_i64()).unwrap_or(0);
        let policy =
            class.as_ref().and_then(|class| class["preemptionPolicy"].as_str()).unwrap_or("PreemptLowerPriority");
        let stated = request.object.as_ref().and_then(|pod| pod["spec"]["priority"].as_i64());
        if let Some(stated) = stated.filter(|stated| *stated != value) {
            return Err(request.forbid(&format!(
                "the integer value of priority ({stated}) must not be provided in pod spec; priority admission \
                 controller computed {value} from the given PriorityClass name"
            )));
        }
        if let Some(pod) = &mut request.object {
            if let (Some(class), "") = (&class, pod["spec"]["priorityClassName"].as_str().unwrap_or_default()) {
                pod["spec"]["priorityClassName"] = class["metadata"]["name"].clone();
            }
            pod["spec"]["priority"] = json!(value);
            pod["spec"]["preemptionPolicy"] = json!(policy);
        }
        Ok(())
    }

    /// The class for Pods that name none: of those marked so, the lowest.
    fn default_class(&self) -> Option<Value> {
        let classes = self.classes.list(&Filter::default()).entries;
        let marked = classes.iter().filter(|class| class.member("globalDefault") == Some(b"true"));
        marked.map(|class| class.to_value()).min_by_key(|class| class["value"].as_i64())
    }
}
