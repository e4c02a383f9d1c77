//! What is wrong with an object's fields, in upstream's words (`k8s.io/apimachinery/pkg/util/validation/field`).

use std::fmt::Display;

use serde_json::Value;

use crate::field_path::Path;
use crate::status::{Cause, Status};

/// The errors found so far, in the order they were found.
///
/// [`Status::invalid`] turns them into the answer that clients see.
#[derive(Debug, Default)]
pub struct Errors {
    causes: Vec<Cause>,
}

impl Errors {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn is_empty(&self) -> bool {
        self.causes.is_empty()
    }

    pub fn len(&self) -> usize {
        self.causes.len()
    }

    pub fn causes(&self) -> &[Cause] {
        &self.causes
    }

    pub fn into_causes(self) -> Vec<Cause> {
        self.causes
    }

    /// `Ok` when nothing is wrong, else the 422 answer about this object.
    pub fn into_result(self, group: &str, kind: &str, name: &str) -> Result<(), Status> {
        match self.causes.is_empty() {
            true => Ok(()),
            false => Err(Status::invalid(group, kind, name, self.causes)),
        }
    }

    pub fn extend(&mut self, other: Errors) {
        self.causes.extend(other.causes);
    }

    /// Brings the errors in the order of their texts.
    pub fn sort(&mut self) {
        self.causes.sort_by_cached_key(|cause| format!("{}: {}", cause.field, cause.message));
    }

    /// The field must be set. `detail` may be empty.
    pub fn required(&mut self, path: &Path<'_>, detail: &str) {
        self.push("FieldValueRequired", path, described("Required value", detail));
    }

    /// The value breaks a rule, which `detail` states.
    pub fn invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: &str) {
        self.push("FieldValueInvalid", path, valued("Invalid value", &value.into(), detail));
    }

    /// [`Self::invalid`] about a value that messages don't show, such as a whole object.
    pub fn invalid_unshown(&mut self, path: &Path<'_>, detail: &str) {
        self.push("FieldValueInvalid", path, described("Invalid value", detail));
    }

    /// [`Self::invalid`] about a value whose text is given.
    pub fn invalid_as(&mut self, path: &Path<'_>, shown: &str, detail: &str) {
        self.push("FieldValueInvalid", path, described(&format!("Invalid value: {shown}"), detail));
    }

    /// One error for each of `details`, as the name checks of [`crate::names`] return them.
    pub fn invalid_each(&mut self, path: &Path<'_>, value: &str, details: Vec<String>) {
        for detail in details {
            self.invalid(path, value, &detail);
        }
    }

    /// The value is of the wrong JSON type.
    pub fn type_invalid(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: &str) {
        self.push("FieldValueTypeInvalid", path, valued("Invalid value", &value.into(), detail));
    }

    /// The value is there already.
    pub fn duplicate(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.push("FieldValueDuplicate", path, valued("Duplicate value", &value.into(), ""));
    }

    /// [`Self::duplicate`], with a word on what counts as the same.
    pub fn duplicate_because(&mut self, path: &Path<'_>, value: impl Into<Value>, detail: &str) {
        self.push("FieldValueDuplicate", path, valued("Duplicate value", &value.into(), detail));
    }

    /// [`Self::duplicate`] about a value whose text is given.
    pub fn duplicate_as(&mut self, path: &Path<'_>, shown: &str) {
        self.push("FieldValueDuplicate", path, format!("Duplicate value: {shown}"));
    }

    /// [`Self::duplicate`] about a value that messages don't show.
    pub fn duplicate_unshown(&mut self, path: &Path<'_>) {
        self.push("FieldValueDuplicate", path, described("Duplicate value", ""));
    }

    /// The value is none of `supported`, which are written in the given order.
    pub fn not_supported(&mut self, path: &Path<'_>, value: impl Into<Value>, supported: &[&str]) {
        let quoted: Vec<String> = supported.iter().map(|text| quote(text)).collect();
        let detail = match quoted.is_empty() {
            true => String::new(),
            false => format!("supported values: {}", quoted.join(", ")),
        };
        self.push("FieldValueNotSupported", path, valued("Unsupported value", &value.into(), &detail));
    }

    /// The field may not be set, or not be changed.
    pub fn forbidden(&mut self, path: &Path<'_>, detail: &str) {
        self.push("FieldValueForbidden", path, described("Forbidden", detail));
    }

    /// The text is longer than `limit` bytes.
    pub fn too_long(&mut self, path: &Path<'_>, limit: usize) {
        let detail = format!("may not be more than {limit} {}", counted(limit, "byte"));
        self.push("FieldValueTooLong", path, described("Too long", &detail));
    }

    /// The text is longer than `limit` characters.
    pub fn too_long_characters(&mut self, path: &Path<'_>, limit: usize) {
        let detail = format!("may not be more than {limit} {}", counted(limit, "character"));
        self.push("FieldValueTooLong", path, described("Too long", &detail));
    }

    /// The text is shorter than `limit` characters.
    pub fn too_short(&mut self, path: &Path<'_>, limit: usize) {
        let detail = format!("must be at least {limit} {}", counted(limit, "character"));
        self.push("FieldValueTooShort", path, described("Too short", &detail));
    }

    /// The list or map has more than `limit` items.
    pub fn too_many(&mut self, path: &Path<'_>, actual: usize, limit: usize) {
        let detail = format!("must have at most {limit} {}", counted(limit, "item"));
        self.push("FieldValueTooMany", path, valued("Too many", &actual.into(), &detail));
    }

    /// The list or map has fewer than `limit` items.
    pub fn too_few(&mut self, path: &Path<'_>, actual: usize, limit: usize) {
        let detail = format!("must have at least {limit} {}", counted(limit, "item"));
        self.push("FieldValueTooFew", path, valued("Too few", &actual.into(), &detail));
    }

    /// The value refers to what does not exist.
    pub fn not_found(&mut self, path: &Path<'_>, value: impl Into<Value>) {
        self.push("FieldValueNotFound", path, valued("Not found", &value.into(), ""));
    }

    /// The check itself failed.
    pub fn internal(&mut self, path: &Path<'_>, why: impl Display) {
        self.push("InternalError", path, described("Internal error", &why.to_string()));
    }

    fn push(&mut self, reason: &'static str, path: &Path<'_>, message: String) {
        self.causes.push(Cause::new(reason, message, path.to_string()));
    }
}

