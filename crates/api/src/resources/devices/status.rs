//! What a ResourceClaim was given: by the scheduler, for whom, and what drivers tell of it.

use std::collections::BTreeSet;
use std::net::IpAddr;

use serde_json::Value;

use super::claims::{MOST_SETTINGS, Requests};
use super::parts::{Most, binding, itself, list, pool_name, raw, set, settings};
use crate::field_path::Path;
use crate::names;
use crate::resources::conditions;
use crate::resources::core::pods::validation::node_selector;
use crate::resources::core::pods::validation::volumes::csi_driver;
use crate::resources::fields::{is_empty, items, text};
use crate::resources::metadata::immutable;
use crate::status::Cause;
use crate::validation::{Errors, quote};

const MOST_CONSUMERS: usize = 256;
const MOST_RESULTS: usize = 32;
const MOST_CONDITIONS: usize = 8;
const MOST_ADDRESSES: usize = 16;
const LONGEST_INTERFACE: usize = 256;
const LONGEST_HARDWARE_ADDRESS: usize = 128;

/// One device, or one share of it.
type Device<'d> = (&'d str, &'d str, &'d str, &'d str);

fn device(of: &Value) -> Device<'_> {
    (text(of, "driver"), text(of, "pool"), text(of, "device"), text(of, "shareID"))
}

/// The devices of an allocation.
fn allocated(claim: &Value) -> BTreeSet<Device<'_>> {
    items(&claim["status"]["allocation"]["devices"], "results").iter().map(device).collect()
}

/// Forgets what drivers told of devices that the claim no longer has.
pub(super) fn drop_deallocated(new: &mut Value, old: &Value) {
    let kept = allocated(new);
    let gone: BTreeSet<Device<'_>> = allocated(old).into_iter().filter(|device| !kept.contains(device)).collect();
    let told = items(&new["status"], "devices");
    let left: Vec<Value> = told.iter().filter(|of| !gone.contains(&device(of))).cloned().collect();
    if left.len() != told.len() {
        match left.is_empty() {
            true => crate::resources::strategy::remove(&mut new["status"], "devices"),
            false => new["status"]["devices"] = Value::from(left),
        }
    }
}

pub(super) fn update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (status, before, path) = (&new["status"], &old["status"], Path::root("status"));
    let consumers = items(status, "reservedFor");
    let at = path.child("reservedFor");
    set(&mut errors, consumers, Most(MOST_CONSUMERS), &at, consumer, |consumer| text(consumer, "uid").to_owned());
    let devices = allocated(new);
    told(&mut errors, items(status, "devices"), &devices, &path.child("devices"));
    let allocation = &status["allocation"];
    if !consumers.is_empty() {
        let dies = !new["metadata"]["deletionTimestamp"].is_null();
        let is_new = |consumer: &Value| !items(before, "reservedFor").contains(consumer);
        if allocation.is_null() {
            errors.forbidden(&at, "may not be specified when `allocated` is not set");
        } else if dies && consumers.iter().any(is_new) {
            let why = "new entries may not be added while `deallocationRequested` or `deletionTimestamp` are set";
            errors.forbidden(&at, why);
        }
    }
    let at = path.child("allocation");
    match (allocation.is_null(), before["allocation"].is_null()) {
        (true, _) => {}
        (false, false) => immutable(&mut errors, allocation, &before["allocation"], &at),
        (false, true) => check_allocation(&mut errors, allocation, &Requests::of(&new["spec"]["devices"]), &at),
    }
    errors.into_causes()
}

fn consumer(errors: &mut Errors, consumer: &Value, path: &Path<'_>) {
    for field in ["resource", "name", "uid"] {
        if text(consumer, field).is_empty() {
            errors.required(&path.child(field), "");
        }
    }
}

fn check_allocation(errors: &mut Errors, allocation: &Value, requests: &Requests<'_>, path: &Path<'_>) {
    let (devices, at) = (&allocation["devices"], path.child("devices"));
    list(errors, items(devices, "results"), Most(MOST_RESULTS), &at.child("results"), |errors, result, path| {
        requests.check_name(errors, text(result, "request"), &path.child("request"));
        check_device(errors, result, path);
        binding(errors, result, path);
        share(errors, result, path);
    });
    // Those of the class and those of the claim.
    let most = Most(2 * MOST_SETTINGS);
    list(errors, items(devices, "config"), most, &at.child("config"), |errors, config, path| {
        match text(config, "source") {
            "" => errors.required(&path.child("source"), ""),
            "FromClaim" | "FromClass" => {}
            other => errors.not_supported(&path.child("source"), other, &["FromClaim", "FromClass"]),
        }
        requests.check(errors, config, path);
        settings(errors, config, false, path);
    });
    if !allocation["nodeSelector"].is_null() {
        node_selector(errors, &allocation["nodeSelector"], &path.child("nodeSelector"));
    }
}

