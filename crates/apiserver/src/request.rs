//! What a request asks for, read from its method and path alone.
//!
//! Authorization, audit and dispatch all decide by this one reading of the path, so they cannot disagree
//! (upstream: `k8s.io/apiserver/pkg/endpoints/request`).

use http::Method;

/// A request as authorization and dispatch see it.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct RequestInfo {
    pub path: String,
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete`, `deletecollection`, `proxy`; for paths that are not
    /// resources the lower-case method.
    pub verb: &'static str,
    /// Set for paths that name a resource.
    pub resource: Option<ResourceRequest>,
}

/// The parts of `/api/v1/namespaces/NS/RESOURCE/NAME/SUBRESOURCE/...`.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct ResourceRequest {
    pub group: String,
    pub version: String,
    pub namespace: String,
    pub resource: String,
    pub name: String,
    pub subresource: String,
    /// What follows a subresource: the path behind a proxy.
    pub rest: Vec<String>,
    /// The field selector, as it was sent.
    pub fields: String,
    /// The label selector, as it was sent.
    pub labels: String,
}

/// Subresources of a namespace; any other word behind its name is a resource in it.
const NAMESPACE_SUBRESOURCES: [&str; 2] = ["status", "finalize"];

impl RequestInfo {
    /// Reads `method`, the still encoded `path` and the `query`. `None` when a path segment is not decodable.
    pub fn parse(method: &Method, path: &str, query: &str) -> Option<Self> {
        let mut info = Self { path: path.to_owned(), verb: lower_method(method), resource: None };
        // It is decoded first, as Go does: an escaped slash parts steps, too, for all who decide by them.
        let decoded = percent_decode(path)?;
        // A path that begins twice names nothing; upstream's router knows none.
        let Some(mut resource) = resource_path(&steps(&decoded)).filter(|_| !decoded.starts_with("//")) else {
            return Some(info);
        };
        info.verb = match *method {
            Method::GET | Method::HEAD => "get",
            Method::POST => "create",
            Method::PUT => "update",
            Method::PATCH => "patch",
            Method::DELETE => "delete",
            // Only what is behind a proxy knows others.
            _ => "",
        };
        if let Some(verb) = resource.prefix {
            info.verb = verb;
        } else if resource.parts.name.is_empty() {
            info.verb = match info.verb {
                "get" if truthy(query_value(query, "watch")) => "watch",
                "get" => "list",
                "delete" => "deletecollection",
                verb => verb,
            };
            // A list of the one object that a field selector names is authorized by that name.
            if matches!(info.verb, "list" | "watch") {
                let fields = query_value(query, "fieldSelector").unwrap_or_default();
                resource.parts.name = selected_name(&fields).unwrap_or_default();
            }
        }
        // Whoever authorizes may narrow by what is selected, whatever the verb; old paths never knew selectors.
        if resource.prefix.is_none() && query.contains("Selector=") {
            resource.parts.fields = query_value(query, "fieldSelector").unwrap_or_default();
            resource.parts.labels = query_value(query, "labelSelector").unwrap_or_default();
        }
        info.resource = Some(resource.parts);
        Some(info)
    }

    /// True for a path that ends where a special verb wants more: upstream's reader of paths has no answer but a fault.
    pub(crate) fn is_cut_off(&self) -> bool {
        let steps = percent_decode(&self.path).map(|path| steps(&path)).unwrap_or_default();
        let rest = match steps.first().map(String::as_str) {
            Some("api") => steps.get(2..),
            Some("apis") => steps.get(3..),
            _ => None,
        };
        matches!(rest, Some([verb]) if verb == "watch" || verb == "proxy")
    }

    /// True when the path names a whole collection, whatever name a field selector put beside it.
    pub fn is_collection(&self) -> bool {
        matches!(self.verb, "list" | "watch" | "deletecollection")
    }
}

/// The steps of a decoded path.
fn steps(path: &str) -> Vec<String> {
    path.trim_matches('/').split('/').map(str::to_owned).collect()
}

/// A path up to a step, and the rest, both as they were sent; `behind` is the number of steps that are the rest. `None`
/// where the two are one escaped piece.
pub(crate) fn split_behind(path: &str, behind: usize) -> Option<(&str, &str)> {
    let ahead = steps(&percent_decode(path)?).len().checked_sub(behind)?;
    let mut at = path.len() - path.trim_start_matches('/').len();
    let mut passed = 0;
    for piece in path[at..].split('/') {
        at += piece.len();
        passed += percent_decode(piece)?.split('/').count();
        if passed >= ahead {
            return (passed == ahead).then(|| path.split_at(at));
        }
        at += 1;
    }
    None
}

/// What may not be a step of a path (`k8s.io/apimachinery/pkg/api/validation/path`), and so no object's name in one.
pub(crate) fn name_offence(name: &str) -> Option<&'static str> {
    match name {
        "." => Some("may not be '.'"),
        ".." => Some("may not be '..'"),
        name if name.contains('/') => Some("may not contain '/'"),
        name if name.contains('%') => Some("may not contain '%'"),
        _ => None,
    }
}

struct ResourcePath {
    parts: ResourceRequest,
    /// The verb that stood in front of the resource, as it did in old clients' paths.
    prefix: Option<&'static str>,
}

fn resource_path(segments: &[String]) -> Option<ResourcePath> {
    let (group, version, mut rest) = match segments {
        [api, version, rest @ ..] if api == "api" => (String::new(), version, rest),
        [apis, group, version, rest @ ..] if apis == "apis" => (group.clone(), version, rest),
        _ => return None,
    };
    let prefix = rest.first().and_then(|word| ["watch", "proxy"].into_iter().find(|verb| word == verb));
    if prefix.is_some() {
        rest = &rest[1..];
    }
    let mut parts = ResourceRequest { group, version: version.clone(), ..ResourceRequest::default() };
    let words = match rest {
        [] => return None,
        [namespaces, namespace, more @ ..] if namespaces == "namespaces" => {
            parts.namespace.clone_from(namespace);
            match more {
                [word, ..] if !NAMESPACE_SUBRESOURCES.contains(&word.as_str()) => more,
                _ => rest,
            }
        }
        _ => rest,
    };
    let mut words = words.iter().cloned();
    parts.resource = words.next().unwrap_or_default();
    parts.name = words.next().unwrap_or_default();
    parts.subresource = words.next().unwrap_or_default();
    parts.rest = words.collect();
    Some(ResourcePath { parts, prefix })
}

fn lower_method(method: &Method) -> &'static str {
    match *method {
        Method::GET => "get",
        Method::HEAD => "head",
        Method::POST => "post",
        Method::PUT => "put",
        Method::PATCH => "patch",
        Method::DELETE => "delete",
        Method::OPTIONS => "options",
        _ => "unknown",
    }
}

/// The first value of `key` in a query string, decoded.
pub(crate) fn query_value(query: &str, key: &str) -> Option<String> {
    query_pairs(query).find(|(name, _)| name == key).map(|(_, value)| value)
}

/// The pairs of a query string, decoded; those that cannot be decoded are passed over.
pub(crate) fn query_pairs(query: &str) -> impl Iterator<Item = (String, String)> + '_ {
    query.split('&').filter(|pair| !pair.is_empty()).filter_map(|pair| {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        Some((form_decode(name)?, form_decode(value)?))
    })
}

/// Go's `conversion` of a query flag: present without a value, or anything but `false` and `0`.
pub(crate) fn truthy(value: Option<String>) -> bool {
    value.is_some_and(|value| !matches!(value.to_ascii_lowercase().as_str(), "false" | "0"))
}

fn selected_name(selector: &str) -> Option<String> {
    let mut names = selector.split(',').filter_map(|term| {
        let (field, value) = term.split_once('=')?;
        (field == "metadata.name").then(|| value.trim_start_matches('=').to_owned())
    });
    match (names.next(), names.next()) {
        (Some(name), None) if !name.is_empty() && name_offence(&name).is_none() => Some(name),
        _ => None,
    }
}

fn form_decode(text: &str) -> Option<String> {
    percent_decode(&text.replace('+', " "))
}

/// Decodes `%XX`; `None` for a broken escape or bytes that are not UTF-8.
pub(crate) fn percent_decode(text: &str) -> Option<String> {
    if !text.contains('%') {
        return Some(text.to_owned());
    }
    let mut out = Vec::with_capacity(text.len());
    let mut bytes = text.bytes();
    while let Some(byte) = bytes.next() {
        if byte != b'%' {
            out.push(byte);
            continue;
        }
        let digit = |byte: u8| (byte as char).to_digit(16);
        let (high, low) = (digit(bytes.next()?)?, digit(bytes.next()?)?);
        out.push((high * 16 + low) as u8);
    }
    String::from_utf8(out).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(method: &str, target: &str, expected: &str) {
        let (path, query) = target.split_once('?').unwrap_or((target, ""));
        let info = RequestInfo::parse(&method.parse().unwrap(), path, query).unwrap();
        let said = match info.resource {
            None => info.verb.to_owned(),
            Some(r) => format!(
                "{} g={} v={} ns={} r={} n={} s={} rest={}",
                info.verb,
                r.group,
                r.version,
                r.namespace,
                r.resource,
                r.name,
                r.subresource,
                r.rest.join(",")
            ),
        };
        assert_eq!(said, expected, "{method} {target}");
    }

    #[test]
    fn paths_are_read_as_upstream_reads_them() {
        check("GET", "/version", "get");
        check("GET", "/api", "get");
        check("GET", "/apis/apps/v1", "get");
        check("POST", "/healthz", "post");
        check("GET", "/api/v1/pods", "list g= v=v1 ns= r=pods n= s= rest=");
        check("GET", "/api/v1/pods?watch=1", "watch g= v=v1 ns= r=pods n= s= rest=");
        check("GET", "/api/v1/pods?watch", "watch g= v=v1 ns= r=pods n= s= rest=");
        check("GET", "/api/v1/pods?watch=false", "list g= v=v1 ns= r=pods n= s= rest=");
        check("GET", "/api/v1/watch/pods", "watch g= v=v1 ns= r=pods n= s= rest=");
        check("PUT", "/api/v1/proxy/nodes/n", "proxy g= v=v1 ns= r=nodes n=n s= rest=");
        check("GET", "/api/v1/namespaces", "list g= v=v1 ns= r=namespaces n= s= rest=");
        check("GET", "/api/v1/namespaces/a", "get g= v=v1 ns=a r=namespaces n=a s= rest=");
        check("PUT", "/api/v1/namespaces/a/finalize", "update g= v=v1 ns=a r=namespaces n=a s=finalize rest=");
        check("DELETE", "/api/v1/namespaces/a/pods", "deletecollection g= v=v1 ns=a r=pods n= s= rest=");
        check("DELETE", "/api/v1/namespaces/a/pods/p", "delete g= v=v1 ns=a r=pods n=p s= rest=");
        check("POST", "/api/v1/namespaces/a/pods/p/exec", "create g= v=v1 ns=a r=pods n=p s=exec rest=");
        check(
            "GET",
            "/api/v1/namespaces/a/services/s:80/proxy/x/y",
            "get g= v=v1 ns=a r=services n=s:80 s=proxy rest=x,y",
        );
        check(
            "PATCH",
            "/apis/apps/v1/namespaces/a/deployments/d/scale",
            "patch g=apps v=v1 ns=a r=deployments n=d s=scale rest=",
        );
        check("GET", "/api/v1/namespaces/a/pods%2fp", "get g= v=v1 ns=a r=pods n=p s= rest=");
        check("GET", "/api/v1/namespaces/%61/pods/", "list g= v=v1 ns=a r=pods n= s= rest=");
        check("GET", "/api/v1/namespaces//pods", "list g= v=v1 ns= r=pods n= s= rest=");
        check("GET", "/api/v1//namespaces/a/pods", "get g= v=v1 ns= r= n=namespaces s=a rest=pods");
        check("GET", "//api/v1/namespaces/a/pods", "get");
        check("GET", "/api/v1/pods?fieldSelector=metadata.name%3D..", "list g= v=v1 ns= r=pods n= s= rest=");
        check("GET", "/api/v1/pods?fieldSelector=metadata.name%3Dweb", "list g= v=v1 ns= r=pods n=web s= rest=");
        check(
            "GET",
            "/apis/rbac.authorization.k8s.io/v1/clusterroles/system%3Anode",
            "get g=rbac.authorization.k8s.io v=v1 ns= r=clusterroles n=system:node s= rest=",
        );
    }

    #[test]
    fn a_path_is_split_as_it_was_sent() {
        let check = |path, behind, expected| assert_eq!(split_behind(path, behind), expected, "{path}");
        check("/api/v1/nodes/n/proxy", 0, Some(("/api/v1/nodes/n/proxy", "")));
        check("/api/v1/nodes/n/proxy/", 0, Some(("/api/v1/nodes/n/proxy", "/")));
        check("/api/v1/nodes/n/proxy/a//b%2Fc/", 4, Some(("/api/v1/nodes/n/proxy", "/a//b%2Fc/")));
        check("/api/v1/nodes/proxy/proxy/proxy", 1, Some(("/api/v1/nodes/proxy/proxy", "/proxy")));
        check("/api/v1/nodes/n%2Fproxy/a", 1, Some(("/api/v1/nodes/n%2Fproxy", "/a")));
        check("/api/v1/nodes/n/proxy%2Fa", 1, None);
    }

    #[test]
    fn broken_escapes_are_refused() {
        assert_eq!(RequestInfo::parse(&Method::GET, "/api/v1/pods/%zz", ""), None);
        assert_eq!(RequestInfo::parse(&Method::GET, "/api/v1/pods/%ff", ""), None);
    }

    #[test]
    fn paths_that_end_where_more_is_wanted_are_known() {
        let check = |path: &str, expected: bool| {
            assert_eq!(RequestInfo::parse(&Method::GET, path, "").unwrap().is_cut_off(), expected, "{path}");
        };
        check("/api/v1/watch", true);
        check("/apis/apps/v1/watch/", true);
        check("/api/v1/proxy", true);
        check("/api/v1/watch/pods", false);
        check("/apis/apps/watch", false);
        check("/watch", false);
    }
}
