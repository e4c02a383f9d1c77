//! Tokens that are kept in Secrets of the type `kubernetes.io/service-account-token`, for those who cannot ask for one
//! that ends: the Secret is filled with one for the account that it names, and goes with that account.

mod plan;

use std::fmt::Debug;
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use client::informer::{Change, Informer};
use client::reconcile::{Action, Controller, changed, own_key};
use client::request::Delete;
use client::typed::{resource_of, scope_of};
use client::view::View;
use k8s_openapi::api::core::v1::{Secret, ServiceAccount};
use serde_json::Value;
use tokio_util::sync::CancellationToken;

use self::plan::Step;
use crate::{Context, ReconcileError, Session, Settings};

const NAME: &str = "serviceaccount-token-controller";

/// Makes tokens for accounts.
pub trait MakeToken: Debug + Send + Sync + 'static {
    /// A token of the account with this uid, good as long as the Secret of its namespace holds it; `None` if it cannot
    /// be signed.
    fn make(&self, account: &ObjectKey, uid: &str, secret: &str) -> Option<String>;
}

struct Tokens {
    session: Session,
    settings: Arc<Settings>,
    secrets: Arc<View>,
    accounts: Arc<View>,
}

/// Runs until `token` is cancelled.
pub async fn run(context: Context, token: CancellationToken) {
    // Upstream's has no role of its own either: it acts as the controller manager.
    let (session, writer) = context.session("", NAME);
    let scope = scope_of::<Secret>().with_fields(&format!("type={}", plan::TYPE));
    let secrets = Arc::new(View::new(&*context.informers, scope));
    let accounts = Arc::new(View::new(&*context.informers, scope_of::<ServiceAccount>()));
    let of_account = secrets.clone();
    let named = move |change: &Change| -> Vec<ObjectKey> {
        let Some(account) = changed(change) else { return Vec::new() };
        let here = of_account.list(Some(account.key.namespace.as_str()));
        here.iter().filter(|it| plan::account(&it.to_value()) == account.key.name).map(|it| it.key.clone()).collect()
    };
    let controller =
        Controller::new(NAME, context.clock.clone()).watch(&secrets, own_key).watch(&accounts, named).workers(2);
    let this = Arc::new(Tokens { session, settings: context.settings.clone(), secrets, accounts });
    let work = controller.run(token.clone(), move |key| {
        let this = this.clone();
        async move { this.reconcile(key).await }
    });
    tokio::join!(work, writer.run(token));
}

impl Tokens {
    async fn reconcile(&self, key: ObjectKey) -> Result<Action, ReconcileError> {
        let Some(entry) = self.secrets.get(&key) else { return Ok(Action::Done) };
        let secret = entry.to_value();
        let name = ObjectKey::new(key.namespace.as_str(), plan::account(&secret));
        let account = self.account(&name).await?;
        match plan::step(&secret, account.as_ref(), &self.settings.root_ca) {
            Step::Keep => {}
            Step::Delete => {
                match self.session.requests.delete(&resource_of::<Secret>(), &key, &Delete::of(&entry.uid)).await {
                    Err(error) if !error.is_not_found() && !error.is_conflict() => return Err(error.into()),
                    _ => {}
                }
            }
            Step::Fill { uid, wants_token, change } => self.fill(&entry, &name, &uid, wants_token, change).await?,
        }
        Ok(Action::Done)
    }

    /// The account as it is; that it is not there is asked again, since the view may be behind.
    async fn account(&self, key: &ObjectKey) -> Result<Option<Value>, ReconcileError> {
        if let Some(known) = self.accounts.get(key) {
            return Ok(Some(known.to_value()));
        }
        if key.name.is_empty() {
            return Ok(None);
        }
        match self.session.requests.get(&resource_of::<ServiceAccount>(), key).await {
            Ok(account) => Ok(Some(account)),
            Err(error) if error.is_not_found() => Ok(None),
            Err(error) => Err(error.into()),
        }
    }

    async fn fill(
        &self,
        secret: &Entry,
        account: &ObjectKey,
        uid: &str,
        wants_token: bool,
        mut change: Value,
    ) -> Result<(), ReconcileError> {
        if wants_token {
            let Some(maker) = &self.settings.tokens else { return Ok(()) };
            let Some(token) = maker.make(account, uid, &secret.key.name) else { return Ok(()) };
            change["data"]["token"] = plan::encoded(&token);
        }
        match self.session.requests.edit(&resource_of::<Secret>(), secret, None, &change).await {
            Err(error) if !error.is_not_found() => Err(error.into()),
            _ => Ok(()),
        }
    }
}
