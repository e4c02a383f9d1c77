//! What becomes of a Secret that keeps a token.

use std::time::Duration;

use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Timestamp, ToSpan as _};
use serde_json::Value;

pub(super) const TYPE: &str = "kubernetes.io/service-account-token";
pub(super) const INVALID_SINCE: &str = "kubernetes.io/legacy-token-invalid-since";
const LAST_USED: &str = "kubernetes.io/legacy-token-last-used";
const ACCOUNT: &str = "kubernetes.io/service-account.name";
const ACCOUNT_UID: &str = "kubernetes.io/service-account.uid";
/// For how long nobody has used what is put away (upstream's `--legacy-service-account-token-clean-up-period`).
const UNUSED: Duration = Duration::from_secs(365 * 24 * 3600);
/// When Secrets are looked at again: they are dated by the day.
pub(super) const AGAIN: Duration = Duration::from_secs(24 * 3600);

#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Keep,
    /// The token is no longer good; its Secret stays, so that it can be made good again.
    Invalidate,
    Delete,
}

/// The moment at which all Secrets are looked at.
#[derive(Clone, Copy)]
pub(super) struct Now(pub(super) Timestamp);

impl Now {
    pub(super) fn today(self) -> String {
        day(self.0)
    }

    /// What happened before this is long ago.
    fn long_ago(self) -> Timestamp {
        self.0.checked_sub(UNUSED).unwrap_or(Timestamp::MIN)
    }

    /// Whether uses have been told for so long that a token without one is one that nobody uses: whole days after that
    /// on which it began.
    pub(super) fn is_tracked_long_enough(self, since: &str) -> bool {
        let first = date(since).and_then(|date| date.checked_add(1.day()).ok());
        let first = first.and_then(|date| date.to_zoned(TimeZone::UTC).ok());
        first.is_some_and(|first| first.timestamp() <= self.long_ago())
    }
}

/// The account that a Secret names.
pub(super) fn account(secret: &Value) -> String {
    secret["metadata"]["annotations"][ACCOUNT].as_str().unwrap_or_default().to_owned()
}

/// `mounted` are the Secrets that Pods of the namespace name.
pub(super) fn step(secret: &Value, account: Option<&Value>, mounted: &[String], now: Now) -> Step {
    let metadata = &secret["metadata"];
    let label = |key: &str| metadata["labels"][key].as_str();
    let created = metadata["creationTimestamp"].as_str().and_then(|text| text.parse::<Timestamp>().ok());
    let young = created.is_none_or(|created| created >= now.long_ago());
    if secret["type"] != TYPE || young || !metadata["deletionTimestamp"].is_null() {
        return Step::Keep;
    }
    let recent = day(now.long_ago());
    // What cannot be read may be of today.
    if label(LAST_USED).is_some_and(|used| date(used).is_none() || *used >= *recent) {
        return Step::Keep;
    }
    let name = metadata["name"].as_str().unwrap_or_default();
    // Somebody made it who wants it, unless its account knows it.
    if !account.is_some_and(|account| knows(account, secret, name)) || mounted.iter().any(|it| it == name) {
        return Step::Keep;
    }
    match label(INVALID_SINCE).filter(|since| date(since).is_some()) {
        None => Step::Invalidate,
        Some(since) if *since >= *recent => Step::Keep,
        Some(_) => Step::Delete,
    }
}

fn knows(account: &Value, secret: &Value, name: &str) -> bool {
    let stated = secret["metadata"]["annotations"][ACCOUNT_UID].as_str().unwrap_or_default();
    let is_it = stated.is_empty() || account["metadata"]["uid"] == stated;
    is_it && account["secrets"].as_array().into_iter().flatten().any(|known| known["name"] == name)
}

fn day(moment: Timestamp) -> String {
    moment.strftime("%Y-%m-%d").to_string()
}

/// A day as labels have it.
fn date(text: &str) -> Option<Date> {
    Date::strptime("%Y-%m-%d", text).ok().filter(|date| date.to_string() == text)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn now() -> Now {
        Now("2026-07-01T12:00:00Z".parse().unwrap())
    }

    #[test]
    fn tracking_takes_a_year_of_whole_days() {
        let check = |since: &str, expected: bool| assert_eq!(now().is_tracked_long_enough(since), expected, "{since}");
        check("2025-06-30", true);
        check("2025-07-01", false);
        check("2026-01-01", false);
        check("2020-1-1", false);
        check("", false);
    }

    #[test]
    fn what_nobody_has_used_for_a_year_goes() {
        let account = json!({"metadata": {"name": "web", "uid": "u1"}, "secrets": [{"name": "it"}]});
        let check = |change: Value, mounted: &[&str], expected: Step| {
            let mut secret = json!({
                "metadata": {
                    "name": "it", "creationTimestamp": "2020-01-01T00:00:00Z", "labels": {},
                    "annotations": {ACCOUNT: "web", ACCOUNT_UID: "u1"},
                },
                "type": TYPE,
            });
            client::patch::merge(&mut secret, &change);
            let mounted: Vec<String> = mounted.iter().map(|&name| name.to_owned()).collect();
            assert_eq!(step(&secret, Some(&account), &mounted, now()), expected, "{secret}");
        };
        let labels = |key: &str, value: &str| json!({"metadata": {"labels": {key: value}}});
        check(json!({}), &[], Step::Invalidate);
        check(json!({}), &["it"], Step::Keep);
        check(json!({"type": "Opaque"}), &[], Step::Keep);
        check(json!({"metadata": {"creationTimestamp": "2026-01-01T00:00:00Z"}}), &[], Step::Keep);
        check(json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}}), &[], Step::Keep);
        check(json!({"metadata": {"annotations": {ACCOUNT_UID: "u2"}}}), &[], Step::Keep);
        check(json!({"metadata": {"annotations": {ACCOUNT_UID: null}}}), &[], Step::Invalidate);
        check(json!({"metadata": {"name": "other"}}), &[], Step::Keep);
        check(labels(LAST_USED, "2025-07-01"), &[], Step::Keep);
        check(labels(LAST_USED, "2025-06-30"), &[], Step::Invalidate);
        check(labels(LAST_USED, "yesterday"), &[], Step::Keep);
        check(labels(INVALID_SINCE, "soon"), &[], Step::Invalidate);
        check(labels(INVALID_SINCE, "2025-07-01"), &[], Step::Keep);
        check(labels(INVALID_SINCE, "2025-06-30"), &[], Step::Delete);
    }
}
