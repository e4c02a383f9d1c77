//! The expressions of admission, compiled and evaluated: those of policies and the match conditions of webhooks
//! (`k8s.io/apiserver/pkg/admission/plugin/cel`).
//!
//! What is wrong with an expression is kept with it: a flaw matters once somebody asks for its value. A variable is
//! evaluated when an expression that names it is, once for all expressions of one [`Evaluation`].

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::{Activation, Budget, Declarations, Environment, EvaluationError, Map, Program, Shape, Type, Value};

/// What is said of expressions that cost too much together.
pub const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

const VARIABLES: &str = "kubernetes.variables";

/// What an expression is for: which decides what it may refer to and what it may be.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// Something that holds or not.
    Condition,
    /// The words of a refusal; they may not depend on what the writer may do.
    Message,
    /// What the audit log is told, if anything.
    Annotation,
    Variable,
    /// Fields to merge into the object.
    ApplyConfiguration,
    JsonPatch,
}

/// Compiles the expressions of one webhook or policy.
#[derive(Debug)]
pub struct Compiler {
    has_params: bool,
    /// Whether there are `variables`, even if none yet.
    composes: bool,
    /// Of `object` and `oldObject`, with the name of the type.
    object: Option<(String, Arc<Shape>)>,
    params: Option<(String, Arc<Shape>)>,
    variables: Vec<Variable>,
}

#[derive(Debug)]
pub struct Variable {
    name: Arc<str>,
    expression: Expression,
}

/// An expression with its text.
#[derive(Debug)]
pub struct Expression {
    text: String,
    program: Result<Program, String>,
    /// The places of the variables that it is made of, each after those that it is made of itself.
    needs: BTreeSet<usize>,
}

/// The evaluation of expressions about one write.
pub struct Evaluation<'a> {
    variables: &'a [Variable],
    known: Activation<'a>,
    outcomes: BTreeMap<Arc<str>, Result<Value<'a>, EvaluationError>>,
    budget: Budget,
}

/// Why an expression has no value.
#[derive(Debug, PartialEq)]
pub enum Fault {
    Failed(String),
    /// Nor will any other.
    OutOfBudget,
}

impl Compiler {
    /// For what has no variables, such as the conditions of webhooks.
    pub fn plain(has_params: bool) -> Self {
        Self { has_params, composes: false, object: None, params: None, variables: Vec::new() }
    }

    /// For policies.
    pub fn composing(has_params: bool) -> Self {
        Self { has_params, composes: true, object: None, params: None, variables: Vec::new() }
    }

    /// Checks expressions against the kind of what they are about, and of the parameters where that is known. Values
    /// have no types all the same: this is for finding what is wrong, not for evaluating.
    #[must_use]
    pub fn typed(self, object: (String, Arc<Shape>), params: Option<(String, Arc<Shape>)>) -> Self {
        Self { object: Some(object), params, ..self }
    }

    /// Adds a variable, which may refer to those before it.
    pub fn declare(&mut self, name: &str, text: &str) {
        let expression = self.compile(text, Purpose::Variable);
        self.variables.push(Variable { name: name.into(), expression });
    }

    /// The variables, once all is compiled.
    pub fn into_variables(self) -> Vec<Variable> {
        self.variables
    }

    pub fn compile(&self, text: &str, purpose: Purpose) -> Expression {
        let program = Environment::new(self.declarations(purpose)).compile(text).map_err(|why| why.to_string());
        let program = program.and_then(|program| match purpose.refuse(program.output_type()) {
            Some(why) => Err(why),
            None => Ok(program),
        });
        let mut needs = BTreeSet::new();
        if let Ok(program) = &program {
            for (at, variable) in self.variables.iter().enumerate() {
                if program.refers_to(&format!("variables.{}", variable.name)) {
                    needs.extend(&variable.expression.needs);
                    needs.insert(at);
                }
            }
        }
        Expression { text: text.to_owned(), program, needs }
    }

    fn declarations(&self, purpose: Purpose) -> Declarations {
        let mut declarations = Declarations::admission();
        if purpose != Purpose::Message {
            declarations = declarations.authorizer();
        }
        if self.has_params {
            declarations = match &self.params {
                Some((kind, shape)) => declarations.shaped("params", kind, shape),
                None => declarations.variable("params", Type::Dyn),
            };
        }
        if let Some((kind, shape)) = &self.object {
            declarations = declarations.shaped("object", kind, shape).shaped("oldObject", kind, shape);
        }
        if self.composes {
            let fields = self.variables.iter().map(|variable| (variable.name.clone(), variable.ty()));
            declarations = declarations.object(VARIABLES, fields).variable("variables", Type::object(VARIABLES));
        }
        match purpose {
            Purpose::ApplyConfiguration | Purpose::JsonPatch => declarations.mutations(),
            _ => declarations,
        }
    }
}

