//! What names, labels and keys may look like, with upstream's explanations
//! (`k8s.io/apimachinery/pkg/util/validation`, `.../api/validate/content`).
//!
//! Each check returns what is wrong, or nothing. The regular expressions appear in the messages only:
//! matching them by hand is quicker and needs no lazily built automaton.

const DNS_LABEL: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?";
const DNS_SUBDOMAIN: &str = "[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*";
const DNS_1035_LABEL: &str = "[a-z]([-a-z0-9]*[a-z0-9])?";
const LABEL_KEY: &str = "([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]";
const LABEL_VALUE: &str = "(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?";

const DNS_LABEL_RULE: &str = "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', \
     and must start and end with an alphanumeric character";
const DNS_SUBDOMAIN_RULE: &str = "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, \
     '-' or '.', and must start and end with an alphanumeric character";
const LABEL_KEY_RULE: &str = "must consist of alphanumeric characters, '-', '_' or '.', and must start and end with \
     an alphanumeric character";

/// RFC 1123 label: up to 63 of `a-z0-9-`, alphanumeric at both ends.
pub fn dns_label(value: &str) -> Vec<String> {
    let mut wrong = no_longer_than(value, 63, "characters");
    if !is_dns_label(value) {
        wrong.push(match is_dns_subdomain(value) {
            true => "must not contain dots".to_owned(),
            false => explained(DNS_LABEL_RULE, DNS_LABEL, &["my-name", "123-abc"]),
        });
    }
    wrong
}

/// RFC 1123 subdomain: up to 253 characters of dotted labels. The rule for most object names.
pub fn dns_subdomain(value: &str) -> Vec<String> {
    let mut wrong = no_longer_than(value, 253, "characters");
    if !is_dns_subdomain(value) {
        wrong.push(explained(DNS_SUBDOMAIN_RULE, DNS_SUBDOMAIN, &["example.com"]));
    }
    wrong
}

/// As [`dns_subdomain`], but with underscores: the search paths of resolvers.
pub fn dns_subdomain_with_underscore(value: &str) -> Vec<String> {
    const PART: &str = "_?[a-z0-9]([-_a-z0-9]*[a-z0-9])?";
    let mut wrong = no_longer_than(value, 253, "characters");
    let part = |part: &str| is_dns_label(&part.strip_prefix('_').unwrap_or(part).replace('_', "-"));
    if !value.split('.').all(part) {
        let rule = DNS_SUBDOMAIN_RULE.replace("'-' or", "'_', '-' or");
        wrong.push(explained(&rule, &format!("{PART}(\\.{PART})*"), &["example.com"]));
    }
    wrong
}

/// RFC 1035 label: as [`dns_label`], but starting with a letter. The rule for Service names.
pub fn dns_1035_label(value: &str) -> Vec<String> {
    let mut wrong = no_longer_than(value, 63, "characters");
    if !(is_dns_label(value) && value.starts_with(|c: char| c.is_ascii_lowercase())) {
        let rule = "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an \
                    alphabetic character, and end with an alphanumeric character";
        wrong.push(explained(rule, DNS_1035_LABEL, &["my-name", "abc-123"]));
    }
    wrong
}

/// `*.` and a subdomain.
pub fn wildcard_dns_subdomain(value: &str) -> Vec<String> {
    let mut wrong = no_longer_than(value, 253, "characters");
    if !value.strip_prefix("*.").is_some_and(is_dns_subdomain) {
        let rule = "a wildcard DNS-1123 subdomain must start with '*.', followed by a valid DNS subdomain, which must \
                    consist of lower case alphanumeric characters, '-' or '.' and end with an alphanumeric character";
        wrong.push(explained(rule, &format!("\\*\\.{DNS_SUBDOMAIN}"), &["*.example.com"]));
    }
    wrong
}

/// A label key, annotation key, resource or finalizer name: an optional DNS prefix, `/`, and up to 63 of `A-Za-z0-9-_.`.
pub fn qualified_name(value: &str) -> Vec<String> {
    let examples = ["MyName", "my.name", "123-abc"];
    let mut wrong = Vec::new();
    let name = match value.split_once('/') {
        None => value,
        Some((_, name)) if name.contains('/') => {
            let rule = format!("a valid label key {LABEL_KEY_RULE}");
            let note = " with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')";
            return vec![explained(&rule, LABEL_KEY, &examples) + note];
        }
        Some(("", name)) => {
            wrong.push("prefix part must be non-empty".to_owned());
            name
        }
        Some((prefix, name)) => {
            let mut said = no_longer_than(prefix, 253, "bytes");
            if !is_dns_subdomain(prefix) {
                said.push(explained(DNS_SUBDOMAIN_RULE, DNS_SUBDOMAIN, &["example.com"]));
            }
            wrong.extend(said.into_iter().map(|text| format!("prefix part {text}")));
            name
        }
    };
    if name.is_empty() {
        wrong.push("name part must be non-empty".to_owned());
    } else if name.len() > 63 {
        wrong.push("name part must be no more than 63 bytes".to_owned());
    }
    if !is_label_key_name(name) {
        wrong.push(format!("name part {}", explained(LABEL_KEY_RULE, LABEL_KEY, &examples)));
    }
    wrong
}

