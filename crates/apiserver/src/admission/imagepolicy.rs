//! `ImagePolicyWebhook`: another server says whether a Pod's images may run, by an ImageReview (upstream:
//! `plugin/pkg/admission/imagepolicy`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use api::names;
use api::status::Status;
use bytes::Bytes;
use client::backoff::Backoff;
use http::HeaderValue;
use serde::Deserialize;
use serde_json::{Map, Value, json};
use store::BoxFuture;
use tokio::time::{Instant, sleep_until};
use tracing::{error, warn};

use super::{AdmissionError, Operation, Plugin, Request};
use crate::outbound::{Answers, CallError, Callee, Outbound, kubeconfig};

const VERSION: &str = "imagepolicy.k8s.io/v1alpha1";
const KIND: &str = "ImageReview";
/// What the keys of its notes in the audit log begin with.
const NOTES: &str = "imagepolicywebhook.image-policy.k8s.io/";
/// The annotations that the other server is told of.
const TOLD: &str = ".image-policy.k8s.io/";
const LIMIT: Duration = Duration::from_secs(30);
/// Answers that are kept.
const MOST_KEPT: usize = 1024;
/// How often one question is put to a server that says that it cannot answer now.
const ATTEMPTS: u32 = 5;

/// How the other server is asked, and what is made of its answers.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Told {
    /// A kubeconfig, whose current context is the server to ask.
    kubeconfig: PathBuf,
    /// How long a yes is believed.
    allowed_for: Duration,
    /// How long a no is believed.
    refused_for: Duration,
    /// The first wait before a question is put again.
    backoff: Duration,
    /// Whether images run of which nothing can be learned.
    allows_on_error: bool,
}

/// The file that tells it, which has no version.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Document {
    image_policy: Stated,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Stated {
    kube_config_file: PathBuf,
    /// In seconds.
    #[serde(rename = "allowTTL")]
    allow_ttl: i64,
    #[serde(rename = "denyTTL")]
    deny_ttl: i64,
    /// In milliseconds.
    retry_backoff: i64,
    default_allow: bool,
}

/// Asks for each Pod whose images it has not asked of lately.
pub(crate) struct ImagePolicy {
    told: Told,
    outbound: Arc<Outbound>,
    callee: Callee,
    authorization: Option<HeaderValue>,
    /// By the specs of reviews.
    kept: Answers<Verdict>,
}

/// What the other server says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Verdict {
    allowed: bool,
    reason: String,
    notes: Vec<(String, String)>,
}

impl Told {
    pub(super) fn read(document: Value) -> Result<Self, String> {
        let stated = serde_json::from_value::<Document>(document).map_err(|why| why.to_string())?.image_policy;
        if stated.kube_config_file.as_os_str().is_empty() {
            return Err("imagePolicy: say by kubeConfigFile whom to ask".to_owned());
        }
        let half_an_hour = Duration::from_secs(1800);
        let seconds = |field: &str, said: i64, usual: u64| {
            time(said, Duration::from_secs, Duration::from_secs(usual), half_an_hour)
                .ok_or_else(|| format!("imagePolicy: {field} {said} is not between 1 and 1800 seconds"))
        };
        let backoff =
            time(stated.retry_backoff, Duration::from_millis, Duration::from_millis(500), Duration::from_secs(300));
        Ok(Self {
            allowed_for: seconds("allowTTL", stated.allow_ttl, 300)?,
            refused_for: seconds("denyTTL", stated.deny_ttl, 30)?,
            backoff: backoff.ok_or_else(|| {
                format!("imagePolicy: retryBackoff {} is not between 1 and 300000 milliseconds", stated.retry_backoff)
            })?,
            allows_on_error: stated.default_allow,
            kubeconfig: stated.kube_config_file,
        })
    }
}

/// A time in a unit: what is usual for 0, none for -1.
fn time(said: i64, unit: fn(u64) -> Duration, usual: Duration, most: Duration) -> Option<Duration> {
    match said {
        -1 => Some(Duration::ZERO),
        0 => Some(usual),
        said => u64::try_from(said).ok().map(unit).filter(|time| *time <= most),
    }
}

