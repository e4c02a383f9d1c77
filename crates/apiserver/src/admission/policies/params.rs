//! The parameters of policies: objects of a kind that the policy names, found by what a binding says of them.

use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use api::resource::split_api_version;
use api::selector::label::LabelSelector;
use serde_json::{Value, json};

use crate::cache::{Filter, ResourceCache};
use crate::registry::encode::in_version;
use crate::registry::{Catalogue, Served, versions};

#[derive(Debug)]
pub(super) struct ParamKind {
    api_version: String,
    kind: String,
}

#[derive(Debug)]
pub(super) struct ParamRef {
    name: String,
    /// Empty: that of the write.
    namespace: String,
    selector: Option<Result<LabelSelector, String>>,
    /// Whether a write is refused for which there are none.
    required: bool,
}

impl ParamKind {
    pub(super) fn read(stated: &Value) -> Option<Self> {
        let text = |field: &str| stated[field].as_str().unwrap_or_default().to_owned();
        (!stated.is_null()).then(|| Self { api_version: text("apiVersion"), kind: text("kind") })
    }
}

impl ParamRef {
    pub(super) fn read(stated: &Value) -> Option<Self> {
        let text = |field: &str| stated[field].as_str().unwrap_or_default().to_owned();
        let selector = stated.get("selector").filter(|selector| !selector.is_null());
        (!stated.is_null()).then(|| Self {
            name: text("name"),
            namespace: text("namespace"),
            selector: selector.map(|it| LabelSelector::from_json(Some(it)).map_err(|why| why.to_string())),
            required: stated["parameterNotFoundAction"] == "Deny",
        })
    }

    /// The namespace that parameters of this scope are in.
    fn namespace<'a>(&'a self, namespaced: bool, of_write: &'a str) -> Result<&'a str, String> {
        match (namespaced, self.namespace.as_str(), of_write) {
            (true, "", "") => {
                Err("cannot use namespaced paramRef in policy binding that matches cluster-scoped resources".to_owned())
            }
            (true, "", namespace) | (true, namespace, _) => Ok(namespace),
            (false, "", _) => Ok(""),
            (false, ..) => Err("paramRef.namespace must not be provided for a cluster-scoped `paramKind`".to_owned()),
        }
    }

    /// What is meant, among the objects of a namespace.
    fn select(&self, cache: &ResourceCache, namespaced: bool, namespace: &str) -> Result<Vec<Arc<Entry>>, String> {
        match (self.name.as_str(), &self.selector) {
            ("", None) => Err("one of name or selector must be provided".to_owned()),
            ("", Some(selector)) => {
                let labels = selector.clone()?;
                let namespace = namespaced.then(|| namespace.to_owned());
                Ok(cache.list(&Filter { namespace, labels, ..Filter::default() }).entries)
            }
            (_, Some(_)) => Err("paramRef.name and paramRef.selector are mutually exclusive".to_owned()),
            (name, None) => Ok(cache.get(&ObjectKey::new(namespace, name)).into_iter().collect()),
        }
    }
}

/// The resource whose objects are parameters.
pub(super) fn find(kind: &ParamKind, catalogue: &Catalogue) -> Result<Arc<Served>, String> {
    let (group, version) = split_api_version(&kind.api_version);
    catalogue.kind(group, version, &kind.kind).ok_or_else(|| {
        format!("failed to find resource referenced by paramKind: '{group}/{version}, Kind={}'", kind.kind)
    })
}

/// The parameters that a policy is to be evaluated with, one after the other: a policy without a kind of parameters, and
/// a binding without a reference, are evaluated once, with none.
pub(super) async fn collect(
    kind: Option<&ParamKind>,
    reference: Option<&ParamRef>,
    namespace: &str,
    catalogue: &Catalogue,
) -> Result<Vec<Option<Value>>, String> {
    let (Some(kind), Some(reference)) = (kind, reference) else { return Ok(vec![None]) };
    let served = find(kind, catalogue)?;
    let not_kept = || format!("paramKind kind `{}` not known", kind.kind);
    let cache = served.cache.as_ref().ok_or_else(not_kept)?;
    let namespaced = served.row.namespaced;
    let namespace = reference.namespace(namespaced, namespace)?;
    let found = reference.select(cache, namespaced, namespace)?;
    if found.is_empty() && reference.required {
        return Err("no params found for policy binding with `Deny` parameterNotFoundAction".to_owned());
    }
    let shown = versions::shown_entries(&served, found).await.map_err(|why| why.message)?;
    let typed = |params: Arc<Entry>| {
        let mut params = in_version(&served, params.to_value());
        params["apiVersion"] = json!(kind.api_version);
        params["kind"] = json!(kind.kind);
        Some(params)
    };
    Ok(shown.into_iter().map(typed).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parameters_are_in_the_namespace_of_the_write_unless_the_binding_names_one() {
        let check = |stated: &str, namespaced, of_write, expected: Option<&str>| {
            let reference = ParamRef::read(&json!({"name": "p", "namespace": stated})).expect("it is stated");
            assert_eq!(reference.namespace(namespaced, of_write).ok(), expected, "{stated} {namespaced} {of_write}");
        };
        check("", true, "a", Some("a"));
        check("b", true, "a", Some("b"));
        check("b", true, "", Some("b"));
        check("", true, "", None);
        check("", false, "a", Some(""));
        check("b", false, "a", None);
    }
}
