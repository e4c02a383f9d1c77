//! Authorities and the certificates that they sign, kept on disk and renewed when they near their end or when what
//! they must say has changed.
//!
//! Keys are ECDSA P-256. Authorities live ten years, leaves one; a leaf with less than 120 days left is signed anew
//! at start. Validity begins an hour early, so that a node whose clock is a little behind can still connect.

mod der;
mod leaf;
mod requests;

use std::net::IpAddr;
use std::path::Path;
use std::{fs, io};

use jiff::{SignedDuration, Timestamp};
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    PublicKeyData,
};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, GeneralName, X509Certificate};

const AUTHORITY_DAYS: i64 = 3650;
const LEAF_DAYS: i32 = 365;
/// A leaf that lasts less than this is signed anew.
pub const RENEW: SignedDuration = SignedDuration::from_hours(120 * 24);
const BACKDATE: SignedDuration = SignedDuration::from_hours(1);
const DAY: SignedDuration = SignedDuration::from_hours(24);

/// Who a certificate is for, and what for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// For clients the user's name.
    pub common_name: String,
    /// For clients the user's groups.
    pub organizations: Vec<String>,
    /// For servers the names and addresses that they answer to.
    pub names: Vec<String>,
    pub usage: Usage,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Usage {
    Client,
    Server,
    /// Peers that both listen and connect.
    Both,
}

/// A key that signs certificates.
pub struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

/// A certificate with its chain, and its key, both PEM.
#[derive(Clone, Debug)]
pub struct Pair {
    pub certificate: String,
    pub key: String,
}

#[derive(Debug, thiserror::Error)]
pub enum CertificateError {
    #[error("{path}: {source}")]
    File { path: String, source: io::Error },
    #[error("{path} is not a certificate and key that belong together: {why}")]
    Unusable { path: String, why: String },
    #[error(
        "the clock says {now}, but the authority of this cluster, {path}, is valid from {from} to {until}: set the clock"
    )]
    Clock { path: String, now: Timestamp, from: Timestamp, until: Timestamp },
    #[error("making a certificate for {subject}: {why}")]
    Make { subject: String, why: String },
}

type Result<T> = std::result::Result<T, CertificateError>;

impl Subject {
    /// A user with its groups.
    pub fn client(name: &str, groups: &[&str]) -> Self {
        Self {
            common_name: name.to_owned(),
            organizations: groups.iter().map(|&group| group.to_owned()).collect(),
            names: Vec::new(),
            usage: Usage::Client,
        }
    }

    /// A listener with the names and addresses that it answers to.
    pub fn server(name: &str, names: impl IntoIterator<Item = String>) -> Self {
        let mut names: Vec<String> = names.into_iter().collect();
        names.sort();
        names.dedup();
        Self { common_name: name.to_owned(), organizations: Vec::new(), names, usage: Usage::Server }
    }

    fn unmade(&self, why: String) -> CertificateError {
        CertificateError::Make { subject: self.common_name.clone(), why }
    }
}

impl Authority {
    /// The authority at `certificate` and `key`, made if there is no certificate.
    pub fn load_or_create(certificate: &Path, key: &Path, name: &str) -> Result<Self> {
        let now = Timestamp::now();
        if certificate.exists() {
            let authority = Self::load(certificate, key)?;
            authority.check_clock(certificate, now)?;
            return Ok(authority);
        }
        let common_name = format!("{name}@{}", now.as_second());
        let made = (|| {
            let key_pair = KeyPair::generate()?;
            let mut params = CertificateParams::new(Vec::new())?;
            params.distinguished_name = DistinguishedName::new();
            params.distinguished_name.push(DnType::CommonName, common_name.as_str());
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            params.key_usages =
                vec![KeyUsagePurpose::DigitalSignature, KeyUsagePurpose::KeyEncipherment, KeyUsagePurpose::KeyCertSign];
            set_validity(&mut params, now, AUTHORITY_DAYS);
            let pem = params.self_signed(&key_pair)?.pem();
            Ok((pem, key_pair.serialize_pem()))
        })();
        let (pem, key_pem) = made.map_err(|why: rcgen::Error| CertificateError::Make {
            subject: common_name.clone(),
            why: why.to_string(),
        })?;
        // The key first: a certificate without its key would be refused at the next start, a key alone is made new.
        write(key, &key_pem, 0o600)?;
        write(certificate, &pem, 0o644)?;
        Self::load(certificate, key)
    }

    /// The authority at `certificate` and `key`.
    pub fn load(certificate: &Path, key: &Path) -> Result<Self> {
        let unusable = |why: rcgen::Error| CertificateError::Unusable {
            path: certificate.display().to_string(),
            why: why.to_string(),
        };
        let pem = read(certificate)?;
        let key_pair = KeyPair::from_pem(&read(key)?).map_err(unusable)?;
        let issuer = Issuer::from_ca_cert_pem(&pem, key_pair).map_err(unusable)?;
        Ok(Self { pem, issuer })
    }

