//! The JSONPath of `kubectl` and of custom resources' columns and fields (`k8s.io/client-go/util/jsonpath`), as far as
//! it finds values: fields, indices, slices, unions, wildcards, recursive descent and filters. A path that leads
//! nowhere finds nothing.

use serde_json::Value;

/// A path, read.
#[derive(Clone, Debug, PartialEq)]
pub struct JsonPath {
    steps: Vec<Step>,
}

#[derive(Clone, Debug, PartialEq)]
enum Step {
    Field(String),
    /// `[start:end:step]`; a single index is a slice of one.
    Slice {
        start: Option<i64>,
        end: Option<i64>,
        step: i64,
        single: bool,
    },
    Wildcard,
    /// Every value below, at any depth, and the value itself.
    Descend,
    Union(Vec<JsonPath>),
    Filter(Box<Filter>),
    /// A word of the path itself: the right side of a comparison.
    Literal(Value),
}

#[derive(Clone, Debug, PartialEq)]
struct Filter {
    left: JsonPath,
    /// None: the left side is there.
    compared: Option<(Comparison, JsonPath)>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

/// Why a text is no path.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum JsonPathError {
    #[error("unrecognized character in action: {0:?}")]
    Character(char),
    #[error("unterminated {0}")]
    Unterminated(&'static str),
    #[error("invalid array index {0}")]
    Index(String),
    #[error("cannot parse number {0}")]
    Number(String),
    #[error("unrecognized identifier {0}")]
    Identifier(String),
    #[error("invalid multiple recursive descent")]
    Descent,
    #[error("unrecognized filter operator {0}")]
    Operator(String),
}

impl JsonPath {
    /// Reads a path without its braces: `.status.conditions[?(@.type=="Ready")].status`.
    pub fn parse(text: &str) -> Result<Self, JsonPathError> {
        let mut reader = Reader { text, at: 0 };
        let mut steps = Vec::new();
        while let Some(c) = reader.peek() {
            reader.step(c, &mut steps)?;
        }
        Ok(Self { steps })
    }

    /// The values that the path leads to.
    pub fn find<'v>(&'v self, root: &'v Value) -> Vec<&'v Value> {
        self.steps.iter().fold(vec![root], |found, step| found.into_iter().flat_map(|at| step.follow(at)).collect())
    }
}

struct Reader<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Reader<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn peek(&self) -> Option<char> {
        self.rest().chars().next()
    }

    fn skip(&mut self, bytes: usize) {
        self.at += bytes;
    }

    fn step(&mut self, c: char, steps: &mut Vec<Step>) -> Result<(), JsonPathError> {
        match c {
            _ if self.rest().starts_with("[?(") => steps.push(self.filter()?),
            _ if self.rest().starts_with("..") => {
                if steps.last() == Some(&Step::Descend) {
                    return Err(JsonPathError::Descent);
                }
                self.skip(2);
                steps.push(Step::Descend);
                if self.peek().is_some_and(|c| c == '_' || c.is_alphanumeric()) {
                    steps.push(self.field());
                }
            }
            ' ' | '@' | '$' => self.skip(1),
            '[' => self.array(steps)?,
            '.' => {
                self.skip(1);
                steps.push(self.field());
            }
            '"' | '\'' => steps.push(self.quoted(c)?),
            '+' | '-' | '0'..='9' => steps.push(self.number()?),
            '_' | 'a'..='z' | 'A'..='Z' => steps.push(self.word()?),
            c => return Err(JsonPathError::Character(c)),
        }
        Ok(())
    }

    /// Up to a sign that no backslash escapes.
    fn field(&mut self) -> Step {
        let mut name = String::new();
        let mut letters = self.rest().char_indices();
        let mut end = self.rest().len();
        while let Some((at, c)) = letters.next() {
            match c {
                '\\' => name.extend(letters.next().map(|(_, c)| c)),
                ' ' | '\t' | '\r' | '\n' | '.' | ',' | '[' | ']' | '$' | '@' | '{' | '}' => {
                    end = at;
                    break;
                }
                c => name.push(c),
            }
        }
        self.skip(end);
        if name == "*" { Step::Wildcard } else { Step::Field(name) }
    }

    fn number(&mut self) -> Result<Step, JsonPathError> {
        let sign = usize::from(self.rest().starts_with(['+', '-']));
        let digits = self.rest()[sign..].find(|c: char| c != '.' && !c.is_ascii_digit());
        let end = digits.map_or(self.rest().len(), |at| at + sign);
        let text = &self.rest()[..end];
        let plain = text.trim_start_matches('+');
        let whole = plain.parse::<i64>().map(Value::from);
        let value = whole.or_else(|_| plain.parse::<f64>().map(Value::from));
        let value = value.map_err(|_| JsonPathError::Number(text.to_owned()))?;
        self.skip(end);
        Ok(Step::Literal(value))
    }

