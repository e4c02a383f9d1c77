//! `--kube-apiserver-arg NAME=VALUE`: the API server's own flags, of which those are known that have a meaning here.

use std::path::PathBuf;
use std::time::Duration;

use apiserver::authn::Anonymous;
use apiserver::authn::oidc::IssuerOptions;
use apiserver::server::Settings;

/// What an argument is checked and kept by.
type Set = fn(&mut Settings, &str) -> Result<(), String>;

/// The flags, by upstream's names.
const TABLE: &[(&str, Set)] = &[
    ("anonymous-auth", |settings, value| {
        let all = switch(value)?;
        settings.authentication.anonymous = if all { Anonymous::All } else { Anonymous::None };
        Ok(())
    }),
    ("audit-log-format", |_, value| only("json", value)),
    ("audit-log-maxage", |settings, value| number(value).map(|days| settings.audit.retention.days = days)),
    ("audit-log-maxbackup", |settings, value| number(value).map(|files| settings.audit.retention.files = files)),
    ("audit-log-maxsize", |settings, value| {
        number::<u32>(value).map(|megabytes| settings.audit.retention.size = u64::from(megabytes) << 20)
    }),
    ("audit-log-mode", |_, value| only("batch", value)),
    ("audit-log-path", |settings, value| {
        settings.audit.log_path = path(value);
        Ok(())
    }),
    ("audit-log-truncate-enabled", |settings, value| {
        let most = settings.audit.truncate.unwrap_or(MAX_EVENT);
        switch(value).map(|on| settings.audit.truncate = on.then_some(most))
    }),
    ("audit-log-truncate-max-event-size", |settings, value| {
        let most = number(value)?;
        // Said before or after the switch, which alone turns it on.
        settings.audit.truncate = settings.audit.truncate.map(|_| most);
        Ok(())
    }),
    ("audit-log-version", |_, value| only("audit.k8s.io/v1", value)),
    ("audit-policy-file", |settings, value| {
        settings.audit.policy_file = path(value);
        Ok(())
    }),
    ("authentication-config", |settings, value| {
        settings.authentication.configuration = path(value);
        Ok(())
    }),
    ("authentication-token-webhook-cache-ttl", |settings, value| {
        duration(value).map(|time| settings.authentication.webhook.cache = time)
    }),
    ("authentication-token-webhook-config-file", |settings, value| {
        settings.authentication.webhook.config_file = path(value);
        Ok(())
    }),
    ("authentication-token-webhook-version", |settings, value| match value {
        "v1" | "v1beta1" => {
            value.clone_into(&mut settings.authentication.webhook.version);
            Ok(())
        }
        other => Err(format!("{other} is neither v1 nor v1beta1")),
    }),
    ("enable-bootstrap-token-auth", |settings, value| {
        switch(value).map(|on| settings.authentication.no_bootstrap_tokens = !on)
    }),
    ("etcd-compaction-interval", |settings, value| duration(value).map(|interval| settings.history = interval)),
    ("max-mutating-requests-inflight", |settings, value| number(value).map(|most| settings.capacity.mutating = most)),
    ("max-requests-inflight", |settings, value| number(value).map(|most| settings.capacity.reading = most)),
    ("oidc-ca-file", |settings, value| {
        settings.authentication.issuer_authority = path(value);
        Ok(())
    }),
    ("oidc-client-id", |settings, value| issuer(settings, |issuer| issuer.audiences = vec![value.to_owned()])),
    ("oidc-groups-claim", |settings, value| issuer(settings, |issuer| issuer.groups_claim = Some(value.to_owned()))),
    ("oidc-groups-prefix", |settings, value| issuer(settings, |issuer| value.clone_into(&mut issuer.groups_prefix))),
    ("oidc-issuer-url", |settings, value| issuer(settings, |issuer| value.clone_into(&mut issuer.url))),
    ("oidc-required-claim", |settings, value| {
        let (claim, wanted) = value.split_once('=').ok_or_else(|| format!("{value} is not CLAIM=VALUE"))?;
        issuer(settings, |issuer| {
            issuer.required_claims.insert(claim.to_owned(), wanted.to_owned());
        })
    }),
    ("oidc-signing-algs", |settings, value| {
        issuer(settings, |issuer| issuer.algorithms = value.split(',').map(str::to_owned).collect())
    }),
    ("oidc-username-claim", |settings, value| issuer(settings, |issuer| value.clone_into(&mut issuer.username_claim))),
    ("oidc-username-prefix", |settings, value| {
        issuer(settings, |issuer| value.clone_into(&mut issuer.username_prefix))
    }),
];

/// Upstream's size of an event above which it is truncated.
const MAX_EVENT: usize = 100 << 10;

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ApiServerArgumentError {
    #[error("--kube-apiserver-arg {0}: write NAME=VALUE, such as audit-policy-file=/etc/rancher/k3s/audit.yaml")]
    Form(String),
    #[error("--kube-apiserver-arg {name}: there is no such setting here: known are {known}")]
    Unknown { name: String, known: String },
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
    // A switch comes before what says how, by name.
    stated.sort_by_key(|(name, _)| *name);
    for (name, value) in stated {
        let Some((_, set)) = TABLE.iter().find(|(known, _)| *known == name) else {
            let known = TABLE.iter().map(|(name, _)| *name).collect::<Vec<_>>().join(", ");
            return Err(ApiServerArgumentError::Unknown { name: name.to_owned(), known });
        };
        set(&mut settings, value).map_err(|why| ApiServerArgumentError::Value { name: name.to_owned(), why })?;
    }
    complete_issuer(&mut settings)
        .map_err(|why| ApiServerArgumentError::Value { name: "oidc-issuer-url".to_owned(), why })?;
    Ok(settings)
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

/// A setting of which there is one value here.
fn only(known: &str, value: &str) -> Result<(), String> {
    if value == known { Ok(()) } else { Err(format!("{value} is not to be had: say {known}, or nothing")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(arguments: &[&str]) -> Result<Settings, String> {
        api_settings(&arguments.iter().map(|&it| it.into()).collect::<Vec<_>>()).map_err(|why| why.to_string())
    }

    #[test]
    fn arguments_are_upstreams_flags() {
        assert_eq!(parse(&[]), Ok(Settings::default()));
        let audit = parse(&[
            "audit-log-truncate-max-event-size=7",
            "audit-log-path=/var/log/audit.log",
            "--audit-policy-file=/etc/audit.yaml",
            "audit-log-maxsize=1",
            "audit-log-maxsize=2",
            "audit-log-maxage=30",
            "audit-log-truncate-enabled=true",
        ]);
        let audit = audit.unwrap().audit;
        assert_eq!(audit.log_path, Some("/var/log/audit.log".into()));
        assert_eq!(audit.policy_file, Some("/etc/audit.yaml".into()));
        assert_eq!((audit.retention.size, audit.retention.days, audit.retention.files), (2 << 20, 30, 100));
        assert_eq!(audit.truncate, Some(7));
        assert_eq!(parse(&["etcd-compaction-interval=1m30s"]).unwrap().history.as_secs(), 90);
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
            "audit-log-mode=blocking",
            "etcd-servers=x",
            "etcd-compaction-interval=5",
        ] {
            let refused = parse(&[wrong]).unwrap_err();
            assert!(refused.starts_with("--kube-apiserver-arg "), "{refused}");
        }
    }
}