/// A label's value: empty, or up to 63 of `A-Za-z0-9-_.`, alphanumeric at both ends.
pub fn label_value(value: &str) -> Vec<String> {
    let mut wrong = no_longer_than(value, 63, "bytes");
    if !(value.is_empty() || is_label_key_name(value)) {
        let rule = "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and \
                    must start and end with an alphanumeric character";
        wrong.push(explained(rule, LABEL_VALUE, &["MyValue", "my_value", "12345"]));
    }
    wrong
}

/// The key of a ConfigMap's or Secret's data: a file name.
pub fn config_map_key(value: &str) -> Vec<String> {
    let mut wrong = no_longer_than(value, 253, "characters");
    if value.is_empty() || !value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b)) {
        let rule = "a valid config key must consist of alphanumeric characters, '-', '_' or '.'";
        wrong.push(explained(rule, "[-._a-zA-Z0-9]+", &["key.name", "KEY_NAME", "key-name"]));
    }
    wrong.extend(climbing(value));
    wrong
}

/// An environment variable's name by the strict rule.
pub fn env_var_name(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    let fits = !value.starts_with(|c: char| c.is_ascii_digit())
        && !value.is_empty()
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(&b));
    if !fits {
        let rule = "a valid environment variable name must consist of alphabetic characters, digits, '_', '-', or '.', \
                    and must not start with a digit";
        let examples = ["my.env-name", "MY_ENV.NAME", "MyEnvName1"];
        wrong.push(explained(rule, "[-._a-zA-Z][-._a-zA-Z0-9]*", &examples));
    }
    wrong.extend(climbing(value));
    wrong
}

/// An environment variable's name by the rule since 1.30: any printable ASCII but `=`.
pub fn relaxed_env_var_name(value: &str) -> Vec<String> {
    let mut wrong = Vec::new();
    if value.is_empty() {
        wrong.push("environment variable name must be non-empty".to_owned());
    }
    if value.chars().any(|c| !(' '..='~').contains(&c) || c == '=') {
        let rule = "a valid environment variable name must consist only of printable ASCII characters other than '='";
        wrong.push(rule.to_owned());
    }
    wrong
}

/// A C identifier.
pub fn c_identifier(value: &str) -> Vec<String> {
    let fits = value.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
        && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_');
    let rule = "a valid C identifier must start with alphabetic character or '_', followed by a string of alphanumeric \
                characters or '_'";
    unless(fits, || explained(rule, "[A-Za-z_][A-Za-z0-9_]*", &["my_name", "MY_NAME", "MyName"]))
}

/// The reason of a condition, for machines to read.
pub fn condition_reason(value: &str) -> Vec<String> {
    let of_words = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_';
    let fits = value.starts_with(|c: char| c.is_ascii_alphabetic())
        && value.bytes().last().is_some_and(of_words)
        && value.bytes().all(|byte| of_words(byte) || b",:".contains(&byte));
    let rule = "a condition reason must start with alphabetic character, optionally followed by a string of \
                alphanumeric characters or '_,:', and must end with an alphanumeric character or '_'";
    let examples = ["my_name", "MY_NAME", "MyName", "ReasonA,ReasonB", "ReasonA:ReasonB"];
    unless(fits, || explained(rule, "[A-Za-z]([A-Za-z0-9_,:]*[A-Za-z0-9_])?", &examples))
}

/// A semantic version (semver.org 2.0.0): `1.2.3-rc.1+build.5`.
pub fn is_semantic_version(value: &str) -> bool {
    let numeric = |part: &str| {
        part == "0" || (!part.is_empty() && !part.starts_with('0') && part.bytes().all(|byte| byte.is_ascii_digit()))
    };
    let of_words =
        |part: &str| !part.is_empty() && part.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let before = |part: &str| {
        numeric(part) || (of_words(part) && part.bytes().any(|byte| byte.is_ascii_alphabetic() || byte == b'-'))
    };
    let (value, build) = value.split_once('+').map_or((value, None), |(value, build)| (value, Some(build)));
    let (core, release) = value.split_once('-').map_or((value, None), |(core, release)| (core, Some(release)));
    let numbers: Vec<&str> = core.split('.').collect();
    numbers.len() == 3
        && numbers.into_iter().all(numeric)
        && release.is_none_or(|release| release.split('.').all(before))
        && build.is_none_or(|build| build.split('.').all(of_words))
}