fn check_device(errors: &mut Errors, of: &Value, path: &Path<'_>) {
    csi_driver(errors, text(of, "driver"), &path.child("driver"));
    pool_name(errors, text(of, "pool"), &path.child("pool"));
    let name = text(of, "device");
    errors.invalid_each(&path.child("device"), name, names::dns_label(name));
}

fn share(errors: &mut Errors, of: &Value, path: &Path<'_>) {
    let Some(id) = of["shareID"].as_str() else { return };
    let why = match wrong_uuid(id) {
        Some(why) => format!("error validating uid: {why}"),
        None if id.len() != 36 || id != id.to_lowercase() => "uid must be in RFC 4122 normalized form, \
             `xxxxxxxx-xxxx-xxxx-xxxx-xxxxxxxxxxxx` with lowercase hexadecimal characters"
            .to_owned(),
        None => return,
    };
    errors.invalid(&path.child("shareID"), id, &why);
}

/// What is wrong with a uuid in any of its forms: bare, with hyphens, in braces, as a URN (`github.com/google/uuid`).
fn wrong_uuid(id: &str) -> Option<String> {
    let hyphenated = match id.len() {
        36 => id,
        45 => match id.get(..9) {
            Some(prefix) if prefix.eq_ignore_ascii_case("urn:uuid:") => id.get(9..).unwrap_or_default(),
            prefix => return Some(format!("invalid urn prefix: {}", quote(prefix.unwrap_or_default()))),
        },
        38 => match id.strip_prefix('{').and_then(|id| id.strip_suffix('}')) {
            Some(id) => id,
            None => return Some("invalid bracketed UUID format".to_owned()),
        },
        32 => {
            return (!id.bytes().all(|byte| byte.is_ascii_hexdigit())).then(|| "invalid UUID format".to_owned());
        }
        length => return Some(format!("invalid UUID length: {length}")),
    };
    let fits = |(at, byte): (usize, u8)| match at {
        8 | 13 | 18 | 23 => byte == b'-',
        _ => byte.is_ascii_hexdigit(),
    };
    (!hyphenated.bytes().enumerate().all(fits)).then(|| "invalid UUID format".to_owned())
}

/// What drivers tell of the devices.
fn told(errors: &mut Errors, told: &[Value], allocated: &BTreeSet<Device<'_>>, path: &Path<'_>) {
    // Upstream shows the key of a device as a struct whose fields cannot be seen.
    const SHOWN: &str = r#"{"Driver":{},"Pool":{},"Device":{},"ShareID":{}}"#;
    for (at, of) in told.iter().enumerate() {
        let path = path.index(at);
        check_device(errors, of, &path);
        share(errors, of, &path);
        if !allocated.contains(&device(of)) {
            errors.invalid_as(&path, SHOWN, "must be an allocated device in the claim");
        }
        let stated = items(of, "conditions");
        if stated.len() > MOST_CONDITIONS {
            errors.too_many(&path.child("conditions"), stated.len(), MOST_CONDITIONS);
        }
        conditions::check(errors, stated, &path.child("conditions"));
        if !of["data"].is_null() {
            raw(errors, &of["data"], false, &path.child("data"));
        }
        network(errors, &of["networkData"], &path.child("networkData"));
    }
    for (at, of) in told.iter().enumerate() {
        if told[..at].iter().any(|earlier| device(earlier) == device(of)) {
            errors.duplicate_as(&path.index(at), SHOWN);
        }
    }
}

fn network(errors: &mut Errors, data: &Value, path: &Path<'_>) {
    for (field, limit) in [("interfaceName", LONGEST_INTERFACE), ("hardwareAddress", LONGEST_HARDWARE_ADDRESS)] {
        if text(data, field).len() > limit {
            errors.too_long(&path.child(field), limit);
        }
    }
    if !is_empty(&data["ips"]) {
        set(errors, items(data, "ips"), Most(MOST_ADDRESSES), &path.child("ips"), interface_address, itself);
    }
}

