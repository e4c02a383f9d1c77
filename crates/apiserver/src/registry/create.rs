//! `create`.

use api::resources::strategy;
use api::status::{Cause, Status};
use serde_json::{Value, json};
use store::Expect;

use super::{Call, Outcome, Registry, Served, decode, empties, options, ownership, versions};
use crate::admission::{self, Operation};
use crate::authn::User;
use crate::clock;
use crate::document::Document;

/// What generated names end in: consonants and digits that make no words.
const NAME_LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
const NAME_SUFFIX: usize = 5;
const MAX_GENERATED_PREFIX: usize = 58;
/// How often a generated name is drawn again when it is taken.
const NAME_DRAWS: usize = 8;

impl Registry {
    pub(super) async fn create(&self, served: &std::sync::Arc<Served>, call: &mut Call) -> Result<Outcome, Status> {
        options::check_write(call, "CreateOptions")?;
        let object = decode::object(served, call)?;
        self.create_object(served, call, object).await
    }

    /// Creates `object`, which is in the storage version and has its defaults.
    pub async fn create_object(&self, served: &Served, call: &mut Call, mut object: Value) -> Result<Outcome, Status> {
        let Some(cache) = &served.cache else {
            return Err(Status::method_not_supported(served.subject(), "create"));
        };
        refuse_doomed(served)?;
        let dry_run = call.dry_run()?;
        let generated = object.name().is_empty() && !object.meta("generateName").is_empty();
        let mut draws = if generated { NAME_DRAWS } else { 1 };
        loop {
            // Kept only for another draw.
            let drawn = if draws > 1 { object.clone() } else { std::mem::take(&mut object) };
            let mut object = self.prepare_create(served, call, drawn, dry_run).await?;
            let key = api::object::ObjectKey::new(object.namespace(), object.name());
            if dry_run {
                if self.fresh(cache, &key).await?.is_some() {
                    return Err(Status::already_exists(served.subject(), &key.name));
                }
                // As it would be read: a status that was taken from it has its defaults again.
                if let Some(custom) = &served.custom {
                    custom.version().conform(&mut object);
                }
                return Ok(Outcome::Object { code: 201, object });
            }
            let object = versions::stored(served, object).await?;
            match self.put(cache, &key, object, Expect::Absent).await? {
                Ok(entry) => return Ok(Outcome::Entry { code: 201, entry }),
                Err(_) if draws > 1 => draws -= 1,
                Err(_) => return Err(Status::already_exists(served.subject(), &key.name)),
            }
        }
    }

    /// Everything between decoding and storing.
    pub(super) async fn prepare_create(
        &self,
        served: &Served,
        call: &mut Call,
        mut object: Value,
        dry_run: bool,
    ) -> Result<Value, Status> {
        let row = &served.row;
        own_metadata(served, call, &mut object)?;
        let stated = !object.resource_version().is_empty();
        object.remove_meta("resourceVersion");
        ownership::record(served, call, None, &mut object);
        let mut request = admission::Request::new(Operation::Create, served, call, dry_run);
        // A new object's name is its own: the path has none, but for an apply's.
        object.name().clone_into(&mut request.name);
        request.object = Some(object);
        self.admission.admit(call, &mut request).await?;
        let mut object = request.object.take().unwrap_or_default();
        // Admission may name the object otherwise, not move it.
        own_metadata(served, call, &mut object)?;

        object.set_meta("creationTimestamp", json!(clock::now()));
        object.set_meta("uid", json!(uuid::Uuid::new_v4().to_string()));
        // A client's word on these would be a lie about the past.
        for field in ["deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
            object.remove_meta(field);
        }
        if object.name().is_empty() && !object.meta("generateName").is_empty() {
            let name = generated_name(object.meta("generateName"));
            object.set_meta("name", json!(name));
        }
        if object.name().is_empty() && row.hooks.names_itself {
            object.set_meta("name", json!(uuid::Uuid::new_v4().to_string()));
        }
        // Knows the name and the uid: a Job's selector is made of them.
        served.prepare_create(&mut object);
        if row.group == "certificates.k8s.io" && row.kind == "CertificateSigningRequest" {
            state_requester(&mut object, &call.user);
        }
        if row.group == "apiregistration.k8s.io" && row.kind == "APIService" && object["spec"]["service"].is_null() {
            // What this server serves itself is there as soon as it is said.
            object["status"] = json!({"conditions": [{
                "type": "Available", "status": "True", "reason": "Local",
                "message": "Local APIServices are always available", "lastTransitionTime": clock::now(),
            }]});
        }

        refuse_invalid(served, &object, served.validate_create(&empties::stated(served, &object, &call.empties)))?;
        (row.hooks.settle_create)(&mut object);
        call.warnings.extend((row.hooks.warnings)(&object, None));

        let mut request = admission::Request::new(Operation::Create, served, call, dry_run);
        object.name().clone_into(&mut request.name);
        request.object = Some(object);
        self.admission.validate(call, &request).await?;
        if stated {
            return Err(Status::unreasoned("resourceVersion should not be set on objects to be created"));
        }
        Ok(request.object.take().unwrap_or_default())
    }
}

/// Nothing new is made of a custom resource whose definition is on its way out.
fn refuse_doomed(served: &Served) -> Result<(), Status> {
    if served.custom.as_ref().is_none_or(|custom| !custom.definition.terminating) {
        return Ok(());
    }
    let mut status = Status::method_not_supported(served.subject(), "create");
    status.message = "create not allowed while custom resource definition is terminating".to_owned();
    Err(status)
}

/// The namespace of a new object is the path's; a revision must not be stated.
pub(super) fn own_metadata(served: &Served, call: &Call, object: &mut Value) -> Result<(), Status> {
    let requested = call.target.namespace.as_str();
    if served.row.namespaced {
        if object.namespace().is_empty() {
            object.set_meta("namespace", json!(requested));
        } else if object.namespace() != requested {
            return Err(Status::bad_request(
                "the namespace of the provided object does not match the namespace sent on the request",
            ));
        }
    } else {
        object.remove_meta("namespace");
    }
    Ok(())
}

/// A request for a certificate says who asks. Approvers and signers trust it, so a client's own word is not taken.
fn state_requester(request: &mut Value, user: &User) {
    if !request["spec"].is_object() {
        request["spec"] = json!({});
    }
    let stated = [
        ("username", json!(user.name), user.name.is_empty()),
        ("uid", json!(user.uid), user.uid.is_empty()),
        ("groups", json!(user.groups), user.groups.is_empty()),
        ("extra", json!(user.extra), user.extra.is_empty()),
    ];
    for (field, value, empty) in stated {
        strategy::remove(&mut request["spec"], field);
        if !empty {
            request["spec"][field] = value;
        }
    }
}

fn generated_name(prefix: &str) -> String {
    let mut random = [0u8; NAME_SUFFIX];
    // Without randomness names repeat, and a taken name is drawn again or refused.
    let _ = getrandom::fill(&mut random);
    let suffix = random.iter().map(|byte| NAME_LETTERS[*byte as usize % NAME_LETTERS.len()] as char);
    prefix.chars().take(MAX_GENERATED_PREFIX).chain(suffix).collect()
}

/// Refuses an object that breaks rules of its kind.
pub(super) fn refuse_invalid(served: &Served, object: &Value, causes: Vec<Cause>) -> Result<(), Status> {
    if causes.is_empty() {
        return Ok(());
    }
    Err(Status::invalid(&served.row.storage_group, &served.row.kind, object.name(), causes))
}
