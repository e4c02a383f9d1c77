//! The CEL conditions of a webhook or policy (KEP-3716), all of which must hold for it to count, and what such
//! expressions are about.

use std::mem;
use std::sync::Arc;
use std::time::Instant;

use api::cel::{self, Activation};
use parking_lot::Mutex;
use serde_json::Value;

use super::figures;
use crate::authn::User;
use crate::authz::{Attributes, Authorizer, Decision, Target, requirements, terms};
use api::cel::expressions::{Compiler, Evaluation, Expression, Fault, OUT_OF_BUDGET, Purpose};

/// What expressions are about.
#[derive(Clone, Copy)]
pub(super) struct About<'a> {
    pub(super) object: Option<&'a Value>,
    pub(super) old: Option<&'a Value>,
    /// An AdmissionRequest, but for its objects.
    pub(super) request: &'a Value,
    /// The Namespace that the write is in.
    pub(super) namespace: Option<&'a Value>,
    /// The parameters of a policy.
    pub(super) params: Option<&'a Value>,
    pub(super) rights: &'a Rights,
}

/// What the writer may do, as conditions ask for it.
///
/// Expressions wait for nobody. Where another server has to be asked, the question is put after the evaluation, which
/// is then begun anew, knowing the answer.
pub(super) struct Rights {
    authorizer: Arc<Authorizer>,
    user: User,
    asked: Mutex<Asked>,
}

#[derive(Default)]
struct Asked {
    answered: Vec<(Attributes, Decision)>,
    open: Vec<Attributes>,
}

impl Rights {
    pub(super) fn new(authorizer: Arc<Authorizer>, user: User) -> Self {
        Self { authorizer, user, asked: Mutex::default() }
    }

    /// What an evaluation comes to that knows all that it asks for.
    pub(super) async fn settle<T>(&self, evaluate: impl Fn() -> T) -> T {
        loop {
            let found = evaluate();
            let open = mem::take(&mut self.asked.lock().open);
            if open.is_empty() {
                return found;
            }
            drop(found);
            for attributes in open {
                let decision = self.authorizer.authorize(&attributes).await;
                self.asked.lock().answered.push((attributes, decision));
            }
        }
    }

    /// The answer; that nobody has an opinion, where it is yet to be asked for.
    fn decide(&self, attributes: Attributes) -> Decision {
        let mut asked = self.asked.lock();
        if let Some((_, decision)) = asked.answered.iter().find(|(question, _)| *question == attributes) {
            return decision.clone();
        }
        let known = self.authorizer.known(&attributes);
        known.unwrap_or_else(|| {
            asked.open.push(attributes);
            Decision::default()
        })
    }

    fn of(&self, account: Option<(&str, &str)>, verb: &str, target: Target) -> cel::Decision {
        let user = match account {
            Some((namespace, name)) => User::service_account(namespace, name),
            None => self.user.clone(),
        };
        let decision = self.decide(Attributes { user, verb: verb.to_owned(), target });
        cel::Decision { allowed: decision.allowed, reason: decision.reason, error: decision.error }
    }
}

impl cel::Authorizer for Rights {
    fn authorize_path(&self, request: &cel::PathAttributes<'_>) -> cel::Decision {
        self.of(request.service_account, request.verb, Target::Path(request.path.to_owned()))
    }

    fn authorize_resource(&self, request: &cel::ResourceAttributes<'_>) -> cel::Decision {
        let target = Target::Resource {
            group: request.group.to_owned(),
            version: "*".to_owned(),
            namespace: request.namespace.to_owned(),
            resource: request.resource.to_owned(),
            subresource: request.subresource.to_owned(),
            name: request.name.to_owned(),
            fields: terms(request.field_selector),
            labels: requirements(request.label_selector),
        };
        self.of(request.service_account, request.verb, target)
    }
}

impl<'a> About<'a> {
    pub(super) fn activation(&self) -> Activation<'a> {
        let resource = &self.request["resource"];
        let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let own_request = cel::request_resource_value(
            self.rights,
            &text(resource, "group"),
            &text(resource, "resource"),
            &text(self.request, "subResource"),
            &text(self.request, "namespace"),
            &text(self.request, "name"),
        );
        let document = |value: Option<&'a Value>| value.map_or(cel::Value::Null, cel::Value::json);
        Activation::new()
            .with("object", document(self.object))
            .with("oldObject", document(self.old))
            .with("namespaceObject", document(self.namespace))
            .with("params", document(self.params))
            .with("request", cel::Value::json(self.request))
            .with("authorizer", cel::authorizer_value(self.rights))
            .with("authorizer.requestResource", own_request)
    }
}

/// Of whom conditions are, as figures tell it.
pub(super) struct Whose<'a> {
    /// `webhook` or `policy`.
    pub(super) kind: &'static str,
    pub(super) name: &'a str,
    /// In upstream's words, of which there are more than two.
    pub(super) step: &'a str,
    pub(super) operation: &'a str,
}

/// The conditions of one webhook or policy, compiled.
#[derive(Debug, Default)]
pub(super) struct Conditions {
    conditions: Vec<Expression>,
}

impl Conditions {
    pub(super) fn compile(compiler: &Compiler, conditions: &Value) -> Self {
        let texts = conditions.as_array().into_iter().flatten();
        let texts = texts.map(|condition| condition["expression"].as_str().unwrap_or_default());
        Self { conditions: texts.map(|text| compiler.compile(text, Purpose::Condition)).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Whether all hold. One condition that does not decides, whatever is wrong with others; else what cannot be
    /// evaluated refuses the write, or with `fails_closed` unset lets it pass.
    pub(super) fn matches(
        &self,
        evaluation: &mut Evaluation<'_>,
        fails_closed: bool,
        whose: &Whose<'_>,
    ) -> Result<bool, String> {
        if self.conditions.is_empty() {
            return Ok(true);
        }
        let begun = Instant::now();
        let found = self.hold(evaluation, fails_closed, whose);
        figures::conditions(whose, begun.elapsed());
        found
    }

    fn hold(&self, evaluation: &mut Evaluation<'_>, fails_closed: bool, whose: &Whose<'_>) -> Result<bool, String> {
        let mut wrong = Vec::new();
        let mut held = true;
        for condition in &self.conditions {
            match evaluation.evaluate(condition) {
                Ok(cel::Value::Bool(true)) => {}
                Ok(_) => held = false,
                Err(Fault::Failed(why)) => {
                    figures::condition_failed(whose);
                    wrong.push(why);
                }
                Err(Fault::OutOfBudget) if fails_closed => return Err(OUT_OF_BUDGET.to_owned()),
                Err(Fault::OutOfBudget) => return Ok(false),
            }
        }
        match (wrong.as_slice(), held && fails_closed) {
            ([], _) => Ok(held),
            (_, false) => Ok(false),
            ([one], true) => Err(one.clone()),
            (many, true) => Err(format!("[{}]", many.join(", "))),
        }
    }
}
