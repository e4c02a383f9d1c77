//! Acting as somebody else: `Impersonate-User` and its kin, each of which the real user must have the right to
//! (`kubectl --as`).
//!
//! Rights are of several modes (KEP-5284). Those of one are constrained: they are to be somebody of a kind, and to do
//! with it what is being asked. The last, which is older, is to be somebody, for whatever he may do.

use api::status::{Status, Subject};
use http::HeaderMap;

use super::{AUTHENTICATED, MASTERS, UNAUTHENTICATED, User};
use crate::authz::{Attributes, Authorizer, Target};
use crate::request::{RequestInfo, percent_decode};

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
/// The rest of the name is the key, in lower case and percent-encoded.
const EXTRA: &str = "impersonate-extra-";

/// The group of what is neither a user nor a group; in constrained modes of these as well.
const AUTHENTICATION: &str = "authentication.k8s.io";
const NODE: &str = "system:node:";
const NODES: &str = "system:nodes";
const ACCOUNT: &str = "system:serviceaccount:";
/// Where a ServiceAccount's token says on which node its Pod is.
const OWN_NODE: &str = "authentication.kubernetes.io/node-name";

/// Who is asked to be, as headers say it.
#[derive(Clone, Debug, Default, PartialEq)]
struct Wanted {
    name: String,
    uid: String,
    groups: Vec<String>,
    extra: Vec<(String, String)>,
}

/// A way of being somebody else, in the order in which they are tried.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    /// A ServiceAccount's Pod as the node that it is on.
    AssociatedNode,
    ArbitraryNode,
    ServiceAccount,
    UserInfo,
    Legacy,
}

const MODES: [Mode; 5] =
    [Mode::AssociatedNode, Mode::ArbitraryNode, Mode::ServiceAccount, Mode::UserInfo, Mode::Legacy];

/// What must be allowed.
#[derive(Debug, PartialEq)]
struct Right {
    group: &'static str,
    resource: &'static str,
    subresource: String,
    namespace: String,
    name: String,
}

/// As whom a request acts that acts as somebody else.
pub(crate) struct Acting {
    pub(crate) user: User,
    /// The verb of the constrained right by which it may; empty for the older one.
    pub(crate) constraint: &'static str,
}

/// The user as whom a request acts, if not as himself.
pub(crate) async fn acting(
    authorizer: &Authorizer,
    user: &User,
    info: &RequestInfo,
    headers: &HeaderMap,
) -> Result<Option<Acting>, Status> {
    let Some(wanted) = Wanted::read(headers)? else { return Ok(None) };
    let mut first = None;
    for mode in MODES.into_iter().filter(|mode| mode.is_for(&wanted, user)) {
        match mode.check(authorizer, &wanted, user, info).await {
            Ok(()) => return Ok(Some(Acting { user: mode.user(&wanted), constraint: mode.verb().1 })),
            // The first refusal is told: it is of the mode that fits best.
            Err(status) => first = first.or(Some(status)),
        }
    }
    Err(first.unwrap_or_else(Status::unauthorized))
}

impl Wanted {
    fn read(headers: &HeaderMap) -> Result<Option<Self>, Status> {
        let values =
            |name: &str| headers.get_all(name).iter().filter_map(|value| value.to_str().ok().map(str::to_owned));
        let extra = headers.iter().filter_map(|(header, value)| {
            let key = header.as_str().strip_prefix(EXTRA)?;
            let key = percent_decode(key).unwrap_or_else(|| key.to_owned());
            Some((key, value.to_str().ok()?.to_owned()))
        });
        let wanted = Self {
            name: values(USER).next().unwrap_or_default(),
            uid: values(UID).next().unwrap_or_default(),
            groups: values(GROUP).collect(),
            extra: extra.collect(),
        };
        match (wanted.name.is_empty(), wanted.is_name_alone()) {
            (false, _) => Ok(Some(wanted)),
            (true, true) => Ok(None),
            (true, false) => {
                Err(Status::bad_request("groups, extra values or a UID were to be impersonated without a user"))
            }
        }
    }

    fn is_name_alone(&self) -> bool {
        self.uid.is_empty() && self.groups.is_empty() && self.extra.is_empty()
    }

    fn node(&self) -> Option<&str> {
        self.name.strip_prefix(NODE).filter(|name| is_node_name(name))
    }

    /// Namespace and name.
    fn account(&self) -> Option<(&str, &str)> {
        let (namespace, name) = self.name.strip_prefix(ACCOUNT)?.split_once(':')?;
        (!namespace.is_empty() && !name.is_empty() && !name.contains(':')).then_some((namespace, name))
    }
}

