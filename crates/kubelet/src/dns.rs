//! What a pod's names resolve by: its resolver configuration, its hosts file, its own name.

use std::collections::BTreeSet;
use std::net::IpAddr;

use api::cri::DnsConfig;
use k8s_openapi::api::core::v1::{HostAlias, Pod, PodSpec};

use crate::pods::spec;

/// Upstream's limit of search domains since 1.28, and the resolver's of name servers.
const MOST_SEARCHES: usize = 32;
const MOST_SERVERS: usize = 3;
/// A host name's longest label.
const LONGEST_LABEL: usize = 63;

pub(crate) struct Cluster<'a> {
    pub(crate) servers: &'a [IpAddr],
    pub(crate) domain: &'a str,
    /// The text of the node's resolver configuration.
    pub(crate) node: &'a str,
}

/// The resolver configuration that the pod's dnsPolicy and dnsConfig ask for.
pub(crate) fn config(pod: &Pod, cluster: &Cluster<'_>) -> DnsConfig {
    let spec = spec::spec(pod);
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let host_network = spec.host_network == Some(true);
    let mut dns = match spec.dns_policy.as_deref().unwrap_or("ClusterFirst") {
        "None" => DnsConfig::default(),
        "ClusterFirst" if !host_network && !cluster.servers.is_empty() => cluster_first(namespace, cluster),
        "ClusterFirstWithHostNet" if !cluster.servers.is_empty() => cluster_first(namespace, cluster),
        _ => parse(cluster.node),
    };
    if let Some(own) = &spec.dns_config {
        dns.servers.extend(own.nameservers.iter().flatten().cloned());
        dns.searches.extend(own.searches.iter().flatten().cloned());
        for option in own.options.iter().flatten() {
            let Some(name) = option.name.as_deref() else { continue };
            let same = |known: &String| known.split(':').next() == Some(name);
            dns.options.retain(|known| !same(known));
            dns.options.push(match option.value.as_deref() {
                Some(value) if !value.is_empty() => format!("{name}:{value}"),
                _ => name.to_owned(),
            });
        }
    }
    let mut seen = BTreeSet::new();
    dns.servers.retain(|server| seen.insert(server.clone()));
    dns.searches.retain(|search| seen.insert(search.clone()));
    dns.servers.truncate(MOST_SERVERS);
    dns.searches.truncate(MOST_SEARCHES);
    dns
}

fn cluster_first(namespace: &str, cluster: &Cluster<'_>) -> DnsConfig {
    let domain = cluster.domain;
    let mut searches = vec![format!("{namespace}.svc.{domain}"), format!("svc.{domain}"), domain.to_owned()];
    searches.extend(parse(cluster.node).searches);
    DnsConfig {
        servers: cluster.servers.iter().map(ToString::to_string).collect(),
        searches,
        options: vec!["ndots:5".to_owned()],
    }
}

/// Reads a resolver configuration file.
fn parse(text: &str) -> DnsConfig {
    let mut dns = DnsConfig::default();
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match words.next() {
            Some("nameserver") => dns.servers.extend(words.next().map(str::to_owned)),
            // The last line wins.
            Some("search") => {
                dns.searches = words.filter(|it| *it != ".").map(|it| it.trim_end_matches('.').to_owned()).collect();
            }
            Some("options") => dns.options.extend(words.map(str::to_owned)),
            _ => {}
        }
    }
    dns
}

/// The pod's host name and, where it has a subdomain, its domain.
pub(crate) fn host_name(pod: &Pod, cluster_domain: &str) -> (String, String) {
    let spec = spec::spec(pod);
    if let Some(name) = spec.hostname_override.clone().filter(|name| !name.is_empty()) {
        return (name, String::new());
    }
    let name = pod.metadata.name.as_deref().unwrap_or_default();
    let named = spec.hostname.clone().filter(|name| !name.is_empty());
    let host = named.unwrap_or_else(|| {
        let cut: String = name.chars().take(LONGEST_LABEL).collect();
        cut.trim_end_matches(['-', '.']).to_owned()
    });
    let namespace = pod.metadata.namespace.as_deref().unwrap_or_default();
    let subdomain = spec.subdomain.as_deref().filter(|it| !it.is_empty());
    let domain = subdomain.map(|it| format!("{it}.{namespace}.svc.{cluster_domain}")).unwrap_or_default();
    (host, domain)
}

/// What the kernel's host name is set to inside the pod.
pub(crate) fn kernel_host_name(pod: &Pod, cluster_domain: &str) -> String {
    let (host, domain) = host_name(pod, cluster_domain);
    let as_fqdn = pod.spec.as_ref().and_then(|spec: &PodSpec| spec.set_hostname_as_fqdn) == Some(true);
    if as_fqdn && !domain.is_empty() { format!("{host}.{domain}") } else { host }
}

