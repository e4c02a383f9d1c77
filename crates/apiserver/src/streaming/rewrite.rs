//! Links and redirects of what is proxied: those to the proxied host's own paths are made to lead through this
//! server again.

use std::io::{self, Write as _};

use bytes::Bytes;
use flate2::write::{GzDecoder, ZlibDecoder};

/// A tag that is longer is passed on as it is.
const LONGEST_TAG: usize = 64 << 10;

/// The attributes of HTML elements that hold URLs.
const URLS: [(&str, &[&str]); 25] = [
    ("a", &["href"]),
    ("applet", &["codebase"]),
    ("area", &["href"]),
    ("audio", &["src"]),
    ("base", &["href"]),
    ("blockquote", &["cite"]),
    ("body", &["background"]),
    ("button", &["formaction"]),
    ("command", &["icon"]),
    ("del", &["cite"]),
    ("embed", &["src"]),
    ("form", &["action"]),
    ("frame", &["longdesc", "src"]),
    ("head", &["profile"]),
    ("html", &["manifest"]),
    ("iframe", &["longdesc", "src"]),
    ("img", &["longdesc", "src", "usemap"]),
    ("input", &["src", "usemap", "formaction"]),
    ("ins", &["cite"]),
    ("link", &["href"]),
    ("object", &["classid", "codebase", "data", "usemap"]),
    ("q", &["cite"]),
    ("script", &["src"]),
    ("source", &["src"]),
    ("video", &["poster", "src"]),
];
/// Elements whose content is text, whatever it looks like.
const RAW: [&str; 4] = ["script", "style", "textarea", "title"];

/// How URLs change.
#[derive(Clone, Debug)]
pub(super) struct Links {
    /// The path up to and with `proxy`.
    pub(super) prefix: String,
    /// The host that is proxied.
    pub(super) source: String,
    /// The host that the client asked.
    pub(super) asked: String,
}

impl Links {
    /// The URL that leads to the same through this server; `None` where it stays as it is.
    pub(super) fn rewrite(&self, url: &str) -> Option<String> {
        let (scheme, host, path) = parts(url);
        let ours = host.is_empty() || host == self.asked;
        if !(ours || host == self.source) || !path.starts_with('/') {
            return None;
        }
        let seen = path.starts_with(&self.prefix);
        match (ours, seen) {
            (true, true) => None,
            (false, true) => Some(path.to_owned()),
            (true, false) if !host.is_empty() => Some(format!("{scheme}//{host}{}{path}", self.prefix)),
            _ => Some(format!("{}{path}", self.prefix)),
        }
    }
}

/// The scheme with its colon, the host, and everything behind.
fn parts(url: &str) -> (&str, &str, &str) {
    let (scheme, rest) = match url.split_once("//") {
        Some((scheme, rest)) if scheme.is_empty() || is_scheme(scheme) => (scheme, rest),
        // `mailto:` and the like have no path of ours.
        _ => return ("", "", url),
    };
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    (scheme, &rest[..end], &rest[end..])
}

fn is_scheme(text: &str) -> bool {
    text.strip_suffix(':').is_some_and(|name| !name.is_empty() && name.bytes().all(|it| it.is_ascii_alphanumeric()))
}

/// Rewrites a page piece by piece, undoing its compression.
pub(super) struct HtmlRewriter {
    links: Links,
    plain: Plain,
    /// A tag that is not yet whole, or in raw text what may be the beginning of its end.
    held: Vec<u8>,
    /// The element whose text this is.
    raw: Option<&'static str>,
}

/// What the page's bytes are behind their encoding.
enum Plain {
    Identity,
    Gzip(GzDecoder<Vec<u8>>),
    Deflate(ZlibDecoder<Vec<u8>>),
}

impl HtmlRewriter {
    /// `None` for an encoding that is not known here: such a page is passed on as it is.
    pub(super) fn new(links: Links, encoding: &str) -> Option<Self> {
        let plain = match encoding {
            "" | "identity" => Plain::Identity,
            "gzip" => Plain::Gzip(GzDecoder::new(Vec::new())),
            "deflate" => Plain::Deflate(ZlibDecoder::new(Vec::new())),
            _ => return None,
        };
        Some(Self { links, plain, held: Vec::new(), raw: None })
    }

    pub(super) fn push(&mut self, data: &[u8]) -> io::Result<Bytes> {
        let plain = match &mut self.plain {
            Plain::Identity => data.to_vec(),
            Plain::Gzip(decoder) => {
                decoder.write_all(data)?;
                std::mem::take(decoder.get_mut())
            }
            Plain::Deflate(decoder) => {
                decoder.write_all(data)?;
                std::mem::take(decoder.get_mut())
            }
        };
        Ok(self.rewrite(&plain))
    }