    fn word(&mut self) -> Result<Step, JsonPathError> {
        match self.field() {
            Step::Field(word) if word == "true" || word == "false" => Ok(Step::Literal(Value::Bool(word == "true"))),
            Step::Field(word) => Err(JsonPathError::Identifier(word)),
            other => Ok(other),
        }
    }

    fn quoted(&mut self, quote: char) -> Result<Step, JsonPathError> {
        let mut text = String::new();
        let mut letters = self.rest().char_indices().skip(1);
        while let Some((at, c)) = letters.next() {
            match c {
                '\\' => text.extend(letters.next().map(|(_, c)| c)),
                c if c == quote => {
                    self.skip(at + 1);
                    return Ok(Step::Literal(Value::String(text)));
                }
                c => text.push(c),
            }
        }
        Err(JsonPathError::Unterminated("quoted string"))
    }

    fn array(&mut self, steps: &mut Vec<Step>) -> Result<(), JsonPathError> {
        let end = self.rest().find(']').ok_or(JsonPathError::Unterminated("array"))?;
        let inner = self.rest()[1..end].trim();
        self.skip(end + 1);
        if inner.contains(',') {
            let paths = inner.split(',').map(|part| JsonPath::parse(&format!("[{}]", part.trim())));
            steps.push(Step::Union(paths.collect::<Result<_, _>>()?));
            return Ok(());
        }
        if let Some(key) = inner.strip_prefix('\'').and_then(|inner| inner.strip_suffix('\'')) {
            // A key in quotes is read as a field: its dots are escaped, or mean steps.
            steps.extend(JsonPath::parse(&format!(".{key}"))?.steps);
            return Ok(());
        }
        steps.push(slice(inner)?);
        Ok(())
    }

    fn filter(&mut self) -> Result<Step, JsonPathError> {
        self.skip("[?(".len());
        let end = self.filter_end().ok_or(JsonPathError::Unterminated("filter"))?;
        let inner = &self.rest()[..end];
        if !self.rest()[end + 1..].starts_with(']') {
            return Err(JsonPathError::Unterminated("filter"));
        }
        self.skip(end + 2);
        let signs = ['=', '!', '<', '>'];
        let filter = match inner.find(signs).filter(|at| *at > 0) {
            None => Filter { left: JsonPath::parse(inner)?, compared: None },
            Some(at) => {
                let right = at + inner[at..].find(|c| !signs.contains(&c)).unwrap_or(inner.len() - at);
                let comparison = Comparison::parse(&inner[at..right])?;
                Filter {
                    left: JsonPath::parse(&inner[..at])?,
                    compared: Some((comparison, JsonPath::parse(&inner[right..])?)),
                }
            }
        };
        Ok(Step::Filter(Box::new(filter)))
    }

    /// The parenthesis that closes a filter: the first outside quotes.
    fn filter_end(&self) -> Option<usize> {
        let mut quote = None;
        let mut escaped = false;
        for (at, c) in self.rest().char_indices() {
            match c {
                _ if escaped => escaped = false,
                '\\' => escaped = true,
                '"' | '\'' if quote.is_none() => quote = Some(c),
                c if quote == Some(c) => quote = None,
                ')' if quote.is_none() => return Some(at),
                _ => {}
            }
        }
        None
    }
}

fn slice(text: &str) -> Result<Step, JsonPathError> {
    let wrong = || JsonPathError::Index(text.to_owned());
    if text == "*" {
        return Ok(Step::Slice { start: None, end: None, step: 1, single: false });
    }
    let parts: Vec<&str> = text.split(':').collect();
    let bound = |at: usize| match parts.get(at).map(|part| part.trim()) {
        None | Some("") => Ok(None),
        Some(part) => part.parse::<i64>().map(Some).map_err(|_| wrong()),
    };
    match parts.len() {
        1 => Ok(Step::Slice { start: Some(bound(0)?.ok_or_else(wrong)?), end: None, step: 1, single: true }),
        2 | 3 => {
            let step = bound(2)?.unwrap_or(1);
            if step < 1 {
                return Err(wrong());
            }
            Ok(Step::Slice { start: bound(0)?, end: bound(1)?, step, single: false })
        }
        _ => Err(wrong()),
    }
}

impl Comparison {
    fn parse(sign: &str) -> Result<Self, JsonPathError> {
        match sign {
            "==" => Ok(Self::Equal),
            "!=" => Ok(Self::NotEqual),
            "<" => Ok(Self::Less),
            "<=" => Ok(Self::LessOrEqual),
            ">" => Ok(Self::Greater),
            ">=" => Ok(Self::GreaterOrEqual),
            other => Err(JsonPathError::Operator(other.to_owned())),
        }
    }

