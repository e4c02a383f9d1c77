//! The Lease by which others see that this server is there, and the end of those of servers that are not
//! (KEP-1965; upstream: `pkg/controlplane/apiserver`, `controller/apiserverleasegc`).

use std::sync::Arc;
use std::time::Duration;

use api::object::ObjectKey;
use api::status::Status;
use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep_until};
use tracing::warn;

use crate::authn::{MASTERS, User};
use crate::cache::Filter;
use crate::document::Document;
use crate::registry::Call;
use crate::request::ResourceRequest;
use crate::server::ApiServer;

const GROUP: &str = "coordination.k8s.io";
const NAMESPACE: &str = "kube-system";
/// Which component a Lease is of.
const COMPONENT: &str = "apiserver.kubernetes.io/identity";
const SERVER: &str = "kube-apiserver";
const HOST: &str = "kubernetes.io/hostname";
/// A server that has not renewed its Lease for so long is gone.
const LASTS: u64 = 3600;
const RENEWED: Duration = Duration::from_secs(10);
/// How often it is looked for Leases of servers that are gone.
const SOUGHT: Duration = Duration::from_secs(3600);

/// Keeps the Lease until the server stops; then it goes.
pub(crate) async fn keep(server: Arc<ApiServer>) {
    let holder = holder(&server.hostname);
    let (mut renewed, mut sought) = (Instant::now(), Instant::now());
    loop {
        tokio::select! {
            () = server.stop.cancelled() => return,
            () = server.health.ending() => {
                log(delete(&server, &name(&server.hostname)).await, "its Lease cannot be deleted");
                return;
            }
            () = sleep_until(renewed) => {
                log(renew(&server, &holder).await, "its Lease cannot be renewed");
                renewed = Instant::now() + RENEWED;
            }
            () = sleep_until(sought) => {
                log(collect(&server).await, "Leases of servers that are gone cannot be deleted");
                sought = Instant::now() + SOUGHT;
            }
        }
    }
}

fn log(outcome: Result<(), Status>, what: &str) {
    if let Err(why) = outcome
        && !why.is_not_found()
    {
        warn!(%why, "of the server's identity: {what}");
    }
}

/// The name of the server on a host, and of its Lease, the same at each start.
pub(crate) fn name(hostname: &str) -> String {
    // Each word behind its length, so that no two servers say the same.
    let said = [hostname, SERVER].map(|word| {
        let length = u16::try_from(word.len()).unwrap_or(u16::MAX);
        [&length.to_be_bytes(), word.as_bytes()].concat()
    });
    let digest = ring::digest::digest(&ring::digest::SHA256, &said.concat());
    format!("apiserver-{}", base32(&digest.as_ref()[..16]))
}

/// Another at each start.
fn holder(hostname: &str) -> String {
    format!("{}_{}", name(hostname), uuid::Uuid::new_v4())
}

/// RFC 4648 in lower case and without padding.
fn base32(bytes: &[u8]) -> String {
    const LETTERS: &[u8; 32] = b"abcdefghijklmnopqrstuvwxyz234567";
    let bit = |at: usize| bytes.get(at / 8).map_or(0, |byte| usize::from(byte >> (7 - at % 8) & 1));
    let letter = |first: usize| (first..first + 5).fold(0, |number, at| number << 1 | bit(at));
    (0..bytes.len() * 8).step_by(5).map(|first| char::from(LETTERS[letter(first)])).collect()
}

async fn renew(server: &ApiServer, holder: &str) -> Result<(), Status> {
    let served = server.registry.catalogue.find(GROUP, "v1", "leases").ok_or_else(Status::path_not_found)?;
    let cache = served.cache.as_ref().ok_or_else(Status::path_not_found)?;
    let key = ObjectKey::new(NAMESPACE, name(&server.hostname));
    let now = Timestamp::now().strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string();
    let live = server.registry.fresh(cache, &key).await?.map(|live| live.to_value());
    let (verb, mut lease) = match live {
        Some(live) => ("update", live),
        None => ("create", json!({"spec": {"holderIdentity": holder}})),
    };
    client::patch::merge(
        &mut lease,
        &json!({
            "metadata": {
                "name": key.name, "namespace": NAMESPACE,
                "labels": {COMPONENT: SERVER, HOST: server.hostname},
                "annotations": {"kubernetes.io/peer-advertise-address": server.external_address},
            },
            "spec": {"leaseDurationSeconds": LASTS, "renewTime": now},
        }),
    );
    let name = if verb == "create" { String::new() } else { key.name };
    let mut call = call(verb, name, lease.to_string().into());
    server.registry.handle(&served, &mut call).await.map(drop)
}

