use client::testing::FakeCluster;
use client::typed::resource_of;
use serde_json::{Value, json};

use super::*;
use crate::testing::{Harness, eventually};

fn job(spec: Value) -> Value {
    let mut spec = spec;
    spec["selector"] = json!({"matchLabels": {"job": "it"}});
    spec["template"] = json!({"metadata": {"labels": {"job": "it"}},
        "spec": {"restartPolicy": "Never", "containers": [{"name": "c", "image": "i"}]}});
    json!({"metadata": {"namespace": "shop", "name": "it"}, "spec": spec})
}

fn status(cluster: &FakeCluster) -> Value {
    cluster.get(&resource_of::<Job>(), &ObjectKey::new("shop", "it")).unwrap()["status"].clone()
}

/// Plays kubelet: pods that have not ended do so, in their order, as the letters of `ends` say.
fn end_pods(cluster: &FakeCluster, ends: &str) {
    let mut ends = ends.chars();
    for mut pod in cluster.list(&resource_of::<Pod>()) {
        if pod["status"]["phase"].is_null() {
            let phase = match ends.next() {
                Some('s') => "Succeeded",
                Some('f') => "Failed",
                _ => continue,
            };
            pod["status"] = json!({"phase": phase, "containerStatuses": [{"name": "c", "image": "i", "imageID": "", "ready": false,
                "restartCount": 0, "state": {"terminated": {"exitCode": i32::from(phase == "Failed"),
                "finishedAt": "2026-01-01T00:00:00Z"}}}]});
            cluster.put(&resource_of::<Pod>(), pod);
        }
    }
}

fn condition(cluster: &FakeCluster, kind: &str) -> String {
    let list = status(cluster)["conditions"].as_array().cloned().unwrap_or_default();
    let found = list.iter().find(|one| one["type"] == kind && one["status"] == "True");
    found.map(|one| one["reason"].as_str().unwrap_or_default().to_owned()).unwrap_or_default()
}

#[tokio::test]
async fn a_job_runs_its_completions_and_counts_each_once() {
    let cluster = FakeCluster::new();
    cluster.put(&resource_of::<Job>(), job(json!({"completions": 3, "parallelism": 2})));
    let harness = Harness::start(&cluster, run);
    eventually(|| status(&cluster)["active"] == 2).await;
    eventually(|| {
        assert!(cluster.list(&resource_of::<Pod>()).len() <= 3, "more pods than completions");
        end_pods(&cluster, "ss");
        condition(&cluster, "Complete") == "CompletionsReached"
    })
    .await;
    let status = status(&cluster);
    assert_eq!((&status["succeeded"], &status["active"]), (&json!(3), &Value::Null));
    assert!(!status["completionTime"].is_null());
    for pod in cluster.list(&resource_of::<Pod>()) {
        assert!(pod["metadata"]["finalizers"].is_null(), "{pod}");
    }
    harness.stop().await;
}

#[tokio::test]
async fn a_job_fails_beyond_its_backoff_limit() {
    let cluster = FakeCluster::new();
    cluster.put(&resource_of::<Job>(), job(json!({"completions": 1, "parallelism": 1, "backoffLimit": 1})));
    let harness = Harness::start(&cluster, run);
    eventually(|| {
        end_pods(&cluster, "f");
        condition(&cluster, "Failed") == "BackoffLimitExceeded"
    })
    .await;
    assert_eq!(status(&cluster)["failed"], 2);
    harness.stop().await;
}

#[tokio::test]
async fn an_indexed_job_tries_each_index_until_it_succeeds() {
    let cluster = FakeCluster::new();
    let spec = json!({"completions": 4, "parallelism": 4, "completionMode": "Indexed"});
    cluster.put(&resource_of::<Job>(), job(spec));
    let harness = Harness::start(&cluster, run);
    eventually(|| status(&cluster)["active"] == 4).await;
    let pod = &cluster.list(&resource_of::<Pod>())[2];
    assert_eq!(pod["spec"]["hostname"], "it-2");
    assert_eq!(pod["spec"]["containers"][0]["env"][0]["name"], "JOB_COMPLETION_INDEX");
    end_pods(&cluster, "sfss");
    eventually(|| status(&cluster)["completedIndexes"] == "0,2,3" && status(&cluster)["failed"] == 1).await;
    eventually(|| status(&cluster)["active"] == 1).await;
    end_pods(&cluster, "s");
    eventually(|| condition(&cluster, "Complete") == "CompletionsReached").await;
    assert_eq!(status(&cluster)["completedIndexes"], "0-3");
    harness.stop().await;
}

#[tokio::test]
async fn a_suspended_job_has_no_pods() {
    let cluster = FakeCluster::new();
    cluster.put(&resource_of::<Job>(), job(json!({"completions": 1, "parallelism": 1, "suspend": true})));
    let harness = Harness::start(&cluster, run);
    eventually(|| condition(&cluster, "Suspended") == "JobSuspended").await;
    assert!(cluster.list(&resource_of::<Pod>()).is_empty());
    let mut resumed = cluster.get(&resource_of::<Job>(), &ObjectKey::new("shop", "it")).unwrap();
    resumed["spec"]["suspend"] = json!(false);
    cluster.put(&resource_of::<Job>(), resumed);
    eventually(|| status(&cluster)["active"] == 1).await;
    harness.stop().await;
}

#[tokio::test]
async fn a_failure_policy_ends_the_job_at_once() {
    let cluster = FakeCluster::new();
    let policy = json!({"rules": [{"action": "FailJob", "onExitCodes": {"operator": "In", "values": [1]}}]});
    let spec = json!({"completions": 1, "parallelism": 1, "podFailurePolicy": policy});
    cluster.put(&resource_of::<Job>(), job(spec));
    let harness = Harness::start(&cluster, run);
    eventually(|| {
        end_pods(&cluster, "f");
        condition(&cluster, "Failed") == "PodFailurePolicy"
    })
    .await;
    harness.stop().await;
}

#[tokio::test]
async fn a_pod_that_lost_its_job_is_taken_back() {
    let cluster = FakeCluster::new();
    cluster.put(&resource_of::<Job>(), job(json!({"completions": 1, "parallelism": 1})));
    let harness = Harness::start(&cluster, run);
    eventually(|| status(&cluster)["active"] == 1).await;
    let mut pod = cluster.list(&resource_of::<Pod>())[0].clone();
    pod["metadata"]["ownerReferences"] = Value::Null;
    cluster.put(&resource_of::<Pod>(), pod);
    eventually(|| cluster.list(&resource_of::<Pod>())[0]["metadata"]["ownerReferences"][0]["kind"] == "Job").await;
    assert_eq!(cluster.list(&resource_of::<Pod>()).len(), 1);
    harness.stop().await;
}
