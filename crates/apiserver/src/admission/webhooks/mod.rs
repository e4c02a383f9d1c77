//! Admission webhooks: rules that somebody in the cluster, or outside of it, decides
//! (upstream: `k8s.io/apiserver/pkg/admission/plugin/webhook`).
//!
//! ```text
//! configuration  the webhooks that are configured, read once for each state of the configurations
//! review         what a webhook is asked, and what its answer must be
//! metrics        figures of calls
//! ```
//!
//! Mutating webhooks are asked one after the other, each seeing what those before it made; validating ones side by side.

mod configuration;
mod metrics;
mod review;

use std::sync::Arc;
use std::time::Instant;

use api::cel;
use api::object::ObjectKey;
use api::patch::json as json_patch;
use api::status::Status;
use bytes::Bytes;
use futures::future::join_all;
use serde_json::json;
use store::BoxFuture;
use tracing::warn;

use super::conditions::{About, Rights, Whose};
use super::matching::{Invocation, is_exempt};
use super::{Plugin, Request};
use crate::authz::Authorizer;
use crate::cache::ResourceCache;
use crate::outbound::Outbound;
use crate::registry::Catalogue;
use api::cel::expressions::Evaluation;
use configuration::{Configurations, Webhook};
use review::Verdict;

pub(crate) use metrics::FAMILIES;

/// What both kinds of webhooks work with.
#[derive(Clone)]
pub(crate) struct WebhookParts {
    pub(crate) catalogue: Arc<Catalogue>,
    pub(crate) namespaces: Arc<ResourceCache>,
    pub(crate) outbound: Arc<Outbound>,
    pub(crate) authorizer: Arc<Authorizer>,
}

/// `MutatingAdmissionWebhook`.
pub(crate) struct MutatingWebhooks {
    parts: WebhookParts,
    configurations: Configurations,
}

/// `ValidatingAdmissionWebhook`.
pub(crate) struct ValidatingWebhooks {
    parts: WebhookParts,
    configurations: Configurations,
}

/// Why a webhook did not let a write pass.
enum Failure {
    /// There was no answer to speak of; the code is for metrics.
    Call { why: String, code: u16 },
    /// The webhook said no.
    Denied(Status),
    /// The webhook may not be asked, or answered what it may not.
    Refused(Status),
}

impl MutatingWebhooks {
    pub(crate) fn new(parts: WebhookParts, configurations: Arc<ResourceCache>) -> Self {
        Self { parts, configurations: Configurations::new(configurations) }
    }

    async fn dispatch(&self, request: &mut Request) -> Result<(), Status> {
        let webhooks = self.configurations.current();
        if webhooks.is_empty() || is_exempt(request) {
            return Ok(());
        }
        if request.reinvocation.again && request.reinvocation.webhooks.left != request.object {
            // Plugins of the server itself changed the object since.
            request.reinvocation.webhooks.change();
        }
        for (index, webhook) in webhooks.iter().enumerate() {
            let Some(invocation) = self.parts.invocation(webhook, request, "admit").await? else { continue };
            if request.reinvocation.again && !request.reinvocation.webhooks.again.contains(&webhook.uid) {
                continue;
            }
            self.ask(webhook, index, &invocation, request).await?;
        }
        request.reinvocation.webhooks.left.clone_from(&request.object);
        Ok(())
    }

    async fn ask(
        &self,
        webhook: &Webhook,
        index: usize,
        invocation: &Invocation,
        request: &mut Request,
    ) -> Result<(), Status> {
        let begun = Instant::now();
        let outcome = self.mutate(webhook, invocation, request).await;
        crate::metrics::elsewhere(begun.elapsed());
        metrics::observe(webhook, "admit", request.operation, begun.elapsed(), outcome.as_ref().err());
        let place = format!("round_{}_index_{index}", u8::from(request.reinvocation.again));
        let changed = matches!(outcome, Ok(true));
        let said = json!({"configuration": webhook.configuration, "webhook": webhook.name, "mutated": changed});
        request.annotate(format!("mutation.webhook.admission.k8s.io/{place}"), said.to_string());
        if changed {
            request.reinvocation.webhooks.change();
            request.reinvocation.wanted = !request.reinvocation.again;
        }
        if webhook.reinvoke {
            request.reinvocation.webhooks.willing.insert(webhook.uid.clone());
        }
        match outcome {
            Ok(_) => Ok(()),
            Err(failure) => {
                let open = format!("failed-open.mutation.webhook.admission.k8s.io/{place}");
                judge(webhook, "admit", failure, request, &open)
            }
        }
    }

    /// True if the webhook changed the object.
    async fn mutate(&self, webhook: &Webhook, invocation: &Invocation, request: &mut Request) -> Result<bool, Failure> {
        let verdict = self.parts.call(webhook, invocation, request, true).await?;
        let Some(patch) = verdict.patch.filter(|patch| patch.as_array().is_none_or(|list| !list.is_empty())) else {
            return Ok(false);
        };
        let Some(object) = &request.object else {
            return Err(Failure::Refused(Status::internal(format!(
                "admission webhook {:?} attempted to modify the object, which is not supported for this operation",
                webhook.name
            ))));
        };
        let refuse = |why: String| Failure::Refused(Status::internal(why));
        let seen = invocation.seen(request, object).await.map_err(Failure::Refused)?;
        let patched = json_patch::apply(seen, &patch).map_err(|why| refuse(why.to_string()))?;
        let made = invocation.made(&self.parts.catalogue, request, patched).await.map_err(Failure::Refused)?;
        let changed = *object != made;
        request.object = Some(made);
        Ok(changed)
    }
}

