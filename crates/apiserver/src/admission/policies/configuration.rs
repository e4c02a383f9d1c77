//! The policies and their bindings. A state of both is read once, so that a write costs nothing more where there are
//! none; a policy is compiled anew only when its spec changed, since most changes are to a status or to others.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use parking_lot::Mutex;
use serde_json::Value;

use super::params::{ParamKind, ParamRef};
use crate::admission::conditions::Conditions;
use crate::admission::matching::{Criteria, Rule};
use crate::cache::{Filter, ResourceCache};
use api::cel::expressions::{Compiler, Variable};

/// What a policy does, beside deciding whether it is about a write.
pub(super) trait Body: Sized {
    /// Reads and compiles the `spec` of a policy.
    fn read(spec: &Value, compiler: &Compiler) -> Self;
}

/// A policy, compiled.
pub(super) struct Policy<B> {
    pub(super) name: String,
    spec: Value,
    pub(super) fails_closed: bool,
    pub(super) reinvoke: bool,
    pub(super) criteria: Option<Criteria>,
    pub(super) param_kind: Option<ParamKind>,
    pub(super) variables: Vec<Variable>,
    pub(super) conditions: Conditions,
    pub(super) body: B,
}

pub(super) struct Binding {
    pub(super) name: String,
    policy: String,
    /// None: about everything that the policy is about.
    pub(super) criteria: Option<Criteria>,
    pub(super) param_ref: Option<ParamRef>,
    /// `validationActions`
    pub(super) actions: Vec<String>,
}

/// A policy with its bindings, of which there are some: a policy without them is not in force.
pub(super) struct Hook<B> {
    pub(super) policy: Arc<Policy<B>>,
    pub(super) bindings: Vec<Binding>,
}

/// The policies of one kind that are in force.
pub(super) struct Hooks<B> {
    policies: Arc<ResourceCache>,
    bindings: Arc<ResourceCache>,
    read: Mutex<Read<B>>,
}

struct Read<B> {
    /// Of the policies and the bindings.
    revisions: Option<(u64, u64)>,
    hooks: Arc<Vec<Hook<B>>>,
}

impl<B: Body> Hooks<B> {
    pub(super) fn new(policies: Arc<ResourceCache>, bindings: Arc<ResourceCache>) -> Self {
        Self { policies, bindings, read: Mutex::new(Read { revisions: None, hooks: Arc::default() }) }
    }

    /// In order of the policies' names.
    pub(super) fn current(&self) -> Arc<Vec<Hook<B>>> {
        let revisions = (self.policies.revision(), self.bindings.revision());
        let mut read = self.read.lock();
        if read.revisions != Some(revisions) {
            *read = self.read(&read.hooks);
        }
        read.hooks.clone()
    }

    fn read(&self, before: &[Hook<B>]) -> Read<B> {
        let policies = self.policies.list(&Filter::default());
        let bindings = self.bindings.list(&Filter::default());
        let mut bound: BTreeMap<String, Vec<Binding>> = BTreeMap::new();
        for entry in &bindings.entries {
            let binding = Binding::read(&entry.to_value());
            bound.entry(binding.policy.clone()).or_default().push(binding);
        }
        let known: HashMap<&str, &Arc<Policy<B>>> =
            before.iter().map(|hook| (hook.policy.name.as_str(), &hook.policy)).collect();
        let hook = |policy: Value| {
            let name = policy["metadata"]["name"].as_str().unwrap_or_default();
            let bindings = bound.remove(name)?;
            let kept = known.get(name).filter(|known| known.spec == policy["spec"]);
            let policy = kept.map_or_else(|| Arc::new(Policy::read(name, &policy["spec"])), |kept| Arc::clone(kept));
            Some(Hook { policy, bindings })
        };
        let hooks = policies.entries.iter().map(|entry| entry.to_value()).filter_map(hook).collect();
        Read { revisions: Some((policies.revision, bindings.revision)), hooks: Arc::new(hooks) }
    }
}

impl<B: Body> Policy<B> {
    pub(super) fn read(name: &str, spec: &Value) -> Self {
        let mut compiler = Compiler::composing(!spec["paramKind"].is_null());
        for variable in spec["variables"].as_array().into_iter().flatten() {
            let text = |field: &str| variable[field].as_str().unwrap_or_default();
            compiler.declare(text("name"), text("expression"));
        }
        Self {
            name: name.to_owned(),
            spec: spec.clone(),
            fails_closed: spec["failurePolicy"] != "Ignore",
            reinvoke: spec["reinvocationPolicy"] == "IfNeeded",
            criteria: criteria(&spec["matchConstraints"]),
            param_kind: ParamKind::read(&spec["paramKind"]),
            conditions: Conditions::compile(&compiler, &spec["matchConditions"]),
            body: B::read(spec, &compiler),
            variables: compiler.into_variables(),
        }
    }
}

impl Binding {
    fn read(binding: &Value) -> Self {
        let spec = &binding["spec"];
        let actions = spec["validationActions"].as_array().into_iter().flatten();
        Self {
            name: binding["metadata"]["name"].as_str().unwrap_or_default().to_owned(),
            policy: spec["policyName"].as_str().unwrap_or_default().to_owned(),
            criteria: criteria(&spec["matchResources"]),
            param_ref: ParamRef::read(&spec["paramRef"]),
            actions: actions.filter_map(|action| action.as_str().map(str::to_owned)).collect(),
        }
    }
}

/// What `MatchResources` say. Without rules they are about everything.
fn criteria(stated: &Value) -> Option<Criteria> {
    let rules = Rule::all_of(&stated["resourceRules"]);
    (!stated.is_null()).then(|| Criteria::read(stated, (!rules.is_empty()).then_some(rules)))
}
