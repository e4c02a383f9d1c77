//! Who we say we are: credentials, the challenges that registries answer with, and the tokens that these are traded for.

use std::collections::BTreeMap;
use std::fmt;
use std::time::{Duration, Instant};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use serde::Deserialize;

/// What a token lasts of which nothing is said (Docker's token specification).
const USUAL_LIFE: Duration = Duration::from_secs(60);
/// A token is not used any more so shortly before its end.
const MARGIN: Duration = Duration::from_secs(5);
/// Challenges beyond these, and texts longer, are not read.
const MOST_CHALLENGES: usize = 16;
const LONGEST_HEADER: usize = 16 << 10;

/// What proves who asks. Its secrets are shown nowhere.
#[derive(Clone, PartialEq, Eq)]
pub struct Credentials(Kind);

#[derive(Clone, PartialEq, Eq)]
enum Kind {
    Password {
        user: String,
        password: String,
    },
    /// To be traded for tokens.
    Identity(String),
    /// A token itself.
    Token(String),
}

/// Why something is no credentials.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum CredentialsError {
    #[error("{0} has a line break or another control character")]
    Control(&'static str),
    #[error("username has a colon, which ends it")]
    Colon,
    #[error("auth is not USER:PASSWORD in base64")]
    Encoding,
}

impl fmt::Debug for Credentials {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let kind = match self.0 {
            Kind::Password { .. } => "password",
            Kind::Identity(_) => "identity token",
            Kind::Token(_) => "token",
        };
        write!(f, "Credentials({kind})")
    }
}

impl Credentials {
    /// A name with its password.
    pub fn password(user: &str, password: &str) -> Result<Self, CredentialsError> {
        if user.contains(':') {
            return Err(CredentialsError::Colon);
        }
        checked("username", user)?;
        checked("password", password)?;
        Ok(Self(Kind::Password { user: user.to_owned(), password: password.to_owned() }))
    }

    /// From the fields that configurations have, in Docker's order; none if all are empty.
    pub fn of(
        user: &str,
        password: &str,
        auth: &str,
        identity_token: &str,
        registry_token: &str,
    ) -> Result<Option<Self>, CredentialsError> {
        if !identity_token.is_empty() {
            checked("identity_token", identity_token)?;
            return Ok(Some(Self(Kind::Identity(identity_token.to_owned()))));
        }
        if !registry_token.is_empty() {
            checked("registry_token", registry_token)?;
            return Ok(Some(Self(Kind::Token(registry_token.to_owned()))));
        }
        if !user.is_empty() {
            return Self::password(user, password).map(Some);
        }
        if auth.is_empty() {
            return Ok(None);
        }
        // Some writers end it with NUL bytes.
        let decoded = STANDARD.decode(auth.trim()).map_err(|_| CredentialsError::Encoding)?;
        let text = std::str::from_utf8(&decoded).map_err(|_| CredentialsError::Encoding)?;
        let (user, password) = text.split_once(':').ok_or(CredentialsError::Encoding)?;
        Self::password(user, password.trim_end_matches('\0')).map(Some)
    }

    #[cfg(test)]
    pub(super) fn user(&self) -> &str {
        match &self.0 {
            Kind::Password { user, .. } => user,
            _ => "",
        }
    }
}

fn checked(what: &'static str, text: &str) -> Result<(), CredentialsError> {
    match text.chars().any(char::is_control) {
        true => Err(CredentialsError::Control(what)),
        false => Ok(()),
    }
}

/// What a registry wants to be shown (RFC 9110, section 11.6.1).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Challenge {
    /// In lower case.
    pub(super) scheme: String,
    pub(super) parameters: BTreeMap<String, String>,
}

impl Challenge {
    pub(super) fn parameter(&self, name: &str) -> &str {
        self.parameters.get(name).map(String::as_str).unwrap_or_default()
    }
}

/// The challenges of all `WWW-Authenticate` headers. Of one that is malformed, what was understood.
pub(super) fn challenges<'a>(headers: impl IntoIterator<Item = &'a HeaderValue>) -> Vec<Challenge> {
    let mut found = Vec::new();
    for header in headers {
        if let Ok(text) = header.to_str()
            && text.len() <= LONGEST_HEADER
        {
            parse(text, &mut found);
        }
    }
    found.truncate(MOST_CHALLENGES);
    found
}

fn parse(text: &str, found: &mut Vec<Challenge>) {
    let is_token = |c: char| c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c);
    let mut rest = text.trim_start_matches([' ', '\t', ',']);
    while !rest.is_empty() {
        let end = rest.find(|c| !is_token(c)).unwrap_or(rest.len());
        let (word, after) = rest.split_at(end);
        if word.is_empty() {
            return;
        }
        let after = after.trim_start_matches([' ', '\t']);
        rest = match after.strip_prefix('=') {
            Some(value) => {
                let (value, after) = value_of(value.trim_start_matches([' ', '\t']));
                if let Some(challenge) = found.last_mut() {
                    challenge.parameters.entry(word.to_ascii_lowercase()).or_insert(value);
                }
                after
            }
            None => {
                found.push(Challenge { scheme: word.to_ascii_lowercase(), parameters: BTreeMap::new() });
                after
            }
        };
        rest = rest.trim_start_matches([' ', '\t', ',']);
    }
}

