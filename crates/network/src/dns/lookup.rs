//! The addresses of a host by name, as this machine's `/etc/hosts` and resolvers know them. The C library would load
//! code for this, which a static binary cannot.

use std::io;
use std::net::IpAddr;

use hickory_proto::op::{Message, MessageType, OpCode, Query};
use hickory_proto::rr::{Name, RData, RecordType};

use super::forward::{Forwarder, upstreams};

const HOSTS: &str = "/etc/hosts";
const RESOLVERS: &str = "/etc/resolv.conf";

/// The addresses of `host`, IPv4 first.
pub async fn host_addresses(host: &str) -> io::Result<Vec<IpAddr>> {
    let read = |path| std::fs::read_to_string(path).unwrap_or_default();
    let found = in_hosts(&read(HOSTS), host);
    if !found.is_empty() {
        return Ok(found);
    }
    let resolvers = read(RESOLVERS);
    let forwarder = Forwarder::new(&upstreams(&resolvers, &[]));
    for name in candidates(&resolvers, host) {
        let (four, six) = tokio::join!(ask(&forwarder, &name, RecordType::A), ask(&forwarder, &name, RecordType::AAAA));
        let found: Vec<IpAddr> = four.into_iter().chain(six).flatten().collect();
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Err(io::Error::new(io::ErrorKind::NotFound, format!("the name {host} has no address")))
}

/// What hosts(5) says of a name.
fn in_hosts(hosts: &str, name: &str) -> Vec<IpAddr> {
    let lines = hosts.lines().filter_map(|line| {
        let mut words = line.split('#').next()?.split_whitespace();
        let address = words.next()?.parse().ok()?;
        words.any(|word| word.eq_ignore_ascii_case(name)).then_some(address)
    });
    lines.collect()
}

/// The names to ask for: with a dot in it a name is first asked for as it is, without one last (resolv.conf(5)).
fn candidates(resolv_conf: &str, host: &str) -> Vec<String> {
    let searched = resolv_conf.lines().filter_map(|line| line.trim().strip_prefix("search ")).next_back();
    let searched = searched.into_iter().flat_map(str::split_whitespace).map(|domain| format!("{host}.{domain}"));
    let absolute = host.trim_end_matches('.').to_owned();
    match (host.ends_with('.'), absolute.contains('.')) {
        (true, _) => vec![absolute],
        (_, true) => std::iter::once(absolute).chain(searched).collect(),
        (_, false) => searched.chain([absolute]).collect(),
    }
}

/// None if nobody answers.
async fn ask(forwarder: &Forwarder, name: &str, kind: RecordType) -> Option<Vec<IpAddr>> {
    let mut name = Name::from_utf8(name).ok()?;
    name.set_fqdn(true);
    // The number is put in by the forwarder.
    let mut message = Message::new(0, MessageType::Query, OpCode::Query);
    message.metadata.recursion_desired = true;
    message.add_query(Query::query(name, kind));
    let answer = Message::from_vec(&forwarder.ask(&message.to_vec().ok()?, false).await?).ok()?;
    let addresses = answer.answers.iter().filter_map(|record| match &record.data {
        RData::A(address) => Some(IpAddr::V4(address.0)),
        RData::AAAA(address) => Some(IpAddr::V6(address.0)),
        _ => None,
    });
    Some(addresses.collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_hosts_file_knows_names_in_any_case() {
        let hosts = "127.0.0.1 localhost\n# 192.0.2.9 s1\n192.0.2.1\ts1.example S1 # the first\n2001:db8::1 s1\n";
        let found = in_hosts(hosts, "s1");
        assert_eq!(found, ["192.0.2.1", "2001:db8::1"].map(|ip| ip.parse::<IpAddr>().unwrap()));
        assert!(in_hosts(hosts, "first").is_empty());
    }

    #[test]
    fn short_names_are_searched_for_first() {
        let conf = "nameserver 192.0.2.53\nsearch a.example b.example\n";
        assert_eq!(candidates(conf, "s1"), ["s1.a.example", "s1.b.example", "s1"]);
        assert_eq!(candidates(conf, "s1.c"), ["s1.c", "s1.c.a.example", "s1.c.b.example"]);
        assert_eq!(candidates(conf, "s1."), ["s1"]);
    }
}