/// Deletes what nobody renews any more, by a second look that is fresh.
async fn collect(server: &ApiServer) -> Result<(), Status> {
    let served = server.registry.catalogue.find(GROUP, "v1", "leases").ok_or_else(Status::path_not_found)?;
    let cache = served.cache.as_ref().ok_or_else(Status::path_not_found)?;
    let filter = Filter { namespace: Some(NAMESPACE.to_owned()), ..Filter::default() };
    for entry in cache.list(&filter).entries {
        let now = Timestamp::now();
        if !is_over(&entry.to_value(), now) {
            continue;
        }
        let live = server.registry.fresh(cache, &entry.key).await?;
        if live.is_some_and(|live| is_over(&live.to_value(), now)) {
            log(delete(server, &entry.key.name).await, "a Lease cannot be deleted");
        }
    }
    Ok(())
}

async fn delete(server: &ApiServer, name: &str) -> Result<(), Status> {
    let served = server.registry.catalogue.find(GROUP, "v1", "leases").ok_or_else(Status::path_not_found)?;
    let mut call = call("delete", name.to_owned(), Bytes::new());
    server.registry.handle(&served, &mut call).await.map(drop)
}

/// Whether a Lease is a server's that is gone. One that does not say how long it lasts is none that a server wrote.
fn is_over(lease: &Value, now: Timestamp) -> bool {
    let ours = lease["metadata"]["labels"][COMPONENT] == SERVER;
    let renewed = lease["spec"]["renewTime"].as_str().and_then(|time| time.parse::<Timestamp>().ok());
    let until = renewed.zip(lease["spec"]["leaseDurationSeconds"].as_i64());
    ours && !lease.is_terminating()
        && until.is_none_or(|(renewed, seconds)| {
            renewed.checked_add(SignedDuration::from_secs(seconds)).is_ok_and(|until| until < now)
        })
}

fn call(verb: &'static str, name: String, body: Bytes) -> Call {
    let target = ResourceRequest {
        group: GROUP.to_owned(),
        version: "v1".to_owned(),
        namespace: NAMESPACE.to_owned(),
        resource: "leases".to_owned(),
        name,
        ..ResourceRequest::default()
    };
    let mut call = Call::internal(User::component("system:apiserver", &[MASTERS]), verb, target, body);
    format!("fieldManager={SERVER}").clone_into(&mut call.query);
    call
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_server_is_called_as_upstream_calls_it() {
        // What upstream's called itself on a host of this name.
        assert_eq!(name("vm"), "apiserver-wlv32tlttr4jl3gtroqexyxapa");
        assert_eq!(base32(b"foobar"), "mzxw6ytboi");
    }

    #[test]
    fn what_nobody_renews_is_over() {
        let lease = |renewed: Value, seconds: Value, component: &str| {
            json!({
                "metadata": {"labels": {COMPONENT: component}},
                "spec": {"renewTime": renewed, "leaseDurationSeconds": seconds},
            })
        };
        let now: Timestamp = "2026-01-01T01:00:00Z".parse().unwrap();
        let check = |lease: Value, over: bool| assert_eq!(is_over(&lease, now), over, "{lease}");
        check(lease(json!("2026-01-01T00:00:00.000001Z"), json!(3600), SERVER), false);
        check(lease(json!("2025-12-31T23:59:59.000000Z"), json!(3600), SERVER), true);
        check(lease(Value::Null, json!(3600), SERVER), true);
        check(lease(json!("2026-01-01T00:00:00.000001Z"), Value::Null, SERVER), true);
        check(lease(Value::Null, json!(3600), "kube-scheduler"), false);
    }
}
