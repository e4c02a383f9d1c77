//! Keys of JSON patches.

use super::text;
use crate::cel::declarations::Function;
use crate::cel::value::{EvaluationError, Value};
use crate::cel::work::Work;

pub(super) const FUNCTIONS: &[Function] = &[Function {
    name: "jsonpatch.escapeKey",
    overloads: &["string_jsonpatch_escapeKey_string (string) -> string"],
    run: escape_key,
}];

fn escape_key<'a>(work: &mut Work, args: &[Value<'a>]) -> Result<Value<'a>, EvaluationError> {
    let text = text(args)?;
    work.make_text(text.len() * 2)?;
    Ok(Value::text(text.replace('~', "~0").replace('/', "~1")))
}
