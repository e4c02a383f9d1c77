//! Another server that is asked whether somebody may, by a SubjectAccessReview
//! (upstream: `plugin/pkg/authorizer/webhook`).

use std::sync::Arc;
use std::time::{Duration, Instant};

use api::selector::field::Term;
use api::selector::label::{Operator, Requirement};
use bytes::Bytes;
use client::backoff::Backoff;
use http::HeaderValue;
use serde_json::{Map, Value, json};
use tokio::time::sleep_until;
use tracing::error;

use super::matching::Conditions;
use super::{Attributes, Decision, Target, figures};
use crate::outbound::{Answers, CallError, Callee, Outbound};

const GROUP: &str = "authorization.k8s.io";
/// Answers that are kept.
const MOST_KEPT: usize = 8192;
/// Of a question that is longer in what its asker may choose the answer is not kept.
const LONGEST_KEPT: usize = 10_000;
/// How often one question is put to a server that says that it cannot answer now.
const ATTEMPTS: u32 = 5;
const FIRST_WAIT: Duration = Duration::from_millis(500);
const LONGEST_WAIT: Duration = Duration::from_secs(3);

/// How a webhook is asked, and what is made of its answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Manner {
    pub(super) name: String,
    /// `v1` or `v1beta1`
    pub(super) version: String,
    pub(super) timeout: Duration,
    /// How long a yes is believed; zero: asked anew each time.
    pub(super) allowed_for: Duration,
    /// How long any other answer is believed.
    pub(super) refused_for: Duration,
    /// Whether a failure forbids; else others are asked.
    pub(super) denies_on_error: bool,
}

pub(super) struct Webhook {
    manner: Manner,
    conditions: Conditions,
    outbound: Arc<Outbound>,
    callee: Callee,
    authorization: Option<HeaderValue>,
    kept: Answers<Decision>,
}

/// What can be said without asking.
pub(super) enum Known {
    Answer(Decision),
    Unknown(Question),
}

/// What is to be asked.
pub(super) struct Question {
    spec: Value,
    key: [u8; 32],
    is_kept: bool,
}

impl Webhook {
    pub(super) fn new(
        manner: Manner,
        conditions: Conditions,
        outbound: Arc<Outbound>,
        (callee, authorization): (Callee, Option<HeaderValue>),
    ) -> Self {
        Self { manner, conditions, outbound, callee, authorization, kept: Answers::new(MOST_KEPT) }
    }

    pub(super) fn known(&self, attributes: &Attributes) -> Known {
        let spec = spec(attributes);
        match self.conditions.match_spec(&spec, &self.manner.name) {
            Ok(true) => {}
            Ok(false) => return Known::Answer(Decision::default()),
            Err(why) => return Known::Answer(self.failed(why)),
        }
        let key = Answers::<Decision>::key(spec.to_string().as_bytes());
        match self.kept.find(&key) {
            Some(decision) => Known::Answer(decision),
            None => Known::Unknown(Question { spec, key, is_kept: chosen(attributes) < LONGEST_KEPT }),
        }
    }

    pub(super) async fn ask(&self, Question { spec, key, is_kept }: Question) -> Decision {
        let api_version = format!("{GROUP}/{}", self.manner.version);
        let review = json!({
            "kind": "SubjectAccessReview", "apiVersion": api_version, "metadata": {},
            "spec": in_version(spec, &self.manner.version), "status": {"allowed": false},
        });
        let answer = match self.call(Bytes::from(review.to_string())).await {
            Ok(answer) => decision(&answer, &api_version),
            Err(why) => Err(why),
        };
        match answer {
            Ok(decision) => {
                let lasts = if decision.allowed { self.manner.allowed_for } else { self.manner.refused_for };
                if is_kept && decision.error.is_none() {
                    self.kept.keep(key, decision.clone(), lasts);
                }
                decision
            }
            Err(why) => {
                error!(webhook = self.manner.name, why, "failed to ask the authorization webhook");
                self.failed(why)
            }
        }
    }