impl ImagePolicy {
    pub(crate) fn open(told: Told, outbound: Arc<Outbound>) -> Result<Self, AdmissionError> {
        let failed = |why| AdmissionError::File { path: told.kubeconfig.clone(), why };
        let (callee, authorization) = kubeconfig(&told.kubeconfig).map_err(failed)?;
        Ok(Self { told, outbound, callee, authorization, kept: Answers::new(MOST_KEPT) })
    }

    async fn check(&self, request: &Request, spec: Value) -> Result<(), Status> {
        let key = Answers::<Verdict>::key(spec.to_string().as_bytes());
        let verdict = match self.kept.find(&key) {
            Some(verdict) => verdict,
            None => match self.ask(spec).await {
                Ok(verdict) => {
                    let lasts = if verdict.allowed { self.told.allowed_for } else { self.told.refused_for };
                    self.kept.keep(key, verdict.clone(), lasts);
                    verdict
                }
                Err(why) => {
                    error!(why, "failed to ask the image policy webhook");
                    if !self.told.allows_on_error {
                        return Err(request.forbid(&why));
                    }
                    request.annotate(format!("{NOTES}failed-open"), "true");
                    return Ok(());
                }
            },
        };
        for (key, value) in &verdict.notes {
            let key = format!("{NOTES}{key}");
            match names::qualified_name(&key).is_empty() {
                true => request.annotate(key, value),
                false => warn!(key, "a note of the image policy webhook is no annotation: left out"),
            }
        }
        match verdict {
            Verdict { allowed: true, .. } => Ok(()),
            Verdict { reason, .. } if reason.is_empty() => {
                Err(request.forbid("one or more images rejected by webhook backend"))
            }
            Verdict { reason, .. } => {
                Err(request.forbid(&format!("image policy webhook backend denied one or more images: {reason}")))
            }
        }
    }

    /// Asks until there is an answer, or a failure that will not pass.
    async fn ask(&self, spec: Value) -> Result<Verdict, String> {
        let review = json!({
            "kind": KIND, "apiVersion": VERSION, "metadata": {}, "spec": spec, "status": {"allowed": false},
        });
        let body = Bytes::from(review.to_string());
        let mut backoff = Backoff::new(self.told.backoff, self.told.backoff.saturating_mul(ATTEMPTS));
        loop {
            let wait = backoff.fail();
            let answer = self.outbound.post_as(&self.callee, self.authorization.as_ref(), body.clone(), LIMIT).await;
            match answer {
                Ok(answer) => return verdict(&answer),
                Err(why) if CallError::is_passing(&why) && backoff.failures() < ATTEMPTS => {
                    sleep_until(Instant::now() + wait).await;
                }
                Err(why) => return Err(why.to_string()),
            }
        }
    }
}

impl Plugin for ImagePolicy {
    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        let spec = spec(request);
        Box::pin(async move {
            match spec {
                Some(spec) => self.check(request, spec).await,
                None => Ok(()),
            }
        })
    }
}

/// What is asked of a Pod, or of the containers that are put into one that runs.
fn spec(request: &Request) -> Option<Value> {
    let writes = matches!(request.operation, Operation::Create | Operation::Update);
    let lists: &[&str] = match request.subresource.as_str() {
        "" => &["containers", "initContainers"],
        "ephemeralcontainers" => &["ephemeralContainers"],
        _ => return None,
    };
    let pod = request.object.as_ref().filter(|_| writes && request.group.is_empty() && request.resource == "pods")?;
    Some(review_spec(pod, lists, &request.namespace))
}

fn review_spec(pod: &Value, lists: &[&str], namespace: &str) -> Value {
    let containers = lists.iter().flat_map(|list| pod["spec"][list].as_array().into_iter().flatten());
    let images = containers.map(|container| match container["image"].as_str() {
        Some(image) if !image.is_empty() => json!({"image": image}),
        _ => json!({}),
    });
    let images: Vec<Value> = images.collect();
    let annotations = pod["metadata"]["annotations"].as_object().into_iter().flatten();
    let annotations =
        annotations.filter(|(key, _)| key.contains(TOLD)).map(|(key, value)| (key.clone(), value.clone()));
    let annotations: Map<String, Value> = annotations.collect();
    let mut spec = json!({"namespace": namespace});
    if !images.is_empty() {
        spec["containers"] = json!(images);
    }
    if !annotations.is_empty() {
        spec["annotations"] = annotations.into();
    }
    spec
}

