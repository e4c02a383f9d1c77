//! `certificates.k8s.io`: requests for certificates, their approval, and what signers answer
//! (`k8s.io/kubernetes/pkg/apis/certificates/validation`, `pkg/registry/certificates/certificates`).
//!
//! Who asks is the API server's to say, and that the request's signature holds, which takes cryptography. Times of
//! conditions that a client leaves out are filled in there as well, because hooks know no clock.

use std::collections::BTreeSet;

use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use serde_json::{Value, json};

use super::fields::{items, object, text};
use super::hooks::{Hooks, Names, PLAIN, STATUS, SubresourceHooks};
use super::strategy::{keep, keep_all_but_status, remove};
use crate::field_path::Path;
use crate::names;
use crate::status::Cause;
use crate::validation::{Errors, quote};

/// Who asks, and for what, is written once.
pub(super) static SIGNING_REQUESTS: Hooks = Hooks {
    names: Names::Anything,
    fixed_spec: true,
    prepare_update: |new, old| {
        keep(new, old, "spec");
        keep(new, old, "status");
    },
    validate_create: |request| checked(request, None),
    validate_update: |new, old| updated(new, old, By::Object),
    subresources: &[
        (
            "status",
            SubresourceHooks {
                prepare: prepare_status,
                validate: |new, old| updated(new, old, By::Status),
                resets: &[&["spec"], &["status", "conditions"]],
                ..STATUS
            },
        ),
        (
            "approval",
            SubresourceHooks {
                prepare: prepare_approval,
                validate: |new, old| updated(new, old, By::Approval),
                resets: &[&["spec"], &["status", "certificate"]],
                ..STATUS
            },
        ),
    ],
    ..PLAIN
};

/// By which path a request is written: each may write its own part of the status.
#[derive(Clone, Copy, PartialEq)]
enum By {
    Object,
    Status,
    Approval,
}

const USAGES: [&str; 23] = [
    "any",
    "cert sign",
    "client auth",
    "code signing",
    "content commitment",
    "crl sign",
    "data encipherment",
    "decipher only",
    "digital signature",
    "email protection",
    "encipher only",
    "ipsec end system",
    "ipsec tunnel",
    "ipsec user",
    "key agreement",
    "key encipherment",
    "microsoft sgc",
    "netscape sgc",
    "ocsp signing",
    "s/mime",
    "server auth",
    "signing",
    "timestamping",
];

/// What a decision says; it holds or is not there.
const DECISIONS: [&str; 3] = ["Approved", "Denied", "Failed"];
const LEGACY_SIGNER: &str = "kubernetes.io/legacy-unknown";

/// Approval is not the signer's to change, only to leave as it was.
fn prepare_status(new: &mut Value, old: &Value) {
    keep_all_but_status(new, old);
    for kind in ["Approved", "Denied"] {
        let was = of_kind(old, kind);
        if was.len() != of_kind(new, kind).len() {
            // Validation refuses what was added or removed.
            continue;
        }
        let conditions = new.pointer_mut("/status/conditions").and_then(Value::as_array_mut);
        let now = conditions.into_iter().flatten().filter(|condition| condition["type"] == kind);
        for (condition, was) in now.zip(was) {
            *condition = was.clone();
        }
    }
}

/// Of the status, an approval writes the conditions.
fn prepare_approval(new: &mut Value, old: &Value) {
    let conditions = new.pointer("/status/conditions").filter(|conditions| !conditions.is_null()).cloned();
    keep_all_but_status(new, old);
    keep(new, old, "status");
    match conditions {
        None => remove(object(new, "status"), "conditions"),
        Some(conditions) => object(new, "status")["conditions"] = conditions,
    }
}

fn of_kind<'a>(request: &'a Value, kind: &str) -> Vec<&'a Value> {
    items(&request["status"], "conditions").iter().filter(|condition| condition["type"] == kind).collect()
}

