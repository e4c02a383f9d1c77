//! What is wrong with a text that should be JSON, in the words of Go's decoder (`encoding/json`), which clients see.

/// Deeper nesting is refused, here and by the reader of documents.
pub(super) const MAX_DEPTH: usize = 10_000;

/// The first offence against JSON's grammar; none in a document that Go reads.
pub fn offence(text: &[u8]) -> Option<String> {
    let mut scanner = Scanner { text, at: 0 };
    match scanner.document() {
        Ok(()) => None,
        Err(Offence::End) => Some("unexpected end of JSON input".to_owned()),
        Err(Offence::Depth(byte)) => Some(format!("invalid character {} exceeded max depth", quoted(byte))),
        Err(Offence::Byte(byte, context)) => Some(format!("invalid character {} {context}", quoted(byte))),
    }
}

enum Offence {
    End,
    Depth(u8),
    /// A byte, and where it stood.
    Byte(u8, &'static str),
}

struct Scanner<'t> {
    text: &'t [u8],
    at: usize,
}

const VALUE: &str = "looking for beginning of value";
const KEY: &str = "looking for beginning of object key string";

impl Scanner<'_> {
    fn document(&mut self) -> Result<(), Offence> {
        // What is open: true for an object.
        let mut open: Vec<bool> = Vec::new();
        loop {
            self.value_or_opening(&mut open)?;
            // A value has ended: what it stands in goes on, or ends with it.
            loop {
                let Some(in_object) = open.last() else {
                    return match self.skip_space() {
                        None => Ok(()),
                        Some(byte) => Err(Offence::Byte(byte, "after top-level value")),
                    };
                };
                let (end, context) =
                    if *in_object { (b'}', "after object key:value pair") } else { (b']', "after array element") };
                match self.next_solid()? {
                    b',' if *in_object => {
                        self.key()?;
                        break;
                    }
                    b',' => break,
                    byte if byte == end => {
                        open.pop();
                    }
                    byte => return Err(Offence::Byte(byte, context)),
                }
            }
        }
    }

    /// Reads up to the end of a value that holds nothing: a scalar, or the innermost of what opens here.
    fn value_or_opening(&mut self, open: &mut Vec<bool>) -> Result<(), Offence> {
        loop {
            match self.next_solid()? {
                byte @ (b'{' | b'[') => {
                    if open.len() >= MAX_DEPTH {
                        return Err(Offence::Depth(byte));
                    }
                    let (object, end) = (byte == b'{', byte + 2);
                    if self.skip_space() == Some(end) {
                        self.at += 1;
                        return Ok(());
                    }
                    open.push(object);
                    if object {
                        self.key()?;
                    }
                }
                byte => return self.scalar(byte),
            }
        }
    }

    fn key(&mut self) -> Result<(), Offence> {
        match self.next_solid()? {
            b'"' => self.string()?,
            byte => return Err(Offence::Byte(byte, KEY)),
        }
        match self.next_solid()? {
            b':' => Ok(()),
            byte => Err(Offence::Byte(byte, "after object key")),
        }
    }

    fn scalar(&mut self, first: u8) -> Result<(), Offence> {
        match first {
            b'"' => self.string(),
            b'-' => match self.next()? {
                digit @ b'0'..=b'9' => self.number(digit),
                byte => Err(Offence::Byte(byte, "in numeric literal")),
            },
            b'0'..=b'9' => self.number(first),
            b't' => self.word(&[
                (b'r', "in literal true (expecting 'r')"),
                (b'u', "in literal true (expecting 'u')"),
                (b'e', "in literal true (expecting 'e')"),
            ]),
            b'f' => self.word(&[
                (b'a', "in literal false (expecting 'a')"),
                (b'l', "in literal false (expecting 'l')"),
                (b's', "in literal false (expecting 's')"),
                (b'e', "in literal false (expecting 'e')"),
            ]),
            b'n' => self.word(&[
                (b'u', "in literal null (expecting 'u')"),
                (b'l', "in literal null (expecting 'l')"),
                (b'l', "in literal null (expecting 'l')"),
            ]),
            byte => Err(Offence::Byte(byte, VALUE)),
        }
    }

    fn word(&mut self, rest: &[(u8, &'static str)]) -> Result<(), Offence> {
        for (expected, context) in rest {
            match self.next()? {
                byte if byte == *expected => {}
                byte => return Err(Offence::Byte(byte, context)),
            }
        }
        Ok(())
    }

    fn number(&mut self, first: u8) -> Result<(), Offence> {
        if first != b'0' {
            self.digits();
        }
        if self.peek() == Some(b'.') {
            self.at += 1;
            self.digit("after decimal point in numeric literal")?;
        }
        if matches!(self.peek(), Some(b'e' | b'E')) {
            self.at += 1;
            if matches!(self.peek(), Some(b'+' | b'-')) {
                self.at += 1;
            }
            self.digit("in exponent of numeric literal")?;
        }
        Ok(())
    }

    /// At least one digit.
    fn digit(&mut self, context: &'static str) -> Result<(), Offence> {
        match self.next()? {
            b'0'..=b'9' => {
                self.digits();
                Ok(())
            }
            byte => Err(Offence::Byte(byte, context)),
        }
    }

    fn digits(&mut self) {
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
    }

    /// The rest of a string whose quote has been read.
    fn string(&mut self) -> Result<(), Offence> {
        loop {
            match self.next()? {
                b'"' => return Ok(()),
                b'\\' => match self.next()? {
                    b'b' | b'f' | b'n' | b'r' | b't' | b'\\' | b'/' | b'"' => {}
                    b'u' => {
                        for _ in 0..4 {
                            match self.next()? {
                                byte if byte.is_ascii_hexdigit() => {}
                                byte => return Err(Offence::Byte(byte, "in \\u hexadecimal character escape")),
                            }
                        }
                    }
                    byte => return Err(Offence::Byte(byte, "in string escape code")),
                },
                byte if byte < b' ' => return Err(Offence::Byte(byte, "in string literal")),
                _ => {}
            }
        }
    }

    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn next(&mut self) -> Result<u8, Offence> {
        let byte = self.peek().ok_or(Offence::End)?;
        self.at += 1;
        Ok(byte)
    }

    /// The byte behind white space, not yet read.
    fn skip_space(&mut self) -> Option<u8> {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
        self.peek()
    }

    fn next_solid(&mut self) -> Result<u8, Offence> {
        self.skip_space();
        self.next()
    }
}

/// A byte as Go quotes it: as the character of that number.
fn quoted(byte: u8) -> String {
    match byte {
        b'\'' => r"'\''".to_owned(),
        b'"' => "'\"'".to_owned(),
        b'\\' => r"'\\'".to_owned(),
        b' '..=b'~' | 0xa1..=0xac | 0xae..=0xff => format!("'{}'", char::from(byte)),
        0x07 => r"'\a'".to_owned(),
        0x08 => r"'\b'".to_owned(),
        0x0c => r"'\f'".to_owned(),
        b'\n' => r"'\n'".to_owned(),
        b'\r' => r"'\r'".to_owned(),
        b'\t' => r"'\t'".to_owned(),
        0x0b => r"'\v'".to_owned(),
        0x80..=0xff => format!(r"'\u{byte:04x}'"),
        _ => format!(r"'\x{byte:02x}'"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(text: &str, expected: &str) {
        assert_eq!(offence(text.as_bytes()).unwrap_or_default(), expected, "{text}");
    }

    #[test]
    fn offences_are_named_as_go_names_them() {
        check("", "unexpected end of JSON input");
        check("{\"a\":", "unexpected end of JSON input");
        check("{nonsense", "invalid character 'n' looking for beginning of object key string");
        check("{\"a\" 1}", "invalid character '1' after object key");
        check("{\"a\":1 \"b\"}", "invalid character '\"' after object key:value pair");
        check("{\"a\":1,}", "invalid character '}' looking for beginning of object key string");
        check("[1,]", "invalid character ']' looking for beginning of value");
        check("[1 2]", "invalid character '2' after array element");
        check("{} x", "invalid character 'x' after top-level value");
        check("trie", "invalid character 'i' in literal true (expecting 'u')");
        check("-x", "invalid character 'x' in numeric literal");
        check("1.x", "invalid character 'x' after decimal point in numeric literal");
        check("1ex", "invalid character 'x' in exponent of numeric literal");
        check("\"\\x\"", "invalid character 'x' in string escape code");
        check("\"\\u00g0\"", "invalid character 'g' in \\u hexadecimal character escape");
        check("\"a\nb\"", "invalid character '\\n' in string literal");
        check("'", "invalid character '\\'' looking for beginning of value");
        check("01", "invalid character '1' after top-level value");
    }

    #[test]
    fn documents_offend_nobody() {
        check("{\"a\": [1, -0.5e+3, \"\\u00e9\\n\", true, false, null, {}, []]} ", "");
        check("[]", "");
        check(&format!("{}{}", "[".repeat(10_001), "]".repeat(10_001)), "invalid character '[' exceeded max depth");
    }
}