/// A port's name: up to 15 of `a-z0-9-`, with a letter, no doubled hyphen and none at the ends.
pub fn port_name(value: &str) -> Vec<String> {
    let mut wrong = no_longer_than(value, 15, "characters");
    let mut say = |holds: bool, text: &str| {
        if !holds {
            wrong.push(text.to_owned());
        }
    };
    let charset = !value.is_empty() && value.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    say(charset, "must contain only alpha-numeric characters (a-z, 0-9), and hyphens (-)");
    say(value.bytes().any(|b| b.is_ascii_lowercase()), "must contain at least one letter (a-z)");
    say(!value.contains("--"), "must not contain consecutive hyphens");
    say(!value.starts_with('-') && !value.ends_with('-'), "must not begin or end with a hyphen");
    wrong
}

/// A port's number.
pub fn port_number(value: i64) -> Vec<String> {
    in_range(value, 1, 65_535)
}

/// An inclusive range.
pub fn in_range(value: i64, low: i64, high: i64) -> Vec<String> {
    unless((low..=high).contains(&value), || format!("must be between {low} and {high}, inclusive"))
}

/// `30%`.
pub fn percent(value: &str) -> Vec<String> {
    let fits = value.strip_suffix('%').is_some_and(|n| !n.is_empty() && n.bytes().all(|b| b.is_ascii_digit()));
    let rule = "a valid percent string must be a numeric string followed by an ending '%'";
    unless(fits, || explained(rule, "[0-9]+%", &["1%", "93%"]))
}

/// The name of an HTTP header.
pub fn http_header_name(value: &str) -> Vec<String> {
    let fits = !value.is_empty() && value.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-');
    let rule = "a valid HTTP header must consist of alphanumeric characters or '-'";
    unless(fits, || explained(rule, "[-A-Za-z0-9]+", &["X-Header-Name"]))
}

/// What may follow a host in a URL.
pub fn http_path(value: &str) -> Vec<String> {
    const REGEX: &str = r"[A-Za-z0-9/\-._~%!$&'()*+,;=:]+";
    let fits = !value.is_empty()
        && value.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"/-._~%!$&'()*+,;=:".contains(&byte));
    unless(fits, || format!("Invalid path (regex used for validation is '{REGEX}')"))
}

/// What may stand as one segment of a request path.
pub fn path_segment(value: &str) -> Vec<String> {
    if value == "." || value == ".." {
        return vec![format!("may not be '{value}'")];
    }
    ["/", "%"].iter().filter(|text| value.contains(**text)).map(|text| format!("may not contain '{text}'")).collect()
}

/// What a name check of `generateName` looks at: the prefix with a trailing dash masked, since more will follow it.
pub fn as_prefix(name: &str) -> String {
    match name.strip_suffix('-') {
        Some(rest) if !rest.is_empty() => {
            let mut masked = rest.to_owned();
            masked.pop();
            masked.push('a');
            masked
        }
        _ => name.to_owned(),
    }
}

fn is_dns_label(value: &str) -> bool {
    let bytes = value.as_bytes();
    let alphanumeric = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    matches!((bytes.first(), bytes.last()), (Some(&a), Some(&z)) if alphanumeric(a) && alphanumeric(z))
        && bytes.iter().all(|&b| alphanumeric(b) || b == b'-')
}

fn is_dns_subdomain(value: &str) -> bool {
    value.split('.').all(is_dns_label)
}

fn is_label_key_name(value: &str) -> bool {
    let bytes = value.as_bytes();
    let ends = |b: u8| b.is_ascii_alphanumeric();
    matches!((bytes.first(), bytes.last()), (Some(&a), Some(&z)) if ends(a) && ends(z))
        && bytes.iter().all(|&b| ends(b) || b"-_.".contains(&b))
}

fn no_longer_than(value: &str, limit: usize, unit: &str) -> Vec<String> {
    unless(value.len() <= limit, || format!("must be no more than {limit} {unit}"))
}

fn climbing(value: &str) -> Option<String> {
    match value {
        "." => Some("must not be '.'".to_owned()),
        ".." => Some("must not be '..'".to_owned()),
        _ if value.starts_with("..") => Some("must not start with '..'".to_owned()),
        _ => None,
    }
}

fn unless(holds: bool, text: impl FnOnce() -> String) -> Vec<String> {
    match holds {
        true => Vec::new(),
        false => vec![text()],
    }
}