/// What is wrong with a request; faults that the stored one has already are let pass.
fn checked(request: &Value, old: Option<&Value>) -> Vec<Cause> {
    let mut errors = Errors::new();
    let (spec, path) = (&request["spec"], Path::root("spec"));
    if pem_label(text(spec, "request")).as_deref() != Some("CERTIFICATE REQUEST") {
        let detail = "PEM block type must be CERTIFICATE REQUEST";
        errors.invalid(&path.child("request"), spec["request"].clone(), detail);
    }
    usages(&mut errors, spec, old.map(|old| &old["spec"]), &path.child("usages"));
    let (signer, at) = (text(spec, "signerName"), path.child("signerName"));
    let legacy = old.is_some_and(|old| text(&old["spec"], "signerName") == LEGACY_SIGNER);
    if signer == LEGACY_SIGNER && !legacy {
        errors.invalid(&at, signer, "the legacy signerName is not allowed via this API version");
    } else {
        signer_name(&mut errors, signer, &at);
    }
    if let Some(seconds) = spec["expirationSeconds"].as_i64().filter(|seconds| *seconds < 600) {
        let detail = "may not specify a duration less than 600 seconds (10 minutes)";
        errors.invalid(&path.child("expirationSeconds"), seconds, detail);
    }
    conditions(&mut errors, request, old);
    let certificate = text(&request["status"], "certificate");
    let stands = old.is_some_and(|old| text(&old["status"], "certificate") == certificate);
    if !stands && !certificate.is_empty() && pem_label(certificate).as_deref() != Some("CERTIFICATE") {
        let path = Path::root("status");
        let detail = match pem_label(certificate) {
            None => "must contain at least one CERTIFICATE PEM block".to_owned(),
            Some(label) => format!("only CERTIFICATE PEM blocks are allowed, found {}", quote(&label)),
        };
        errors.invalid(&path.child("certificate"), "<certificate data>", &detail);
    }
    errors.into_causes()
}

/// The label of the first PEM block in a field of bytes.
fn pem_label(encoded: &str) -> Option<String> {
    let text = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (_, rest) = text.split_once("-----BEGIN ")?;
    let (label, body) = rest.split_once("-----")?;
    body.contains(&format!("-----END {label}-----")).then(|| label.to_owned())
}

fn usages(errors: &mut Errors, spec: &Value, old: Option<&Value>, path: &Path<'_>) {
    let usages = items(spec, "usages");
    if usages.is_empty() {
        errors.required(path, "");
    }
    if old.is_some_and(|old| old["usages"] == spec["usages"]) {
        return;
    }
    for (at, usage) in usages.iter().enumerate() {
        if !USAGES.contains(&usage.as_str().unwrap_or_default()) {
            errors.not_supported(&path.index(at), usage.clone(), &USAGES);
        }
    }
    for (at, usage) in usages.iter().enumerate().filter(|(at, usage)| usages[..*at].contains(usage)) {
        errors.duplicate(&path.index(at), usage.clone());
    }
}

/// `domain/path`, of which the domain has two labels at least (upstream's `ValidateSignerName`).
fn signer_name(errors: &mut Errors, name: &str, path: &Path<'_>) {
    if name.is_empty() {
        return errors.required(path, "");
    }
    let segments: Vec<&str> = name.split('/').collect();
    let [domain, rest] = segments.as_slice() else {
        let detail = "must be a fully qualified domain and path of the form 'example.com/signer-name'";
        return errors.invalid(path, name, detail);
    };
    if domain.len() > 253 {
        errors.too_long(path, 253);
    }
    labels_of_signer(errors, domain, names::dns_label, path);
    if domain.split('.').count() < 2 {
        errors.invalid(path, *domain, "should be a domain with at least two segments separated by dots");
    }
    labels_of_signer(errors, rest, names::dns_subdomain, path);
    const MOST: usize = 571;
    if name.len() > MOST {
        errors.too_long(path, MOST);
    }
}

/// Speaks of the first label that is wrong: of the others clients would hear the same.
fn labels_of_signer(errors: &mut Errors, segment: &str, check: fn(&str) -> Vec<String>, path: &Path<'_>) {
    let wrong = segment.split('.').map(|label| (label, check(label))).find(|(_, wrong)| !wrong.is_empty());
    for (label, why) in wrong.into_iter().flat_map(|(label, wrong)| wrong.into_iter().map(move |why| (label, why))) {
        errors.invalid(path, segment, &format!("validating label {}: {why}", quote(label)));
    }
}

fn conditions(errors: &mut Errors, request: &Value, old: Option<&Value>) {
    let path = Path::root("status");
    let path = path.child("conditions");
    let list = items(&request["status"], "conditions");
    let had = |fault: fn(&[Value]) -> bool| old.is_some_and(|old| fault(items(&old["status"], "conditions")));
    let (unnamed, repeated, torn) = (had(has_unnamed), had(has_repeated), had(has_both));
    for (at, condition) in list.iter().enumerate() {
        let (path, kind, status) = (path.index(at), text(condition, "type"), text(condition, "status"));
        if kind.is_empty() && !unnamed {
            errors.required(&path.child("type"), "");
        }
        let allowed: &[&str] = if DECISIONS.contains(&kind) { &["True"] } else { &["False", "True", "Unknown"] };
        match status {
            "" => errors.required(&path.child("status"), ""),
            status if !allowed.contains(&status) => {
                errors.not_supported(&path.child("status"), status, allowed);
            }
            _ => {}
        }
        let other = match kind {
            "Approved" => "Denied",
            "Denied" => "Approved",
            _ => "",
        };
        if !torn && !other.is_empty() && list[..at].iter().any(|earlier| earlier["type"] == other) {
            let path = Path::root("status");
            let detail = "Approved and Denied conditions are mutually exclusive";
            errors.invalid(&path.child("conditions"), kind, detail);
        }
        if !repeated && list[..at].iter().any(|earlier| text(earlier, "type") == kind) {
            errors.duplicate(&path.child("type"), kind);
        }
    }
}