    /// Nobody would believe what it signs at a time at which it is not valid.
    fn check_clock(&self, path: &Path, now: Timestamp) -> Result<()> {
        let unusable = |why: &str| CertificateError::Unusable { path: path.display().to_string(), why: why.to_owned() };
        let chain = self.der();
        let first = chain.first().ok_or_else(|| unusable("there is none"))?;
        let (_, parsed) = X509Certificate::from_der(first).map_err(|why| unusable(&why.to_string()))?;
        let time = |it: &x509_parser::time::ASN1Time| Timestamp::from_second(it.timestamp());
        let (from, until) = (time(&parsed.validity().not_before), time(&parsed.validity().not_after));
        let (Ok(from), Ok(until)) = (from, until) else { return Err(unusable("its validity has no end")) };
        if (from..=until).contains(&now) {
            return Ok(());
        }
        Err(CertificateError::Clock { path: path.display().to_string(), now, from, until })
    }

    /// The certificate, as others trust it.
    pub fn pem(&self) -> &str {
        &self.pem
    }

    pub fn der(&self) -> Vec<CertificateDer<'static>> {
        certificates(&self.pem)
    }

    /// A new key and its certificate, nowhere kept.
    pub fn issue(&self, subject: &Subject) -> Result<Pair> {
        let key = KeyPair::generate().map_err(|why| subject.unmade(why.to_string()))?;
        Ok(Pair { certificate: self.sign(subject, &key)?, key: key.serialize_pem() })
    }

    /// A certificate with its chain for somebody's public key, of whom only the key is believed.
    pub fn sign(&self, subject: &Subject, public_key: &impl PublicKeyData) -> Result<String> {
        let now = Timestamp::now();
        let (name, key) = (subject.name(), public_key.subject_public_key_info());
        let leaf = subject.leaf(&name, &key, now - BACKDATE, now + DAY * LEAF_DAYS);
        let written = self.write(leaf).map_err(|why| subject.unmade(why))?;
        Ok(der::pem(&written) + &self.pem)
    }

    /// The pair at `certificate` and `key`, if it still says what it must for long enough; else a new one.
    pub fn ensure(&self, certificate: &Path, key: &Path, subject: &Subject) -> Result<Pair> {
        if let (Ok(certificate), Ok(key)) = (read(certificate), read(key))
            && self.is_current(&certificate, subject)
        {
            return Ok(Pair { certificate, key });
        }
        let pair = self.issue(subject)?;
        write(key, &pair.key, 0o600)?;
        write(certificate, &pair.certificate, 0o644)?;
        Ok(pair)
    }

    fn is_current(&self, pem: &str, subject: &Subject) -> bool {
        self.der().first().and_then(|authority| left(pem, subject, authority)).is_some_and(|left| left > RENEW)
    }
}

/// How long the first certificate of `pem` lasts, which may be over; `None` if `authority` did not sign it, or it does
/// not say what is in `subject`.
pub fn left(pem: &str, subject: &Subject, authority: &CertificateDer<'_>) -> Option<SignedDuration> {
    let chain = certificates(pem);
    let (_, leaf) = X509Certificate::from_der(chain.first()?).ok()?;
    let (_, authority) = X509Certificate::from_der(authority).ok()?;
    let text = |value: &x509_parser::x509::AttributeTypeAndValue<'_>| value.as_str().unwrap_or_default().to_owned();
    let common_name = leaf.subject().iter_common_name().map(text).next().unwrap_or_default();
    let organizations: Vec<String> = leaf.subject().iter_organization().map(text).collect();
    let mut names = alternative_names(&leaf);
    names.sort();
    let says = common_name == subject.common_name && organizations == subject.organizations && names == subject.names;
    let signed = leaf.verify_signature(Some(authority.public_key())).is_ok();
    let left = leaf.validity().not_after.timestamp() - Timestamp::now().as_second();
    (says && signed).then(|| SignedDuration::from_secs(left))
}

impl Pair {
    pub fn chain(&self) -> Vec<CertificateDer<'static>> {
        certificates(&self.certificate)
    }

    /// The key as rustls takes it; `None` if the PEM holds none.
    pub fn private_key(&self) -> Option<PrivateKeyDer<'static>> {
        PrivateKeyDer::from_pem_slice(self.key.as_bytes()).ok()
    }
}

/// The certificates of a PEM bundle; what is not one is passed over.
pub fn certificates(pem: &str) -> Vec<CertificateDer<'static>> {
    CertificateDer::pem_slice_iter(pem.as_bytes()).filter_map(std::result::Result::ok).collect()
}

