//! How ownership moves when an object is updated or applied (`structured-merge-diff/merge/update.go`).
//!
//! Managers that wrote in another version of the kind are compared in the request's version: their paths are taken
//! as they are. Those of versions that are no longer served lose what they own, as upstream's do.

use serde_json::Value;

use super::compare::{Comparison, compare};
use super::field_set::FieldSet;
use super::managers::{Conflicts, Fields, Manager, Managers, Owned};
use super::merge::merge;
use super::typing::Typing;
use super::walk::{field_set, is_current, reconcile, remove, with_ways};

/// What a request says about itself.
pub(super) struct Terms<'a> {
    pub(super) typing: Typing<'a>,
    pub(super) api_version: &'a str,
    /// Fields that the endpoint resets: nobody owns them by writing there.
    pub(super) reset: Option<&'a FieldSet>,
    pub(super) is_served: &'a dyn Fn(&str) -> bool,
}

/// Why ownership could not be worked out.
pub(super) enum OwnershipError {
    Conflicts(Conflicts),
    /// The documents do not fit the schema; upstream's text.
    Unfit(String),
}

impl Terms<'_> {
    fn ignoring_reset(&self, mut set: FieldSet) -> FieldSet {
        if let Some(reset) = self.reset {
            set.subtract_below(reset);
        }
        set
    }

    /// What `manager` changed between `live` and `new` becomes its own, and nobody else's.
    pub(super) fn update(
        &self,
        live: &Value,
        new: &Value,
        managers: &mut Managers,
        manager: &Manager,
    ) -> Result<(), OwnershipError> {
        self.follow_schema(managers);
        let changes = self.settle(live, new, managers, manager, true)?;
        let mut fields = managers.owned.remove(manager).map(|owned| owned.fields.into_set()).unwrap_or_default();
        fields.subtract(&changes.removed);
        fields.absorb(changes.modified);
        fields.absorb(changes.added);
        let fields = self.ignoring_reset(fields);
        if !fields.is_empty() {
            let owned = Owned { fields: fields.into(), api_version: self.api_version.to_owned() };
            managers.owned.insert(manager.clone(), owned);
        }
        Ok(())
    }

    /// Merges `applied` into `live` and removes what `manager` applied before, no longer applies, and nobody else
    /// owns. Returns none when the object stays as it is.
    pub(super) fn apply(
        &self,
        live: &Value,
        applied: &Value,
        managers: &mut Managers,
        manager: &Manager,
        force: bool,
    ) -> Result<Option<Value>, OwnershipError> {
        self.follow_schema(managers);
        let merged = merge(&self.typing, live, applied)
            .map_err(|why| OwnershipError::Unfit(format!("failed to merge config: {why}")))?;
        let fields = self.ignoring_reset(field_set(&self.typing, applied));
        // Who applies all that it applied before leaves nothing to remove.
        let before = managers.owned.get(manager).map(|owned| owned.fields.set().into_owned());
        let before = before.filter(|before| !before.is_within(&fields));
        let owned = Owned { fields: fields.into(), api_version: self.api_version.to_owned() };
        managers.owned.insert(manager.clone(), owned);
        let new = match before {
            Some(before) => self.pruned(merged, managers, &before),
            None => merged,
        };
        let changes = self.settle(live, &new, managers, manager, force)?;
        // Some of what differs is nobody's.
        let same = changes.is_same() && super::field_set::equal(live, &new);
        Ok((!same).then_some(new))
    }

    /// Brings sets that were written under an older schema in line with today's.
    fn follow_schema(&self, managers: &mut Managers) {
        managers.owned.retain(|_, owned| owned.api_version == self.api_version || (self.is_served)(&owned.api_version));
        for owned in managers.owned.values_mut() {
            match &owned.fields {
                Fields::Written(json) if is_current(&self.typing, json) => {}
                _ => owned.fields.change(|set| reconcile(&self.typing, set)),
            }
        }
    }

    /// Takes what changed away from its other managers, or says with whom that conflicts.
    fn settle(
        &self,
        live: &Value,
        new: &Value,
        managers: &mut Managers,
        manager: &Manager,
        force: bool,
    ) -> Result<Comparison, OwnershipError> {
        let changes = compare(&self.typing, live, new)
            .map_err(|why| OwnershipError::Unfit(format!("failed to compare objects: {why}")))?;
        let changes = changes.without(self.reset);
        if !changes.is_same() {
            let mut conflicts = Conflicts::default();
            for (other, owned) in managers.owned.iter().filter(|(other, _)| *other != manager) {
                let mut written = owned.fields.intersection(&changes.modified);
                written.absorb(owned.fields.intersection(&changes.added));
                if !written.is_empty() {
                    conflicts.0.insert(other.clone(), written);
                }
            }
            if !force && !conflicts.is_empty() {
                return Err(OwnershipError::Conflicts(conflicts));
            }
            for (other, fields) in &conflicts.0 {
                managers.take(other, fields);
            }
            for (_, owned) in managers.owned.iter_mut().filter(|(other, _)| *other != manager) {
                owned.fields.subtract(&changes.removed);
            }
        }
        managers.owned.retain(|_, owned| !owned.fields.is_empty());
        Ok(changes)
    }

    fn pruned(&self, merged: Value, managers: &Managers, before: &FieldSet) -> Value {
        let typing = &self.typing;
        let fields = |value: &Value| with_ways(typing, &field_set(typing, value));
        let without = |unwanted: &FieldSet| {
            remove(typing, &merged, unwanted).unwrap_or_else(|| Value::Object(serde_json::Map::new()))
        };
        let before = with_ways(typing, before);
        let merged_fields = fields(&merged);

        // Without anything the manager had; then with what somebody (also itself, now) owns put back.
        let bare = fields(&without(&before));
        let owned = with_ways(typing, &managers.all_fields());
        let kept = without(&merged_fields.difference(&bare.union(&owned)));

        // And with what was not the manager's to take, though it hung below what was.
        without(&merged_fields.difference(&fields(&kept)).intersection(&before))
    }
}
