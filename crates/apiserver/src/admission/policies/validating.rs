//! `ValidatingAdmissionPolicy`: what refuses a write, warns of it or tells the audit log.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use api::cel;
use api::status::{Cause, Status};
use serde_json::{Value, json};
use store::BoxFuture;

use super::configuration::{Body, Hooks, Policy};
use super::{Case, Misconfigured, PolicyParts, is_seen};
use crate::admission::conditions::{About, Whose};
use crate::admission::{Plugin, Request, figures};
use crate::cache::ResourceCache;
use api::cel::expressions::{Compiler, Evaluation, Expression, Fault, OUT_OF_BUDGET, Purpose};

/// The most bytes of a `messageExpression`'s value.
const MAX_MESSAGE: usize = 5 * 1024;

/// The most bytes of an audit annotation's value.
const MAX_ANNOTATION: usize = 10 * 1024;

/// The plugin.
pub(crate) struct ValidatingPolicies {
    parts: PolicyParts,
    hooks: Hooks<Validations>,
}

/// What a policy checks.
pub(super) struct Validations {
    validations: Vec<Validation>,
    annotations: Vec<Annotation>,
}

struct Validation {
    condition: Expression,
    message: String,
    message_expression: Option<Expression>,
    reason: Reason,
}

struct Annotation {
    key: String,
    value: Expression,
}

