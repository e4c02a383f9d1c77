//! Expressions and their values.

use proptest::prelude::*;
use serde_json::json;

use super::*;

fn object() -> serde_json::Value {
    json!({
        "metadata": {"name": "web", "labels": {"app": "web", "tier": "front"}},
        "spec": {
            "replicas": 3,
            "ratio": 0.5,
            "containers": [
                {"name": "a", "image": "r.io/a:1", "ports": [80, 443]},
                {"name": "b", "image": "r.io/b:2", "ports": []},
            ],
            "absent": null,
        },
    })
}

/// Evaluates `text` over the sample object, and writes the value as JSON or the error.
fn run(text: &str) -> String {
    let object = object();
    let program = match Program::compile(text) {
        Ok(program) => program,
        Err(error) => return format!("syntax: {error}"),
    };
    let (outcome, _) = program.evaluate(vec![("object", Value::json(&object))], PER_CALL_LIMIT);
    match outcome {
        Ok(value) => value.to_json().map_or_else(|| format!("{value:?}"), |json| json.to_string()),
        Err(error) => format!("error: {error}"),
    }
}

#[track_caller]
fn check(cases: &[(&str, &str)]) {
    let wrong: Vec<String> = cases
        .iter()
        .map(|(text, expected)| (text, expected, run(text)))
        .filter(|(_, expected, found)| **expected != found)
        .map(|(text, expected, found)| format!("{text}\n  expected {expected}\n  found    {found}"))
        .collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn literals_and_arithmetic() {
    check(&[
        ("1 + 2 * 3 - 4 / 2", "5"),
        ("-7 % 3", "-1"),
        ("(1 + 2) * 3", "9"),
        ("0x1F", "31"),
        ("1u + 2u", "3"),
        ("1.5e2 / 2.0", "75.0"),
        (".5 + .5", "1.0"),
        ("-9223372036854775808", "-9223372036854775808"),
        ("9223372036854775807 + 1", "error: integer overflow"),
        ("1 / 0", "error: division by zero"),
        ("1 % 0", "error: modulus by zero"),
        ("--1", "1"),
        ("!!true", "true"),
        (r#""a" + 'b' + """c"d""" + r'\n'"#, r#""abc\"d\\n""#),
        (r#""\x41\u00e9\101\n\"""#, r#""AéA\n\"""#),
        (r#"b"\xff" == b'\377'"#, "true"),
        ("1 + 1.0", "error: no such overload: _+_(int, double)"),
        ("1 == 1.0 && 1u == 1 && 1 < 1.5 && 2u > 1", "true"),
        ("'a' < 'b' && b'a' < b'b' && false < true", "true"),
        ("1 == '1'", "false"),
        ("1 < '1'", "error: no such overload: _<_(int, string)"),
        ("[1, 2] == [1, 2.0] && {'a': 1} == {'a': 1} && null == null", "true"),
        ("1 + // a comment\n 2", "3"),
    ]);
}

#[test]
fn logic_absorbs_errors() {
    check(&[
        ("false && 1 / 0 > 0", "false"),
        ("1 / 0 > 0 && false", "false"),
        ("1 / 0 > 0 || true", "true"),
        ("1 / 0 > 0 || false", "error: division by zero"),
        ("true ? 1 : 1 / 0", "1"),
        ("1 ? 2 : 3", "error: no such overload: _?_:_(int)"),
        ("[0, 1].exists(x, 1 / x > 0)", "true"),
        ("[0, 1].all(x, 1 / x > 5)", "false"),
        ("[0, 1].all(x, 1 / x > 0)", "error: division by zero"),
    ]);
}

#[test]
fn documents_are_looked_into() {
    check(&[
        ("object.metadata.name", "\"web\""),
        ("object.spec.containers[1].image", "\"r.io/b:2\""),
        ("object['spec'].ratio", "0.5"),
        ("object.spec.missing", "error: no such key: missing"),
        ("object.spec.containers[2]", "error: index out of bounds: 2"),
        ("object.metadata.name.x", "error: no such key: x"),
        ("has(object.spec.replicas) && !has(object.spec.missing)", "true"),
        ("has(object.spec.absent) && object.spec.absent == null", "true"),
        ("'app' in object.metadata.labels", "true"),
        ("80 in object.spec.containers[0].ports", "true"),
        ("size(object.spec.containers) + object.metadata.labels.size()", "4"),
        ("object.spec.containers.all(c, c.image.startsWith('r.io/'))", "true"),
        ("object.spec.containers.exists_one(c, c.ports.size() > 0)", "true"),
        ("object.spec.containers.filter(c, c.name == 'b').map(c, c.image)", "[\"r.io/b:2\"]"),
        ("object.spec.containers.map(c, c.name == 'a', c.ports[0])", "[80]"),
        ("object.metadata.labels.all(k, k in ['app', 'tier'])", "true"),
        ("object.metadata.labels.exists(k, v, k == 'tier' && v == 'front')", "true"),
        ("object.spec.containers.transformList(i, c, string(i) + c.name)", "[\"0a\",\"1b\"]"),
        ("object.metadata.labels.transformMap(k, v, v + '!')", "{\"app\":\"web!\",\"tier\":\"front!\"}"),
        ("cel.bind(n, object.spec.replicas, n * n)", "9"),
        ("object.?spec.?missing.orValue('none')", "\"none\""),
        ("object.?spec.?replicas.orValue(0)", "3"),
        ("object.spec.containers[?5].hasValue()", "false"),
        ("{?'a': object.?missing, 'b': 1}", "{\"b\":1}"),
        ("[?object.?missing, 1]", "[1]"),
        ("optional.of(2).optMap(x, x + 1).value()", "3"),
        ("optional.none().value()", "error: optional.none() dereference"),
        ("{'a': 1, 'a': 2}", "{\"a\":2}"),
        ("unknown", "error: undeclared reference to 'unknown'"),
    ]);
}

#[test]
fn libraries() {
    check(&[
        ("'héllo'.size()", "5"),
        ("'hello'.contains('ell') && 'hello'.endsWith('lo')", "true"),
        ("'hello'.matches('^h.*o$') && matches('x', 'x')", "true"),
        ("'hello'.matches('(')", "error: error parsing regexp: `(`"),
        ("'hello'.charAt(1) + 'hello'.substring(1, 3) + 'hello'.substring(4)", "\"eelo\""),
        ("'hello'.substring(9)", "error: index out of range: 9"),
        ("['hello'.indexOf('l'), 'hello'.lastIndexOf('l'), 'hello'.indexOf('l', 3), 'x'.indexOf('y')]", "[2,3,3,-1]"),
        ("'A b'.lowerAscii() + 'a'.upperAscii() + ' x '.trim() + 'ab'.reverse()", "\"a bAxba\""),
        ("'a,b,c'.split(',') + 'abc'.split('') + 'a,b,c'.split(',', 2)", r#"["a","b","c","a","b","c","a","b,c"]"#),
        ("'aaa'.replace('a', 'b', 2)", "\"bba\""),
        ("['a', 'b'].join('-')", "\"a-b\""),
        ("'a1b22'.find('[0-9]+') + 'a1b22'.findAll('[0-9]+').join(' ')", "\"11 22\""),
        ("[1, 2, 3].sum() + [3, 1].min() + [3, 1].max()", "10"),
        ("[1, 2].isSorted() && ![2, 1].isSorted()", "true"),
        ("[1, 2, 1].indexOf(1) == 0 && [1, 2, 1].lastIndexOf(1) == 2", "true"),
        ("[1, 2, 3, 4].slice(1, 3) + [1, 1].distinct() + [1, 2].reverse()", "[2,3,1,2,1]"),
        ("sets.contains([1, 2], [2]) && sets.equivalent([1, 2], [2, 1, 1]) && !sets.intersects([1], [2])", "true"),
        ("math.greatest(1, 3, 2) + math.least([4, 2])", "5"),
        ("int('42') + int(1.9) + int(2u)", "45"),
        ("string(1) + string(1.5) + string(true) + string(b'x')", "\"11.5truex\""),
        ("double('1.5') + double(1)", "2.5"),
        ("int('x')", "error: type conversion error from 'string' to 'int'"),
        ("uint(-1)", "error: unsigned integer overflow"),
        ("type(1) == int && type('') == string && type(null) == null_type && type(type(1)) == type", "true"),
        ("timestamp('2026-01-02T03:04:05Z') + duration('1h') > timestamp('2026-01-02T04:00:00Z')", "true"),
        ("timestamp('2026-01-02T03:04:05Z').getMonth() + timestamp('2026-01-02T03:04:05Z').getDayOfWeek()", "5"),
        ("timestamp('2026-01-02T03:04:05Z').getHours('-04:00')", "23"),
        ("duration('90m').getHours() + duration('90m').getMinutes()", "91"),
        ("string(timestamp('2026-01-02T03:04:05Z') - timestamp('2026-01-02T03:04:04.5Z'))", "\"0.5s\""),
        ("quantity('1Gi').isGreaterThan(quantity('1G')) && quantity('1') == quantity('1000m')", "true"),
        ("quantity('1.5').add(quantity('500m')).asInteger()", "2"),
        ("isQuantity('1Gi') && !isQuantity('x')", "true"),
        ("'a'.frob()", "error: no such overload: frob(string)"),
    ]);
}

#[test]
fn bad_text_is_refused_with_its_place() {
    check(&[
        ("1 +", "syntax: unexpected end of expression (at offset 3)"),
        ("a b", "syntax: unexpected 'b' (at offset 2)"),
        ("'abc", "syntax: unfinished text (at offset 0)"),
        ("a ~ b", "syntax: token recognition error at: '~' (at offset 2)"),
        ("for", "syntax: reserved identifier: for (at offset 3)"),
        ("has(a)", "syntax: invalid argument to has() macro (at offset 6)"),
        ("[1].all(1, true)", "syntax: argument must be a simple name (at offset 16)"),
        ("9223372036854775808", "syntax: invalid int literal (at offset 19)"),
    ]);
}

#[test]
fn hostile_programs_neither_exhaust_the_stack_nor_run_on() {
    let nested = format!("{}1{}", "(".repeat(5_000), ")".repeat(5_000));
    let chain = format!("1{}", "+1".repeat(40_000));
    let fields = format!("object{}", ".a".repeat(5_000));
    let choices = format!("{}1", "true?1:".repeat(5_000));
    for text in [&nested, &chain, &fields, &choices, &"[".repeat(50_000), &"-(".repeat(20_000)] {
        assert!(run(text).starts_with("syntax: expression recursion limit exceeded"), "{}", run(text));
    }
    assert!(run(&"x".repeat(100_001)).starts_with("syntax: expression code point size"));
    assert_eq!(run(&vec!["true"; 10_000].join(" && ")), "true");

    let numbers = "[1,2,3,4,5,6,7,8,9,10]";
    let loops = format!(
        "{numbers}.all(a, {numbers}.all(b, {numbers}.all(c, {numbers}.all(d, {numbers}.all(e, {numbers}.all(f, true))))))"
    );
    assert_eq!(run(&loops), "error: operation cancelled: actual cost limit exceeded");
    let doubling = format!("{}'x'{}", "cel.bind(s, ".repeat(60), ", s + s)".repeat(60));
    assert_eq!(run(&doubling), "error: operation cancelled: actual cost limit exceeded");
}

/// What cel-go counts for the same expressions.
#[test]
fn expressions_cost_what_they_cost_upstream() {
    let object = object();
    for (text, cost) in [
        ("1", 0),
        ("1 + 2 * 3 - 4 / 2", 4),
        ("\"a\" + 'b' + \"\"\"c\"d\"\"\" + r'\\n'", 3),
        ("1 == 1.0 && 1u == 1 && 1 < 1.5 && 2u > 1", 4),
        ("[1, 2] == [1, 2.0] && {'a': 1} == {'a': 1} && null == null", 83),
        ("false && 1 / 0 > 0", 0),
        ("[0, 1].exists(x, x > 0)", 23),
        ("[3, 1].all(x, 1 / x < 5)", 23),
        ("object.spec.containers[1].image", 5),
        ("has(object.spec.replicas) && !has(object.spec.missing)", 7),
        ("size(object.spec.containers) + object.metadata.labels.size()", 9),
        ("object.spec.containers.all(c, c.image.startsWith('r.io/'))", 16),
        ("object.spec.containers.exists_one(c, c.ports.size() > 0)", 15),
        ("object.spec.containers.filter(c, c.name == 'b').map(c, c.image)", 58),
        ("object.spec.containers.map(c, c.name == 'a', c.ports[0])", 35),
        ("object.metadata.labels.all(k, k in ['app', 'tier'])", 36),
        ("object.spec.containers.transformList(i, c, string(i) + c.name)", 48),
        ("object.metadata.labels.transformMap(k, v, v + '!')", 44),
        ("cel.bind(n, object.spec.replicas, n * n)", 16),
        ("optional.of(2).optMap(x, x + 1).value()", 18),
        ("'hello'.contains('ell') && 'hello'.endsWith('lo')", 2),
        ("'hello'.matches('^h.*o$') && matches('x', 'x')", 3),
        ("[1].map(x, -x)", 35),
        ("{'a': [1, 2].filter(x, !(x == 2))}", 70),
        ("int('42') + int(1.9) + int(2u)", 5),
        ("timestamp('2026-01-02T03:04:05Z').getHours('-04:00')", 2),
    ] {
        let program = Program::compile(text).unwrap();
        let (_, spent) = program.evaluate(vec![("object", Value::json(&object))], PER_CALL_LIMIT);
        assert_eq!(spent, cost, "{text}");
    }
}

proptest! {
    #[test]
    fn no_program_panics(text in "([a-c1-3.'\"+*/%<>=!&|?:,()\\[\\]{} -]|true|has|object|all|map|size|in|\\.x){0,30}") {
        run(&text);
    }

    #[test]
    fn no_function_panics(
        name in "size|contains|charAt|substring|indexOf|lastIndexOf|split|replace|slice|join|findAll|matches|sum|max|getHours",
        receiver in "'héé'|''|\\[1,2\\]|\\[\\]|\\['a','é'\\]|duration\\('1h'\\)|3",
        args in prop::collection::vec("-?[0-9]|'é?'|''|\\[1\\]|9223372036854775807", 0..4),
    ) {
        run(&format!("{receiver}.{name}({})", args.join(", ")));
    }
}
