//! What a custom resource's definition says of its objects: the `openAPIV3Schema` of one version, compiled.
//!
//! From it come a [`Model`] (which fields there are, how they merge), defaults, and the checks of values, with
//! upstream's words (`k8s.io/apiextensions-apiserver`, `k8s.io/kube-openapi`).

mod defaults;
mod embedded;
mod formats;
mod invariants;
mod model;
mod node;
pub mod paths;
mod patterns;
mod pruning;
pub mod rules;
mod values;

use serde_json::Value;

use crate::field_path::Path;
use crate::schema::Model;
use crate::validation::Errors;
use node::Node;

pub use formats::is_known as is_known_format;

/// The compiled schema of one version of a custom resource.
#[derive(Debug)]
pub struct CustomSchema {
    root: Node,
    model: Model,
    rules: Option<rules::Tree>,
}

impl CustomSchema {
    /// Reads an `openAPIV3Schema` that has been found to be structural.
    pub fn read(schema: &Value) -> Self {
        Self::of(Node::parse(schema), rules::Tree::compile(schema, true))
    }

    /// The schema of a definition that keeps whatever its objects hold (`preserveUnknownFields`).
    pub fn open() -> Self {
        Self::of(Node::open(), None)
    }

    fn of(root: Node, rules: Option<rules::Tree>) -> Self {
        let model = model::build(&root);
        Self { root, model, rules }
    }

    pub fn model(&self) -> &Model {
        &self.model
    }

    /// Drops nulls where the schema has no room for them, then fills in defaults.
    pub fn default(&self, object: &mut Value) {
        defaults::prune_nulls(&self.root, object);
        self.fill(object);
    }

    /// Fills in defaults, and leaves nulls that have none for [`Self::validate`] to judge.
    pub fn fill(&self, object: &mut Value) {
        defaults::fill(&self.root, object);
    }

    /// Checks the values of a defaulted object: of an update, those that differ from `old`, because what was accepted
    /// once stays so. Its metadata is for others to check.
    pub fn validate(&self, object: &Value, old: Option<&Value>) -> Errors {
        values::validate(&self.root, object, old, &Path::root(""))
    }

    /// Checks the values of a status alone.
    pub fn validate_status(&self, status: &Value, old: Option<&Value>) -> Errors {
        match self.root.child("status") {
            Some(schema) => values::validate(schema, status, old, &Path::root("status")),
            None => Errors::new(),
        }
    }

    /// Checks the metadata of the objects that an object holds.
    pub fn validate_embedded(&self, object: &Value) -> Errors {
        let mut errors = Errors::new();
        embedded::check(&self.root, object, &Path::root(""), &mut errors);
        errors
    }

    /// Checks that sets and associative lists hold each key once. An update answers for what was right before.
    pub fn validate_lists(&self, object: &Value, old: Option<&Value>) -> Errors {
        let check = |object: &Value| {
            let mut errors = Errors::new();
            values::check_lists(&self.root, object, &Path::root(""), &mut errors);
            errors
        };
        let found = check(object);
        if !found.is_empty() && old.is_some_and(|old| !check(old).is_empty()) { Errors::new() } else { found }
    }

    /// Evaluates the rules, unless what was found so far makes that impossible. Returns what is to be warned of: rules
    /// that do not hold for what an update left as it was.
    pub fn validate_rules(&self, object: &Value, old: Option<&Value>, errors: &mut Errors) -> Vec<String> {
        const BLOCKING: [&str; 5] = [
            "FieldValueNotSupported",
            "FieldValueRequired",
            "FieldValueTooLong",
            "FieldValueTooMany",
            "FieldValueTypeInvalid",
        ];
        let mut warnings = Vec::new();
        let Some(rules) = &self.rules else { return warnings };
        if errors.causes().iter().any(|cause| BLOCKING.contains(&&*cause.reason)) {
            let why = "some validation rules were not checked because the object was invalid; correct the existing \
                       errors to complete validation";
            errors.invalid(&Path::root("<nil>"), Value::Null, why);
            return warnings;
        }
        let subject = rules::Subject { value: object, old, ratchets: true };
        rules::evaluate(&self.root, rules, subject, &Path::root(""), errors, &mut warnings);
        warnings
    }
}

/// What is not structural about an `openAPIV3Schema`, which stands at `path` of its definition.
pub fn check_structure(schema: &Value, path: &Path<'_>) -> Errors {
    invariants::check(schema, path)
}

/// What is wrong with the defaults in a structural schema, which stands at `path`. Errors are about the places of the
/// defaults.
pub fn validate_defaults(schema: &Value, path: &Path<'_>) -> Errors {
    let mut errors = Errors::new();
    check_defaults(schema, path, &mut errors);
    errors
}

fn check_defaults(schema: &Value, path: &Path<'_>, errors: &mut Errors) {
    if !schema["default"].is_null() {
        let path = path.child("default");
        let (node, default) = (Node::parse(schema), &schema["default"]);
        let mut pruned = default.clone();
        pruning::prune(Some(&node), &mut pruned);
        if pruned != *default {
            errors.invalid(&path, default.clone(), "must not have unknown fields");
        }
        let before = errors.len();
        embedded::check(&node, default, &path, errors);
        if errors.len() == before {
            errors.extend(values::validate(&node, default, None, &path));
        }
        if errors.len() == before {
            check_default_by_rules(schema, &node, default, &path, errors);
        }
    }
    if schema["items"].is_object() {
        check_defaults(&schema["items"], &path.child("items"), errors);
    }
    let fields = path.child("properties");
    for (name, schema) in schema["properties"].as_object().into_iter().flatten() {
        check_defaults(schema, &fields.key(name), errors);
    }
}

/// A default must hold by the rules both where it was there before and where it is new.
fn check_default_by_rules(schema: &Value, node: &Node, default: &Value, path: &Path<'_>, errors: &mut Errors) {
    let Some(rules) = rules::Tree::compile(schema, node.embedded) else { return };
    let before = errors.len();
    for old in [Some(default), None] {
        if errors.len() == before {
            let subject = rules::Subject { value: default, old, ratchets: false };
            rules::evaluate(node, &rules, subject, path, errors, &mut Vec::new());
        }
    }
}

#[cfg(test)]
mod tests;