    /// What is left at the end.
    pub(super) fn finish(mut self) -> io::Result<Bytes> {
        let last = match &mut self.plain {
            Plain::Identity => Vec::new(),
            Plain::Gzip(decoder) => {
                decoder.try_finish()?;
                std::mem::take(decoder.get_mut())
            }
            Plain::Deflate(decoder) => {
                decoder.try_finish()?;
                std::mem::take(decoder.get_mut())
            }
        };
        let mut out = self.rewrite(&last).to_vec();
        out.append(&mut self.held);
        Ok(out.into())
    }

    fn rewrite(&mut self, plain: &[u8]) -> Bytes {
        let mut text = std::mem::take(&mut self.held);
        text.extend_from_slice(plain);
        let mut out = Vec::with_capacity(text.len() + 64);
        let mut rest = &text[..];
        while let Some(start) = rest.iter().position(|byte| *byte == b'<') {
            out.extend_from_slice(&rest[..start]);
            rest = &rest[start..];
            match self.markup(rest) {
                Markup::Whole(length) => {
                    self.element(&rest[..length], &mut out);
                    rest = &rest[length..];
                }
                Markup::Text(length) => {
                    out.extend_from_slice(&rest[..length]);
                    rest = &rest[length..];
                }
                Markup::Unfinished if rest.len() <= LONGEST_TAG => {
                    self.held = rest.to_vec();
                    return out.into();
                }
                Markup::Unfinished => break,
            }
        }
        out.extend_from_slice(rest);
        out.into()
    }

    /// What begins with the `<` that `text` begins with.
    fn markup(&self, text: &[u8]) -> Markup {
        if let Some(raw) = self.raw {
            let end = format!("</{raw}");
            let length = end.len().min(text.len());
            return match text[..length].eq_ignore_ascii_case(&end.as_bytes()[..length]) {
                true if length < end.len() => Markup::Unfinished,
                true => tag_end(text).map_or(Markup::Unfinished, Markup::Whole),
                false => Markup::Text(1),
            };
        }
        match text {
            [b'<', b'!', b'-', b'-', ..] => {
                let end = text.windows(3).skip(2).position(|it| it == b"-->");
                end.map_or(Markup::Unfinished, |at| Markup::Text(at + 5))
            }
            [b'<'] | [b'<', b'!'] | [b'<', b'!', b'-'] => Markup::Unfinished,
            [b'<', next, ..] if next.is_ascii_alphabetic() || matches!(next, b'/' | b'!' | b'?') => {
                tag_end(text).map_or(Markup::Unfinished, Markup::Whole)
            }
            _ => Markup::Text(1),
        }
    }

    /// Writes a tag, its URLs changed.
    fn element(&mut self, tag: &[u8], out: &mut Vec<u8>) {
        let name_end = tag[1..].iter().position(|it| !it.is_ascii_alphanumeric()).map_or(tag.len(), |at| at + 1);
        let name = String::from_utf8_lossy(&tag[1..name_end]).to_ascii_lowercase();
        self.raw = RAW.into_iter().find(|raw| *raw == name);
        let Some((_, urls)) = URLS.iter().find(|(element, _)| *element == name) else {
            out.extend_from_slice(tag);
            return;
        };
        let mut written = 0;
        for attribute in (Attributes { tag, at: name_end }) {
            let key = String::from_utf8_lossy(&tag[attribute.name]).to_ascii_lowercase();
            let new = std::str::from_utf8(&tag[attribute.value.clone()])
                .ok()
                .filter(|_| urls.contains(&key.as_str()))
                .and_then(|url| self.links.rewrite(url.trim()));
            if let Some(new) = new {
                out.extend_from_slice(&tag[written..attribute.value.start]);
                out.extend_from_slice(new.as_bytes());
                written = attribute.value.end;
            }
        }
        out.extend_from_slice(&tag[written..]);
    }
}

enum Markup {
    /// A tag of this length.
    Whole(usize),
    /// So much that is none.
    Text(usize),
    Unfinished,
}

/// The length of a tag: to the first `>` outside quotes.
fn tag_end(text: &[u8]) -> Option<usize> {
    let mut quote = None;
    for (at, byte) in text.iter().enumerate() {
        match (quote, byte) {
            (None, b'>') => return Some(at + 1),
            (None, b'"' | b'\'') => quote = Some(*byte),
            (Some(open), _) if open == *byte => quote = None,
            _ => {}
        }
    }
    None
}

/// The attributes of a tag that have values.
struct Attributes<'a> {
    tag: &'a [u8],
    at: usize,
}

struct Attribute {
    name: std::ops::Range<usize>,
    /// Without its quotes.
    value: std::ops::Range<usize>,
}

