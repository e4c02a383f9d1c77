//! The Common Expression Language as Kubernetes 1.36 has it: what the rules of custom resources, admission policies
//! and match conditions are written in.
//!
//! ```text
//! text --token--> tokens --parser--> tree --checker--> types --cost--> estimate
//!                                      `--plan--> steps --eval, library--> value, within a budget
//! ```
//!
//! The model is cel-go v0.26 in the environment of `k8s.io/apiserver/pkg/cel/environment`: the same expressions
//! compile, to the same types, at the same cost, and the same are refused in the same words, since those words reach
//! clients in the status of policies and the errors of definitions. `testdata` holds expressions of ours with what
//! upstream says of each.
//!
//! Expressions come from whoever may write a policy. Compiling is bounded in length, depth and size, running by cost
//! and by work; no walk over a tree is deeper than the parser lets trees be. Nothing here reads a clock, a file or
//! the network: an [`Authorizer`] is the caller's.

mod admission;
mod ast;
mod checker;
mod cost;
mod declarations;
mod eval;
pub mod expressions;
mod library;
mod literals;
mod names;
mod parser;
mod plan;
mod schema;
mod source;
mod token;
mod types;
mod value;
mod work;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

pub use cost::CostEstimate;
pub use declarations::Declarations;
pub use library::{
    Address, Authorizer, AuthorizerValue, Cidr, Decision, NamedFormat, PathAttributes, ResourceAttributes, Semver, Url,
    authorizer_value, request_resource_value,
};
pub use names::escape;
pub use schema::Shape;
pub use source::{CompileErrors, Issue};
pub use types::Type;
pub use value::{EvaluationError, Key, List, Map, Object, Text, Time, Value};

/// What one evaluation of one expression may cost (`PerCallLimit`).
pub const PER_CALL_LIMIT: u64 = 1_000_000;

/// What all expressions of one policy binding or custom resource may cost together (`RuntimeCELCostBudget`).
pub const RUNTIME_BUDGET: u64 = 10_000_000;

/// What all match conditions of one webhook or policy may cost together (`RuntimeCELCostBudgetMatchConditions`).
pub const MATCH_CONDITIONS_BUDGET: u64 = 2_500_000;

/// What one rule of a custom resource may be estimated to cost (`StaticEstimatedCostLimit`).
pub const ESTIMATE_LIMIT: u64 = 10_000_000;

/// What all rules of a custom resource may be estimated to cost together (`StaticEstimatedCRDCostLimit`).
pub const DEFINITION_ESTIMATE_LIMIT: u64 = 100_000_000;

/// Why an expression is no program, in the words that follow a field's path in errors.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CompileError {
    #[error("compilation failed: {0}")]
    Issues(CompileErrors),
    /// A constant part of it has no value.
    #[error("program instantiation failed: {0}")]
    Instantiation(EvaluationError),
}

/// Where expressions are compiled: what they may refer to.
#[derive(Clone, Debug)]
pub struct Environment {
    declarations: Declarations,
}

impl Environment {
    pub fn new(declarations: Declarations) -> Self {
        Self { declarations }
    }

    pub fn compile(&self, text: &str) -> Result<Program, CompileError> {
        let wrong = |issues| CompileError::Issues(CompileErrors::new(text, issues));
        let tree = parser::parse(text, self.declarations.has_bind()).map_err(|issue| wrong(vec![issue]))?;
        let checked = checker::check(tree, &self.declarations).map_err(wrong)?;
        let issues = literals::validate(&checked);
        if !issues.is_empty() {
            return Err(wrong(issues));
        }
        let step = plan::plan(&checked).map_err(CompileError::Instantiation)?;
        Ok(Program {
            step,
            output: checked.ty(checked.ast.root).clone(),
            estimate: cost::estimate(&checked, &self.declarations),
            names: names_of(&checked),
        })
    }
}

/// The variables of the environment that an expression names, and their fields where it names those
/// (`variables.a`).
fn names_of(checked: &checker::Checked) -> BTreeSet<String> {
    let names = (0..checked.ast.nodes.len() as ast::Id).filter_map(|id| checked.ast.qualified_name(id));
    names.collect()
}

/// An expression that can be evaluated, often and by several threads.
#[derive(Debug)]
pub struct Program {
    step: plan::Step,
    output: Type,
    estimate: CostEstimate,
    names: BTreeSet<String>,
}

impl Program {
    pub fn output_type(&self) -> &Type {
        &self.output
    }

    pub fn estimated_cost(&self) -> CostEstimate {
        self.estimate
    }

    /// Whether the expression names this variable, or field of one (`oldSelf`, `variables.replicas`).
    pub fn refers_to(&self, name: &str) -> bool {
        self.names.contains(name)
    }

    /// Evaluates the expression. What it costs is taken off the budget, also where it fails.
    pub fn evaluate<'a>(&self, activation: &Activation<'a>, budget: &mut Budget) -> Result<Value<'a>, EvaluationError> {
        eval::evaluate(&self.step, activation, budget)
    }
}

/// The values of variables. A variable whose value is an error fails what refers to it, no more.
#[derive(Clone, Debug, Default)]
pub struct Activation<'a> {
    variables: BTreeMap<Arc<str>, Result<Value<'a>, EvaluationError>>,
}

impl<'a> Activation<'a> {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn with(mut self, name: &str, value: impl Into<Result<Value<'a>, EvaluationError>>) -> Self {
        self.variables.insert(name.into(), value.into());
        self
    }

    fn get(&self, name: &str) -> Result<Value<'a>, EvaluationError> {
        let missing = || EvaluationError::NoSuchVariable(name.into());
        self.variables.get(name).cloned().ok_or_else(missing)?
    }
}

impl<'a> From<Value<'a>> for Result<Value<'a>, EvaluationError> {
    fn from(value: Value<'a>) -> Self {
        Ok(value)
    }
}

/// What evaluations may cost, and did.
#[derive(Clone, Copy, Debug)]
pub struct Budget {
    per_call: u64,
    left: u64,
    last: u64,
    exhausted: bool,
}

impl Budget {
    /// A budget for several evaluations, each of which may cost [`PER_CALL_LIMIT`].
    pub fn new(total: u64) -> Self {
        Self { per_call: PER_CALL_LIMIT, left: total, last: 0, exhausted: false }
    }

    fn limit(&self) -> u64 {
        self.per_call
    }

    fn charge(&mut self, cost: u64) {
        self.last = cost;
        self.exhausted |= cost > self.left;
        self.left = self.left.saturating_sub(cost);
    }

    /// Whether more was spent than there was. The evaluation that did so still has an outcome, which upstream
    /// discards: nothing further is to be evaluated.
    pub fn is_exhausted(&self) -> bool {
        self.exhausted
    }

    pub fn left(&self) -> u64 {
        self.left
    }

    /// What the last evaluation cost.
    pub fn last_cost(&self) -> u64 {
        self.last
    }
}

#[cfg(test)]
mod tests;
