//! Certificates for those who ask with a PKCS #10 request: subject and alternative names are theirs, byte for byte; what
//! the certificate is good for, and how long, is not.

use std::time::Duration;

use jiff::Timestamp;
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::oid_registry::OID_X509_EXT_SUBJECT_ALT_NAME;
use x509_parser::prelude::{FromDer, X509Certificate, parse_x509_pem};

use super::Authority;
use super::der::{extension, pem};
use super::leaf::{self, Leaf, OID_SUBJECT_ALT_NAME};

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

impl Authority {
    /// The certificate, in PEM and without its authority, for whoever made `request` (PEM), good for `usages` as
    /// `certificates.k8s.io` names them.
    pub fn sign_request(&self, request: &str, usages: &[String], lifetime: Duration) -> Result<String, String> {
        let (_, block) = parse_x509_pem(request.as_bytes()).map_err(|why| format!("the request is no PEM: {why}"))?;
        let (_, parsed) = X509CertificationRequest::from_der(&block.contents)
            .map_err(|why| format!("the request cannot be read: {why}"))?;
        parsed.verify_signature().map_err(|_| "the request was not signed with its own key".to_owned())?;
        let now = Timestamp::now();
        let end = if lifetime < SHORT { now + lifetime } else { now + lifetime - BACKDATE };
        let end = end.min(self.end().ok_or("the authority has no end")?);
        if end <= now {
            return Err("the signer has expired".to_owned());
        }
        let info = &parsed.certification_request_info;
        let bits = USAGES.iter().filter(|(name, _)| usages.iter().any(|usage| usage == name));
        let purposes = usages.iter().filter_map(|usage| PURPOSES.iter().find(|(name, _)| name == usage));
        let written = self.write(Leaf {
            subject: info.subject.as_raw(),
            key: info.subject_pki.raw,
            from: now - BACKDATE,
            until: end,
            usages: leaf::usages(bits.fold(0, |bits, (_, bit)| bits | 0x8000 >> bit)),
            purposes: leaf::purposes(purposes.map(|(_, oid)| *oid)),
            names: alternative_names(&parsed),
        })?;
        Ok(pem(&written))
    }

    /// When it is no longer believed.
    fn end(&self) -> Option<Timestamp> {
        let chain = self.der();
        let (_, own) = X509Certificate::from_der(chain.first()?).ok()?;
        Timestamp::from_second(own.validity().not_after.timestamp()).ok()
    }
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

#[cfg(test)]
mod tests {
    use rcgen::{CertificateParams, KeyPair};
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
