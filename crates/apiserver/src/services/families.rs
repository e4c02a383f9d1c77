//! Of which IP families a Service is: what its policy, its addresses and the cluster's ranges make of `ipFamilies` and
//! `ipFamilyPolicy` (upstream's `pkg/registry/core/service/storage/alloc.go`).

use std::net::IpAddr;

use api::field_path::Path;
use api::resources::core::services::validation;
use api::status::Cause;
use api::validation::Errors;
use serde_json::{Value, json};

use super::{list, text};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Family {
    V4,
    V6,
}

impl Family {
    pub(super) fn of(ip: IpAddr) -> Self {
        if ip.is_ipv4() { Self::V4 } else { Self::V6 }
    }

    pub(super) fn named(name: &str) -> Option<Self> {
        [Self::V4, Self::V6].into_iter().find(|family| family.name() == name)
    }

    fn name(self) -> &'static str {
        match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        }
    }

    fn other(self) -> Self {
        match self {
            Self::V4 => Self::V6,
            Self::V6 => Self::V4,
        }
    }
}

/// Fills in what `spec` leaves out, or says what about it cannot be. `configured` are the families of the cluster's
/// ranges, the first of them the default. The addresses themselves are given afterwards.
pub(super) fn settle(spec: &mut Value, old: Option<&Value>, configured: &[Family]) -> Result<(), Vec<Cause>> {
    if old.is_some_and(|old| stays_preferred(spec, old)) {
        return Ok(());
    }
    if !text(&spec["clusterIP"]).is_empty() && list(&spec["clusterIPs"]).is_empty() {
        spec["clusterIPs"] = json!([spec["clusterIP"]]);
    }
    let free = spec["clusterIP"] == "None" && spec["selector"].as_object().is_none_or(serde_json::Map::is_empty);
    if !spec["ipFamilyPolicy"].is_string() {
        let kept = old.map(|old| &old["ipFamilyPolicy"]).filter(|policy| policy.is_string());
        spec["ipFamilyPolicy"] = match kept {
            Some(policy) => policy.clone(),
            // Whoever writes the endpoints of such a Service may write either family.
            None if free => json!("RequireDualStack"),
            None => json!("SingleStack"),
        };
    }
    refused(validation::cluster_ip_fields(spec))?;
    let mut errors = Errors::new();
    if let Some(old) = old {
        release(&mut errors, spec, old);
    }
    let path = Path::root("spec");
    let at_policy = path.child("ipFamilyPolicy");
    if spec["ipFamilyPolicy"] == "SingleStack" {
        for (field, what) in [("clusterIPs", "cluster IPs"), ("ipFamilies", "IP families")] {
            if list(&spec[field]).len() == 2 {
                let detail =
                    format!("must be 'RequireDualStack' or 'PreferDualStack' when multiple {what} are specified");
                errors.invalid(&at_policy, "SingleStack", &detail);
            }
        }
    }
    let mut families: Vec<Value> = list(&spec["ipFamilies"]).to_vec();
    let plural = list(&spec["clusterIPs"]);
    for (at, ip) in plural.iter().enumerate().skip(families.len()) {
        let Ok(ip) = text(ip).parse::<IpAddr>() else { break };
        let family = Family::of(ip);
        match configured.contains(&family) {
            true => families.push(json!(family.name())),
            false => {
                let detail = format!("{} is not configured on this cluster", family.name());
                errors.invalid(&path.child("clusterIPs").index(at), json!(plural), &detail);
            }
        }
    }
    refused(errors.into_causes())?;
    let single = spec["ipFamilyPolicy"] == "SingleStack";
    if !free {
        refused(unconfigured(spec, &families, configured))?;
    }
    if families.is_empty() {
        families.extend(configured.first().map(|family| json!(family.name())));
    }
    if let [only] = families.as_slice()
        && let Some(only) = Family::named(text(only))
        && !single
        && (free || configured.len() == 2)
    {
        families.push(json!(only.other().name()));
    }
    spec["ipFamilies"] = json!(families);
    Ok(())
}

/// What the cluster has no ranges for.
fn unconfigured(spec: &Value, families: &[Value], configured: &[Family]) -> Vec<Cause> {
    let (mut errors, path) = (Errors::new(), Path::root("spec"));
    if spec["ipFamilyPolicy"] == "RequireDualStack" && configured.len() < 2 {
        let detail = "this cluster is not configured for dual-stack services";
        errors.invalid(&path.child("ipFamilyPolicy"), "RequireDualStack", detail);
    }
    for (at, family) in families.iter().enumerate() {
        if Family::named(text(family)).is_none_or(|family| !configured.contains(&family)) {
            errors.invalid(&path.child("ipFamilies").index(at), family.clone(), "not configured on this cluster");
        }
    }
    errors.into_causes()
}

