//! What expressions must not do to whoever compiles and evaluates them: overflow the stack, go on for ever, take all
//! memory, panic.

use std::time::Instant;

use super::*;

/// Compiles and runs whatever it is; says how long it took if that was long.
fn survives(environment: &Environment, text: &str) -> Result<String, String> {
    let start = Instant::now();
    let program = environment.compile(text).map_err(|error| error.to_string());
    let outcome = program.and_then(|program| {
        let outcome = program.evaluate(&Activation::new(), &mut Budget::new(RUNTIME_BUDGET));
        outcome.map(|value| upstream::show(&value)).map_err(|error| error.to_string())
    });
    let shown: String = text.chars().take(80).collect();
    assert!(start.elapsed().as_secs() < 120, "{shown} took {:?}", start.elapsed());
    outcome
}

fn repeated(open: &str, middle: &str, close: &str, count: usize) -> String {
    format!("{}{middle}{}", open.repeat(count), close.repeat(count))
}

#[test]
fn deep_expressions_are_refused_rather_than_overflow() {
    let environment = Environment::new(Declarations::new());
    let shapes = [
        ("(", "1", ")"),
        ("[", "1", "]"),
        ("{1: ", "1", "}"),
        ("!(", "true", ")"),
        ("-(", "1", ")"),
        ("1 + ", "1", ""),
        ("", "1", " + 1"),
        ("true ? 1 : ", "1", ""),
        ("size([", "1", "])"),
        ("", "a", ".b"),
        ("", "a", "[0]"),
        ("", "a", ".f()"),
        ("", "a", ".?b"),
        ("[1].all(x, ", "true", ")"),
        ("[1].map(x, ", "x", ")"),
        ("true && (false || !", "true", ")"),
        ("Object{a: ", "1", "}"),
        ("!-", "1", ""),
    ];
    for (open, middle, close) in shapes {
        for count in [50, 100, 200, 249, 260, 1_000, 10_000] {
            let _ = survives(&environment, &repeated(open, middle, close, count));
        }
        assert!(survives(&environment, &repeated(open, middle, close, 10_000)).is_err(), "{open}");
    }
}

#[test]
fn long_chains_of_conditions_are_taken() {
    let environment = Environment::new(Declarations::new());
    let text = format!("{}true", "true && ".repeat(5_000));
    assert_eq!(survives(&environment, &text).as_deref(), Ok("true"));
    let text = format!("{}false", "false || ".repeat(5_000));
    assert_eq!(survives(&environment, &text).as_deref(), Ok("false"));
    assert_eq!(survives(&environment, &format!("{}5", "-".repeat(50_000))).as_deref(), Ok("5"));
    let too_long = format!("'{}'", "x".repeat(100_001));
    let error = survives(&environment, &too_long).expect_err("too long");
    assert!(error.contains("expression code point size exceeds limit: size: 100003, limit 100000"), "{error}");
}

#[test]
fn what_grows_without_bounds_is_stopped() {
    const STOPPED: &str = "operation cancelled: actual cost limit exceeded";
    check("lists.range(1000000000)", STOPPED);
    check("lists.range(1000).all(x, lists.range(1000).all(y, x + y >= 0)) || true", STOPPED);
    let doubled = |start: &str, twice: &str| format!("optional.of({start}){}", twice.repeat(12));
    let environment = Environment::new(Declarations::new());
    for text in [
        doubled("[1]", ".optMap(x, x + x)"),
        doubled("'ab'", ".optMap(x, x.replace('', x))"),
        doubled("[1]", ".optMap(x, [x, x])"),
        doubled("{1: 1}", ".optMap(x, {x: x})"),
        format!("[{{1: 1}}]{}", ".map(x, {x: x})".repeat(60)),
        format!("['ab']{}", ".map(x, x.replace('', x))".repeat(40)),
        format!("[[1]]{}", ".map(x, x + x)".repeat(60)),
        format!("[[1]]{}.map(x, x == x)", ".map(x, [x, x])".repeat(60)),
        format!("'%s'.format([[[1]]{}])", ".map(x, [x, x])".repeat(60)),
    ] {
        let _ = survives(&environment, &text);
    }
}

#[test]
fn errors_of_the_budget_are_counted() {
    let program = Environment::new(Declarations::new()).compile("lists.range(100).all(x, x >= 0)").expect("a program");
    let mut budget = Budget::new(1_000);
    assert!(program.evaluate(&Activation::new(), &mut budget).is_ok());
    let cost = budget.last_cost();
    assert!((500..1_000).contains(&cost), "{cost}");
    assert!(!budget.is_exhausted());
    assert!(program.evaluate(&Activation::new(), &mut budget).is_ok());
    assert!(budget.is_exhausted());
    assert_eq!(budget.left(), 0);
}

#[test]
fn programs_are_shared_by_threads() {
    fn shared<T: Send + Sync>(_: &T) {}
    shared(&Environment::new(Declarations::new()).compile("1").expect("a program"));
}

/// Numbers that look random and are the same each time.
struct Numbers(u64);

impl Numbers {
    fn below(&mut self, limit: usize) -> usize {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) as usize % limit.max(1)
    }
}

const SCRAPS: [&str; 40] = [
    "(",
    ")",
    "[",
    "]",
    "{",
    "}",
    ".",
    "?",
    ":",
    ",",
    "!",
    "-",
    "+",
    "*",
    "/",
    "%",
    "==",
    "<",
    "in",
    "&&",
    "||",
    "?.",
    "[?",
    "x",
    "i",
    "1",
    "0u",
    "1.5",
    "'s'",
    "b'\\xff'",
    "\"\"\"",
    "null",
    ".map(x, x)",
    ".all(x, y, x == y)",
    "has(",
    "size(",
    "\\",
    "é",
    "\n",
    "`a`",
];

fn mutated(text: &str, numbers: &mut Numbers) -> String {
    let mut characters: Vec<char> = text.chars().collect();
    for _ in 0..=numbers.below(3) {
        let at = numbers.below(characters.len() + 1);
        match numbers.below(4) {
            0 => characters.truncate(at),
            1 if at < characters.len() => {
                characters.remove(at);
            }
            2 => {
                let from = numbers.below(characters.len());
                let piece: Vec<char> = characters[from..].iter().take(8).copied().collect();
                characters.splice(at..at, piece);
            }
            _ => {
                characters.splice(at..at, SCRAPS[numbers.below(SCRAPS.len())].chars());
            }
        }
    }
    characters.into_iter().collect()
}

#[test]
fn nothing_panics_on_what_looks_like_an_expression() {
    let object = serde_json::json!({"metadata": {"name": "web"}, "spec": {"containers": [{"name": "a"}], "n": 1}});
    let declarations = Declarations::new()
        .variable("i", Type::Int)
        .variable("s", Type::String)
        .variable("object", Type::Dyn)
        .variable("names", Type::list(Type::String))
        .mutations();
    let environment = Environment::new(declarations);
    let activation = Activation::new()
        .with("i", Value::Int(5))
        .with("s", Value::text("hello"))
        .with("object", Value::json(&object))
        .with("names", Value::list(vec![Value::text("a")]));
    let mut numbers = Numbers(7);
    let mut compiled = 0;
    for line in include_str!("../testdata/expressions.txt").lines().filter(|line| !line.starts_with("lists.range(300)"))
    {
        for _ in 0..8 {
            let text = mutated(line, &mut numbers);
            if let Ok(program) = environment.compile(&text) {
                compiled += 1;
                let _ = program.evaluate(&activation, &mut Budget::new(RUNTIME_BUDGET));
            }
        }
    }
    assert!(compiled > 100, "{compiled} compiled");
}
