//! `scale`: the number of replicas of a workload, in one shape for all of them.

use std::sync::Arc;

use api::apply::scale::{self, Replicas};
use api::custom::Scale;
use api::field_path::Path;
use api::object::Entry;
use api::resource::split_api_version;
use api::resources::hooks::Names;
use api::resources::metadata;
use api::selector::label::LabelSelector;
use api::status::{Status, Subject};
use api::validation::Errors;
use serde_json::{Value, json};

use crate::admission::{self, Operation};
use crate::document::Document;
use crate::registry::posted::{self, SCALE};
use crate::registry::{Call, Decision, Modified, Modify, Outcome, Patch, Registry, Served, places, versions};
use crate::server::ApiServer;

/// What custom resources that ask for no replicas show to who writes their scale: it has to say how many.
const UNSTATED: i64 = i32::MIN as i64;

/// Reads or writes the scale of the object that the path names.
pub(super) async fn handle(server: &ApiServer, served: &Arc<Served>, call: &mut Call) -> Result<Outcome, Status> {
    let registry = &server.registry;
    let cache = served.cache.as_ref().ok_or_else(Status::path_not_found)?;
    let key = call.key(served.row.namespaced);
    let place = Place::of(served);
    if call.verb == "get" {
        registry.caches.reach_current().await;
        let found = cache.get(&key).ok_or_else(|| Status::not_found(served.subject(), &key.name))?;
        let object = versions::working(served, &found).await?;
        place.check(&object)?;
        return Ok(Outcome::Document { code: 200, document: scale_of(place, &object)? });
    }
    let wanted = match call.verb {
        "update" => Wanted::Scale(posted::read_update(&SCALE, served, call)?),
        _ => Wanted::Patch(Patch::read(served, call)?),
    };
    let dry_run = call.dry_run()?;
    let mut rescale = Rescale { registry, served, call, place, wanted, dry_run };
    let entry = match registry.write(served, &key, dry_run, &mut rescale).await? {
        Modified::Created(entry) | Modified::Updated(entry) | Modified::Deleted(entry) | Modified::Unchanged(entry) => {
            entry
        }
    };
    Ok(Outcome::Document { code: 200, document: scale_of(place, &versions::working(served, &entry).await?)? })
}

/// A write to a scale: object, its scale, the new scale, the new object (upstream's `scaleUpdatedObjectInfo`).
struct Rescale<'a> {
    registry: &'a Registry,
    served: &'a Served,
    call: &'a mut Call,
    place: Place<'a>,
    wanted: Wanted,
    dry_run: bool,
}

enum Wanted {
    Scale(Value),
    Patch(Patch),
}

impl Modify for Rescale<'_> {
    async fn decide(&mut self, live: Option<&Arc<Entry>>) -> Result<Decision, Status> {
        let Some(live) = live else {
            return Err(Status::not_found(self.served.subject(), &self.call.target.name));
        };
        self.check_uid(live)?;
        let old = versions::working(self.served, live).await?;
        let mut old_scale = scale_of(self.place, &old)?;
        if self.place.asks_for_none(&old)? {
            old_scale["spec"]["replicas"] = json!(UNSTATED);
        }
        let owners = scale::managers_of_scale(managers(&old), |version| self.place.in_version(self.served, version))
            .map_err(|why| Status::unreasoned(why.to_string()))?;
        set_managers(&mut old_scale, owners);

        let new_scale = match &self.wanted {
            Wanted::Scale(scale) => posted::owned(&SCALE, self.call, &old_scale, scale.clone()),
            Wanted::Patch(patch) => posted::patched(&SCALE, self.served, self.call, patch, &old_scale)?,
        };
        let mut asked = admission::Request::new(Operation::Update, self.served, self.call, self.dry_run);
        (asked.object, asked.old) = (Some(new_scale), Some(old_scale));
        self.registry.admission.admit(self.call, &mut asked).await?;
        let new_scale = asked.object.take().unwrap_or_default();
        let mut new = self.scaled(old.clone(), &new_scale, live)?;
        let owners =
            scale::managers_of_scaled(managers(&old), managers(&new_scale), &self.served.api_version(), |version| {
                self.place.in_version(self.served, version)
            })
            .map_err(|why| Status::unreasoned(why.to_string()))?;
        set_managers(&mut new, owners);

        let before = scale_of(self.place, &old)?;
        let decision = self.prepare(new, old, live).await?;
        let after = match &decision {
            Decision::Put(object) | Decision::Finish(object) => scale_of(self.place, object)?,
            Decision::Keep | Decision::Delete => before.clone(),
        };
        (asked.object, asked.old) = (Some(after), Some(before));
        self.registry.admission.validate(self.call, &asked).await?;
        Ok(decision)
    }

    fn is_bound_to_revision(&self) -> bool {
        match &self.wanted {
            Wanted::Scale(scale) => !scale.resource_version().is_empty(),
            Wanted::Patch(patch) => patch.is_bound_to_revision(),
        }
    }
}

