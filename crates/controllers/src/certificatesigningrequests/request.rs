//! What a PKCS #10 request asks for, and what kubelets may.

use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::prelude::{FromDer, GeneralName, ParsedExtension, parse_x509_pem};
use x509_parser::x509::AttributeTypeAndValue;

const NODES: &str = "system:nodes";
const NODE: &str = "system:node:";

#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Requested {
    pub(super) common_name: String,
    pub(super) organizations: Vec<String>,
    /// How many alternative names there are of each kind.
    pub(super) dns: usize,
    pub(super) addresses: usize,
    pub(super) emails: usize,
    pub(super) uris: usize,
}

impl Requested {
    pub(super) fn read(pem: &str) -> Option<Self> {
        let (_, block) = parse_x509_pem(pem.as_bytes()).ok()?;
        if block.label != "CERTIFICATE REQUEST" {
            return None;
        }
        let (_, request) = X509CertificationRequest::from_der(&block.contents).ok()?;
        let subject = &request.certification_request_info.subject;
        let text = |value: &AttributeTypeAndValue<'_>| value.as_str().unwrap_or_default().to_owned();
        let mut requested = Self {
            common_name: subject.iter_common_name().map(text).last().unwrap_or_default(),
            organizations: subject.iter_organization().map(text).collect(),
            ..Self::default()
        };
        for extension in request.requested_extensions().into_iter().flatten() {
            let ParsedExtension::SubjectAlternativeName(names) = extension else { continue };
            for name in &names.general_names {
                match name {
                    GeneralName::DNSName(_) => requested.dns += 1,
                    GeneralName::IPAddress(_) => requested.addresses += 1,
                    GeneralName::RFC822Name(_) => requested.emails += 1,
                    GeneralName::URI(_) => requested.uris += 1,
                    _ => {}
                }
            }
        }
        Some(requested)
    }

    /// Whether this may be a kubelet's client certificate.
    pub(super) fn check_kubelet_client(&self, usages: &[String]) -> Result<(), String> {
        self.check_organization()?;
        for (count, what) in [(self.dns, "DNS"), (self.emails, "Email"), (self.addresses, "IP"), (self.uris, "URI")] {
            if count > 0 {
                return Err(format!("{what} subjectAltNames are not allowed"));
            }
        }
        self.check_name()?;
        check_usages(usages, "client auth")
    }

    /// Whether this may be a kubelet's serving certificate.
    pub(super) fn check_kubelet_serving(&self, usages: &[String]) -> Result<(), String> {
        self.check_organization()?;
        if self.dns == 0 && self.addresses == 0 {
            return Err("DNS or IP subjectAltName is required".to_owned());
        }
        for (count, what) in [(self.emails, "Email"), (self.uris, "URI")] {
            if count > 0 {
                return Err(format!("{what} subjectAltNames are not allowed"));
            }
        }
        check_usages(usages, "server auth")?;
        self.check_name()
    }

    fn check_organization(&self) -> Result<(), String> {
        match self.organizations.as_slice() {
            [only] if only == NODES => Ok(()),
            _ => Err(format!("subject organization is not {NODES}")),
        }
    }

    fn check_name(&self) -> Result<(), String> {
        if self.common_name.starts_with(NODE) {
            return Ok(());
        }
        Err(format!("subject common name does not begin with {NODE}"))
    }
}

/// Digital signature, perhaps key encipherment, and what it is for.
fn check_usages(usages: &[String], purpose: &str) -> Result<(), String> {
    let wanted = ["digital signature", "key encipherment", purpose];
    let has = |usage: &str| usages.iter().any(|it| it == usage);
    let known = usages.iter().all(|usage| wanted.contains(&usage.as_str()));
    if known && has(wanted[0]) && has(purpose) {
        return Ok(());
    }
    let mut sorted = wanted;
    sorted.sort_unstable();
    Err(format!("usages did not match [{}]", sorted.join(" ")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kubelets_may_ask_for_themselves_alone() {
        let usages = |list: &[&str]| list.iter().map(|&usage| usage.to_owned()).collect::<Vec<_>>();
        let (client, server) = (
            usages(&["digital signature", "client auth"]),
            usages(&["digital signature", "key encipherment", "server auth"]),
        );
        let node = Requested {
            common_name: "system:node:n".into(),
            organizations: vec![NODES.into()],
            ..Requested::default()
        };
        assert_eq!(node.check_kubelet_client(&client), Ok(()));
        assert_eq!(node.check_kubelet_serving(&server).unwrap_err(), "DNS or IP subjectAltName is required");
        let named = Requested { dns: 1, ..node.clone() };
        assert_eq!(named.check_kubelet_serving(&server), Ok(()));
        assert_eq!(named.check_kubelet_client(&client).unwrap_err(), "DNS subjectAltNames are not allowed");
        assert!(node.check_kubelet_client(&server).unwrap_err().starts_with("usages did not match [client auth"));
        let other = Requested { organizations: vec!["system:masters".into()], ..node.clone() };
        assert!(other.check_kubelet_client(&client).is_err());
        let two = Requested { organizations: vec![NODES.into(), "x".into()], ..node.clone() };
        assert!(two.check_kubelet_client(&client).is_err());
        let user = Requested { common_name: "bob".into(), ..node };
        assert!(user.check_kubelet_client(&client).is_err());
        assert_eq!(Requested::read("nonsense"), None);
    }
}
