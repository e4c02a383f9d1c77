//! Admission policies: rules of the cluster as expressions, evaluated here
//! (upstream: `k8s.io/apiserver/pkg/admission/plugin/policy`; KEP-3488, KEP-3962).
//!
//! ```text
//! configuration  the policies and their bindings, compiled once for each state of a policy
//! params         the objects that a binding hands to its policy
//! validating     what refuses a write
//! mutating       what changes one
//! patches        what a mutation makes of an object
//! typechecking   what the status of a validating policy says of its expressions
//! ```
//!
//! A policy is evaluated once for each of its bindings that is about the write, and for each parameter of those.

mod configuration;
mod mutating;
mod params;
mod patches;
pub(crate) mod typechecking;
mod validating;

use std::sync::Arc;

use api::object::ObjectKey;
use api::status::{Status, Subject};
use serde_json::Value;

use super::Request;
use super::conditions::{About, Rights};
use super::matching::{Invocation, is_exempt};
use crate::authz::Authorizer;
use crate::cache::ResourceCache;
use crate::registry::Catalogue;
use configuration::{Binding, Hook, Policy};

pub(crate) use mutating::MutatingPolicies;
pub(crate) use validating::ValidatingPolicies;

/// Reviews, which no policy sees: a cluster whose reviews are refused has no way back.
const REVIEWS: [(&str, &str); 6] = [
    ("authentication.k8s.io", "selfsubjectreviews"),
    ("authentication.k8s.io", "tokenreviews"),
    ("authorization.k8s.io", "localsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectaccessreviews"),
    ("authorization.k8s.io", "selfsubjectrulesreviews"),
    ("authorization.k8s.io", "subjectaccessreviews"),
];

/// What both kinds of policies work with.
#[derive(Clone)]
pub(crate) struct PolicyParts {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) namespaces: Arc<ResourceCache>,
    pub(crate) authorizer: Arc<Authorizer>,
}

/// One evaluation of a policy.
struct Case<'h, B> {
    policy: &'h Policy<B>,
    binding: &'h Binding,
    invocation: Invocation,
    params: Option<Value>,
}

/// What keeps a policy, or one binding of it, from being evaluated.
struct Misconfigured<'h, B> {
    policy: &'h Policy<B>,
    binding: Option<&'h Binding>,
    why: String,
}

/// What the expressions of one case see, beside its parameters.
struct Sight {
    object: Option<Value>,
    old: Option<Value>,
    request: Value,
    namespace: Option<Value>,
    rights: Rights,
}

type Cases<'h, B> = Vec<Result<Case<'h, B>, Misconfigured<'h, B>>>;

impl PolicyParts {
    /// The evaluations that a write calls for.
    async fn cases<'h, B>(&self, hooks: &'h [Hook<B>], request: &Request) -> Cases<'h, B> {
        let mut cases = Vec::new();
        for hook in hooks {
            let policy = &*hook.policy;
            match self.about(policy, request) {
                Ok(Some(invocation)) => self.bound(hook, &invocation, request, &mut cases).await,
                Ok(None) => {}
                Err(why) => cases.push(Err(Misconfigured { policy, binding: None, why })),
            }
        }
        cases
    }

    /// As what a policy sees a write, if it is about it.
    fn about<B>(&self, policy: &Policy<B>, request: &Request) -> Result<Option<Invocation>, String> {
        let criteria = policy.criteria.as_ref().ok_or("policy contained no match constraints, a required field")?;
        let found = criteria.find(request, &self.catalogue, &self.namespaces).map_err(|why| why.message)?;
        if let (Some(_), Some(kind)) = (&found, &policy.param_kind) {
            params::find(kind, &self.catalogue)?;
        }
        Ok(found)
    }

    /// Adds the evaluations of a policy that is about the write.
    async fn bound<'h, B>(
        &self,
        hook: &'h Hook<B>,
        invocation: &Invocation,
        request: &Request,
        cases: &mut Cases<'h, B>,
    ) {
        let policy = &*hook.policy;
        for binding in &hook.bindings {
            let wrong = |why| Misconfigured { policy, binding: Some(binding), why };
            let found = match &binding.criteria {
                Some(criteria) => criteria.find(request, &self.catalogue, &self.namespaces).map(|it| it.is_some()),
                None => Ok(true),
            };
            match found {
                Ok(true) => {}
                Ok(false) => continue,
                Err(why) => {
                    cases.push(Err(wrong(why.message)));
                    continue;
                }
            }
            let kind = policy.param_kind.as_ref();
            let namespace = super::matching::Target::of(request).namespace;
            match params::collect(kind, binding.param_ref.as_ref(), namespace, &self.catalogue).await {
                Ok(all) => cases.extend(
                    all.into_iter().map(|params| Ok(Case { policy, binding, invocation: invocation.clone(), params })),
                ),
                Err(why) => cases.push(Err(wrong(why))),
            }
        }
    }

    /// What a write looks like as `invocation`.
    async fn sight(&self, invocation: &Invocation, request: &Request) -> Result<Sight, Status> {
        let (object, old) = invocation.both_seen(request).await?;
        Ok(Sight {
            object,
            old,
            request: invocation.review(request),
            namespace: self.namespace(request)?,
            rights: Rights::new(self.authorizer.clone(), request.user.clone()),
        })
    }

    /// The Namespace that a write is in; a Namespace is in none.
    fn namespace(&self, request: &Request) -> Result<Option<Value>, Status> {
        let is_namespace = request.sent.kind == "Namespace" && request.sent.group.is_empty();
        if request.namespace.is_empty() || is_namespace {
            return Ok(None);
        }
        let known = self.namespaces.get(&ObjectKey::new("", &request.namespace));
        let subject = Subject { group: "", resource: "namespaces" };
        known.map(|entry| Some(entry.to_value())).ok_or_else(|| Status::not_found(subject, &request.namespace))
    }
}

impl Sight {
    /// What a policy's expressions are about. Its match conditions know nothing of the Namespace.
    fn about<'a>(&'a self, params: Option<&'a Value>) -> About<'a> {
        About {
            object: self.object.as_ref(),
            old: self.old.as_ref(),
            request: &self.request,
            namespace: self.namespace.as_ref(),
            params,
            rights: &self.rights,
        }
    }
}

impl<B> Misconfigured<'_, B> {
    fn text(&self) -> String {
        let what = if self.binding.is_some() { "binding" } else { "policy" };
        format!("failed to configure {what}: {}", self.why)
    }
}

fn is_seen(request: &Request) -> bool {
    !is_exempt(request) && !REVIEWS.contains(&(request.group.as_str(), request.resource.as_str()))
}
