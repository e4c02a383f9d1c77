//! Encryption at rest.
//!
//! ```text
//! own            Secrets, by a key of the server's own
//! configuration  other resources and keys, as a file says (`--encryption-provider-config`)
//! providers      the ways in which the file may want it
//! ```
//!
//! What the server's own key has sealed is always readable, so that a file may come later. What a file's keys have sealed
//! is readable as long as the file names them; it is sealed anew by the first of them when it is written, also by a write
//! that changes nothing else.

mod configuration;
mod own;
mod providers;

use std::path::PathBuf;
use std::sync::Arc;

use bytes::Bytes;
use parking_lot::RwLock;

use self::configuration::Rule;
pub use self::own::{BadKey, SecretEncryption};
use self::providers::{MARK, Opened};
use crate::cache::{ROOT, TransformError, Transformer};
use crate::configfile::ConfigurationError;
use crate::reload::{self, Change, Follower};

/// What is encrypted otherwise than by the server's own key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Options {
    /// An EncryptionConfiguration.
    pub configuration: Option<PathBuf>,
    /// Whether it is read again when it changes.
    pub reload: bool,
}

/// Why it cannot be known what to encrypt.
#[derive(Debug, thiserror::Error)]
pub enum EncryptionError {
    #[error("reading the encryption configuration {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("the encryption configuration {}: {source}", path.display())]
    Configuration { path: PathBuf, source: ConfigurationError },
    #[error("encryption-provider-config-automatic-reload needs encryption-provider-config")]
    NothingToReload,
}

/// Seals as a file says, and what it does not speak of as `own` does.
struct Configured {
    rules: RwLock<Arc<[Rule]>>,
    own: Arc<dyn Transformer>,
}

impl Options {
    /// The way in which all is stored: `own`, or what is said in a file, which is followed if that is wanted.
    pub(crate) fn open(
        &self,
        own: Arc<dyn Transformer>,
        follower: &Follower,
    ) -> Result<Arc<dyn Transformer>, EncryptionError> {
        let Some(path) = self.configuration.clone() else {
            return if self.reload { Err(EncryptionError::NothingToReload) } else { Ok(own) };
        };
        let text = std::fs::read_to_string(&path);
        let text = text.map_err(|source| EncryptionError::Read { path: path.clone(), source })?;
        let rules = configuration::parse(&text);
        let rules = rules.map_err(|source| EncryptionError::Configuration { path: path.clone(), source })?;
        let configured = Arc::new(Configured { rules: RwLock::new(rules.into()), own });
        follower.tell(&reload::ENCRYPTION, &text);
        if self.reload {
            let turned = configured.clone();
            follower.follow(&reload::ENCRYPTION, path, text, move |text| {
                let rules = configuration::parse(text).map_err(|why| why.to_string())?;
                *turned.rules.write() = rules.into();
                Ok(Change::Made)
            });
        }
        Ok(configured)
    }
}

impl Configured {
    /// What the first rule that speaks of the resource at `key` makes of it; `None` where none does.
    fn by_rule<T>(&self, key: &str, make: impl FnOnce(&Rule) -> T) -> Option<T> {
        let mut steps = key.strip_prefix(ROOT)?.split('/');
        let (group, plural) = (steps.next()?, steps.next()?);
        let group = if group == "core" { "" } else { group };
        let rules = self.rules.read().clone();
        rules.iter().find(|rule| rule.speaks_of(group, plural)).map(make)
    }
}

impl Transformer for Configured {
    fn seal(&self, key: &str, plain: Bytes) -> Result<Bytes, TransformError> {
        self.by_rule(key, |rule| rule.seal(key, plain.clone())).unwrap_or_else(|| self.own.seal(key, plain.clone()))
    }

    fn open(&self, key: &str, stored: Bytes) -> Result<Bytes, TransformError> {
        if stored.first() == Some(&own::VERSION) {
            return self.own.open(key, stored);
        }
        let failed = || TransformError { key: key.to_owned() };
        match self.by_rule(key, |rule| rule.open(key, &stored)) {
            Some(opened) => opened.map(|opened| opened.plain).ok_or_else(failed),
            None if stored.starts_with(MARK) => Err(failed()),
            None => self.own.open(key, stored),
        }
    }

    fn may_be_stale(&self, key: &str) -> bool {
        self.by_rule(key, |_| ()).is_some()
    }