/// True where both states prefer two families, and name the same ones: a cluster that gained or lost a family since
/// does not change the Service.
fn stays_preferred(new: &Value, old: &Value) -> bool {
    let policy = |spec: &Value| spec["ipFamilyPolicy"].as_str().unwrap_or("PreferDualStack").to_owned();
    new["ipFamilyPolicy"].is_string()
        && [policy(new), policy(old)].iter().all(|policy| policy == "PreferDualStack")
        && ["type", "clusterIPs", "ipFamilies"].iter().all(|field| new[field] == old[field])
}

/// A second address goes only when the policy says so; then it goes by itself.
fn release(errors: &mut Errors, new: &mut Value, old: &Value) {
    for (field, what) in [("clusterIPs", "cluster IP"), ("ipFamilies", "IP family")] {
        let (had, has) = (list(&old[field]), list(&new[field]).to_vec());
        if new["ipFamilyPolicy"] == "SingleStack" {
            if has.len() > 1 && has == had {
                new[field] = json!([has[0]]);
            }
        } else if !has.is_empty() && has.len() < had.len() && has[0] == had[0] {
            let detail = format!("must be 'SingleStack' to release the secondary {what}");
            let policy = new["ipFamilyPolicy"].clone();
            errors.invalid(&Path::root("spec").child("ipFamilyPolicy"), policy, &detail);
        }
    }
}

fn refused(causes: Vec<Cause>) -> Result<(), Vec<Cause>> {
    if causes.is_empty() { Ok(()) } else { Err(causes) }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Of `spec` in a cluster of these families: `families policy`, or the fields that are refused.
    fn check(spec: Value, configured: &[Family], expected: &str) {
        let mut spec = spec;
        let found = match settle(&mut spec, None, configured) {
            Ok(()) => format!("{} {}", spec["ipFamilies"], text(&spec["ipFamilyPolicy"])),
            Err(causes) => causes.iter().map(|cause| cause.field.as_str()).collect::<Vec<_>>().join(" "),
        };
        assert_eq!(found, expected);
    }

    #[test]
    fn what_is_left_out_follows_the_cluster() {
        let (one, two) = (&[Family::V4][..], &[Family::V6, Family::V4][..]);
        check(json!({}), one, r#"["IPv4"] SingleStack"#);
        check(json!({}), two, r#"["IPv6"] SingleStack"#);
        check(json!({"ipFamilyPolicy": "PreferDualStack"}), one, r#"["IPv4"] PreferDualStack"#);
        check(json!({"ipFamilyPolicy": "PreferDualStack"}), two, r#"["IPv6","IPv4"] PreferDualStack"#);
        check(json!({"clusterIP": "None"}), one, r#"["IPv4","IPv6"] RequireDualStack"#);
        check(json!({"clusterIP": "None", "selector": {"a": "b"}}), one, r#"["IPv4"] SingleStack"#);
        check(json!({"clusterIP": "10.0.0.1"}), two, r#"["IPv4"] SingleStack"#);
    }

    #[test]
    fn what_the_cluster_lacks_is_refused() {
        let one = &[Family::V4][..];
        check(json!({"ipFamilyPolicy": "RequireDualStack"}), one, "spec.ipFamilyPolicy");
        check(json!({"ipFamilies": ["IPv6"]}), one, "spec.ipFamilies[0]");
        check(json!({"clusterIP": "fd00::1"}), one, "spec.clusterIPs[0]");
        check(json!({"clusterIP": "x"}), one, "spec.clusterIPs[0]");
    }

    #[test]
    fn a_second_address_goes_when_the_policy_says_so() {
        let families = &[Family::V4, Family::V6][..];
        let old = json!({
            "ipFamilyPolicy": "RequireDualStack", "ipFamilies": ["IPv4", "IPv6"],
            "clusterIP": "10.0.0.1", "clusterIPs": ["10.0.0.1", "fd00::1"],
        });
        let mut new = old.clone();
        new["ipFamilyPolicy"] = json!("SingleStack");
        settle(&mut new, Some(&old), families).unwrap();
        assert_eq!(new["clusterIPs"], json!(["10.0.0.1"]));
        assert_eq!(new["ipFamilies"], json!(["IPv4"]));

        let mut new = old.clone();
        new["clusterIPs"] = json!(["10.0.0.1"]);
        assert_eq!(settle(&mut new, Some(&old), families).unwrap_err()[0].field, "spec.ipFamilyPolicy");
    }
}