    /// Calls until there is an answer, or a failure that will not pass.
    async fn call(&self, body: Bytes) -> Result<Bytes, String> {
        let mut backoff = Backoff::new(FIRST_WAIT, LONGEST_WAIT);
        loop {
            let begun = Instant::now();
            let answer =
                self.outbound.post_as(&self.callee, self.authorization.as_ref(), body.clone(), self.manner.timeout);
            let answer = answer.await;
            let result = result(&answer);
            figures::call(&self.manner.name, result, begun.elapsed());
            let wait = backoff.fail();
            match answer {
                Ok(answer) => return Ok(answer),
                Err(why) if why.is_passing() && backoff.failures() < ATTEMPTS => {
                    sleep_until((Instant::now() + wait).into()).await;
                }
                Err(why) => {
                    if !self.manner.denies_on_error {
                        figures::failed_open(&self.manner.name, result);
                    }
                    return Err(why.to_string());
                }
            }
        }
    }

    fn failed(&self, why: String) -> Decision {
        Decision { denied: self.manner.denies_on_error, error: Some(why), ..Decision::default() }
    }
}

fn result(answer: &Result<Bytes, CallError>) -> &'static str {
    match answer {
        Ok(_) => "success",
        Err(why) if why.is_late() => "timeout",
        Err(_) => "error",
    }
}

/// The spec of the review that puts the question.
fn spec(attributes: &Attributes) -> Value {
    let user = &attributes.user;
    let mut spec = Map::new();
    match &attributes.target {
        Target::Path(path) => {
            let asked = stated(&[("path", path), ("verb", &attributes.verb)]);
            spec.insert("nonResourceAttributes".to_owned(), asked.into());
        }
        Target::Resource { group, version, namespace, resource, subresource, name, fields, labels } => {
            let mut asked = stated(&[
                ("namespace", namespace),
                ("verb", &attributes.verb),
                ("group", group),
                ("version", version),
                ("resource", resource),
                ("subresource", subresource),
                ("name", name),
            ]);
            let selectors: [(&str, Vec<Value>); 2] = [
                ("fieldSelector", fields.iter().map(field).collect()),
                ("labelSelector", labels.iter().filter_map(label).collect()),
            ];
            for (selector, requirements) in selectors {
                if !requirements.is_empty() {
                    asked.insert(selector.to_owned(), json!({"requirements": requirements}));
                }
            }
            spec.insert("resourceAttributes".to_owned(), asked.into());
        }
    }
    spec.extend(stated(&[("user", &user.name), ("uid", &user.uid)]));
    if !user.groups.is_empty() {
        spec.insert("groups".to_owned(), json!(user.groups));
    }
    if !user.extra.is_empty() {
        spec.insert("extra".to_owned(), json!(user.extra));
    }
    spec.into()
}

/// Texts that say something.
fn stated(texts: &[(&str, &String)]) -> Map<String, Value> {
    let said = texts.iter().filter(|(_, text)| !text.is_empty());
    said.map(|(name, text)| ((*name).to_owned(), Value::from(text.as_str()))).collect()
}

fn field(term: &Term) -> Value {
    let operator = if term.negated { "NotIn" } else { "In" };
    json!({"key": term.field, "operator": operator, "values": [term.value]})
}

/// A requirement as reviews say it; what they have no word for only narrows, and is left out.
fn label(requirement: &Requirement) -> Option<Value> {
    let operator = match requirement.operator {
        Operator::Equals | Operator::DoubleEquals | Operator::In => "In",
        Operator::NotEquals | Operator::NotIn => "NotIn",
        Operator::Exists => "Exists",
        Operator::DoesNotExist => "DoesNotExist",
        Operator::GreaterThan | Operator::LessThan => return None,
    };
    let mut said = json!({"key": requirement.key, "operator": operator});
    if !requirement.values.is_empty() {
        said["values"] = json!(requirement.values);
    }
    Some(said)
}

/// In v1beta1 the groups have another name.
fn in_version(mut spec: Value, version: &str) -> Value {
    if version == "v1beta1"
        && let Some(groups) = spec.as_object_mut().and_then(|fields| fields.remove("groups"))
    {
        spec["group"] = groups;
    }
    spec
}

