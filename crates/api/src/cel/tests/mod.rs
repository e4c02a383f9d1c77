//! What expressions mean: beside upstream's answers (`testdata`), and where its answers end.

mod limits;
mod upstream;

use serde_json::{Value as Json, json};

use super::*;

fn evaluated(text: &str) -> Result<String, String> {
    let program = Environment::new(Declarations::new()).compile(text).map_err(|error| error.to_string())?;
    let outcome = program.evaluate(&Activation::new(), &mut Budget::new(RUNTIME_BUDGET));
    outcome.map(|value| upstream::show(&value)).map_err(|error| error.to_string())
}

#[track_caller]
fn check(text: &str, expected: &str) {
    assert_eq!(evaluated(text).unwrap_or_else(|error| error), expected, "{text}");
}

#[test]
fn patches_are_constructed() {
    let environment = Environment::new(Declarations::new().variable("object", Type::Dyn).mutations());
    let object = serde_json::json!({"spec": {"replicas": 2}});
    let activation = Activation::new().with("object", Value::json(&object));
    let check = |text: &str, expected: Json| {
        let program = environment.compile(text).expect(text);
        let value = program.evaluate(&activation, &mut Budget::new(RUNTIME_BUDGET)).expect(text);
        assert_eq!(value.to_json().expect(text), expected, "{text}");
    };
    check("Object{spec: Object.spec{replicas: object.spec.replicas + 1}}", json!({"spec": {"replicas": 3}}));
    check("Object{?spec: object.?spec, ?status: object.?status}", json!({"spec": {"replicas": 2}}));
    check(
        "[JSONPatch{op: 'add', path: '/metadata/labels/' + jsonpatch.escapeKey('a/b~c'), value: {'x': [1, 2]}}]",
        json!([{"op": "add", "path": "/metadata/labels/a~1b~0c", "value": {"x": [1, 2]}}]),
    );
    let error = environment.compile("JSONPatch{op: 1}").expect_err("a wrong type").to_string();
    assert!(error.contains("expected type of field 'op' is 'string' but provided type is 'int'"), "{error}");
}

#[test]
fn an_error_of_a_variable_is_met_where_it_is_used() {
    let environment = Environment::new(Declarations::new().variable("variables", Type::map(Type::String, Type::Dyn)));
    let outcomes = [("good", Ok(Value::Int(1))), ("bad", Err(EvaluationError::failed("no luck")))];
    let variables = Map::outcomes(outcomes.into_iter().map(|(name, outcome)| (Arc::from(name), outcome)).collect());
    let activation = Activation::new().with("variables", Value::Map(variables));
    let check = |text: &str, expected: Result<&str, &str>| {
        let program = environment.compile(text).expect(text);
        let outcome = program.evaluate(&activation, &mut Budget::new(RUNTIME_BUDGET));
        let shown = outcome.map(|value| upstream::show(&value)).map_err(|error| error.to_string());
        assert_eq!(shown.as_deref().map_err(String::as_str), expected, "{text}");
    };
    check("variables.good == 1", Ok("true"));
    check("variables.good == 1 || variables.bad", Ok("true"));
    check("variables.bad == 1", Err("no luck"));
}

#[test]
fn admission_has_its_variables() {
    let environment = Environment::new(Declarations::admission().authorizer());
    let request = json!({"operation": "CREATE", "namespace": "ns", "userInfo": {"username": "jane", "groups": ["a"]}});
    let namespace = json!({"metadata": {"name": "ns", "labels": {"team": "x"}}});
    let authorizer = upstream::Fake;
    let activation = Activation::new()
        .with("object", Value::json(&Json::Null))
        .with("request", Value::json(&request))
        .with("namespaceObject", Value::json(&namespace))
        .with("authorizer", authorizer_value(&authorizer))
        .with("authorizer.requestResource", request_resource_value(&authorizer, "", "pods", "", "ns", "p"));
    for text in [
        "object == null && request.operation == 'CREATE' && request.namespace == namespaceObject.metadata.name",
        "'a' in request.userInfo.groups && namespaceObject.metadata.labels['team'] == 'x'",
        "authorizer.requestResource.check('get').allowed() && !authorizer.requestResource.check('list').allowed()",
        "authorizer.group('').resource('pods').check('get').reason() == 'jane get|/pods///||0,0'",
    ] {
        let program = environment.compile(text).expect(text);
        let value = program.evaluate(&activation, &mut Budget::new(RUNTIME_BUDGET)).expect(text);
        assert!(matches!(value, Value::Bool(true)), "{text}: {value:?}");
    }
    let error = environment.compile("request.verb").expect_err("no such field").to_string();
    assert!(error.contains("undefined field 'verb'"), "{error}");
}

#[test]
fn programs_say_what_they_refer_to() {
    let declarations = Declarations::new().variable("self", Type::Dyn).variable("variables", Type::Dyn);
    let program = Environment::new(declarations).compile("has(self.a.b) && variables.x > 1").expect("a program");
    assert!(program.refers_to("self") && program.refers_to("self.a") && program.refers_to("variables.x"));
    assert!(!program.refers_to("oldSelf") && !program.refers_to("variables.y"));
}

#[test]
fn built_in_kinds_have_types() {
    let model = crate::schema::builtin_model("io.k8s.api.apps.v1.Deployment").expect("a built-in kind");
    let shape = Arc::new(Shape::of_model(&model));
    let environment = Environment::new(Declarations::new().shaped("object", "Deployment", &shape));
    let ty = |text: &str| environment.compile(text).map(|program| program.output_type().to_string());
    assert_eq!(ty("object.spec.replicas > 1").as_deref(), Ok("bool"));
    assert_eq!(ty("object.spec.template.spec.containers[0].image").as_deref(), Ok("string"));
    assert_eq!(ty("object.metadata.creationTimestamp").as_deref(), Ok("timestamp"));
    let error = ty("object.spec.replica > 1").expect_err("no such field").to_string();
    assert_eq!(
        error,
        "compilation failed: ERROR: <input>:1:12: undefined field 'replica'\n | object.spec.replica > 1\n | ...........^"
    );
}
