//! The CEL conditions of a webhook (KEP-3716): all must hold for it to be called.

use std::sync::{Arc, LazyLock};

use api::cel::{self, Activation, Budget, Declarations, Environment, Program};
use serde_json::Value;

use crate::authn::User;
use crate::authz::{Attributes, Authorizer, Target};

/// What the conditions of webhooks may refer to.
static ENVIRONMENT: LazyLock<Environment> = LazyLock::new(|| Environment::new(Declarations::admission().authorizer()));

const OUT_OF_BUDGET: &str =
    "validation failed due to running out of cost budget, no further validation rules will be run";

/// What conditions are about.
pub(super) struct About<'a> {
    pub(super) object: Option<&'a Value>,
    pub(super) old: Option<&'a Value>,
    /// An AdmissionRequest, but for its objects.
    pub(super) request: &'a Value,
    /// The Namespace that the write is in.
    pub(super) namespace: Option<&'a Value>,
    pub(super) rights: &'a Rights,
}

/// What the writer may do, as conditions ask for it.
pub(super) struct Rights {
    pub(super) authorizer: Arc<Authorizer>,
    pub(super) user: User,
}

impl Rights {
    fn of(&self, account: Option<(&str, &str)>, verb: &str, target: Target) -> cel::Decision {
        let user = match account {
            Some((namespace, name)) => User::service_account(namespace, name),
            None => self.user.clone(),
        };
        let decision = self.authorizer.authorize(&Attributes { user, verb: verb.to_owned(), target });
        cel::Decision { allowed: decision.allowed, reason: decision.reason, error: None }
    }
}

impl cel::Authorizer for Rights {
    fn authorize_path(&self, request: &cel::PathAttributes<'_>) -> cel::Decision {
        self.of(request.service_account, request.verb, Target::Path(request.path.to_owned()))
    }

    fn authorize_resource(&self, request: &cel::ResourceAttributes<'_>) -> cel::Decision {
        let target = Target::Resource {
            group: request.group.to_owned(),
            version: "*".to_owned(),
            namespace: request.namespace.to_owned(),
            resource: request.resource.to_owned(),
            subresource: request.subresource.to_owned(),
            name: request.name.to_owned(),
            fields: request.field_selector.to_owned(),
        };
        self.of(request.service_account, request.verb, target)
    }
}

/// The conditions of one webhook, compiled.
#[derive(Default)]
pub(super) struct Conditions {
    conditions: Vec<Result<Program, String>>,
}

impl Conditions {
    pub(super) fn compile(conditions: &Value) -> Self {
        let texts = conditions.as_array().into_iter().flatten();
        let texts = texts.map(|condition| condition["expression"].as_str().unwrap_or_default());
        Self { conditions: texts.map(|text| ENVIRONMENT.compile(text).map_err(|why| why.to_string())).collect() }
    }

    pub(super) fn is_empty(&self) -> bool {
        self.conditions.is_empty()
    }

    /// Whether the webhook is to be called. One condition that does not hold decides, whatever is wrong with others;
    /// else what cannot be evaluated refuses the write, or with `fails_closed` unset leaves the webhook out.
    pub(super) fn matches(&self, about: &About<'_>, fails_closed: bool) -> Result<bool, String> {
        let resource = &about.request["resource"];
        let text = |value: &Value, field: &str| value[field].as_str().unwrap_or_default().to_owned();
        let own_request = cel::request_resource_value(
            about.rights,
            &text(resource, "group"),
            &text(resource, "resource"),
            &text(about.request, "subResource"),
            &text(about.request, "namespace"),
            &text(about.request, "name"),
        );
        let mut budget = Budget::new(cel::MATCH_CONDITIONS_BUDGET);
        let activation = Activation::new()
            .with("object", cel::Value::json(about.object.unwrap_or(&Value::Null)))
            .with("oldObject", cel::Value::json(about.old.unwrap_or(&Value::Null)))
            .with("namespaceObject", cel::Value::json(about.namespace.unwrap_or(&Value::Null)))
            .with("request", cel::Value::json(about.request))
            .with("authorizer", cel::authorizer_value(about.rights))
            .with("authorizer.requestResource", own_request);
        let mut wrong = Vec::new();
        for condition in &self.conditions {
            let outcome = condition.as_ref().map_err(Clone::clone).and_then(|program| {
                let outcome = program.evaluate(&activation, &mut budget);
                if budget.is_exhausted() {
                    return Err(OUT_OF_BUDGET.to_owned());
                }
                outcome.map(|value| matches!(value, cel::Value::Bool(true))).map_err(|why| why.to_string())
            });
            match outcome {
                Ok(false) => return Ok(false),
                Ok(true) => {}
                Err(why) => wrong.push(why),
            }
        }
        match (wrong.as_slice(), fails_closed) {
            ([], _) => Ok(true),
            (_, false) => Ok(false),
            ([one], true) => Err(one.clone()),
            (many, true) => Err(format!("[{}]", many.join(", "))),
        }
    }
}
