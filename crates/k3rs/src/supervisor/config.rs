//! What all nodes of a cluster must agree on, and where its servers are.

use std::net::IpAddr;

use api::object::ObjectKey;
use api::status::Status;
use client::request::Requests;
use client::typed::resource_of;
use ipnet::IpNet;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// Told to agents, which need no flags for it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct ClusterConfig {
    pub cluster_cidrs: Vec<IpNet>,
    pub service_cidrs: Vec<IpNet>,
    pub cluster_dns: Vec<IpAddr>,
    pub cluster_domain: String,
}

impl ClusterConfig {
    pub(super) fn to_json(&self) -> Value {
        serde_json::to_value(self).expect("lists and texts have a JSON form")
    }
}

/// The addresses of the API servers, as they published them.
pub(super) async fn api_servers(api: &kube::Client) -> Result<Vec<String>, Status> {
    let key = ObjectKey::new("default", "kubernetes");
    match Requests::new(api.clone()).get(&resource_of::<EndpointSlice>(), &key).await {
        Ok(slice) => Ok(addresses(&slice)),
        Err(why) if why.is_not_found() => Ok(Vec::new()),
        Err(why) => Err(Status::unavailable(format!("the list of servers cannot be read: {why}"))),
    }
}

/// `ADDRESS:PORT` of each endpoint that is ready.
pub(crate) fn addresses(slice: &Value) -> Vec<String> {
    let ports = slice["ports"].as_array().into_iter().flatten();
    let port = ports.filter(|port| port["name"] == "https").find_map(|port| port["port"].as_u64()).unwrap_or(6443);
    let endpoints = slice["endpoints"].as_array().into_iter().flatten();
    let ready = endpoints.filter(|endpoint| endpoint["conditions"]["ready"] != Value::Bool(false));
    let found = ready.flat_map(|endpoint| endpoint["addresses"].as_array().into_iter().flatten());
    let text = |address: &Value| match address.as_str()?.parse().ok()? {
        IpAddr::V4(ip) => Some(format!("{ip}:{port}")),
        IpAddr::V6(ip) => Some(format!("[{ip}]:{port}")),
    };
    found.filter_map(text).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn servers_are_the_endpoints_that_are_ready() {
        let slice = json!({
            "ports": [{"name": "metrics", "port": 9}, {"name": "https", "port": 6443}],
            "endpoints": [
                {"addresses": ["192.0.2.1"], "conditions": {"ready": true}},
                {"addresses": ["192.0.2.2"], "conditions": {"ready": false}},
                {"addresses": ["2001:db8::1"]},
            ],
        });
        assert_eq!(addresses(&slice), ["192.0.2.1:6443", "[2001:db8::1]:6443"]);
    }
}
