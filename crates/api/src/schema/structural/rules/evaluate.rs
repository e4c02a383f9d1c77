//! Evaluation: which rules apply, what they may cost, and what is said where one does not hold.

use serde_json::{Map, Value};

use super::correlation::{Correlated, former_items};
use super::{Own, Rule, Tree};
use crate::cel::expressions::OUT_OF_BUDGET;
use crate::cel::{Activation, Budget, EvaluationError, Program, RUNTIME_BUDGET, Value as CelValue};
use crate::field_path::Path;
use crate::schema::structural::node::{Additional, Node};
use crate::validation::Errors;

/// The most bytes of a computed message (`MaxEvaluatedMessageExpressionSizeBytes`).
const MOST_MESSAGE: usize = 5 * 1024;

/// What rules are evaluated on.
#[derive(Clone, Copy, Debug)]
pub(in crate::schema::structural) struct Subject<'v> {
    pub(in crate::schema::structural) value: &'v Value,
    /// What it was before an update.
    pub(in crate::schema::structural) old: Option<&'v Value>,
    /// Whether rules that an unchanged value breaks are only warned of.
    pub(in crate::schema::structural) ratchets: bool,
}

/// Evaluates rules on a value and all that it holds. What an unchanged value breaks goes to `warnings`.
pub(in crate::schema::structural) fn evaluate(
    node: &Node,
    tree: &Tree,
    subject: Subject<'_>,
    path: &Path<'_>,
    errors: &mut Errors,
    warnings: &mut Vec<String>,
) {
    let root = subject.old.filter(|_| subject.ratchets).map(|old| Correlated::new(node, subject.value, old));
    let ratchet = Ratchet { current: root.as_ref(), nearest: None };
    let mut evaluator = Evaluator { errors, warnings, budget: Budget::new(RUNTIME_BUDGET) };
    // Out of budget, which has been said.
    let _ = evaluator.visit(node, tree, subject.value, subject.old, ratchet, path);
}

/// No further rule is to be evaluated.
struct Stop;

struct Evaluator<'e> {
    errors: &'e mut Errors,
    warnings: &'e mut Vec<String>,
    budget: Budget,
}

/// What decides whether an error is told as a warning.
#[derive(Clone, Copy)]
struct Ratchet<'r, 'v> {
    /// The place at hand; none where it cannot be told what it was.
    current: Option<&'r Correlated<'v>>,
    /// The nearest place around it of which that can be told.
    nearest: Option<&'r Correlated<'v>>,
}

impl<'r, 'v> Ratchet<'r, 'v> {
    const NONE: Self = Self { current: None, nearest: None };

    fn is_unchanged(self) -> bool {
        self.current.or(self.nearest).is_some_and(Correlated::is_unchanged)
    }

    /// The same one step down, where `child` is what was found there.
    fn below(self, child: Option<&'r Correlated<'v>>) -> Self {
        if self.current.is_none() {
            return self;
        }
        Self { current: child, nearest: self.current }
    }

    /// Whether this is the whole object. What its version is called changes in conversion, not by the client.
    fn is_root(self) -> bool {
        self.nearest.is_none()
    }
}