impl Rescale<'_> {
    /// A scale that is put says of which object it is. (That of a patch is looked at once there is one.)
    fn check_uid(&self, live: &Entry) -> Result<(), Status> {
        match &self.wanted {
            Wanted::Scale(scale) if !scale.uid().is_empty() && scale.uid() != live.uid => {
                let failed = ("UID", scale.uid(), live.uid.as_str());
                Err(places::precondition_failed(self.served, live, self.dry_run, failed))
            }
            _ => Ok(()),
        }
    }

    /// `object` with the replicas of `scale`, which has to be a valid one, and one of this object.
    fn scaled(&self, mut object: Value, scale: &Value, live: &Entry) -> Result<Value, Status> {
        let (name, uid) = (&self.call.target.name, scale.uid());
        let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
        match self.place {
            Place::Workload => {
                validate(scale).into_result("autoscaling", "Scale", name)?;
                if !uid.is_empty() && uid != live.uid {
                    let resource = format!("{}/scale", self.served.row.plural);
                    let subject = Subject { group: &self.served.row.group, resource: &resource };
                    let why =
                        format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {}", live.uid);
                    return Err(Status::conflict(subject, name, &why));
                }
            }
            Place::Custom(place) if replicas == UNSTATED => {
                let why = format!("the spec replicas field {:?} cannot be empty", place.spec_replicas);
                return Err(Status::bad_request(why));
            }
            Place::Custom(_) => {}
        }
        self.place.set(&mut object, replicas)?;
        match scale.resource_version() {
            "" => {
                object.remove_meta("resourceVersion");
            }
            stated => object.set_meta("resourceVersion", json!(stated)),
        }
        Ok(object)
    }

    /// The rules of the object's kind hold, whatever path its replicas came by. What is stored is the object, but what
    /// was written and admitted is its scale.
    async fn prepare(&mut self, new: Value, old: Value, live: &Entry) -> Result<Decision, Status> {
        let subresource = std::mem::take(&mut self.call.target.subresource);
        (self.call.admitted, self.call.owned) = (true, true);
        let decision = self.registry.prepare_update(self.served, self.call, new, old, live, self.dry_run).await;
        (self.call.admitted, self.call.owned) = (false, false);
        self.call.target.subresource = subresource;
        decision
    }
}

/// What is wrong with the scale of a workload.
fn validate(scale: &Value) -> Errors {
    let mut errors = Errors::new();
    metadata::validate(&mut errors, &scale["metadata"], true, Names::Subdomain);
    let replicas = scale["spec"]["replicas"].as_i64().unwrap_or(0);
    if replicas < 0 {
        let path = Path::root("spec");
        errors.invalid(&path.child("replicas"), replicas, "must be greater than or equal to 0");
    }
    errors
}

fn managers(object: &Value) -> Option<&Value> {
    object["metadata"].get("managedFields")
}

fn set_managers(object: &mut Value, entries: Option<Value>) {
    match entries {
        Some(entries) => object.set_meta("managedFields", entries),
        None => {
            object.remove_meta("managedFields");
        }
    }
}

