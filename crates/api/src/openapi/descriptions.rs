//! What `kubectl explain` says of the fields that every object has. Of built-in kinds nothing more is described.

use serde_json::{Value, json};

pub(super) const METADATA: &str = "Standard object's metadata.";

const OBJECT_META: [(&str, &str); 15] = [
    ("annotations", "Annotations are texts that tools keep with the object; nothing selects by them."),
    (
        "creationTimestamp",
        "CreationTimestamp is a timestamp that the server sets when it creates the object. Read-only.",
    ),
    ("deletionGracePeriodSeconds", "Seconds between the request for deletion and the deletion. Read-only."),
    ("deletionTimestamp", "DeletionTimestamp is set once deletion has been asked for. Read-only."),
    ("finalizers", "Finalizers name those who have work to do before the object goes."),
    ("generateName", "GenerateName is the beginning of a name that the server completes where none is given."),
    ("generation", "Generation counts the states that were asked for. Read-only."),
    ("labels", "Labels are words by which objects are selected."),
    ("managedFields", "ManagedFields say who has set which field."),
    ("name", "Name is unique within its namespace and kind, and never changes."),
    ("namespace", "Namespace is the space within which the name is unique."),
    ("ownerReferences", "OwnerReferences name the objects without which this one goes."),
    ("resourceVersion", "ResourceVersion changes with each write. Read-only."),
    ("selfLink", "Deprecated: selfLink is no longer set."),
    ("uid", "UID tells this object from others that had or will have its name. Read-only."),
];

/// The schema of an object's `apiVersion`.
pub(super) fn api_version() -> Value {
    let text = "APIVersion defines the versioned schema of this representation of an object: its group and version.";
    json!({"type": "string", "description": text})
}

/// The schema of an object's `kind`.
pub(super) fn kind() -> Value {
    json!({"type": "string", "description": "Kind names the type of the object."})
}

/// Describes the fields of ObjectMeta's schema.
pub(super) fn describe_object_meta(schema: &mut Value) {
    schema["description"] = json!("ObjectMeta is what every stored object has beside its own fields.");
    for (name, text) in OBJECT_META {
        if let Some(Value::Object(field)) = schema["properties"].get_mut(name) {
            field.insert("description".to_owned(), json!(text));
        }
    }
}
