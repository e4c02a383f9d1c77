//! Events: what a component tells the owner of an object, kept apart from its log.
//!
//! Core v1 Events with client-go's correlation: an event like one before raises that one's count; more than ten
//! of the same kind that differ only in their message are written as one; an object that is the subject of too many is
//! rate-limited. Recording never blocks and never fails its caller: what does not fit is dropped and counted in the log.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use api::object::ObjectKey;
use k8s_openapi::Resource;
use k8s_openapi::api::core::v1::{Event, ObjectReference};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::clock::Clock;
use crate::patch::Patch;
use crate::request::Requests;
use crate::typed::resource_of;

/// Events that wait to be written.
const QUEUE: usize = 1000;
/// How many subjects and events are remembered; the memory is emptied when it is full.
const REMEMBERED: usize = 4096;
/// From this many similar events within [`SIMILAR_WITHIN`] on, they are written as one.
const SIMILAR: u32 = 10;
const SIMILAR_WITHIN: Duration = Duration::from_secs(600);
/// Events per subject at once, and how long one more takes to be allowed.
const BURST: f64 = 25.0;
const REFILL: Duration = Duration::from_secs(300);

/// Whether an event tells of normal progress or of trouble.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum EventType {
    Normal,
    Warning,
}

/// Something to tell.
#[derive(Clone, Debug)]
struct Report {
    about: ObjectReference,
    kind: EventType,
    reason: String,
    message: String,
    annotations: BTreeMap<String, String>,
}

/// Writes Events in the name of one component. Cheap to clone.
#[derive(Clone)]
pub struct Recorder {
    sender: mpsc::Sender<Report>,
}

/// The half of a [`Recorder`] that writes.
pub struct Writer {
    requests: Requests,
    clock: Arc<dyn Clock>,
    component: String,
    host: String,
    receiver: mpsc::Receiver<Report>,
    correlator: Correlator,
    /// The moment in the name of the last event: no two events of one object may have the same.
    named: i128,
}

/// A recorder for `component`, such as `replicaset-controller`, and the writer whose [`Writer::run`] its owner must
/// spawn. `host` is the node for components of a node, else empty.
pub fn recorder(client: kube::Client, clock: Arc<dyn Clock>, component: &str, host: &str) -> (Recorder, Writer) {
    let (sender, receiver) = mpsc::channel(QUEUE);
    let writer = Writer {
        requests: Requests::new(client),
        clock,
        component: component.to_owned(),
        host: host.to_owned(),
        receiver,
        correlator: Correlator::default(),
        named: i128::MIN,
    };
    (Recorder { sender }, writer)
}

impl Recorder {
    /// Tells something about an object.
    pub fn event(&self, about: &ObjectReference, kind: EventType, reason: &str, message: impl Into<String>) {
        self.annotated(about, kind, reason, message, BTreeMap::new());
    }

    /// Tells something with figures that programs read.
    pub fn annotated(
        &self,
        about: &ObjectReference,
        kind: EventType,
        reason: &str,
        message: impl Into<String>,
        annotations: BTreeMap<String, String>,
    ) {
        let (about, reason, message) = (about.clone(), reason.to_owned(), message.into());
        let report = Report { about, kind, reason, message, annotations };
        if let Err(error) = self.sender.try_send(report) {
            tracing::debug!(%error, "event dropped");
        }
    }

    pub fn normal(&self, about: &ObjectReference, reason: &str, message: impl Into<String>) {
        self.event(about, EventType::Normal, reason, message);
    }

    pub fn warning(&self, about: &ObjectReference, reason: &str, message: impl Into<String>) {
        self.event(about, EventType::Warning, reason, message);
    }
}

/// A reference to an object by its metadata.
pub fn reference<K: Resource>(metadata: &ObjectMeta) -> ObjectReference {
    ObjectReference {
        api_version: Some(K::API_VERSION.to_owned()),
        kind: Some(K::KIND.to_owned()),
        name: metadata.name.clone(),
        namespace: metadata.namespace.clone(),
        uid: metadata.uid.clone(),
        resource_version: metadata.resource_version.clone(),
        field_path: None,
    }
}

