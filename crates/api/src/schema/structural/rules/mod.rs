//! Rules in CEL (`x-kubernetes-validations`): compiled beside the schema that states them, evaluated on what an object
//! holds there (`k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel`).
//!
//! A rule sees its own place of the object as `self`, and as `oldSelf` what was there before an update, where that can
//! be told: fields by their names, items of associative lists by their keys, items of other lists not at all.

mod correlation;
mod evaluate;
#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::paths;
use crate::cel::{Declarations, Environment, Program, Shape, Type};

pub(super) use evaluate::{Subject, evaluate};

/// What the type of `self` is called. No rule can rely on it: upstream's has a number that changes.
const SELF_TYPE: &str = "selfType";

/// One rule.
#[derive(Debug)]
pub struct Rule {
    text: String,
    message: String,
    message_expression: String,
    reason: Option<String>,
    /// `oldSelf` is there without a former value, too, as an optional.
    optional_old: bool,
    /// The field that errors are about, from the rule's place.
    field: Option<String>,
    condition: Condition,
}

#[derive(Debug)]
enum Condition {
    /// Nothing is stated.
    Empty,
    Flawed(String),
    Compiled(Box<Compiled>),
}

#[derive(Debug)]
struct Compiled {
    program: Program,
    /// Of the message.
    words: Option<Result<Program, String>>,
}

/// The rules of a schema and of all below it, where there are any.
#[derive(Debug, Default)]
pub(super) struct Tree {
    own: Option<Own>,
    fields: BTreeMap<String, Tree>,
    /// Of `additionalProperties`.
    values: Option<Box<Tree>>,
    items: Option<Box<Tree>>,
}

/// The rules of one place.
#[derive(Debug)]
struct Own {
    shape: Arc<Shape>,
    rules: Vec<Rule>,
}

impl Tree {
    /// Compiles the rules of a schema; none where neither it nor any schema below states one, or where rules could see
    /// nothing. `is_object` is whether values are whole objects, with a kind and metadata.
    pub(super) fn compile(schema: &Value, is_object: bool) -> Option<Self> {
        if !states_any(schema) {
            return None;
        }
        let shape = Shape::of_openapi(schema, is_object)?;
        let below = |schema: &Value| Self::compile(schema, schema["x-kubernetes-embedded-resource"] == true);
        let fields = schema["properties"].as_object().into_iter().flatten();
        let fields = fields.filter_map(|(name, schema)| Some((name.clone(), below(schema)?))).collect();
        let own = (!stated(schema).is_empty()).then(|| {
            let shape = Arc::new(shape);
            Own { rules: compile(schema, &shape), shape }
        });
        Some(Self {
            own,
            fields,
            values: below(&schema["additionalProperties"]).map(Box::new),
            items: below(&schema["items"]).map(Box::new),
        })
    }
}

fn stated(schema: &Value) -> &[Value] {
    schema["x-kubernetes-validations"].as_array().map_or(&[], Vec::as_slice)
}

fn states_any(schema: &Value) -> bool {
    schema.is_object()
        && (!stated(schema).is_empty()
            || states_any(&schema["items"])
            || states_any(&schema["additionalProperties"])
            || schema["properties"].as_object().into_iter().flatten().any(|(_, schema)| states_any(schema)))
}

/// Compiles the rules that a schema states itself, in their order.
pub fn compile(schema: &Value, shape: &Arc<Shape>) -> Vec<Rule> {
    let base = Declarations::new().shaped("self", SELF_TYPE, shape);
    let plain = Environment::new(base.clone().shaped("oldSelf", SELF_TYPE, shape));
    let optional = Environment::new(base.optionally_shaped("oldSelf", SELF_TYPE, shape));
    let compile = |stated: &Value| {
        let text = |name: &str| stated[name].as_str().unwrap_or_default().to_owned();
        let optional_old = stated["optionalOldSelf"] == true;
        let environment = if optional_old { &optional } else { &plain };
        let (rule, message_expression, field) = (text("rule"), text("messageExpression"), text("fieldPath"));
        Rule {
            condition: Condition::compile(&rule, &message_expression, environment),
            text: rule,
            message: text("message"),
            message_expression,
            reason: stated["reason"].as_str().map(str::to_owned),
            optional_old,
            field: paths::follow(schema, &field, true).ok().map(|place| place.text).filter(|text| !text.is_empty()),
        }
    };
    stated(schema).iter().map(compile).collect()
}

impl Condition {
    fn compile(rule: &str, message: &str, environment: &Environment) -> Self {
        if rule.trim().is_empty() {
            return Self::Empty;
        }
        let program = match environment.compile(rule) {
            Ok(program) if *program.output_type() == Type::Bool => program,
            Ok(_) => return Self::Flawed("cel expression must evaluate to a bool".to_owned()),
            Err(why) => return Self::Flawed(why.to_string()),
        };
        let words = (!message.is_empty()).then(|| match environment.compile(message) {
            Ok(program) if *program.output_type() == Type::String => Ok(program),
            Ok(_) => Err("messageExpression must evaluate to a string".to_owned()),
            Err(why) => Err(format!("messageExpression {why}")),
        });
        Self::Compiled(Box::new(Compiled { program, words }))
    }
}

impl Rule {
    fn program(&self) -> Option<&Program> {
        match &self.condition {
            Condition::Compiled(compiled) => Some(&compiled.program),
            _ => None,
        }
    }

    fn words(&self) -> Option<&Result<Program, String>> {
        match &self.condition {
            Condition::Compiled(compiled) => compiled.words.as_ref(),
            _ => None,
        }
    }

    /// Why the rule does not compile.
    pub fn flaw(&self) -> Option<&str> {
        match &self.condition {
            Condition::Flawed(why) => Some(why),
            _ => None,
        }
    }

    /// Why the expression of its message does not compile.
    pub fn message_flaw(&self) -> Option<&str> {
        self.words()?.as_ref().err().map(String::as_str)
    }

    /// What one evaluation may cost at most.
    pub fn cost(&self) -> u64 {
        self.program().map_or(0, |program| program.estimated_cost().max)
    }

    /// What one evaluation of its message may cost at most, if it has an expression.
    pub fn message_cost(&self) -> Option<u64> {
        Some(self.words()?.as_ref().ok()?.estimated_cost().max)
    }

    /// Whether this is a rule about changes.
    pub fn uses_old_self(&self) -> bool {
        self.program().is_some_and(|program| program.refers_to("oldSelf"))
    }
}
