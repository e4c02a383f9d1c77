//! Certificates for those who ask with a PKCS #10 request: subject and alternative names are theirs, byte for byte; what
//! the certificate is good for, and how long, is not.
//!
//! Written in DER here, because what would read the request into a model keeps one organization of several: the
//! certificate would name another user than was approved.

use std::time::Duration;

use jiff::Timestamp;
use rcgen::{CertificateParams, KeyPair, SigningKey as _};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::{OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER, OID_X509_EXT_SUBJECT_ALT_NAME};
use x509_parser::prelude::{FromDer, X509Certificate, parse_x509_pem};

use super::Authority;

/// So that a client whose clock is a little behind can use what it got; short-lived certificates don't end as early.
const BACKDATE: Duration = Duration::from_secs(300);
const SHORT: Duration = Duration::from_secs(8 * 3600);

/// Key usages by their bits (RFC 5280 section 4.2.1.3).
const USAGES: [(&str, u8); 10] = [
    ("signing", 0),
    ("digital signature", 0),
    ("content commitment", 1),
    ("key encipherment", 2),
    ("data encipherment", 3),
    ("key agreement", 4),
    ("cert sign", 5),
    ("crl sign", 6),
    ("encipher only", 7),
    ("decipher only", 8),
];
/// Purposes by their object identifiers, in DER (RFC 5280 section 4.2.1.12).
const PURPOSES: [(&str, &[u8]); 10] = [
    ("any", &[0x55, 0x1d, 0x25, 0x00]),
    ("server auth", &[0x2b, 6, 1, 5, 5, 7, 3, 1]),
    ("client auth", &[0x2b, 6, 1, 5, 5, 7, 3, 2]),
    ("code signing", &[0x2b, 6, 1, 5, 5, 7, 3, 3]),
    ("email protection", &[0x2b, 6, 1, 5, 5, 7, 3, 4]),
    ("s/mime", &[0x2b, 6, 1, 5, 5, 7, 3, 4]),
    ("ipsec end system", &[0x2b, 6, 1, 5, 5, 7, 3, 5]),
    ("ipsec tunnel", &[0x2b, 6, 1, 5, 5, 7, 3, 6]),
    ("timestamping", &[0x2b, 6, 1, 5, 5, 7, 3, 8]),
    ("ocsp signing", &[0x2b, 6, 1, 5, 5, 7, 3, 9]),
];
const OID_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x0f];
const OID_EXTENDED_KEY_USAGE: &[u8] = &[0x55, 0x1d, 0x25];
const OID_BASIC_CONSTRAINTS: &[u8] = &[0x55, 0x1d, 0x13];
const OID_SUBJECT_ALT_NAME: &[u8] = &[0x55, 0x1d, 0x11];
const OID_AUTHORITY_KEY: &[u8] = &[0x55, 0x1d, 0x23];

const BOOLEAN: u8 = 0x01;
const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OCTET_STRING: u8 = 0x04;
const OBJECT_IDENTIFIER: u8 = 0x06;
const GENERALIZED_TIME: u8 = 0x18;
const UTC_TIME: u8 = 0x17;
const SEQUENCE: u8 = 0x30;
const VERSION: u8 = 0xa0;
const EXTENSIONS: u8 = 0xa3;