impl Mode {
    fn is_for(self, wanted: &Wanted, user: &User) -> bool {
        let own_node = || match user.extra.get(OWN_NODE).map(Vec::as_slice) {
            Some([only]) if user.name.starts_with(ACCOUNT) => wanted.node() == Some(only.as_str()),
            _ => false,
        };
        match self {
            Self::AssociatedNode => wanted.is_name_alone() && own_node(),
            Self::ArbitraryNode => wanted.is_name_alone() && wanted.node().is_some(),
            Self::ServiceAccount => wanted.is_name_alone() && wanted.account().is_some(),
            Self::UserInfo => wanted.node().is_none() && wanted.account().is_none(),
            Self::Legacy => true,
        }
    }

    /// The mode's name in verbs, and the verb of its rights.
    fn verb(self) -> (&'static str, &'static str) {
        match self {
            Self::AssociatedNode => ("associated-node", "impersonate:associated-node"),
            Self::ArbitraryNode => ("arbitrary-node", "impersonate:arbitrary-node"),
            Self::ServiceAccount => ("serviceaccount", "impersonate:serviceaccount"),
            Self::UserInfo => ("user-info", "impersonate:user-info"),
            Self::Legacy => ("", ""),
        }
    }

    async fn check(
        self,
        authorizer: &Authorizer,
        wanted: &Wanted,
        user: &User,
        info: &RequestInfo,
    ) -> Result<(), Status> {
        let (name, verb) = self.verb();
        let mut verb = verb;
        if self == Self::Legacy {
            verb = "impersonate";
        } else {
            let mut on = Attributes::of(user, info);
            on.verb = format!("impersonate-on:{name}:{}", info.verb);
            require(authorizer, &on).await?;
        }
        for right in self.rights(wanted) {
            let target = Target::Resource {
                group: right.group.to_owned(),
                version: if right.group.is_empty() { String::new() } else { "v1".to_owned() },
                namespace: right.namespace,
                resource: right.resource.to_owned(),
                subresource: right.subresource,
                name: right.name,
                fields: Vec::new(),
                labels: Vec::new(),
            };
            let attributes = Attributes { user: user.clone(), verb: verb.to_owned(), target };
            if self != Self::Legacy && right.resource == "groups" {
                refuse_masters(&attributes)?;
            }
            require(authorizer, &attributes).await?;
        }
        Ok(())
    }

    /// Each part of an identity is a right.
    fn rights(self, wanted: &Wanted) -> Vec<Right> {
        let group = if self == Self::Legacy { "" } else { AUTHENTICATION };
        let right = |group, resource, subresource: &str, namespace: &str, name: &str| Right {
            group,
            resource,
            subresource: subresource.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        };
        let mut rights = vec![match (self, wanted.node(), wanted.account()) {
            // Whichever it is: that it is the own one is known.
            (Self::AssociatedNode, ..) => right(group, "nodes", "", "", "*"),
            (Self::ArbitraryNode, Some(node), _) => right(group, "nodes", "", "", node),
            (_, _, Some((namespace, name))) => right(group, "serviceaccounts", "", namespace, name),
            _ => right(group, "users", "", "", &wanted.name),
        }];
        rights.extend(wanted.groups.iter().map(|name| right(group, "groups", "", "", name)));
        rights.extend(wanted.extra.iter().map(|(key, value)| right(AUTHENTICATION, "userextras", key, "", value)));
        if !wanted.uid.is_empty() {
            rights.push(right(AUTHENTICATION, "uids", "", "", &wanted.uid));
        }
        rights
    }

    fn user(self, wanted: &Wanted) -> User {
        let mut user = match wanted.account() {
            Some((namespace, name)) if wanted.groups.is_empty() => User::service_account(namespace, name),
            _ => User { name: wanted.name.clone(), groups: wanted.groups.clone(), ..User::default() },
        };
        if matches!(self, Self::AssociatedNode | Self::ArbitraryNode) {
            user.groups = vec![NODES.to_owned()];
        }
        complete(&mut user);
        user.uid.clone_from(&wanted.uid);
        for (key, value) in &wanted.extra {
            user.extra.entry(key.clone()).or_default().push(value.clone());
        }
        user
    }
}

async fn require(authorizer: &Authorizer, attributes: &Attributes) -> Result<(), Status> {
    let decision = authorizer.authorize(attributes).await;
    if decision.allowed { Ok(()) } else { Err(refusal(attributes, &decision.refusal(attributes))) }
}

/// What no constrained right is good for.
fn refuse_masters(attributes: &Attributes) -> Result<(), Status> {
    let Target::Resource { name, .. } = &attributes.target else { return Ok(()) };
    let why = match name.as_str() {
        "" => "impersonating the empty string group is not allowed",
        MASTERS => "impersonating the system:masters group is not allowed",
        _ => return Ok(()),
    };
    Err(refusal(attributes, &format!("{}: {why}", attributes.refusal())))
}

fn refusal(attributes: &Attributes, why: &str) -> Status {
    match &attributes.target {
        Target::Path(_) => Status::forbidden(Subject { group: "", resource: "" }, "", why),
        Target::Resource { group, resource, subresource, name, .. } => {
            let full = if subresource.is_empty() { resource.clone() } else { format!("{resource}/{subresource}") };
            Status::forbidden(Subject { group, resource: &full }, name, why)
        }
    }
}

