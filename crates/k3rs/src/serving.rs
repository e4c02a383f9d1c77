//! What the API's listener shows and offers where flags say otherwise than by default: certificates of the user's own,
//! which are read again when they change, cipher suites, and versions of TLS.
//!
//! Whoever asks for the name that all API servers share gets the cluster's own certificate, whatever flags say: nodes
//! know a server by it.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use apiserver::reload;
use apiserver::serve::TlsOptions;
use rustls::crypto::ring::{cipher_suite, default_provider};
use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::version::{TLS12, TLS13};
use rustls::{ConfigBuilder, ServerConfig, SupportedCipherSuite, WantsVerifier};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::certificates::{Pair, alternative_names};
use crate::tls::{API_SERVER, Certificate, TlsError};

/// Why the listener cannot be as flags say.
#[derive(Debug, thiserror::Error)]
pub enum ServingError {
    #[error("reading {}: {source}", path.display())]
    Read { path: PathBuf, source: std::io::Error },
    #[error("{}: {source}", path.display())]
    Certificate { path: PathBuf, source: TlsError },
    #[error(
        "tls-cipher-suites: none of TLS 1.2 is among them that is to be had: say tls-min-version=VersionTLS13 as well"
    )]
    NoCiphers,
    #[error("the versions of TLS: {0}")]
    Protocols(rustls::Error),
}

/// What can be said, by Go's names: those of TLS 1.3 are offered whatever is said, as Go does, and those that keep no
/// forward secrecy never.
const CIPHERS: [(&str, Option<SupportedCipherSuite>); 22] = [
    ("TLS_AES_128_GCM_SHA256", None),
    ("TLS_AES_256_GCM_SHA384", None),
    ("TLS_CHACHA20_POLY1305_SHA256", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", Some(cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256)),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", Some(cipher_suite::TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384)),
    ("TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305", Some(cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256)),
    (
        "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256",
        Some(cipher_suite::TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256),
    ),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", None),
    ("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", Some(cipher_suite::TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256)),
    ("TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", Some(cipher_suite::TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384)),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305", Some(cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256)),
    ("TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", Some(cipher_suite::TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256)),
    ("TLS_RSA_WITH_AES_128_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_128_CBC_SHA256", None),
    ("TLS_RSA_WITH_AES_128_GCM_SHA256", None),
    ("TLS_RSA_WITH_AES_256_CBC_SHA", None),
    ("TLS_RSA_WITH_AES_256_GCM_SHA384", None),
];

/// Whether all names are of cipher suites.
pub(crate) fn check_ciphers(names: &[String]) -> Result<(), String> {
    let unknown = names.iter().find(|name| CIPHERS.iter().all(|(known, _)| known != *name));
    unknown.map_or(Ok(()), |name| Err(format!("Cipher suite {name} not supported or doesn't exist")))
}

/// The beginning of a listener that speaks these versions with these cipher suites.
pub(crate) fn protocols(options: &TlsOptions) -> Result<ConfigBuilder<ServerConfig, WantsVerifier>, ServingError> {
    let mut provider = default_provider();
    if !options.ciphers.is_empty() {
        let said = |suite: &SupportedCipherSuite| {
            CIPHERS
                .iter()
                .any(|(name, known)| known.as_ref() == Some(suite) && options.ciphers.iter().any(|it| it == name))
        };
        provider.cipher_suites.retain(|suite| suite.tls13().is_some() || said(suite));
        if !options.only_1_3 && provider.cipher_suites.iter().all(|suite| suite.tls13().is_some()) {
            return Err(ServingError::NoCiphers);
        }
    }
    let versions: &[_] = if options.only_1_3 { &[&TLS13] } else { &[&TLS13, &TLS12] };
    let builder = ServerConfig::builder_with_provider(Arc::new(provider)).with_protocol_versions(versions);
    builder.map_err(ServingError::Protocols)
}

