//! `networking.k8s.io` and `discovery.k8s.io`.

use super::{AGE, CREATED, Column, NAME, cells, string};
use crate::resources::fields::{items, text};

pub(super) fn columns(plural: &str) -> &'static [Column] {
    match plural {
        "ingresses" => INGRESSES,
        "ingressclasses" => {
            const {
                &[
                    string("Name", "The object's name.", |object, _| {
                        cells::class_name(object, &["ingressclass.kubernetes.io/is-default-class"])
                    })
                    .named(),
                    string("Controller", "Who serves the class.", |object, _| {
                        text(&object["spec"], "controller").into()
                    }),
                    string("Parameters", "The object that configures the class.", |object, _| {
                        let parameters = &object["spec"]["parameters"];
                        match (parameters.is_null(), parameters["apiGroup"].as_str()) {
                            (true, _) => "<none>".into(),
                            (_, Some(group)) => {
                                format!("{}.{group}/{}", text(parameters, "kind"), text(parameters, "name")).into()
                            }
                            (_, None) => format!("{}/{}", text(parameters, "kind"), text(parameters, "name")).into(),
                        }
                    }),
                    AGE,
                ]
            }
        }
        "networkpolicies" => {
            const {
                &[
                    NAME,
                    string("Pod-Selector", "Which pods the policy is for.", |object, _| {
                        cells::selector(&object["spec"]["podSelector"]).into()
                    }),
                    AGE,
                ]
            }
        }
        "ipaddresses" => const { &[NAME, string("ParentRef", "Whose address it is.", cells::address_parent)] },
        "servicecidrs" => {
            const {
                &[
                    NAME,
                    string("CIDRs", "The ranges of addresses.", |object, _| {
                        cells::joined(items(&object["spec"], "cidrs")).into()
                    }),
                    AGE,
                ]
            }
        }
        "endpointslices" => {
            const {
                &[
                    NAME,
                    string("AddressType", "The kind of the addresses.", |object, _| text(object, "addressType").into()),
                    string("Ports", "The first ports.", cells::slice_ports),
                    string("Endpoints", "The first addresses.", cells::slice_endpoints),
                    AGE,
                ]
            }
        }
        _ => CREATED,
    }
}

const INGRESSES: &[Column] = &[
    NAME,
    string("Class", "Who serves the ingress.", |object, _| {
        object["spec"]["ingressClassName"].as_str().unwrap_or("<none>").into()
    }),
    string("Hosts", "The hosts of the first rules.", cells::ingress_hosts),
    string("Address", "Where the ingress answers.", |object, _| cells::load_balancer(object).into()),
    string("Ports", "The ports it answers on.", |object, _| match items(&object["spec"], "tls") {
        [] => "80".into(),
        _ => "80, 443".into(),
    }),
    AGE,
];
