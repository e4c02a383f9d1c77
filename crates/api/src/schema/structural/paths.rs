//! Paths of fields as definitions write them, in rules and selectable fields: `.spec.env['A b'].value`
//! (`ValidFieldPath` of `k8s.io/apiextensions-apiserver/pkg/apiserver/schema/cel`).

use serde_json::Value;

/// Where a path leads.
#[derive(Debug)]
pub struct Place<'s> {
    /// The schema of what is there.
    pub schema: &'s Value,
    /// The path as errors write it: `spec.env[A b].value`.
    pub text: String,
    /// Its first step.
    pub first: String,
}

/// Follows a path from a schema. `brackets` is whether steps may be written in brackets.
pub fn follow<'s>(schema: &'s Value, path: &str, brackets: bool) -> Result<Place<'s>, String> {
    let mut tokens = Tokens { rest: path };
    let end = || "unexpected end of JSON path".to_owned();
    let mut place = Place { schema, text: String::new(), first: String::new() };
    while let Some(token) = tokens.next() {
        let step = match token {
            "[" if !brackets => return Err("array notation is not allowed".to_owned()),
            "[" => {
                let token = tokens.next().ok_or_else(end)?;
                let quoted = token.strip_prefix('\'').and_then(|token| token.strip_suffix('\''));
                unescape(quoted.ok_or_else(|| format!("expected single quoted string but got {token}"))?)?
            }
            "." => tokens.next().ok_or_else(end)?.to_owned(),
            other => return Err(format!("expected [ or . but got: {other}")),
        };
        place.enter(&step)?;
        if token == "[" {
            match tokens.next().ok_or_else(end)? {
                "]" => {}
                other => return Err(format!("expected ] but got {other}")),
            }
        }
    }
    Ok(place)
}

impl Place<'_> {
    fn enter(&mut self, step: &str) -> Result<(), String> {
        let missing = || "does not refer to a valid field".to_owned();
        if self.text.is_empty() {
            step.clone_into(&mut self.first);
        }
        if let Some(fields) = self.schema["properties"].as_object() {
            self.schema = fields.get(step).ok_or_else(missing)?;
            if !self.text.is_empty() {
                self.text.push('.');
            }
            self.text.push_str(step);
        } else {
            self.schema = self.schema.get("additionalProperties").filter(|it| it.is_object()).ok_or_else(missing)?;
            self.text.push_str(&format!("[{step}]"));
        }
        Ok(())
    }
}

/// Dots and brackets, and what is between them; a quoted text is one token.
struct Tokens<'p> {
    rest: &'p str,
}

impl<'p> Iterator for Tokens<'p> {
    type Item = &'p str;

    fn next(&mut self) -> Option<&'p str> {
        let first = self.rest.chars().next()?;
        let length = match first {
            '.' | '[' | ']' => 1,
            '\'' => quoted_length(self.rest),
            _ => self.rest.find(['.', '[', ']']).unwrap_or(self.rest.len()),
        };
        let (token, rest) = self.rest.split_at(length);
        self.rest = rest;
        Some(token)
    }
}

/// Up to the quote that ends a text, or to the end of everything.
fn quoted_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let end = (1..bytes.len()).find(|at| bytes[*at] == b'\'' && bytes[at - 1] != b'\\');
    end.map_or(text.len(), |end| end + 1)
}

fn unescape(text: &str) -> Result<String, String> {
    let mut out = String::with_capacity(text.len());
    let mut rest = text.chars();
    while let Some(c) = rest.next() {
        if c != '\\' {
            out.push(c);
            continue;
        }
        out.push(match rest.next() {
            Some('a') => '\u{7}',
            Some('b') => '\u{8}',
            Some('f') => '\u{c}',
            Some('n') => '\n',
            Some('r') => '\r',
            Some('t') => '\t',
            Some('v') => '\u{b}',
            Some(plain @ ('\'' | '\\')) => plain,
            Some(other) => return Err(format!("invalid string literal: invalid escape char \\{other}")),
            None => '\\',
        });
    }
    Ok(out)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[track_caller]
    fn check(path: &str, expected: Result<(&str, &str), &str>) {
        let schema = json!({"properties": {
            "spec": {"properties": {
                "a b": {"type": "string"}, "it's": {"type": "integer"},
                "env": {"additionalProperties": {"properties": {"value": {"type": "boolean"}}}},
            }},
        }});
        let found = follow(&schema, path, true);
        let found = found.as_ref().map(|it| (it.text.as_str(), it.schema["type"].as_str().unwrap_or_default()));
        assert_eq!(found.map_err(String::as_str), expected, "{path}");
    }

    #[test]
    fn paths_lead_to_schemas() {
        check(".spec", Ok(("spec", "")));
        check(".spec['a b']", Ok(("spec.a b", "string")));
        check(r"['spec']['it\'s']", Ok(("spec.it's", "integer")));
        check(".spec.env['x.y'].value", Ok(("spec.env[x.y].value", "boolean")));
        check(".spec.env.x.value", Ok(("spec.env[x].value", "boolean")));
        check(".spec.nothing", Err("does not refer to a valid field"));
        check(".spec['a b'].c", Err("does not refer to a valid field"));
        check("spec", Err("expected [ or . but got: spec"));
        check(".spec.", Err("unexpected end of JSON path"));
        check(".spec..env", Err("does not refer to a valid field"));
        check(".spec[0]", Err("expected single quoted string but got 0"));
        check(".spec['env'", Err("unexpected end of JSON path"));
        check(".spec['env'.x", Err("expected ] but got ."));
        check(r".spec['\q']", Err(r"invalid string literal: invalid escape char \q"));
    }
}
