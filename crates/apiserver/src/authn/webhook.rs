//! Tokens that another server knows: it is asked by a TokenReview, and its answer is believed for a while
//! (upstream: `--authentication-token-webhook-config-file`).

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::HeaderValue;
use serde_json::{Value, json};
use tracing::warn;

use super::User;
use super::serviceaccounts::Verified;
use crate::document::owned_words;
use crate::outbound::{Answers, Callee, Outbound, kubeconfig};

const LIMIT: Duration = Duration::from_secs(30);
/// Answers that are kept.
const MOST_KEPT: usize = 4096;

/// Where to ask, and how long to believe.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WebhookOptions {
    /// A kubeconfig, whose current context is the server to ask.
    pub config_file: Option<PathBuf>,
    pub cache: Duration,
    /// `v1` or `v1beta1`.
    pub version: String,
}

impl Default for WebhookOptions {
    fn default() -> Self {
        Self { config_file: None, cache: Duration::from_secs(120), version: "v1beta1".to_owned() }
    }
}

/// Why nobody can be asked.
#[derive(Debug, thiserror::Error)]
#[error("the token webhook's {}: {why}", path.display())]
pub struct WebhookError {
    path: PathBuf,
    why: String,
}

pub(crate) struct TokenWebhook {
    outbound: Arc<Outbound>,
    callee: Callee,
    authorization: Option<HeaderValue>,
    options: WebhookOptions,
    /// By token and audiences.
    kept: Answers<Option<Verified>>,
}

impl TokenWebhook {
    pub(crate) fn open(options: WebhookOptions, outbound: Arc<Outbound>) -> Result<Option<Self>, WebhookError> {
        let Some(path) = options.config_file.clone() else { return Ok(None) };
        let (callee, authorization) = kubeconfig(&path).map_err(|why| WebhookError { path, why })?;
        Ok(Some(Self { outbound, callee, authorization, options, kept: Answers::new(MOST_KEPT) }))
    }

    /// What the other server says of a token.
    pub(super) async fn user(&self, token: &str, audiences: &[String]) -> Option<Verified> {
        let key = Answers::<Option<Verified>>::key(question(token, audiences).as_bytes());
        if let Some(answer) = self.kept.find(&key) {
            return answer;
        }
        match self.ask(token, audiences).await {
            Ok(answer) => {
                self.kept.keep(key, answer.clone(), self.options.cache);
                answer
            }
            Err(why) => {
                warn!(why, "the token webhook does not answer");
                None
            }
        }
    }

    async fn ask(&self, token: &str, audiences: &[String]) -> Result<Option<Verified>, String> {
        let review = json!({
            "kind": "TokenReview", "apiVersion": format!("authentication.k8s.io/{}", self.options.version),
            "metadata": {}, "spec": {"token": token, "audiences": audiences}, "status": {"user": {}},
        });
        let body = Bytes::from(review.to_string());
        let answer = self.outbound.post_as(&self.callee, self.authorization.as_ref(), body, LIMIT).await;
        let answer = answer.map_err(|why| why.to_string())?;
        let answer: Value = serde_json::from_slice(&answer).map_err(|why| format!("its answer is no JSON: {why}"))?;
        Ok(verified(&answer["status"], audiences))
    }
}

fn verified(status: &Value, audiences: &[String]) -> Option<Verified> {
    if status["authenticated"] != true {
        return None;
    }
    let told = owned_words(&status["audiences"]);
    let good: Vec<String> = audiences.iter().filter(|audience| told.contains(audience)).cloned().collect();
    if !audiences.is_empty() && good.is_empty() {
        return None;
    }
    let user = &status["user"];
    let extra = user["extra"].as_object().into_iter().flatten();
    let user = User {
        name: user["username"].as_str().unwrap_or_default().to_owned(),
        uid: user["uid"].as_str().unwrap_or_default().to_owned(),
        groups: owned_words(&user["groups"]),
        extra: extra.map(|(key, value)| (key.clone(), owned_words(value))).collect(),
    };
    Some(Verified { user, audiences: good })
}

/// What is asked, as one text.
fn question(token: &str, audiences: &[String]) -> String {
    format!("{token}\0{}", audiences.join("\0"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_name_users_for_the_audiences_they_were_asked() {
        let status = |audiences: Value| json!({"authenticated": true, "audiences": audiences, "user": {"username": "bob", "groups": ["dev"]}});
        let wanted = ["k8s".to_owned()];
        assert_eq!(verified(&status(Value::Null), &[]).unwrap().user.name, "bob");
        assert_eq!(verified(&status(json!(["k8s", "x"])), &wanted).unwrap().audiences, wanted);
        assert!(verified(&status(json!(["x"])), &wanted).is_none());
        assert!(verified(&json!({"authenticated": false, "user": {"username": "bob"}}), &[]).is_none());
        assert_ne!(question("a", &wanted), question("a", &[]));
    }
}
