//! Field selectors: `metadata.name=web,status.phase!=Running`.
//!
//! Grammar and error texts are those of `k8s.io/apimachinery/pkg/fields`. Which fields a resource knows is for
//! the caller to check: the table row lists them.

use std::collections::BTreeMap;
use std::fmt;

/// Conditions that must all hold. Without any, everything matches.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FieldSelector {
    terms: Vec<Term>,
}

/// One condition on one field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Term {
    /// As written, such as `spec.nodeName`.
    pub field: String,
    /// `!=` rather than `=`.
    pub negated: bool,
    pub value: String,
}

/// Why a field selector cannot be understood, in upstream's words.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldSelectorError {
    #[error("invalid selector: '{selector}'; can't understand '{term}'")]
    Term { selector: String, term: String },
    #[error("invalid field selector: invalid escape sequence: {0}")]
    Escape(String),
    /// Upstream prints the character's number.
    #[error("invalid field selector: unescaped character in value: {}", *.0 as u32)]
    Unescaped(char),
}

impl FieldSelector {
    /// Reads the text form, as `?fieldSelector=` carries it. A term without a field and without a value is dropped.
    pub fn parse(text: &str) -> Result<Self, FieldSelectorError> {
        let mut parts = split_terms(text);
        parts.sort_unstable();
        let mut terms = Vec::new();
        for part in parts.into_iter().filter(|part| !part.is_empty()) {
            let (field, negated, value) = split_term(part)
                .ok_or_else(|| FieldSelectorError::Term { selector: text.to_owned(), term: part.to_owned() })?;
            let value = unescape(value)?;
            if !(field.is_empty() && value.is_empty()) {
                terms.push(Term { field: field.to_owned(), negated, value });
            }
        }
        Ok(Self { terms })
    }

    /// `field=value`.
    pub fn equals(field: impl Into<String>, value: impl Into<String>) -> Self {
        Self { terms: vec![Term { field: field.into(), negated: false, value: value.into() }] }
    }

    pub fn terms(&self) -> &[Term] {
        &self.terms
    }

    pub fn into_terms(self) -> impl Iterator<Item = Term> {
        self.terms.into_iter()
    }

    /// The selector of what meets all these conditions.
    pub fn of_terms(terms: Vec<Term>) -> Self {
        Self { terms }
    }

    /// True when every object matches.
    pub fn is_everything(&self) -> bool {
        self.terms.is_empty()
    }

    /// Matches an object whose fields `value_of` tells; an absent field is the empty text.
    pub fn matches_with<'a>(&self, value_of: impl Fn(&str) -> &'a str) -> bool {
        self.terms.iter().all(|term| (value_of(&term.field) == term.value) != term.negated)
    }

    pub fn matches(&self, fields: &BTreeMap<String, String>) -> bool {
        self.matches_with(|field| fields.get(field).map(String::as_str).unwrap_or_default())
    }

    /// The one value that `field` must have, if the selector fixes it.
    pub fn exact(&self, field: &str) -> Option<&str> {
        self.terms.iter().find(|term| !term.negated && term.field == field).map(|term| term.value.as_str())
    }
}

impl fmt::Display for FieldSelector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (at, term) in self.terms.iter().enumerate() {
            if at > 0 {
                f.write_str(",")?;
            }
            let operator = if term.negated { "!=" } else { "=" };
            write!(f, "{}{operator}", term.field)?;
            for c in term.value.chars() {
                if matches!(c, '\\' | ',' | '=') {
                    f.write_str("\\")?;
                }
                write!(f, "{c}")?;
            }
        }
        Ok(())
    }
}

/// Splits at commas that no backslash escapes.
fn split_terms(text: &str) -> Vec<&str> {
    if text.is_empty() {
        return Vec::new();
    }
    let mut terms = Vec::new();
    let (mut start, mut escaped) = (0, false);
    for (at, c) in text.char_indices() {
        match c {
            _ if escaped => escaped = false,
            '\\' => escaped = true,
            ',' => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    terms
}

/// Field, whether negated, and escaped value, at the first operator.
fn split_term(term: &str) -> Option<(&str, bool, &str)> {
    let equals = term.find('=')?;
    if let Some(not_equals) = term.find("!=").filter(|at| *at < equals) {
        return Some((&term[..not_equals], true, &term[not_equals + 2..]));
    }
    let value = &term[equals + 1..];
    Some((&term[..equals], false, value.strip_prefix('=').unwrap_or(value)))
}

fn unescape(value: &str) -> Result<String, FieldSelectorError> {
    let mut out = String::with_capacity(value.len());
    let mut chars = value.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => match chars.next() {
                Some(c @ ('\\' | ',' | '=')) => out.push(c),
                Some(c) => return Err(FieldSelectorError::Escape(format!("\\{c}"))),
                None => return Err(FieldSelectorError::Escape("\\".to_owned())),
            },
            ',' | '=' => return Err(FieldSelectorError::Unescaped(c)),
            c => out.push(c),
        }
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields() -> BTreeMap<String, String> {
        [("metadata.name", "web"), ("spec.nodeName", ""), ("x", "a,b=c")]
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .into()
    }

    #[track_caller]
    fn check(text: &str, shown: &str, matches: bool) {
        let selector = FieldSelector::parse(text).unwrap();
        assert_eq!(selector.to_string(), shown);
        assert_eq!(selector.matches(&fields()), matches, "{text}");
        assert_eq!(FieldSelector::parse(shown).unwrap(), selector, "{text}");
    }

    #[test]
    fn selectors_match_fields() {
        check("", "", true);
        check("metadata.name=web", "metadata.name=web", true);
        check("metadata.name==web", "metadata.name=web", true);
        check("metadata.name!=web", "metadata.name!=web", false);
        check("spec.nodeName=", "spec.nodeName=", true);
        check("spec.nodeName!=,metadata.name=web", "metadata.name=web,spec.nodeName!=", false);
        check("missing!=x", "missing!=x", true);
        check(",", "", true);
        check(r"x=a\,b\=c", r"x=a\,b\=c", true);
        assert_eq!(FieldSelector::parse("a=b").unwrap().exact("a"), Some("b"));
        assert_eq!(FieldSelector::parse("a!=b").unwrap().exact("a"), None);
        assert!(FieldSelector::equals("metadata.name", "web").matches(&fields()));
    }

    #[test]
    fn bad_selectors_are_refused_in_upstreams_words() {
        let refused = |text: &str| FieldSelector::parse(text).unwrap_err().to_string();
        assert_eq!(refused("a=b,c"), "invalid selector: 'a=b,c'; can't understand 'c'");
        assert_eq!(refused(r"a=\x"), r"invalid field selector: invalid escape sequence: \x");
        assert_eq!(refused(r"a=\"), r"invalid field selector: invalid escape sequence: \");
        assert_eq!(refused("a=b=c"), "invalid field selector: unescaped character in value: 61");
    }
}