/// A value, quoted or not, and what follows it.
fn value_of(text: &str) -> (String, &str) {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        return (text[..end].to_owned(), &text[end..]);
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((at, c)) = characters.next() {
        match c {
            '"' => return (value, &quoted[at + 1..]),
            '\\' => value.extend(characters.next().map(|it| it.1)),
            other => value.push(other),
        }
    }
    (value, "")
}

/// What is sent to be let in.
#[derive(Clone)]
pub(super) struct Authorization {
    header: HeaderValue,
    until: Option<Instant>,
}

impl Authorization {
    fn new(text: &str, until: Option<Instant>) -> Option<Self> {
        let mut header = HeaderValue::from_str(text).ok()?;
        header.set_sensitive(true);
        Some(Self { header, until })
    }

    /// The header, unless it has ended.
    pub(super) fn header(&self) -> Option<HeaderValue> {
        self.until.is_none_or(|it| Instant::now() < it).then(|| self.header.clone())
    }
}

/// What a challenge asks for.
pub(super) enum Answer {
    /// This, at once.
    Show(Authorization),
    /// A token, from somebody else.
    Fetch(TokenRequest),
    /// Nothing that we have; why.
    None(&'static str),
}

/// How a token is asked for.
pub(super) struct TokenRequest {
    pub(super) realm: String,
    pub(super) query: String,
    /// With a password; without, as nobody.
    pub(super) basic: Option<HeaderValue>,
    /// A form to be posted in place of the query.
    pub(super) form: Option<String>,
}

/// What to answer challenges with. `scope` is what is wanted where the challenge does not say it.
pub(super) fn answer(challenges: &[Challenge], credentials: Option<&Credentials>, scope: &str) -> Answer {
    let kind = credentials.map(|it| &it.0);
    if let Some(challenge) = challenges.iter().find(|it| it.scheme == "bearer") {
        return match kind {
            Some(Kind::Token(token)) => shown(Authorization::new(&format!("Bearer {token}"), None)),
            _ => Answer::Fetch(token_request(challenge, kind, scope)),
        };
    }
    if challenges.iter().any(|it| it.scheme == "basic") {
        return match kind {
            Some(Kind::Password { user, password }) => shown(basic(user, password)),
            _ => Answer::None("no basic auth credentials"),
        };
    }
    Answer::None("the registry asks for nothing that is known here: Basic, Bearer")
}

fn shown(authorization: Option<Authorization>) -> Answer {
    authorization.map_or(Answer::None("the credentials cannot be a header"), Answer::Show)
}

fn basic(user: &str, password: &str) -> Option<Authorization> {
    Authorization::new(&format!("Basic {}", STANDARD.encode(format!("{user}:{password}"))), None)
}

fn token_request(challenge: &Challenge, kind: Option<&Kind>, scope: &str) -> TokenRequest {
    let scope = match challenge.parameter("scope") {
        "" => scope,
        stated => stated,
    };
    let mut fields = vec![("service", challenge.parameter("service")), ("scope", scope)];
    let realm = challenge.parameter("realm").to_owned();
    match kind {
        Some(Kind::Identity(token)) => {
            fields.extend([("grant_type", "refresh_token"), ("refresh_token", token), ("client_id", "k3rs")]);
            TokenRequest { realm, query: String::new(), basic: None, form: Some(encoded(&fields)) }
        }
        Some(Kind::Password { user, password }) => {
            fields.push(("account", user));
            let basic = basic(user, password).and_then(|it| it.header());
            TokenRequest { realm, query: encoded(&fields), basic, form: None }
        }
        _ => TokenRequest { realm, query: encoded(&fields), basic: None, form: None },
    }
}

/// As forms and queries are written.
fn encoded(fields: &[(&str, &str)]) -> String {
    use std::fmt::Write;
    let mut text = String::new();
    for (name, value) in fields.iter().filter(|it| !it.1.is_empty()) {
        if !text.is_empty() {
            text.push('&');
        }
        text.push_str(name);
        text.push('=');
        for byte in value.bytes() {
            match byte {
                b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => text.push(char::from(byte)),
                other => _ = write!(text, "%{other:02X}"),
            }
        }
    }
    text
}

/// A token as its server gives it.
#[derive(Deserialize)]
struct Issued {
    #[serde(default)]
    token: String,
    #[serde(default)]
    access_token: String,
    #[serde(default)]
    expires_in: Option<i64>,
}

/// The token in a token server's answer.
pub(super) fn issued(body: &[u8], now: Instant) -> Result<Authorization, &'static str> {
    let issued: Issued = serde_json::from_slice(body).map_err(|_| "the answer is no token")?;
    let token = if issued.token.is_empty() { issued.access_token } else { issued.token };
    if token.is_empty() {
        return Err("the answer has no token");
    }
    let life = issued.expires_in.and_then(|it| u64::try_from(it).ok()).map(Duration::from_secs);
    let life = life.unwrap_or(USUAL_LIFE).max(USUAL_LIFE).saturating_sub(MARGIN);
    Authorization::new(&format!("Bearer {token}"), now.checked_add(life)).ok_or("the token cannot be a header")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn challenges_are_read_as_they_are_written() {
        let check = |header: &str, expected: &[(&str, &[&str])]| {
            let found = challenges([&HeaderValue::from_str(header).unwrap()]);
            let text = |it: &Challenge| {
                let parameters = it.parameters.iter().map(|(name, value)| format!("{name}={value}"));
                (it.scheme.clone(), parameters.collect::<Vec<_>>())
            };
            let expected: Vec<_> = expected
                .iter()
                .map(|(scheme, parameters)| {
                    ((*scheme).to_owned(), parameters.iter().map(|&it| it.to_owned()).collect())
                })
                .collect();
            assert_eq!(found.iter().map(text).collect::<Vec<_>>(), expected, "{header}");
        };
        check(
            r#"Bearer realm="https://auth/token",service="registry", scope="repository:a/b:pull,push""#,
            &[("bearer", &["realm=https://auth/token", "scope=repository:a/b:pull,push", "service=registry"])],
        );
        check(r#"Basic realm="a \"b\"", Bearer Realm=x"#, &[("basic", &[r#"realm=a "b""#]), ("bearer", &["realm=x"])]);
        check("Negotiate, BASIC", &[("negotiate", &[]), ("basic", &[])]);
        check("Bearer realm=\"open", &[("bearer", &["realm=open"])]);
        check("=x", &[]);
        check("", &[]);
    }

    #[test]
    fn credentials_are_read_as_docker_writes_them_and_never_shown() {
        let of = |user: &str, password: &str, auth: &str| Credentials::of(user, password, auth, "", "");
        assert_eq!(of("", "", ""), Ok(None));
        let stated = of("me", "s3cret", "").unwrap().unwrap();
        let encoded = of("", "", &STANDARD.encode("me:s3cret\0\0")).unwrap().unwrap();
        assert_eq!(stated, encoded);
        assert_eq!(format!("{stated:?}"), "Credentials(password)");
        assert_eq!(of("", "", "no base64!"), Err(CredentialsError::Encoding));
        assert_eq!(of("", "", &STANDARD.encode("nobody")), Err(CredentialsError::Encoding));
        assert_eq!(of("a:b", "", ""), Err(CredentialsError::Colon));
    }

    #[test]
    fn input_35_a_line_break_in_a_secret_is_refused_by_its_name() {
        assert_eq!(Credentials::password("me", "a\nb"), Err(CredentialsError::Control("password")));
        assert_eq!(Credentials::of("", "", "", "a\r\nb", ""), Err(CredentialsError::Control("identity_token")));
    }

    #[test]
    fn tokens_are_asked_for_with_what_we_have() {
        let challenge = challenges([&HeaderValue::from_static(r#"Bearer realm="https://auth/t",service="a b&c""#)]);
        let asked =
            |credentials: Option<Credentials>| match answer(&challenge, credentials.as_ref(), "repository:x:pull") {
                Answer::Fetch(request) => request,
                _ => panic!("a token is fetched"),
            };
        let nobody = asked(None);
        assert_eq!((nobody.query.as_str(), nobody.basic), ("service=a%20b%26c&scope=repository%3Ax%3Apull", None));
        let me = asked(Some(Credentials::password("me", "secret").unwrap()));
        assert!(me.query.ends_with("&account=me") && me.basic.is_some());
        let identity = asked(Credentials::of("", "", "", "refresh", "").unwrap());
        assert!(identity.query.is_empty() && identity.form.unwrap().contains("refresh_token=refresh"));
    }

    #[test]
    fn tokens_end_and_have_either_name() {
        let now = Instant::now();
        let header = |body: &str| issued(body.as_bytes(), now).map(|it| it.header().unwrap());
        assert_eq!(header(r#"{"token":"a"}"#).unwrap(), "Bearer a");
        assert_eq!(header(r#"{"access_token":"b","expires_in":-5}"#).unwrap(), "Bearer b");
        assert!(header(r#"{"token":"a\nb"}"#).is_err() && header("{}").is_err() && header("[").is_err());
        let past = now - Duration::from_secs(3600);
        assert!(issued(br#"{"token":"a","expires_in":600}"#, past).unwrap().header().is_none());
    }
}
