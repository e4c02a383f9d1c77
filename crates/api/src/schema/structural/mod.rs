//! What a custom resource's definition says of its objects: the `openAPIV3Schema` of one version, compiled.
//!
//! From it come a [`Model`] (which fields there are, how they merge), defaults, and the checks of values, with
//! upstream's words (`k8s.io/apiextensions-apiserver`, `k8s.io/kube-openapi`). Rules in CEL
//! (`x-kubernetes-validations`) are not evaluated here.

mod defaults;
mod formats;
mod model;
mod node;
mod patterns;
mod values;

use serde_json::Value;

use crate::field_path::Path;
use crate::schema::Model;
use crate::validation::Errors;
use node::Node;

/// The compiled schema of one version of a custom resource.
#[derive(Debug)]
pub struct CustomSchema {
    root: Node,
    model: Model,
}

impl CustomSchema {
    /// Compiles an `openAPIV3Schema`, which stands at `path` of its definition. What isn't structural is refused.
    pub fn compile(schema: &Value, path: &Path<'_>) -> Result<Self, Errors> {
        let mut errors = Errors::new();
        let root = Node::parse_root(schema, path, &mut errors);
        if !errors.is_empty() {
            return Err(errors);
        }
        let model = model::build(&root);
        Ok(Self { root, model })
    }

    /// The schema of a definition that keeps whatever its objects hold (`preserveUnknownFields`).
    pub fn open() -> Self {
        let root = Node::open();
        let model = model::build(&root);
        Self { root, model }
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Drops nulls where the schema has no room for them, then fills in defaults.
    pub fn default(&self, object: &mut Value) {
        defaults::prune_nulls(&self.root, object);
        defaults::fill(&self.root, object);
    }

    /// Checks the values of a defaulted object. Its metadata is for others to check.
    pub fn validate(&self, object: &Value) -> Errors {
        self.check(object, None)
    }

    /// Checks what an update changes; values that it leaves as they were are accepted as they were.
    pub fn validate_update(&self, object: &Value, old: &Value) -> Errors {
        self.check(object, Some(old))
    }

    fn check(&self, object: &Value, old: Option<&Value>) -> Errors {
        let mut errors = values::validate(&self.root, object, old);
        values::check_lists(&self.root, object, &Path::root(""), &mut errors);
        errors
    }
}

#[cfg(test)]
mod tests;