impl Writer {
    /// Writes until the token is cancelled or all recorders are gone.
    pub async fn run(mut self, token: CancellationToken) {
        loop {
            let report = tokio::select! {
                () = token.cancelled() => return,
                report = self.receiver.recv() => report,
            };
            let Some(report) = report else { return };
            self.write(report).await;
        }
    }

    async fn write(&mut self, report: Report) {
        let Some(verdict) = self.correlator.judge(&report, self.clock.elapsed()) else { return };
        let resource = resource_of::<Event>();
        let now = crate::events::time(self.clock.now());
        let outcome = match &verdict {
            Verdict::Repeat { key, count, message } => {
                let patch = Patch::Merge(json!({"count": count, "lastTimestamp": now, "message": message}));
                match self.requests.patch(&resource, key, &patch).await {
                    // Events expire; the next of its kind begins anew.
                    Err(error) if error.is_not_found() => self.create(&report, message, *count, &now).await,
                    outcome => outcome.map(|_| key.clone()),
                }
            }
            Verdict::First { message } => self.create(&report, message, 1, &now).await,
        };
        match outcome {
            Ok(key) => self.correlator.written(&report, &verdict, key),
            Err(error) => tracing::debug!(reason = report.reason, %error, "event not written"),
        }
    }

    async fn create(
        &mut self,
        report: &Report,
        message: &str,
        count: u32,
        now: &str,
    ) -> Result<ObjectKey, crate::request::RequestError> {
        let about = &report.about;
        let namespace = about.namespace.as_deref().filter(|name| !name.is_empty()).unwrap_or("default");
        let name = about.name.as_deref().unwrap_or_default();
        self.named = self.clock.now().as_nanosecond().max(self.named.saturating_add(1));
        let name = format!("{name}.{:x}", self.named);
        let mut event = json!({
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": name, "namespace": namespace},
            "involvedObject": about,
            "reason": report.reason,
            "message": message,
            "source": {"component": self.component, "host": self.host},
            "reportingComponent": self.component,
            "reportingInstance": self.host,
            "firstTimestamp": now,
            "lastTimestamp": now,
            "count": count,
            "type": match report.kind { EventType::Normal => "Normal", EventType::Warning => "Warning" },
        });
        if !report.annotations.is_empty() {
            event["metadata"]["annotations"] = json!(report.annotations);
        }
        self.requests.create(&resource_of::<Event>(), namespace, &event).await?;
        Ok(ObjectKey::new(namespace, name))
    }
}

