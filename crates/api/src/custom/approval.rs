//! Groups that belong to the Kubernetes community: who defines an API in one says where it was approved.

/// The annotation `api-approved.kubernetes.io`.
pub const ANNOTATION: &str = "api-approved.kubernetes.io";

/// What the annotation says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Approval {
    Invalid,
    Missing,
    /// `unapproved...`: knowingly without.
    Bypassed,
    /// A URL.
    Approved,
}

/// `k8s.io`, `kubernetes.io` and what is below them.
pub fn is_community_group(group: &str) -> bool {
    ["k8s.io", "kubernetes.io"]
        .iter()
        .any(|domain| group.strip_suffix(domain).is_some_and(|rest| rest.is_empty() || rest.ends_with('.')))
}

/// What an annotation says, and why.
pub fn approval(annotation: &str) -> (Approval, String) {
    let must = format!("protected groups must have approval annotation \"{ANNOTATION}\"");
    let see = "see https://github.com/kubernetes/enhancements/pull/1111";
    let has_host = annotation.split_once("://").is_some_and(|(scheme, rest)| {
        !scheme.is_empty() && !rest.starts_with('/') && !rest.is_empty() && !rest.contains(' ')
    });
    match annotation {
        "" => (Approval::Missing, format!("{must}, {see}")),
        text if text.starts_with("unapproved") => (Approval::Bypassed, format!("not approved: {text:?}")),
        text if has_host => (Approval::Approved, format!("approved in {text}")),
        _ => {
            let either = "with either a URL or a reason starting with \"unapproved\"";
            (Approval::Invalid, format!("{must} {either}, {see}"))
        }
    }
}
