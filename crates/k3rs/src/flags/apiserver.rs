//! `--kube-apiserver-arg NAME=VALUE`: the API server's own flags, of which those are known that have a meaning here.

use std::path::PathBuf;
use std::time::Duration;

use apiserver::audit::{Format, Mode, Truncate};
use apiserver::authn::Anonymous;
use apiserver::authn::oidc::IssuerOptions;
use apiserver::serve::NamedCertificate;
use apiserver::server::Settings;

use crate::serving;

/// What an argument is checked and kept by.
type Set = fn(&mut Settings, &str) -> Result<(), String>;

/// The flags, by upstream's names, with what holds where nothing is said (empty where nothing does).
const TABLE: &[(&str, &str, Set)] = &[
    ("admission-control-config-file", "", |settings, value| {
        settings.admission.config_file = path(value);
        Ok(())
    }),
    ("anonymous-auth", "", |settings, value| {
        let all = switch(value)?;
        settings.authentication.anonymous = if all { Anonymous::All } else { Anonymous::None };
        Ok(())
    }),
    ("api-audiences", "", |settings, value| {
        settings.tokens.audiences = names(value).collect();
        Ok(())
    }),
    ("audit-log-format", "json", |settings, value| {
        settings.audit.log_format = match value {
            "json" => Format::Json,
            "legacy" => Format::Legacy,
            other => return Err(format!("invalid audit log format {other}, allowed formats are \"legacy,json\"")),
        };
        Ok(())
    }),
    ("audit-log-maxage", "366", |settings, value| number(value).map(|days| settings.audit.retention.days = days)),
    ("audit-log-maxbackup", "100", |settings, value| number(value).map(|files| settings.audit.retention.files = files)),
    ("audit-log-maxsize", "100", |settings, value| {
        number::<u32>(value).map(|megabytes| settings.audit.retention.size = u64::from(megabytes) << 20)
    }),
    ("audit-log-mode", "blocking", |settings, value| mode(value).map(|mode| settings.audit.log_mode = mode)),
    ("audit-log-path", "", |settings, value| {
        settings.audit.log_path = path(value);
        Ok(())
    }),
    ("audit-log-truncate-enabled", "false", |settings, value| {
        let most = settings.audit.truncate.unwrap_or(MAX_EVENT);
        switch(value).map(|on| settings.audit.truncate = on.then_some(most))
    }),
    ("audit-log-truncate-max-event-size", "102400", |settings, value| {
        let most = number(value)?;
        // Said before or after the switch, which alone turns it on.
        settings.audit.truncate = settings.audit.truncate.map(|_| most);
        Ok(())
    }),
    ("audit-log-version", "audit.k8s.io/v1", |_, value| only("audit.k8s.io/v1", value)),
    ("audit-policy-file", "", |settings, value| {
        settings.audit.policy_file = path(value);
        Ok(())
    }),
    ("audit-webhook-batch-buffer-size", "10000", |settings, value| {
        number(value).map(|most| settings.audit.webhook.batch.buffer = most)
    }),
    ("audit-webhook-batch-max-size", "400", |settings, value| {
        number(value).map(|most| settings.audit.webhook.batch.size = most)
    }),
    ("audit-webhook-batch-max-wait", "30s", |settings, value| {
        duration(value).map(|time| settings.audit.webhook.batch.wait = time)
    }),
    ("audit-webhook-batch-throttle-burst", "15", |settings, value| {
        let burst = number(value)?;
        settings.audit.webhook.batch.throttle = settings.audit.webhook.batch.throttle.map(|(rate, _)| (rate, burst));
        Ok(())
    }),
    // By name it comes between what says how.
    ("audit-webhook-batch-throttle-enable", "true", |settings, value| {
        let usual = settings.audit.webhook.batch.throttle;
        switch(value).map(|on| settings.audit.webhook.batch.throttle = usual.filter(|_| on))
    }),
    ("audit-webhook-batch-throttle-qps", "10", |settings, value| {
        let rate: f64 = number(value)?;
        if !(rate.is_finite() && rate > 0.0) {
            return Err(format!("{value} is no number of lists a second"));
        }
        settings.audit.webhook.batch.throttle = settings.audit.webhook.batch.throttle.map(|(_, burst)| (rate, burst));
        Ok(())
    }),
    ("audit-webhook-config-file", "", |settings, value| {
        settings.audit.webhook.config_file = path(value);
        Ok(())
    }),
    ("audit-webhook-initial-backoff", "10s", |settings, value| {
        duration(value).map(|time| settings.audit.webhook.backoff = time)
    }),
    ("audit-webhook-mode", "batch", |settings, value| mode(value).map(|mode| settings.audit.webhook.mode = mode)),
    ("audit-webhook-truncate-enabled", "false", |settings, value| {
        let most = settings.audit.webhook.truncate.unwrap_or_default();
        switch(value).map(|on| settings.audit.webhook.truncate = on.then_some(most))
    }),
    ("audit-webhook-truncate-max-batch-size", "10485760", |settings, value| {
        let batch = number(value)?;
        // Said before or after the switch, which alone turns it on.
        settings.audit.webhook.truncate = settings.audit.webhook.truncate.map(|it| Truncate { batch, ..it });
        Ok(())
    }),
    ("audit-webhook-truncate-max-event-size", "102400", |settings, value| {
        let event = number(value)?;
        settings.audit.webhook.truncate = settings.audit.webhook.truncate.map(|it| Truncate { event, ..it });
        Ok(())
    }),
    ("audit-webhook-version", "audit.k8s.io/v1", |_, value| only("audit.k8s.io/v1", value)),
    ("authentication-config", "", |settings, value| {
        settings.authentication.configuration = path(value);
        Ok(())
    }),
    ("authentication-token-webhook-cache-ttl", "2m0s", |settings, value| {
        duration(value).map(|time| settings.authentication.webhook.cache = time)
    }),
    ("authentication-token-webhook-config-file", "", |settings, value| {
        settings.authentication.webhook.config_file = path(value);
        Ok(())
    }),
    ("authentication-token-webhook-version", "v1beta1", |settings, value| match value {
        "v1" | "v1beta1" => {
            value.clone_into(&mut settings.authentication.webhook.version);
            Ok(())
        }
        other => Err(format!("{other} is neither v1 nor v1beta1")),
    }),
    ("authorization-config", "", |settings, value| {
        settings.authorization.configuration = path(value);
        Ok(())
    }),
    ("authorization-mode", "Node,RBAC", |settings, value| {
        settings.authorization.modes = names(value).collect();
        Ok(())
    }),
    ("authorization-policy-file", "", |settings, value| {
        settings.authorization.policy_file = path(value);
        Ok(())
    }),
    ("authorization-webhook-cache-authorized-ttl", "5m0s", |settings, value| {
        duration(value).map(|time| settings.authorization.authorized_ttl = time)
    }),
    ("authorization-webhook-cache-unauthorized-ttl", "30s", |settings, value| {
        duration(value).map(|time| settings.authorization.unauthorized_ttl = time)
    }),
    ("authorization-webhook-config-file", "", |settings, value| {
        settings.authorization.webhook_file = path(value);
        Ok(())
    }),
    ("authorization-webhook-version", "v1beta1", |settings, value| {
        value.clone_into(&mut settings.authorization.webhook_version);
        Ok(())
    }),
    ("default-not-ready-toleration-seconds", "300", |settings, value| {
        number(value).map(|seconds| settings.admission.not_ready_seconds = seconds)
    }),
    ("default-unreachable-toleration-seconds", "300", |settings, value| {
        number(value).map(|seconds| settings.admission.unreachable_seconds = seconds)
    }),
    ("disable-admission-plugins", "", |settings, value| {
        settings.admission.disable.extend(names(value));
        settings.admission.check().map_err(|why| why.to_string())
    }),
    ("enable-admission-plugins", "", |settings, value| {
        settings.admission.enable.extend(names(value));
        settings.admission.check().map_err(|why| why.to_string())
    }),
    ("enable-bootstrap-token-auth", "true", |settings, value| {
        switch(value).map(|on| settings.authentication.no_bootstrap_tokens = !on)
    }),
    ("enable-priority-and-fairness", "true", |settings, value| switch(value).map(|on| settings.capacity.shared = on)),
    ("encryption-provider-config", "", |settings, value| {
        settings.encryption.configuration = path(value);
        Ok(())
    }),
    ("encryption-provider-config-automatic-reload", "false", |settings, value| {
        switch(value).map(|on| settings.encryption.reload = on)
    }),
    ("etcd-compaction-interval", "5m0s", |settings, value| duration(value).map(|interval| settings.history = interval)),
    ("event-ttl", "1h0m0s", |settings, value| duration(value).map(|time| settings.event_ttl = time)),
    ("goaway-chance", "0", |settings, value| {
        let chance: f64 = number(value)?;
        if !(0.0..=0.02).contains(&chance) {
            return Err(format!("{value} is not between 0 and 0.02"));
        }
        settings.goaway_chance = chance;
        Ok(())
    }),
    ("max-mutating-requests-inflight", "200", |settings, value| {
        number(value).map(|most| settings.capacity.mutating = most)
    }),
    ("max-requests-inflight", "400", |settings, value| number(value).map(|most| settings.capacity.reading = most)),
    ("min-request-timeout", "1800", |settings, value| {
        number::<u32>(value).map(|seconds| settings.times.watch = Duration::from_secs(seconds.into()))
    }),
    ("oidc-ca-file", "", |settings, value| {
        settings.authentication.issuer_authority = path(value);
        Ok(())
    }),
    ("oidc-client-id", "", |settings, value| issuer(settings, |issuer| issuer.audiences = vec![value.to_owned()])),
    ("oidc-groups-claim", "", |settings, value| {
        issuer(settings, |issuer| issuer.groups_claim = Some(value.to_owned()))
    }),
    ("oidc-groups-prefix", "", |settings, value| {
        issuer(settings, |issuer| value.clone_into(&mut issuer.groups_prefix))
    }),
    ("oidc-issuer-url", "", |settings, value| issuer(settings, |issuer| value.clone_into(&mut issuer.url))),
    ("oidc-required-claim", "", |settings, value| {
        let (claim, wanted) = value.split_once('=').ok_or_else(|| format!("{value} is not CLAIM=VALUE"))?;
        issuer(settings, |issuer| {
            issuer.required_claims.insert(claim.to_owned(), wanted.to_owned());
        })
    }),
    ("oidc-signing-algs", "[RS256]", |settings, value| {
        issuer(settings, |issuer| issuer.algorithms = value.split(',').map(str::to_owned).collect())
    }),
    ("oidc-username-claim", "sub", |settings, value| {
        issuer(settings, |issuer| value.clone_into(&mut issuer.username_claim))
    }),
    ("oidc-username-prefix", "", |settings, value| {
        issuer(settings, |issuer| value.clone_into(&mut issuer.username_prefix))
    }),
    ("profiling", "false", |_, value| only("false", value)),
    ("request-timeout", "1m0s", |settings, value| match duration(value)? {
        Duration::ZERO => Err("a request without time is none".to_owned()),
        time => {
            settings.times.request = time;
            Ok(())
        }
    }),
    ("service-account-extend-token-expiration", "true", |settings, value| {
        switch(value).map(|extend| settings.tokens.extend = extend)
    }),
    // Said several times: the first signs, all are believed.
    ("service-account-issuer", "", |settings, value| {
        if value.is_empty() || settings.tokens.issuers.iter().any(|known| known == value) {
            return Err("each issuer is said once, and is not empty".to_owned());
        }
        settings.tokens.issuers.push(value.to_owned());
        Ok(())
    }),
    ("service-account-jwks-uri", "", |settings, value| match value.strip_prefix("https://") {
        Some(rest) if !rest.is_empty() => {
            settings.keys_uri = Some(value.to_owned());
            Ok(())
        }
        _ => Err(format!("{value} is no address that begins with https://")),
    }),
    ("service-account-lookup", "true", |_, value| only("true", value)),
    ("service-account-max-token-expiration", "0s", |settings, value| {
        let seconds = duration(value)?.as_secs().cast_signed();
        if seconds != 0 && !(3600..=1 << 32).contains(&seconds) {
            return Err(format!("{value} is not between 1 hour and 2^32 seconds"));
        }
        settings.tokens.longest = (seconds != 0).then_some(seconds);
        Ok(())
    }),
    ("shutdown-delay-duration", "0s", |settings, value| duration(value).map(|time| settings.shutdown_delay = time)),
    ("tls-cert-file", "", |settings, value| {
        settings.tls.certificate = path(value);
        Ok(())
    }),
    ("tls-cipher-suites", "", |settings, value| {
        settings.tls.ciphers = names(value).collect();
        serving::check_ciphers(&settings.tls.ciphers)
    }),
    ("tls-min-version", "VersionTLS12", |settings, value| {
        settings.tls.only_1_3 = match value {
            "VersionTLS12" => false,
            "VersionTLS13" => true,
            other => return Err(format!("{other} is neither VersionTLS12 nor VersionTLS13")),
        };
        Ok(())
    }),
    ("tls-private-key-file", "", |settings, value| {
        settings.tls.key = path(value);
        Ok(())
    }),
    // Said several times: the first that fits is shown.
    ("tls-sni-cert-key", "", |settings, value| {
        let (files, patterns) = value.split_once(':').unwrap_or((value, ""));
        let files = files.split_once(',').filter(|(certificate, key)| !certificate.is_empty() && !key.is_empty());
        let wrong = || format!("{value} is not CERTIFICATE,KEY or CERTIFICATE,KEY:NAME,NAME");
        let (certificate, key) = files.map(|(certificate, key)| (certificate.into(), key.into())).ok_or_else(wrong)?;
        settings.tls.by_name.push(NamedCertificate { certificate, key, names: names(patterns).collect() });
        Ok(())
    }),
];

