//! What becomes of an object, given its owners and dependents.

use super::graph::Node;

/// How an owner stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Owner {
    /// There, and staying.
    Solid,
    /// Being deleted, and waiting for its dependents to go first.
    Waiting,
    /// Not there: no object of that uid is where the reference points.
    Absent,
    /// Its kind is not served, so nobody can tell.
    Unknown,
}

/// An object with all that decides about it.
#[derive(Debug)]
pub(super) struct Observed {
    pub(super) node: Node,
    /// By uid, for each owner reference.
    pub(super) owners: Vec<(String, Owner)>,
    pub(super) dependents: Vec<Node>,
}

/// The next step for an object.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Step {
    Nothing,
    /// Dependents lose their reference to it, then it loses its finalizer.
    OrphanDependents,
    /// Its blocking dependents are gone: it loses its finalizer.
    Unblock,
    /// Its dependents, by uid, are to be looked at: they go first.
    DeleteDependents(Vec<String>),
    /// It keeps an owner; references to these others go.
    DropOwners(Vec<String>),
    Delete(&'static str),
    /// It owns what waits for it by way of others: its references are to hold nobody back, then it goes, its
    /// dependents first.
    BreakCircle,
    /// An owner's kind may be served again later.
    LookAgain,
}

pub(super) fn plan(observed: &Observed) -> Step {
    let node = &observed.node;
    if node.deleting {
        return finish(observed);
    }
    let of =
        |state: Owner| observed.owners.iter().filter(move |(_, owner)| *owner == state).map(|(uid, _)| uid.clone());
    if node.owners.is_empty() {
        return Step::Nothing;
    }
    if of(Owner::Solid).next().is_some() {
        let rest: Vec<String> = of(Owner::Absent).chain(of(Owner::Waiting)).collect();
        return if rest.is_empty() { Step::Nothing } else { Step::DropOwners(rest) };
    }
    if of(Owner::Unknown).next().is_some() {
        return Step::LookAgain;
    }
    if of(Owner::Waiting).next().is_some() && !observed.dependents.is_empty() {
        let circle = observed.dependents.iter().any(|dependent| dependent.deleting && dependent.foreground);
        return if circle { Step::BreakCircle } else { Step::Delete("Foreground") };
    }
    Step::Delete(match (node.orphan, node.foreground) {
        (true, _) => "Orphan",
        (false, true) => "Foreground",
        (false, false) => "Background",
    })
}

/// An object being deleted goes by its finalizers.
fn finish(observed: &Observed) -> Step {
    let node = &observed.node;
    if node.orphan {
        return Step::OrphanDependents;
    }
    if !node.foreground {
        return Step::Nothing;
    }
    let blocks =
        |dependent: &&Node| dependent.owners.iter().any(|owner| *owner.uid == *node.uid && owner.block_owner_deletion);
    if observed.dependents.iter().any(|dependent| blocks(&dependent)) {
        Step::DeleteDependents(observed.dependents.iter().map(|dependent| dependent.uid.to_string()).collect())
    } else {
        Step::Unblock
    }
}
