//! What must be true of a write beyond its kind's own rules: upstream's plugins, in upstream's order.
//!
//! Each plugin sees a write twice: [`Plugin::admit`] may change it, [`Plugin::validate`] may only refuse. They run
//! for every write of every resource, so none can be forgotten.

mod certificates;
mod classes;
mod conditions;
mod configuration;
mod declaredfeatures;
mod eventratelimit;
mod figures;
mod imagepolicy;
mod limitranges;
mod matching;
mod namespaces;
mod nodes;
mod nodetaints;
mod optional;
mod order;
mod owners;
mod podsecurity;
mod podtolerations;
mod policies;
mod priority;
mod quotas;
mod resizes;
mod runtimeclasses;
mod serviceaccounts;
mod signers;
mod storage;
mod tolerations;
mod topology;
mod webhooks;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::status::Status;
use parking_lot::Mutex;
use serde_json::{Value, json};
use store::BoxFuture;

use crate::authn::User;
use crate::document::Document;
use crate::registry::{Call, Served};

pub use certificates::SigningRequests;
pub use classes::{DefaultIngressClass, DefaultStorageClass};
pub(crate) use configuration::Configuration;
pub use configuration::{AdmissionError, Options};
pub use declaredfeatures::DeclaredFeatures;
pub(crate) use figures::FAMILIES;
pub(crate) use imagepolicy::ImagePolicy;
pub use limitranges::LimitRanges;
pub use namespaces::NamespaceLifecycle;
pub use nodes::NodeRestriction;
pub use nodetaints::NodeTaints;
pub(crate) use order::{Configured, Sources};
pub use podsecurity::PodSecurity;
pub(crate) use policies::{MutatingPolicies, PolicyParts, ValidatingPolicies, typechecking};
pub use priority::Priority;
pub use quotas::ResourceQuotas;
pub use resizes::{ClaimResizes, PodResizes};
pub use runtimeclasses::RuntimeClasses;
pub use serviceaccounts::ServiceAccounts;
pub use signers::{CertificateSubjects, Signers};
pub use storage::StorageInUse;
pub use tolerations::DefaultTolerations;
pub use topology::PodTopology;
pub(crate) use webhooks::{FAMILIES as WEBHOOK_FAMILIES, MutatingWebhooks, ValidatingWebhooks, WebhookParts};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Operation {
    Create,
    Update,
    Delete,
    Connect,
}

/// A kind in a version of its group.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct GroupVersionKind {
    pub group: String,
    pub version: String,
    pub kind: String,
}

/// What those who look at a write have to say beside yes and no.
#[derive(Debug, Default)]
struct Notes {
    warnings: Vec<String>,
    annotations: BTreeMap<String, String>,
}

/// A write on its way in.
pub struct Request {
    pub operation: Operation,
    pub group: String,
    /// The version that the client speaks.
    pub version: String,
    pub resource: String,
    pub subresource: String,
    pub kind: String,
    /// What the client sends: the resource's kind, or one that a subresource has of its own, such as a Scale.
    pub sent: GroupVersionKind,
    pub namespace: String,
    pub name: String,
    pub user: User,
    pub dry_run: bool,
    /// The object as it would be, in the storage version; `None` for deletions. What a subresource has a kind of its
    /// own for is in that kind.
    pub object: Option<Value>,
    /// The object as it is; `None` for creations.
    pub old: Option<Value>,
    /// The options of the verb, such as `CreateOptions`; null for connections.
    pub options: Value,
    pub(crate) reinvocation: Reinvocation,
    notes: Mutex<Notes>,
}

/// Whether the plugins are asked a second time, because one of them changed what others had already seen.
#[derive(Debug, Default)]
pub(crate) struct Reinvocation {
    /// Somebody changed the object: once more.
    pub(crate) wanted: bool,
    /// This is the second time.
    pub(crate) again: bool,
    policies: Invoked,
    webhooks: Invoked,
}