/// Flags of upstream's that people pass and that have no meaning here, with what to do instead.
const REFUSED: &[(&str, &str)] = &[
    ("client-ca-file", "clients are known by the authority in the data directory, server/tls/client-ca.crt"),
    ("default-watch-cache-size", "the watch cache finds its size by itself: leave it out"),
    ("etcd-servers", "the datastore is in the data directory: leave it out"),
    ("feature-gates", "what 1.36 has on by default is on, and nothing else: leave it out"),
    ("runtime-config", "what 1.36 serves by default is served, and nothing else: leave it out"),
    ("service-account-key-file", "tokens are signed by the key in the data directory, server/tls/service.key"),
    ("service-account-signing-key-file", "tokens are signed by the key in the data directory, server/tls/service.key"),
    ("watch-cache", "lists and watches are served from it always: leave it out"),
    ("watch-cache-sizes", "the watch cache finds its size by itself: leave it out"),
];

/// Upstream's size of an event above which it is truncated.
const MAX_EVENT: usize = 100 << 10;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiServerArgumentError {
    #[error("--kube-apiserver-arg {0}: write NAME=VALUE, such as audit-policy-file=/etc/rancher/k3s/audit.yaml")]
    Form(String),
    #[error("--kube-apiserver-arg {name}: there is no such setting here: known are {known}")]
    Unknown { name: String, known: String },
    #[error("--kube-apiserver-arg {name}: it is not to be had here: {instead}")]
    Refused { name: &'static str, instead: &'static str },
    #[error("--kube-apiserver-arg {name}: {why}")]
    Value { name: String, why: String },
}

