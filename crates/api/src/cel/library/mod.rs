//! The functions of the environment, a file per library. Functions are tables: a name, signatures, what to run.

mod addresses;
mod authorizers;
mod conversions;
mod format_text;
mod formats;
mod lists;
pub(super) mod operators;
mod optionals;
mod patches;
mod quantities;
pub(super) mod regexes;
mod semvers;
mod strings;
pub(super) mod times;
mod urls;

use super::declarations::Function;
use super::value::{EvaluationError, Value};

pub use addresses::{Address, Cidr};
pub use authorizers::{
    Authorizer, AuthorizerValue, Decision, PathAttributes, ResourceAttributes, authorizer_value, request_resource_value,
};
pub(super) use format_text::check as check_format;
pub use formats::NamedFormat;
pub use semvers::Semver;
pub use urls::Url;

/// The libraries of every environment, in the order in which overloads are looked at.
pub(super) const BASE: &[&[Function]] = &[
    operators::FUNCTIONS,
    conversions::FUNCTIONS,
    strings::STANDARD,
    regexes::STANDARD,
    times::FUNCTIONS,
    urls::FUNCTIONS,
    regexes::KUBERNETES,
    lists::KUBERNETES,
    authorizers::FUNCTIONS,
    optionals::FUNCTIONS,
    quantities::FUNCTIONS,
    strings::EXTENSIONS,
    format_text::FUNCTIONS,
    lists::SETS,
    addresses::FUNCTIONS,
    formats::FUNCTIONS,
    authorizers::SELECTORS,
    semvers::FUNCTIONS,
    lists::EXTENSIONS,
];

/// What mutating policies have besides.
pub(super) const PATCHES: &[&[Function]] = &[patches::FUNCTIONS];

/// The two arguments of a function that has two.
fn two<'v, 'a>(args: &'v [Value<'a>]) -> Result<&'v [Value<'a>; 2], EvaluationError> {
    args.try_into().map_err(|_| EvaluationError::NoSuchOverload)
}

/// The text that the first argument is.
fn text<'v>(args: &'v [Value<'_>]) -> Result<&'v str, EvaluationError> {
    match args.first() {
        Some(Value::String(text)) => Ok(text),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}