/// Those of one plugin that have seen a request, and those that are to see it again.
#[derive(Debug, Default)]
struct Invoked {
    /// Called, and willing to be called again.
    willing: BTreeSet<String>,
    again: BTreeSet<String>,
    /// The object as the last of them left it.
    left: Option<Value>,
}

impl Invoked {
    /// Something changed: whoever was asked before and is willing is asked again.
    fn change(&mut self) {
        self.again.append(&mut self.willing);
    }
}

/// One rule.
pub trait Plugin: Send + Sync {
    /// Changes or refuses a write.
    fn admit<'a>(&'a self, _request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async { Ok(()) })
    }

    /// Refuses a write.
    fn validate<'a>(&'a self, _request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(async { Ok(()) })
    }
}

/// The plugins, in order.
#[derive(Default)]
pub struct Admission {
    pub(crate) plugins: Vec<Placed>,
}

/// A plugin in its place, with upstream's name and what upstream has it do, by which it is told of. What is no plugin
/// upstream has no name.
pub(crate) struct Placed {
    name: &'static str,
    steps: Steps,
    plugin: Arc<dyn Plugin>,
    admitted: figures::OfPlugin,
    validated: figures::OfPlugin,
}

/// In which steps a plugin has something to say.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Steps {
    Admit,
    Validate,
    Both,
}

impl Placed {
    pub(crate) fn new(name: &'static str, steps: Steps, plugin: impl Plugin + 'static) -> Self {
        let (admitted, validated) = Default::default();
        Self { name, steps, plugin: Arc::new(plugin), admitted, validated }
    }

    pub(crate) fn name(&self) -> &'static str {
        self.name
    }

    /// Tells how long one step took.
    fn tell(&self, validating: bool, operation: Operation, rejected: bool, took: Duration) {
        let (series, step, other) = match validating {
            false => (&self.admitted, "admit", Steps::Validate),
            true => (&self.validated, "validate", Steps::Admit),
        };
        if !self.name.is_empty() && self.steps != other {
            series.observe(self.name, step, operation, rejected, took);
        }
    }
}

impl Request {
    pub fn new(operation: Operation, served: &Served, call: &Call, dry_run: bool) -> Self {
        let namespace = if served.row.namespaced { call.target.namespace.clone() } else { String::new() };
        Self {
            operation,
            group: served.row.group.clone(),
            version: served.version.name.clone(),
            sent: sent(served, &call.target.subresource),
            options: options(operation, call),
            reinvocation: Reinvocation::default(),
            notes: Mutex::default(),
            resource: served.row.plural.clone(),
            subresource: call.target.subresource.clone(),
            kind: served.row.kind.clone(),
            namespace,
            name: call.target.name.clone(),
            user: call.user.clone(),
            dry_run,
            object: None,
            old: None,
        }
    }

    /// True where the object is of the resource's own kind, in the storage version.
    pub(crate) fn is_own_kind(&self) -> bool {
        self.sent.kind == self.kind && self.sent.group == self.group
    }

    /// Tells the client something beside the answer.
    pub fn warn(&self, text: impl Into<String>) {
        self.notes.lock().warnings.push(text.into());
    }

    /// Adds to what the audit log says of the request.
    pub fn annotate(&self, key: impl Into<String>, value: impl Into<String>) {
        self.notes.lock().annotations.insert(key.into(), value.into());
    }

    /// Hands what was noted to the call.
    fn tell(&self, call: &mut Call) {
        let notes = std::mem::take(&mut *self.notes.lock());
        call.warnings.extend(notes.warnings);
        call.annotations.extend(notes.annotations);
    }

    /// True for a write to the object itself of this resource.
    pub fn is(&self, group: &str, resource: &str) -> bool {
        self.group == group && self.resource == resource && self.subresource.is_empty()
    }

