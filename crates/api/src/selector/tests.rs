//! Label selectors against upstream's grammar.

use std::collections::BTreeMap;

use serde_json::json;

use super::label::LabelSelector;

fn labels(pairs: &[(&str, &str)]) -> BTreeMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// Parses `text`, compares its canonical form, and tells whether it matches each of three sets of labels.
#[track_caller]
fn check(text: &str, canonical: &str, matches: [bool; 3]) {
    let selector = LabelSelector::parse(text).unwrap();
    assert_eq!(selector.to_string(), canonical);
    let sets = [labels(&[("app", "web"), ("n", "5")]), labels(&[("app", "db"), ("tier", "")]), labels(&[])];
    assert_eq!(sets.map(|set| selector.matches(&set)), matches, "{text}");
}

#[test]
fn selectors_match_labels() {
    check("", "", [true, true, true]);
    check("app=web", "app=web", [true, false, false]);
    check(" app == web ", "app==web", [true, false, false]);
    check("app!=web", "app!=web", [false, true, true]);
    check("app", "app", [true, true, false]);
    check("!app", "!app", [false, false, true]);
    check("app in (web, db,web)", "app in (db,web)", [true, true, false]);
    check("app notin (web)", "app notin (web)", [false, true, true]);
    check("tier=", "tier=", [false, true, false]);
    check("tier in ()", "tier in ()", [false, true, false]);
    check("tier in (,x)", "tier in (,x)", [false, true, false]);
    check("tier in (x,)", "tier in (,x)", [false, true, false]);
    check("tier,app=db", "app=db,tier", [false, true, false]);
    check("n>4", "n>4", [true, false, false]);
    check("n<5", "n<5", [false, false, false]);
    check("in in (in, notin)", "in in (in,notin)", [false, false, false]);
    check("example.com/x!=y,!app", "!app,example.com/x!=y", [false, false, true]);
}

#[track_caller]
fn refuse(text: &str, message: &str) {
    assert_eq!(LabelSelector::parse(text).unwrap_err().to_string(), message);
}

#[test]
fn bad_selectors_are_refused_in_upstreams_words() {
    refuse("=a", "found '=', expected: !, identifier, or 'end of string'");
    refuse("a,", "found '', expected: identifier after ','");
    refuse("a in (b", "unable to parse requirement: found '', expected: ',' or ')'");
    refuse("a in b", "unable to parse requirement: found 'b' expected: '('");
    refuse("a in (=)", "unable to parse requirement: found '=', expected: ',', ')' or identifier");
    refuse("a b", "unable to parse requirement: found 'b', expected: in, notin, =, ==, !=, gt, lt");
    refuse("a=b c", "found 'c', expected: ',' or 'end of string'");
    refuse("a==!", "unable to parse requirement: found '!', expected: identifier");
    refuse("!", "unable to parse requirement: found '', expected: identifier");
    refuse("!a=b", "found '=', expected: ',' or 'end of string'");
    refuse(
        "a>x",
        "unable to parse requirement: values[0]: Invalid value: \"x\": for 'Gt', 'Lt' operators, the value must be an \
         integer",
    );
    refuse(
        "a/b/c",
        "unable to parse requirement: <nil>: Invalid value: \"a/b/c\": a valid label key must consist of alphanumeric \
         characters, '-', '_' or '.', and must start and end with an alphanumeric character (e.g. 'MyName',  or \
         'my.name',  or '123-abc', regex used for validation is '([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9]') with an \
         optional DNS subdomain prefix and '/' (e.g. 'example.com/MyName')",
    );
    refuse(
        "a=-",
        "unable to parse requirement: values[0][a]: Invalid value: \"-\": a valid label must be an empty string or \
         consist of alphanumeric characters, '-', '_' or '.', and must start and end with an alphanumeric character \
         (e.g. 'MyValue',  or 'my_value',  or '12345', regex used for validation is \
         '(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?')",
    );
}

#[test]
fn json_selectors_are_read() {
    assert_eq!(LabelSelector::from_json(None), Ok(LabelSelector::Nothing));
    assert_eq!(LabelSelector::from_json(Some(&json!({}))), Ok(LabelSelector::EVERYTHING));
    let selector = json!({
        "matchLabels": {"app": "web"},
        "matchExpressions": [
            {"key": "tier", "operator": "In", "values": ["b", "a"]},
            {"key": "canary", "operator": "DoesNotExist"},
        ],
    });
    let selector = LabelSelector::from_json(Some(&selector)).unwrap();
    assert_eq!(selector.to_string(), "app=web,!canary,tier in (a,b)");
    assert_eq!(selector.exact("app"), Some("web"));
    assert_eq!(selector.exact("tier"), None);
    assert!(selector.matches(&labels(&[("app", "web"), ("tier", "a")])));
    assert!(!LabelSelector::Nothing.matches(&labels(&[])));
    assert_eq!(LabelSelector::from_labels(&labels(&[("a", "b"), ("c", "d")])).to_string(), "a=b,c=d");

    let refused = |expression| {
        let selector = json!({ "matchExpressions": [expression] });
        LabelSelector::from_json(Some(&selector)).unwrap_err().to_string()
    };
    assert_eq!(refused(json!({"key": "a", "operator": "="})), "\"=\" is not a valid label selector operator");
    assert_eq!(
        refused(json!({"key": "a", "operator": "In"})),
        "values: Invalid value: []: for 'in', 'notin' operators, values set can't be empty"
    );
}