/// What a review came back with.
fn decision(answer: &[u8], api_version: &str) -> Result<Decision, String> {
    let review: Value = serde_json::from_slice(answer).map_err(|why| format!("its answer is no JSON: {why}"))?;
    let says = |field: &str, expected: &str| review[field].as_str().is_none_or(|said| said == expected);
    if !review.is_object() || !says("kind", "SubjectAccessReview") || !says("apiVersion", api_version) {
        let (kind, version) = (&review["kind"], &review["apiVersion"]);
        return Err(format!("its answer is {kind} of {version}: a SubjectAccessReview of {api_version} was expected"));
    }
    let status = &review["status"];
    let (allowed, denied) = (status["allowed"] == true, status["denied"] == true);
    let both = || "webhook subject access review returned both allow and deny response".to_owned();
    Ok(Decision {
        allowed: allowed && !denied,
        denied,
        reason: status["reason"].as_str().unwrap_or_default().to_owned(),
        error: (allowed && denied).then(both),
    })
}

/// How much of a question its asker chooses, in bytes.
fn chosen(attributes: &Attributes) -> usize {
    let texts = match &attributes.target {
        Target::Path(path) => path.len(),
        Target::Resource { group, version, namespace, resource, subresource, name, .. } => {
            [group, version, namespace, resource, subresource, name].map(String::len).iter().sum()
        }
    };
    texts + attributes.verb.len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::authn::User;
    use crate::authz::{requirements, terms};

    #[test]
    fn questions_say_what_is_selected() {
        let mut asked = Attributes::resource(&User::new("bob", &["dev"]), "list", "apps", "deployments", "shop", "");
        if let Target::Resource { fields, labels, .. } = &mut asked.target {
            *fields = terms("metadata.name!=a");
            *labels = requirements("tier in (a,b),!old,size>3");
        }
        let expected = json!({
            "user": "bob", "groups": ["dev"],
            "resourceAttributes": {
                "namespace": "shop", "verb": "list", "group": "apps", "version": "*", "resource": "deployments",
                "fieldSelector": {"requirements": [{"key": "metadata.name", "operator": "NotIn", "values": ["a"]}]},
                "labelSelector": {"requirements": [
                    {"key": "old", "operator": "DoesNotExist"},
                    {"key": "tier", "operator": "In", "values": ["a", "b"]},
                ]},
            },
        });
        assert_eq!(spec(&asked), expected);
        assert_eq!(in_version(expected.clone(), "v1"), expected);
        assert_eq!(in_version(expected, "v1beta1")["group"], json!(["dev"]));
        let path =
            Attributes { target: Target::Path("/metrics".to_owned()), verb: "get".to_owned(), user: User::default() };
        assert_eq!(spec(&path), json!({"nonResourceAttributes": {"path": "/metrics", "verb": "get"}}));
        assert_eq!((chosen(&path), chosen(&asked)), (11, 24));
    }

    #[test]
    fn answers_are_reviews_of_the_version_that_was_asked() {
        let check = |answer: Value, expected: Result<Decision, &str>| {
            let found = decision(answer.to_string().as_bytes(), "authorization.k8s.io/v1");
            match expected {
                Ok(expected) => assert_eq!(found, Ok(expected), "{answer}"),
                Err(part) => assert!(found.unwrap_err().contains(part), "{answer}"),
            }
        };
        check(json!({"status": {"allowed": true, "reason": "so"}}), Ok(Decision::allowed("so")));
        check(json!({"status": {"allowed": false, "reason": "why"}}), Ok(Decision::no_opinion("why")));
        check(json!({"status": {"denied": true}}), Ok(Decision { denied: true, ..Decision::default() }));
        let both = "webhook subject access review returned both allow and deny response".to_owned();
        check(
            json!({"status": {"denied": true, "allowed": true}}),
            Ok(Decision { denied: true, error: Some(both), ..Decision::default() }),
        );
        check(json!({"apiVersion": "authorization.k8s.io/v1beta1"}), Err("was expected"));
        check(json!({"kind": "Status"}), Err("was expected"));
        check(json!([]), Err("was expected"));
        assert!(decision(b"no", "v1").unwrap_err().contains("no JSON"));
    }
}