    /// The refusal of this write. What has no name yet is told by the one that it is to be given, or by its beginning.
    pub fn forbid(&self, why: &str) -> Status {
        let subject = api::status::Subject { group: &self.group, resource: &self.resource };
        let own = self.object.as_ref().map_or(["", ""], |object| [object.name(), object.meta("generateName")]);
        let named = [self.name.as_str(), own[0], own[1]].into_iter().find(|name| !name.is_empty());
        Status::forbidden(subject, named.unwrap_or("Unknown"), why)
    }
}

impl Operation {
    /// As reviews and rules spell it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Create => "CREATE",
            Self::Update => "UPDATE",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
        }
    }
}

/// What a path takes: its resource's kind, or that of its subresource.
fn sent(served: &Served, subresource: &str) -> GroupVersionKind {
    match served.version.subresource(subresource) {
        Some(sub) => {
            GroupVersionKind { group: sub.group.clone(), version: sub.version.clone(), kind: sub.kind.clone() }
        }
        None => GroupVersionKind {
            group: served.row.group.clone(),
            version: served.version.name.clone(),
            kind: served.row.kind.clone(),
        },
    }
}

/// The options that a call states, in the kind that its operation has for them. A deletion's are in its body: whoever
/// reads that puts them in place of these.
fn options(operation: Operation, call: &Call) -> Value {
    let kind = match operation {
        Operation::Create => "CreateOptions",
        Operation::Update => "UpdateOptions",
        Operation::Delete => "DeleteOptions",
        Operation::Connect => return Value::Null,
    };
    let mut options = json!({"kind": kind, "apiVersion": "meta.k8s.io/v1"});
    if call.param("dryRun").is_some_and(|value| value == "All") {
        options["dryRun"] = json!(["All"]);
    }
    if operation != Operation::Delete {
        for field in ["fieldManager", "fieldValidation"] {
            if let Some(value) = call.param(field).filter(|value| !value.is_empty()) {
                options[field] = json!(value);
            }
        }
    }
    options
}

impl Admission {
    /// Lets every plugin change the write or refuse it; once more where one changed what others had seen.
    pub async fn admit(&self, call: &mut Call, request: &mut Request) -> Result<(), Status> {
        let begun = Instant::now();
        let outcome = self.admit_twice(request).await;
        figures::step(false, request.operation, outcome.is_err(), begun.elapsed());
        request.tell(call);
        outcome
    }

    async fn admit_twice(&self, request: &mut Request) -> Result<(), Status> {
        self.admit_once(request).await?;
        if std::mem::take(&mut request.reinvocation.wanted) {
            request.reinvocation.again = true;
            self.admit_once(request).await?;
        }
        Ok(())
    }

    async fn admit_once(&self, request: &mut Request) -> Result<(), Status> {
        let mut begun = Instant::now();
        for placed in &self.plugins {
            let outcome = placed.plugin.admit(request).await;
            let ended = Instant::now();
            placed.tell(false, request.operation, outcome.is_err(), ended - std::mem::replace(&mut begun, ended));
            outcome?;
        }
        Ok(())
    }

    /// Lets every plugin refuse the write.
    pub async fn validate(&self, call: &mut Call, request: &Request) -> Result<(), Status> {
        let begun = Instant::now();
        let outcome = self.validate_once(request).await;
        figures::step(true, request.operation, outcome.is_err(), begun.elapsed());
        request.tell(call);
        outcome
    }

    async fn validate_once(&self, request: &Request) -> Result<(), Status> {
        let mut begun = Instant::now();
        for placed in &self.plugins {
            let outcome = placed.plugin.validate(request).await;
            let ended = Instant::now();
            placed.tell(true, request.operation, outcome.is_err(), ended - std::mem::replace(&mut begun, ended));
            outcome?;
        }
        Ok(())
    }

    /// Both looks at a write that nothing is prepared for in between.
    pub async fn check(&self, call: &mut Call, request: &mut Request) -> Result<(), Status> {
        self.admit(call, request).await?;
        self.validate(call, request).await
    }
}