impl Attributes<'_> {
    fn skip(&mut self, over: impl Fn(u8) -> bool) -> usize {
        while self.tag.get(self.at).is_some_and(|byte| over(*byte)) {
            self.at += 1;
        }
        self.at
    }
}

impl Iterator for Attributes<'_> {
    type Item = Attribute;

    fn next(&mut self) -> Option<Attribute> {
        loop {
            let from = self.skip(|byte| byte.is_ascii_whitespace() || byte == b'/');
            let to = self.skip(|byte| !byte.is_ascii_whitespace() && !matches!(byte, b'=' | b'>' | b'/'));
            self.skip(|byte| byte.is_ascii_whitespace());
            if self.tag.get(self.at) != Some(&b'=') {
                if from == to {
                    return None;
                }
                continue;
            }
            self.at += 1;
            let start = self.skip(|byte| byte.is_ascii_whitespace());
            let quote = self.tag.get(start).copied().filter(|byte| matches!(byte, b'"' | b'\''));
            let (start, end) = match quote {
                Some(quote) => {
                    self.at += 1;
                    (start + 1, self.skip(|byte| byte != quote))
                }
                None => (start, self.skip(|byte| !byte.is_ascii_whitespace() && byte != b'>')),
            };
            self.at += usize::from(quote.is_some());
            return Some(Attribute { name: from..to, value: start..end });
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn links() -> Links {
        let text = |it: &str| it.to_owned();
        Links { prefix: text("/p/proxy"), source: text("10.42.0.7:80"), asked: text("cluster:6443") }
    }

    #[test]
    fn links_to_the_proxied_host_lead_through_the_proxy() {
        let check = |url: &str, expected: Option<&str>| {
            assert_eq!(links().rewrite(url).as_deref(), expected, "{url}");
        };
        check("/a/?b=/c#d", Some("/p/proxy/a/?b=/c#d"));
        check("http://10.42.0.7:80/a", Some("/p/proxy/a"));
        check("//10.42.0.7:80/a", Some("/p/proxy/a"));
        check("https://cluster:6443/a", Some("https://cluster:6443/p/proxy/a"));
        for same in ["", "a", "../a", "#a", "?a", "mailto:a@b", "http://example.org/a", "/p/proxy/a", "javascript:x//y"]
        {
            check(same, None);
        }
    }

    /// The page in one piece and byte by byte must come to the same.
    fn check(page: &str, expected: &str) {
        let mut whole = HtmlRewriter::new(links(), "").unwrap();
        let mut said = whole.push(page.as_bytes()).unwrap().to_vec();
        said.extend(whole.finish().unwrap());
        assert_eq!(String::from_utf8(said).unwrap(), expected);
        let mut bytewise = HtmlRewriter::new(links(), "identity").unwrap();
        let mut said: Vec<u8> = page.bytes().flat_map(|byte| bytewise.push(&[byte]).unwrap()).collect();
        said.extend(bytewise.finish().unwrap());
        assert_eq!(String::from_utf8(said).unwrap(), expected);
    }

    #[test]
    fn the_urls_of_a_page_are_rewritten_and_nothing_else() {
        check(r#"<a href="/x">/x</a>"#, r#"<a href="/p/proxy/x">/x</a>"#);
        check("<A class=b HREF='/x' id>", "<A class=b HREF='/p/proxy/x' id>");
        check("<img src=/x.png alt=/x>", "<img src=/p/proxy/x.png alt=/x>");
        check(r#"<div href="/x"><p title="a>b">"#, r#"<div href="/x"><p title="a>b">"#);
        check(r#"<video src="/v" poster="/p"/>"#, r#"<video src="/p/proxy/v" poster="/p/proxy/p"/>"#);
        check(r#"<!-- <a href="/x"> --><a href="/y">"#, r#"<!-- <a href="/x"> --><a href="/p/proxy/y">"#);
        check(
            r#"<script src="/s">if (a</b/) '<a href="/x">'</script><a href="/y">"#,
            r#"<script src="/p/proxy/s">if (a</b/) '<a href="/x">'</script><a href="/p/proxy/y">"#,
        );
        check("a < b <", "a < b <");
        check(r#"<a href="/x"#, r#"<a href="/x"#);
    }

    #[test]
    fn compressed_pages_are_rewritten_too() {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
        encoder.write_all(b"<a href=/x>").unwrap();
        let mut rewriter = HtmlRewriter::new(links(), "gzip").unwrap();
        let mut said = rewriter.push(&encoder.finish().unwrap()).unwrap().to_vec();
        said.extend(rewriter.finish().unwrap());
        assert_eq!(said, b"<a href=/p/proxy/x>");
        assert!(HtmlRewriter::new(links(), "br").is_none());
    }
}
