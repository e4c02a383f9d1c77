//! Files of one volume that would lie upon each other, or be each other's folders (`warningsForOverlappingVirtualPaths`).

use serde_json::Value;

use crate::resources::fields::{items, text};
use crate::validation::quote;

/// A file, and what puts it there; empty where all come from one.
#[derive(Clone, PartialEq)]
struct File {
    path: String,
    source: String,
}

/// What is to be said of a spec's volumes.
pub(super) fn warnings(spec: &Value) -> Vec<String> {
    let mut said = Vec::new();
    for volume in items(spec, "volumes") {
        let name = quote(text(volume, "name"));
        let mut warn = |kind: &str, files: Vec<File>| {
            said.extend(overlaps(&files).map(|both| format!("volume {name} ({kind}): overlapping paths: {both}")));
        };
        for (field, kind, named) in [("configMap", "ConfigMap", "name"), ("secret", "Secret", "secretName")] {
            let source = &volume[field];
            warn(&format!("{kind} {}", quote(text(source, named))), listed(source, ""));
        }
        warn("DownwardAPI", listed(&volume["downwardAPI"], ""));
        let sources = items(&volume["projected"], "sources");
        warn("Projected", sources.iter().flat_map(projected).collect());
        let empty = sources.iter().filter(|source| source.as_object().is_none_or(serde_json::Map::is_empty));
        said.extend(empty.map(|_| format!("volume {name} (Projected) has no sources provided")));
    }
    said
}

/// The files that a source lists.
fn listed(source: &Value, from: &str) -> Vec<File> {
    items(source, "items").iter().map(|item| file(text(item, "path"), from)).collect()
}

fn file(path: &str, from: &str) -> File {
    File { path: path.trim_end_matches('/').to_owned(), source: from.to_owned() }
}

fn projected(source: &Value) -> Vec<File> {
    for (field, kind) in [("configMap", "ConfigMap"), ("secret", "Secret")] {
        if !items(&source[field], "items").is_empty() {
            return listed(&source[field], &format!("{kind} {}", quote(text(&source[field], "name"))));
        }
    }
    if !items(&source["downwardAPI"], "items").is_empty() {
        return listed(&source["downwardAPI"], "DownwardAPI");
    }
    if !source["serviceAccountToken"].is_null() {
        return vec![file(text(&source["serviceAccountToken"], "path"), "ServiceAccountToken")];
    }
    let bundle = &source["clusterTrustBundle"];
    if !bundle.is_null() {
        let named = if bundle["name"].is_null() { "signerName" } else { "name" };
        return vec![file(text(bundle, "path"), &format!("ClusterTrustBundle {}", quote(text(bundle, named))))];
    }
    let certificate = &source["podCertificate"];
    let parts = [
        ("certificateChainPath", "PodCertificate chain"),
        ("keyPath", "PodCertificate key"),
        ("credentialBundlePath", "PodCertificate credential bundle"),
    ];
    let parts = parts.into_iter().filter(|(field, _)| !text(certificate, field).is_empty());
    parts.map(|(field, kind)| file(text(certificate, field), kind)).collect()
}

/// Each file with each before it that it meets.
fn overlaps(files: &[File]) -> impl Iterator<Item = String> {
    let meets = |a: &File, b: &File| {
        let (a, b) = (format!("{}/", a.path), format!("{}/", b.path));
        a.len() > 1 && b.len() > 1 && (a.starts_with(&b) || b.starts_with(&a))
    };
    files.iter().enumerate().flat_map(move |(at, file)| {
        let earlier = files[..at].iter().filter(move |earlier| meets(earlier, file));
        earlier.map(move |earlier| format!("{} with {}", file.shown(), earlier.shown()))
    })
}

impl File {
    fn shown(&self) -> String {
        let path = quote(&self.path);
        if self.source.is_empty() { path } else { format!("{path} ({})", self.source) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn files_that_meet_are_told() {
        let spec = json!({"volumes": [
            {"name": "a", "configMap": {"name": "c", "items": [{"path": "x"}, {"path": "x/y"}, {"path": "xy"}]}},
            {"name": "b", "projected": {"sources": [
                {"serviceAccountToken": {"path": "token"}}, {"secret": {"name": "s", "items": [{"path": "token/"}]}}, {},
            ]}},
        ]});
        assert_eq!(
            warnings(&spec),
            [
                r#"volume "a" (ConfigMap "c"): overlapping paths: "x/y" with "x""#,
                r#"volume "b" (Projected): overlapping paths: "token" (Secret "s") with "token" (ServiceAccountToken)"#,
                r#"volume "b" (Projected) has no sources provided"#,
            ]
        );
    }
}