/// The P-256 key at `path` in PKCS #8 DER, made if it is not there.
pub fn signing_key(path: &Path) -> Result<Vec<u8>> {
    if !path.exists() {
        let key = KeyPair::generate()
            .map_err(|why| CertificateError::Make { subject: "service accounts".to_owned(), why: why.to_string() })?;
        write(path, &key.serialize_pem(), 0o600)?;
    }
    let key = KeyPair::from_pem(&read(path)?)
        .map_err(|why| CertificateError::Unusable { path: path.display().to_string(), why: why.to_string() })?;
    Ok(key.serialize_der())
}

pub(crate) fn alternative_names(leaf: &X509Certificate<'_>) -> Vec<String> {
    let Ok(Some(extension)) = leaf.subject_alternative_name() else { return Vec::new() };
    let names = extension.value.general_names.iter().filter_map(|name| match name {
        GeneralName::DNSName(name) => Some((*name).to_owned()),
        GeneralName::IPAddress(bytes) => match <[u8; 4]>::try_from(*bytes) {
            Ok(v4) => Some(IpAddr::from(v4).to_string()),
            Err(_) => <[u8; 16]>::try_from(*bytes).ok().map(|v6| IpAddr::from(v6).to_string()),
        },
        _ => None,
    });
    names.collect()
}

fn set_validity(params: &mut CertificateParams, now: Timestamp, days: i64) {
    let time = |timestamp: Timestamp| {
        let date = timestamp.to_zoned(jiff::tz::TimeZone::UTC);
        rcgen::date_time_ymd(i32::from(date.year()), date.month().unsigned_abs(), date.day().unsigned_abs())
            + std::time::Duration::from_secs(u64::from(
                date.hour().unsigned_abs() as u32 * 3600
                    + date.minute().unsigned_abs() as u32 * 60
                    + date.second().unsigned_abs() as u32,
            ))
    };
    params.not_before = time(now - BACKDATE);
    params.not_after = time(now + DAY * i32::try_from(days).unwrap_or(1));
}

fn read(path: &Path) -> Result<String> {
    fs::read_to_string(path).map_err(|source| CertificateError::File { path: path.display().to_string(), source })
}

fn write(path: &Path, text: &str, mode: u32) -> Result<()> {
    linux::files::write_atomic(path, text.as_bytes(), mode)
        .map_err(|source| CertificateError::File { path: path.display().to_string(), source })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority(dir: &Path) -> Authority {
        Authority::load_or_create(&dir.join("ca.crt"), &dir.join("ca.key"), "test-ca").unwrap()
    }

    #[test]
    fn an_authority_is_made_once() {
        let dir = tempfile::tempdir().unwrap();
        assert_eq!(authority(dir.path()).pem(), authority(dir.path()).pem());
        fs::remove_file(dir.path().join("ca.key")).unwrap();
        assert!(Authority::load_or_create(&dir.path().join("ca.crt"), &dir.path().join("ca.key"), "x").is_err());
    }

    #[test]
    fn a_leaf_is_signed_anew_only_when_it_must_say_something_else() {
        let dir = tempfile::tempdir().unwrap();
        let authority = authority(dir.path());
        let (certificate, key) = (dir.path().join("a.crt"), dir.path().join("a.key"));
        let names = |list: &[&str]| Subject::server("k3rs", list.iter().map(|&name| name.to_owned()));

        let first = authority.ensure(&certificate, &key, &names(&["localhost", "127.0.0.1", "::1"])).unwrap();
        let second = authority.ensure(&certificate, &key, &names(&["::1", "127.0.0.1", "localhost"])).unwrap();
        assert_eq!(first.certificate, second.certificate);
        let third = authority.ensure(&certificate, &key, &names(&["localhost", "10.0.0.1"])).unwrap();
        assert_ne!(first.certificate, third.certificate);

        let other = tempfile::tempdir().unwrap();
        let fourth =
            self::authority(other.path()).ensure(&certificate, &key, &names(&["localhost", "10.0.0.1"])).unwrap();
        assert_ne!(third.certificate, fourth.certificate, "another authority");
    }

    #[test]
    fn a_certificate_says_all_that_its_subject_does() {
        let dir = tempfile::tempdir().unwrap();
        let authority = authority(dir.path());
        let check = |subject: Subject| {
            let pair = authority.issue(&subject).unwrap();
            let left = left(&pair.certificate, &subject, &authority.der()[0]);
            assert!(left.is_some_and(|left| left > RENEW), "{subject:?}");
            assert_eq!(pair.chain().len(), 2);
        };
        check(Subject::client("jane", &[]));
        check(Subject::client("jane", &["dev", "ops", "system:masters"]));
        check(Subject::client("jane", &["dev", "dev"]));
        check(Subject::server("k3rs", ["10.0.0.1", "a.b", "fd00::1"].map(str::to_owned)));
        check(Subject { usage: Usage::Both, ..Subject::server(&"x".repeat(300), ["a".to_owned()]) });
    }
}
