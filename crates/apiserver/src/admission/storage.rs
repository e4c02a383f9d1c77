//! `StorageObjectInUseProtection`: volumes, claims and classes stay as long as something uses them.
//!
//! The finalizer is put on every one of them; controllers take it away when a deletion finds nothing that uses the object.

use api::status::Status;
use serde_json::{Value, json};
use store::BoxFuture;

use super::{Operation, Plugin, Request};

/// Group, resource, finalizer.
const PROTECTED: [(&str, &str, &str); 3] = [
    ("", "persistentvolumes", "kubernetes.io/pv-protection"),
    ("", "persistentvolumeclaims", "kubernetes.io/pvc-protection"),
    ("storage.k8s.io", "volumeattributesclasses", "kubernetes.io/vac-protection"),
];

pub struct StorageInUse;

impl Plugin for StorageInUse {
    fn admit<'a>(&'a self, request: &'a mut Request) -> BoxFuture<'a, Result<(), Status>> {
        let protected = PROTECTED.iter().find(|(group, resource, _)| request.is(group, resource));
        if let (Some((.., finalizer)), Operation::Create, Some(object)) =
            (protected, request.operation, &mut request.object)
        {
            add(&mut object["metadata"], finalizer);
        }
        Box::pin(async { Ok(()) })
    }
}

fn add(metadata: &mut Value, finalizer: &str) {
    match metadata["finalizers"].as_array_mut() {
        Some(list) if list.iter().any(|known| known == finalizer) => {}
        Some(list) => list.push(json!(finalizer)),
        None => metadata["finalizers"] = json!([finalizer]),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_finalizer_is_added_once() {
        let mut metadata = json!({"finalizers": ["example.com/mine"]});
        add(&mut metadata, "kubernetes.io/pv-protection");
        add(&mut metadata, "kubernetes.io/pv-protection");
        assert_eq!(metadata["finalizers"], json!(["example.com/mine", "kubernetes.io/pv-protection"]));
    }
}
