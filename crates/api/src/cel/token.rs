//! Text to tokens (cel-spec, "Lexis").

use super::source::Issue;

/// The most characters that an expression may have, as upstream's parser.
const MAX_CHARACTERS: usize = 100_000;

/// A lexical element and where it starts and ends, in bytes.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub(super) kind: Kind,
    pub(super) at: u32,
    pub(super) end: u32,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Kind {
    /// An identifier, or one of the words `true`, `false`, `null`, `in`.
    Word(String),
    /// An identifier in backquotes.
    Backquoted,
    /// Not negative: a minus is an operator. One more than an i64 holds, for the smallest.
    Int(u64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
    Symbol(&'static str),
    End,
}

const SYMBOLS: [&str; 25] = [
    "==", "!=", "<=", ">=", "&&", "||", "<", ">", "[", "]", "{", "}", "(", ")", ".", ",", "-", "!", "?", ":", "+", "*",
    "/", "%", "=",
];

pub(super) fn tokens(text: &str) -> Result<Vec<Token>, Issue> {
    let size = text.chars().count();
    if size > MAX_CHARACTERS {
        let message = format!("expression code point size exceeds limit: size: {size}, limit {MAX_CHARACTERS}");
        return Err(Issue::whole(message));
    }
    let mut out = Vec::new();
    let mut lexer = Lexer { text, at: 0 };
    loop {
        lexer.skip_blank();
        let at = lexer.at as u32;
        let kind = lexer.next()?;
        let end = kind == Kind::End;
        out.push(Token { kind, at, end: lexer.at as u32 });
        if end {
            return Ok(out);
        }
    }
}

/// What the grammar does not allow, here.
pub(super) fn syntax(at: usize, what: impl AsRef<str>) -> Issue {
    Issue::new(at as u32, format!("Syntax error: {}", what.as_ref()))
}

struct Lexer<'t> {
    text: &'t str,
    at: usize,
}

impl<'t> Lexer<'t> {
    fn rest(&self) -> &'t str {
        &self.text[self.at..]
    }

    fn skip_blank(&mut self) {
        loop {
            let rest = self.rest();
            let trimmed = rest.trim_start_matches(['\t', ' ', '\r', '\n', '\u{c}']);
            self.at += rest.len() - trimmed.len();
            if !trimmed.starts_with("//") {
                return;
            }
            self.at += trimmed.find('\n').unwrap_or(trimmed.len());
        }
    }

    fn next(&mut self) -> Result<Kind, Issue> {
        let rest = self.rest();
        let Some(first) = rest.chars().next() else {
            return Ok(Kind::End);
        };
        if let Some(literal) = self.text_literal()? {
            return Ok(literal);
        }
        let digit_follows = rest[first.len_utf8()..].starts_with(|c: char| c.is_ascii_digit());
        if first.is_ascii_digit() || (first == '.' && digit_follows) {
            return self.number();
        }
        if first.is_ascii_alphabetic() || first == '_' {
            let end = rest.find(|c: char| !(c.is_ascii_alphanumeric() || c == '_')).unwrap_or(rest.len());
            self.at += end;
            return Ok(Kind::Word(rest[..end].to_owned()));
        }
        if first == '`' {
            let name = rest[1..].split_once('`').map(|(name, _)| name);
            let fits = |name: &&str| {
                !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || "_.-/ ".contains(c))
            };
            let name = name.filter(fits).ok_or_else(|| syntax(self.at, "token recognition error at: '`'"))?;
            self.at += name.len() + 2;
            return Ok(Kind::Backquoted);
        }
        match SYMBOLS.iter().find(|symbol| rest.starts_with(**symbol)) {
            Some(symbol) => {
                self.at += symbol.len();
                Ok(Kind::Symbol(symbol))
            }
            None => Err(syntax(self.at, format!("token recognition error at: '{first}'"))),
        }
    }

    fn number(&mut self) -> Result<Kind, Issue> {
        let (start, rest) = (self.at, self.rest());
        let wrong = |what: &str| Issue::new(start as u32, format!("invalid {what} literal"));
        if let Some(hex) = rest.strip_prefix("0x").filter(|hex| hex.starts_with(|c: char| c.is_ascii_hexdigit())) {
            let digits = &hex[..hex.find(|c: char| !c.is_ascii_hexdigit()).unwrap_or(hex.len())];
            self.at += 2 + digits.len();
            let value = u64::from_str_radix(digits, 16).map_err(|_| wrong("int"))?;
            return Ok(self.unsigned(value));
        }
        let digits = |text: &str| text.len() - text.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let mut end = digits(rest);
        let mut is_double = false;
        if rest[end..].starts_with('.') && digits(&rest[end + 1..]) > 0 {
            end += 1 + digits(&rest[end + 1..]);
            is_double = true;
        }
        if rest[end..].starts_with(['e', 'E']) {
            let sign = usize::from(rest[end + 1..].starts_with(['+', '-']));
            let exponent = digits(&rest[end + 1 + sign..]);
            if exponent > 0 {
                end += 1 + sign + exponent;
                is_double = true;
            }
        }
        let text = &rest[..end];
        self.at += end;
        if is_double {
            let value = text.parse::<f64>().ok().filter(|value| value.is_finite());
            return value.map(Kind::Double).ok_or_else(|| wrong("double"));
        }
        let value = text.parse().map_err(|_| wrong("int"))?;
        Ok(self.unsigned(value))
    }

    fn unsigned(&mut self, value: u64) -> Kind {
        if self.rest().starts_with(['u', 'U']) {
            self.at += 1;
            return Kind::Uint(value);
        }
        Kind::Int(value)
    }

    /// Text or bytes, if one starts here: a prefix of `r` and `b` in any order, and quotes, one or three.
    fn text_literal(&mut self) -> Result<Option<Kind>, Issue> {
        let (start, rest) = (self.at, self.rest());
        let quote = rest.bytes().take(3).position(|byte| matches!(byte, b'"' | b'\''));
        let Some(prefix) = quote.map(|at| rest[..at].to_ascii_lowercase()) else {
            return Ok(None);
        };
        let (raw, bytes) = match prefix.as_str() {
            "" => (false, false),
            "r" => (true, false),
            "b" => (false, true),
            "br" => (true, true),
            _ => return Ok(None),
        };
        let body = &rest[prefix.len()..];
        let quote = &body[..if body.starts_with("\"\"\"") || body.starts_with("'''") { 3 } else { 1 }];
        let unfinished =
            || syntax(start, format!("token recognition error at: '{}'", rest.lines().next().unwrap_or_default()));
        let body = &body[quote.len()..];
        let mut out = Vec::new();
        let mut rest = body;
        while !rest.starts_with(quote) {
            let c = rest.chars().next().ok_or_else(unfinished)?;
            if quote.len() == 1 && matches!(c, '\n' | '\r') {
                return Err(unfinished());
            }
            rest = &rest[c.len_utf8()..];
            if c == '\\' && !raw {
                let escape = escape(rest, bytes).ok_or_else(|| syntax(start, "unable to unescape string"))?;
                out.extend(escape.0);
                rest = &rest[escape.1..];
            } else {
                out.extend(c.encode_utf8(&mut [0; 4]).bytes());
            }
        }
        self.at = self.text.len() - rest.len() + quote.len();
        if bytes {
            return Ok(Some(Kind::Bytes(out)));
        }
        String::from_utf8(out).map(|text| Some(Kind::String(text))).map_err(|_| unfinished())
    }
}

/// What an escape stands for, and its length behind the backslash. In bytes, numbers are bytes; in text, characters.
fn escape(text: &str, bytes: bool) -> Option<(Vec<u8>, usize)> {
    let first = text.chars().next()?;
    let simple = match first {
        'a' => Some(7),
        'b' => Some(8),
        'f' => Some(12),
        'n' => Some(10),
        'r' => Some(13),
        't' => Some(9),
        'v' => Some(11),
        '"' | '\'' | '\\' | '?' | '`' => Some(first as u8),
        _ => None,
    };
    if let Some(byte) = simple {
        return Some((vec![byte], 1));
    }
    let (digits, radix, skip) = match first {
        'x' | 'X' => (2, 16, 1),
        'u' if !bytes => (4, 16, 1),
        'U' if !bytes => (8, 16, 1),
        '0'..='3' => (3, 8, 0),
        _ => return None,
    };
    let number = text.get(skip..skip + digits).filter(|text| text.chars().all(|c| c.is_digit(radix)))?;
    let value = u32::from_str_radix(number, radix).ok()?;
    let encoded = match bytes {
        true => vec![u8::try_from(value).ok()?],
        false => char::from_u32(value)?.to_string().into_bytes(),
    };
    Some((encoded, skip + digits))
}
