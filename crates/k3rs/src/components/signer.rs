//! The cluster's own signers of certificates: by whose key each signs, as k3s does.

use std::fmt;
use std::sync::Arc;

use ::controllers::certificatesigningrequests::{Order, Sign};

use crate::certificates::Authority;

/// Signs with the authorities of the cluster.
pub struct Signer {
    client: Arc<Authority>,
    server: Arc<Authority>,
}

impl Signer {
    pub fn new(client: Arc<Authority>, server: Arc<Authority>) -> Self {
        Self { client, server }
    }
}

/// Without the keys.
impl fmt::Debug for Signer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Signer")
    }
}

impl Sign for Signer {
    fn sign(&self, order: &Order<'_>) -> Result<String, String> {
        let authority = match order.signer {
            "kubernetes.io/kube-apiserver-client" | "kubernetes.io/kube-apiserver-client-kubelet" => &self.client,
            "kubernetes.io/kubelet-serving" | "kubernetes.io/legacy-unknown" => &self.server,
            other => return Err(format!("nobody here signs for {other}")),
        };
        authority.sign_request(order.request, order.usages, order.lifetime)
    }
}