/// What the arguments say; upstream's defaults for the rest. The last word on each counts.
pub fn api_settings(arguments: &[String]) -> Result<Settings, ApiServerArgumentError> {
    let mut settings = Settings::default();
    let mut stated = Vec::new();
    for argument in arguments {
        let pair = argument.trim_start_matches("--").split_once('=');
        stated.push(pair.ok_or_else(|| ApiServerArgumentError::Form(argument.clone()))?);
    }
    exclude(&stated)?;
    // A switch comes before what says how, by name.
    stated.sort_by_key(|(name, _)| *name);
    settings.flags = TABLE.iter().map(|(name, usual, _)| (*name, (*usual).to_owned())).collect();
    for (name, value) in stated {
        if let Some((name, instead)) = REFUSED.iter().find(|(refused, _)| *refused == name) {
            return Err(ApiServerArgumentError::Refused { name, instead });
        }
        let Some((known, _, set)) = TABLE.iter().find(|(known, ..)| *known == name) else {
            let known = TABLE.iter().map(|(name, ..)| *name).collect::<Vec<_>>().join(", ");
            return Err(ApiServerArgumentError::Unknown { name: name.to_owned(), known });
        };
        set(&mut settings, value).map_err(|why| ApiServerArgumentError::Value { name: name.to_owned(), why })?;
        settings.flags.insert(known, value.to_owned());
    }
    if settings.tls.certificate.is_some() != settings.tls.key.is_some() {
        let why = "say both tls-cert-file and tls-private-key-file".to_owned();
        return Err(ApiServerArgumentError::Value { name: "tls-cert-file".to_owned(), why });
    }
    complete_issuer(&mut settings)
        .map_err(|why| ApiServerArgumentError::Value { name: "oidc-issuer-url".to_owned(), why })?;
    Ok(settings)
}