/// Where an object's replicas stand: in workloads all at one place, in custom resources where their definition says.
#[derive(Clone, Copy)]
enum Place<'s> {
    Workload,
    Custom(&'s Scale),
}

impl<'s> Place<'s> {
    fn of(served: &'s Served) -> Self {
        let custom = served.custom.as_ref().and_then(|custom| custom.version().scale.as_ref());
        custom.map_or(Self::Workload, Self::Custom)
    }

    /// A custom resource that asks for no replicas has no scale to read.
    fn check(self, object: &Value) -> Result<(), Status> {
        let Self::Custom(scale) = self else { return Ok(()) };
        match scale.replicas(object).map_err(Status::unreasoned)? {
            Some(_) => Ok(()),
            None => Err(Status::internal(format!("the spec replicas field {:?} does not exist", scale.spec_replicas))),
        }
    }

    /// Whether an object does not say how many replicas it asks for. Workloads have a default.
    fn asks_for_none(self, object: &Value) -> Result<bool, Status> {
        match self {
            Self::Workload => Ok(false),
            Self::Custom(scale) => {
                scale.replicas(object).map(|replicas| replicas.is_none()).map_err(Status::unreasoned)
            }
        }
    }

    /// Where the replicas stand in a version of the object.
    fn in_version(self, served: &Served, api_version: &str) -> Replicas {
        let (group, version) = split_api_version(api_version);
        if group != served.row.group {
            return Replicas::UnknownVersion;
        }
        let Some(custom) = &served.custom else { return Replicas::at("spec.replicas") };
        match custom.definition.versions.iter().find(|known| known.name == version).map(|known| &known.scale) {
            Some(Some(scale)) => Replicas::at(&scale.spec_replicas),
            Some(None) => Replicas::Nowhere,
            None => Replicas::UnknownVersion,
        }
    }

    fn set(self, object: &mut Value, replicas: i64) -> Result<(), Status> {
        match self {
            Self::Workload => object["spec"]["replicas"] = serde_json::json!(replicas),
            Self::Custom(scale) => scale.set_replicas(object, replicas).map_err(Status::unreasoned)?,
        }
        Ok(())
    }

    /// The replicas asked for, those reported, and the selector of what is scaled.
    fn read(self, object: &Value) -> Result<(i64, i64, String), String> {
        match self {
            Self::Workload => Ok((
                object["spec"]["replicas"].as_i64().unwrap_or(0),
                object["status"]["replicas"].as_i64().unwrap_or(0),
                workload_selector(object),
            )),
            Self::Custom(scale) => {
                Ok((scale.replicas(object)?.unwrap_or(0), scale.status(object)?, scale.selector(object)?))
            }
        }
    }
}

fn workload_selector(object: &Value) -> String {
    match object["spec"]["selector"].as_object() {
        // A ReplicationController selects by plain labels.
        Some(labels) if labels.values().all(Value::is_string) => {
            let labels = labels.iter().map(|(key, value)| (key.clone(), value.as_str().unwrap_or_default().to_owned()));
            LabelSelector::from_labels(&labels.collect()).to_string()
        }
        _ => LabelSelector::from_json(object["spec"].get("selector"))
            .map(|selector| selector.to_string())
            .unwrap_or_default(),
    }
}

fn scale_of(place: Place<'_>, object: &Value) -> Result<Value, Status> {
    let (replicas, reported, selector) = place.read(object).map_err(Status::unreasoned)?;
    let mut metadata = serde_json::json!({});
    for field in ["name", "namespace", "uid", "resourceVersion", "creationTimestamp"] {
        if object.has_meta(field) {
            metadata[field] = object["metadata"][field].clone();
        }
    }
    let mut spec = serde_json::json!({});
    if replicas != 0 {
        spec["replicas"] = serde_json::json!(replicas);
    }
    let mut status = serde_json::json!({"replicas": reported});
    if !selector.is_empty() {
        status["selector"] = serde_json::json!(selector);
    }
    Ok(serde_json::json!({
        "kind": "Scale", "apiVersion": "autoscaling/v1", "metadata": metadata, "spec": spec, "status": status,
    }))
}
