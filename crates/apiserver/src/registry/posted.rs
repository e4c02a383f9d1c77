//! What is posted and not stored: reviews, and the kinds that subresources have of their own. A subresource has no row in
//! the table; its kind has one here, so that its bodies are read as those of stored kinds are.

use std::sync::LazyLock;

use api::forms::FormName;
use api::resource::{Resource, Version};
use api::resources::hooks::{Hooks, PLAIN, PLAIN_KIND, STATUS, SubresourceHooks};
use api::status::Status;
use serde_json::{Value, json};

use super::create::own_metadata;
use super::patch::Patch;
use super::update::take_place;
use super::{Call, Served, decode, options, ownership};
use crate::document::Document;

pub(crate) static SCALE: LazyLock<Served> = LazyLock::new(|| kind("autoscaling", &["v1"], "Scale", &SCALE_HOOKS));
pub(crate) static BINDING: LazyLock<Served> = LazyLock::new(|| kind("", &["v1"], "Binding", &PLAIN_KIND));
/// Taken in its old version, too.
pub(crate) static EVICTION: LazyLock<Served> =
    LazyLock::new(|| kind("policy", &["v1", "v1beta1"], "Eviction", &PLAIN_KIND));
pub(crate) static TOKEN_REQUEST: LazyLock<Served> =
    LazyLock::new(|| kind("authentication.k8s.io", &["v1"], "TokenRequest", &TOKEN_HOOKS));

/// All of a scale is what its path writes.
static SCALE_HOOKS: Hooks = Hooks { subresources: &[("scale", SubresourceHooks { resets: &[], ..STATUS })], ..PLAIN };

static TOKEN_HOOKS: Hooks = Hooks {
    default: |request| {
        if request["spec"]["expirationSeconds"].is_null() {
            request["spec"]["expirationSeconds"] = json!(TOKEN_SECONDS);
        }
    },
    ..PLAIN
};

/// How long a token is good for if nothing else is asked for.
const TOKEN_SECONDS: i64 = 3600;

/// What a client says of these in a new object is not so.
const SYSTEM_FIELDS: [&str; 5] =
    ["uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"];

/// What becomes of the uid and the times that a posted object states.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SystemFields {
    /// Nobody can know them yet.
    Wiped,
    /// They are those of the object that the subresource belongs to.
    Kept,
}

/// A kind of a group's, in the first of `versions`.
fn kind(group: &str, versions: &[&str], kind: &str, hooks: &'static Hooks) -> Served {
    let mut row = Resource { hooks, ..Resource::new(group, versions[0], "", kind, true) };
    row.versions = versions
        .iter()
        .map(|version| Version {
            name: (*version).to_owned(),
            type_name: api::resources::definition_name(group, version, kind),
            subresources: Vec::new(),
            deprecated: None,
        })
        .collect();
    let version = row.versions[0].clone();
    let built_in = api::schema::builtin_model(&version.type_name);
    Served { row: row.into(), version, built_in, cache: None, custom: None, form: FormName::mint() }
}

/// The posted object, which is at the place that the path names, with who has posted it.
pub(crate) fn read(served: &Served, call: &mut Call, system: SystemFields) -> Result<Value, Status> {
    options::check_write(call, "CreateOptions")?;
    let mut object = decode::object(served, call)?;
    if system == SystemFields::Wiped {
        for field in SYSTEM_FIELDS {
            object.remove_meta(field);
        }
    }
    own_metadata(served, call, &mut object)?;
    ownership::record_posted(call, &mut object);
    Ok(object)
}

/// The object that is to stand instead of a part of the one that the path names, which is one of `owner`'s.
pub(crate) fn read_update(served: &Served, owner: &Served, call: &mut Call) -> Result<Value, Status> {
    options::check_write(call, "UpdateOptions")?;
    let mut object = decode::object(served, call)?;
    take_place(owner, &call.key(owner.row.namespaced), &mut object)?;
    Ok(object)
}

/// What a patch makes of `old`, which is a part of an object of `owner`'s, and who owns what of it then.
pub(crate) fn patched(
    served: &Served,
    owner: &Served,
    call: &mut Call,
    patch: &Patch,
    old: &Value,
) -> Result<Value, Status> {
    let mut new = patch.apply_to(served, call, old)?;
    if !patch.is_apply() {
        new = owned(served, call, old, new);
    }
    take_place(owner, &call.key(owner.row.namespaced), &mut new)?;
    Ok(new)
}

/// `new` with who owns what of it, after `old` became it.
pub(crate) fn owned(served: &Served, call: &Call, old: &Value, new: Value) -> Value {
    ownership::record_unstored(served, call, old, new)
}