fn described(what: &str, detail: &str) -> String {
    match detail {
        "" => what.to_owned(),
        _ => format!("{what}: {detail}"),
    }
}

fn valued(what: &str, value: &Value, detail: &str) -> String {
    described(&format!("{what}: {}", shown(value)), detail)
}

/// A refused value as messages show it: text quoted as Go quotes it, everything else as JSON.
pub(crate) fn shown(value: &Value) -> String {
    match value {
        Value::String(text) => quote(text),
        other => as_go(&other.to_string()),
    }
}

/// JSON with the escapes of Go's encoder, which keeps it harmless within HTML.
pub(crate) fn as_go(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        match c {
            '<' | '>' | '&' | '\u{2028}' | '\u{2029}' => out.push_str(&format!("\\u{:04x}", c as u32)),
            c => out.push(c),
        }
    }
    out
}

fn counted(count: usize, noun: &str) -> String {
    match count {
        1 => noun.to_owned(),
        _ => format!("{noun}s"),
    }
}

/// Text in double quotes with Go's escapes (`strconv.Quote`).
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\u{7}' => out.push_str("\\a"),
            '\u{8}' => out.push_str("\\b"),
            '\u{c}' => out.push_str("\\f"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            '\u{b}' => out.push_str("\\v"),
            c if (c as u32) < 0x20 || c as u32 == 0x7f => out.push_str(&format!("\\x{:02x}", c as u32)),
            c if is_invisible(c) && (c as u32) < 0x10000 => out.push_str(&format!("\\u{:04x}", c as u32)),
            c if is_invisible(c) => out.push_str(&format!("\\U{:08x}", c as u32)),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Whether Go prints a character as it is (`unicode.IsPrint`).
pub fn is_printable(c: char) -> bool {
    if c.is_ascii() { c == ' ' || c.is_ascii_graphic() } else { !is_invisible(c) }
}

/// Characters that neither Go nor Rust prints as they are. Rust's own escaping knows the tables; alone it would escape
/// marks, too.
fn is_invisible(c: char) -> bool {
    !c.is_ascii() && format!("a{c}").escape_debug().count() > 2
}

#[cfg(test)]
pub(crate) mod testing {
    use expect_test::Expect;

    use super::Cause;

    /// Compares what is said of each field, a line each.
    #[track_caller]
    pub(crate) fn check(causes: Vec<Cause>, expected: Expect) {
        let said: Vec<String> = causes.iter().map(|it| format!("{}: {}\n", it.field, it.message)).collect();
        expected.assert_eq(&said.concat());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::expect;
    use serde_json::json;

    #[test]
    fn errors_have_upstreams_texts() {
        let spec = Path::root("spec");
        let mut errors = Errors::new();
        errors.required(&spec.child("a"), "");
        errors.required(&spec.child("a"), "must be set");
        errors.invalid(&spec.child("b"), "x\n", "must be a number");
        errors.invalid(&spec.child("b"), -1, "must be greater than or equal to 0");
        errors.invalid(&spec.child("b"), json!({"a": [1]}), "no");
        errors.type_invalid(&spec.child("b"), json!(null), "");
        errors.invalid(&spec.child("b"), json!({"a": "<&"}), "no");
        errors.invalid_as(&spec.child("b"), "{}", "no");
        errors.invalid_unshown(&spec.child("b"), "no");
        errors.duplicate(&spec.child("c").index(1), "web");
        errors.duplicate_unshown(&spec.child("c").index(1));
        errors.not_supported(&spec.child("d"), "x", &["a", "b"]);
        errors.not_supported(&spec.child("d"), "x", &[]);
        errors.forbidden(&spec.child("e"), "field is immutable");
        errors.too_long(&spec.child("f"), 63);
        errors.too_long_characters(&spec.child("f"), 1);
        errors.too_short(&spec.child("f"), 2);
        errors.too_many(&spec.child("g"), 3, 1);
        errors.too_few(&spec.child("g"), 0, 2);
        errors.not_found(&spec.child("h").key("k"), "claim");
        errors.internal(&spec.child("i"), "it broke");
        let text: Vec<String> =
            errors.causes().iter().map(|c| format!("{} {}: {}\n", c.reason, c.field, c.message)).collect();
        expect![[r#"
            FieldValueRequired spec.a: Required value
            FieldValueRequired spec.a: Required value: must be set
            FieldValueInvalid spec.b: Invalid value: "x\n": must be a number
            FieldValueInvalid spec.b: Invalid value: -1: must be greater than or equal to 0
            FieldValueInvalid spec.b: Invalid value: {"a":[1]}: no
            FieldValueTypeInvalid spec.b: Invalid value: null
            FieldValueInvalid spec.b: Invalid value: {"a":"\u003c\u0026"}: no
            FieldValueInvalid spec.b: Invalid value: {}: no
            FieldValueInvalid spec.b: Invalid value: no
            FieldValueDuplicate spec.c[1]: Duplicate value: "web"
            FieldValueDuplicate spec.c[1]: Duplicate value
            FieldValueNotSupported spec.d: Unsupported value: "x": supported values: "a", "b"
            FieldValueNotSupported spec.d: Unsupported value: "x"
            FieldValueForbidden spec.e: Forbidden: field is immutable
            FieldValueTooLong spec.f: Too long: may not be more than 63 bytes
            FieldValueTooLong spec.f: Too long: may not be more than 1 character
            FieldValueTooShort spec.f: Too short: must be at least 2 characters
            FieldValueTooMany spec.g: Too many: 3: must have at most 1 item
            FieldValueTooFew spec.g: Too few: 0: must have at least 2 items
            FieldValueNotFound spec.h[k]: Not found: "claim"
            InternalError spec.i: Internal error: it broke
        "#]]
        .assert_eq(&text.concat());
    }

    #[test]
    fn text_is_quoted_as_go_quotes_it() {
        assert_eq!(quote("a'b\"c\\d"), r#""a'b\"c\\d""#);
        assert_eq!(quote("\u{1}\u{7f}\u{a0}é\u{200b}"), "\"\\x01\\x7f\\u00a0é\\u200b\"");
    }

    #[test]
    fn no_errors_are_no_answer() {
        assert!(Errors::new().into_result("", "Pod", "web").is_ok());
        let mut errors = Errors::new();
        errors.required(&Path::root("spec"), "");
        let status = errors.into_result("apps", "Deployment", "web").unwrap_err();
        assert_eq!(status.message, "Deployment.apps \"web\" is invalid: spec: Required value");
    }
}