/// An address with the length of its network's prefix.
fn interface_address(errors: &mut Errors, address: &Value, path: &Path<'_>) {
    let address = address.as_str().unwrap_or_default();
    let parts = address.split_once('/').and_then(|(ip, bits)| Some((ip.parse::<IpAddr>().ok()?, bits)));
    let parsed = parts.and_then(|(ip, bits)| Some((ip, bits.parse::<u8>().ok()?)));
    match parsed {
        Some((ip, bits)) if bits <= if ip.is_ipv4() { 32 } else { 128 } => {
            let canonical = match ip.to_canonical() {
                IpAddr::V4(short) if ip.is_ipv6() && bits >= 96 => format!("{short}/{}", bits - 96),
                _ => format!("{ip}/{bits}"),
            };
            if address != canonical {
                errors.invalid(path, address, &format!("must be in canonical form ({})", quote(&canonical)));
            }
        }
        _ => {
            let why = "must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)";
            errors.invalid(path, address, why);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::json;

    use crate::validation::testing;

    #[track_caller]
    fn check(status: Value, old: Value, expected: Expect) {
        let requests = json!({"devices": {"requests": [{"name": "r"}]}});
        let causes = update(&json!({"spec": requests, "status": status}), &json!({"spec": requests, "status": old}));
        testing::check(causes, expected);
    }

    fn result() -> Value {
        json!({"request": "r", "driver": "d", "pool": "p", "device": "x"})
    }

    #[test]
    fn what_was_given_stays() {
        let given = json!({"allocation": {"devices": {"results": [result()]}}});
        check(given.clone(), json!({}), expect![[""]]);
        check(given.clone(), given.clone(), expect![[""]]);
        check(
            json!({"allocation": {}}),
            given,
            expect![[r#"
                status.allocation: Invalid value: {}: field is immutable
            "#]],
        );
    }

    #[test]
    fn statuses_are_refused_in_upstreams_words() {
        let mut other = result();
        other["request"] = json!("s");
        other["shareID"] = json!("1");
        check(
            json!({
                "reservedFor": [{"resource": "pods", "name": "a", "uid": "1"}, {"uid": "1"}],
                "allocation": {"devices": {"results": [other], "config": [{"source": "Odd", "opaque": {"driver": "d", "parameters": {}}}]}},
                "devices": [{"driver": "d", "pool": "p", "device": "y", "networkData": {"ips": ["10.0.0.1", "10.0.0.1/24", "2001:db8:0::1/64"]}}],
            }),
            json!({}),
            expect![[r#"
                status.reservedFor[1].resource: Required value
                status.reservedFor[1].name: Required value
                status.reservedFor[1]: Duplicate value: "1"
                status.devices[0]: Invalid value: {"Driver":{},"Pool":{},"Device":{},"ShareID":{}}: must be an allocated device in the claim
                status.devices[0].networkData.ips[0]: Invalid value: "10.0.0.1": must be a valid address in CIDR form, (e.g. 10.9.8.7/24 or 2001:db8::1/64)
                status.devices[0].networkData.ips[2]: Invalid value: "2001:db8:0::1/64": must be in canonical form ("2001:db8::1/64")
                status.allocation.devices.results[0].request: Invalid value: "s": must be the name of a request in the claim or the name of a request and a subrequest separated by '/'
                status.allocation.devices.results[0].shareID: Invalid value: "1": error validating uid: invalid UUID length: 1
                status.allocation.devices.config[0].source: Unsupported value: "Odd": supported values: "FromClaim", "FromClass"
            "#]],
        );
        check(
            json!({"reservedFor": [{"resource": "pods", "name": "a", "uid": "1"}]}),
            json!({}),
            expect![[r#"
                status.reservedFor: Forbidden: may not be specified when `allocated` is not set
            "#]],
        );
    }

    #[test]
    fn what_was_told_of_devices_goes_with_them() {
        let told = json!([{"driver": "d", "pool": "p", "device": "x"}, {"driver": "d", "pool": "p", "device": "y"}]);
        let old = json!({"status": {"allocation": {"devices": {"results": [result()]}}, "devices": told}});
        let mut new = json!({"status": {"devices": told}});
        drop_deallocated(&mut new, &old);
        assert_eq!(new, json!({"status": {"devices": [told[1]]}}));
    }
}
