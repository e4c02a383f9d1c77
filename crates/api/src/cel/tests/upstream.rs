//! Our expressions, with what upstream's CEL makes of them: types, issues, values, errors, costs.
//!
//! `tests/conformance/cel` writes `expected.jsonl` from `environments.json` and `expressions.txt`. Issues of syntax and
//! of patterns are not compared by their words, which are those of a generated parser and of Go's.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::Value as Json;

use super::*;

#[derive(Deserialize)]
struct Variable {
    #[serde(rename = "type", default)]
    ty: String,
    schema: Option<Json>,
    #[serde(default)]
    root: bool,
    #[serde(default)]
    like: String,
    #[serde(default)]
    value: Json,
}

#[derive(Deserialize)]
struct Group {
    variables: BTreeMap<String, Variable>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[serde(default)]
struct Outcome {
    group: String,
    expression: String,
    issues: String,
    #[serde(rename = "type")]
    ty: String,
    estimate: Option<(u64, u64)>,
    value: String,
    error: String,
    cost: Option<u64>,
}

struct World<'g> {
    environment: Environment,
    activation: Activation<'g>,
}

pub(super) struct Fake;

impl Authorizer for Fake {
    fn authorize_path(&self, request: &PathAttributes<'_>) -> Decision {
        self.decide(request.service_account, request.verb, &format!("////|{}|0,0", request.path))
    }

    fn authorize_resource(&self, request: &ResourceAttributes<'_>) -> Decision {
        let count = |selector: &str| if selector.is_empty() { 0 } else { selector.split(',').count() };
        let (fields, labels) = (count(request.field_selector), count(request.label_selector));
        let ResourceAttributes { group, resource, subresource, namespace, name, .. } = request;
        let told = format!("{group}/{resource}/{subresource}/{namespace}/{name}||{fields},{labels}");
        self.decide(request.service_account, request.verb, &told)
    }
}

impl Fake {
    fn decide(&self, account: Option<(&str, &str)>, verb: &str, told: &str) -> Decision {
        let account = account.map(|(namespace, name)| format!("system:serviceaccount:{namespace}:{name}"));
        let reason = format!("{} {verb}|{told}", account.unwrap_or_else(|| "jane".to_owned()));
        match verb {
            "fail" => Decision { error: Some("it failed".to_owned()), ..Decision::default() },
            verb => Decision { allowed: verb == "get", reason, error: None },
        }
    }
}

/// The type of a variable and its value, without schema.
fn simple<'g>(ty: &str, value: &'g Json) -> (Type, Value<'g>) {
    let text = || value.as_str().expect("a text");
    match ty {
        "dyn" => (Type::Dyn, Value::json(value)),
        "int" => (Type::Int, Value::json(value)),
        "uint" => (Type::Uint, Value::Uint(value.as_u64().expect("a number"))),
        "double" => (Type::Double, Value::json(value)),
        "string" => (Type::String, Value::json(value)),
        "bytes" => (Type::Bytes, Value::Bytes(text().as_bytes().into())),
        "bool" => (Type::Bool, Value::json(value)),
        "list(string)" => (Type::list(Type::String), Value::json(value)),
        "list(int)" => (Type::list(Type::Int), Value::json(value)),
        "map(string, int)" => (Type::map(Type::String, Type::Int), Value::json(value)),
        "map(string, dyn)" => (Type::map(Type::String, Type::Dyn), Value::json(value)),
        "timestamp" => (Type::Timestamp, Value::Timestamp(crate::time::parse(text()).expect("a time").into())),
        "duration" => {
            let length: crate::duration::Duration = text().parse().expect("a duration");
            (Type::Duration, Value::Duration(length.as_nanos()))
        }
        "authorizer" => (Type::object("kubernetes.authorization.Authorizer"), authorizer_value(&Fake)),
        other => panic!("no type {other}"),
    }
}

fn shapes(groups: &BTreeMap<String, Group>) -> BTreeMap<&str, Arc<Shape>> {
    let schemas = groups.values().flat_map(|group| &group.variables);
    let shaped = schemas.filter_map(|(name, variable)| {
        let shape = Shape::of_openapi(variable.schema.as_ref()?, variable.root).expect("a shape");
        Some((name.as_str(), Arc::new(shape)))
    });
    shaped.collect()
}

