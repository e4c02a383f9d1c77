//! The webhooks that are configured. A state of the configurations is read once, so that a write costs nothing more
//! where there are none, and little where there are.

use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use parking_lot::Mutex;
use serde_json::Value;

use super::review::ReviewVersion;
use crate::admission::conditions::Conditions;
use crate::admission::matching::{Criteria, Rule};
use crate::cache::{Filter, ResourceCache};
use crate::outbound::{Address, Callee, client_config};
use api::cel::expressions::Compiler;

/// What a configuration gets that says nothing; defaulting says it for all but what was stored before.
const TIMEOUT: u64 = 10;

/// One webhook of a configuration.
pub(super) struct Webhook {
    pub(super) configuration: String,
    /// Who it is among all webhooks.
    pub(super) uid: String,
    pub(super) name: String,
    pub(super) criteria: Criteria,
    pub(super) fails_closed: bool,
    pub(super) conditions: Conditions,
    pub(super) takes_dry_run: bool,
    pub(super) timeout: Duration,
    pub(super) review_version: Option<ReviewVersion>,
    pub(super) reinvoke: bool,
    pub(super) callee: Result<Callee, String>,
}

/// The configurations of one kind, read.
pub(super) struct Configurations {
    cache: Arc<ResourceCache>,
    read: Mutex<(u64, Arc<Vec<Webhook>>)>,
}

impl Configurations {
    pub(super) fn new(cache: Arc<ResourceCache>) -> Self {
        Self { cache, read: Mutex::default() }
    }

    /// The webhooks of all configurations, which are in order of their names.
    pub(super) fn current(&self) -> Arc<Vec<Webhook>> {
        let revision = self.cache.revision();
        let mut read = self.read.lock();
        if read.0 != revision {
            let listing = self.cache.list(&Filter::default());
            let webhooks = listing.entries.iter().flat_map(|entry| Webhook::all_of(&entry.to_value())).collect();
            *read = (listing.revision, Arc::new(webhooks));
        }
        read.1.clone()
    }
}

impl Webhook {
    fn all_of(configuration: &Value) -> Vec<Self> {
        let webhooks = configuration["webhooks"].as_array().into_iter().flatten();
        webhooks.enumerate().map(|(index, webhook)| Self::read(configuration, webhook, index)).collect()
    }

    fn read(configuration: &Value, webhook: &Value, index: usize) -> Self {
        let configuration = configuration["metadata"]["name"].as_str().unwrap_or_default();
        let text = |field: &str| webhook[field].as_str().unwrap_or_default();
        let versions = webhook["admissionReviewVersions"].as_array().into_iter().flatten();
        Self {
            configuration: configuration.to_owned(),
            uid: format!("{configuration}/{}/{index}", text("name")),
            name: text("name").to_owned(),
            criteria: Criteria::read(webhook, Some(Rule::all_of(&webhook["rules"]))),
            fails_closed: text("failurePolicy") != "Ignore",
            conditions: Conditions::compile(&Compiler::plain(false), &webhook["matchConditions"]),
            takes_dry_run: matches!(text("sideEffects"), "None" | "NoneOnDryRun"),
            timeout: Duration::from_secs(webhook["timeoutSeconds"].as_u64().unwrap_or(TIMEOUT)),
            review_version: versions.filter_map(|version| ReviewVersion::parse(version.as_str()?)).next(),
            reinvoke: text("reinvocationPolicy") == "IfNeeded",
            callee: callee(&webhook["clientConfig"]),
        }
    }
}

fn callee(config: &Value) -> Result<Callee, String> {
    let address = Address::of(config).map_err(|why| why.to_string())?;
    let authorities = STANDARD.decode(config["caBundle"].as_str().unwrap_or_default());
    let authorities = authorities.map_err(|why| format!("unable to load root certificates: {why}"))?;
    let tls = client_config(&authorities, None).map_err(|why| why.to_string())?;
    Ok(Callee { address, tls })
}
