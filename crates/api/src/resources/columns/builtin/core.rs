//! The core group.

use serde_json::Value;

use super::super::cells::or;
use super::{AGE, CONTAINERS, CREATED, Column, IMAGES, NAME, cells, integer, pod, string};
use crate::resources::fields::{int, items, text};

pub(super) fn columns(plural: &str) -> &'static [Column] {
    match plural {
        "pods" => PODS,
        "services" => SERVICES,
        "nodes" => NODES,
        "events" => EVENTS,
        "persistentvolumes" => VOLUMES,
        "persistentvolumeclaims" => CLAIMS,
        "replicationcontrollers" => REPLICATION_CONTROLLERS,
        "namespaces" => {
            const {
                &[
                    NAME,
                    string("Status", "Whether the namespace is in use or being deleted.", |object, _| {
                        text(&object["status"], "phase").into()
                    }),
                    AGE,
                ]
            }
        }
        "configmaps" => {
            const {
                &[
                    NAME,
                    string("Data", "How many keys there are.", |object, _| {
                        (size(&object["data"]) + size(&object["binaryData"])).into()
                    }),
                    AGE,
                ]
            }
        }
        "secrets" => {
            const {
                &[
                    NAME,
                    string("Type", "What the secret is for.", |object, _| text(object, "type").into()),
                    string("Data", "How many keys there are.", |object, _| size(&object["data"]).into()),
                    AGE,
                ]
            }
        }
        "serviceaccounts" => const { &[NAME, AGE] },
        "endpoints" => const { &[NAME, string("Endpoints", "The first addresses and ports.", cells::endpoints), AGE] },
        "resourcequotas" => {
            const {
                &[
                    NAME,
                    string("Request", "Used and allowed amounts.", |object, _| cells::quota(object, false)),
                    string("Limit", "Used and allowed limits.", |object, _| cells::quota(object, true)),
                    AGE,
                ]
            }
        }
        "podtemplates" => {
            const {
                &[
                    NAME,
                    string("Containers", "The names of the containers.", |object, _| {
                        cells::containers(&object["template"], "name")
                    }),
                    string("Images", "The images of the containers.", |object, _| {
                        cells::containers(&object["template"], "image")
                    }),
                    string("Pod Labels", "The labels of the pods.", |object, _| {
                        cells::labels(&object["template"]["metadata"]["labels"]).into()
                    }),
                ]
            }
        }
        "componentstatuses" => COMPONENT_STATUSES,
        _ => CREATED,
    }
}

fn size(map: &Value) -> usize {
    map.as_object().map_or(0, serde_json::Map::len)
}

const PODS: &[Column] = &[
    NAME,
    string("Ready", "How many of the containers are ready.", pod::ready),
    string("Status", "How the pod is, in a word.", pod::status),
    string("Restarts", "How often containers were restarted, and when last.", pod::restarts),
    AGE,
    string("IP", "The pod's address.", |object, _| {
        or(items(&object["status"], "podIPs").first().map_or("", |ip| text(ip, "ip")), "<none>").into()
    })
    .wide(),
    string("Node", "The node that runs the pod.", |object, _| or(text(&object["spec"], "nodeName"), "<none>").into())
        .wide(),
    string("Nominated Node", "The node on which room is being made for the pod.", |object, _| {
        or(text(&object["status"], "nominatedNodeName"), "<none>").into()
    })
    .wide(),
    string("Readiness Gates", "How many of the further conditions hold.", pod::readiness_gates).wide(),
];

const SERVICES: &[Column] = &[
    NAME,
    string("Type", "How the service is reached.", |object, _| text(&object["spec"], "type").into()),
    string("Cluster-IP", "The service's address within the cluster.", |object, _| {
        let first = items(&object["spec"], "clusterIPs").first().and_then(Value::as_str);
        first.unwrap_or("<none>").into()
    }),
    string("External-IP", "Where the service answers from outside.", cells::service_external_ip),
    string("Port(s)", "Ports, with their node ports.", cells::service_ports),
    AGE,
    string("Selector", "Which pods serve.", |object, _| cells::labels(&object["spec"]["selector"]).into()).wide(),
];

const NODES: &[Column] = &[
    NAME,
    string("Status", "Whether the node takes pods.", cells::node_status),
    string("Roles", "The roles that the node's labels give it.", cells::node_roles),
    AGE,
    string("Version", "The kubelet's version.", |object, _| {
        text(&object["status"]["nodeInfo"], "kubeletVersion").into()
    }),
    string("Internal-IP", "The node's address within the cluster.", |object, _| {
        cells::node_address(object, "InternalIP")
    })
    .wide(),
    string("External-IP", "The node's address outside.", |object, _| cells::node_address(object, "ExternalIP")).wide(),
    string("OS-Image", "The operating system.", |object, _| {
        or(text(&object["status"]["nodeInfo"], "osImage"), "<unknown>").into()
    })
    .wide(),
    string("Kernel-Version", "The kernel, and the processor's architecture.", cells::node_kernel).wide(),
    string("Container-Runtime", "The container runtime.", |object, _| {
        or(text(&object["status"]["nodeInfo"], "containerRuntimeVersion"), "<unknown>").into()
    })
    .wide(),
];

