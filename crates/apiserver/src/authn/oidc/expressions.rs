//! What an issuer's tokens mean where claims by their names do not say it: expressions (CEL) over claims, and over the
//! user that comes of them (KEP-3331; upstream: `pkg/authentication/cel`).

use std::sync::LazyLock;

use api::cel::{self, Activation, Budget, Declarations, Environment, Program, RUNTIME_BUDGET, Type, Value as Cel};
use serde_json::{Map, Number, Value};

use crate::authn::User;

/// An expression with its text.
#[derive(Debug)]
pub(crate) struct Expression {
    text: String,
    program: Program,
}

/// Something that must hold of a token, and what is said if it does not.
#[derive(Debug)]
pub(crate) struct Rule {
    pub(crate) expression: Expression,
    pub(crate) message: String,
}

/// All expressions of one issuer.
#[derive(Debug, Default)]
pub(crate) struct Rules {
    pub(crate) username: Option<Expression>,
    pub(crate) groups: Option<Expression>,
    pub(crate) uid: Option<Expression>,
    /// By the keys of what they come to.
    pub(crate) extra: Vec<(String, Expression)>,
    pub(crate) of_claims: Vec<Rule>,
    pub(crate) of_user: Vec<Rule>,
}

static OVER_CLAIMS: LazyLock<Environment> =
    LazyLock::new(|| Environment::new(Declarations::new().variable("claims", Type::map(Type::String, Type::Any))));

static OVER_USER: LazyLock<Environment> = LazyLock::new(|| {
    const USER: &str = "kubernetes.UserInfo";
    let list = || Type::list(Type::String);
    let fields = [
        ("username", Type::String),
        ("uid", Type::String),
        ("groups", list()),
        ("extra", Type::map(Type::String, list())),
    ];
    Environment::new(Declarations::new().object(USER, fields).variable("user", Type::object(USER)))
});

impl Expression {
    /// Something of `claims`. What it comes to is known only when it does.
    pub(crate) fn mapping(text: &str) -> Result<Self, String> {
        let program = OVER_CLAIMS.compile(text).map_err(|why| why.to_string())?;
        Ok(Self { text: text.to_owned(), program })
    }

    /// Something that holds of `claims` or not.
    pub(crate) fn claims_condition(text: &str) -> Result<Self, String> {
        Self::condition(&OVER_CLAIMS, text)
    }

    /// Something that holds of `user` or not.
    pub(crate) fn user_condition(text: &str) -> Result<Self, String> {
        Self::condition(&OVER_USER, text)
    }

    fn condition(environment: &Environment, text: &str) -> Result<Self, String> {
        let program = environment.compile(text).map_err(|why| why.to_string())?;
        match *program.output_type() {
            Type::Bool => Ok(Self { text: text.to_owned(), program }),
            _ => Err("must evaluate to bool".to_owned()),
        }
    }

    /// Whether a claim is named: `claims.email`.
    pub(crate) fn names_claim(&self, claim: &str) -> bool {
        self.program.refers_to(&format!("claims.{claim}")) || self.text.contains(&format!("claims.?{claim}"))
    }

    fn evaluate<'v>(&self, variable: &str, value: &'v Value) -> Result<Cel<'v>, String> {
        let known = Activation::new().with(variable, Cel::json(value));
        let found = self.program.evaluate(&known, &mut Budget::new(RUNTIME_BUDGET));
        found.map_err(|why| format!("expression '{}' resulted in error: {why}", self.text))
    }

    fn text_of(&self, claims: &Value) -> Result<String, String> {
        match self.evaluate("claims", claims)? {
            Cel::String(text) => Ok(text.to_string()),
            _ => Err(format!("expression '{}' must return a string", self.text)),
        }
    }

    /// Texts; those that are empty say nothing.
    fn texts_of(&self, claims: &Value) -> Result<Vec<String>, String> {
        let wrong = || format!("expression '{}' must return a string or a list of strings", self.text);
        let found = match self.evaluate("claims", claims)? {
            Cel::String(text) => vec![text.to_string()],
            Cel::Null => Vec::new(),
            Cel::List(items) => {
                let items = items.to_vec().map_err(|why| why.to_string())?;
                let texts = items.iter().map(|item| match item {
                    Cel::String(text) => Ok(text.to_string()),
                    _ => Err(wrong()),
                });
                texts.collect::<Result<_, _>>()?
            }
            _ => return Err(wrong()),
        };
        Ok(found.into_iter().filter(|text| !text.is_empty()).collect())
    }
}

impl Rules {
    pub(super) fn reads_claims(&self) -> bool {
        let maps = self.username.is_some() || self.groups.is_some() || self.uid.is_some();
        maps || !self.extra.is_empty() || !self.of_claims.is_empty()
    }

    /// Puts into `user` what expressions say of him.
    pub(super) fn complete(&self, claims: &Value, user: &mut User) -> Result<(), String> {
        if let Some(expression) = &self.username {
            user.name = expression.text_of(claims)?;
            if user.name.is_empty() {
                return Err("an empty username is not allowed".to_owned());
            }
        }
        if let Some(expression) = &self.groups {
            user.groups = expression.texts_of(claims)?;
        }
        if let Some(expression) = &self.uid {
            user.uid = expression.text_of(claims)?;
        }
        for (key, expression) in &self.extra {
            let values = expression.texts_of(claims)?;
            if !values.is_empty() {
                user.extra.insert(key.clone(), values);
            }
        }
        Ok(())
    }

