//! A certificate of a leaf, written field by field.
//!
//! Not by a model of certificates: those at hand keep one organization of several in a name, and the certificate would be
//! of another user than was meant.

use std::net::IpAddr;

use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, SigningKey as _};
use x509_parser::oid_registry::OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::der::{BIT_STRING, INTEGER, OBJECT_IDENTIFIER, SEQUENCE, SET, UTF8_STRING, extension, time, tlv};
use super::{Authority, Subject, Usage};

const OID_COMMON_NAME: &[u8] = &[0x55, 0x04, 0x03];
const OID_ORGANIZATION: &[u8] = &[0x55, 0x04, 0x0a];
const OID_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
pub(super) const OID_SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const OID_BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const OID_AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 0x23];
const OID_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const SERVER_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 1];
const CLIENT_AUTH: &[u8] = &[0x2b, 6, 1, 5, 5, 7, 3, 2];
/// Key usages by their bits, from the left (RFC 5280 section 4.2.1.3).
const DIGITAL_SIGNATURE: u16 = 0x8000;
const KEY_ENCIPHERMENT: u16 = 0x2000;

const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;
/// The kinds of alternative names.
const DNS_NAME: u8 = 0x82;
const IP_ADDRESS: u8 = 0x87;

/// What a certificate says; names and extensions in DER.
pub(super) struct Leaf<'a> {
    pub(super) subject: &'a [u8],
    /// SubjectPublicKeyInfo.
    pub(super) key: &'a [u8],
    pub(super) from: Timestamp,
    pub(super) until: Timestamp,
    pub(super) usages: Option<Vec<u8>>,
    pub(super) purposes: Option<Vec<u8>>,
    pub(super) names: Option<Vec<u8>>,
}

impl Authority {
    /// Signs a certificate; in DER.
    pub(super) fn write(&self, leaf: Leaf<'_>) -> Result<Vec<u8>, String> {
        let model = self.model().map_err(|why| why.to_string())?;
        let (_, model) = X509Certificate::from_der(&model).map_err(|why| why.to_string())?;
        let algorithm = algorithm(&model);
        let authority_key = model.get_extension_unique(&OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER).ok().flatten();
        let extensions = [
            leaf.usages,
            leaf.purposes,
            Some(extension(OID_BASIC_CONSTRAINTS, true, &tlv(SEQUENCE, &[]))),
            authority_key.map(|it| extension(OID_AUTHORITY_KEY, false, it.value)),
            leaf.names,
        ];
        let to_sign = tlv(
            SEQUENCE,
            &[
                tlv(VERSION, &tlv(INTEGER, &[2])),
                tlv(INTEGER, &serial()?),
                algorithm.clone(),
                model.issuer().as_raw().to_vec(),
                tlv(SEQUENCE, &[time(leaf.from), time(leaf.until)].concat()),
                leaf.subject.to_vec(),
                leaf.key.to_vec(),
                tlv(EXTENSIONS, &tlv(SEQUENCE, &extensions.into_iter().flatten().collect::<Vec<_>>().concat())),
            ]
            .concat(),
        );
        let signature = self.issuer.key().sign(&to_sign).map_err(|why| why.to_string())?;
        let signature = tlv(BIT_STRING, &[vec![0], signature].concat());
        Ok(tlv(SEQUENCE, &[to_sign, algorithm, signature].concat()))
    }

    /// A certificate of no use, to see how this authority names itself and its algorithm.
    fn model(&self) -> Result<Vec<u8>, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(&key, &self.issuer)?.der().to_vec())
    }
}

impl Subject {
    /// The certificate of this subject for a key (SubjectPublicKeyInfo), whose `name` is [`Subject::name`].
    pub(super) fn leaf<'a>(&self, name: &'a [u8], key: &'a [u8], from: Timestamp, until: Timestamp) -> Leaf<'a> {
        let purposes: &[&[u8]] = match self.usage {
            Usage::Client => &[CLIENT_AUTH],
            Usage::Server => &[SERVER_AUTH],
            Usage::Both => &[SERVER_AUTH, CLIENT_AUTH],
        };
        Leaf {
            subject: name,
            key,
            from,
            until,
            usages: usages(DIGITAL_SIGNATURE | KEY_ENCIPHERMENT),
            purposes: self::purposes(purposes.iter().copied()),
            names: (!self.names.is_empty()).then(|| alternative_names(&self.names)),
        }
    }

    /// Its name, with each of its organizations.
    pub(super) fn name(&self) -> Vec<u8> {
        let part = |oid: &[u8], text: &str| {
            let attribute = [tlv(OBJECT_IDENTIFIER, oid), tlv(UTF8_STRING, text.as_bytes())].concat();
            tlv(SET, &tlv(SEQUENCE, &attribute))
        };
        let mut parts: Vec<u8> = self.organizations.iter().flat_map(|it| part(OID_ORGANIZATION, it)).collect();
        parts.extend(part(OID_COMMON_NAME, &self.common_name));
        tlv(SEQUENCE, &parts)
    }
}

/// Addresses are names of their own kind.
fn alternative_names(names: &[String]) -> Vec<u8> {
    let name = |name: &String| match name.parse::<IpAddr>() {
        Ok(IpAddr::V4(v4)) => tlv(IP_ADDRESS, &v4.octets()),
        Ok(IpAddr::V6(v6)) => tlv(IP_ADDRESS, &v6.octets()),
        Err(_) => tlv(DNS_NAME, name.as_bytes()),
    };
    let names: Vec<u8> = names.iter().flat_map(name).collect();
    extension(OID_SUBJECT_ALT_NAME, false, &tlv(SEQUENCE, &names))
}

/// The extension that says what a key is for, by bits from the left; none without any.
pub(super) fn usages(bits: u16) -> Option<Vec<u8>> {
    if bits == 0 {
        return None;
    }
    let bytes = bits.to_be_bytes();
    let used = if bytes[1] == 0 { &bytes[..1] } else { &bytes[..] };
    let unused = u8::try_from(used[used.len() - 1].trailing_zeros()).unwrap_or_default();
    Some(extension(OID_KEY_USAGE, true, &tlv(BIT_STRING, &[&[unused], used].concat())))
}

/// The extension that says what a certificate is for, by object identifiers in DER; none without any.
pub(super) fn purposes<'a>(oids: impl Iterator<Item = &'a [u8]>) -> Option<Vec<u8>> {
    let purposes: Vec<u8> = oids.flat_map(|oid| tlv(OBJECT_IDENTIFIER, oid)).collect();
    (!purposes.is_empty()).then(|| extension(OID_EXTENDED_KEY_USAGE, false, &tlv(SEQUENCE, &purposes)))
}

/// The algorithm as it stands in a certificate.
fn algorithm(model: &X509Certificate<'_>) -> Vec<u8> {
    let identifier = &model.signature_algorithm;
    let mut content = tlv(OBJECT_IDENTIFIER, identifier.algorithm.as_bytes());
    if let Some(parameters) = &identifier.parameters {
        // NULL for RSA, nothing for the others.
        content.extend(tlv(u8::try_from(parameters.tag().0).unwrap_or_default(), parameters.data));
    }
    tlv(SEQUENCE, &content)
}

/// A positive number of 127 bits.
fn serial() -> Result<Vec<u8>, String> {
    let mut bytes = [0; 16];
    getrandom::fill(&mut bytes).map_err(|why| why.to_string())?;
    // Neither negative nor with a zero before it.
    bytes[0] = bytes[0] & 0x7f | 0x40;
    Ok(bytes.to_vec())
}
