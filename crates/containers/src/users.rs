//! Who a container's process is: users and groups by the image's own `/etc/passwd` and `/etc/group`.
//!
//! A static binary has no getpwnam, and the node's users mean nothing in an image. The rules are those of
//! containerd and runc, that images rely on.

use serde::{Deserialize, Serialize};

/// Who is asked for.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct UserRequest {
    /// As images write it: `user`, `uid`, `user:group`, `uid:gid`; empty is root.
    pub user: String,
    /// Overrides the group.
    pub group: Option<u32>,
    pub supplemental: Vec<u32>,
    /// Only `supplemental`, not what the image's `/etc/group` adds (KEP-3619).
    pub strict: bool,
}

/// Who the process is.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct User {
    pub uid: u32,
    pub gid: u32,
    /// All groups, sorted; the primary one among them.
    pub groups: Vec<u32>,
    pub home: String,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Error {
    #[error("unable to find user {0}: no matching entries in passwd file")]
    NoUser(String),
    #[error("unable to find group {0}: no matching entries in group file")]
    NoGroup(String),
    #[error("user and group ids must be between 0 and 2147483647, not {0}")]
    OutOfRange(u64),
}

struct Account<'a> {
    name: &'a str,
    uid: u32,
    gid: u32,
    home: &'a str,
}

/// Finds the user in the image's files, either of which may be missing or odd.
pub(crate) fn resolve(passwd: &str, group: &str, request: &UserRequest) -> Result<User, Error> {
    let (wanted, wanted_group) = match request.user.split_once(':') {
        Some((user, group)) => (user, Some(group).filter(|it| !it.is_empty())),
        None => (request.user.as_str(), None),
    };
    let wanted = if wanted.is_empty() { "0" } else { wanted };
    let number = id(wanted)?;
    // A name that looks like a number is a number, unless the image has a user of that name.
    let account = accounts(passwd).find(|it| it.name == wanted || Some(it.uid) == number);
    let (uid, mut gid, home) = match (&account, number) {
        (Some(it), _) => (it.uid, it.gid, it.home),
        (None, Some(uid)) => (uid, 0, "/"),
        (None, None) => return Err(Error::NoUser(wanted.to_owned())),
    };
    if let Some(wanted) = wanted_group {
        let found = groups(group).find(|it| it.0 == wanted).map(|it| it.1);
        gid = match (found, id(wanted)?) {
            (Some(gid), _) | (None, Some(gid)) => gid,
            (None, None) => return Err(Error::NoGroup(wanted.to_owned())),
        };
    }
    gid = request.group.unwrap_or(gid);
    let mut all = vec![gid];
    all.extend(&request.supplemental);
    if let Some(account) = account.filter(|_| !request.strict) {
        all.extend(groups(group).filter(|it| it.2.split(',').any(|it| it == account.name)).map(|it| it.1));
    }
    for id in [uid].iter().chain(&all) {
        if *id > i32::MAX.cast_unsigned() {
            return Err(Error::OutOfRange((*id).into()));
        }
    }
    all.sort_unstable();
    all.dedup();
    Ok(User { uid, gid, groups: all, home: if home.is_empty() { "/" } else { home }.to_owned() })
}

fn id(text: &str) -> Result<Option<u32>, Error> {
    match text.parse::<u64>() {
        Ok(number) => match i32::try_from(number) {
            Ok(id) => Ok(Some(id.cast_unsigned())),
            Err(_) => Err(Error::OutOfRange(number)),
        },
        Err(_) => Ok(None),
    }
}

fn accounts(passwd: &str) -> impl Iterator<Item = Account<'_>> {
    passwd.lines().filter_map(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [name, _, uid, gid, _, home, ..] = fields[..] else { return None };
        Some(Account { name, uid: uid.parse().ok()?, gid: gid.parse().ok()?, home })
    })
}

/// Name, id and members.
fn groups(group: &str) -> impl Iterator<Item = (&str, u32, &str)> {
    group.lines().filter_map(|line| {
        let fields: Vec<&str> = line.trim().split(':').collect();
        let [name, _, gid, members, ..] = fields[..] else { return None };
        Some((name, gid.parse().ok()?, members))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:33::/srv:/bin/false\nbroken\n";
    const GROUP: &str = "root:x:0:\nweb:x:33:\nlogs:x:40:web,other\n";

    fn check(user: &str, expected: Result<(u32, u32, &[u32], &str), Error>) {
        let request = UserRequest { user: user.into(), ..UserRequest::default() };
        let found = resolve(PASSWD, GROUP, &request);
        let expected = expected.map(|it| User { uid: it.0, gid: it.1, groups: it.2.to_vec(), home: it.3.to_owned() });
        assert_eq!(found, expected, "{user:?}");
    }

    #[test]
    fn users_are_found_as_images_write_them() {
        check("", Ok((0, 0, &[0], "/root")));
        check("web", Ok((33, 33, &[33, 40], "/srv")));
        check("33", Ok((33, 33, &[33, 40], "/srv")));
        check("web:logs", Ok((33, 40, &[40], "/srv")));
        check("1000", Ok((1000, 0, &[0], "/")));
        check("1000:7", Ok((1000, 7, &[7], "/")));
        check("nobody", Err(Error::NoUser("nobody".into())));
        check("web:none", Err(Error::NoGroup("none".into())));
        check("4294967295", Err(Error::OutOfRange(4_294_967_295)));
    }

    #[test]
    fn pods_add_groups_and_may_refuse_the_images() {
        let mut request = UserRequest { user: "web".into(), group: Some(5), supplemental: vec![9, 5], strict: false };
        assert_eq!(resolve(PASSWD, GROUP, &request).unwrap().groups, [5, 9, 40]);
        request.strict = true;
        assert_eq!(resolve(PASSWD, GROUP, &request).unwrap().groups, [5, 9]);
    }
}
