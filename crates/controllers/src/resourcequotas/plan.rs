//! What a count of a namespace means for a quota's status.

use api::quota::Amounts;
use serde_json::{Value, json};

/// The status that `quota` is to have when `counted` is used; `None` if it has it. What could not be counted keeps
/// its former amount.
pub(super) fn status(quota: &Value, counted: &Amounts) -> Option<Value> {
    let (spec, status) = (&quota["spec"], &quota["status"]);
    let hard = Amounts::from_json(&spec["hard"]);
    let before = Amounts::from_json(&status["used"]);
    let mut used = before.clone();
    for (name, amount) in counted.iter() {
        used.set(name, amount.clone());
    }
    let used = used.only(|name| hard.get(name).is_some());
    let is_told = status["hard"].is_object() && status["used"].is_object();
    if is_told && hard == Amounts::from_json(&status["hard"]) && used == before {
        return None;
    }
    Some(json!({"hard": hard.to_json(), "used": used.to_json()}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_status_is_written_when_it_says_something_else() {
        let counted = Amounts::from_json(&json!({"pods": "2", "cpu": "1"}));
        let mut quota = json!({"spec": {"hard": {"pods": "5", "cpu": "2", "count/things.example.com": "1"}}});
        let first = status(&quota, &counted).unwrap();
        assert_eq!(first["hard"], quota["spec"]["hard"]);
        assert_eq!(first["used"], json!({"pods": "2", "cpu": "1"}));
        quota["status"] = first;
        quota["status"]["used"]["count/things.example.com"] = json!("1");
        assert_eq!(status(&quota, &counted), None, "what nobody counts stays");
        quota["spec"]["hard"] = json!({"pods": "5"});
        assert_eq!(status(&quota, &counted).unwrap()["used"], json!({"pods": "2"}));
        quota["spec"]["hard"] = json!({"pods": "5", "cpu": "2000m", "count/things.example.com": "1"});
        assert_eq!(status(&quota, &counted), None, "the same amounts in other words");
    }
}
