//! `MutatingAdmissionPolicy`: what changes a write.

use std::sync::Arc;

use api::cel;
use api::status::{Cause, Status};
use serde_json::Value;
use store::BoxFuture;

use super::configuration::{Body, Hooks};
use super::patches::{self, Form};
use super::{Case, Misconfigured, PolicyParts, is_seen};
use crate::admission::conditions::{About, Whose};
use crate::admission::{Plugin, Request};
use crate::cache::ResourceCache;
use api::cel::expressions::{Compiler, Evaluation, Expression, Purpose};

/// The plugin.
pub(crate) struct MutatingPolicies {
    parts: PolicyParts,
    hooks: Hooks<Mutations>,
}

/// What a policy changes, in order.
pub(super) struct Mutations(Vec<Mutation>);

struct Mutation {
    form: Form,
    expression: Expression,
}

/// Why a mutation was not made.
enum Failure {
    /// What the policy's `failurePolicy` is about.
    Failed(String),
    Refused(Status),
}

impl Body for Mutations {
    fn read(spec: &Value, compiler: &Compiler) -> Self {
        let mutation = |mutation: &Value| {
            let (form, purpose, stated) = match mutation["patchType"].as_str()? {
                "ApplyConfiguration" => (Form::Apply, Purpose::ApplyConfiguration, &mutation["applyConfiguration"]),
                "JSONPatch" => (Form::JsonPatch, Purpose::JsonPatch, &mutation["jsonPatch"]),
                _ => return None,
            };
            let text = stated["expression"].as_str().unwrap_or_default();
            Some(Mutation { form, expression: compiler.compile(text, purpose) })
        };
        Self(spec["mutations"].as_array().into_iter().flatten().filter_map(mutation).collect())
    }
}

impl Mutation {
    /// The patch, as a document.
    fn patch(&self, about: &About<'_>, case: &Case<'_, Mutations>) -> Result<Value, String> {
        if let Some(why) = self.expression.flaw() {
            return Err(why.to_owned());
        }
        let mut evaluation = Evaluation::new(&case.policy.variables, about.activation(), cel::RUNTIME_BUDGET);
        let value = evaluation.evaluate(&self.expression).map_err(|why| why.into_text())?;
        patches::document(self.form, &value)
    }
}

impl Case<'_, Mutations> {
    /// Who this is among all cases of a write.
    fn key(&self) -> String {
        let of = |field: &str| {
            let params = self.params.as_ref();
            params.and_then(|params| params["metadata"][field].as_str()).unwrap_or_default().to_owned()
        };
        format!("{}/{}/{}/{}", self.policy.name, self.binding.name, of("namespace"), of("name"))
    }

    fn refusal(&self, why: &str) -> String {
        format!("policy '{}' with binding '{}' denied request: {why}", self.policy.name, self.binding.name)
    }
}

impl Misconfigured<'_, Mutations> {
    fn refusal(&self) -> String {
        let (policy, why) = (&self.policy.name, self.text());
        match self.binding {
            Some(binding) => format!("policy '{policy}' with binding '{}' denied request: {why}", binding.name),
            None => format!("policy {policy:?} denied request: {why}"),
        }
    }
}

impl MutatingPolicies {
    pub(crate) fn new(parts: PolicyParts, policies: Arc<ResourceCache>, bindings: Arc<ResourceCache>) -> Self {
        Self { parts, hooks: Hooks::new(policies, bindings) }
    }

    async fn dispatch(&self, request: &mut Request) -> Result<(), Status> {
        let hooks = self.hooks.current();
        if hooks.is_empty() || !is_seen(request) {
            return Ok(());
        }
        let (mut wrong, mut cases) = (Vec::new(), Vec::new());
        for case in self.parts.cases(&hooks, request).await {
            match case {
                Ok(case) => cases.push(case),
                Err(why) if why.policy.fails_closed => wrong.push((why.refusal(), "Forbidden")),
                Err(_) => {}
            }
        }
        if !cases.is_empty() {
            if request.reinvocation.again && request.reinvocation.policies.left != request.object {
                // Somebody else changed the object since.
                request.reinvocation.policies.change();
            }
            for case in &cases {
                for why in self.invoke(case, request).await? {
                    if case.policy.fails_closed {
                        wrong.push((case.refusal(&why), "Invalid"));
                    }
                }
            }
            request.reinvocation.policies.left.clone_from(&request.object);
        }
        refuse(wrong, request)
    }

