//! The administrator's kubeconfig, as k3s writes it.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use serde_json::{Value, json};

use crate::certificates::Pair;

/// One cluster, one user, one context, all named `name`, with everything embedded. The server is asked for by `host`,
/// where it shows the certificate of its `authority` only to those who do.
pub fn document(name: &str, server: &str, host: Option<&str>, authority: &str, user: &Pair) -> Value {
    let mut cluster = json!({"certificate-authority-data": STANDARD.encode(authority), "server": server});
    if let Some(host) = host {
        cluster["tls-server-name"] = json!(host);
    }
    json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": name,
            "cluster": cluster,
        }],
        "contexts": [{"name": name, "context": {"cluster": name, "user": name}}],
        "current-context": name,
        "users": [{
            "name": name,
            "user": {
                "client-certificate-data": STANDARD.encode(&user.certificate),
                "client-key-data": STANDARD.encode(&user.key),
            },
        }],
    })
}
