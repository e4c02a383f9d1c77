//! `Priority`: the class of a Pod becomes a number and a preemption policy; of classes one is the default.

use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use api::status::Status;
use serde_json::{Value, json};
use store::BoxFuture;

use super::{Operation, Plugin, Request};
use crate::cache::{Caches, Filter, ResourceCache};
use crate::document::Document;

pub struct Priority {
    pub caches: Arc<Caches>,
    pub classes: Arc<ResourceCache>,
}

impl Plugin for Priority {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async {
            match request.operation {
                Operation::Create if request.is("", "pods") => self.fill(request).await,
                Operation::Update if request.is("", "pods") => {
                    keep(request);
                    Ok(())
                }
                _ => Ok(()),
            }
        })
    }

    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async {
            let writes = matches!(request.operation, Operation::Create | Operation::Update);
            match &request.object {
                Some(class) if writes && request.is("scheduling.k8s.io", "priorityclasses") => {
                    self.only_default(request, class).await
                }
                _ => Ok(()),
            }
        })
    }
}

/// Who writes a Pod without what this plugin gave it means to leave that as it is.
fn keep(request: &mut Request) {
    let (Some(pod), Some(old)) = (&mut request.object, &request.old) else { return };
    for field in ["priority", "preemptionPolicy"] {
        if pod["spec"][field].is_null() && !old["spec"][field].is_null() {
            pod["spec"][field] = old["spec"][field].clone();
        }
    }
}

impl Priority {
    async fn fill(&self, request: &mut Request) -> Result<(), Status> {
        let spec = request.object.as_ref().map_or(&Value::Null, |pod| &pod["spec"]);
        let class = match spec["priorityClassName"].as_str().unwrap_or_default() {
            "" => self.default_class().map(|class| class.to_value()),
            name => match self.class(name).await {
                Some(class) => Some(class.to_value()),
                None => return Err(request.forbid(&format!("no PriorityClass with name {name} was found"))),
            },
        };
        let value = class.as_ref().and_then(|class| class["value"].as_i64()).unwrap_or(0);
        let policy =
            class.as_ref().and_then(|class| class["preemptionPolicy"].as_str()).unwrap_or("PreemptLowerPriority");
        if let Some(stated) = spec["priority"].as_i64().filter(|stated| *stated != value) {
            return Err(request.forbid(&format!(
                "the integer value of priority ({stated}) must not be provided in pod spec; priority admission \
                 controller computed {value} from the given PriorityClass name"
            )));
        }
        if let Some(stated) = spec["preemptionPolicy"].as_str().filter(|stated| *stated != policy) {
            return Err(request.forbid(&format!(
                "the string value of PreemptionPolicy ({stated}) must not be provided in pod spec; priority admission \
                 controller computed {policy} from the given PriorityClass name"
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

    /// There is no second class for Pods that name none.
    async fn only_default(&self, request: &Request, class: &Value) -> Result<(), Status> {
        if class["globalDefault"] != true {
            return Ok(());
        }
        // The one before may have been marked a moment ago.
        self.caches.reach_current().await;
        match self.default_class() {
            Some(known) if request.operation == Operation::Create || known.key.name != class.name() => {
                let name = &known.key.name;
                let why = format!("PriorityClass {name} is already marked as default. Only one default can exist");
                Err(request.forbid(&why))
            }
            _ => Ok(()),
        }
    }

    async fn class(&self, name: &str) -> Option<Arc<Entry>> {
        let key = ObjectKey::new("", name);
        if let Some(class) = self.classes.get(&key) {
            return Some(class);
        }
        self.caches.reach_current().await;
        self.classes.get(&key)
    }

    /// The class for Pods that name none: of those marked so, the lowest.
    fn default_class(&self) -> Option<Arc<Entry>> {
        let classes = self.classes.list(&Filter::default()).entries;
        let marked = classes.into_iter().filter(|class| class.member("globalDefault").as_deref() == Some(b"true"));
        marked.min_by_key(|class| class.to_value()["value"].as_i64())
    }
}
