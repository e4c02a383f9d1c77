//! Where a registry's images are asked for: k3s's `registries.yaml`, read.
//!
//! A registry's mirrors come first, in their order, then the registry itself. What is said of `*` holds for registries
//! of which nothing else is said.

use std::collections::BTreeMap;
use std::net::IpAddr;

use regex::{Regex, RegexBuilder};
use rustls::ClientConfig;

use super::auth::Credentials;
use crate::images::names::DOCKER;

/// Where Docker's registry is, which calls itself otherwise.
const DOCKER_HOST: &str = "registry-1.docker.io";
/// What is said of registries of which nothing else is said.
const ANY: &str = "*";
/// A compiled pattern that takes more memory than this is refused.
const LARGEST_PATTERN: usize = 1 << 20;

/// What is said of registries.
#[derive(Clone, Debug, Default)]
pub struct Registries {
    /// By registry, or `*`.
    pub mirrors: BTreeMap<String, Mirror>,
    /// By host with its port, or `*`.
    pub hosts: BTreeMap<String, Host>,
    /// A registry that has mirrors is not asked itself.
    pub mirrors_only: bool,
}

/// Who is asked in place of a registry.
#[derive(Clone, Debug, Default)]
pub struct Mirror {
    pub endpoints: Vec<Endpoint>,
    /// Of the path of repositories; the first that changes it counts.
    pub rewrites: Vec<Rewrite>,
}

/// How a host is spoken to.
#[derive(Clone, Debug, Default)]
pub struct Host {
    pub credentials: Option<Credentials>,
    pub tls: Option<HostTls>,
}

/// Whom to believe at a host, and what to show it.
#[derive(Clone, Debug)]
pub struct HostTls {
    /// With the certificate that is shown to the host.
    pub own: ClientConfig,
    /// Without: for those to whom the host sends us.
    pub others: ClientConfig,
}

/// The URL below which a registry's API is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Endpoint {
    pub(super) secure: bool,
    /// Whether that is what was said, or what is usual.
    stated: bool,
    /// Host with its port.
    pub(super) authority: String,
    path: String,
}

/// Why a text is no endpoint.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum EndpointError {
    #[error("it is no URL: write https://HOST[:PORT][/PATH]")]
    Url,
    #[error("its scheme is {0}: write http or https")]
    Scheme(String),
    #[error("it has credentials: write them under configs, as auth of the host")]
    Credentials,
    #[error("it has a query: an endpoint is a scheme, a host and a path")]
    Query,
}

impl Endpoint {
    /// From a URL, or from a host as images' names have it.
    pub fn parse(text: &str) -> Result<Self, EndpointError> {
        let (scheme, rest) = text.split_once("://").map_or((None, text), |(scheme, rest)| (Some(scheme), rest));
        let uri: http::Uri = format!("http://{rest}").parse().map_err(|_| EndpointError::Url)?;
        if uri.query().is_some() || rest.contains('#') {
            return Err(EndpointError::Query);
        }
        let (authority, host) = uri.authority().zip(uri.host()).ok_or(EndpointError::Url)?;
        if authority.as_str().contains('@') {
            return Err(EndpointError::Credentials);
        }
        if host.is_empty() || host.contains('*') || authority.as_str().ends_with(':') {
            return Err(EndpointError::Url);
        }
        let secure = match scheme.map(str::to_ascii_lowercase).as_deref() {
            Some("https") => true,
            Some("http") => false,
            Some(other) => return Err(EndpointError::Scheme(other.to_owned())),
            // Who serves at an odd port of this very host has no certificate.
            None => !is_local(host) || matches!(uri.port_u16(), None | Some(443)),
        };
        let authority = match authority.as_str() {
            DOCKER => DOCKER_HOST,
            other => other,
        };
        let path = match uri.path().trim_end_matches('/') {
            "" => "/v2",
            path => path,
        };
        Ok(Self { secure, stated: scheme.is_some(), authority: authority.to_ascii_lowercase(), path: path.to_owned() })
    }

    /// As names of images and `configs` have it.
    pub fn registry(&self) -> &str {
        if self.authority == DOCKER_HOST { DOCKER } else { &self.authority }
    }

    pub(super) fn base(&self) -> String {
        let scheme = if self.secure { "https" } else { "http" };
        format!("{scheme}://{}{}", self.authority, self.path)
    }
}

fn is_local(host: &str) -> bool {
    let ip = host.trim_matches(['[', ']']).parse::<IpAddr>();
    host.eq_ignore_ascii_case("localhost") || ip.is_ok_and(|it| it.is_loopback())
}

