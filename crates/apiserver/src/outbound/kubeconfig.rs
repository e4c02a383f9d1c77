//! Whom a kubeconfig tells to call, and what to show there: webhooks that are named by flags.

use std::path::Path;
use std::sync::Arc;

use api::codec::yaml;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderValue;
use rustls::sign::CertifiedKey;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use serde_json::Value;

use super::{Address, Callee, client_config, unverified_config};

/// The server of a kubeconfig's current context, and what it is shown.
pub(crate) fn kubeconfig(path: &Path) -> Result<(Callee, Option<HeaderValue>), String> {
    let text = std::fs::read_to_string(path).map_err(|why| why.to_string())?;
    let config = yaml::parse(&text).map_err(|why| why.to_string())?;
    let named = |list: &str, name: &Value| {
        let found = config[list].as_array().into_iter().flatten().find(|it| it["name"] == *name);
        found.cloned().unwrap_or_default()
    };
    let context = named("contexts", &config["current-context"]);
    let context = if context.is_null() { config["contexts"][0].clone() } else { context };
    let cluster = named("clusters", &context["context"]["cluster"])["cluster"].take();
    let user = named("users", &context["context"]["user"])["user"].take();
    let url = cluster["server"].as_str().ok_or("its context names no cluster with a server")?;
    let address = Address::parse(url).map_err(|why| why.to_string())?;
    // Beside the file, if not said from the root on.
    let folder = path.parent().unwrap_or(Path::new("/"));
    let bytes = |from: &Value, field: &str| -> Result<Option<Vec<u8>>, String> {
        if let Some(text) = from[format!("{field}-data")].as_str() {
            return STANDARD.decode(text).map(Some).map_err(|why| format!("{field}-data: {why}"));
        }
        let Some(file) = from[field].as_str() else { return Ok(None) };
        std::fs::read(folder.join(file)).map(Some).map_err(|why| format!("{field} {file}: {why}"))
    };
    let client = match (bytes(&user, "client-certificate")?, bytes(&user, "client-key")?) {
        (Some(certificate), Some(key)) => Some(Arc::new(certified(&certificate, &key)?)),
        _ => None,
    };
    let tls = match cluster["insecure-skip-tls-verify"] == true {
        true => unverified_config(client),
        false => {
            let authority = bytes(&cluster, "certificate-authority")?.unwrap_or_default();
            client_config(&authority, client).map_err(|why| why.to_string())?
        }
    };
    let token = match user["token"].as_str() {
        Some(token) => Some(token.to_owned()),
        None => bytes(&user, "tokenFile")?.map(|bytes| String::from_utf8_lossy(&bytes).trim().to_owned()),
    };
    let authorization = token.map(|token| HeaderValue::from_str(&format!("Bearer {token}"))).transpose();
    Ok((Callee { address, tls }, authorization.map_err(|_| "its token cannot stand in a header")?))
}

fn certified(certificate: &[u8], key: &[u8]) -> Result<CertifiedKey, String> {
    let chain: Vec<CertificateDer<'static>> =
        CertificateDer::pem_slice_iter(certificate).collect::<Result<_, _>>().map_err(|why| why.to_string())?;
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|why| why.to_string())?;
    let key = rustls::crypto::ring::sign::any_supported_type(&key).map_err(|why| why.to_string())?;
    Ok(CertifiedKey::new(chain, key))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kubeconfig_says_whom_to_ask() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("config");
        let write = |text: &str| std::io::Write::write_all(&mut std::fs::File::create(&path).unwrap(), text.as_bytes());
        write(
            "current-context: two\ncontexts:\n- {name: one, context: {cluster: x}}\n- {name: two, context: {cluster: a, user: \
             u}}\nclusters:\n- name: a\n  cluster: {server: 'https://auth.example:8443/check', insecure-skip-tls-verify: \
             true}\nusers:\n- {name: u, user: {token: secret}}\n",
        )
        .unwrap();
        let (callee, authorization) = kubeconfig(&path).unwrap();
        assert_eq!((callee.address.host().as_str(), callee.address.path()), ("auth.example:8443", "/check"));
        assert_eq!(authorization.unwrap(), "Bearer secret");
        write("contexts: []").unwrap();
        assert_eq!(kubeconfig(&path).err().unwrap(), "its context names no cluster with a server");
    }
}
