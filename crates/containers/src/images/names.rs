//! References to images, and what they are short for: `web` is `docker.io/library/web:latest`.

/// The registry of names that have none.
pub(crate) const DOCKER: &str = "docker.io";

/// A reference with nothing left out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Reference {
    /// Registry and path: `docker.io/library/web`.
    pub repository: String,
    pub tag: Option<String>,
    /// `sha256:...`
    pub digest: Option<String>,
}

impl Reference {
    /// Completes what a user wrote; `None` when it is no reference.
    pub(crate) fn parse(text: &str) -> Option<Self> {
        let (rest, digest) = match text.split_once('@') {
            Some((rest, digest)) => (rest, Some(digest.to_owned()).filter(|it| is_digest(it))),
            None => (text, None),
        };
        if text.contains('@') && digest.is_none() {
            return None;
        }
        let after_slash = rest.rfind('/').map_or(0, |it| it + 1);
        let (name, tag) = match rest[after_slash..].find(':') {
            Some(colon) => (&rest[..after_slash + colon], Some(rest[after_slash + colon + 1..].to_owned())),
            None => (rest, None),
        };
        let valid = |it: &str| {
            !it.trim_matches('.').is_empty()
                && it.bytes().all(|it| it.is_ascii_alphanumeric() || matches!(it, b'.' | b'_' | b'-' | b':'))
        };
        if !name.split('/').all(valid) || tag.as_deref().is_some_and(|it| !valid(it)) {
            return None;
        }
        let (registry, path) = match name.split_once('/') {
            Some(("index.docker.io", path)) => (DOCKER, path),
            Some((host, path)) if host.contains(['.', ':']) || host == "localhost" => (host, path),
            _ => (DOCKER, name),
        };
        let repository = match registry == DOCKER && !path.contains('/') {
            true => format!("{registry}/library/{path}"),
            false => format!("{registry}/{path}"),
        };
        let tag = match (&tag, &digest) {
            (None, None) => Some("latest".to_owned()),
            _ => tag,
        };
        Some(Self { repository, tag, digest })
    }

    /// The registry, as the name has it, and the path there.
    pub(crate) fn place(&self) -> (&str, &str) {
        self.repository.split_once('/').unwrap_or((DOCKER, &self.repository))
    }

    /// The complete name.
    pub(crate) fn complete(&self) -> String {
        self.by_digest().or_else(|| self.by_tag()).unwrap_or_else(|| self.repository.clone())
    }

    /// The complete name by tag, by which images are kept.
    pub(crate) fn by_tag(&self) -> Option<String> {
        self.tag.as_ref().filter(|_| self.digest.is_none()).map(|tag| format!("{}:{tag}", self.repository))
    }

    pub(crate) fn by_digest(&self) -> Option<String> {
        self.digest.as_ref().map(|digest| format!("{}@{digest}", self.repository))
    }
}

/// `sha256:` and 64 hexadecimal digits: the only digests that are accepted, which also makes them safe as names.
pub(crate) fn is_digest(text: &str) -> bool {
    text.strip_prefix("sha256:").is_some_and(is_hex)
}

pub(crate) fn is_hex(text: &str) -> bool {
    text.len() == 64 && text.bytes().all(|it| matches!(it, b'0'..=b'9' | b'a'..=b'f'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn short_names_are_completed() {
        let check = |text: &str, expected: Option<&str>| {
            let found = Reference::parse(text).and_then(|it| it.by_tag());
            assert_eq!(found.as_deref(), expected, "{text}");
        };
        check("web", Some("docker.io/library/web:latest"));
        check("me/web:1", Some("docker.io/me/web:1"));
        check("docker.io/web", Some("docker.io/library/web:latest"));
        check("index.docker.io/me/web", Some("docker.io/me/web:latest"));
        check("localhost/web", Some("localhost/web:latest"));
        check("host:5000/a/b:v2", Some("host:5000/a/b:v2"));
        check("../etc:1", None);
        check("", None);
        check("a b", None);
        check("a@sha256:12", None);
    }

    #[test]
    fn digests_win_over_tags() {
        let digest = format!("sha256:{}", "a".repeat(64));
        let reference = Reference::parse(&format!("web:1@{digest}")).unwrap();
        assert_eq!(reference.by_tag(), None);
        assert_eq!(reference.by_digest(), Some(format!("docker.io/library/web@{digest}")));
    }
}
