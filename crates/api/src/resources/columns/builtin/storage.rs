//! `storage.k8s.io` and `resource.k8s.io`.

use serde_json::Value;

use super::super::cells::or;
use super::{AGE, CREATED, Column, NAME, cells, column, integer, string};
use crate::resources::fields::{flag, items, text};

pub(super) fn columns(plural: &str) -> &'static [Column] {
    match plural {
        "storageclasses" => STORAGE_CLASSES,
        "csidrivers" => CSI_DRIVERS,
        "csinodes" => {
            const {
                &[
                    NAME,
                    integer("Drivers", "How many drivers the node has.", |object, _| {
                        items(&object["spec"], "drivers").len().into()
                    }),
                    AGE,
                ]
            }
        }
        "volumeattachments" => {
            const {
                &[
                    NAME,
                    string("Attacher", "The driver that attaches.", |object, _| {
                        text(&object["spec"], "attacher").into()
                    })
                    .named(),
                    string("PV", "The volume.", |object, _| {
                        text(&object["spec"]["source"], "persistentVolumeName").into()
                    }),
                    string("Node", "The node.", |object, _| text(&object["spec"], "nodeName").into()),
                    column("Attached", "boolean", "Whether the volume is attached.", |object, _| {
                        flag(&object["status"], "attached").into()
                    }),
                    AGE,
                ]
            }
        }
        "volumeattributesclasses" => {
            const {
                &[
                    NAME,
                    string("DriverName", "The driver of the class.", |object, _| text(object, "driverName").into()),
                    AGE,
                ]
            }
        }
        "deviceclasses" | "resourceclaimtemplates" => const { &[NAME, AGE] },
        "resourceclaims" => const { &[NAME, string("State", "How far the claim is.", cells::claim_state), AGE] },
        "resourceslices" => {
            const {
                &[
                    NAME,
                    string("Node", "The node that has the devices.", |object, _| {
                        text(&object["spec"], "nodeName").into()
                    }),
                    string("Driver", "The driver of the devices.", |object, _| text(&object["spec"], "driver").into()),
                    string("Pool", "The pool of the devices.", |object, _| {
                        text(&object["spec"]["pool"], "name").into()
                    }),
                    AGE,
                ]
            }
        }
        _ => CREATED,
    }
}

const STORAGE_CLASSES: &[Column] = &[
    string("Name", "The object's name.", |object, _| {
        let marks = ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
        cells::class_name(object, &marks)
    })
    .named(),
    string("Provisioner", "Who makes the volumes.", |object, _| text(object, "provisioner").into()),
    string("ReclaimPolicy", "What happens when a claim goes.", |object, _| {
        object["reclaimPolicy"].as_str().unwrap_or("Delete").into()
    }),
    string("VolumeBindingMode", "When volumes are bound.", |object, _| {
        object["volumeBindingMode"].as_str().unwrap_or("Immediate").into()
    }),
    string("AllowVolumeExpansion", "Whether volumes can grow.", |object, _| {
        flag(object, "allowVolumeExpansion").into()
    }),
    AGE,
];

const CSI_DRIVERS: &[Column] = &[
    NAME,
    column("AttachRequired", "boolean", "Whether volumes are attached before they are mounted.", |object, _| {
        object["spec"]["attachRequired"].as_bool().unwrap_or(true).into()
    }),
    column("PodInfoOnMount", "boolean", "Whether the driver is told of the pod.", |object, _| {
        flag(&object["spec"], "podInfoOnMount").into()
    }),
    column("StorageCapacity", "boolean", "Whether the driver tells how much room there is.", |object, _| {
        flag(&object["spec"], "storageCapacity").into()
    }),
    string("TokenRequests", "For whom tokens are made.", |object, _| match &object["spec"]["tokenRequests"] {
        Value::Null => "<unset>".into(),
        requests => {
            let requests = requests.as_array().into_iter().flatten();
            requests.map(|request| text(request, "audience")).collect::<Vec<_>>().join(",").into()
        }
    }),
    column("RequiresRepublish", "boolean", "Whether volumes are published again and again.", |object, _| {
        flag(&object["spec"], "requiresRepublish").into()
    }),
    string("Modes", "What the driver's volumes are for.", |object, _| {
        or(&cells::joined(items(&object["spec"], "volumeLifecycleModes")), "<none>").into()
    }),
    AGE,
];
