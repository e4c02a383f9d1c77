//! `DefaultStorageClass` and `DefaultIngressClass`: who names no class gets the cluster's.

use std::sync::Arc;

use api::status::Status;
use serde_json::{Value, json};
use store::BoxFuture;

use super::{Operation, Plugin, Request};
use crate::cache::{Filter, ResourceCache};
use crate::document::Document;

const IS_DEFAULT_STORAGE: [&str; 2] =
    ["storageclass.kubernetes.io/is-default-class", "storageclass.beta.kubernetes.io/is-default-class"];
const IS_DEFAULT_INGRESS: [&str; 1] = ["ingressclass.kubernetes.io/is-default-class"];
/// How objects named their class before there was a field for it.
const STORAGE_ANNOTATION: &str = "volume.beta.kubernetes.io/storage-class";
const INGRESS_ANNOTATION: &str = "kubernetes.io/ingress.class";

pub struct DefaultStorageClass {
    pub classes: Arc<ResourceCache>,
}

pub struct DefaultIngressClass {
    pub classes: Arc<ResourceCache>,
}

impl Plugin for DefaultStorageClass {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        if request.operation == Operation::Create
            && request.is("", "persistentvolumeclaims")
            && let Some(claim) = &mut request.object
        {
            name_class(claim, "storageClassName", STORAGE_ANNOTATION, || newest(&self.classes, &IS_DEFAULT_STORAGE));
        }
        Box::pin(async { Ok(()) })
    }
}

impl Plugin for DefaultIngressClass {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        if request.operation == Operation::Create
            && request.is("networking.k8s.io", "ingresses")
            && let Some(ingress) = &mut request.object
        {
            name_class(ingress, "ingressClassName", INGRESS_ANNOTATION, || newest(&self.classes, &IS_DEFAULT_INGRESS));
        }
        Box::pin(async { Ok(()) })
    }
}

/// An empty name is a word too: it asks for no class.
fn name_class(object: &mut Value, field: &str, annotation: &str, default: impl FnOnce() -> Option<String>) {
    if object["spec"][field].is_string() || object["metadata"]["annotations"][annotation].is_string() {
        return;
    }
    if let Some(class) = default() {
        object["spec"][field] = json!(class);
    }
}

fn newest(classes: &ResourceCache, marks: &[&str]) -> Option<String> {
    let classes = classes.list(&Filter::default()).entries;
    default_of(classes.iter().map(|entry| entry.to_value()), marks)
}

/// Of several defaults the newest: whoever made it wants it.
fn default_of(classes: impl Iterator<Item = Value>, marks: &[&str]) -> Option<String> {
    let marked = classes.filter(|class| marks.iter().any(|mark| class["metadata"]["annotations"][mark] == "true"));
    let newest = marked.min_by(|a, b| {
        let created = |class: &Value| class.meta("creationTimestamp").to_owned();
        created(b).cmp(&created(a)).then_with(|| a.name().cmp(b.name()))
    });
    newest.map(|class| class.name().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn class(name: &str, created: &str, default: &str) -> Value {
        json!({"metadata": {"name": name, "creationTimestamp": created, "annotations": {IS_DEFAULT_STORAGE[1]: default}}})
    }

    #[test]
    fn the_newest_default_is_the_default() {
        let classes = [
            class("old", "2026-01-01T00:00:00Z", "true"),
            class("b", "2026-01-02T00:00:00Z", "true"),
            class("a", "2026-01-02T00:00:00Z", "true"),
            class("newer", "2026-01-03T00:00:00Z", "false"),
        ];
        assert_eq!(default_of(classes.into_iter(), &IS_DEFAULT_STORAGE).as_deref(), Some("a"));
        assert_eq!(default_of(std::iter::empty(), &IS_DEFAULT_STORAGE), None);
    }

    #[test]
    fn whoever_names_a_class_or_none_keeps_it() {
        let named = |mut claim: Value| {
            name_class(&mut claim, "storageClassName", STORAGE_ANNOTATION, || Some("gold".to_owned()));
            claim["spec"]["storageClassName"].clone()
        };
        assert_eq!(named(json!({"spec": {}})), "gold");
        assert_eq!(named(json!({"spec": {"storageClassName": ""}})), "");
        assert_eq!(named(json!({"metadata": {"annotations": {STORAGE_ANNOTATION: "old"}}, "spec": {}})), Value::Null);
    }
}
