//! What the objects say, put together: the schemas in the order in which they are asked, and their levels.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use http::HeaderValue;
use ring::digest;

use super::bootstrap;
use super::config::{CATCH_ALL, DistinguisherMethod, FlowSchema, PriorityLevel, Rule};
use super::figures::{self, Figures};
use super::level::Level;
use super::matching::matches;
use super::shares::{self, Limits};
use crate::authn::User;
use crate::request::RequestInfo;

#[derive(Default)]
pub(super) struct Plan {
    /// By precedence; the last takes what no other does.
    schemas: Vec<Arc<Schema>>,
    pub(super) levels: BTreeMap<String, (Arc<Level>, Limits)>,
}

/// A FlowSchema whose level exists.
pub(super) struct Schema {
    pub(super) name: String,
    pub(super) uid: HeaderValue,
    pub(super) level: Arc<Level>,
    pub(super) level_uid: HeaderValue,
    distinguisher: Option<DistinguisherMethod>,
    rules: Vec<Rule>,
    pub(super) figures: Figures,
}

impl Plan {
    /// The plan of a server with so many seats. Levels keep their state from `before`; what every cluster must have is
    /// there, whether its object is or not.
    pub(super) fn make(schemas: &[FlowSchema], levels: &[PriorityLevel], capacity: u32, before: &Self) -> Self {
        let mandatory = bootstrap::mandatory();
        let lacking = mandatory.1.into_iter().filter(|level| levels.iter().all(|it| it.name != level.name));
        let levels: Vec<PriorityLevel> = levels.iter().cloned().chain(lacking).collect();
        let limits = shares::limits(&levels.iter().collect::<Vec<_>>(), capacity);
        let made = levels.iter().zip(limits).map(|(config, limits)| {
            let known = before.levels.get(&config.name).map(|(level, _)| level.clone());
            let level = known.unwrap_or_else(|| Arc::new(Level::new(&config.name, config.exempt)));
            level.configure(config.queuing, limits.nominal);
            figures::tell_limits(&config.name, limits);
            (config.name.clone(), (level, limits))
        });
        let made: BTreeMap<String, (Arc<Level>, Limits)> = made.collect();
        let uids: BTreeMap<&str, &str> = levels.iter().map(|level| (level.name.as_str(), level.uid.as_str())).collect();
        let lacking = mandatory.0.into_iter().filter(|schema| schemas.iter().all(|it| it.name != schema.name));
        let mut schemas: Vec<FlowSchema> = schemas.iter().cloned().chain(lacking).collect();
        let last = |schema: &FlowSchema| schema.name == CATCH_ALL;
        schemas.sort_by(|one, other| {
            let key = |it: &FlowSchema| (last(it), it.spec.matching_precedence);
            key(one).cmp(&key(other)).then_with(|| one.name.cmp(&other.name))
        });
        let schemas = schemas.into_iter().filter_map(|schema| {
            let level = &schema.spec.priority_level_configuration.name;
            let (level, uid) = (made.get(level)?.0.clone(), uids.get(level.as_str())?);
            Some(Arc::new(Schema::new(schema, level, uid)))
        });
        let plan = Self { schemas: schemas.collect(), levels: made };
        plan.lend(Duration::MAX);
        plan
    }

    pub(super) fn classify(&self, user: &User, info: &RequestInfo) -> Arc<Schema> {
        let found = self.schemas.iter().find(|schema| matches(&schema.rules, user, info));
        match found.or(self.schemas.last()) {
            Some(schema) => schema.clone(),
            None => unreachable!("a plan has the mandatory schemas"),
        }
    }

    /// Gives each level what it may have now, by what it needed in the last `period`. True if that changed anything.
    pub(super) fn lend(&self, period: Duration) -> bool {
        let levels: Vec<_> =
            self.levels.values().map(|(level, limits)| (level.is_exempt(), *limits, level.demand(period))).collect();
        let mut changed = false;
        for ((level, _), (limit, (.., demand))) in
            self.levels.values().zip(shares::lend(&levels).into_iter().zip(&levels))
        {
            figures::tell_lending(&level.name, limit, demand);
            if level.limit() != limit {
                level.set_limit(limit);
                changed = true;
            }
        }
        changed
    }
}

impl Schema {
    fn new(config: FlowSchema, level: Arc<Level>, level_uid: &str) -> Self {
        let text = |uid: &str| HeaderValue::from_str(uid).unwrap_or(HeaderValue::from_static(""));
        Self {
            uid: text(&config.uid),
            level_uid: text(level_uid),
            distinguisher: config.spec.distinguisher_method,
            rules: config.spec.rules,
            figures: Figures::of(&config.name, &level.name),
            name: config.name,
            level,
        }
    }

