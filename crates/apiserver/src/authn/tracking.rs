//! What is told of tokens that are kept in Secrets: on each Secret when its token was last used, and in a ConfigMap since
//! when that is told, so that a Secret which says nothing is one that nobody uses (KEP-2799; upstream:
//! `pkg/controlplane/controller/legacytokentracking`).

use std::sync::Arc;
use std::time::Duration;

use api::object::ObjectKey;
use api::status::Status;
use client::informer::{Informers as _, Scope};
use http::header::{CONTENT_TYPE, HeaderValue};
use jiff::Timestamp;
use jiff::civil::Date;
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;
use tracing::warn;

use super::kepttokens::{LAST_USED, Use};
use super::{MASTERS, User};
use crate::bootstrap;
use crate::document::Document;
use crate::registry::Call;
use crate::request::ResourceRequest;
use crate::server::ApiServer;

const NAMESPACE: &str = "kube-system";
const NAME: &str = "kube-apiserver-legacy-service-account-token-tracking";
/// A ConfigMap that others delete is not made again more often: servers of which some do not know it would fight.
const AGAIN: Duration = Duration::from_secs(30 * 60);
/// Uses that wait to be told. Where there is no room the next use tells it.
const WAITING: usize = 64;

/// Where uses are told.
pub(crate) struct Uses(mpsc::Sender<Use>);

/// Where uses are told, and whoever writes them down.
pub(crate) fn channel() -> (Uses, Tellers) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Uses(sender), Tellers(receiver))
}

pub(crate) struct Tellers(mpsc::Receiver<Use>);

impl Uses {
    /// Nobody waits for it, and nothing hangs on a single one.
    pub(super) fn tell(&self, told: Use) {
        let _ = self.0.try_send(told);
    }
}

impl Tellers {
    /// Writes uses down until `stop`.
    pub(crate) async fn run(mut self, server: Arc<ApiServer>, stop: CancellationToken) {
        while let Some(Some(told)) = stop.run_until_cancelled(self.0.recv()).await {
            if let Err(why) = label(&server, &told).await
                && !why.is_not_found()
            {
                warn!(why = why.message, secret = %told.secret, "that a token was used could not be told");
            }
        }
    }
}

async fn label(server: &ApiServer, told: &Use) -> Result<(), Status> {
    let served = server.registry.catalogue.find("", "v1", "secrets").ok_or_else(Status::path_not_found)?;
    let patch = json!({"metadata": {"uid": told.uid, "labels": {LAST_USED: told.day}}});
    let mut call = call("patch", "secrets", &told.secret, &patch);
    call.headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/merge-patch+json"));
    server.registry.handle(&served, &mut call).await.map(drop)
}

/// Keeps the ConfigMap that says since when uses are told.
pub(crate) async fn keep(server: Arc<ApiServer>) {
    let mut scope = Scope::all("", "v1", "configmaps").with_fields(&format!("metadata.name={NAME}"));
    scope.namespace = Some(NAMESPACE.to_owned());
    let informers = server.informers(server.streams.clone(), server.stop.clone());
    let informer = informers.informer(scope);
    let mut changes = informer.subscribe();
    let mut made: Option<Instant> = None;
    let mut due: Option<Instant> = None;
    loop {
        tokio::select! {
            () = server.stop.cancelled() => return,
            change = changes.recv() => if change.is_none() { return },
            // Others deleted what was made less than that ago.
            () = sleep_until(due.unwrap_or_else(Instant::now)), if due.is_some() => {}
        }
        due = None;
        let look = || server.registry.catalogue.find("", "v1", "configmaps")?.cache.clone()?.get(&key());
        match step(look().map(|entry| entry.to_value()), &today()) {
            Step::Keep => {}
            Step::Make(_) if made.is_some_and(|made| made.elapsed() < AGAIN) => due = made.map(|made| made + AGAIN),
            Step::Make(wanted) => match bootstrap::ensure(&server, "", "configmaps", wanted).await {
                Ok(()) => made = Some(Instant::now()),
                Err(why) => warn!(%why, "the ConfigMap {NAMESPACE}/{NAME} could not be made"),
            },
            Step::Update(object) => match update(&server, &object).await {
                Err(why) if why.code != 404 && why.code != 409 => {
                    warn!(%why, "the ConfigMap {NAMESPACE}/{NAME} could not be written");
                }
                _ => {}
            },
        }
    }
}

/// What becomes of the ConfigMap.
#[derive(Debug, PartialEq)]
enum Step {
    Keep,
    Make(Value),
    Update(Value),
}

fn step(live: Option<Value>, today: &str) -> Step {
    let Some(mut live) = live else {
        return Step::Make(json!({"metadata": {"name": NAME, "namespace": NAMESPACE}, "data": {"since": today}}));
    };
    let since = live["data"]["since"].as_str().unwrap_or_default();
    let is_day = Date::strptime("%Y-%m-%d", since).is_ok_and(|day| day.to_string() == since);
    if is_day || live.is_terminating() {
        return Step::Keep;
    }
    client::patch::merge(&mut live, &json!({"data": {"since": today}}));
    Step::Update(live)
}

async fn update(server: &ApiServer, object: &Value) -> Result<(), Status> {
    let served = server.registry.catalogue.find("", "v1", "configmaps").ok_or_else(Status::path_not_found)?;
    server.registry.handle(&served, &mut call("update", "configmaps", &key(), object)).await.map(drop)
}

fn call(verb: &'static str, resource: &str, key: &ObjectKey, body: &Value) -> Call {
    let target = ResourceRequest {
        version: "v1".to_owned(),
        namespace: key.namespace.clone(),
        resource: resource.to_owned(),
        name: key.name.clone(),
        ..ResourceRequest::default()
    };
    let itself = User::component("system:apiserver", &[MASTERS]);
    let mut call = Call::internal(itself, verb, target, body.to_string().into());
    "fieldManager=kube-apiserver".clone_into(&mut call.query);
    call
}

fn key() -> ObjectKey {
    ObjectKey::new(NAMESPACE, NAME)
}

fn today() -> String {
    Timestamp::now().strftime("%Y-%m-%d").to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_day_on_which_it_began_stays() {
        let map = |data: Value| json!({"metadata": {"name": NAME}, "data": data});
        let check = |live: Option<Value>, expected: Step| assert_eq!(step(live, "2026-01-31"), expected);
        check(
            None,
            Step::Make(json!({"metadata": {"name": NAME, "namespace": NAMESPACE}, "data": {"since": "2026-01-31"}})),
        );
        check(Some(map(json!({"since": "2020-01-01"}))), Step::Keep);
        check(
            Some(map(json!({"since": "soon", "mine": "x"}))),
            Step::Update(map(json!({"since": "2026-01-31", "mine": "x"}))),
        );
        check(Some(map(Value::Null)), Step::Update(map(json!({"since": "2026-01-31"}))));
    }
}
