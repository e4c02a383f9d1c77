//! Named formats of text, such as those of names.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use super::{text, times, urls};
use crate::cel::declarations::Function;
use crate::cel::value::{EvaluationError, Value};
use crate::cel::work::Work;
use crate::names;

type Outcome<'a> = Result<Value<'a>, EvaluationError>;

/// A format of text.
pub struct NamedFormat {
    pub name: &'static str,
    /// The length that costs take the format's regular expression to have.
    pub(in crate::cel) pattern_size: u64,
    /// What is wrong with a text, if anything.
    validate: fn(&str) -> Vec<String>,
}

impl std::fmt::Debug for NamedFormat {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.name)
    }
}

const fn format(name: &'static str, pattern_size: u64, validate: fn(&str) -> Vec<String>) -> NamedFormat {
    NamedFormat { name, pattern_size, validate }
}

/// By the names that `format.named` takes.
static FORMATS: [NamedFormat; 13] = [
    format("dns1123Label", 30, names::dns_label),
    format("dns1123Subdomain", 60, names::dns_subdomain),
    format("dns1035Label", 30, names::dns_1035_label),
    format("qualifiedName", 60, names::qualified_name),
    format("dns1123LabelPrefix", 30, |text| names::dns_label(&names::as_prefix(text))),
    format("dns1123SubdomainPrefix", 60, |text| names::dns_subdomain(&names::as_prefix(text))),
    format("dns1035LabelPrefix", 30, |text| names::dns_1035_label(&names::as_prefix(text))),
    format("labelValue", 40, names::label_value),
    format("uri", 1104, |text| urls::request_uri_error(text).into_iter().collect()),
    format("uuid", 72, |text| refused(is_uuid(text), "does not match the UUID format")),
    format("byte", 82, |text| refused(STANDARD.decode(text).is_ok(), "invalid base64")),
    format("date", 72, |text| refused(times::schema_date(text).is_ok(), "invalid date")),
    format("datetime", 72, |text| refused(times::schema_date_time(text).is_ok(), "invalid datetime")),
];

macro_rules! constants {
    ($($name:literal, $signature:literal, $at:literal;)*) => {
        pub(super) const FUNCTIONS: &[Function] = &[
            Function {
                name: "validate",
                overloads: &["format-validate kubernetes.NamedFormat.(string) -> optional(list(string))"],
                run: validate,
            },
            Function {
                name: "format.named",
                overloads: &["format-named (string) -> optional(kubernetes.NamedFormat)"],
                run: named,
            },
            $(Function { name: $name, overloads: &[$signature], run: |_, _| Ok(Value::Format(&FORMATS[$at])) },)*
        ];
    };
}

constants! {
    "format.dns1123Label", "format.dns1123Label () -> kubernetes.NamedFormat", 0;
    "format.dns1123Subdomain", "format.dns1123Subdomain () -> kubernetes.NamedFormat", 1;
    "format.dns1035Label", "format.dns1035Label () -> kubernetes.NamedFormat", 2;
    "format.qualifiedName", "format.qualifiedName () -> kubernetes.NamedFormat", 3;
    "format.dns1123LabelPrefix", "format.dns1123LabelPrefix () -> kubernetes.NamedFormat", 4;
    "format.dns1123SubdomainPrefix", "format.dns1123SubdomainPrefix () -> kubernetes.NamedFormat", 5;
    "format.dns1035LabelPrefix", "format.dns1035LabelPrefix () -> kubernetes.NamedFormat", 6;
    "format.labelValue", "format.labelValue () -> kubernetes.NamedFormat", 7;
    "format.uri", "format.uri () -> kubernetes.NamedFormat", 8;
    "format.uuid", "format.uuid () -> kubernetes.NamedFormat", 9;
    "format.byte", "format.byte () -> kubernetes.NamedFormat", 10;
    "format.date", "format.date () -> kubernetes.NamedFormat", 11;
    "format.datetime", "format.datetime () -> kubernetes.NamedFormat", 12;
}

fn refused(is_valid: bool, message: &str) -> Vec<String> {
    if is_valid { Vec::new() } else { vec![message.to_owned()] }
}

fn is_uuid(text: &str) -> bool {
    let digits = text.chars().filter(|c| *c != '-').count();
    let hyphens = text.char_indices().filter(|(_, c)| *c == '-').all(|(at, _)| matches!(at, 8 | 13 | 18 | 23));
    digits == 32 && hyphens && text.chars().all(|c| c == '-' || c.is_ascii_hexdigit())
}

fn validate<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let [Value::Format(format), Value::String(text)] = args else {
        return Err(EvaluationError::NoSuchOverload);
    };
    let errors = (format.validate)(text);
    Ok(match errors.is_empty() {
        true => Value::NONE,
        false => Value::some(Value::list(errors.into_iter().map(Value::text).collect())),
    })
}

fn named<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let name = text(args)?;
    let found = FORMATS.iter().find(|format| format.name == name);
    Ok(found.map_or(Value::NONE, |format| Value::some(Value::Format(format))))
}
