//! What extends the API: `admissionregistration.k8s.io`, `apiregistration.k8s.io`.

use serde_json::{Value, json};

use super::fields::{default, each, object, within};
use super::hooks::{Generation, Hooks, Names, PLAIN, STATUS_ALONE};
use super::row::{Row, cluster};
use super::{admissionpolicies, registration};
use crate::resource::Resource;

static VALIDATING_WEBHOOKS: Hooks = Hooks {
    generation: Generation::Counted,
    unconditional_update: false,
    default: |object| each(object, "webhooks", webhook),
    validate_create: registration::webhooks,
    validate_update: registration::webhooks_update,
    ..PLAIN
};

static MUTATING_WEBHOOKS: Hooks = Hooks {
    generation: Generation::Counted,
    unconditional_update: false,
    default: |object| {
        each(object, "webhooks", |entry| {
            webhook(entry);
            default(entry, "reinvocationPolicy", "Never");
        });
    },
    validate_create: registration::webhooks,
    validate_update: registration::webhooks_update,
    ..PLAIN
};

static POLICIES: Hooks = Hooks {
    generation: Generation::Counted,
    unconditional_update: false,
    default: |policy| {
        let spec = object(policy, "spec");
        default(spec, "failurePolicy", "Fail");
        within(spec, "matchConstraints", match_resources);
    },
    validate_create: admissionpolicies::policy,
    validate_update: admissionpolicies::policy_update,
    subresources: &[("status", STATUS_ALONE)],
    ..PLAIN
};

static POLICY_BINDINGS: Hooks = Hooks {
    generation: Generation::Counted,
    unconditional_update: false,
    default: |binding| within(object(binding, "spec"), "matchResources", match_resources),
    validate_create: admissionpolicies::binding,
    validate_update: |new, _| admissionpolicies::binding(new),
    ..PLAIN
};

static API_SERVICES: Hooks = Hooks {
    default: |service| within(object(service, "spec"), "service", |reference| default(reference, "port", 443)),
    names: Names::PathSegment,
    unconditional_update: false,
    validate_create: registration::api_service,
    validate_update: |new, _| registration::api_service(new),
    ..PLAIN
};

pub(super) fn admissionregistration() -> Vec<Resource> {
    let extension = |plural, kind, hooks| {
        cluster("admissionregistration.k8s.io", plural, kind).category("api-extensions").hooks(hooks)
    };
    vec![
        extension("mutatingadmissionpolicies", "MutatingAdmissionPolicy", &POLICIES),
        extension("mutatingadmissionpolicybindings", "MutatingAdmissionPolicyBinding", &POLICY_BINDINGS),
        extension("mutatingwebhookconfigurations", "MutatingWebhookConfiguration", &MUTATING_WEBHOOKS),
        extension("validatingadmissionpolicies", "ValidatingAdmissionPolicy", &POLICIES).status(),
        extension("validatingadmissionpolicybindings", "ValidatingAdmissionPolicyBinding", &POLICY_BINDINGS),
        extension("validatingwebhookconfigurations", "ValidatingWebhookConfiguration", &VALIDATING_WEBHOOKS),
    ]
}

pub(super) fn apiregistration() -> Vec<Resource> {
    vec![
        cluster("apiregistration.k8s.io", "apiservices", "APIService")
            .category("api-extensions")
            .status()
            .hooks(&API_SERVICES),
    ]
}

fn webhook(webhook: &mut Value) {
    default(webhook, "failurePolicy", "Fail");
    default(webhook, "timeoutSeconds", 10);
    match_resources(webhook);
    each(webhook, "rules", |rule| default(rule, "scope", "*"));
    within(webhook, "clientConfig", |config| {
        within(config, "service", |reference| default(reference, "port", 443));
    });
}

fn match_resources(constraints: &mut Value) {
    default(constraints, "matchPolicy", "Equivalent");
    default(constraints, "namespaceSelector", json!({}));
    default(constraints, "objectSelector", json!({}));
    for list in ["resourceRules", "excludeResourceRules"] {
        each(constraints, list, |rule| default(rule, "scope", "*"));
    }
}