/// What is shown to whom: `own`, or what flags say, whose files are followed on `tasks` until `stop`.
pub(crate) fn certificates(
    options: &TlsOptions,
    own: Arc<Certificate>,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<Arc<dyn ResolvesServerCert>, ServingError> {
    if options.certificate.is_none() && options.by_name.is_empty() {
        return Ok(own);
    }
    let usual = match (&options.certificate, &options.key) {
        (Some(certificate), Some(key)) => Some(followed(certificate, key, tasks, stop)?.0),
        _ => None,
    };
    let mut by_name = Vec::new();
    for stated in &options.by_name {
        let (certificate, inside) = followed(&stated.certificate, &stated.key, tasks, stop)?;
        let names = if stated.names.is_empty() { inside } else { stated.names.clone() };
        by_name.extend(names.into_iter().map(|name| (name.to_ascii_lowercase(), certificate.clone())));
    }
    Ok(Arc::new(Shown { own, usual, by_name }))
}

/// A certificate of two files, and the names in it.
fn followed(
    certificate: &Path,
    key: &Path,
    tasks: &TaskTracker,
    stop: &CancellationToken,
) -> Result<(Arc<Certificate>, Vec<String>), ServingError> {
    let pair = read(certificate, key)?;
    let failed = |source| ServingError::Certificate { path: certificate.to_owned(), source };
    let shown = Certificate::new(&pair).map_err(failed)?;
    let replaced = shown.clone();
    let paths = [certificate, key].map(Path::to_owned);
    let known = [pair.certificate.clone(), pair.key.clone()];
    reload::follow_all(paths, known, tasks, stop.clone(), move |[certificate, key]| {
        let pair = Pair { certificate: certificate.clone(), key: key.clone() };
        replaced.replace(&pair).map_err(|why| why.to_string())
    });
    let leaf = pair.chain().into_iter().next();
    let names = leaf.and_then(|leaf| X509Certificate::from_der(&leaf).ok().map(|(_, leaf)| alternative_names(&leaf)));
    Ok((shown, names.unwrap_or_default()))
}

fn read(certificate: &Path, key: &Path) -> Result<Pair, ServingError> {
    let text = |path: &Path| {
        std::fs::read_to_string(path).map_err(|source| ServingError::Read { path: path.to_owned(), source })
    };
    Ok(Pair { certificate: text(certificate)?, key: text(key)? })
}

#[derive(Debug)]
struct Shown {
    own: Arc<Certificate>,
    /// To those who ask for no name that is below.
    usual: Option<Arc<Certificate>>,
    /// In lower case; `*` stands for the first label.
    by_name: Vec<(String, Arc<Certificate>)>,
}

impl Shown {
    fn of(&self, asked: Option<&str>) -> &Certificate {
        let Some(asked) = asked else { return self.usual.as_ref().unwrap_or(&self.own) };
        if asked.eq_ignore_ascii_case(API_SERVER) {
            return &self.own;
        }
        let asked = asked.to_ascii_lowercase();
        let below = asked.split_once('.').map(|(_, domain)| format!("*.{domain}"));
        let find =
            |name: &str| self.by_name.iter().find(|(known, _)| known == name).map(|(_, certificate)| certificate);
        let found = find(&asked).or_else(|| find(below.as_deref()?));
        found.or(self.usual.as_ref()).unwrap_or(&self.own)
    }
}

impl ResolvesServerCert for Shown {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        Some(self.of(hello.server_name()).current())
    }
}

#[cfg(test)]
mod tests {
    use std::future::pending;
    use std::time::Duration;

    use tokio::time::timeout;

    use super::*;

    fn made(names: &[&str]) -> (Arc<Certificate>, Pair) {
        let made =
            rcgen::generate_simple_self_signed(names.iter().map(|&name| name.to_owned()).collect::<Vec<_>>()).unwrap();
        let pair = Pair { certificate: made.cert.pem(), key: made.signing_key.serialize_pem() };
        (Certificate::new(&pair).unwrap(), pair)
    }

    #[test]
    fn who_asks_by_name_gets_what_is_for_it() {
        let [own, usual, one, any] = [0; 4].map(|_| made(&["a"]).0);
        let by_name = vec![("a.example".to_owned(), one.clone()), ("*.b.example".to_owned(), any.clone())];
        let shown = Shown { own: own.clone(), usual: Some(usual.clone()), by_name };
        let check =
            |asked: Option<&str>, expected: &Certificate| assert!(std::ptr::eq(shown.of(asked), expected), "{asked:?}");
        check(None, &usual);
        check(Some("other"), &usual);
        check(Some("kubernetes"), &own);
        check(Some("A.example"), &one);
        check(Some("x.b.example"), &any);
        check(Some("b.example"), &usual);
        check(Some("y.x.b.example"), &usual);
    }

    #[tokio::test]
    async fn files_are_read_again() {
        let folder = tempfile::tempdir().unwrap();
        let (certificate, key) = (folder.path().join("a.crt"), folder.path().join("a.key"));
        let write = |pair: &Pair| {
            linux::files::write_atomic(&key, pair.key.as_bytes(), 0o600).unwrap();
            linux::files::write_atomic(&certificate, pair.certificate.as_bytes(), 0o600).unwrap();
        };
        let (first, second) = (made(&["a.example"]).1, made(&["b.example"]).1);
        write(&first);
        let (tasks, stop) = (TaskTracker::new(), CancellationToken::new());
        let (shown, names) = followed(&certificate, &key, &tasks, &stop).unwrap();
        assert_eq!(names, ["a.example"]);
        write(&second);
        while shown.current().cert != second.chain() {
            tokio::task::yield_now().await;
        }
        // Whichever of the two is written last.
        linux::files::write_atomic(&certificate, first.certificate.as_bytes(), 0o600).unwrap();
        drop(timeout(Duration::from_millis(200), pending::<()>()).await);
        linux::files::write_atomic(&key, first.key.as_bytes(), 0o600).unwrap();
        while shown.current().cert != first.chain() {
            tokio::task::yield_now().await;
        }
        stop.cancel();
    }

    #[test]
    fn cipher_suites_are_chosen_by_gos_names() {
        let options = |ciphers: &[&str], only_1_3| TlsOptions {
            ciphers: ciphers.iter().map(|&it| it.to_owned()).collect(),
            only_1_3,
            ..TlsOptions::default()
        };
        let offered = |options: &TlsOptions| protocols(options).unwrap().crypto_provider().cipher_suites.len();
        assert_eq!(offered(&options(&[], false)), 9);
        assert_eq!(
            offered(&options(&["TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "TLS_RSA_WITH_AES_128_CBC_SHA"], false)),
            4
        );
        assert!(matches!(protocols(&options(&["TLS_RSA_WITH_AES_128_CBC_SHA"], false)), Err(ServingError::NoCiphers)));
        assert!(protocols(&options(&["TLS_AES_128_GCM_SHA256"], true)).is_ok());
        assert!(check_ciphers(&["TLS_NULL".to_owned()]).is_err());
    }
}
