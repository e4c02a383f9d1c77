//! The Common Expression Language: what admission policies, match conditions and the rules of custom resources are
//! written in.
//!
//! ```text
//! text --token--> tokens --parser--> tree --eval, library--> value, within a budget
//! ```
//!
//! Programs come from whoever may write a policy, so reading one is bounded in length and depth, and running one by
//! its cost in the units that Kubernetes limits. Types are found out while running: what does not fit is an error of
//! the evaluation that meets it. Documents are JSON as clients see it; a caller who knows that a text is a time binds
//! a [`Value::Timestamp`].

mod ast;
mod eval;
mod library;
mod parser;
mod token;
mod value;

use ast::Ast;
use eval::Evaluator;

pub use eval::EvalError;
pub use token::SyntaxError;
pub use value::{Key, List, Map, Value};

/// What one expression of a policy or a rule may cost (`PerCallLimit`).
pub const PER_CALL_LIMIT: u64 = 1_000_000;

/// What all expressions of one policy binding or custom resource may cost together (`RuntimeCELCostBudget`).
pub const RUNTIME_BUDGET: u64 = 10_000_000;

/// What all match conditions of one webhook or policy may cost together.
pub const MATCH_CONDITIONS_BUDGET: u64 = 2_500_000;

/// An expression that can be evaluated.
#[derive(Debug)]
pub struct Program {
    ast: Ast,
}

impl Program {
    pub fn compile(text: &str) -> Result<Self, SyntaxError> {
        Ok(Self { ast: parser::parse(text)? })
    }

    /// Evaluates the expression with these variables, for at most `budget`. Also returns what it cost.
    pub fn evaluate<'a>(
        &'a self,
        variables: Vec<(&'a str, Value<'a>)>,
        budget: u64,
    ) -> (Result<Value<'a>, EvalError>, u64) {
        let mut evaluator = Evaluator { ast: &self.ast, scope: variables, budget, spent: 0 };
        let outcome = evaluator.eval(self.ast.root);
        (outcome, evaluator.spent)
    }
}

#[cfg(test)]
mod tests;