    /// Makes the changes of one case; what is returned went wrong.
    async fn invoke(&self, case: &Case<'_, Mutations>, request: &mut Request) -> Result<Vec<String>, Status> {
        let sight = self.parts.sight(&case.invocation, request).await?;
        let operation = request.operation.name();
        // Upstream tells both kinds of policies alike.
        let whose = Whose { kind: "policy", name: &case.policy.name, step: "validate", operation };
        let matches = || {
            let unlocated = About { namespace: None, ..sight.about(case.params.as_ref()) };
            let mut conditions =
                Evaluation::new(&case.policy.variables, unlocated.activation(), cel::MATCH_CONDITIONS_BUDGET);
            case.policy.conditions.matches(&mut conditions, case.policy.fails_closed, &whose)
        };
        match sight.rights.settle(matches).await {
            Ok(true) => {}
            Ok(false) => return Ok(Vec::new()),
            Err(why) => return Ok(vec![why]),
        }
        let key = case.key();
        if request.reinvocation.again && !request.reinvocation.policies.again.contains(&key) {
            return Ok(Vec::new());
        }
        let before = request.object.clone();
        let mut wrong = Vec::new();
        for mutation in &case.policy.body.0 {
            match self.mutate(case, mutation, request).await {
                Ok(()) => {}
                Err(Failure::Failed(why)) => wrong.push(why),
                Err(Failure::Refused(status)) => return Err(status),
            }
        }
        if request.object != before {
            request.reinvocation.policies.change();
            request.reinvocation.wanted = !request.reinvocation.again;
        }
        if case.policy.reinvoke {
            request.reinvocation.policies.willing.insert(key);
        }
        Ok(wrong)
    }

    async fn mutate(
        &self,
        case: &Case<'_, Mutations>,
        mutation: &Mutation,
        request: &mut Request,
    ) -> Result<(), Failure> {
        let sight = self.parts.sight(&case.invocation, request).await.map_err(Failure::Refused)?;
        let about = sight.about(case.params.as_ref());
        let Some(object) = about.object else { return Ok(()) };
        let patch = sight.rights.settle(|| mutation.patch(&about, case)).await.map_err(Failure::Failed)?;
        let model = || {
            let kind = &case.invocation.kind;
            let served = match &case.invocation.served {
                Some(served) if served.row.kind == kind.kind => Some(served.clone()),
                _ => self.parts.catalogue.kind(&kind.group, &kind.version, &kind.kind),
            };
            served.and_then(|served| served.model().cloned()).ok_or_else(|| {
                Failure::Refused(Status::unavailable(format!(
                    "Resource kind {}/{}, Kind={} not found. There can be a delay between when \
                     CustomResourceDefinitions are created and when they are available.",
                    kind.group, kind.version, kind.kind
                )))
            })
        };
        let patched = match mutation.form {
            Form::Apply => patches::apply(&model()?, object, patch),
            Form::JsonPatch => patches::patch(object, &patch),
        };
        let patched = patched.map_err(Failure::Failed)?;
        let made = case.invocation.made(&self.parts.catalogue, request, patched).await.map_err(Failure::Refused)?;
        request.object = Some(made);
        Ok(())
    }
}

/// Refuses the write if anything is wrong, in the words of what came first.
fn refuse(wrong: Vec<(String, &'static str)>, request: &Request) -> Result<(), Status> {
    let Some((message, reason)) = wrong.first().cloned() else { return Ok(()) };
    let mut status = request.forbid("");
    (status.message, status.reason) = (message, reason.into());
    let causes = wrong.into_iter().map(|(message, _)| Cause::plain(message));
    status.details.get_or_insert_default().causes.extend(causes);
    Err(status)
}

impl Plugin for MutatingPolicies {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.dispatch(request))
    }
}
