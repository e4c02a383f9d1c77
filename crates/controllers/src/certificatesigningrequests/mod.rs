//! CertificateSigningRequests: those of kubelets are approved if their author may have them, approved ones are signed
//! by what their signer's name says, and old ones go.
//!
//! Three controllers. The keys are elsewhere: [`Sign`] is fulfilled by who holds them.

mod approve;
mod plan;
mod request;

use std::fmt::Debug;
use std::sync::Arc;
use std::time::Duration;

use api::object::ObjectKey;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use client::informer::Informer;
use client::reconcile::{Action, Controller, own_key};
use client::request::Delete;
use client::typed::{resource_of, scope_of};
use client::view::View;
use k8s_openapi::api::certificates::v1::CertificateSigningRequest;
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use self::request::Requested;
use crate::{Context, ReconcileError, Session};

/// Signs certificates for this cluster's own signers.
pub trait Sign: Debug + Send + Sync + 'static {
    /// The certificate, in PEM, that `order` asks for; an error says why there can be none.
    fn sign(&self, order: &Order<'_>) -> Result<String, String>;
}

/// A certificate to be made.
#[derive(Debug)]
pub struct Order<'a> {
    /// Such as `kubernetes.io/kube-apiserver-client`.
    pub signer: &'a str,
    /// The request, in PEM.
    pub request: &'a str,
    /// `spec.usages`.
    pub usages: &'a [String],
    pub lifetime: Duration,
}

/// Approves what needs nobody's look, until `token` is cancelled.
pub async fn run_approver(context: Context, token: CancellationToken) {
    const NAME: &str = "certificatesigningrequest-approving-controller";
    run(context, NAME, token, |session, _, entry| async move { approve::reconcile(&session, &entry).await }).await;
}

/// Signs what is approved, until `token` is cancelled.
pub async fn run_signer(context: Context, token: CancellationToken) {
    const NAME: &str = "certificatesigningrequest-signing-controller";
    run(context, NAME, token, |session, settings, entry| async move {
        let Some(signer) = &settings.signer else { return Ok(Action::Done) };
        let request = entry.to_value();
        let Some(step) = plan::step(&request) else { return Ok(Action::Done) };
        let status = match step {
            plan::Step::Fail(why) => failure(&request, &why, &session),
            plan::Step::Sign { usages, lifetime, pem } => {
                let order = Order { signer: plan::signer(&request), request: &pem, usages: &usages, lifetime };
                match signer.sign(&order) {
                    Ok(certificate) => json!({"certificate": STANDARD.encode(certificate)}),
                    Err(why) => failure(&request, &why, &session),
                }
            }
        };
        let change = json!({"status": status});
        session.requests.edit(&resource_of::<CertificateSigningRequest>(), &entry, Some("status"), &change).await?;
        Ok(Action::Done)
    })
    .await;
}

fn failure(request: &Value, why: &str, session: &Session) -> Value {
    let mut conditions = request["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let now = session.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ").to_string();
    conditions.push(json!({
        "type": "Failed", "status": "True", "reason": "SignerValidationFailure", "message": why, "lastUpdateTime": now,
    }));
    json!({"conditions": conditions})
}

/// Deletes requests that nobody needs any more, until `token` is cancelled.
pub async fn run_cleaner(context: Context, token: CancellationToken) {
    const NAME: &str = "certificatesigningrequest-cleaner-controller";
    run(context, NAME, token, |session, _, entry| async move {
        match plan::left(&entry.to_value(), session.clock.now()) {
            None => Ok(Action::Done),
            Some(left) if !left.is_zero() => Ok(Action::After(left)),
            Some(_) => {
                let resource = resource_of::<CertificateSigningRequest>();
                match session.requests.delete(&resource, &entry.key, &Delete::of(&entry.uid)).await {
                    Err(error) if !error.is_not_found() && !error.is_conflict() => Err(error.into()),
                    _ => Ok(Action::Done),
                }
            }
        }
    })
    .await;
}

/// The loop of all three.
async fn run<R>(
    context: Context,
    name: &'static str,
    token: CancellationToken,
    reconcile: impl Fn(Arc<Session>, Arc<crate::Settings>, Arc<api::object::Entry>) -> R + Clone + Send + Sync + 'static,
) where
    R: Future<Output = Result<Action, ReconcileError>> + Send + 'static,
{
    let (session, writer) = context.session("certificate-controller", name);
    let (session, settings) = (Arc::new(session), context.settings.clone());
    let requests = Arc::new(View::new(&*context.informers, scope_of::<CertificateSigningRequest>()));
    let controller = Controller::new(name, context.clock.clone()).watch(&requests, own_key);
    let work = controller.run(token.clone(), move |key: ObjectKey| {
        let found = requests.get(&key).map(|entry| reconcile(session.clone(), settings.clone(), entry));
        async move {
            match found {
                Some(work) => work.await,
                None => Ok(Action::Done),
            }
        }
    });
    tokio::join!(work, writer.run(token));
}

/// What a request asks for, as far as it can be read.
fn requested(request: &Value) -> Option<(String, Requested)> {
    let pem = STANDARD.decode(request["spec"]["request"].as_str()?).ok()?;
    let pem = String::from_utf8(pem).ok()?;
    let requested = Requested::read(&pem)?;
    Some((pem, requested))
}