/// A DNS subdomain.
fn is_node_name(name: &str) -> bool {
    let plain = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit();
    let label = |label: &str| {
        let bytes = label.as_bytes();
        let ends = bytes.first().is_some_and(|it| plain(*it)) && bytes.last().is_some_and(|it| plain(*it));
        ends && bytes.iter().all(|byte| plain(*byte) || *byte == b'-')
    };
    name.len() <= 253 && name.split('.').all(label)
}

/// Adds the group that everybody of its kind is in, unless the groups say it, or the opposite.
fn complete(user: &mut User) {
    let group = if user.name == "system:anonymous" { UNAUTHENTICATED } else { AUTHENTICATED };
    if !user.is_in(group) && !user.is_in(UNAUTHENTICATED) {
        user.groups.push(group.to_owned());
    }
}

#[cfg(test)]
mod tests {
    use http::{HeaderName, HeaderValue};

    use super::*;

    fn wanted(headers: &[(&'static str, &'static str)]) -> Wanted {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        Wanted::read(&headers).unwrap().unwrap()
    }

    fn check(headers: &[(&'static str, &'static str)], mode: Mode, groups: &str, rights: &str) {
        let wanted = wanted(headers);
        assert_eq!(mode.user(&wanted).groups.join(" "), groups, "{headers:?}");
        let said = |it: Right| format!("{}|{}|{}|{}|{}", it.group, it.resource, it.subresource, it.namespace, it.name);
        let asked: Vec<String> = mode.rights(&wanted).into_iter().map(said).collect();
        assert_eq!(asked.join(" "), rights, "{headers:?}");
    }

    #[test]
    fn each_part_of_an_identity_is_a_right() {
        let legacy = |headers: &[(&'static str, &'static str)], groups: &str, rights: &str| {
            check(headers, Mode::Legacy, groups, rights);
        };
        legacy(&[(USER, "bob")], "system:authenticated", "|users|||bob");
        legacy(
            &[(USER, "bob"), (GROUP, "dev"), (UID, "u1"), ("impersonate-extra-example.org%2fteam", "a")],
            "dev system:authenticated",
            "|users|||bob |groups|||dev authentication.k8s.io|userextras|example.org/team||a authentication.k8s.io|uids|||u1",
        );
        legacy(
            &[(USER, "system:serviceaccount:shop:web")],
            "system:serviceaccounts system:serviceaccounts:shop system:authenticated",
            "|serviceaccounts||shop|web",
        );
        legacy(&[(USER, "system:anonymous")], "system:unauthenticated", "|users|||system:anonymous");
        let unknown = [(USER, "bob"), (GROUP, "system:unauthenticated")];
        legacy(&unknown, "system:unauthenticated", "|users|||bob |groups|||system:unauthenticated");
    }

    #[test]
    fn constrained_modes_are_for_kinds_of_users() {
        let node = [(USER, "system:node:n1")];
        check(&node, Mode::ArbitraryNode, "system:nodes system:authenticated", "authentication.k8s.io|nodes|||n1");
        check(&node, Mode::AssociatedNode, "system:nodes system:authenticated", "authentication.k8s.io|nodes|||*");
        check(&[(USER, "bob")], Mode::UserInfo, "system:authenticated", "authentication.k8s.io|users|||bob");
        let modes = |headers: &[(&'static str, &'static str)], user: &User| -> Vec<Mode> {
            MODES.into_iter().filter(|mode| mode.is_for(&wanted(headers), user)).collect()
        };
        let bob = User::new("bob", &[]);
        let mut agent = User::service_account("kube-system", "agent");
        agent.extra.insert(OWN_NODE.to_owned(), vec!["n1".to_owned()]);
        assert_eq!(modes(&[(USER, "eve"), (GROUP, "dev")], &bob), [Mode::UserInfo, Mode::Legacy]);
        assert_eq!(modes(&node, &bob), [Mode::ArbitraryNode, Mode::Legacy]);
        assert_eq!(modes(&node, &agent), [Mode::AssociatedNode, Mode::ArbitraryNode, Mode::Legacy]);
        assert_eq!(modes(&[(USER, "system:node:n2")], &agent), [Mode::ArbitraryNode, Mode::Legacy]);
        assert_eq!(modes(&[(USER, "system:node:n1"), (GROUP, NODES)], &bob), [Mode::Legacy]);
        assert_eq!(modes(&[(USER, "system:serviceaccount:a:b")], &bob), [Mode::ServiceAccount, Mode::Legacy]);
    }

    #[test]
    fn groups_need_a_user() {
        assert_eq!(Wanted::read(&HeaderMap::new()).unwrap(), None);
        let groups = HeaderMap::from_iter([(HeaderName::from_static(GROUP), HeaderValue::from_static("dev"))]);
        assert_eq!(Wanted::read(&groups).unwrap_err().code, 400);
    }
}
