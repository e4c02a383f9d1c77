//! What the stored Services hold, kept up to date by reading the cache's events, so that a write of one Service does not
//! decode all others.

use std::collections::HashMap;
use std::hash::Hash;
use std::net::IpAddr;
use std::sync::Arc;

use api::object::{Entry, ObjectKey};
use serde_json::Value;

use super::{cluster_ips, node_ports};
use crate::cache::{CacheEvent, ResourceCache};

/// Events read at once.
const BATCH: usize = 256;

/// Who holds which address and port.
#[derive(Default)]
pub(super) struct Index {
    /// The place in the cache's events up to which they are in here; `None` before the first look.
    position: Option<u64>,
    by_service: HashMap<ObjectKey, Held>,
    ips: HashMap<IpAddr, ObjectKey>,
    ports: HashMap<u16, ObjectKey>,
}

/// What one Service holds.
#[derive(Default)]
struct Held {
    ips: Vec<IpAddr>,
    ports: Vec<u16>,
}

impl Index {
    pub(super) fn holder_of_ip(&self, ip: &IpAddr) -> Option<&ObjectKey> {
        self.ips.get(ip)
    }

    pub(super) fn holder_of_port(&self, port: u16) -> Option<&ObjectKey> {
        self.ports.get(&port)
    }

    /// Takes in what has happened since the last look.
    pub(super) fn catch_up(&mut self, services: &ResourceCache) {
        loop {
            let events = self.position.and_then(|position| Some((position, services.events_from(position, BATCH)?)));
            let Some((position, events)) = events else {
                let (entries, position) = services.entries_and_end();
                *self = Self { position: Some(position), ..Self::default() };
                entries.iter().for_each(|entry| self.put(entry));
                return;
            };
            if events.is_empty() {
                return;
            }
            self.position = Some(position + events.len() as u64);
            events.iter().for_each(|event| self.apply(event));
        }
    }

    fn apply(&mut self, event: &Arc<CacheEvent>) {
        match event.deleted {
            true => self.forget(&event.object.key),
            false => self.put(&event.object),
        }
    }

    fn put(&mut self, entry: &Entry) {
        self.forget(&entry.key);
        let service: Value = entry.to_value();
        let held = Held { ips: cluster_ips(&service["spec"]), ports: node_ports(&service["spec"]) };
        self.ips.extend(held.ips.iter().map(|ip| (*ip, entry.key.clone())));
        self.ports.extend(held.ports.iter().map(|port| (*port, entry.key.clone())));
        self.by_service.insert(entry.key.clone(), held);
    }

    fn forget(&mut self, service: &ObjectKey) {
        let held = self.by_service.remove(service).unwrap_or_default();
        held.ips.iter().for_each(|ip| give_back(&mut self.ips, ip, service));
        held.ports.iter().for_each(|port| give_back(&mut self.ports, port, service));
    }
}

/// Unless another has got it since.
fn give_back<T: Eq + Hash>(held: &mut HashMap<T, ObjectKey>, what: &T, service: &ObjectKey) {
    if held.get(what) == Some(service) {
        held.remove(what);
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn service(name: &str, ip: &str, port: u16) -> Entry {
        let service = json!({
            "metadata": {"name": name, "namespace": "shop"},
            "spec": {"clusterIP": ip, "clusterIPs": [ip], "ports": [{"port": 80, "nodePort": port}]},
        });
        Entry::from_value(service, 1, &[]).unwrap()
    }

    #[test]
    fn what_a_service_held_is_free_when_it_changes_or_goes() {
        let mut index = Index::default();
        let [old, new] = ["10.43.0.5", "10.43.0.6"].map(|ip| ip.parse::<IpAddr>().unwrap());
        index.put(&service("web", "10.43.0.5", 30001));
        assert_eq!(index.holder_of_ip(&old).unwrap().name, "web");
        index.put(&service("web", "10.43.0.6", 30002));
        assert!(index.holder_of_ip(&old).is_none() && index.holder_of_port(30001).is_none());
        assert!(index.holder_of_ip(&new).is_some() && index.holder_of_port(30002).is_some());

        // Handed over before the first holder's end is seen.
        index.put(&service("api", "10.43.0.6", 30003));
        let gone = CacheEvent::new(2, None, Arc::new(service("web", "10.43.0.6", 30002)), true);
        index.apply(&Arc::new(gone));
        assert_eq!(index.holder_of_ip(&new).unwrap().name, "api");
        assert!(index.holder_of_port(30002).is_none());
    }
}
