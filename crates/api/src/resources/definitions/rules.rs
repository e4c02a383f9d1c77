//! The rules in CEL of a definition's schema: their texts, that they compile, and that all objects can afford them
//! (`cel_validation.go` of `k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/validation`).

use std::sync::Arc;

use serde_json::{Value, json};

use crate::cel::{DEFINITION_ESTIMATE_LIMIT, ESTIMATE_LIMIT, Shape};
use crate::field_path::Path;
use crate::resources::fields::{flag, items, text};
use crate::schema::structural::{paths, rules};
use crate::validation::{Errors, as_go};

const WORD: &str = "x-kubernetes-validations";
const REASONS: [&str; 4] = ["FieldValueDuplicate", "FieldValueForbidden", "FieldValueInvalid", "FieldValueRequired"];

/// How many of the most expensive rules are named where all are too expensive.
const MOST_NAMED: usize = 4;

/// Where a schema stands.
pub(super) struct Scope<'p> {
    /// How many values of the schema an object can have, if the schemas around it say.
    times: Option<u64>,
    /// The outermost schema around it whose parts cannot be told to be the same ones as before an update.
    uncorrelatable: Option<&'p Path<'p>>,
}

/// What is found of the expressions of one schema.
pub(super) struct Expressions {
    errors: Errors,
    /// The schema was accepted before: what one rule costs is no reason to refuse it now.
    is_unchanged: bool,
    total: u64,
    /// The most expensive first.
    expensive: Vec<(String, u64)>,
}

impl<'p> Scope<'p> {
    pub(super) fn root() -> Self {
        Self { times: Some(1), uncorrelatable: None }
    }

    /// The scope of what is directly below a schema, which stands at `path`.
    pub(super) fn below(&self, schema: &Value, correlates: bool, path: &'p Path<'p>) -> Self {
        let times = self.times.zip(most_elements(schema)).map(|(times, elements)| times.saturating_mul(elements));
        Self { times, uncorrelatable: self.uncorrelatable.or((!correlates).then_some(path)) }
    }
}

/// How many parts a value can have below it for each of the schema's own; none where that is not said.
fn most_elements(schema: &Value) -> Option<u64> {
    let limit = |name: &str| schema[name].as_i64().map(|limit| limit.max(0) as u64);
    match text(schema, "type") {
        "object" if !schema["additionalProperties"].is_null() => limit("maxProperties"),
        "array" => limit("maxItems"),
        _ => Some(1),
    }
}

impl Expressions {
    pub(super) fn new(is_unchanged: bool) -> Self {
        Self { errors: Errors::new(), is_unchanged, total: 0, expensive: Vec::new() }
    }

    /// Compiles the rules that a schema states itself. `is_root` for that of a whole object.
    pub(super) fn check(&mut self, schema: &Value, scope: &Scope<'_>, is_root: bool, path: &Path<'_>) {
        let stated = items(schema, WORD);
        if stated.is_empty() {
            return;
        }
        let list = path.child(WORD);
        let Some(shape) = Shape::of_openapi(schema, is_root || flag(schema, "x-kubernetes-embedded-resource")) else {
            let why = "internal error: failed to construct type information for x-kubernetes-validations rules: \
                       unable to convert structural schema to CEL declarations";
            return self.errors.internal(&list, why);
        };
        let times = scope.times.unwrap_or(shape.max_cardinality());
        let compiled = rules::compile(schema, &Arc::new(shape));
        for (at, (rule, stated)) in compiled.iter().zip(stated).enumerate() {
            let path = list.index(at);
            self.check_rule(rule, stated, times, &path);
            self.check_old_self(rule, stated, scope, &path);
        }
    }

    fn check_rule(&mut self, rule: &rules::Rule, stated: &Value, times: u64, path: &Path<'_>) {
        let at = path.child("rule");
        self.charge("estimated rule cost", rule.cost().saturating_mul(times), &at);
        if let Some(why) = rule.flaw() {
            self.errors.invalid_as(&at, &shown(stated), why);
        }
        let at = path.child("messageExpression");
        if let Some(why) = rule.message_flaw() {
            self.errors.invalid_as(&at, &shown(stated), why);
        }
        if let Some(cost) = rule.message_cost() {
            self.charge("estimated messageExpression cost", cost, &at);
        }
    }

    fn check_old_self(&mut self, rule: &rules::Rule, stated: &Value, scope: &Scope<'_>, path: &Path<'_>) {
        if !rule.uses_old_self() {
            if let Some(optional) = stated["optionalOldSelf"].as_bool() {
                let why = "may not be set if oldSelf is not used in rule";
                self.errors.invalid(&path.child("optionalOldSelf"), optional, why);
            }
        } else if let Some(within) = scope.uncorrelatable {
            let why = format!("oldSelf cannot be used on the uncorrelatable portion of the schema within {within}");
            self.errors.invalid(&path.child("rule"), text(stated, "rule"), &why);
        }
    }

