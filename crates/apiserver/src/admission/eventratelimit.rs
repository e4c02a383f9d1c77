//! `EventRateLimit`: so many Events, and no more, from all, from one namespace, user or source.

use std::collections::HashMap;
use std::time::Instant;

use api::status::Status;
use parking_lot::Mutex;
use serde::Deserialize;
use serde_json::Value;
use store::BoxFuture;

use super::{Operation, Plugin, Request};

/// Upstream's number of keys whose rates are known, unless a limit says another.
const KEYS: usize = 4096;

/// One limit, as `eventratelimit.admission.k8s.io` Configuration states it.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(super) struct Limit {
    r#type: Kind,
    /// Events a second, in the long run.
    qps: u32,
    /// Events at once.
    burst: u32,
    #[serde(default)]
    cache_size: usize,
}

/// Of what events are counted together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
enum Kind {
    Server,
    Namespace,
    User,
    SourceAndObject,
}

pub(super) struct EventRateLimit {
    limits: Vec<(Limit, Mutex<Buckets>)>,
}

/// How many events are left for each key, and since when; the least recently used first to go.
#[derive(Default)]
struct Buckets {
    by_key: HashMap<String, Bucket>,
}

struct Bucket {
    left: f64,
    at: Instant,
}

impl Limit {
    pub(super) fn check(&self) -> Result<(), String> {
        match self.qps > 0 && self.burst > 0 {
            true => Ok(()),
            false => Err("qps and burst of a limit must be positive".to_owned()),
        }
    }
}

impl EventRateLimit {
    pub(super) fn new(limits: Vec<Limit>) -> Self {
        Self { limits: limits.into_iter().map(|limit| (limit, Mutex::default())).collect() }
    }

    fn refuse(&self, request: &Request, now: Instant) -> Option<String> {
        // Each counts, whatever the others say.
        let reached = self.limits.iter().filter_map(|(limit, buckets)| {
            let key = limit.r#type.key(request);
            let free = buckets.lock().take(limit, &key, now);
            (!free).then(|| format!("limit reached on type {:?} for key {key}", limit.r#type))
        });
        let reached: Vec<String> = reached.collect();
        match reached.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            several => Some(format!("[{}]", several.join(", "))),
        }
    }
}

impl Plugin for EventRateLimit {
    fn validate<'a>(&'a self, request: &'a Request) -> BoxFuture<'a, Result<(), Status>> {
        let writes = matches!(request.operation, Operation::Create | Operation::Update) && !request.dry_run;
        let event = writes && request.is("", "events");
        let refused = if event { self.refuse(request, Instant::now()) } else { None };
        Box::pin(async move { refused.map_or(Ok(()), |why| Err(Status::too_many_requests(why, 0))) })
    }
}

impl Kind {
    fn key(self, request: &Request) -> String {
        match self {
            Self::Server => String::new(),
            Self::Namespace => request.namespace.clone(),
            Self::User => request.user.name.clone(),
            Self::SourceAndObject => {
                let event = request.object.as_ref().unwrap_or(&Value::Null);
                let (source, object) = (&event["source"], &event["involvedObject"]);
                let parts = [&source["component"], &source["host"]].into_iter();
                let parts = parts.chain(["kind", "namespace", "name", "uid", "apiVersion"].map(|field| &object[field]));
                parts.map(|part| part.as_str().unwrap_or_default()).collect()
            }
        }
    }
}

impl Buckets {
    fn take(&mut self, limit: &Limit, key: &str, now: Instant) -> bool {
        let most = if limit.cache_size == 0 { KEYS } else { limit.cache_size };
        if !self.by_key.contains_key(key) && self.by_key.len() >= most {
            let oldest = self.by_key.iter().min_by_key(|(_, bucket)| bucket.at).map(|(key, _)| key.clone());
            oldest.map(|key| self.by_key.remove(&key));
        }
        let full = || Bucket { left: f64::from(limit.burst), at: now };
        let bucket = self.by_key.entry(key.to_owned()).or_insert_with(full);
        let gained = now.saturating_duration_since(bucket.at).as_secs_f64() * f64::from(limit.qps);
        bucket.left = (bucket.left + gained).min(f64::from(limit.burst));
        bucket.at = now;
        let free = bucket.left >= 1.0;
        if free {
            bucket.left -= 1.0;
        }
        free
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    #[test]
    fn each_key_has_its_burst_and_its_rate() {
        let limit = Limit { r#type: Kind::Namespace, qps: 2, burst: 3, cache_size: 2 };
        let (mut buckets, start) = (Buckets::default(), Instant::now());
        let mut takes = |key: &str, millis: u64| buckets.take(&limit, key, start + Duration::from_millis(millis));
        assert_eq!([(); 4].map(|()| takes("a", 0)), [true, true, true, false]);
        assert!(takes("b", 0));
        assert!(!takes("a", 400) && takes("a", 600) && !takes("a", 700));
        // A third key takes the place of the one that was asked for the longest time ago.
        assert!(takes("c", 800));
        assert_eq!([(); 3].map(|()| takes("b", 900)), [true, true, true]);
    }
}
