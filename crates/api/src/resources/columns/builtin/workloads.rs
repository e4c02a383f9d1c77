//! `apps`, `batch`, `autoscaling`, `policy`.

use serde_json::Value;

use super::{AGE, CONTAINERS, CREATED, Column, IMAGES, NAME, SELECTOR, cells, column, duration, hpa, integer, string};
use crate::resources::fields::{int, items, text};

pub(super) fn columns(plural: &str) -> &'static [Column] {
    match plural {
        "deployments" => DEPLOYMENTS,
        "replicasets" => REPLICA_SETS,
        "daemonsets" => DAEMON_SETS,
        "statefulsets" => {
            const { &[NAME, string("Ready", "How many of the pods are ready.", ready_of_replicas), AGE, CONTAINERS, IMAGES] }
        }
        "controllerrevisions" => {
            const {
                &[
                    NAME,
                    string("Controller", "Whose revision it is.", cells::revision_controller),
                    string("Revision", "The revision's number.", |object, _| int(object, "revision").into()),
                    AGE,
                ]
            }
        }
        "jobs" => {
            const {
                &[
                    NAME,
                    string("Status", "How the job is, in a word.", cells::job_status),
                    string("Completions", "How many of the pods have succeeded.", cells::job_completions),
                    string("Duration", "How long the job took, or has taken.", cells::job_duration),
                    AGE,
                    CONTAINERS,
                    IMAGES,
                    SELECTOR,
                ]
            }
        }
        "cronjobs" => CRON_JOBS,
        "horizontalpodautoscalers" => AUTOSCALERS,
        "poddisruptionbudgets" => {
            const {
                &[
                    NAME,
                    string("Min Available", "How many pods must stay.", |object, _| {
                        int_or_text(&object["spec"]["minAvailable"])
                    }),
                    string("Max Unavailable", "How many pods may go.", |object, _| {
                        int_or_text(&object["spec"]["maxUnavailable"])
                    }),
                    integer("Allowed Disruptions", "How many pods may go now.", |object, _| {
                        int(&object["status"], "disruptionsAllowed").into()
                    }),
                    AGE,
                ]
            }
        }
        _ => CREATED,
    }
}

fn int_or_text(value: &Value) -> Value {
    match value {
        Value::Null => "N/A".into(),
        Value::Number(number) => number.to_string().into(),
        other => other.clone(),
    }
}

fn ready_of_replicas(object: &Value, _: jiff::Timestamp) -> Value {
    format!("{}/{}", int(&object["status"], "readyReplicas"), int(&object["spec"], "replicas")).into()
}

const DEPLOYMENTS: &[Column] = &[
    NAME,
    string("Ready", "How many of the pods are ready.", ready_of_replicas),
    string("Up-to-date", "How many pods follow the template.", |object, _| {
        int(&object["status"], "updatedReplicas").into()
    }),
    string("Available", "How many pods have been ready long enough.", |object, _| {
        int(&object["status"], "availableReplicas").into()
    }),
    AGE,
    CONTAINERS,
    IMAGES,
    string("Selector", "Which pods the object selects.", |object, _| {
        cells::selector_text(&object["spec"]["selector"]).into()
    })
    .wide(),
];

const REPLICA_SETS: &[Column] = &[
    NAME,
    integer("Desired", "How many pods there should be.", |object, _| int(&object["spec"], "replicas").into()),
    integer("Current", "How many pods there are.", |object, _| int(&object["status"], "replicas").into()),
    integer("Ready", "How many pods are ready.", |object, _| int(&object["status"], "readyReplicas").into()),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

const DAEMON_SETS: &[Column] = &[
    NAME,
    integer("Desired", "On how many nodes a pod should run.", |object, _| {
        int(&object["status"], "desiredNumberScheduled").into()
    }),
    integer("Current", "On how many of these a pod is.", |object, _| {
        int(&object["status"], "currentNumberScheduled").into()
    }),
    integer("Ready", "How many pods are ready.", |object, _| int(&object["status"], "numberReady").into()),
    integer("Up-to-date", "How many pods follow the template.", |object, _| {
        int(&object["status"], "updatedNumberScheduled").into()
    }),
    integer("Available", "How many pods have been ready long enough.", |object, _| {
        int(&object["status"], "numberAvailable").into()
    }),
    string("Node Selector", "Which nodes it runs on.", |object, _| {
        cells::labels(&object["spec"]["template"]["spec"]["nodeSelector"]).into()
    }),
    AGE,
    CONTAINERS,
    IMAGES,
    SELECTOR,
];

const CRON_JOBS: &[Column] = &[
    NAME,
    string("Schedule", "When jobs start.", |object, _| text(&object["spec"], "schedule").into()),
    string("Timezone", "Whose time the schedule tells.", |object, _| {
        object["spec"]["timeZone"].as_str().unwrap_or("<none>").into()
    }),
    column("Suspend", "boolean", "Whether no jobs are started.", |object, _| {
        match object["spec"]["suspend"].as_bool() {
            Some(true) => "True".into(),
            Some(false) => "False".into(),
            None => "<unset>".into(),
        }
    }),
    integer("Active", "How many jobs are running.", |object, _| items(&object["status"], "active").len().into()),
    string("Last Schedule", "How long ago a job was last started.", |object, now| {
        match object["status"]["lastScheduleTime"].is_null() {
            true => "<none>".into(),
            false => duration::since(&object["status"]["lastScheduleTime"], now).into(),
        }
    }),
    AGE,
    string("Containers", "The names of the template's containers.", |object, _| {
        cells::containers(&object["spec"]["jobTemplate"]["spec"]["template"], "name")
    })
    .wide(),
    string("Images", "The images of the template's containers.", |object, _| {
        cells::containers(&object["spec"]["jobTemplate"]["spec"]["template"], "image")
    })
    .wide(),
    string("Selector", "Which pods the jobs select.", |object, _| {
        cells::selector(&object["spec"]["jobTemplate"]["spec"]["selector"]).into()
    })
    .wide(),
];

const AUTOSCALERS: &[Column] = &[
    NAME,
    string("Reference", "What is scaled.", |object, _| {
        let target = &object["spec"]["scaleTargetRef"];
        format!("{}/{}", text(target, "kind"), text(target, "name")).into()
    }),
    string("Targets", "What the metrics are, and should be.", hpa::targets),
    string("MinPods", "The least number of pods.", |object, _| match &object["spec"]["minReplicas"] {
        Value::Number(number) => number.to_string().into(),
        _ => "<unset>".into(),
    }),
    string("MaxPods", "The largest number of pods.", |object, _| int(&object["spec"], "maxReplicas").into()),
    string("Replicas", "How many pods there are.", |object, _| int(&object["status"], "currentReplicas").into()),
    AGE,
];