fn has_unnamed(conditions: &[Value]) -> bool {
    conditions.iter().any(|condition| text(condition, "type").is_empty())
}

fn has_repeated(conditions: &[Value]) -> bool {
    let kinds: BTreeSet<&str> = conditions.iter().map(|condition| text(condition, "type")).collect();
    kinds.len() < conditions.len()
}

fn has_both(conditions: &[Value]) -> bool {
    ["Approved", "Denied"].iter().all(|kind| conditions.iter().any(|condition| condition["type"] == **kind))
}

fn updated(new: &Value, old: &Value, by: By) -> Vec<Cause> {
    let mut causes = checked(new, Some(old));
    let mut errors = Errors::new();
    let path = Path::root("status");
    let at = path.child("conditions");
    for kind in DECISIONS {
        if of_kind(new, kind).len() < of_kind(old, kind).len() {
            errors.forbidden(&at, &format!("updates may not remove a condition of type {}", quote(kind)));
        }
    }
    for kind in ["Approved", "Denied"] {
        let (now, was) = (of_kind(new, kind), of_kind(old, kind));
        if by == By::Approval || now.len() < was.len() {
            continue;
        }
        if now.len() > was.len() {
            errors.forbidden(&at, &format!("updates may not add a condition of type {}", quote(kind)));
        } else if now != was {
            let detail = format!(
                "updates may not modify a condition of type {}\n- {}\n+ {}\n",
                quote(kind),
                json!(was),
                json!(now)
            );
            errors.forbidden(&at, &detail);
        }
    }
    let (now, was) = (text(&new["status"], "certificate"), text(&old["status"], "certificate"));
    if now != was {
        let at = path.child("certificate");
        match by {
            By::Status if was.is_empty() => {}
            By::Status => errors.forbidden(&at, "updates may not modify existing certificate content"),
            _ => errors.forbidden(&at, "updates may not set certificate content"),
        }
    }
    causes.extend(errors.into_causes());
    causes
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(conditions: Value) -> Value {
        let pem =
            BASE64_STANDARD.encode("-----BEGIN CERTIFICATE REQUEST-----\nAA==\n-----END CERTIFICATE REQUEST-----\n");
        json!({
            "spec": {"request": pem, "usages": ["client auth"], "signerName": "example.com/own"},
            "status": {"conditions": conditions},
        })
    }

    fn fields(causes: &[Cause]) -> Vec<&str> {
        causes.iter().map(|cause| cause.field.as_str()).collect()
    }

    #[test]
    fn a_request_says_what_it_asks_for() {
        assert_eq!(fields(&checked(&json!({}), None)), ["spec.request", "spec.usages", "spec.signerName"]);
        let mut request = request(json!([]));
        assert_eq!(checked(&request, None), []);
        request["spec"]["usages"] = json!(["client auth", "dancing", "client auth"]);
        request["spec"]["signerName"] = json!("own");
        assert_eq!(fields(&checked(&request, None)), ["spec.usages[1]", "spec.usages[2]", "spec.signerName"]);
    }

    #[test]
    fn only_an_approval_approves() {
        let condition = |kind: &str, why: &str| json!({"type": kind, "status": "True", "reason": why});
        let (open, approved) = (request(json!([])), request(json!([condition("Approved", "a")])));
        assert_eq!(updated(&approved, &open, By::Approval), []);
        assert_eq!(fields(&updated(&approved, &open, By::Status)), ["status.conditions"]);
        assert_eq!(fields(&updated(&open, &approved, By::Approval)), ["status.conditions"]);
        let both = request(json!([condition("Approved", "a"), condition("Denied", "a")]));
        assert_eq!(fields(&updated(&both, &approved, By::Approval)), ["status.conditions"]);
        let mut changed = request(json!([condition("Approved", "b")]));
        prepare_status(&mut changed, &approved);
        assert_eq!(changed, approved);
    }

    #[test]
    fn a_certificate_is_given_once() {
        let open = request(json!([]));
        let with = |text: &str| {
            let mut request = open.clone();
            let pem = format!("-----BEGIN CERTIFICATE-----\n{text}\n-----END CERTIFICATE-----\n");
            request["status"]["certificate"] = json!(BASE64_STANDARD.encode(pem));
            request
        };
        assert_eq!(updated(&with("AA=="), &open, By::Status), []);
        assert_eq!(fields(&updated(&with("AA=="), &open, By::Approval)), ["status.certificate"]);
        assert_eq!(fields(&updated(&with("AA=="), &with("BB=="), By::Status)), ["status.certificate"]);
    }
}