impl Authority {
    /// The certificate, in PEM and without its authority, for whoever made `request` (PEM), good for `usages` as
    /// `certificates.k8s.io` names them.
    pub fn sign_request(&self, request: &str, usages: &[String], lifetime: Duration) -> Result<String, String> {
        let (_, block) = parse_x509_pem(request.as_bytes()).map_err(|why| format!("the request is no PEM: {why}"))?;
        let (_, parsed) = X509CertificationRequest::from_der(&block.contents)
            .map_err(|why| format!("the request cannot be read: {why}"))?;
        parsed.verify_signature().map_err(|_| "the request was not signed with its own key".to_owned())?;
        let model = self.model().map_err(|why| why.to_string())?;
        let (_, model) = X509Certificate::from_der(&model).map_err(|why| why.to_string())?;
        let now = Timestamp::now();
        let end = if lifetime < SHORT { now + lifetime } else { now + lifetime - BACKDATE };
        let end = end.min(self.end().ok_or("the authority has no end")?);
        if end <= now {
            return Err("the signer has expired".to_owned());
        }
        let info = &parsed.certification_request_info;
        let algorithm = algorithm(&model);
        let mut extensions = vec![
            usage_extension(usages),
            purpose_extension(usages),
            Some(extension(OID_BASIC_CONSTRAINTS, true, &tlv(SEQUENCE, &[]))),
        ];
        let authority_key = model.get_extension_unique(&OID_X509_EXT_AUTHORITY_KEY_IDENTIFIER).ok().flatten();
        extensions.push(authority_key.map(|it| extension(OID_AUTHORITY_KEY, false, it.value)));
        extensions.push(alternative_names(&parsed));
        let to_sign = tlv(
            SEQUENCE,
            &[
                tlv(VERSION, &tlv(INTEGER, &[2])),
                tlv(INTEGER, &serial()?),
                algorithm.clone(),
                model.issuer().as_raw().to_vec(),
                tlv(SEQUENCE, &[time(now - BACKDATE), time(end)].concat()),
                info.subject.as_raw().to_vec(),
                info.subject_pki.raw.to_vec(),
                tlv(EXTENSIONS, &tlv(SEQUENCE, &extensions.into_iter().flatten().collect::<Vec<_>>().concat())),
            ]
            .concat(),
        );
        let signature = self.issuer.key().sign(&to_sign).map_err(|why| why.to_string())?;
        let signature = tlv(BIT_STRING, &[vec![0], signature].concat());
        Ok(pem(&tlv(SEQUENCE, &[to_sign, algorithm, signature].concat())))
    }

    /// A certificate of no use, to see how this authority names itself and its algorithm.
    fn model(&self) -> Result<Vec<u8>, rcgen::Error> {
        let key = KeyPair::generate()?;
        let mut params = CertificateParams::default();
        params.use_authority_key_identifier_extension = true;
        Ok(params.signed_by(&key, &self.issuer)?.der().to_vec())
    }