    fn holds(self, left: &Value, right: &Value) -> bool {
        use std::cmp::Ordering::{Greater, Less};
        let order = match (left, right) {
            (Value::Number(a), Value::Number(b)) => a.as_f64().partial_cmp(&b.as_f64()),
            (Value::String(a), Value::String(b)) => Some(a.cmp(b)),
            _ => None,
        };
        match self {
            Self::Equal => left == right || order.is_some_and(|order| order.is_eq()),
            Self::NotEqual => !(left == right || order.is_some_and(|order| order.is_eq())),
            Self::Less => order == Some(Less),
            Self::LessOrEqual => order.is_some_and(|order| order != Greater),
            Self::Greater => order == Some(Greater),
            Self::GreaterOrEqual => order.is_some_and(|order| order != Less),
        }
    }
}

impl Step {
    fn follow<'v>(&'v self, value: &'v Value) -> Vec<&'v Value> {
        match self {
            Self::Field(name) if name.is_empty() => vec![value],
            Self::Field(name) => value.get(name).into_iter().collect(),
            Self::Wildcard => children(value),
            Self::Descend => {
                let mut found = vec![value];
                let mut next = 0;
                while let Some(at) = found.get(next) {
                    let below = children(at);
                    found.extend(below);
                    next += 1;
                }
                found
            }
            Self::Union(paths) => paths.iter().flat_map(|path| path.find(value)).collect(),
            Self::Filter(filter) => children(value).into_iter().filter(|item| filter.lets_through(item)).collect(),
            Self::Literal(literal) => vec![literal],
            Self::Slice { start, end, step, single } => {
                let Value::Array(items) = value else { return Vec::new() };
                let length = items.len() as i64;
                let from_end = |at: i64| if at < 0 { at + length } else { at };
                let first = from_end(start.unwrap_or(0));
                let last = if *single { first + 1 } else { from_end(end.unwrap_or(length)) };
                let reached = (first.max(0)..last.min(length)).step_by(usize::try_from(*step).unwrap_or(1));
                reached.filter_map(|at| items.get(usize::try_from(at).ok()?)).collect()
            }
        }
    }
}

impl Filter {
    fn lets_through(&self, item: &Value) -> bool {
        let left = self.left.find(item);
        match &self.compared {
            None => !left.is_empty(),
            Some((comparison, right)) => match (left.first(), right.find(item).first()) {
                (Some(left), Some(right)) => comparison.holds(left, right),
                _ => false,
            },
        }
    }
}

fn children(value: &Value) -> Vec<&Value> {
    match value {
        Value::Array(items) => items.iter().collect(),
        Value::Object(fields) => fields.values().collect(),
        _ => Vec::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(path: &str, expected: Value) {
        let document = json!({
            "spec": {"replicas": 3, "ports": [{"name": "a", "port": 80}, {"name": "b", "port": 443}], "on": true},
            "metadata": {"labels": {"app.kubernetes.io/name": "web"}},
            "status": {"conditions": [{"type": "Ready", "status": "True"}, {"type": "Synced", "status": "False"}]},
        });
        let found = JsonPath::parse(path).unwrap();
        assert_eq!(json!(found.find(&document)), expected, "{path}");
    }

    #[test]
    fn paths_lead_where_upstreams_lead() {
        check(".spec.replicas", json!([3]));
        check("$.spec.on", json!([true]));
        check(".spec.missing.deeper", json!([]));
        check(".spec.ports[0].port", json!([80]));
        check(".spec.ports[-1].name", json!(["b"]));
        check(".spec.ports[*].name", json!(["a", "b"]));
        check(".spec.ports[0:1].name", json!(["a"]));
        check(".spec.ports[5].name", json!([]));
        check(".spec.ports[0,1].port", json!([80, 443]));
        check(r".metadata.labels.app\.kubernetes\.io/name", json!(["web"]));
        check(r".metadata.labels['app\.kubernetes\.io/name']", json!(["web"]));
        check(r#".status.conditions[?(@.type=="Ready")].status"#, json!(["True"]));
        check(".status.conditions[?(@.type=='Synced')].status", json!(["False"]));
        check(".spec.ports[?(@.port>100)].name", json!(["b"]));
        check(".spec.ports[?(@.name)].port", json!([80, 443]));
        check("..port", json!([80, 443]));
    }

    #[test]
    fn what_is_no_path_is_refused() {
        for text in ["spec.replicas", ".a[", ".a[x]", ".a[?(@.b==1]", ".a....b", "{", ".a[?(@.b=~1)]"] {
            assert!(JsonPath::parse(text).is_err(), "{text}");
        }
    }
}
