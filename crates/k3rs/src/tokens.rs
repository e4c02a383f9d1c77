//! The token with which nodes join: `K10<hash of the server CA>::<user>:<secret>`, or the secret alone.

use std::io;

use crate::layout::Layout;

const PREFIX: &str = "K10";
const HASH_DIGITS: usize = 64;

/// A token taken apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Token {
    /// The hash of the CA to be trusted, in hex; a bare secret has none.
    pub ca_hash: Option<String>,
    pub secret: String,
}

impl Token {
    /// Reads either form.
    pub fn parse(text: &str) -> Result<Self, String> {
        let Some(rest) = text.strip_prefix(PREFIX).filter(|rest| rest.contains("::")) else {
            return match text {
                "" => Err("the token is empty: take it from D/server/token on the server".to_owned()),
                secret => Ok(Self { ca_hash: None, secret: secret.to_owned() }),
            };
        };
        let malformed = || "the token is malformed: it should be K10<64 hex digits>::<user>:<secret>".to_owned();
        let (hash, credentials) = rest.split_once("::").ok_or_else(malformed)?;
        let (_, secret) = credentials.split_once(':').ok_or_else(malformed)?;
        let is_hash = hash.len() == HASH_DIGITS && hash.bytes().all(|byte| byte.is_ascii_hexdigit());
        if secret.is_empty() || !is_hash {
            return Err(malformed());
        }
        Ok(Self { ca_hash: Some(hash.to_owned()), secret: secret.to_owned() })
    }
}

/// The hash by which a token names its server's CA: of the PEM file's bytes.
pub fn ca_hash(pem: &str) -> String {
    let digest = ring::digest::digest(&ring::digest::SHA256, pem.as_bytes());
    digest.as_ref().iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The server's secret: what was stated, else what an earlier start wrote, else a new one. Leaves it in
/// `D/server/token`, with `node-token` as the name that people look for.
pub fn ensure(layout: &Layout, stated: Option<&str>, ca_pem: &str) -> io::Result<Token> {
    let path = layout.root().join("server/token");
    let invalid = |why: String| io::Error::new(io::ErrorKind::InvalidInput, why);
    let stated = stated.map(Token::parse).transpose().map_err(invalid)?;
    let known = match std::fs::read_to_string(&path) {
        Ok(text) => Some(Token::parse(text.trim()).map_err(invalid)?),
        Err(why) if why.kind() == io::ErrorKind::NotFound => None,
        Err(why) => return Err(why),
    };
    let hash = ca_hash(ca_pem);
    if let Some(other) = stated.iter().filter_map(|token| token.ca_hash.as_ref()).find(|other| **other != hash) {
        return Err(invalid(format!("the token is for another cluster: its CA is {other}, this server's is {hash}")));
    }
    let secret = match (stated, known) {
        (Some(token), _) | (None, Some(token)) => token.secret,
        (None, None) => random_secret()?,
    };
    let token = Token { ca_hash: Some(hash.clone()), secret };
    let text = format!("{PREFIX}{hash}::server:{}\n", token.secret);
    linux::files::write_atomic(&path, text.as_bytes(), 0o600)?;
    let link = layout.root().join("server/node-token");
    match std::os::unix::fs::symlink(&path, &link) {
        Err(why) if why.kind() != io::ErrorKind::AlreadyExists => Err(why),
        _ => Ok(token),
    }
}

fn random_secret() -> io::Result<String> {
    let mut bytes = [0u8; 16];
    getrandom::fill(&mut bytes).map_err(|why| io::Error::other(why.to_string()))?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_are_read() {
        let hash = ca_hash("pem");
        let full = Token::parse(&format!("K10{hash}::server:s3cret")).unwrap();
        assert_eq!((full.ca_hash.as_deref(), full.secret.as_str()), (Some(hash.as_str()), "s3cret"));
        assert_eq!(Token::parse("s3cret").unwrap(), Token { ca_hash: None, secret: "s3cret".to_owned() });
        let cases = ["", "K10abc::server:s", "K10::server:s"].map(str::to_owned);
        for bad in cases.into_iter().chain([
            format!("K10{}::server:s", hash.replace(|digit: char| digit.is_ascii_digit(), "x")),
            format!("K10{hash}::server"),
            format!("K10{hash}::server:"),
        ]) {
            assert!(Token::parse(&bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_secret_is_made_once_and_one_for_another_cluster_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let layout = Layout::new(dir.path());
        layout.create_server().unwrap();
        let made = ensure(&layout, None, "pem").unwrap();
        assert_eq!(ensure(&layout, None, "pem").unwrap(), made);
        assert_eq!(ensure(&layout, Some("own"), "pem").unwrap().secret, "own");
        assert!(
            ensure(&layout, Some(&format!("K10{}::server:own", ca_hash("other"))), "pem")
                .unwrap_err()
                .to_string()
                .contains("another cluster")
        );
    }
}