impl ValidatingWebhooks {
    pub(crate) fn new(parts: WebhookParts, configurations: Arc<ResourceCache>) -> Self {
        Self { parts, configurations: Configurations::new(configurations) }
    }

    async fn dispatch(&self, request: &Request) -> Result<(), Status> {
        let webhooks = self.configurations.current();
        if webhooks.is_empty() || is_exempt(request) {
            return Ok(());
        }
        let mut wanted = Vec::new();
        for webhook in webhooks.iter() {
            if let Some(invocation) = self.parts.invocation(webhook, request, "validating").await? {
                wanted.push((webhook, invocation));
            }
        }
        let asked = wanted.iter().enumerate().map(|(index, (webhook, invocation))| async move {
            let begun = Instant::now();
            let outcome = self.parts.call(webhook, invocation, request, false).await;
            metrics::observe(webhook, "validating", request.operation, begun.elapsed(), outcome.as_ref().err());
            let open = format!("failed-open.validating.webhook.admission.k8s.io/round_0_index_{index}");
            outcome.map(drop).or_else(|failure| judge(webhook, "validating", failure, request, &open))
        });
        // All are heard out, as upstream's are: what each has to say counts, whoever refuses.
        let begun = Instant::now();
        let heard = join_all(asked).await;
        crate::metrics::elsewhere(begun.elapsed());
        heard.into_iter().collect()
    }
}

impl Plugin for MutatingWebhooks {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.dispatch(request))
    }
}

impl Plugin for ValidatingWebhooks {
    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.dispatch(request))
    }
}

impl WebhookParts {
    /// Whether and as what a webhook wants to see a write.
    async fn invocation(&self, webhook: &Webhook, request: &Request, step: &str) -> Result<Option<Invocation>, Status> {
        let Some(invocation) = webhook.criteria.find(request, &self.catalogue, &self.namespaces)? else {
            return Ok(None);
        };
        if webhook.conditions.is_empty() {
            return Ok(Some(invocation));
        }
        let (object, old) = invocation.both_seen(request).await?;
        let asked = invocation.review(request);
        let namespace = asked["namespace"].as_str().unwrap_or_default();
        let namespace = self.namespaces.get(&ObjectKey::new("", namespace)).map(|entry| entry.to_value());
        let rights = Rights::new(self.authorizer.clone(), request.user.clone());
        let about = About {
            object: object.as_ref(),
            old: old.as_ref(),
            request: &asked,
            namespace: namespace.as_ref(),
            params: None,
            rights: &rights,
        };
        let whose = Whose { kind: "webhook", name: &webhook.name, step, operation: request.operation.name() };
        let matches = || {
            let mut evaluation = Evaluation::new(&[], about.activation(), cel::MATCH_CONDITIONS_BUDGET);
            webhook.conditions.matches(&mut evaluation, webhook.fails_closed, &whose)
        };
        match rights.settle(matches).await {
            Ok(true) => Ok(Some(invocation)),
            Ok(false) => {
                metrics::exclude(webhook, step, request.operation);
                Ok(None)
            }
            Err(why) => Err(request.forbid(&why)),
        }
    }

    async fn call(
        &self,
        webhook: &Webhook,
        invocation: &Invocation,
        request: &Request,
        mutating: bool,
    ) -> Result<Verdict, Failure> {
        if request.dry_run && !webhook.takes_dry_run {
            let why = format!("admission webhook {:?} does not support dry run", webhook.name);
            return Err(Failure::Refused(Status::bad_request(why)));
        }
        let failed = |why: String, code: u16| Failure::Call { why, code };
        let version = webhook.review_version.ok_or_else(|| {
            let why = "could not create admission objects: webhook does not accept known AdmissionReview versions \
                       (v1, v1beta1)";
            failed(why.to_owned(), 400)
        })?;
        let callee = webhook.callee.as_ref().map_err(|why| failed(format!("could not get REST client: {why}"), 500))?;
        let uid = uuid::Uuid::new_v4().to_string();
        let (object, old) = invocation.both_seen(request).await.map_err(Failure::Refused)?;
        let asked = review::review(version, &uid, invocation.review(request), object, old);
        let answer = self.outbound.post(callee, Bytes::from(asked.to_string()), webhook.timeout).await;
        let answer = answer.map_err(|why| failed(format!("failed to call webhook: {why}"), why.code))?;
        let verdict = review::verdict(version, &uid, mutating, &answer)
            .map_err(|why| failed(format!("received invalid webhook response: {why}"), 503))?;
        for (key, value) in &verdict.annotations {
            request.annotate(format!("{}/{key}", webhook.name), value.clone());
        }
        for text in &verdict.warnings {
            request.warn(text.clone());
        }
        match verdict.allowed {
            true => Ok(verdict),
            false => Err(Failure::Denied(review::denial(&webhook.name, &verdict.result))),
        }
    }
}

/// What becomes of a write whose webhook failed.
fn judge(webhook: &Webhook, step: &str, failure: Failure, request: &Request, open: &str) -> Result<(), Status> {
    match failure {
        Failure::Denied(status) | Failure::Refused(status) => Err(status),
        Failure::Call { why, .. } if webhook.fails_closed => {
            Err(Status::internal(format!("failed calling webhook {:?}: {why}", webhook.name)))
        }
        Failure::Call { why, .. } => {
            warn!(webhook = webhook.name, %why, "webhook could not be called, and its policy is to ignore that");
            metrics::fail_open(webhook, step);
            request.annotate(open, webhook.name.clone());
            Ok(())
        }
    }
}