impl Evaluator<'_> {
    fn visit<'v>(
        &mut self,
        node: &'v Node,
        tree: &Tree,
        value: &'v Value,
        old: Option<&'v Value>,
        ratchet: Ratchet<'_, 'v>,
        path: &Path<'_>,
    ) -> Result<(), Stop> {
        let old = old.filter(|old| !old.is_null());
        if value.is_null() {
            return Ok(());
        }
        if let Some(own) = &tree.own {
            self.check(node, own, value, old, ratchet, path)?;
        }
        match value {
            Value::Object(fields) => self.visit_fields(node, tree, fields, old, ratchet, path),
            Value::Array(items) => self.visit_items(node, tree, items, old, ratchet, path),
            _ => Ok(()),
        }
    }

    fn visit_fields<'v>(
        &mut self,
        node: &'v Node,
        tree: &Tree,
        fields: &'v Map<String, Value>,
        old: Option<&'v Value>,
        ratchet: Ratchet<'_, 'v>,
        path: &Path<'_>,
    ) -> Result<(), Stop> {
        for (name, value) in fields {
            let (schema, below, path) = match (node.properties.get(name), tree.fields.get(name)) {
                (Some(schema), Some(below)) => (schema, below, path.child(name)),
                _ => match (&node.additional, &tree.values) {
                    (Additional::Schema(schema), Some(below)) => (&**schema, &**below, path.key(name)),
                    _ => continue,
                },
            };
            let child = ratchet.current.and_then(|current| current.key(name));
            let ratchet = match ratchet.is_root() && matches!(name.as_str(), "apiVersion" | "kind") {
                true => Ratchet::NONE,
                false => ratchet.below(child.as_ref()),
            };
            self.visit(schema, below, value, old.and_then(|old| old.get(name)), ratchet, &path)?;
        }
        Ok(())
    }

    fn visit_items<'v>(
        &mut self,
        node: &'v Node,
        tree: &Tree,
        items: &'v [Value],
        old: Option<&'v Value>,
        ratchet: Ratchet<'_, 'v>,
        path: &Path<'_>,
    ) -> Result<(), Stop> {
        let (Some(schema), Some(below)) = (&node.items, &tree.items) else { return Ok(()) };
        let former = old.and_then(Value::as_array).and_then(|old| former_items(node, old));
        for (at, value) in items.iter().enumerate() {
            let old = former.as_ref().and_then(|former| former.find(value));
            let child = ratchet.current.and_then(|current| current.item(value, old));
            self.visit(schema, below, value, old, ratchet.below(child.as_ref()), &path.index(at))?;
        }
        Ok(())
    }

    /// Evaluates the rules of one place.
    fn check(
        &mut self,
        node: &Node,
        own: &Own,
        value: &Value,
        old: Option<&Value>,
        ratchet: Ratchet<'_, '_>,
        path: &Path<'_>,
    ) -> Result<(), Stop> {
        let place = Place { node, value, path, ratchet };
        if self.budget.left() == 0 {
            return self.stop(&place, OUT_OF_BUDGET);
        }
        let plain = Activation::new().with("self", CelValue::shaped(value, &own.shape));
        let former = old.map(|old| CelValue::shaped(old, &own.shape));
        let optional = match former.clone() {
            None => plain.clone().with("oldSelf", CelValue::NONE),
            Some(old) => plain.clone().with("oldSelf", old.map(CelValue::some)),
        };
        let plain = match former {
            // Only where a rule asks for it is there an old value for messages.
            Some(old) if own.rules.iter().any(Rule::uses_old_self) => plain.with("oldSelf", old),
            _ => plain,
        };
        for rule in &own.rules {
            if let Some(why) = rule.flaw() {
                self.invalid(&place, &format!("rule compile error: {why}"));
            }
            let Some(program) = rule.program() else { continue };
            // A rule about changes needs something that changed.
            if rule.uses_old_self() && old.is_none() && !rule.optional_old {
                continue;
            }
            let activation = if rule.optional_old { &optional } else { &plain };
            self.check_rule(&place, rule, program, activation, &plain)?;
        }
        Ok(())
    }

    fn check_rule(
        &mut self,
        place: &Place<'_, '_>,
        rule: &Rule,
        program: &Program,
        activation: &Activation<'_>,
        of_message: &Activation<'_>,
    ) -> Result<(), Stop> {
        let outcome = program.evaluate(activation, &mut self.budget);
        if self.budget.is_exhausted() {
            return self.stop(place, OUT_OF_BUDGET);
        }
        match outcome {
            Ok(CelValue::Bool(true)) => Ok(()),
            Ok(_) => {
                let words = self.words(rule, of_message);
                let detail = match words {
                    Ok(Some(words)) => words,
                    Ok(None) if rule.message.is_empty() => format!("failed rule: {}", rule.text.trim()),
                    Ok(None) => rule.message.trim().to_owned(),
                    Err(why) => {
                        self.report(place, rule, |errors, path| errors.invalid(path, place.type_name(), &why));
                        return Err(Stop);
                    }
                };
                self.report(place, rule, |errors, path| place.refuse(errors, path, rule, &detail));
                Ok(())
            }
            Err(why) => self.explain(place, rule, &why),
        }
    }

    /// Says why a rule has no outcome. What fails is told of unchanged values, too.
    fn explain(&mut self, place: &Place<'_, '_>, rule: &Rule, why: &EvaluationError) -> Result<(), Stop> {
        let said = rule.quoted();
        match why {
            EvaluationError::NoSuchOverload => {
                let what = "call arguments did not match a supported operator, function or macro signature for rule";
                self.invalid(place, &format!("'{why}': {what}: {said}"));
            }
            EvaluationError::CostExceeded => {
                let what = "no further validation rules will be run due to call cost exceeds limit for rule";
                return self.stop(place, &format!("'{why}': {what}: {said}"));
            }
            _ => self.invalid(place, &format!("{why} evaluating rule: {said}")),
        }
        Ok(())
    }

    /// The message that a rule computes; none where it has no use. An error ends everything.
    fn words(&mut self, rule: &Rule, activation: &Activation<'_>) -> Result<Option<String>, String> {
        let Some(Ok(program)) = rule.words() else { return Ok(None) };
        let outcome = program.evaluate(activation, &mut self.budget);
        if self.budget.is_exhausted() {
            let what = "messageExpression evaluation failed due to running out of cost budget";
            return Err(format!("{what}, no further validation rules will be run"));
        }
        match outcome {
            Ok(CelValue::String(text)) => {
                let text = text.trim();
                let is_fit = !text.is_empty() && text.len() <= MOST_MESSAGE && !text.contains('\n');
                Ok(is_fit.then(|| text.to_owned()))
            }
            Err(EvaluationError::CostExceeded) => {
                let what = "no further validation rules will be run due to call cost exceeds limit for";
                Err(format!("{what} messageExpression: {}", crate::validation::quote(&rule.message_expression)))
            }
            _ => Ok(None),
        }
    }

    /// Tells an error, or as a warning where an unchanged value is to blame.
    fn report(&mut self, place: &Place<'_, '_>, rule: &Rule, say: impl FnOnce(&mut Errors, &Path<'_>)) {
        let at = place.shown();
        let mut found = Errors::new();
        match &rule.field {
            Some(field) => say(&mut found, &place.path.child(field)),
            None => say(&mut found, &at),
        }
        if !rule.uses_old_self() && place.ratchet.is_unchanged() {
            let told = found.causes().iter().map(|cause| format!("{}: {}", cause.field, cause.message));
            self.warnings.extend(told);
        } else {
            self.errors.extend(found);
        }
    }

    fn invalid(&mut self, place: &Place<'_, '_>, why: &str) {
        self.errors.invalid(&place.shown(), place.type_name(), why);
    }

    fn stop(&mut self, place: &Place<'_, '_>, why: &str) -> Result<(), Stop> {
        self.invalid(place, why);
        Err(Stop)
    }
}