/// A file that says all leaves nothing for others to say.
fn exclude(stated: &[(&str, &str)]) -> Result<(), ApiServerArgumentError> {
    const SAYING_ALL: [(&str, &[&str]); 2] = [
        ("authorization-config", &["authorization-mode", "authorization-webhook-"]),
        ("authentication-config", &["oidc-"]),
    ];
    for (file, others) in SAYING_ALL {
        let said = |name: &str| others.iter().any(|other| name.starts_with(other));
        let other = stated.iter().find(|(name, _)| said(name));
        if let Some((other, _)) = other.filter(|_| stated.iter().any(|(name, _)| *name == file)) {
            let why = format!("{other} can not be specified beside it: say it in the file");
            return Err(ApiServerArgumentError::Value { name: file.to_owned(), why });
        }
    }
    Ok(())
}

/// Changes what is said of the issuer.
fn issuer(settings: &mut Settings, change: impl FnOnce(&mut IssuerOptions)) -> Result<(), String> {
    let fresh = || IssuerOptions { algorithms: vec!["RS256".to_owned()], ..IssuerOptions::default() };
    change(settings.authentication.issuer.get_or_insert_with(fresh));
    Ok(())
}

/// Upstream's rules for what is not said: names that are not addresses are told apart by their issuer.
fn complete_issuer(settings: &mut Settings) -> Result<(), String> {
    let Some(issuer) = &mut settings.authentication.issuer else { return Ok(()) };
    if issuer.url.is_empty() || issuer.audiences.is_empty() {
        return Err("say both oidc-issuer-url and oidc-client-id".to_owned());
    }
    match issuer.username_prefix.as_str() {
        "-" => issuer.username_prefix.clear(),
        "" if issuer.username_claim != "email" => issuer.username_prefix = format!("{}#", issuer.url),
        _ => {}
    }
    Ok(())
}