    /// Adds to the cost of all rules, and refuses what costs too much by itself.
    fn charge(&mut self, what: &str, cost: u64, path: &Path<'_>) {
        if cost > ESTIMATE_LIMIT && !self.is_unchanged {
            self.errors.forbidden(path, &exceeds(what, cost, ESTIMATE_LIMIT));
        }
        self.total = self.total.saturating_add(cost);
        if cost >= DEFINITION_ESTIMATE_LIMIT / 100 {
            let place = self.expensive.partition_point(|(_, known)| *known >= cost);
            self.expensive.insert(place, (path.to_string(), cost));
            self.expensive.truncate(MOST_NAMED);
        }
    }

    /// Tells what was found, and whether all rules together cost too much. `path` is that of the schema.
    pub(super) fn finish(self, errors: &mut Errors, path: &Path<'_>) {
        errors.extend(self.errors);
        if self.total <= DEFINITION_ESTIMATE_LIMIT {
            return;
        }
        for (place, _) in &self.expensive {
            let why = "contributed to estimated rule cost total exceeding cost limit for entire OpenAPIv3 schema";
            errors.forbidden(&Path::root(place), why);
        }
        let what = "x-kubernetes-validations estimated rule cost total for entire OpenAPIv3 schema";
        errors.forbidden(path, &exceeds(what, self.total, DEFINITION_ESTIMATE_LIMIT));
    }
}

/// By how much a cost is too high: no figure means much beyond two orders of magnitude.
fn exceeds(what: &str, cost: u64, limit: u64) -> String {
    let factor = match cost as f64 / limit as f64 {
        factor if factor > 100.0 => "more than 100x".to_owned(),
        factor if factor < 1.5 => format!("{factor:.6}x"),
        factor => format!("{factor:.1}x"),
    };
    format!(
        "{what} exceeds budget by factor of {factor} (try simplifying the rule, or adding maxItems, maxProperties, and \
         maxLength where arrays, maps, and strings are declared)"
    )
}

/// A rule as messages show it: upstream's type for it as JSON, whose fields have Go's names, all of them.
fn shown(stated: &Value) -> String {
    let fields = [
        ("Rule", json!(text(stated, "rule"))),
        ("Message", json!(text(stated, "message"))),
        ("MessageExpression", json!(text(stated, "messageExpression"))),
        ("Reason", stated["reason"].clone()),
        ("FieldPath", json!(text(stated, "fieldPath"))),
        ("OptionalOldSelf", stated["optionalOldSelf"].clone()),
    ];
    let fields = fields.map(|(name, value)| format!("\"{name}\":{value}"));
    as_go(&format!("{{{}}}", fields.join(",")))
}

/// `x-kubernetes-validations` as texts.
pub(super) fn check_texts(errors: &mut Errors, schema: &Value, path: &Path<'_>) {
    let list = path.child(WORD);
    let breaks = |text: &str| text.contains(['\n', '\r']);
    for (at, rule) in items(schema, WORD).iter().enumerate() {
        let path = list.index(at);
        let (expression, message) = (text(rule, "rule").trim(), text(rule, "message"));
        let message_at = path.child("message");
        if expression.is_empty() {
            errors.required(&path.child("rule"), "rule is not specified");
        } else if !message.is_empty() && message.trim().is_empty() {
            errors.invalid(&message_at, message, "must be non-empty if specified");
        } else if breaks(message.trim()) {
            errors.invalid(&message_at, message, "must not contain line breaks");
        } else if breaks(expression) && message.trim().is_empty() {
            errors.required(&message_at, "message must be specified if rule contains line breaks");
        }
        let said = text(rule, "messageExpression");
        if !said.is_empty() && said.trim().is_empty() {
            errors.required(&path.child("messageExpression"), "messageExpression must be non-empty if specified");
        }
        if let Some(reason) = rule["reason"].as_str().filter(|reason| !REASONS.contains(reason)) {
            errors.not_supported(&path.child("reason"), reason, &REASONS);
        }
        let (field, at) = (text(rule, "fieldPath"), path.child("fieldPath"));
        if !field.is_empty() && field.trim().is_empty() {
            errors.invalid(&at, field, "must be non-empty if specified");
        }
        if breaks(field) {
            errors.invalid(&at, field, "must not contain line breaks");
        }
        if !field.is_empty() && paths::follow(schema, field, true).is_err() {
            errors.invalid(&at, field, "must be a valid path");
        }
    }
}
