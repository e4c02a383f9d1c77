//! Acting as somebody else: `Impersonate-User` and its kin, each of which the real user must have the right to
//! (`kubectl --as`).

use api::status::{Status, Subject};
use http::HeaderMap;

use super::{AUTHENTICATED, UNAUTHENTICATED, User};
use crate::authz::{Attributes, Authorizer, Target};
use crate::request::percent_decode;

const USER: &str = "impersonate-user";
const GROUP: &str = "impersonate-group";
const UID: &str = "impersonate-uid";
/// The rest of the name is the key, in lower case and percent-encoded.
const EXTRA: &str = "impersonate-extra-";

/// The group of what is neither a user nor a group.
const AUTHENTICATION: &str = "authentication.k8s.io";

/// What is asked to be.
#[derive(Debug, PartialEq)]
struct Wanted {
    user: User,
    /// What must be allowed: group, resource, subresource, namespace and name.
    rights: Vec<[String; 5]>,
}

/// Whether a request asks to act as somebody else.
pub(crate) fn is_asked(headers: &HeaderMap) -> bool {
    headers.get(USER).is_some_and(|name| !name.is_empty())
}

/// The user as whom a request acts: himself unless its headers say otherwise.
pub(crate) fn acting(authorizer: &Authorizer, user: User, headers: &HeaderMap) -> Result<User, Status> {
    let Some(wanted) = wanted(headers)? else { return Ok(user) };
    for [group, resource, subresource, namespace, name] in &wanted.rights {
        let target = Target::Resource {
            group: group.clone(),
            version: if group.is_empty() { String::new() } else { "v1".to_owned() },
            namespace: namespace.clone(),
            resource: resource.clone(),
            subresource: subresource.clone(),
            name: name.clone(),
            fields: String::new(),
        };
        let attributes = Attributes { user: user.clone(), verb: "impersonate".to_owned(), target };
        let decision = authorizer.authorize(&attributes);
        if !decision.allowed {
            let full = if subresource.is_empty() { resource.clone() } else { format!("{resource}/{subresource}") };
            return Err(Status::forbidden(Subject { group, resource: &full }, name, &decision.refusal(&attributes)));
        }
    }
    Ok(wanted.user)
}

fn wanted(headers: &HeaderMap) -> Result<Option<Wanted>, Status> {
    let values = |name: &str| headers.get_all(name).iter().filter_map(|value| value.to_str().ok().map(str::to_owned));
    let name = values(USER).next().unwrap_or_default();
    let uid = values(UID).next().unwrap_or_default();
    let groups: Vec<String> = values(GROUP).collect();
    let extra: Vec<(String, String)> = headers
        .iter()
        .filter_map(|(header, value)| {
            let key = header.as_str().strip_prefix(EXTRA)?;
            let key = percent_decode(key).unwrap_or_else(|| key.to_owned());
            Some((key, value.to_str().ok()?.to_owned()))
        })
        .collect();
    if name.is_empty() {
        return match groups.is_empty() && extra.is_empty() && uid.is_empty() {
            true => Ok(None),
            false => Err(Status::bad_request("groups, extra values or a UID were to be impersonated without a user")),
        };
    }
    let mut rights = Vec::new();
    let mut right = |parts: [&str; 5]| rights.push(parts.map(str::to_owned));
    let account = name.strip_prefix("system:serviceaccount:").and_then(|rest| rest.split_once(':'));
    match account {
        Some((namespace, account)) => right(["", "serviceaccounts", "", namespace, account]),
        None => right(["", "users", "", "", &name]),
    }
    groups.iter().for_each(|group| right(["", "groups", "", "", group]));
    extra.iter().for_each(|(key, value)| right([AUTHENTICATION, "userextras", key, "", value]));
    if !uid.is_empty() {
        right([AUTHENTICATION, "uids", "", "", &uid]);
    }
    let mut user = match account {
        Some((namespace, account)) if groups.is_empty() => User::service_account(namespace, account),
        _ => User { name, groups, ..User::default() },
    };
    complete(&mut user);
    user.uid = uid;
    for (key, value) in extra {
        user.extra.entry(key).or_default().push(value);
    }
    Ok(Some(Wanted { user, rights }))
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

    fn check(headers: &[(&'static str, &'static str)], user: &str, groups: &str, rights: &str) {
        let headers: HeaderMap = headers
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        let wanted = wanted(&headers).unwrap().unwrap();
        assert_eq!((wanted.user.name.as_str(), wanted.user.groups.join(" ").as_str()), (user, groups));
        let asked: Vec<String> = wanted.rights.iter().map(|right| right.join("|")).collect();
        assert_eq!(asked.join(" "), rights);
    }

    #[test]
    fn each_part_of_an_identity_is_a_right() {
        check(&[(USER, "bob")], "bob", "system:authenticated", "|users|||bob");
        check(
            &[(USER, "bob"), (GROUP, "dev"), (UID, "u1"), ("impersonate-extra-example.org%2fteam", "a")],
            "bob",
            "dev system:authenticated",
            "|users|||bob |groups|||dev authentication.k8s.io|userextras|example.org/team||a authentication.k8s.io|uids|||u1",
        );
        check(
            &[(USER, "system:serviceaccount:shop:web")],
            "system:serviceaccount:shop:web",
            "system:serviceaccounts system:serviceaccounts:shop system:authenticated",
            "|serviceaccounts||shop|web",
        );
        check(&[(USER, "system:anonymous")], "system:anonymous", "system:unauthenticated", "|users|||system:anonymous");
        check(
            &[(USER, "bob"), (GROUP, "system:unauthenticated")],
            "bob",
            "system:unauthenticated",
            "|users|||bob |groups|||system:unauthenticated",
        );
    }

    #[test]
    fn groups_need_a_user() {
        assert_eq!(wanted(&HeaderMap::new()).unwrap(), None);
        let groups = HeaderMap::from_iter([(HeaderName::from_static(GROUP), HeaderValue::from_static("dev"))]);
        assert_eq!(wanted(&groups).unwrap_err().code, 400);
    }
}
