//! The conditions under which a webhook is asked: expressions over a SubjectAccessReview's spec, all of which must hold
//! (KEP-3221; upstream: `pkg/authorization/cel`).

use std::time::Instant;

use api::cel::{Activation, Budget, Declarations, Environment, Program, RUNTIME_BUDGET, Type, Value as Cel};
use serde_json::Value;

use super::figures;

/// The most conditions of one webhook.
pub(super) const MOST: usize = 64;

/// Expressions, each with its text.
#[derive(Debug, Default)]
pub(super) struct Conditions(Vec<(String, Program)>);

impl Conditions {
    /// Adds a condition; the error says what is wrong with it.
    pub(super) fn add(&mut self, text: &str) -> Result<(), String> {
        let program = Environment::new(declarations()).compile(text).map_err(|why| why.to_string())?;
        if *program.output_type() != Type::Bool {
            return Err(format!("must evaluate to bool but got {}", program.output_type()));
        }
        self.0.push((text.to_owned(), program));
        Ok(())
    }

    /// Whether all hold of a review's spec, for the webhook called `name`. One that does not decides, whatever is wrong
    /// with others.
    pub(super) fn match_spec(&self, spec: &Value, name: &str) -> Result<bool, String> {
        if self.0.is_empty() {
            return Ok(true);
        }
        let begun = Instant::now();
        let seen = complete(spec);
        let (mut wrong, mut held) = (Vec::new(), true);
        for (text, program) in &self.0 {
            let known = Activation::new().with("request", Cel::json(&seen));
            match program.evaluate(&known, &mut Budget::new(RUNTIME_BUDGET)) {
                Ok(Cel::Bool(true)) => {}
                Ok(_) => {
                    held = false;
                    break;
                }
                Err(why) => wrong.push(format!("cel evaluation error: expression '{text}' resulted in error: {why}")),
            }
        }
        let failed = !wrong.is_empty();
        let found = match (held, wrong.as_slice()) {
            (false, _) => Ok(false),
            (true, []) => Ok(true),
            (true, [one]) => Err(one.clone()),
            (true, several) => Err(format!("[{}]", several.join(", "))),
        };
        figures::conditions(name, &found, failed, begun.elapsed());
        found
    }
}

/// What conditions speak of, with the texts that a review leaves out where they are empty.
fn complete(spec: &Value) -> Value {
    let mut seen = spec.clone();
    let fill = |of: &mut Value, fields: &[&str]| {
        for field in fields {
            if of[field].is_null() {
                of[*field] = Value::from("");
            }
        }
    };
    fill(&mut seen, &["user", "uid"]);
    for (field, empty) in [("groups", Value::Array(Vec::new())), ("extra", Value::Object(serde_json::Map::new()))] {
        if seen[field].is_null() {
            seen[field] = empty;
        }
    }
    if !seen["resourceAttributes"].is_null() {
        let fields = ["namespace", "verb", "group", "version", "resource", "subresource", "name"];
        fill(&mut seen["resourceAttributes"], &fields);
    }
    if !seen["nonResourceAttributes"].is_null() {
        fill(&mut seen["nonResourceAttributes"], &["path", "verb"]);
    }
    if let Some(fields) = seen.as_object_mut() {
        fields.retain(|_, value| !value.is_null());
    }
    seen
}

fn declarations() -> Declarations {
    const SPEC: &str = "kubernetes.SubjectAccessReviewSpec";
    const RESOURCE: &str = "kubernetes.ResourceAttributes";
    const PATH: &str = "kubernetes.NonResourceAttributes";
    const FIELDS: &str = "kubernetes.FieldSelectorAttributes";
    const LABELS: &str = "kubernetes.LabelSelectorAttributes";
    const REQUIREMENT: &str = "kubernetes.SelectorRequirement";
    let texts = |names: &[&'static str]| names.iter().map(|name| (*name, Type::String)).collect::<Vec<_>>();
    let list = || Type::list(Type::String);
    let selector = || [("rawSelector", Type::String), ("requirements", Type::list(Type::object(REQUIREMENT)))];
    let resource = texts(&["namespace", "verb", "group", "version", "resource", "subresource", "name"]);
    let selectors = [("fieldSelector", Type::object(FIELDS)), ("labelSelector", Type::object(LABELS))];
    let spec = [
        ("resourceAttributes", Type::object(RESOURCE)),
        ("nonResourceAttributes", Type::object(PATH)),
        ("user", Type::String),
        ("groups", list()),
        ("extra", Type::map(Type::String, list())),
        ("uid", Type::String),
    ];
    Declarations::new()
        .object(REQUIREMENT, [("key", Type::String), ("operator", Type::String), ("values", list())])
        .object(FIELDS, selector())
        .object(LABELS, selector())
        .object(RESOURCE, resource.into_iter().chain(selectors))
        .object(PATH, texts(&["path", "verb"]))
        .object(SPEC, spec)
        .variable("request", Type::object(SPEC))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn check(texts: &[&str], spec: &Value, expected: Result<bool, &str>) {
        let mut conditions = Conditions::default();
        for text in texts {
            conditions.add(text).unwrap();
        }
        assert_eq!(conditions.match_spec(spec, "test"), expected.map_err(str::to_owned), "{texts:?}");
    }

    #[test]
    fn conditions_see_the_spec_of_a_review() {
        let spec = json!({
            "user": "bob", "groups": ["dev"],
            "resourceAttributes": {
                "verb": "list", "resource": "pods",
                "labelSelector": {"requirements": [{"key": "a", "operator": "In", "values": ["b"]}]},
            },
        });
        check(&[], &spec, Ok(true));
        check(&["has(request.resourceAttributes)", "request.user == 'bob'"], &spec, Ok(true));
        check(&["has(request.nonResourceAttributes)"], &spec, Ok(false));
        check(&["request.resourceAttributes.namespace == ''", "request.uid == ''"], &spec, Ok(true));
        check(&["request.resourceAttributes.labelSelector.requirements.exists(r, 'b' in r.values)"], &spec, Ok(true));
        let wrong = "request.nonResourceAttributes.path == '/'";
        let why = "cel evaluation error: expression 'request.nonResourceAttributes.path == '/'' resulted in error: no \
                   such key: nonResourceAttributes";
        check(&[wrong], &spec, Err(why));
        // One that does not hold decides, whatever is wrong with another.
        check(&[wrong, "'ops' in request.groups"], &spec, Ok(false));
    }

    #[test]
    fn what_is_no_condition_is_told() {
        let check = |text: &str, expected: &str| {
            let why = Conditions::default().add(text).unwrap_err();
            assert!(why.contains(expected), "{why}");
        };
        check("request.user", "must evaluate to bool but got string");
        check("request.name == 'a'", "undefined field 'name'");
        check("object == 1", "undeclared reference to 'object'");
    }
}
