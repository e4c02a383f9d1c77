//! The addresses of Services: ranges that they are given from (ServiceCIDRs), and those that are given (IPAddresses).

use std::net::IpAddr;

use serde_json::{Value, json};

use crate::field_path::Path;
use crate::names;
use crate::resources::core::services::validation::cidr;
use crate::resources::fields::{items, text};
use crate::resources::metadata::immutable;
use crate::status::Cause;
use crate::validation::{Errors, quote};

const IMMUTABLE: &str = "field is immutable";

pub(super) fn range(range: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let path = Path::root("spec");
    ranges(&mut errors, &range["spec"], &path.child("cidrs"));
    errors.into_causes()
}

fn ranges(errors: &mut Errors, spec: &Value, path: &Path<'_>) {
    let ranges = items(spec, "cidrs");
    if ranges.is_empty() {
        return errors.required(path, "at least one CIDR required");
    }
    if ranges.len() > 2 {
        return errors.invalid(path, json!({"CIDRs": ranges}), "may only hold up to 2 values");
    }
    for (at, range) in ranges.iter().filter_map(Value::as_str).enumerate() {
        canonical(errors, range, &path.index(at));
    }
    if let [one, other] = ranges
        && let (Some(one), Some(other)) = (is_v4(one), is_v4(other))
        && one == other
    {
        let why = "may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64";
        errors.invalid(path, json!(ranges), why);
    }
}

/// A range, written as it would be written out.
fn canonical(errors: &mut Errors, range: &str, path: &Path<'_>) {
    let before = errors.len();
    cidr(errors, range, path);
    if let Some((ip, bits)) = range.split_once('/')
        && let Ok(ip) = ip.parse::<IpAddr>()
        && errors.len() == before
    {
        let written = format!("{ip}/{bits}");
        if range != written {
            errors.invalid(path, range, &format!("must be in canonical form ({})", quote(&written)));
        }
    }
}

fn is_v4(range: &Value) -> Option<bool> {
    let (ip, _) = range.as_str()?.split_once('/')?;
    Some(ip.parse::<IpAddr>().ok()?.is_ipv4())
}

/// Ranges stay, but a second one may come, of the other family.
pub(super) fn range_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let path = Path::root("spec");
    let path = path.child("cidrs");
    let (ranges_now, before) = (items(&new["spec"], "cidrs"), items(&old["spec"], "cidrs"));
    match (before, ranges_now) {
        _ if before.len() == ranges_now.len() => {
            for (at, (now, _)) in ranges_now.iter().zip(before).enumerate().filter(|(_, (now, before))| now != before) {
                errors.invalid(&path.index(at), now.clone(), IMMUTABLE);
            }
        }
        ([before], [now, _]) => {
            if now != before {
                errors.invalid(&path.index(0), now.clone(), IMMUTABLE);
            }
            ranges(&mut errors, &new["spec"], &path);
        }
        _ => errors.invalid(&path, new["spec"]["cidrs"].clone(), IMMUTABLE),
    }
    errors.into_causes()
}

pub(super) fn address(address: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let path = Path::root("spec");
    parent(&mut errors, &address["spec"]["parentRef"], &path.child("parentRef"));
    errors.into_causes()
}

/// Whose an address is. Services are of the group without a name.
fn parent(errors: &mut Errors, parent: &Value, path: &Path<'_>) {
    if parent.is_null() {
        return errors.required(path, "");
    }
    let (group, namespace) = (text(parent, "group"), text(parent, "namespace"));
    if !group.is_empty() {
        errors.invalid_each(&path.child("group"), group, names::dns_subdomain(group));
    }
    for field in ["resource", "name"] {
        match text(parent, field) {
            "" => errors.required(&path.child(field), ""),
            value => errors.invalid_each(&path.child(field), value, names::path_segment(value)),
        }
    }
    errors.invalid_each(&path.child("namespace"), namespace, names::path_segment(namespace));
}

pub(super) fn address_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut errors = Errors::new();
    let path = Path::root("spec");
    immutable(&mut errors, &new["spec"]["parentRef"], &old["spec"]["parentRef"], &path.child("parentRef"));
    errors.into_causes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;

    use crate::validation::testing::check;

    fn of(ranges: &[&str]) -> Value {
        json!({"spec": {"cidrs": ranges}})
    }

    #[test]
    fn ranges_are_of_one_family_each() {
        check(range(&of(&["10.0.0.0/8", "fd00::/112"])), expect![[""]]);
        check(
            range(&of(&[])),
            expect![[r#"
                spec.cidrs: Required value: at least one CIDR required
            "#]],
        );
        check(
            range(&of(&["10.0.0.0/8", "11.0.0.0/8"])),
            expect![[r#"
                spec.cidrs: Invalid value: ["10.0.0.0/8","11.0.0.0/8"]: may specify no more than one IP for each IP family, i.e 192.168.0.0/24 and 2001:db8::/64
            "#]],
        );
        check(
            range(&of(&["fd00:0::/112", "10.0.0.1/8"])),
            expect![[r#"
                spec.cidrs[0]: Invalid value: "fd00:0::/112": must be in canonical form ("fd00::/112")
                spec.cidrs[1]: Invalid value: "10.0.0.1/8": must not have bits set beyond the prefix length
            "#]],
        );
    }

    #[test]
    fn a_range_stays() {
        check(range_update(&of(&["10.0.0.0/8", "fd00::/112"]), &of(&["10.0.0.0/8"])), expect![[""]]);
        check(
            range_update(&of(&["11.0.0.0/8"]), &of(&["10.0.0.0/8"])),
            expect![[r#"
                spec.cidrs[0]: Invalid value: "11.0.0.0/8": field is immutable
            "#]],
        );
        check(
            range_update(&of(&["10.0.0.0/8"]), &of(&["10.0.0.0/8", "fd00::/112"])),
            expect![[r#"
                spec.cidrs: Invalid value: ["10.0.0.0/8"]: field is immutable
            "#]],
        );
    }

    #[test]
    fn an_address_is_somebodys() {
        let of = |parent: Value| json!({"spec": {"parentRef": parent}});
        check(address(&of(json!({"resource": "services", "name": "a"}))), expect![[""]]);
        check(
            address(&of(json!({"group": "A", "name": "a/b"}))),
            expect![[r#"
                spec.parentRef.group: Invalid value: "A": a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')
                spec.parentRef.resource: Required value
                spec.parentRef.name: Invalid value: "a/b": may not contain '/'
            "#]],
        );
        check(
            address(&json!({})),
            expect![[r#"
                spec.parentRef: Required value
            "#]],
        );
    }
}