/// `metav1.Time` as it is written.
pub fn time(time: jiff::Timestamp) -> String {
    time.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// What to do with a report.
#[derive(Debug, PartialEq)]
enum Verdict {
    First { message: String },
    Repeat { key: ObjectKey, count: u32, message: String },
}

/// Kind, namespace, name, uid.
type Subject = [String; 4];

#[derive(Clone, PartialEq, Eq, Hash)]
struct Likeness {
    subject: Subject,
    kind: EventType,
    reason: String,
    /// Empty for events that are alike but for their message.
    message: String,
}

/// Remembers what was written, to say whether a report is new.
#[derive(Default)]
struct Correlator {
    /// Tokens left per subject, as of a time.
    allowance: HashMap<Subject, (f64, Duration)>,
    /// The different messages among similar events, and when the first came.
    similar: HashMap<Likeness, (Vec<String>, Duration)>,
    written: HashMap<Likeness, (ObjectKey, u32)>,
}

impl Correlator {
    /// `None` if the subject has had too many events.
    fn judge(&mut self, report: &Report, now: Duration) -> Option<Verdict> {
        self.forget_when_full();
        let subject = subject(&report.about);
        let (left, at) = self.allowance.entry(subject).or_insert((BURST, now));
        *left = (*left + now.saturating_sub(*at).div_duration_f64(REFILL)).min(BURST);
        *at = now;
        if *left < 1.0 {
            return None;
        }
        *left -= 1.0;
        let message = match self.is_combined(report, now) {
            true => format!("(combined from similar events): {}", report.message),
            false => report.message.clone(),
        };
        Some(match self.written.get(&self.likeness_written(report)) {
            Some((key, count)) => Verdict::Repeat { key: key.clone(), count: count + 1, message },
            None => Verdict::First { message },
        })
    }

    fn written(&mut self, report: &Report, verdict: &Verdict, key: ObjectKey) {
        let count = match verdict {
            Verdict::First { .. } => 1,
            Verdict::Repeat { count, .. } => *count,
        };
        self.written.insert(self.likeness_written(report), (key, count));
    }

    fn is_combined(&mut self, report: &Report, now: Duration) -> bool {
        let (messages, since) = self.similar.entry(likeness(report, "")).or_insert_with(|| (Vec::new(), now));
        if now.saturating_sub(*since) > SIMILAR_WITHIN {
            messages.clear();
            *since = now;
        }
        if messages.len() < SIMILAR as usize && !messages.contains(&report.message) {
            messages.push(report.message.clone());
        }
        messages.len() >= SIMILAR as usize
    }

    fn likeness_written(&self, report: &Report) -> Likeness {
        let combined =
            self.similar.get(&likeness(report, "")).is_some_and(|(messages, _)| messages.len() >= SIMILAR as usize);
        likeness(report, if combined { "" } else { &report.message })
    }

    fn forget_when_full(&mut self) {
        if self.written.len() > REMEMBERED || self.allowance.len() > REMEMBERED {
            *self = Self::default();
        }
    }
}

fn subject(about: &ObjectReference) -> Subject {
    [&about.kind, &about.namespace, &about.name, &about.uid].map(|part| part.clone().unwrap_or_default())
}

fn likeness(report: &Report, message: &str) -> Likeness {
    Likeness {
        subject: subject(&report.about),
        kind: report.kind,
        reason: report.reason.clone(),
        message: message.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use jiff::Timestamp;

    use super::*;
    use crate::clock::ManualClock;
    use crate::testing::FakeCluster;

    fn pod(name: &str) -> ObjectReference {
        ObjectReference {
            kind: Some("Pod".to_owned()),
            name: Some(name.to_owned()),
            namespace: Some("shop".to_owned()),
            ..ObjectReference::default()
        }
    }

    /// Records all reports a second apart and returns `count message` of each event.
    async fn written(reports: impl IntoIterator<Item = (&'static str, String)>) -> Vec<String> {
        let (cluster, clock) = (FakeCluster::new(), ManualClock::new(Timestamp::UNIX_EPOCH));
        let (recorder, mut writer) = recorder(cluster.client("t"), clock.clone(), "t", "");
        for (name, message) in reports {
            recorder.warning(&pod(name), "Failed", message);
            let report = writer.receiver.try_recv().unwrap();
            writer.write(report).await;
            clock.advance(Duration::from_secs(1));
        }
        let events = cluster.list(&resource_of::<Event>());
        events.iter().map(|event| format!("{} {}", event["count"], event["message"].as_str().unwrap())).collect()
    }

    #[tokio::test]
    async fn a_repeated_event_raises_the_count_of_the_first() {
        let reports = [("a", "no"), ("b", "no"), ("a", "no"), ("a", "other")].map(|(pod, text)| (pod, text.to_owned()));
        assert_eq!(written(reports).await, ["2 no", "1 other", "1 no"]);
    }

    #[tokio::test]
    async fn events_that_differ_in_their_message_only_are_combined() {
        let reports = (0..14).map(|n| ("a", format!("message {n}")));
        let written = written(reports).await;
        assert_eq!(written.len(), 10);
        assert!(written.contains(&"5 (combined from similar events): message 13".to_owned()), "{written:?}");
    }

    #[tokio::test]
    async fn an_object_with_too_many_events_is_limited() {
        let reports = (0..100).map(|_| ("a", "no".to_owned()));
        assert_eq!(written(reports).await, ["25 no"]);
    }
}