/// `metav1.StatusReason`, with its HTTP status code.
#[derive(Clone, Copy, Debug, PartialEq)]
struct Reason(&'static str, u16);

const INVALID: Reason = Reason("Invalid", 422);

/// What came of one validation, or of all.
#[derive(Debug, PartialEq)]
enum Decision {
    Admitted,
    Denied { message: String, reason: Reason },
}

/// What came of a policy.
#[derive(Debug, Default, PartialEq)]
struct Judgement {
    decisions: Vec<Decision>,
    annotations: Vec<(String, String)>,
    /// Why annotations have no value, where that refuses the write.
    faults: Vec<String>,
}

/// Everything that is said of a write.
#[derive(Default)]
struct Outcome {
    /// The first refusal; others are not told.
    denied: Option<(String, Reason)>,
    /// By policy and key.
    annotations: BTreeMap<(String, String), Vec<String>>,
}

impl Body for Validations {
    fn read(spec: &Value, compiler: &Compiler) -> Self {
        let list = |field: &str| spec[field].as_array().into_iter().flatten();
        Self {
            validations: list("validations").map(|validation| Validation::read(validation, compiler)).collect(),
            annotations: list("auditAnnotations").map(|annotation| Annotation::read(annotation, compiler)).collect(),
        }
    }
}

impl Validation {
    fn read(validation: &Value, compiler: &Compiler) -> Self {
        let text = |field: &str| validation[field].as_str().unwrap_or_default();
        let message = Some(text("messageExpression")).filter(|text| !text.is_empty());
        Self {
            condition: compiler.compile(text("expression"), Purpose::Condition),
            message: text("message").trim().to_owned(),
            message_expression: message.map(|text| compiler.compile(text, Purpose::Message)),
            reason: Reason::parse(text("reason")),
        }
    }

    /// The words of a refusal: as computed, if that is one line of some length; as stated; or the expression itself.
    fn words(&self, computed: Option<&cel::Value<'_>>) -> String {
        let computed = match computed {
            Some(cel::Value::String(text)) => text.trim(),
            _ => "",
        };
        match (computed, self.message.as_str()) {
            (text, _) if !text.is_empty() && text.len() <= MAX_MESSAGE && !text.contains('\n') => text.to_owned(),
            (_, "") => format!("failed expression: {}", self.condition.text().trim()),
            (_, stated) => stated.to_owned(),
        }
    }
}

impl Annotation {
    fn read(annotation: &Value, compiler: &Compiler) -> Self {
        let text = |field: &str| annotation[field].as_str().unwrap_or_default();
        Self { key: text("key").to_owned(), value: compiler.compile(text("valueExpression"), Purpose::Annotation) }
    }
}

impl Reason {
    fn parse(text: &str) -> Self {
        match text {
            "Unauthorized" => Self("Unauthorized", 401),
            "Forbidden" => Self("Forbidden", 403),
            "RequestEntityTooLarge" => Self("RequestEntityTooLarge", 413),
            _ => INVALID,
        }
    }
}

impl Decision {
    /// What an error comes to.
    fn failed(message: String, fails_closed: bool) -> Self {
        match fails_closed {
            true => Self::Denied { message, reason: INVALID },
            false => Self::Admitted,
        }
    }
}

impl Policy<Validations> {
    fn judge(&self, about: &About<'_>) -> Judgement {
        let failed =
            |why| Judgement { decisions: vec![Decision::failed(why, self.fails_closed)], ..Judgement::default() };
        let unlocated = About { namespace: None, ..*about };
        let mut conditions = Evaluation::new(&self.variables, unlocated.activation(), cel::MATCH_CONDITIONS_BUDGET);
        let operation = about.request["operation"].as_str().unwrap_or_default();
        let whose = Whose { kind: "policy", name: &self.name, step: "validate", operation };
        match self.conditions.matches(&mut conditions, self.fails_closed, &whose) {
            Ok(true) => {}
            Ok(false) => return Judgement::default(),
            Err(why) => return failed(why),
        }
        let Ok(decisions) = self.decide(about) else { return failed(OUT_OF_BUDGET.to_owned()) };
        let mut judgement = Judgement { decisions, ..Judgement::default() };
        match self.annotate(about, &mut judgement) {
            Ok(()) => judgement,
            Err(_) => failed(OUT_OF_BUDGET.to_owned()),
        }
    }

    /// What comes of each validation; the error is that the budget was spent.
    fn decide(&self, about: &About<'_>) -> Result<Vec<Decision>, Fault> {
        let mut evaluation = Evaluation::new(&self.variables, about.activation(), cel::RUNTIME_BUDGET);
        let mut outcomes = Vec::new();
        for validation in &self.body.validations {
            match evaluation.evaluate(&validation.condition) {
                Err(Fault::OutOfBudget) => return Err(Fault::OutOfBudget),
                outcome => outcomes.push(outcome),
            }
        }
        let messages = self.messages(about, evaluation.left());
        let decide = |(at, (validation, outcome)): (usize, (&Validation, Result<cel::Value<'_>, Fault>))| match (
            outcome, &messages,
        ) {
            (Err(why), _) => Decision::failed(why.into_text(), self.fails_closed),
            (Ok(_), None) => Decision::failed(format!("failed messageExpression: {OUT_OF_BUDGET}"), self.fails_closed),
            (Ok(cel::Value::Bool(true)), _) => Decision::Admitted,
            (Ok(_), Some(messages)) => {
                Decision::Denied { message: validation.words(messages[at].as_ref()), reason: validation.reason }
            }
        };
        Ok(self.body.validations.iter().zip(outcomes).enumerate().map(decide).collect())
    }

    /// The computed messages of all validations; none if that cost too much.
    fn messages<'a>(&'a self, about: &About<'a>, budget: u64) -> Option<Vec<Option<cel::Value<'a>>>> {
        let mut evaluation = Evaluation::new(&self.variables, about.activation(), budget);
        let mut messages = Vec::new();
        for validation in &self.body.validations {
            let outcome = validation.message_expression.as_ref().map(|text| evaluation.evaluate(text));
            messages.push(match outcome {
                Some(Err(Fault::OutOfBudget)) => return None,
                Some(outcome) => outcome.ok(),
                None => None,
            });
        }
        Some(messages)
    }

    fn annotate(&self, about: &About<'_>, judgement: &mut Judgement) -> Result<(), Fault> {
        let mut evaluation = Evaluation::new(&self.variables, about.activation(), cel::RUNTIME_BUDGET);
        for Annotation { key, value } in &self.body.annotations {
            match evaluation.evaluate(value) {
                Ok(cel::Value::String(text)) if !text.trim().is_empty() => {
                    judgement.annotations.push((key.clone(), text.trim().to_owned()));
                }
                Ok(_) => {}
                Err(Fault::OutOfBudget) => return Err(Fault::OutOfBudget),
                Err(Fault::Failed(why)) if self.fails_closed => judgement.faults.push(why),
                Err(Fault::Failed(_)) => {}
            }
        }
        Ok(())
    }
}

impl Outcome {
    fn deny(&mut self, policy: &str, binding: Option<&str>, message: &str, reason: Reason) {
        let bound = binding.map(|binding| format!(" with binding '{binding}'")).unwrap_or_default();
        let text = || format!("ValidatingAdmissionPolicy '{policy}'{bound} denied request: {message}");
        self.denied.get_or_insert_with(|| (text(), reason));
    }

    fn misconfigured(&mut self, wrong: &Misconfigured<'_, Validations>) {
        if wrong.policy.fails_closed {
            let binding = wrong.binding.map(|binding| binding.name.as_str());
            self.deny(&wrong.policy.name, binding, &wrong.text(), INVALID);
        }
    }

    /// Does what the binding says is to be done.
    fn judged(&mut self, case: &Case<'_, Validations>, judgement: Judgement, request: &Request, took: Duration) {
        let (policy, binding) = (&case.policy.name, case.binding);
        for (at, decision) in judgement.decisions.into_iter().enumerate() {
            let Decision::Denied { message, reason } = decision else {
                figures::check(policy, &binding.name, "allow", took);
                continue;
            };
            for action in &binding.actions {
                figures::check(policy, &binding.name, &action.to_ascii_lowercase(), took);
                match action.as_str() {
                    "Deny" => self.deny(policy, Some(&binding.name), &message, reason),
                    "Warn" => request.warn(format!(
                        "Validation failed for ValidatingAdmissionPolicy '{policy}' with binding '{}': {message}",
                        binding.name
                    )),
                    _ => {
                        let failure = json!([{
                            "message": message, "policy": policy, "binding": binding.name,
                            "expressionIndex": at, "validationActions": binding.actions,
                        }]);
                        request.annotate("validation.policy.admission.k8s.io/validation_failure", failure.to_string());
                    }
                }
            }
        }
        for why in judgement.faults {
            self.deny(policy, Some(&binding.name), &why, INVALID);
        }
        for (key, value) in judgement.annotations {
            let value = value[..value.floor_char_boundary(MAX_ANNOTATION)].to_owned();
            let values = self.annotations.entry((policy.clone(), key)).or_default();
            if !values.contains(&value) {
                values.push(value);
            }
        }
    }

    fn finish(self, request: &Request) -> Result<(), Status> {
        for ((policy, key), values) in self.annotations {
            request.annotate(format!("{policy}/{key}"), values.join(", "));
        }
        let Some((message, Reason(reason, code))) = self.denied else { return Ok(()) };
        let mut status = request.forbid(&message);
        (status.reason, status.code) = (reason.into(), code);
        status.details.get_or_insert_default().causes.push(Cause::plain(message));
        Err(status)
    }
}

impl ValidatingPolicies {
    pub(crate) fn new(parts: PolicyParts, policies: Arc<ResourceCache>, bindings: Arc<ResourceCache>) -> Self {
        Self { parts, hooks: Hooks::new(policies, bindings) }
    }

    async fn dispatch(&self, request: &Request) -> Result<(), Status> {
        let hooks = self.hooks.current();
        if hooks.is_empty() || !is_seen(request) {
            return Ok(());
        }
        let mut outcome = Outcome::default();
        for case in self.parts.cases(&hooks, request).await {
            match case {
                Ok(case) => {
                    let sight = self.parts.sight(&case.invocation, request).await?;
                    let begun = Instant::now();
                    let judge = || case.policy.judge(&sight.about(case.params.as_ref()));
                    let judgement = sight.rights.settle(judge).await;
                    outcome.judged(&case, judgement, request, begun.elapsed());
                }
                Err(wrong) => outcome.misconfigured(&wrong),
            }
        }
        outcome.finish(request)
    }
}

impl Plugin for ValidatingPolicies {
    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        Box::pin(self.dispatch(request))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn words(validation: Value, object: Value) -> String {
        let policy: Policy<Validations> = Policy::read("p", &json!({"validations": [validation]}));
        let activation = cel::Activation::new().with("object", cel::Value::json(&object));
        let mut evaluation = Evaluation::new(&[], activation, cel::RUNTIME_BUDGET);
        let validation = &policy.body.validations[0];
        let computed = validation.message_expression.as_ref().and_then(|text| evaluation.evaluate(text).ok());
        validation.words(computed.as_ref())
    }

    #[test]
    fn a_refusal_is_worded_by_what_can_be_said() {
        let check = |message: &str, expression: &str, expected: &str| {
            let stated = json!({"expression": " object.a > 1 ", "message": message, "messageExpression": expression});
            assert_eq!(words(stated, json!({"a": 1})), expected, "{message} {expression}");
        };
        check("", "", "failed expression: object.a > 1");
        check(" stated ", "", "stated");
        check("stated", "'computed of ' + string(object.a)", "computed of 1");
        check("stated", "'two\\nlines'", "stated");
        check("stated", "string(object.none)", "stated");
        check("", "' '", "failed expression: object.a > 1");
        check("stated", "object.a > 1 ? 'no' : 1", "stated");
    }

    #[test]
    fn reasons_have_codes() {
        assert_eq!(Reason::parse("Forbidden").1, 403);
        assert_eq!(Reason::parse("").1, 422);
    }
}
