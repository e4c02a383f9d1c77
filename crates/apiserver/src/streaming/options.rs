//! What a connection asks for, as the options object that admission sees
//! (upstream: `rest.Connecter`, whose options are read from the query).

use serde_json::{Value, json};

use crate::request::{ResourceRequest, query_pairs, query_value, truthy};

/// The options of a connection: `kind` is that of the subresource.
pub(super) fn of(kind: &str, target: &ResourceRequest, query: &str) -> Value {
    let mut options = json!({"kind": kind, "apiVersion": "v1"});
    match target.subresource.as_str() {
        "proxy" => {
            let path = target.rest.join("/");
            if !path.is_empty() {
                options["path"] = json!(format!("/{path}"));
            }
        }
        "portforward" => {
            let ports: Vec<i64> = values(query, "ports").filter_map(|port| port.parse().ok()).collect();
            if !ports.is_empty() {
                options["ports"] = json!(ports);
            }
        }
        _ => {
            for field in ["stdin", "stdout", "stderr", "tty"] {
                if truthy(query_value(query, field).or(Some("false".to_owned()))) {
                    options[field] = json!(true);
                }
            }
            if let Some(container) = query_value(query, "container").filter(|name| !name.is_empty()) {
                options["container"] = json!(container);
            }
            // Nothing but exec has a command, and there it is written even when it is empty.
            if target.subresource == "exec" {
                options["command"] = json!(values(query, "command").collect::<Vec<_>>());
            }
        }
    }
    options
}

fn values<'a>(query: &'a str, key: &'a str) -> impl Iterator<Item = String> + 'a {
    query_pairs(query).filter(move |(name, _)| name == key).map(|(_, value)| value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_are_read_from_the_query() {
        let check = |kind: &str, subresource: &str, rest: &[&str], query: &str, expected: Value| {
            let rest = rest.iter().map(|&part| part.to_owned()).collect();
            let target = ResourceRequest { subresource: subresource.to_owned(), rest, ..ResourceRequest::default() };
            let mut options = of(kind, &target, query);
            assert_eq!(options["kind"].take(), kind);
            options.as_object_mut().unwrap().retain(|field, _| !matches!(field.as_str(), "kind" | "apiVersion"));
            assert_eq!(options, expected, "{query}");
        };
        check(
            "PodExecOptions",
            "exec",
            &[],
            "command=sh&command=-c&stdin=true&stdout=1&tty=false&container=c",
            json!({"stdin": true, "stdout": true, "container": "c", "command": ["sh", "-c"]}),
        );
        check("PodAttachOptions", "attach", &[], "stderr=true", json!({"stderr": true}));
        check("PodPortForwardOptions", "portforward", &[], "ports=80&ports=x", json!({"ports": [80]}));
        check("ServiceProxyOptions", "proxy", &["a", "b"], "", json!({"path": "/a/b"}));
    }
}
