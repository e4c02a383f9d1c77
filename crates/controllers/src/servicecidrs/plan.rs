//! Whether a range of Services' addresses is in use, and what it is to be told.

use std::net::IpAddr;

use ipnet::IpNet;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};

/// What keeps a range until nobody needs it.
pub(super) const FINALIZER: &str = "networking.k8s.io/service-cidr-finalizer";
const MANAGED_BY: &str = "ipaddress.kubernetes.io/managed-by";
const ALLOCATOR: &str = "ipallocator.k8s.io";
/// How long allocators may take to see that a range is going.
const GRACE: SignedDuration = SignedDuration::from_secs(10);

/// The next thing to be done with a range; its change brings us here again.
#[derive(Debug, PartialEq)]
pub(super) enum Step {
    Nothing,
    /// To be held by our finalizer.
    Hold,
    /// To have this `Ready` condition.
    Say(Value),
    /// To be looked at again: nobody needs it, but somebody may not know yet.
    Wait(SignedDuration),
    /// To be let go.
    Release,
}

/// What to do with `range`, of all `ranges`, when these `addresses` are given out.
pub(super) fn plan(range: &Value, ranges: &[Value], addresses: &[Value], now: Timestamp) -> Step {
    let finalizers = range["metadata"]["finalizers"].as_array().into_iter().flatten();
    let is_held = finalizers.into_iter().any(|finalizer| finalizer == FINALIZER);
    let Some(deleted) = range["metadata"]["deletionTimestamp"].as_str() else {
        return match is_held {
            true => say(range, "True", "", "Kubernetes Service CIDR is ready", now),
            false => Step::Hold,
        };
    };
    if !is_held {
        return Step::Nothing;
    }
    if is_needed(range, ranges, addresses) {
        let message = "There are still IPAddresses referencing the ServiceCIDR, please remove them or create a new \
                       ServiceCIDR";
        return say(range, "False", "Terminating", message, now);
    }
    let since = api::time::parse(deleted).map_or(GRACE, |deleted| now.duration_since(deleted));
    if since < GRACE { Step::Wait(GRACE - since) } else { Step::Release }
}

fn say(range: &Value, status: &str, reason: &str, message: &str, now: Timestamp) -> Step {
    let mut conditions = range["status"]["conditions"].as_array().into_iter().flatten();
    let before = conditions.find(|condition| condition["type"] == "Ready");
    let is = |field: &str, text: &str| before.is_some_and(|before| before[field].as_str().unwrap_or_default() == text);
    if is("status", status) && is("reason", reason) && is("message", message) {
        return Step::Nothing;
    }
    Step::Say(json!({
        "type": "Ready", "status": status, "reason": reason, "message": message,
        "lastTransitionTime": api::time::format(now),
    }))
}

/// Whether an address would lie in no range if this one went.
fn is_needed(range: &Value, ranges: &[Value], addresses: &[Value]) -> bool {
    let others: Vec<IpNet> =
        ranges.iter().filter(|other| other["metadata"]["name"] != range["metadata"]["name"]).flat_map(cidrs).collect();
    let own = cidrs(range);
    if own.iter().all(|cidr| others.iter().any(|other| other.contains(cidr))) {
        return false;
    }
    let given = addresses.iter().filter(|address| address["metadata"]["labels"][MANAGED_BY] == ALLOCATOR);
    given
        .filter_map(ip)
        .any(|ip| own.iter().any(|cidr| gives(cidr, &ip)) && !others.iter().any(|other| gives(other, &ip)))
}

/// The address that an IPAddress stands for: its name.
pub(super) fn ip(address: &Value) -> Option<IpAddr> {
    address["metadata"]["name"].as_str()?.parse().ok()
}

pub(super) fn cidrs(range: &Value) -> Vec<IpNet> {
    let cidrs = range["spec"]["cidrs"].as_array().into_iter().flatten();
    cidrs.filter_map(|cidr| cidr.as_str()?.parse().ok()).collect()
}

/// Whether the address can be given out of the range: its network and IPv4 broadcast addresses cannot.
pub(super) fn gives(cidr: &IpNet, ip: &IpAddr) -> bool {
    cidr.contains(ip) && *ip != cidr.network() && (ip.is_ipv6() || *ip != cidr.broadcast())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn range(name: &str, cidr: &str) -> Value {
        json!({"metadata": {"name": name, "finalizers": [FINALIZER]}, "spec": {"cidrs": [cidr]}})
    }

    fn address(ip: &str) -> Value {
        json!({"metadata": {"name": ip, "labels": {MANAGED_BY: ALLOCATOR}}})
    }

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(1_767_225_600 + seconds).unwrap()
    }

    #[test]
    fn a_range_is_held_and_then_ready() {
        let mut range = range("a", "10.1.0.0/24");
        range["metadata"]["finalizers"] = json!(["other"]);
        assert_eq!(plan(&range, &[], &[], at(0)), Step::Hold);
        range["metadata"]["finalizers"] = json!(["other", FINALIZER]);
        let Step::Say(condition) = plan(&range, &[], &[], at(0)) else { panic!("it says nothing") };
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("True"), &json!("")));
        range["status"]["conditions"] = json!([condition]);
        assert_eq!(plan(&range, &[], &[], at(1)), Step::Nothing);
    }

    #[test]
    fn a_range_goes_when_no_address_is_left_in_it_alone() {
        let mut dying = range("a", "10.1.0.0/24");
        dying["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
        let alone = [dying.clone()];
        let used = [address("10.1.0.5")];
        let Step::Say(condition) = plan(&dying, &alone, &used, at(60)) else { panic!("it says nothing") };
        assert_eq!((&condition["status"], &condition["reason"]), (&json!("False"), &json!("Terminating")));
        assert_eq!(plan(&dying, &alone, &[], at(60)), Step::Release);
        assert_eq!(plan(&dying, &alone, &[address("10.1.0.255")], at(60)), Step::Release, "nobody gave that");
        assert_eq!(plan(&dying, &alone, &[], at(4)), Step::Wait(SignedDuration::from_secs(6)));
        let within = [dying.clone(), range("b", "10.1.0.0/16")];
        assert_eq!(plan(&dying, &within, &used, at(60)), Step::Release);
        let beside = [dying.clone(), range("b", "10.1.0.0/28")];
        assert_eq!(plan(&dying, &beside, &used, at(60)), Step::Release, "that one gives the address, too");
        assert!(matches!(plan(&dying, &beside, &[address("10.1.0.99")], at(60)), Step::Say(_)));
    }
}
