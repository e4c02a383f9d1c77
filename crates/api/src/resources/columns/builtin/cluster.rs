//! Who may do what, and how the cluster is run: RBAC, certificates, leases, classes, extensions, flow control.

use serde_json::Value;

use super::super::cells::or;
use super::{AGE, CREATED, Column, NAME, cells, column, duration, integer, string};
use crate::resources::fields::{flag, int, items, text};

pub(super) fn columns(plural: &str) -> &'static [Column] {
    match plural {
        "rolebindings" | "clusterrolebindings" => BINDINGS,
        "certificatesigningrequests" => SIGNING_REQUESTS,
        "leases" => {
            const {
                &[
                    NAME,
                    string("Holder", "Who holds the lease.", |object, _| {
                        text(&object["spec"], "holderIdentity").into()
                    }),
                    AGE,
                ]
            }
        }
        "priorityclasses" => {
            const {
                &[
                    NAME,
                    integer("Value", "The priority.", |object, _| int(object, "value").into()),
                    column("Global-Default", "boolean", "Whether pods without a class have it.", |object, _| {
                        flag(object, "globalDefault").into()
                    }),
                    AGE,
                    string("PreemptionPolicy", "Whether such pods displace others.", |object, _| {
                        text(object, "preemptionPolicy").into()
                    }),
                ]
            }
        }
        "runtimeclasses" => {
            const {
                &[
                    NAME,
                    string("Handler", "The runtime's name for it.", |object, _| text(object, "handler").into()),
                    AGE,
                ]
            }
        }
        "mutatingwebhookconfigurations" | "validatingwebhookconfigurations" => {
            const {
                &[
                    NAME,
                    integer("Webhooks", "How many webhooks there are.", |object, _| {
                        items(object, "webhooks").len().into()
                    }),
                    AGE,
                ]
            }
        }
        "validatingadmissionpolicies" => {
            const {
                &[
                    NAME,
                    integer("Validations", "How many rules there are.", |object, _| {
                        items(&object["spec"], "validations").len().into()
                    }),
                    string("ParamKind", "The kind of the parameters.", cells::param_kind),
                    AGE,
                ]
            }
        }
        "mutatingadmissionpolicies" => {
            const {
                &[
                    NAME,
                    integer("Mutations", "How many changes there are.", |object, _| {
                        items(&object["spec"], "mutations").len().into()
                    }),
                    string("ParamKind", "The kind of the parameters.", cells::param_kind),
                    AGE,
                ]
            }
        }
        "validatingadmissionpolicybindings" | "mutatingadmissionpolicybindings" => {
            const {
                &[
                    NAME,
                    string("PolicyName", "The policy that is bound.", |object, _| {
                        text(&object["spec"], "policyName").into()
                    }),
                    string("ParamRef", "The parameters.", cells::policy_param),
                    AGE,
                ]
            }
        }
        "flowschemas" => FLOW_SCHEMAS,
        "prioritylevelconfigurations" => PRIORITY_LEVELS,
        "apiservices" => {
            const {
                &[
                    NAME,
                    string("Service", "Who serves the group version.", cells::api_service_backend),
                    string("Available", "Whether it is served.", cells::api_service_available),
                    AGE,
                ]
            }
        }
        _ => CREATED,
    }
}

const BINDINGS: &[Column] = &[
    NAME,
    string("Role", "The role that is given.", |object, _| {
        format!("{}/{}", text(&object["roleRef"], "kind"), text(&object["roleRef"], "name")).into()
    }),
    AGE,
    string("Users", "The users that have it.", |object, _| cells::subjects(object, "User")).wide(),
    string("Groups", "The groups that have it.", |object, _| cells::subjects(object, "Group")).wide(),
    string("ServiceAccounts", "The service accounts that have it.", |object, _| {
        cells::subjects(object, "ServiceAccount")
    })
    .wide(),
];

const SIGNING_REQUESTS: &[Column] = &[
    NAME,
    AGE,
    string("SignerName", "Who is to sign.", |object, _| or(text(&object["spec"], "signerName"), "<none>").into()),
    string("Requestor", "Who asks.", |object, _| text(&object["spec"], "username").into()),
    string("RequestedDuration", "For how long.", |object, _| match object["spec"]["expirationSeconds"].as_i64() {
        Some(seconds) => duration::human(seconds).into(),
        None => "<none>".into(),
    }),
    string("Condition", "How far the request is.", cells::csr_condition),
];

const FLOW_SCHEMAS: &[Column] = &[
    NAME,
    string("PriorityLevel", "The level of matching requests.", |object, _| {
        text(&object["spec"]["priorityLevelConfiguration"], "name").into()
    }),
    string("MatchingPrecedence", "Which schema comes first.", |object, _| {
        int(&object["spec"], "matchingPrecedence").into()
    }),
    string("DistinguisherMethod", "What tells flows apart.", |object, _| {
        or(text(&object["spec"]["distinguisherMethod"], "type"), "<none>").into()
    }),
    AGE,
    string("MissingPL", "Whether the level is missing.", |object, _| {
        cells::condition(object, "Dangling").map_or("?", |condition| text(condition, "status")).into()
    }),
];

const PRIORITY_LEVELS: &[Column] = &[
    NAME,
    string("Type", "Exempt or Limited.", |object, _| text(&object["spec"], "type").into()),
    string("NominalConcurrencyShares", "The level's share of the server.", |object, _| {
        number_or_none(&object["spec"]["limited"]["nominalConcurrencyShares"])
    }),
    string("Queues", "How many queues there are.", |object, _| number_or_none(&queuing(object)["queues"])),
    string("HandSize", "How many queues a flow is dealt.", |object, _| number_or_none(&queuing(object)["handSize"])),
    string("QueueLengthLimit", "How many requests may wait in a queue.", |object, _| {
        number_or_none(&queuing(object)["queueLengthLimit"])
    }),
    AGE,
];

fn queuing(level: &Value) -> &Value {
    &level["spec"]["limited"]["limitResponse"]["queuing"]
}

fn number_or_none(value: &Value) -> Value {
    if value.is_null() { "<none>".into() } else { value.clone() }
}
