//! Go's regular expressions in the words of Rust's: the same engine in kind, but for a few signs.

use regex::{Regex, RegexBuilder};

/// Compiles a pattern as Go reads it: `\d`, `\w`, `\s` and `\b` know ASCII only, and within brackets nothing nests.
pub(super) fn compile(pattern: &str) -> Result<Regex, String> {
    let built = RegexBuilder::new(&translate(pattern)).size_limit(1 << 20).build();
    built.map_err(|error| error.to_string().lines().last().unwrap_or_default().trim().to_owned())
}

fn translate(pattern: &str) -> String {
    let mut out = String::with_capacity(pattern.len() + 16);
    let mut letters = pattern.chars().peekable();
    let mut in_class = false;
    while let Some(c) = letters.next() {
        match c {
            '\\' => translate_escape(&mut out, letters.next(), in_class),
            // `[:alpha:]` means the same in both; any other bracket within brackets is a letter to Go.
            '[' if in_class && letters.peek() != Some(&':') => out.push_str("\\["),
            '[' if !in_class => {
                in_class = true;
                out.push(c);
                if letters.peek() == Some(&'^') {
                    out.extend(letters.next());
                }
                // A bracket that closes nothing stands for itself.
                if letters.peek() == Some(&']') {
                    letters.next();
                    out.push_str("\\]");
                }
            }
            '[' => {
                // Copies a named class up to its own end.
                out.push(c);
                for c in letters.by_ref() {
                    out.push(c);
                    if c == ']' {
                        break;
                    }
                }
            }
            ']' if in_class => {
                in_class = false;
                out.push(c);
            }
            // Rust has set operations where Go has two letters.
            '&' | '~' if in_class => {
                out.push('\\');
                out.push(c);
            }
            _ => out.push(c),
        }
    }
    out
}

fn translate_escape(out: &mut String, letter: Option<char>, in_class: bool) {
    match letter {
        Some('d') => out.push_str("[0-9]"),
        Some('D') => out.push_str("[^0-9]"),
        Some('w') => out.push_str("[0-9A-Za-z_]"),
        Some('W') => out.push_str("[^0-9A-Za-z_]"),
        Some('s') => out.push_str(r"[\t\n\f\r ]"),
        Some('S') => out.push_str(r"[^\t\n\f\r ]"),
        Some(c @ ('b' | 'B')) if !in_class => {
            out.push_str(if c == 'b' { r"(?-u:\b)" } else { r"(?-u:\B)" });
        }
        Some(c) => {
            out.push('\\');
            out.push(c);
        }
        None => out.push('\\'),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(pattern: &str, matching: &[&str], others: &[&str]) {
        let regex = compile(pattern).unwrap();
        assert!(matching.iter().all(|text| regex.is_match(text)), "{pattern}");
        assert!(!others.iter().any(|text| regex.is_match(text)), "{pattern}");
    }

    #[test]
    fn patterns_mean_what_they_mean_to_go() {
        check(r"^\d+$", &["12"], &["\u{661}", "a"]);
        check(r"^[\w.-]+$", &["a_b.c-d"], &["\u{e9}", "a b"]);
        check(r"^[^\s]+$", &["ab"], &["a b"]);
        check(r"^[[a]+$", &["[a["], &["]"]);
        check(r"^[]a]$", &["]", "a"], &["b"]);
        check(r"^[[:alpha:]]+$", &["abc"], &["1"]);
        check(r"^[a&&b]+$", &["a&b"], &["c"]);
        check(r"\bfoo\b", &["a foo b"], &["afoob"]);
        check(r"(?i)^abc$", &["ABC"], &["AB"]);
        check(r"^\p{Lu}$", &["\u{c9}"], &["e"]);
        check(r"^.{2}$", &["\u{e9}\u{e9}"], &["\u{e9}"]);
        assert!(compile("(?=x)").is_err());
        assert!(compile("(").is_err());
    }
}
