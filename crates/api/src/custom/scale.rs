//! `scale` of custom resources: where their replicas stand.

use serde_json::{Value, json};

use crate::field_path::Path;
use crate::resources::fields::text;
use crate::validation::Errors;

const MOST: i64 = i32::MAX as i64;

/// The paths of a definition's `subresources.scale`, as written: `.spec.replicas`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scale {
    pub spec_replicas: String,
    pub status_replicas: String,
    pub label_selector: Option<String>,
}

impl Scale {
    pub(super) fn read(scale: &Value) -> Option<Self> {
        scale.is_object().then(|| Self {
            spec_replicas: text(scale, "specReplicasPath").to_owned(),
            status_replicas: text(scale, "statusReplicasPath").to_owned(),
            label_selector: scale["labelSelectorPath"].as_str().filter(|path| !path.is_empty()).map(str::to_owned),
        })
    }

    /// The replicas that an object asks for; none where it doesn't say.
    pub fn replicas(&self, object: &Value) -> Result<Option<i64>, String> {
        integer(object, &self.spec_replicas)
    }

    /// The replicas that an object reports.
    pub fn status(&self, object: &Value) -> Result<i64, String> {
        integer(object, &self.status_replicas).map(Option::unwrap_or_default)
    }

    /// The selector of what is scaled, as text.
    pub fn selector(&self, object: &Value) -> Result<String, String> {
        let Some(path) = &self.label_selector else { return Ok(String::new()) };
        match nested(object, path)? {
            None => Ok(String::new()),
            Some(Value::String(text)) => Ok(text.clone()),
            Some(other) => Err(accessor_error(path, other, "string")),
        }
    }

    /// Has an object ask for `replicas`. What is in the way and no object is refused.
    pub fn set_replicas(&self, object: &mut Value, replicas: i64) -> Result<(), String> {
        let mut at = object;
        let steps: Vec<&str> = steps(&self.spec_replicas).collect();
        for (depth, step) in steps.iter().enumerate() {
            if !at.is_object() {
                let path = format!(".{}", steps[..depth].join("."));
                return Err(format!("value cannot be set because {path} is not a map[string]interface{{}}"));
            }
            let next = &mut at[*step];
            if next.is_null() && depth + 1 < steps.len() {
                *next = json!({});
            }
            at = next;
        }
        *at = json!(replicas);
        Ok(())
    }

    /// What is wrong with the replicas that an object asks for.
    pub(super) fn validate_spec(&self, object: &Value, errors: &mut Errors) {
        check_count(errors, &self.spec_replicas, self.replicas(object).map(Option::unwrap_or_default));
    }

    /// What is wrong with what an object reports.
    pub(super) fn validate_status(&self, object: &Value, errors: &mut Errors) {
        check_count(errors, &self.status_replicas, self.status(object));
        if let (Some(path), Err(why)) = (&self.label_selector, self.selector(object)) {
            errors.invalid(&Path::root(path), "", &why);
        }
    }
}

fn check_count(errors: &mut Errors, path: &str, count: Result<i64, String>) {
    let path = Path::root(path);
    match count {
        Err(why) => errors.invalid(&path, 0, &why),
        Ok(count) if count < 0 => errors.invalid(&path, count, "should be a non-negative integer"),
        Ok(count) if count > MOST => errors.invalid(&path, count, &format!("should be less than or equal to {MOST}")),
        Ok(_) => {}
    }
}

fn steps(path: &str) -> impl Iterator<Item = &str> {
    path.trim_start_matches('.').split('.')
}

fn integer(object: &Value, path: &str) -> Result<Option<i64>, String> {
    match nested(object, path)? {
        None => Ok(None),
        Some(value) => value.as_i64().map(Some).ok_or_else(|| accessor_error(path, value, "int64")),
    }
}

/// The value at a path of plain fields.
fn nested<'v>(object: &'v Value, path: &str) -> Result<Option<&'v Value>, String> {
    let mut at = object;
    let mut passed = String::new();
    for step in steps(path) {
        passed.push('.');
        passed.push_str(step);
        let Value::Object(fields) = at else {
            return Err(accessor_error(&passed, at, "map[string]interface{}"));
        };
        match fields.get(step) {
            Some(next) => at = next,
            None => return Ok(None),
        }
    }
    Ok(Some(at))
}

fn accessor_error(path: &str, value: &Value, expected: &str) -> String {
    let (shown, is) = match value {
        Value::Null => ("<nil>".to_owned(), "<nil>"),
        Value::Bool(it) => (it.to_string(), "bool"),
        Value::Number(it) => (it.to_string(), if it.is_f64() { "float64" } else { "int64" }),
        Value::String(it) => (it.clone(), "string"),
        Value::Array(_) => (value.to_string(), "[]interface {}"),
        Value::Object(_) => (value.to_string(), "map[string]interface {}"),
    };
    format!("{path} accessor error: {shown} is of the type {is}, expected {expected}")
}