    /// The flow of a request: by it queues are dealt.
    pub(super) fn flow_hash(&self, user: &User, info: &RequestInfo) -> u64 {
        let distinguisher = match self.distinguisher {
            None => "",
            Some(DistinguisherMethod::ByUser) => user.name.as_str(),
            Some(DistinguisherMethod::ByNamespace) => info.resource.as_ref().map_or("", |it| it.namespace.as_str()),
        };
        let hash = digest::digest(&digest::SHA256, format!("{}\0{distinguisher}", self.name).as_bytes());
        hash.as_ref().first_chunk().copied().map_or(0, u64::from_le_bytes)
    }

    #[cfg(test)]
    pub(super) fn for_tests() -> Self {
        let name = "test".to_owned();
        let config = FlowSchema { name, uid: String::new(), spec: super::config::FlowSchemaSpec::default() };
        Self::new(config, Arc::new(Level::new("test", false)), "")
    }
}

#[cfg(test)]
mod tests {
    use http::Method;

    use super::*;

    fn check(plan: &Plan, user: &User, method: &str, path: &str, schema: &str, level: &str) {
        let info = RequestInfo::parse(&method.parse::<Method>().unwrap(), path, "").unwrap();
        let found = plan.classify(user, &info);
        assert_eq!((found.name.as_str(), found.level.name.as_str()), (schema, level), "{} {path}", user.name);
    }

    fn suggested() -> Plan {
        let (schemas, levels) = bootstrap::objects();
        let schemas: Vec<_> = schemas.iter().filter_map(FlowSchema::read).collect();
        let levels: Vec<_> = levels.iter().filter_map(PriorityLevel::read).collect();
        assert_eq!((schemas.len(), levels.len()), (11, 8));
        Plan::make(&schemas, &levels, 600, &Plan::default())
    }

    #[test]
    fn requests_are_classified_as_upstream_suggests() {
        let plan = suggested();
        let bob = User::component("bob", &[]);
        let node = User::component("system:node:n", &["system:nodes"]);
        let account = User::service_account("kube-system", "generic-garbage-collector");
        let master = User::component("admin", &["system:masters"]);
        check(&plan, &master, "GET", "/api/v1/pods", "exempt", "exempt");
        check(&plan, &User::anonymous(), "GET", "/livez", "probes", "exempt");
        check(&plan, &node, "PATCH", "/api/v1/nodes/n/status", "system-node-high", "node-high");
        check(&plan, &node, "GET", "/api/v1/namespaces/a/secrets/s", "system-nodes", "system");
        let lease = "/apis/coordination.k8s.io/v1/namespaces/kube-system/leases/x";
        let manager = User::component("system:kube-controller-manager", &[]);
        check(&plan, &manager, "PUT", lease, "system-leader-election", "leader-election");
        check(&plan, &manager, "GET", "/api/v1/pods", "kube-controller-manager", "workload-high");
        check(&plan, &account, "GET", "/api/v1/pods", "kube-system-service-accounts", "workload-high");
        check(&plan, &User::service_account("a", "b"), "GET", "/api/v1/pods", "service-accounts", "workload-low");
        check(&plan, &bob, "GET", "/api/v1/pods", "global-default", "global-default");
        check(&plan, &User::new("nobody", &[]), "GET", "/api/v1/pods", "catch-all", "catch-all");
    }

    #[test]
    fn what_must_be_there_is_there() {
        let plan = Plan::make(&[], &[], 600, &Plan::default());
        check(&plan, &User::component("bob", &[]), "GET", "/api/v1/pods", "catch-all", "catch-all");
        check(&plan, &User::component("admin", &["system:masters"]), "GET", "/api", "exempt", "exempt");
        assert_eq!(plan.levels["catch-all"].0.limit(), 600);
    }

    #[test]
    fn levels_keep_their_state_and_schemas_without_one_are_passed_over() {
        let before = suggested();
        let dangling = FlowSchema {
            name: "a".to_owned(),
            uid: String::new(),
            spec: super::super::config::FlowSchemaSpec::default(),
        };
        let after = Plan::make(&[dangling], &[], 600, &before);
        assert!(Arc::ptr_eq(&before.levels["exempt"].0, &after.levels["exempt"].0));
        assert_eq!(after.schemas.len(), 2);
    }
}