/// A pattern of paths, and what stands in place of what it matches: `$1` is its first group.
#[derive(Clone, Debug)]
pub struct Rewrite {
    pattern: Regex,
    replacement: String,
}

/// Why a text is no pattern.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum RewriteError {
    #[error("the pattern is too large: write a shorter one")]
    Size,
    #[error("it is no regular expression: {0}")]
    Syntax(String),
}

impl Rewrite {
    /// Patterns are matched in linear time, whatever they say.
    pub fn new(pattern: &str, replacement: &str) -> Result<Self, RewriteError> {
        let compiled = RegexBuilder::new(pattern).size_limit(LARGEST_PATTERN).build();
        let pattern = compiled.map_err(|why| match why {
            regex::Error::CompiledTooBig(_) => RewriteError::Size,
            // The last of its lines; those above show the pattern.
            other => RewriteError::Syntax(last_line(&other.to_string())),
        })?;
        Ok(Self { pattern, replacement: replacement.to_owned() })
    }

    fn apply(&self, path: &str) -> Option<String> {
        let changed = self.pattern.replace_all(path, &self.replacement);
        (changed != path).then(|| changed.into_owned())
    }
}

fn last_line(text: &str) -> String {
    let line = text.lines().last().unwrap_or_default();
    line.trim_start_matches("error: ").to_owned()
}

/// Somebody to be asked for a repository.
#[derive(Clone, Debug)]
pub(super) struct Place {
    pub(super) endpoint: Endpoint,
    /// The repository's path there.
    pub(super) path: String,
    /// The registry in whose place it is asked, which mirrors of several want to be told.
    pub(super) namespace: Option<String>,
    pub(super) credentials: Option<Credentials>,
    pub(super) tls: Option<HostTls>,
}

impl Registries {
    /// Whom to ask for `path` of `registry`, in order. The pod's credentials are for the registry itself alone.
    pub(super) fn places(
        &self,
        registry: &str,
        path: &str,
        pod: Option<&Credentials>,
    ) -> Result<Vec<Place>, EndpointError> {
        let mirror = match (self.mirrors.get(registry), self.host(registry)) {
            (None, None) => self.mirrors.get(ANY),
            (found, _) => found,
        };
        let own = Endpoint::parse(registry)?;
        let host = self.host(registry).or_else(|| match self.mirrors.contains_key(registry) {
            true => None,
            false => self.hosts.get(ANY),
        });
        let mut places: Vec<Place> = Vec::new();
        for endpoint in mirror.into_iter().flat_map(|it| &it.endpoints) {
            if places.iter().any(|it| it.endpoint == *endpoint) {
                continue;
            }
            let itself = endpoint.registry() == own.registry();
            let host = if itself { host } else { self.host(endpoint.registry()) };
            let rewrites = mirror.map(|it| it.rewrites.as_slice()).unwrap_or_default();
            places.push(Place {
                endpoint: endpoint.clone(),
                path: rewrites.iter().find_map(|it| it.apply(path)).unwrap_or_else(|| path.to_owned()),
                namespace: (!itself).then(|| registry.to_owned()),
                credentials: pod.filter(|_| itself).or(host.and_then(|it| it.credentials.as_ref())).cloned(),
                tls: host.and_then(|it| it.tls.clone()),
            });
        }
        let named = places.iter().any(|it| it.endpoint.base() == own.base());
        if places.is_empty() || !(named || self.mirrors_only) {
            let tls = host.and_then(|it| it.tls.clone());
            let secure = own.secure || (!own.stated && tls.is_some());
            places.push(Place {
                endpoint: Endpoint { secure, ..own },
                path: path.to_owned(),
                namespace: None,
                credentials: pod.or(host.and_then(|it| it.credentials.as_ref())).cloned(),
                tls,
            });
        }
        Ok(places)
    }