    pub(super) fn check_claims(&self, claims: &Value) -> Result<(), String> {
        check(&self.of_claims, "claims", claims)
    }

    pub(super) fn check_user(&self, user: &User) -> Result<(), String> {
        if self.of_user.is_empty() {
            return Ok(());
        }
        let seen = serde_json::json!({
            "username": user.name, "uid": user.uid, "groups": user.groups, "extra": user.extra,
        });
        check(&self.of_user, "user", &in_go(&seen))
    }
}

fn check(rules: &[Rule], variable: &str, value: &Value) -> Result<(), String> {
    for Rule { expression, message } in rules {
        if !matches!(expression.evaluate(variable, value)?, Cel::Bool(true)) {
            return Err(format!("validation expression '{}' failed: {message}", expression.text));
        }
    }
    Ok(())
}

/// A document as expressions of upstream's see it: Go reads all numbers as floating ones, and a name that is no
/// identifier can be written as one (`foo__dot__bar`).
pub(super) fn in_go(value: &Value) -> Value {
    match value {
        Value::Number(number) => number.as_f64().and_then(Number::from_f64).map_or(Value::Null, Value::Number),
        Value::Array(items) => items.iter().map(in_go).collect(),
        Value::Object(fields) => {
            let mut seen: Map<String, Value> =
                fields.iter().map(|(name, value)| (name.clone(), in_go(value))).collect();
            for (name, value) in fields {
                if let Some(escaped) = cel::escape(name).filter(|escaped| escaped != name) {
                    seen.entry(escaped).or_insert_with(|| in_go(value));
                }
            }
            seen.into()
        }
        other => other.clone(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn mapping(text: &str) -> Option<Expression> {
        Some(Expression::mapping(text).unwrap())
    }

    #[test]
    fn claims_are_mapped() {
        let rules = Rules {
            username: mapping("claims.sub + ':' + claims.org"),
            groups: mapping("claims.roles.split(',')"),
            uid: mapping("claims.?oid.orValue('none')"),
            extra: vec![
                ("example.org/team".to_owned(), Expression::mapping("claims.team").unwrap()),
                ("example.org/empty".to_owned(), Expression::mapping("['']").unwrap()),
            ],
            ..Rules::default()
        };
        let mut user = User::default();
        let claims = json!({"sub": "bob", "org": "x", "roles": "a,,b", "team": ["one", "two"]});
        rules.complete(&claims, &mut user).unwrap();
        assert_eq!((user.name.as_str(), user.uid.as_str()), ("bob:x", "none"));
        assert_eq!(user.groups, ["a", "b"]);
        assert_eq!(
            user.extra.into_iter().collect::<Vec<_>>(),
            [("example.org/team".to_owned(), vec!["one".to_owned(), "two".to_owned()])]
        );
    }

    #[test]
    fn what_is_no_text_names_nobody() {
        let check = |text: &str, expected: &str| {
            let rules = Rules { username: mapping(text), ..Rules::default() };
            let why = rules.complete(&json!({"sub": "bob", "age": 7}), &mut User::default()).unwrap_err();
            assert!(why.contains(expected), "{why}");
        };
        check("claims.age", "must return a string");
        check("''", "an empty username");
        check("claims.none", "no such key: none");
        let groups = Rules { groups: mapping("[1]"), ..Rules::default() };
        assert!(groups.complete(&json!({}), &mut User::default()).unwrap_err().contains("list of strings"));
    }

    #[test]
    fn rules_hold_of_claims_and_of_the_user() {
        let rule = |made: Result<Expression, String>| Rule { expression: made.unwrap(), message: "no".to_owned() };
        let rules = Rules {
            of_claims: vec![rule(Expression::claims_condition("claims.level >= 2 && claims.foo__dot__bar == 'x'"))],
            of_user: vec![rule(Expression::user_condition("!user.username.startsWith('system:')"))],
            ..Rules::default()
        };
        assert!(rules.reads_claims());
        let claims = |level: u8| in_go(&json!({"level": level, "foo.bar": "x"}));
        assert_eq!(rules.check_claims(&claims(2)), Ok(()));
        let why = "validation expression 'claims.level >= 2 && claims.foo__dot__bar == 'x'' failed: no";
        assert_eq!(rules.check_claims(&claims(1)), Err(why.to_owned()));
        assert_eq!(rules.check_user(&User::new("bob", &[])), Ok(()));
        assert!(rules.check_user(&User::new("system:admin", &[])).is_err());
        assert!(Expression::user_condition("user.username").unwrap_err().contains("must evaluate to bool"));
        assert!(Expression::user_condition("claims.a == 1").unwrap_err().contains("undeclared reference to 'claims'"));
    }

    #[test]
    fn it_is_known_which_claims_are_named() {
        let names = |text: &str| Expression::mapping(text).unwrap().names_claim("email");
        assert!(names("claims.email") && names("claims.email.lowerAscii()") && names("claims.?email.orValue('')"));
        assert!(!names("claims.email_verified") && !names("claims.sub"));
    }
}