const EVENTS: &[Column] = &[
    string("Last Seen", "How long ago it last happened.", cells::event_last_seen),
    string("Type", "Normal or Warning.", |event, _| text(event, "type").into()),
    string("Reason", "What happened, in a word.", |event, _| text(event, "reason").into()),
    string("Object", "What it happened to.", cells::event_object),
    string("Subobject", "The part of the object.", |event, _| text(&event["involvedObject"], "fieldPath").into())
        .wide(),
    string("Source", "Who says so.", cells::event_source).wide(),
    string("Message", "What happened, in a sentence.", |event, _| text(event, "message").trim().into()),
    string("First Seen", "How long ago it first happened.", cells::event_first_seen).wide(),
    string("Count", "How often it happened.", cells::event_count).wide(),
    NAME.wide(),
];

const VOLUMES: &[Column] = &[
    NAME,
    string("Capacity", "The size of the volume.", |object, _| {
        or(text(&object["spec"]["capacity"], "storage"), "0").into()
    }),
    string("Access Modes", "How the volume may be mounted.", |object, _| {
        cells::access_modes(items(&object["spec"], "accessModes")).into()
    }),
    string("Reclaim Policy", "What happens when the claim goes.", |object, _| {
        text(&object["spec"], "persistentVolumeReclaimPolicy").into()
    }),
    string("Status", "Whether the volume is bound.", cells::phase),
    string("Claim", "The claim it is bound to.", |object, _| {
        let claim = &object["spec"]["claimRef"];
        match claim.is_null() {
            true => "".into(),
            false => format!("{}/{}", text(claim, "namespace"), text(claim, "name")).into(),
        }
    }),
    string("StorageClass", "The class of the volume.", cells::storage_class),
    string("VolumeAttributesClass", "The class of the volume's attributes.", attributes_class),
    string("Reason", "Why the volume is in this state.", |object, _| text(&object["status"], "reason").into()),
    AGE,
    VOLUME_MODE,
];

const CLAIMS: &[Column] = &[
    NAME,
    string("Status", "Whether the claim is bound.", cells::phase),
    string("Volume", "The volume it is bound to.", |object, _| text(&object["spec"], "volumeName").into()),
    string("Capacity", "The size of the volume.", |object, _| match text(&object["spec"], "volumeName") {
        "" => "".into(),
        _ => or(text(&object["status"]["capacity"], "storage"), "0").into(),
    }),
    string("Access Modes", "How the volume may be mounted.", |object, _| match text(&object["spec"], "volumeName") {
        "" => "".into(),
        _ => cells::access_modes(items(&object["status"], "accessModes")).into(),
    }),
    string("StorageClass", "The class that is asked for.", cells::storage_class),
    string("VolumeAttributesClass", "The class of the volume's attributes.", attributes_class),
    AGE,
    VOLUME_MODE,
];

const VOLUME_MODE: Column = string("VolumeMode", "Filesystem or Block.", |object, _| {
    object["spec"]["volumeMode"].as_str().unwrap_or("<unset>").into()
})
.wide();

fn attributes_class(object: &Value, _: jiff::Timestamp) -> Value {
    object["spec"]["volumeAttributesClassName"].as_str().unwrap_or("<unset>").into()
}

const REPLICATION_CONTROLLERS: &[Column] = &[
    NAME,
    integer("Desired", "How many pods there should be.", |object, _| int(&object["spec"], "replicas").into()),
    integer("Current", "How many pods there are.", |object, _| int(&object["status"], "replicas").into()),
    integer("Ready", "How many pods are ready.", |object, _| int(&object["status"], "readyReplicas").into()),
    AGE,
    CONTAINERS,
    IMAGES,
    string("Selector", "Which pods the object selects.", |object, _| cells::labels(&object["spec"]["selector"]).into())
        .wide(),
];

const COMPONENT_STATUSES: &[Column] = &[
    NAME,
    string("Status", "Whether the component answers.", |object, _| {
        match items(object, "conditions").iter().find(|condition| condition["type"] == "Healthy") {
            Some(condition) if condition["status"] == "True" => "Healthy".into(),
            Some(_) => "Unhealthy".into(),
            None => "Unknown".into(),
        }
    }),
    string("Message", "What the component says.", |object, _| healthy(object, "message")),
    string("Error", "Why the component could not be asked.", |object, _| healthy(object, "error")),
];

fn healthy(component: &Value, field: &str) -> Value {
    let condition = items(component, "conditions").iter().find(|condition| condition["type"] == "Healthy");
    condition.map_or("", |condition| text(condition, field)).into()
}
