//! The rules of a kind between admission and the datastore: a row's hooks for built-in kinds, the schema for custom
//! resources.

use api::resources::strategy;
use api::status::Cause;
use serde_json::Value;

use super::Served;

impl Served {
    /// Before a create is validated.
    pub(super) fn prepare_create(&self, object: &mut Value) {
        match &self.custom {
            Some(custom) => custom.version().prepare_create(object),
            None => strategy::prepare_create(&self.row, object),
        }
    }

    pub(super) fn validate_create(&self, object: &Value) -> Vec<Cause> {
        match &self.custom {
            Some(custom) => custom.version().validate_create(&self.row, object),
            None => strategy::validate_create(&self.row, object),
        }
    }

    /// Before an update through the object's own path, or one of its subresources, is validated.
    pub(super) fn prepare_update(&self, subresource: &str, new: &mut Value, old: &Value) {
        match (&self.custom, subresource) {
            (Some(custom), "") => custom.version().prepare_update(new, old),
            (Some(custom), _) => custom.version().prepare_status(new, old),
            (None, "") => strategy::prepare_update(&self.row, new, old),
            (None, name) => strategy::prepare_subresource(&self.row, name, new, old),
        }
    }

    /// What is wrong with an update, and what its client is warned of.
    pub(super) fn validate_update(&self, subresource: &str, new: &Value, old: &Value) -> (Vec<Cause>, Vec<String>) {
        match (&self.custom, subresource) {
            (Some(custom), "") => custom.version().validate_update(&self.row, new, old),
            (Some(custom), _) => custom.version().validate_status_update(&self.row, new, old),
            (None, "") => (strategy::validate_update(&self.row, new, old), Vec::new()),
            (None, name) => (strategy::validate_subresource(&self.row, name, new, old), Vec::new()),
        }
    }
}