fn world<'g>(group: &'g Group, shapes: &'g BTreeMap<&str, Arc<Shape>>) -> World<'g> {
    let mut declarations = Declarations::new().mutations();
    let mut activation = Activation::new();
    for (name, variable) in &group.variables {
        let like = if variable.schema.is_some() { name } else { &variable.like };
        if let Some(shape) = shapes.get(like.as_str()) {
            declarations = declarations.shaped(name, "selfType", shape);
            activation = activation.with(name, Value::shaped(&variable.value, shape));
        } else {
            let (ty, value) = simple(&variable.ty, &variable.value);
            declarations = declarations.variable(name, ty);
            activation = activation.with(name, value);
        }
    }
    World { environment: Environment::new(declarations), activation }
}

fn judge(world: &World<'_>, expected: &Outcome) -> Outcome {
    let (group, expression) = (expected.group.clone(), expected.expression.clone());
    let outcome = Outcome { group, expression, ..Outcome::default() };
    let program = match world.environment.compile(&outcome.expression) {
        Ok(program) => program,
        Err(CompileError::Issues(issues)) => return Outcome { issues: issues.to_string(), ..outcome },
        Err(CompileError::Instantiation(error)) => {
            // Upstream knows type and estimate before.
            let (ty, estimate) = (expected.ty.clone(), expected.estimate);
            return Outcome { ty, estimate, error: format!("program: {error}"), ..outcome };
        }
    };
    let mut budget = Budget::new(RUNTIME_BUDGET);
    let result = program.evaluate(&world.activation, &mut budget);
    let CostEstimate { min, max } = program.estimated_cost();
    Outcome {
        ty: program.output_type().to_string(),
        estimate: Some((min, max)),
        value: result.as_ref().map(show).unwrap_or_default(),
        error: result.err().map(|error| error.to_string()).unwrap_or_default(),
        cost: Some(budget.last_cost()),
        ..outcome
    }
}

pub(super) fn show(value: &Value<'_>) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::Uint(value) => format!("{value}u"),
        Value::Double(value) => format!("double({})", library::operators::shown(&Value::Double(*value))),
        Value::String(text) => Json::from(&**text).to_string(),
        Value::Bytes(bytes) => format!("bytes({})", bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>()),
        Value::Duration(nanos) => format!("duration({})", crate::duration::Duration::from_nanos(*nanos)),
        Value::Timestamp(time) => format!("timestamp({})", Time { offset: 0, ..*time }),
        Value::Optional(None) => "none".to_owned(),
        Value::Optional(Some(value)) => format!("optional({})", show(value)),
        Value::Type(name) => format!("type({name})"),
        Value::List(list) => {
            let items: Vec<String> =
                list.iter().map(|item| item.as_ref().map_or_else(ToString::to_string, show)).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Map(map) => {
            let shown = map.iter().map(|entry| {
                let (key, value) = entry.expect("a well-formed entry");
                format!("{}: {}", show(&key.to_value()), show(&value))
            });
            let mut entries: Vec<String> = shown.collect();
            entries.sort();
            format!("{{{}}}", entries.join(", "))
        }
        other => other.type_name().to_owned(),
    }
}

/// What is compared of an outcome: of syntax and of patterns, that they are wrong.
fn comparable(mut outcome: Outcome) -> Outcome {
    if outcome.issues.contains("Syntax error") {
        outcome.issues = "a syntax error".to_owned();
    }
    if let Some(at) = outcome.error.find("error parsing regexp: ") {
        outcome.error.truncate(at);
    }
    outcome
}

#[test]
fn expressions_mean_what_they_mean_upstream() {
    let groups: BTreeMap<String, Group> =
        serde_json::from_str(include_str!("../testdata/environments.json")).expect("environments");
    let shapes = shapes(&groups);
    let worlds: BTreeMap<&str, World<'_>> =
        groups.iter().map(|(name, group)| (name.as_str(), world(group, &shapes))).collect();
    let mut differing = Vec::new();
    let mut count = 0;
    for line in include_str!("../testdata/expected.jsonl").lines() {
        let expected: Outcome = serde_json::from_str(line).expect("an outcome");
        let actual = comparable(judge(&worlds[expected.group.as_str()], &expected));
        let expected = comparable(expected);
        count += 1;
        if actual != expected {
            differing.push(format!("{}\n  upstream {expected:?}\n  here     {actual:?}", expected.expression));
        }
    }
    assert!(count > 800, "{count} expressions");
    assert!(differing.is_empty(), "{} of {count} differ:\n{}", differing.len(), differing.join("\n"));
}