    /// When it is no longer believed.
    fn end(&self) -> Option<Timestamp> {
        let chain = self.der();
        let (_, own) = X509Certificate::from_der(chain.first()?).ok()?;
        Timestamp::from_second(own.validity().not_after.timestamp()).ok()
    }
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

fn alternative_names(request: &X509CertificationRequest<'_>) -> Option<Vec<u8>> {
    let attributes = request.certification_request_info.iter_attributes();
    let asked = attributes.filter_map(|attribute| match attribute.parsed_attribute() {
        x509_parser::cri_attributes::ParsedCriAttribute::ExtensionRequest(asked) => Some(&asked.extensions),
        _ => None,
    });
    let mut names = asked.flatten().filter(|it| it.oid == OID_X509_EXT_SUBJECT_ALT_NAME);
    // Who has no subject is known by these alone.
    let critical = request.certification_request_info.subject.iter().next().is_none();
    names.next().map(|names| extension(OID_SUBJECT_ALT_NAME, critical, names.value))
}

fn usage_extension(usages: &[String]) -> Option<Vec<u8>> {
    let named = USAGES.iter().filter(|(name, _)| usages.iter().any(|usage| usage == name));
    let bits = named.fold(0u16, |bits, (_, bit)| bits | 0x8000 >> bit);
    if bits == 0 {
        return None;
    }
    let bytes = bits.to_be_bytes();
    let used = if bytes[1] == 0 { &bytes[..1] } else { &bytes[..] };
    let unused = u8::try_from(used[used.len() - 1].trailing_zeros()).unwrap_or_default();
    Some(extension(OID_KEY_USAGE, true, &tlv(BIT_STRING, &[&[unused], used].concat())))
}

fn purpose_extension(usages: &[String]) -> Option<Vec<u8>> {
    let named = usages.iter().filter_map(|usage| PURPOSES.iter().find(|(name, _)| name == usage));
    let purposes: Vec<u8> = named.flat_map(|(_, oid)| tlv(OBJECT_IDENTIFIER, oid)).collect();
    (!purposes.is_empty()).then(|| extension(OID_EXTENDED_KEY_USAGE, false, &tlv(SEQUENCE, &purposes)))
}

fn extension(oid: &[u8], critical: bool, value: &[u8]) -> Vec<u8> {
    let mut content = tlv(OBJECT_IDENTIFIER, oid);
    if critical {
        content.extend(tlv(BOOLEAN, &[0xff]));
    }
    content.extend(tlv(OCTET_STRING, value));
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

/// Years from 2050 on need four digits (RFC 5280 section 4.1.2.5).
fn time(moment: Timestamp) -> Vec<u8> {
    let year = moment.to_zoned(jiff::tz::TimeZone::UTC).year();
    match year < 2050 {
        true => tlv(UTC_TIME, moment.strftime("%y%m%d%H%M%SZ").to_string().as_bytes()),
        false => tlv(GENERALIZED_TIME, moment.strftime("%Y%m%d%H%M%SZ").to_string().as_bytes()),
    }
}

/// Tag, length and value (X.690).
fn tlv(tag: u8, content: &[u8]) -> Vec<u8> {
    let length = content.len();
    let mut out = vec![tag];
    match u8::try_from(length) {
        Ok(short) if short < 0x80 => out.push(short),
        _ => {
            let bytes = length.to_be_bytes();
            let used = &bytes[bytes.iter().position(|byte| *byte != 0).unwrap_or_default()..];
            out.push(0x80 | u8::try_from(used.len()).unwrap_or_default());
            out.extend_from_slice(used);
        }
    }
    out.extend_from_slice(content);
    out
}

fn pem(der: &[u8]) -> String {
    use base64::Engine as _;
    let text = base64::engine::general_purpose::STANDARD.encode(der);
    let mut out = String::from("-----BEGIN CERTIFICATE-----\n");
    for line in text.as_bytes().chunks(64) {
        out.push_str(&String::from_utf8_lossy(line));
        out.push('\n');
    }
    out + "-----END CERTIFICATE-----\n"
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::GeneralName;

    use super::*;

    #[test]
    fn a_certificate_says_what_was_asked_and_no_more() {
        let dir = tempfile::tempdir().unwrap();
        let authority =
            Authority::load_or_create(&dir.path().join("a.crt"), &dir.path().join("a.key"), "test").unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["node.example".to_owned(), "10.0.0.1".to_owned()]).unwrap();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.distinguished_name.push(rcgen::DnType::CommonName, "bob");
        params.distinguished_name.push(rcgen::DnType::OrganizationName, "dev");
        // A second one of the same kind, which the model knows by another name.
        params.distinguished_name.push(rcgen::DnType::CustomDnType(vec![2, 5, 4, 10]), "ops");
        let request = params.serialize_request(&key).unwrap().pem().unwrap();
        let usages = ["digital signature", "key encipherment", "client auth"].map(str::to_owned);
        let text = authority.sign_request(&request, &usages, Duration::from_secs(3600)).unwrap();

        let (_, block) = parse_x509_pem(text.as_bytes()).unwrap();
        let (rest, certificate) = X509Certificate::from_der(&block.contents).unwrap();
        assert!(rest.is_empty());
        let own = authority.der();
        let (_, own) = X509Certificate::from_der(&own[0]).unwrap();
        certificate.verify_signature(Some(own.public_key())).unwrap();
        assert_eq!(certificate.issuer(), own.subject());
        assert_eq!(certificate.subject().iter_common_name().next().unwrap().as_str().unwrap(), "bob");
        let groups: Vec<&str> = certificate.subject().iter_organization().map(|it| it.as_str().unwrap()).collect();
        assert_eq!(groups, ["dev", "ops"]);
        let left = certificate.validity().not_after.timestamp() - Timestamp::now().as_second();
        assert!((3590..=3600).contains(&left), "{left}");
        let usage = certificate.key_usage().unwrap().unwrap().value;
        assert!(usage.digital_signature() && usage.key_encipherment() && !usage.key_cert_sign());
        let purpose = certificate.extended_key_usage().unwrap().unwrap().value;
        assert!(purpose.client_auth && !purpose.server_auth);
        assert!(!certificate.is_ca());
        let names = certificate.subject_alternative_name().unwrap().unwrap();
        assert!(matches!(
            names.value.general_names[..],
            [GeneralName::DNSName("node.example"), GeneralName::IPAddress(_)]
        ));
    }

    #[test]
    fn a_request_that_somebody_changed_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let authority =
            Authority::load_or_create(&dir.path().join("a.crt"), &dir.path().join("a.key"), "test").unwrap();
        let key = KeyPair::generate().unwrap();
        let request = CertificateParams::new(vec!["a".to_owned()]).unwrap().serialize_request(&key).unwrap();
        let mut der = request.der().to_vec();
        let last = der.len() - 1;
        der[last] ^= 1;
        let text = pem(&der).replace("CERTIFICATE", "CERTIFICATE REQUEST");
        assert!(authority.sign_request(&text, &[], Duration::from_secs(3600)).is_err());
        assert!(authority.sign_request("nonsense", &[], Duration::from_secs(3600)).is_err());
    }
}
