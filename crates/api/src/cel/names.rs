//! The names that fields have in expressions: those of the document where the language allows, else escaped
//! (`k8s.io/apiserver/pkg/cel/escaping.go`).

/// The words that no field may be called.
const RESERVED: [&str; 21] = [
    "true",
    "false",
    "null",
    "in",
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// The name of a field in expressions; none where it has none, and so cannot be reached.
pub fn escape(name: &str) -> Option<String> {
    if name.is_empty() || name.starts_with(|c: char| c.is_ascii_digit()) {
        return None;
    }
    if RESERVED.contains(&name) {
        return Some(format!("__{name}__"));
    }
    let mut escaped = String::with_capacity(name.len());
    let mut rest = name;
    while let Some(c) = rest.chars().next() {
        if let Some(after) = rest.strip_prefix("__") {
            escaped.push_str("__underscores__");
            rest = after;
            continue;
        }
        match c {
            '.' => escaped.push_str("__dot__"),
            '-' => escaped.push_str("__dash__"),
            '/' => escaped.push_str("__slash__"),
            c if c.is_ascii_alphanumeric() || c == '_' => escaped.push(c),
            _ => return None,
        }
        rest = &rest[c.len_utf8()..];
    }
    Some(escaped)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(name: &str, expected: Option<&str>) {
        assert_eq!(escape(name).as_deref(), expected);
    }

    #[test]
    fn escapes_what_the_language_cannot_say() {
        check("replicas", Some("replicas"));
        check("namespace", Some("__namespace__"));
        check("a.b-c/d", Some("a__dot__b__dash__c__slash__d"));
        check("a__b_c", Some("a__underscores__b_c"));
        check("1a", None);
        check("a b", None);
        check("ä", None);
        check("", None);
    }
}