/// What a review came back with.
fn verdict(answer: &[u8]) -> Result<Verdict, String> {
    let review: Value = serde_json::from_slice(answer).map_err(|why| format!("its answer is no JSON: {why}"))?;
    let says = |field: &str, expected: &str| review[field].as_str().is_none_or(|said| said == expected);
    if !review.is_object() || !says("kind", KIND) || !says("apiVersion", VERSION) {
        let (kind, version) = (&review["kind"], &review["apiVersion"]);
        return Err(format!("its answer is {kind} of {version}: an {KIND} of {VERSION} was expected"));
    }
    let status = &review["status"];
    let notes = status["auditAnnotations"].as_object().into_iter().flatten();
    let notes = notes.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())));
    Ok(Verdict {
        allowed: status["allowed"] == true,
        reason: status["reason"].as_str().unwrap_or_default().to_owned(),
        notes: notes.collect(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_says_whom_to_ask_and_how_long_to_believe() {
        let read = |more: &str| {
            let mut document = json!({"imagePolicy": {"kubeConfigFile": "/a"}});
            let more: Map<String, Value> = serde_json::from_str(more).unwrap();
            document["imagePolicy"].as_object_mut().unwrap().extend(more);
            Told::read(document)
        };
        let usual = Told {
            kubeconfig: "/a".into(),
            allowed_for: Duration::from_secs(300),
            refused_for: Duration::from_secs(30),
            backoff: Duration::from_millis(500),
            allows_on_error: false,
        };
        assert_eq!(read("{}").unwrap(), usual);
        let said = read(r#"{"allowTTL": -1, "denyTTL": 60, "retryBackoff": 20, "defaultAllow": true}"#).unwrap();
        assert_eq!((said.allowed_for, said.refused_for.as_secs()), (Duration::ZERO, 60));
        assert_eq!((said.backoff.as_millis(), said.allows_on_error), (20, true));
        assert!(read(r#"{"denyTTL": 1801}"#).unwrap_err().contains("denyTTL 1801"));
        assert!(read(r#"{"retryBackoff": -2}"#).unwrap_err().contains("retryBackoff -2"));
        assert!(Told::read(json!({"imagePolicy": {}})).unwrap_err().contains("kubeConfigFile"));
    }

    #[test]
    fn a_review_names_images_and_the_annotations_that_are_meant_for_it() {
        let pod = json!({
            "metadata": {"annotations": {"mine.image-policy.k8s.io/ticket": "1", "other": "2"}},
            "spec": {"containers": [{"image": "a"}, {"image": "b"}], "initContainers": [{"image": "c"}]},
        });
        let expected = json!({
            "containers": [{"image": "a"}, {"image": "b"}, {"image": "c"}],
            "annotations": {"mine.image-policy.k8s.io/ticket": "1"}, "namespace": "shop",
        });
        assert_eq!(review_spec(&pod, &["containers", "initContainers"], "shop"), expected);
        assert_eq!(review_spec(&pod, &["ephemeralContainers"], "shop")["containers"], Value::Null);
    }

    #[test]
    fn answers_are_reviews() {
        let read = |answer: Value| verdict(answer.to_string().as_bytes());
        let said =
            read(json!({"status": {"allowed": false, "reason": "old", "auditAnnotations": {"a": "b"}}})).unwrap();
        let notes = vec![("a".to_owned(), "b".to_owned())];
        assert_eq!(said, Verdict { allowed: false, reason: "old".to_owned(), notes });
        assert!(read(json!({"kind": "Status"})).unwrap_err().contains("was expected"));
        assert!(verdict(b"no").unwrap_err().contains("no JSON"));
    }
}