/// A value with rules.
struct Place<'p, 'v> {
    node: &'p Node,
    value: &'p Value,
    path: &'p Path<'p>,
    ratchet: Ratchet<'p, 'v>,
}

impl<'p> Place<'p, '_> {
    fn type_name(&self) -> &'static str {
        self.node.ty.map_or("", |ty| ty.name())
    }

    /// The path as errors write it. The whole object has none upstream.
    fn shown(&self) -> Path<'p> {
        if self.path.is_empty() { Path::root("<nil>") } else { *self.path }
    }

    fn refuse(&self, errors: &mut Errors, path: &Path<'_>, rule: &Rule, detail: &str) {
        let is_whole = matches!(self.type_name(), "object" | "array");
        match rule.reason.as_deref() {
            Some("FieldValueForbidden") => errors.forbidden(path, detail),
            Some("FieldValueRequired") => errors.required(path, detail),
            Some("FieldValueDuplicate") if is_whole => errors.duplicate_unshown(path),
            Some("FieldValueDuplicate") => errors.duplicate(path, self.value.clone()),
            _ if is_whole => errors.invalid_unshown(path, detail),
            _ => errors.invalid(path, self.value.clone(), detail),
        }
    }
}

impl Rule {
    /// The rule as errors quote it: by its message, if it has one.
    fn quoted(&self) -> &str {
        if self.message.is_empty() { self.text.trim() } else { self.message.trim() }
    }
}