impl Variable {
    fn ty(&self) -> Type {
        self.expression.program.as_ref().map_or(Type::Dyn, |program| program.output_type().clone())
    }
}

impl Purpose {
    /// What is wrong with an expression of this type.
    fn refuse(self, found: &Type) -> Option<String> {
        let wanted = match self {
            Self::Condition => Type::Bool,
            Self::Message => Type::String,
            Self::Variable => return None,
            Self::Annotation => {
                return (!matches!(found, Type::String | Type::Null))
                    .then(|| format!("must evaluate to one of [string null_type] but got {found}"));
            }
            Self::ApplyConfiguration => Type::object("Object"),
            Self::JsonPatch => Type::list(Type::object("JSONPatch")),
        };
        (*found != wanted).then(|| format!("must evaluate to {wanted} but got {found}"))
    }
}

impl Expression {
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Why this is no expression.
    pub fn flaw(&self) -> Option<&str> {
        self.program.as_ref().err().map(String::as_str)
    }
}

impl<'a> Evaluation<'a> {
    pub fn new(variables: &'a [Variable], known: Activation<'a>, budget: u64) -> Self {
        Self { variables, known, outcomes: BTreeMap::new(), budget: Budget::new(budget) }
    }

    /// What is left to spend.
    pub fn left(&self) -> u64 {
        self.budget.left()
    }

    pub fn evaluate(&mut self, expression: &Expression) -> Result<Value<'a>, Fault> {
        let program = expression.program.as_ref();
        let program = program.map_err(|why| Fault::Failed(format!("compilation error: {why}")))?;
        for at in &expression.needs {
            self.settle(&self.variables[*at]);
        }
        let outcome = program.evaluate(&self.activation(), &mut self.budget);
        if self.budget.is_exhausted() {
            return Err(Fault::OutOfBudget);
        }
        outcome.map_err(|why| Fault::Failed(format!("expression '{}' resulted in error: {why}", expression.text)))
    }

    /// Evaluates a variable, unless that was done.
    fn settle(&mut self, variable: &Variable) {
        if self.outcomes.contains_key(&variable.name) || self.budget.is_exhausted() {
            return;
        }
        let wrong = |how, why: &dyn std::fmt::Display| {
            EvaluationError::failed(format_args!("composited variable {:?} fails to {how}: {why}", variable.name))
        };
        let outcome = match &variable.expression.program {
            Ok(program) => {
                program.evaluate(&self.activation(), &mut self.budget).map_err(|why| wrong("evaluate", &why))
            }
            Err(why) => Err(wrong("compile", why)),
        };
        self.outcomes.insert(variable.name.clone(), outcome);
    }

    fn activation(&self) -> Activation<'a> {
        self.known.clone().with("variables", Value::Map(Map::outcomes(self.outcomes.clone())))
    }
}

impl Fault {
    pub fn into_text(self) -> String {
        match self {
            Self::Failed(why) => why,
            Self::OutOfBudget => OUT_OF_BUDGET.to_owned(),
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn variables_are_evaluated_where_they_are_named() {
        let mut compiler = Compiler::composing(false);
        compiler.declare("replicas", "int(object.replicas)");
        compiler.declare("twice", "variables.replicas * 2");
        compiler.declare("broken", "object.none.such");
        let check = |text: &str, outcome: Result<bool, &str>| {
            let object = json!({"replicas": 4});
            let known = Activation::new().with("object", Value::json(&object));
            let mut evaluation = Evaluation::new(&compiler.variables, known, crate::cel::RUNTIME_BUDGET);
            let found = evaluation.evaluate(&compiler.compile(text, Purpose::Condition));
            let found = found.map(|value| matches!(value, Value::Bool(true))).map_err(Fault::into_text);
            assert_eq!(found, outcome.map_err(str::to_owned), "{text}");
        };
        check("variables.twice == 8", Ok(true));
        check("variables.twice == 9", Ok(false));
        check("true || variables.broken == 1", Ok(true));
        check(
            "variables.broken == 1",
            Err("expression 'variables.broken == 1' resulted in error: composited variable \"broken\" fails to \
                 evaluate: no such key: none"),
        );
        check("1", Err("compilation error: must evaluate to bool but got int"));
    }

    #[test]
    fn what_costs_too_much_ends_the_evaluation() {
        let compiler = Compiler::plain(false);
        let mut evaluation = Evaluation::new(&[], Activation::new(), 2);
        let expression = compiler.compile("[1, 2, 3].all(x, [1, 2, 3].all(y, x + y > 1))", Purpose::Condition);
        assert!(matches!(evaluation.evaluate(&expression), Err(Fault::OutOfBudget)));
    }
}