    fn is_stale(&self, key: &str, stored: &[u8]) -> bool {
        let opened = self.by_rule(key, |rule| rule.open(key, stored));
        opened.is_some_and(|opened| !opened.is_some_and(|Opened { by_first, .. }| by_first))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECRET: &str = "/registry/core/secrets/shop/db";
    const MAP: &str = "/registry/core/configmaps/shop/a";
    const LEASE: &str = "/registry/coordination.k8s.io/leases/shop/a";
    const PLAIN: &[u8] = b"{\"data\":\"canary\"}";

    fn configured(resources: &str) -> Configured {
        let head = "apiVersion: apiserver.config.k8s.io/v1\nkind: EncryptionConfiguration\nresources:\n";
        let rules = configuration::parse(&format!("{head}{resources}")).unwrap();
        Configured { rules: RwLock::new(rules.into()), own: Arc::new(SecretEncryption::new(&[7; 32]).unwrap()) }
    }

    fn one(provider: &str) -> Configured {
        configured(&format!("- resources: [secrets]\n  providers: [{provider}]\n"))
    }

    fn key(kind: &str, name: &str) -> String {
        format!("{kind}: {{keys: [{{name: {name}, secret: {}}}]}}", "QUFB".repeat(10) + "QUE=")
    }

    #[test]
    fn each_provider_seals_and_opens() {
        for kind in ["aesgcm", "aescbc", "secretbox"] {
            let configured = one(&key(kind, "one"));
            let sealed = configured.seal(SECRET, PLAIN.into()).unwrap();
            assert!(sealed.starts_with(format!("k8s:enc:{kind}:v1:one:").as_bytes()), "{kind}");
            assert!(!sealed.windows(6).any(|window| window == b"canary"), "{kind}");
            assert_eq!(configured.open(SECRET, sealed.clone()).unwrap(), PLAIN, "{kind}");
            assert!(!configured.is_stale(SECRET, &sealed), "{kind}");
            // Cut and changed; where nobody says how it was sealed; under another name.
            assert!(configured.open(SECRET, sealed.slice(..sealed.len() - 1)).is_err(), "{kind}");
            assert!(configured.open(SECRET, sealed.slice(..25)).is_err(), "{kind}");
            assert!(configured.open(MAP, sealed.clone()).is_err(), "{kind}");
            assert!(one(&key(kind, "two")).open(SECRET, sealed.clone()).is_err(), "{kind}");
            assert!(one("identity: {}").open(SECRET, sealed).is_err(), "{kind}");
        }
        let moved = one(&key("aesgcm", "one"));
        let sealed = moved.seal(SECRET, PLAIN.into()).unwrap();
        assert!(moved.open("/registry/core/secrets/shop/other", sealed).is_err());
    }

    #[test]
    fn keys_are_rotated_by_writing_anew() {
        let (old, new) = (key("aesgcm", "old"), key("aescbc", "new"));
        let sealed = one(&old).seal(SECRET, PLAIN.into()).unwrap();
        let both = one(&format!("{new}, {old}, identity: {{}}"));
        assert_eq!(both.open(SECRET, sealed.clone()).unwrap(), PLAIN);
        assert!(both.is_stale(SECRET, &sealed) && both.is_stale(SECRET, PLAIN));
        assert!(!both.is_stale(SECRET, &both.seal(SECRET, PLAIN.into()).unwrap()));
        // What stood there before is readable: plain, if that is let in, and what the server's own key has sealed.
        assert_eq!(both.open(SECRET, PLAIN.into()).unwrap(), PLAIN);
        assert!(one(&old).open(SECRET, PLAIN.into()).is_err());
        let own = both.own.seal(SECRET, PLAIN.into()).unwrap();
        assert_eq!(one(&old).open(SECRET, own.clone()).unwrap(), PLAIN);
        assert!(one(&old).is_stale(SECRET, &own));
    }

    #[test]
    fn the_first_list_that_names_a_resource_counts() {
        let of = |resources: &str, provider: &str| format!("- resources: [{resources}]\n  providers: [{provider}]\n");
        let all = [
            of("configmaps", "identity: {}"),
            of("'*.coordination.k8s.io'", &key("aesgcm", "leases")),
            of("'*.'", &key("aesgcm", "core")),
            of("'*.*'", &key("secretbox", "rest")),
        ];
        let configured = configured(&all.concat());
        let by = |key: &str| String::from_utf8_lossy(&configured.seal(key, PLAIN.into()).unwrap()).into_owned();
        assert!(by(MAP).starts_with("{\"data\""));
        assert!(by(LEASE).starts_with("k8s:enc:aesgcm:v1:le"));
        assert!(by(SECRET).starts_with("k8s:enc:aesgcm:v1:co"));
        assert!(by("/registry/example.org/pandas/a").starts_with("k8s:enc:secretbox"));
        // What nobody speaks of is as it is without a file.
        let one = one("identity: {}");
        assert_eq!(one.seal(MAP, PLAIN.into()).unwrap(), PLAIN);
        assert!(!one.may_be_stale(MAP) && one.may_be_stale(SECRET));
        assert_eq!(one.seal(SECRET, PLAIN.into()).unwrap(), PLAIN);
    }
}
