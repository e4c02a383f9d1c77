//! What may be particular to a kind: the hook column of the resource table.
//!
//! A row names only the hooks in which its kind differs; everything else is [`PLAIN`]. Hooks are pure: they see
//! the object, in the storage version, and nothing else. What takes other objects, allocators, a clock or
//! random bits belongs to the API server's admission and registry.

use serde_json::Value;

use super::strategy;
use crate::status::Cause;

/// The hooks of a kind. Written as `Hooks { default: .., ..PLAIN }`.
#[derive(Debug)]
pub struct Hooks {
    /// Which names objects may have.
    pub names: Names,
    /// How `metadata.generation` is kept.
    pub generation: Generation,
    /// An update of an object that is not there creates it.
    pub create_on_update: bool,
    /// An update without a resourceVersion overwrites whatever is there.
    pub unconditional_update: bool,
    /// An object without a name is named by a uuid.
    pub names_itself: bool,
    /// What a deletion states as its precondition is refused in the words of the datastore: Namespaces.
    pub checked_when_stored: bool,
    /// The kind's own validation speaks of the metadata where it does: what holds for every kind is checked last, and
    /// only of objects that are otherwise right.
    pub own_metadata: bool,
    /// A deletion that names no policy leaves dependents alone, as these kinds have always done.
    pub orphans: bool,
    /// What a client is told whose deletion names no policy.
    pub orphan_warning: &'static str,
    /// A create alone writes the spec, the server's own words among it: an update owns nothing of it.
    pub fixed_spec: bool,
    /// A create takes the status that the client sends: Nodes report theirs so.
    pub status_on_create: bool,
    /// Fills in what a client may leave out. Runs on everything that is decoded, so it must be idempotent.
    pub default: fn(&mut Value),
    /// What an object's metadata are where they are shown alone: upstream's internal type may have a field in place of
    /// an annotation.
    pub metadata_alone: fn(&mut Value),
    /// Before a create is validated: clears what clients do not set, above all the status.
    pub prepare_create: fn(&mut Value),
    /// Before an update is validated `(new, old)`: keeps what this path must not change, above all the status.
    pub prepare_update: fn(&mut Value, &Value),
    /// After a create is validated: what upstream's defaults make of an object when it is next read.
    pub settle_create: fn(&mut Value),
    pub validate_create: fn(&Value) -> Vec<Cause>,
    /// `(new, old)`. Runs what `validate_create` checks as well, where an update may change it.
    pub validate_update: fn(&Value, &Value) -> Vec<Cause>,
    /// Texts for `Warning` headers: `(new, old)`, where a create has no old.
    pub warnings: fn(&Value, Option<&Value>) -> Vec<String>,
    /// Writes by other paths than the object's own. A subresource that is not listed has [`STATUS`] as its hooks.
    pub subresources: &'static [(&'static str, SubresourceHooks)],
    /// Rewrites an object of apiVersion `from` as one of `to`, except for `apiVersion` itself.
    pub convert: fn(&mut Value, from: &str, to: &str),
    /// What keeps a dying object beyond its `metadata.finalizers`.
    pub held: fn(&Value) -> bool,
    /// Marks an object whose deletion begins and has to wait.
    pub begin_deletion: fn(&mut Value),
    /// The grace period, in seconds, of a deletion that asks for this many; `None`: the object goes at once.
    pub grace: Option<fn(&Value, asked: Option<i64>) -> i64>,
}

/// How a write to a subresource differs from a write to the object.
#[derive(Clone, Copy, Debug)]
pub struct SubresourceHooks {
    /// `(new, old)`: keeps what this path must not change.
    pub prepare: fn(&mut Value, &Value),
    /// `(new, old)`
    pub validate: fn(&Value, &Value) -> Vec<Cause>,
    pub warnings: fn(&Value, &Value) -> Vec<String>,
    /// Fields that this path does not write: nobody comes to own them by it.
    pub resets: &'static [&'static [&'static str]],
}

/// Which names a kind allows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Names {
    /// RFC 1123 subdomains: most kinds.
    Subdomain,
    /// RFC 1123 labels: Namespaces.
    Label,
    /// RFC 1035 labels, which start with a letter: Services.
    Label1035,
    /// Whatever can stand in a URL path: RBAC.
    PathSegment,
    /// IP addresses in canonical form: IPAddresses.
    IpAddress,
    /// Whatever every name may be.
    Anything,
}

/// How `metadata.generation` is kept. Kinds that state [`Generation::Own`] do it in their prepare hooks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Generation {
    /// Never set.
    None,
    /// 1, and one more with each change outside `metadata` and `status`.
    Counted,
    Own,
}

/// The hooks of an ordinary kind: a status that only its subresource writes, where there is one, and no rules
/// beyond the schema's.
pub const PLAIN: Hooks = Hooks {
    names: Names::Subdomain,
    generation: Generation::None,
    create_on_update: false,
    unconditional_update: true,
    names_itself: false,
    checked_when_stored: false,
    own_metadata: false,
    orphans: false,
    orphan_warning: "",
    fixed_spec: false,
    status_on_create: false,
    default: |_| {},
    metadata_alone: |_| {},
    prepare_create: |_| {},
    prepare_update: |_, _| {},
    settle_create: |_| {},
    validate_create: |_| Vec::new(),
    validate_update: |_, _| Vec::new(),
    warnings: |_, _| Vec::new(),
    subresources: &[],
    convert: |_, _, _| {},
    held: |_| false,
    begin_deletion: |_| {},
    grace: None,
};

/// The hooks of a write to an ordinary `status`.
pub const STATUS: SubresourceHooks = SubresourceHooks {
    prepare: strategy::keep_all_but_status,
    validate: |_, _| Vec::new(),
    warnings: |_, _| Vec::new(),
    resets: &[&["spec"]],
};

/// The hooks of a write to a `status` that writes nothing beside it, not even labels.
pub const STATUS_ALONE: SubresourceHooks = SubresourceHooks {
    prepare: |new, old| {
        strategy::keep_all_but_status(new, old);
        strategy::keep_metadata(new, old);
    },
    resets: &[&["spec"], &["metadata"]],
    ..STATUS
};

/// [`PLAIN`] for rows that refer to it.
pub static PLAIN_KIND: Hooks = PLAIN;

impl Hooks {
    /// The hooks of a write to `subresource`.
    pub fn subresource(&self, name: &str) -> SubresourceHooks {
        self.subresources.iter().find(|(listed, _)| *listed == name).map_or(STATUS, |(_, hooks)| *hooks)
    }
}

/// Rows are the same when they refer to the same hooks.
impl PartialEq for Hooks {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}