    /// What is said of a host by its name, or by the other that Docker's has.
    pub(super) fn host(&self, registry: &str) -> Option<&Host> {
        let other = match registry {
            DOCKER => Some(DOCKER_HOST),
            _ => None,
        };
        other.and_then(|it| self.hosts.get(it)).or_else(|| self.hosts.get(registry))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mirror(endpoints: &[&str], rewrites: &[(&str, &str)]) -> Mirror {
        Mirror {
            endpoints: endpoints.iter().map(|it| Endpoint::parse(it).unwrap()).collect(),
            rewrites: rewrites.iter().map(|(pattern, with)| Rewrite::new(pattern, with).unwrap()).collect(),
        }
    }

    fn asked(registries: &Registries, registry: &str) -> Vec<String> {
        let places = registries.places(registry, "team/app", None).unwrap();
        let text = |it: Place| format!("{}/{}", it.endpoint.base(), it.path);
        places.into_iter().map(text).collect()
    }

    #[test]
    fn endpoints_are_urls_or_hosts() {
        let base = |text: &str| Endpoint::parse(text).map(|it| it.base());
        for (text, expected) in [
            ("docker.io", "https://registry-1.docker.io/v2"),
            ("https://mirror.example/", "https://mirror.example/v2"),
            ("https://mirror.example/v2", "https://mirror.example/v2"),
            ("https://mirror.example:8443/v2/proxy/", "https://mirror.example:8443/v2/proxy"),
            ("http://mirror.example", "http://mirror.example/v2"),
            ("localhost:5000", "http://localhost:5000/v2"),
            ("127.0.0.1:5000", "http://127.0.0.1:5000/v2"),
            ("[::1]:5000", "http://[::1]:5000/v2"),
            ("localhost", "https://localhost/v2"),
            ("mirror.example:5000", "https://mirror.example:5000/v2"),
        ] {
            assert_eq!(base(text).as_deref(), Ok(expected), "{text}");
        }
        assert_eq!(base("https://me:secret@mirror.example"), Err(EndpointError::Credentials));
        assert_eq!(base("file:///etc"), Err(EndpointError::Url));
        assert_eq!(base("ftp://mirror.example"), Err(EndpointError::Scheme("ftp".to_owned())));
        assert_eq!(base("https://mirror.example/?a=b"), Err(EndpointError::Query));
        assert!(base("").is_err() && base("*").is_err() && base("a b").is_err());
    }

    #[test]
    fn mirrors_come_in_order_and_the_registry_itself_last() {
        let mut registries = Registries::default();
        let rewrites = [("^team/(.*)", "cache/$1")];
        registries
            .mirrors
            .insert("docker.io".to_owned(), mirror(&["https://a", "https://b:1", "https://a"], &rewrites));
        registries.mirrors.insert("*".to_owned(), mirror(&["https://any"], &[]));
        let own = "https://registry-1.docker.io/v2/team/app";
        assert_eq!(asked(&registries, "docker.io"), ["https://a/v2/cache/app", "https://b:1/v2/cache/app", own]);
        assert_eq!(asked(&registries, "quay.io"), ["https://any/v2/team/app", "https://quay.io/v2/team/app"]);
        registries.mirrors_only = true;
        assert_eq!(asked(&registries, "docker.io"), ["https://a/v2/cache/app", "https://b:1/v2/cache/app"]);
        assert_eq!(asked(&registries, "quay.io"), ["https://any/v2/team/app"]);
        registries.mirrors.insert("quay.io".to_owned(), Mirror::default());
        assert_eq!(asked(&registries, "quay.io"), ["https://quay.io/v2/team/app"], "a mirror of nobody hides nobody");
    }

    #[test]
    fn what_is_said_of_a_host_hides_what_is_said_of_all() {
        let credentials = |user: &str| Some(Credentials::password(user, "secret").unwrap());
        let host = |user: &str| Host { credentials: credentials(user), tls: None };
        let mut registries = Registries::default();
        registries.mirrors.insert("*".to_owned(), mirror(&["https://any"], &[]));
        registries.hosts =
            [("*", "anybody"), ("quay.io", "quay"), ("any", "mirror"), ("registry-1.docker.io", "docker")]
                .map(|(name, user)| (name.to_owned(), host(user)))
                .into();
        let users = |registry: &str, pod: Option<&Credentials>| {
            let places = registries.places(registry, "a", pod).unwrap();
            let user = |it: Place| it.credentials.map(|it| it.user().to_owned()).unwrap_or_default();
            places.into_iter().map(user).collect::<Vec<_>>()
        };
        assert_eq!(users("quay.io", None), ["quay"]);
        assert_eq!(users("docker.io", None), ["docker"]);
        assert_eq!(users("ghcr.io", None), ["mirror", "anybody"]);
        assert_eq!(users("ghcr.io", credentials("pod").as_ref()), ["mirror", "pod"], "a pod's are for its registry");
    }

    #[test]
    fn input_35_patterns_that_explode_are_refused_or_take_no_time() {
        assert_eq!(Rewrite::new("(a{1000}){1000}", "").unwrap_err(), RewriteError::Size);
        assert_eq!(Rewrite::new("(", "").unwrap_err(), RewriteError::Syntax("unclosed group".to_owned()));
        let slow = Rewrite::new("^(a+)+$", "b").unwrap();
        assert_eq!(slow.apply(&format!("{}!", "a".repeat(100_000))), None);
    }
}
