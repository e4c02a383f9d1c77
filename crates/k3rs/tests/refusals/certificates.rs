//! Certificates of the user's own, as flags name them.

use std::path::Path;
use std::sync::Arc;

use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::net::TcpStream;

use super::write;
use crate::server::Server;

/// Makes a certificate for a name at `FOLDER/NAME.crt`, with its key beside it.
fn make(folder: &Path, name: &str) -> CertificateDer<'static> {
    let made = rcgen::generate_simple_self_signed([name.to_owned()]).unwrap();
    write(&folder.join(format!("{name}.crt")), made.cert.pem().as_bytes());
    write(&folder.join(format!("{name}.key")), made.signing_key.serialize_pem().as_bytes());
    made.cert.der().clone()
}

/// The version and the cipher suite that are agreed on with a server that shows what `authority` vouches for.
async fn agreed(port: u16, name: &str, authority: &CertificateDer<'static>) -> Result<String, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(authority.clone()).unwrap();
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    let tls = builder.with_root_certificates(roots).with_no_client_auth();
    let socket = TcpStream::connect(("127.0.0.1", port)).await.unwrap();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(tls));
    let stream = connector.connect(ServerName::try_from(name.to_owned()).unwrap(), socket).await;
    let stream = stream.map_err(|why| why.to_string())?;
    Ok(format!("{:?}", stream.get_ref().1.protocol_version().unwrap()))
}

#[tokio::test]
async fn who_asks_by_name_is_shown_what_flags_say() {
    let home = tempfile::tempdir().unwrap();
    let folder = home.path().join("own");
    let (usual, other) = (make(&folder, "usual.example"), make(&folder, "other.example"));
    let at = |file: &str| folder.join(file).display().to_string();
    let arguments = [
        format!("tls-cert-file={}", at("usual.example.crt")),
        format!("tls-private-key-file={}", at("usual.example.key")),
        format!("tls-sni-cert-key={},{}", at("other.example.crt"), at("other.example.key")),
        "tls-min-version=VersionTLS13".to_owned(),
    ];
    let said: Vec<&str> = arguments.iter().flat_map(|it| ["--kube-apiserver-arg", it.as_str()]).collect();
    let data = home.path().join("data");
    let server = Server::start(&data, &said);
    let kubeconfig = std::fs::read_to_string(data.join("kubeconfig")).unwrap();
    let port = kubeconfig.split("https://127.0.0.1:").nth(1).unwrap();
    let port: u16 = port.chars().take_while(char::is_ascii_digit).collect::<String>().parse().unwrap();

    // The administrator's own way in does not depend on what others are shown.
    assert!(kubeconfig.contains("tls-server-name: kubernetes"), "{kubeconfig}");
    let version = Ok("TLSv1_3".to_owned());
    assert_eq!(agreed(port, "usual.example", &usual).await, version);
    assert_eq!(agreed(port, "other.example", &other).await, version);
    // Nodes know a server by this name, whatever users show each other.
    let authority = CertificateDer::from_pem_file(data.join("server/tls/server-ca.crt")).unwrap();
    assert_eq!(agreed(port, "kubernetes", &authority).await, version);
    assert!(agreed(port, "other.example", &usual).await.is_err());
    assert!(agreed(port, "localhost", &authority).await.is_err());
    drop(server.stop());
}

#[test]
fn a_certificate_that_is_not_there_is_told() {
    let home = tempfile::tempdir().unwrap();
    let arguments = ["tls-cert-file=/none.crt", "tls-private-key-file=/none.key"];
    let said: Vec<&str> = arguments.iter().flat_map(|it| ["--kube-apiserver-arg", *it]).collect();
    let told = crate::server::refused(home.path(), &said);
    assert!(told.contains("reading /none.crt: No such file"), "{told}");
}
