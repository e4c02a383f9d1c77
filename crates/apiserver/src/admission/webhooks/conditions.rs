//! The CEL conditions of a webhook (KEP-3716): all must hold for it to be called.

use std::sync::LazyLock;

use api::cel::{self, Activation, Budget, Declarations, Environment, Program};
use serde_json::Value;

/// What the conditions of webhooks may refer to.
static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| Environment::new(Declarations::admission().authorizer()));

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// The conditions of one webhook, compiled.
#[derive(Default)]
pub(super) struct Conditions {
    conditions: Vec<Result<Program, String>>,
}

impl Conditions {
    pub(super) fn compile(conditions: &Value) -> Self {
        let texts = conditions.as_array().into_iter().flatten();
        let texts = texts.map(|condition| condition["expression"].as_str().unwrap_or_default());
        Self { conditions: texts.map(|text| ENVIRONMENT.compile(text).map_err(|why| why.to_string())).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Whether the webhook is to be called. One condition that does not hold decides, whatever is wrong with others;
    /// else what cannot be evaluated refuses the write, or with `fails_closed` unset leaves the webhook out.
    pub(super) fn matches(
        &self,
        object: Option<&Value>,
        old: Option<&Value>,
        request: &Value,
        fails_closed: bool,
    ) -> Result<bool, String> {
        let mut budget = Budget::new(cel::MATCH_CONDITIONS_BUDGET);
        let activation = Activation::new()
            .with("object", cel::Value::json(object.unwrap_or(&Value::Null)))
            .with("oldObject", cel::Value::json(old.unwrap_or(&Value::Null)))
            .with("request", cel::Value::json(request));
        let mut wrong = Vec::new();
        for condition in &self.conditions {
            let outcome = condition.as_ref().map_err(Clone::clone).and_then(|program| {
                let outcome = program.evaluate(&activation, &mut budget);
                if budget.is_exhausted() {
                    return Err(OUT_OF_BUDGET.to_owned());
                }
                outcome.map(|value| matches!(value, cel::Value::Bool(true))).map_err(|why| why.to_string())
            });
            match outcome {
                Ok(false) => return Ok(false),
                Ok(true) => {}
                Err(why) => wrong.push(why),
            }
        }
        match (wrong.as_slice(), fails_closed) {
            ([], _) => Ok(true),
            (_, false) => Ok(false),
            ([one], true) => Err(one.clone()),
            (many, true) => Err(format!("[{}]", many.join(", "))),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn conditions_decide_who_is_asked() {
        let check = |texts: &[&str], fails_closed, expected: Option<bool>| {
            let list: Vec<Value> = texts.iter().map(|text| json!({"name": "x", "expression": text})).collect();
            let conditions = Conditions::compile(&Value::from(list));
            let object = json!({"metadata": {"name": "skip-me"}});
            let request = json!({"operation": "CREATE"});
            assert_eq!(conditions.matches(Some(&object), None, &request, fails_closed).ok(), expected, "{texts:?}");
        };
        check(&["object.metadata.name != 'skip-me'"], true, Some(false));
        check(&["object.metadata.name == 'skip-me'", "request.operation == 'CREATE'"], true, Some(true));
        check(&["oldObject == null"], true, Some(true));
        check(&["object.spec.replicas == 1"], true, None);
        check(&["object.spec.replicas == 1"], false, Some(false));
        check(&["object.spec.replicas == 1", "false"], true, Some(false));
    }
}