fn explained(rule: &str, regex: &str, examples: &[&str]) -> String {
    let examples: Vec<String> = examples.iter().map(|example| format!("'{example}', ")).collect();
    format!("{rule} (e.g. {}regex used for validation is '{regex}')", examples.join(" or "))
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};

    fn check(wrong: Vec<String>, expected: Expect) {
        expected.assert_eq(&wrong.join("\n"));
    }

    #[test]
    fn semantic_versions_have_three_numbers() {
        for good in ["0.0.0", "1.20.3", "1.0.0-alpha.1", "1.0.0-0a-b+001.x-y", "1.0.0+build-7"] {
            assert!(is_semantic_version(good), "{good}");
        }
        for bad in ["", "1", "1.0", "01.0.0", "1.0.0-", "1.0.0-01", "1.0.0+", "1.0.0-a..b", "v1.0.0", "1.0.0+a_b"] {
            assert!(!is_semantic_version(bad), "{bad}");
        }
    }

    #[test]
    fn good_names_pass() {
        for name in ["a", "web-1", "a.b-c.d", "0"] {
            assert_eq!(dns_subdomain(name), Vec::<String>::new(), "{name}");
        }
        for name in ["app", "app.kubernetes.io/name", "A_b.C-1", "example.com/x"] {
            assert_eq!(qualified_name(name), Vec::<String>::new(), "{name}");
        }
        for value in ["", "v1.2_3", "a"] {
            assert_eq!(label_value(value), Vec::<String>::new(), "{value}");
        }
        for key in ["a", "..", "A_b.c"].iter().filter(|key| **key != "..") {
            assert_eq!(config_map_key(key), Vec::<String>::new(), "{key}");
        }
        assert!(port_name("http-1").is_empty() && percent("30%").is_empty() && env_var_name("A.b_c").is_empty());
        assert!(wildcard_dns_subdomain("*.example.com").is_empty() && path_segment("web").is_empty());
    }

    #[test]
    fn bad_names_are_explained() {
        check(
            dns_label("Web"),
            expect![
                "a lowercase RFC 1123 label must consist of lower case alphanumeric characters or '-', and must start and end with an alphanumeric character (e.g. 'my-name',  or '123-abc', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?')"
            ],
        );
        check(dns_label("a.b"), expect!["must not contain dots"]);
        check(
            dns_subdomain("a..b"),
            expect![
                "a lowercase RFC 1123 subdomain must consist of lower case alphanumeric characters, '-' or '.', and must start and end with an alphanumeric character (e.g. 'example.com', regex used for validation is '[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*')"
            ],
        );
        check(dns_subdomain(&"a".repeat(254)), expect!["must be no more than 253 characters"]);
        check(
            dns_1035_label("1a"),
            expect![
                "a DNS-1035 label must consist of lower case alphanumeric characters or '-', start with an alphabetic character, and end with an alphanumeric character (e.g. 'my-name',  or 'abc-123', regex used for validation is '[a-z]([-a-z0-9]*[a-z0-9])?')"
            ],
        );
        check(
            qualified_name("a/b/c"),
            expect![
                "a valid label key must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')"
            ],
        );
        check(
            qualified_name("/"),
            expect![[r#"
                prefix part must be non-empty
                name part must be non-empty
                name part must consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or 'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]')"#]],
        );
        check(label_value(&"a".repeat(64)), expect!["must be no more than 63 bytes"]);
        check(
            label_value("-"),
            expect![
                "a valid label must be an empty string or consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')"
            ],
        );
        check(
            config_map_key("../x"),
            expect![[r#"
            a valid config key must consist of alphanumeric characters, '-', '_' or '.' (e.g. 'key.name',  or 'KEY_NAME',  or 'key-name', regex used for validation is '[-._a-zA-Z0-9]+')
            must not start with '..'"#]],
        );
        check(
            port_name("-"),
            expect![[r#"
            must contain at least one letter (a-z)
            must not begin or end with a hyphen"#]],
        );
        check(port_number(0), expect!["must be between 1 and 65535, inclusive"]);
        check(
            path_segment("a/b%"),
            expect![[r#"
            may not contain '/'
            may not contain '%'"#]],
        );
        check(
            relaxed_env_var_name("a=é"),
            expect!["a valid environment variable name must consist only of printable ASCII characters other than '='"],
        );
    }

    #[test]
    fn a_prefix_may_end_in_a_dash() {
        assert_eq!(as_prefix("web-"), "wea");
        assert_eq!(as_prefix("-"), "-");
        assert_eq!(as_prefix("web"), "web");
        assert!(dns_label(&as_prefix("web-")).is_empty());
    }
}
