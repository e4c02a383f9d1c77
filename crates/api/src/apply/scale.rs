//! Ownership through a scale (`apimachinery/pkg/util/managedfields/scalehandler.go`): who owns the replicas of an object
//! owns them in its scale, and who comes to own them there owns them in the object, under the name of the subresource.

use serde_json::Value;

use super::field_set::{FieldSet, Step};
use super::managers::{Managers, ManagersError, Owned};

const SCALE: &str = "autoscaling/v1";
const REPLICAS_IN_SCALE: &[&[&str]] = &[&["spec", "replicas"]];

/// Where an object's replicas stand in one of its versions, by `apiVersion`.
pub enum Replicas {
    At(Vec<Step>),
    /// The version has no scale.
    Nowhere,
    /// There is no such version: what was owned in it, nobody owns.
    UnknownVersion,
}

impl Replicas {
    /// At a path of plain fields: `.spec.replicas`.
    pub fn at(path: &str) -> Self {
        Self::At(path.trim_start_matches('.').split('.').map(Step::field).collect())
    }
}

/// The managers of a scale, of those of its object.
pub fn managers_of_scale(
    entries: Option<&Value>,
    replicas: impl Fn(&str) -> Replicas,
) -> Result<Option<Value>, ManagersError> {
    let mut managers = Managers::from_json(entries.cloned())?;
    managers.owned.retain(|_, owned| match replicas(&owned.api_version) {
        Replicas::At(path) => owned.fields.set().contains(&path),
        _ => false,
    });
    for owned in managers.owned.values_mut() {
        *owned = in_scale();
    }
    Ok(managers.into_json())
}

/// The managers of an object of `api_version` that had `entries`, after its scale came to have `of_scale`.
pub fn managers_of_scaled(
    entries: Option<&Value>,
    of_scale: Option<&Value>,
    api_version: &str,
    replicas: impl Fn(&str) -> Replicas,
) -> Result<Option<Value>, ManagersError> {
    let mut managers = Managers::from_json(entries.cloned())?;
    let mut of_scale = Managers::from_json(of_scale.cloned())?.owned;
    managers.owned.retain(|manager, owned| {
        let path = match replicas(&owned.api_version) {
            Replicas::UnknownVersion => return false,
            Replicas::At(path) if owned.fields.set().contains(&path) => path,
            _ => return true,
        };
        // Who still has them keeps them; from others they were taken.
        if of_scale.remove(manager).is_none() {
            let mut taken = FieldSet::new();
            taken.insert(&path);
            owned.fields.subtract(&taken);
        }
        !owned.fields.is_empty()
    });
    let Replicas::At(path) = replicas(api_version) else { return Ok(managers.into_json()) };
    let in_scale = in_scale();
    for (manager, owned) in of_scale {
        if owned.fields.set().intersection(&in_scale.fields.set()).is_empty() {
            continue;
        }
        let mut fields = FieldSet::new();
        fields.insert(&path);
        managers.owned.insert(manager, Owned { fields: fields.into(), api_version: api_version.to_owned() });
    }
    Ok(managers.into_json())
}

/// What an owner of the replicas owns of a scale.
fn in_scale() -> Owned {
    Owned { fields: FieldSet::of_fields(REPLICAS_IN_SCALE).into(), api_version: SCALE.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn entry(manager: &str, operation: &str, api_version: &str, subresource: &str, fields: &Value) -> Value {
        let mut entry = json!({"manager": manager, "operation": operation, "apiVersion": api_version,
            "fieldsType": "FieldsV1", "fieldsV1": fields, "time": "2026-01-01T00:00:00Z"});
        if !subresource.is_empty() {
            entry["subresource"] = json!(subresource);
        }
        entry
    }

    fn apps(version: &str) -> Replicas {
        match version {
            "apps/v1" => Replicas::at("spec.replicas"),
            _ => Replicas::UnknownVersion,
        }
    }

    #[test]
    fn owners_of_replicas_own_them_in_the_scale() {
        let both = json!({"f:spec": {"f:replicas": {}, "f:paused": {}}});
        let entries = json!([
            entry("a", "Apply", "apps/v1", "", &both),
            entry("b", "Update", "apps/v1", "", &json!({"f:spec": {"f:paused": {}}})),
            entry("c", "Update", "apps/v0", "", &both),
        ]);
        let of_scale = managers_of_scale(Some(&entries), apps).unwrap().unwrap();
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        assert_eq!(of_scale, json!([entry("a", "Apply", "autoscaling/v1", "", &replicas)]));
    }

    #[test]
    fn who_scales_takes_the_replicas_and_nothing_else() {
        let both = json!({"f:spec": {"f:replicas": {}, "f:paused": {}}});
        let replicas = json!({"f:spec": {"f:replicas": {}}});
        let entries =
            json!([entry("a", "Update", "apps/v1", "", &both), entry("b", "Apply", "apps/v1", "", &replicas)]);
        let of_scale = json!([
            entry("b", "Apply", "autoscaling/v1", "", &replicas),
            entry("m", "Update", "autoscaling/v1", "scale", &replicas),
        ]);
        let managers = managers_of_scaled(Some(&entries), Some(&of_scale), "apps/v1", apps).unwrap().unwrap();
        let mut scaler = entry("m", "Update", "apps/v1", "scale", &replicas);
        scaler.as_object_mut().unwrap().remove("time");
        let rest = entry("a", "Update", "apps/v1", "", &json!({"f:spec": {"f:paused": {}}}));
        assert_eq!(managers, json!([entry("b", "Apply", "apps/v1", "", &replicas), scaler, rest]));
    }
}