/// The pod's `/etc/hosts`. `node` is the node's own, which a pod with the host's network gets.
pub(crate) fn hosts_file(pod: &Pod, ips: &[String], cluster_domain: &str, node: &str) -> String {
    let spec = spec::spec(pod);
    let mut text = if spec.host_network == Some(true) {
        format!("# Kubernetes-managed hosts file (host network).\n{node}")
    } else {
        let (host, domain) = host_name(pod, cluster_domain);
        let mut text = "# Kubernetes-managed hosts file.\n\
                        127.0.0.1\tlocalhost\n\
                        ::1\tlocalhost ip6-localhost ip6-loopback\n\
                        fe00::0\tip6-localnet\n\
                        fe00::0\tip6-mcastprefix\n\
                        fe00::1\tip6-allnodes\n\
                        fe00::2\tip6-allrouters\n"
            .to_owned();
        for ip in ips {
            let names = if domain.is_empty() { host.clone() } else { format!("{host}.{domain}\t{host}") };
            text += &format!("{ip}\t{names}\n");
        }
        text
    };
    let aliases: &[HostAlias] = spec.host_aliases.as_deref().unwrap_or_default();
    if !aliases.is_empty() {
        text += "\n# Entries added by HostAliases.\n";
        for alias in aliases {
            let names = alias.hostnames.as_deref().unwrap_or_default();
            text += &format!("{}\t{}\n", alias.ip, names.join("\t"));
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;
    use expect_test::{Expect, expect};
    use serde_json::{Value, json};

    fn pod(spec: Value) -> Pod {
        let mut spec = spec;
        spec["containers"] = json!([]);
        serde_json::from_value(json!({"metadata": {"name": "web-0", "namespace": "shop"}, "spec": spec})).unwrap()
    }

    fn check(spec: Value, expect: Expect) {
        let servers = ["10.43.0.10".parse().unwrap()];
        let node = "nameserver 1.1.1.1\nsearch old\nsearch corp.example. lan\noptions timeout:2 rotate\n";
        let dns = config(&pod(spec), &Cluster { servers: &servers, domain: "cluster.local", node });
        expect.assert_eq(&format!(
            "{}\n{}\n{}\n",
            dns.servers.join(" "),
            dns.searches.join(" "),
            dns.options.join(" ")
        ));
    }

    #[test]
    fn each_policy_gives_its_resolver() {
        check(
            json!({}),
            expect![[r"
                10.43.0.10
                shop.svc.cluster.local svc.cluster.local cluster.local corp.example lan
                ndots:5
            "]],
        );
        check(
            json!({"dnsPolicy": "ClusterFirst", "hostNetwork": true}),
            expect![[r"
                1.1.1.1
                corp.example lan
                timeout:2 rotate
            "]],
        );
        check(
            json!({"dnsPolicy": "None", "dnsConfig": {
                "nameservers": ["9.9.9.9"], "searches": ["a.b"], "options": [{"name": "ndots", "value": "2"}, {"name": "debug"}],
            }}),
            expect![[r"
                9.9.9.9
                a.b
                ndots:2 debug
            "]],
        );
        check(
            json!({"dnsConfig": {"options": [{"name": "ndots", "value": "1"}]}}),
            expect![[r"
                10.43.0.10
                shop.svc.cluster.local svc.cluster.local cluster.local corp.example lan
                ndots:1
            "]],
        );
    }

    #[test]
    fn the_hosts_file_names_the_pod_and_its_aliases() {
        let spec = json!({
            "hostname": "db", "subdomain": "dbs",
            "hostAliases": [{"ip": "1.2.3.4", "hostnames": ["foo", "bar"]}],
        });
        let text = hosts_file(&pod(spec), &["10.42.0.7".to_owned()], "cluster.local", "127.0.0.1 node\n");
        expect![[r"
            # Kubernetes-managed hosts file.
            127.0.0.1	localhost
            ::1	localhost ip6-localhost ip6-loopback
            fe00::0	ip6-localnet
            fe00::0	ip6-mcastprefix
            fe00::1	ip6-allnodes
            fe00::2	ip6-allrouters
            10.42.0.7	db.dbs.shop.svc.cluster.local	db

            # Entries added by HostAliases.
            1.2.3.4	foo	bar
        "]]
        .assert_eq(&text);
        let text = hosts_file(&pod(json!({"hostNetwork": true})), &[], "cluster.local", "127.0.0.1 node\n");
        assert_eq!(text, "# Kubernetes-managed hosts file (host network).\n127.0.0.1 node\n");
    }
}