fn path(value: &str) -> Option<PathBuf> {
    (!value.is_empty()).then(|| PathBuf::from(value))
}

/// `a,b`
fn names(value: &str) -> impl Iterator<Item = String> {
    value.split(',').map(str::trim).filter(|name| !name.is_empty()).map(str::to_owned)
}

fn number<T: std::str::FromStr>(value: &str) -> Result<T, String> {
    value.parse().map_err(|_| format!("{value} is no number that it can be"))
}

/// Such as `2m`, `30s`.
fn duration(value: &str) -> Result<Duration, String> {
    let time = value.parse::<api::duration::Duration>().ok().and_then(api::duration::Duration::to_std);
    time.ok_or_else(|| format!("{value} is no time: write it as 2m, 30s or 1m30s"))
}

fn switch(value: &str) -> Result<bool, String> {
    value.parse().map_err(|_| format!("{value} is neither true nor false"))
}

fn mode(value: &str) -> Result<Mode, String> {
    match value {
        "batch" => Ok(Mode::Batch),
        "blocking" => Ok(Mode::Blocking),
        "blocking-strict" => Ok(Mode::BlockingStrict),
        other => Err(format!("{other} is neither batch, blocking nor blocking-strict")),
    }
}

/// A setting of which there is one value here.
fn only(known: &str, value: &str) -> Result<(), String> {
    if value == known { Ok(()) } else { Err(format!("{value} is not to be had: say {known}, or nothing")) }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;

    fn parse(arguments: &[&str]) -> Result<Settings, String> {
        api_settings(&arguments.iter().map(|&it| it.into()).collect::<Vec<_>>()).map_err(|why| why.to_string())
    }

    #[test]
    fn what_holds_unsaid_changes_nothing_when_it_is_said() {
        let said = |(name, usual, set): &(&str, &str, Set)| {
            let mut settings = Settings::default();
            let outcome = set(&mut settings, usual);
            (outcome.is_err() || settings != Settings::default()).then(|| format!("{name}={usual}"))
        };
        let known = TABLE.iter().filter(|(name, usual, _)| !usual.is_empty() && !name.starts_with("oidc-"));
        assert_eq!(known.filter_map(said).collect::<Vec<_>>(), Vec::<String>::new());
        assert!(TABLE.is_sorted_by_key(|(name, ..)| *name));
    }

    #[test]
    fn arguments_are_upstreams_flags() {
        assert_eq!(parse(&[]).map(|settings| Settings { flags: BTreeMap::new(), ..settings }), Ok(Settings::default()));
        let flags = parse(&["event-ttl=30m"]).unwrap().flags;
        assert_eq!((flags["event-ttl"].as_str(), flags["audit-log-maxage"].as_str()), ("30m", "366"));
        let audit = parse(&[
            "audit-log-truncate-max-event-size=7",
            "audit-log-path=/var/log/audit.log",
            "--audit-policy-file=/etc/audit.yaml",
            "audit-log-maxsize=1",
            "audit-log-maxsize=2",
            "audit-log-maxage=30",
            "audit-log-truncate-enabled=true",
            "audit-log-format=legacy",
        ]);
        let audit = audit.unwrap().audit;
        assert_eq!(audit.log_format, Format::Legacy);
        assert!(parse(&["audit-log-format=text"]).unwrap_err().ends_with("allowed formats are \"legacy,json\""));
        assert_eq!(audit.log_path, Some("/var/log/audit.log".into()));
        assert_eq!(audit.policy_file, Some("/etc/audit.yaml".into()));
        assert_eq!((audit.retention.size, audit.retention.days, audit.retention.files), (2 << 20, 30, 100));
        assert_eq!(audit.truncate, Some(7));
        let webhook = parse(&[
            "audit-webhook-mode=blocking-strict",
            "audit-webhook-truncate-max-event-size=7",
            "audit-webhook-truncate-enabled=true",
            "audit-webhook-batch-throttle-enable=false",
            "audit-webhook-batch-throttle-qps=3",
            "audit-webhook-initial-backoff=1s",
        ]);
        let webhook = webhook.unwrap().audit.webhook;
        assert_eq!((webhook.mode, webhook.backoff.as_secs()), (Mode::BlockingStrict, 1));
        assert_eq!(webhook.truncate, Some(Truncate { event: 7, ..Truncate::default() }));
        assert_eq!(webhook.batch.throttle, None);
        assert!(!parse(&["enable-priority-and-fairness=false"]).unwrap().capacity.shared);
        assert_eq!(parse(&["etcd-compaction-interval=1m30s"]).unwrap().history.as_secs(), 90);
        let plugins = parse(&[
            "enable-admission-plugins=NodeRestriction,EventRateLimit",
            "disable-admission-plugins=PodSecurity",
        ]);
        let plugins = plugins.unwrap().admission;
        assert_eq!(
            (plugins.enable.join(" ").as_str(), plugins.disable.join(" ").as_str()),
            ("NodeRestriction EventRateLimit", "PodSecurity")
        );
        assert!(parse(&["enable-admission-plugins=ImagePolicies"]).unwrap_err().contains("no such plugin"));
        assert_eq!(parse(&["default-not-ready-toleration-seconds=30"]).unwrap().admission.not_ready_seconds, 30);
        assert_eq!(parse(&["event-ttl=30m"]).unwrap().event_ttl.as_secs(), 1800);
        let keys = parse(&["service-account-jwks-uri=https://a/keys"]).unwrap().keys_uri;
        assert_eq!(keys.as_deref(), Some("https://a/keys"));
    }

    #[test]
    fn tokens_are_signed_by_the_first_issuer_for_those_who_are_named() {
        let said = ["service-account-issuer=https://b", "service-account-issuer=https://a", "api-audiences=x, y"];
        let tokens = parse(&said).unwrap().tokens;
        assert_eq!(
            (tokens.issuers.join(" ").as_str(), tokens.audiences.join(" ").as_str()),
            ("https://b https://a", "x y")
        );
        assert!(parse(&["service-account-issuer=a", "service-account-issuer=a"]).is_err());
        let tokens = parse(&["service-account-max-token-expiration=2h"]).unwrap().tokens;
        assert_eq!((tokens.longest, tokens.extend), (Some(7200), true));
        assert!(parse(&["service-account-max-token-expiration=59m"]).is_err());
        assert!(!parse(&["service-account-extend-token-expiration=false"]).unwrap().tokens.extend);
    }

    #[test]
    fn what_is_not_to_be_had_is_refused_with_what_to_do() {
        let modes = parse(&["authorization-mode=RBAC,Webhook"]).unwrap().authorization.modes;
        assert_eq!(modes.join(" "), "RBAC Webhook");
        let policies = parse(&["authorization-mode=Node,ABAC", "authorization-policy-file=/a"]).unwrap().authorization;
        assert_eq!((policies.modes.join(" ").as_str(), policies.policy_file), ("Node ABAC", Some("/a".into())));
        assert!(parse(&["authorization-config=/a", "authorization-mode=RBAC"]).unwrap_err().contains("in the file"));
        assert!(parse(&["authentication-config=/a", "oidc-client-id=a"]).unwrap_err().contains("in the file"));
        let why = "--kube-apiserver-arg watch-cache-sizes: it is not to be had here: \
                   the watch cache finds its size by itself: leave it out";
        assert_eq!(parse(&["watch-cache-sizes=pods#100"]), Err(why.to_owned()));
        assert!(REFUSED.is_sorted_by_key(|(name, _)| *name));
        assert!(REFUSED.iter().all(|(refused, _)| TABLE.iter().all(|(name, ..)| name != refused)));
    }

    #[test]
    fn certificates_are_said_with_their_keys_and_names() {
        let said = parse(&[
            "tls-cert-file=/a.crt",
            "tls-private-key-file=/a.key",
            "tls-sni-cert-key=/b.crt,/b.key:*.b.example, b.example",
            "tls-sni-cert-key=/c.crt,/c.key",
            "tls-min-version=VersionTLS13",
        ]);
        let tls = said.unwrap().tls;
        assert_eq!((tls.certificate, tls.only_1_3), (Some("/a.crt".into()), true));
        assert_eq!(tls.by_name[0].names, ["*.b.example", "b.example"]);
        assert!(tls.by_name[1].names.is_empty());
        assert!(parse(&["tls-cert-file=/a.crt"]).is_err());
        assert!(parse(&["tls-sni-cert-key=/a.crt"]).is_err());
        assert!(parse(&["tls-min-version=VersionTLS11"]).is_err());
        assert!(parse(&["tls-cipher-suites=TLS_NULL"]).unwrap_err().contains("TLS_NULL"));
        assert!(parse(&["tls-cipher-suites=TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384"]).is_ok());
    }

    #[test]
    fn requests_have_the_time_that_is_said() {
        let said = parse(&["request-timeout=5m", "min-request-timeout=60", "goaway-chance=0.01", "profiling=false"]);
        let said = said.unwrap();
        assert_eq!((said.times.request.as_secs(), said.times.watch.as_secs()), (300, 60));
        assert!((said.goaway_chance - 0.01).abs() < 1e-9);
        assert!(parse(&["goaway-chance=0.03"]).is_err());
        assert!(parse(&["request-timeout=0s"]).is_err());
        assert!(parse(&["profiling=true"]).is_err());
    }

    #[test]
    fn an_issuer_is_said_by_several_arguments() {
        let said = parse(&["oidc-issuer-url=https://a", "oidc-client-id=k8s", "oidc-required-claim=hd=b"]).unwrap();
        let issuer = said.authentication.issuer.unwrap();
        assert_eq!((issuer.username_prefix.as_str(), issuer.algorithms.join(" ").as_str()), ("https://a#", "RS256"));
        assert_eq!(issuer.required_claims["hd"], "b");
        let bare = parse(&["oidc-issuer-url=https://a", "oidc-client-id=k8s", "oidc-username-prefix=-"]).unwrap();
        assert_eq!(bare.authentication.issuer.unwrap().username_prefix, "");
        assert!(parse(&["oidc-issuer-url=https://a"]).is_err());
        assert_eq!(parse(&["anonymous-auth=true"]).unwrap().authentication.anonymous, Anonymous::All);
        let webhook = parse(&["authentication-token-webhook-cache-ttl=10s"]).unwrap().authentication.webhook;
        assert_eq!(webhook.cache, Duration::from_secs(10));
    }

    #[test]
    fn what_is_not_known_is_refused() {
        for wrong in [
            "audit-log-path",
            "audit-log-maxage=long",
            "audit-log-mode=sometimes",
            "audit-webhook-batch-throttle-qps=0",
            "etcd-servers=x",
            "service-account-jwks-uri=http://a",
            "etcd-compaction-interval=5",
        ] {
            let refused = parse(&[wrong]).unwrap_err();
            assert!(refused.starts_with("--kube-apiserver-arg "), "{refused}");
        }
    }
}
