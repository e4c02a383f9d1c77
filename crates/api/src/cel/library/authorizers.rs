//! Questions to the caller's authorizer: may this user do that?

use std::fmt;
use std::sync::Arc;

use super::{text, two};
use crate::cel::declarations::Function;
use crate::cel::value::{EvaluationError, Value};
use crate::cel::work::Work;
use crate::names;

type Outcome<'a> = Result<Value<'a>, EvaluationError>;

/// Decides for the user of the request, or for a service account that the expression names.
///
/// Evaluation waits for the answer, so it is to be one from memory.
pub trait Authorizer: Sync {
    fn authorize_path(&self, request: &PathAttributes<'_>) -> Decision;
    fn authorize_resource(&self, request: &ResourceAttributes<'_>) -> Decision;
}

/// A request for a path that is no resource.
#[derive(Clone, Copy, Debug)]
pub struct PathAttributes<'r> {
    /// Namespace and name; none for the user of the request.
    pub service_account: Option<(&'r str, &'r str)>,
    pub path: &'r str,
    pub verb: &'r str,
}

/// A request for a resource. What is not asked about is empty.
#[derive(Clone, Copy, Debug)]
pub struct ResourceAttributes<'r> {
    /// Namespace and name; none for the user of the request.
    pub service_account: Option<(&'r str, &'r str)>,
    pub group: &'r str,
    pub resource: &'r str,
    pub subresource: &'r str,
    pub namespace: &'r str,
    pub name: &'r str,
    pub verb: &'r str,
    /// As written; one that cannot be read selects everything.
    pub field_selector: &'r str,
    pub label_selector: &'r str,
}

/// What an authorizer says.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Decision {
    pub allowed: bool,
    pub reason: String,
    /// Why it could not decide.
    pub error: Option<String>,
}

/// A question in the making, or its answer.
#[derive(Clone)]
pub struct AuthorizerValue<'a> {
    authorizer: &'a dyn Authorizer,
    service_account: Option<(String, String)>,
    stage: Stage,
}

#[derive(Clone)]
enum Stage {
    Start,
    Path(String),
    Group(String),
    Resource(Resource),
    Decision(Decision),
}

#[derive(Clone, Debug, Default)]
struct Resource {
    group: String,
    resource: String,
    subresource: String,
    namespace: String,
    name: String,
    field_selector: String,
    label_selector: String,
}

/// The variable `authorizer`.
pub fn authorizer_value(authorizer: &dyn Authorizer) -> Value<'_> {
    Value::Authorizer(Arc::new(AuthorizerValue { authorizer, service_account: None, stage: Stage::Start }))
}

/// The variable `authorizer.requestResource`: the check of the resource that a request is about.
pub fn request_resource_value<'a>(
    authorizer: &'a dyn Authorizer,
    group: &str,
    resource: &str,
    subresource: &str,
    namespace: &str,
    name: &str,
) -> Value<'a> {
    let resource = Resource {
        group: group.to_owned(),
        resource: resource.to_owned(),
        subresource: subresource.to_owned(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        ..Resource::default()
    };
    let stage = Stage::Resource(resource);
    Value::Authorizer(Arc::new(AuthorizerValue { authorizer, service_account: None, stage }))
}

impl fmt::Debug for AuthorizerValue<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(self.type_name())
    }
}

pub(super) const FUNCTIONS: &[Function] = &[
    Function {
        name: "path",
        overloads: &[
            "authorizer_path kubernetes.authorization.Authorizer.(string) -> kubernetes.authorization.PathCheck",
        ],
        run: |_, args| step(args, |text| stated(text, "path").map(Stage::Path)),
    },
    Function {
        name: "group",
        overloads: &[
            "authorizer_group kubernetes.authorization.Authorizer.(string) -> kubernetes.authorization.GroupCheck",
        ],
        run: |_, args| step(args, |text| Ok(Stage::Group(text.to_owned()))),
    },
    Function {
        name: "serviceAccount",
        overloads: &[
            "authorizer_serviceaccount kubernetes.authorization.Authorizer.(string, string) -> kubernetes.authorization.Authorizer",
        ],
        run: service_account,
    },
    Function {
        name: "resource",
        overloads: &[
            "groupcheck_resource kubernetes.authorization.GroupCheck.(string) -> kubernetes.authorization.ResourceCheck",
        ],
        run: resource,
    },
    Function {
        name: "subresource",
        overloads: &[
            "resourcecheck_subresource kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.ResourceCheck",
        ],
        run: |_, args| narrow(args, |resource, text| resource.subresource = text),
    },
    Function {
        name: "namespace",
        overloads: &[
            "resourcecheck_namespace kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.ResourceCheck",
        ],
        run: |_, args| narrow(args, |resource, text| resource.namespace = text),
    },
    Function {
        name: "name",
        overloads: &[
            "resourcecheck_name kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.ResourceCheck",
        ],
        run: |_, args| narrow(args, |resource, text| resource.name = text),
    },
    Function {
        name: "check",
        overloads: &[
            "pathcheck_check kubernetes.authorization.PathCheck.(string) -> kubernetes.authorization.Decision",
            "resourcecheck_check kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.Decision",
        ],
        run: check,
    },
    Function {
        name: "errored",
        overloads: &["decision_errored kubernetes.authorization.Decision.() -> bool"],
        run: |_, args| Ok(Value::Bool(decision(args)?.error.is_some())),
    },
    Function {
        name: "error",
        overloads: &["decision_error kubernetes.authorization.Decision.() -> string"],
        run: |_, args| Ok(Value::text(decision(args)?.error.clone().unwrap_or_default())),
    },
    Function {
        name: "allowed",
        overloads: &["decision_allowed kubernetes.authorization.Decision.() -> bool"],
        run: |_, args| Ok(Value::Bool(decision(args)?.allowed)),
    },
    Function {
        name: "reason",
        overloads: &["decision_reason kubernetes.authorization.Decision.() -> string"],
        run: |_, args| Ok(Value::text(decision(args)?.reason.clone())),
    },
];

pub(super) const SELECTORS: &[Function] = &[
    Function {
        name: "fieldSelector",
        overloads: &[
            "authorizer_fieldselector kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.ResourceCheck",
        ],
        run: |_, args| narrow(args, |resource, text| resource.field_selector = text),
    },
    Function {
        name: "labelSelector",
        overloads: &[
            "authorizer_labelselector kubernetes.authorization.ResourceCheck.(string) -> kubernetes.authorization.ResourceCheck",
        ],
        run: |_, args| narrow(args, |resource, text| resource.label_selector = text),
    },
];

impl<'a> AuthorizerValue<'a> {
    pub(in crate::cel) fn type_name(&self) -> &'static str {
        match self.stage {
            Stage::Start => "kubernetes.authorization.Authorizer",
            Stage::Path(_) => "kubernetes.authorization.PathCheck",
            Stage::Group(_) => "kubernetes.authorization.GroupCheck",
            Stage::Resource(_) => "kubernetes.authorization.ResourceCheck",
            Stage::Decision(_) => "kubernetes.authorization.Decision",
        }
    }

    /// Questions are not compared: each is its own.
    pub(in crate::cel) fn is_same(&self, other: &AuthorizerValue<'_>) -> bool {
        matches!((&self.stage, &other.stage), (Stage::Decision(a), Stage::Decision(b)) if a == b)
    }

    fn at(&self, stage: Stage) -> Value<'a> {
        Value::Authorizer(Arc::new(Self { stage, ..self.clone() }))
    }

    fn account(&self) -> Option<(&str, &str)> {
        self.service_account.as_ref().map(|(namespace, name)| (namespace.as_str(), name.as_str()))
    }
}

fn question<'v, 'a>(args: &'v [Value<'a>]) -> Result<&'v AuthorizerValue<'a>, EvaluationError> {
    match args.first() {
        Some(Value::Authorizer(value)) => Ok(value),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn decision<'v>(args: &'v [Value<'_>]) -> Result<&'v Decision, EvaluationError> {
    match &question(args)?.stage {
        Stage::Decision(decision) => Ok(decision),
        _ => Err(EvaluationError::NoSuchOverload),
    }
}

fn stated(text: &str, what: &str) -> Result<String, EvaluationError> {
    match text.trim().is_empty() {
        true => Err(EvaluationError::failed(format_args!("{what} must not be empty"))),
        false => Ok(text.to_owned()),
    }
}

/// The question with one more thing known of it, by the text that the second argument is.
fn step<'a>(args: &[Value<'a>], next: impl FnOnce(&str) -> Result<Stage, EvaluationError>) -> Outcome<'a> {
    let [_, rest @ ..] = two(args)?;
    Ok(question(args)?.at(next(text(rest)?)?))
}

fn resource<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let Stage::Group(group) = &question(args)?.stage else {
        return Err(EvaluationError::NoSuchOverload);
    };
    step(args, |text| {
        let resource = stated(text, "resource")?;
        Ok(Stage::Resource(Resource { group: group.clone(), resource, ..Resource::default() }))
    })
}

fn narrow<'a>(args: &[Value<'a>], change: impl FnOnce(&mut Resource, String)) -> Outcome<'a> {
    let Stage::Resource(resource) = &question(args)?.stage else {
        return Err(EvaluationError::NoSuchOverload);
    };
    let mut resource = resource.clone();
    step(args, |text| {
        change(&mut resource, text.to_owned());
        Ok(Stage::Resource(resource))
    })
}

fn service_account<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let [_, Value::String(namespace), Value::String(name)] = args else {
        return Err(EvaluationError::NoSuchOverload);
    };
    if !names::dns_subdomain(name).is_empty() {
        return Err(EvaluationError::failed("Invalid service account name"));
    }
    if !names::dns_label(namespace).is_empty() {
        return Err(EvaluationError::failed("Invalid service account namespace"));
    }
    let service_account = Some((namespace.to_string(), name.to_string()));
    Ok(Value::Authorizer(Arc::new(AuthorizerValue { service_account, ..question(args)?.clone() })))
}

fn check<'a>(_: &mut Work, args: &[Value<'a>]) -> Outcome<'a> {
    let question = question(args)?;
    step(args, |verb| {
        let service_account = question.account();
        let decision = match &question.stage {
            Stage::Path(path) => question.authorizer.authorize_path(&PathAttributes { service_account, path, verb }),
            Stage::Resource(of) => question.authorizer.authorize_resource(&ResourceAttributes {
                service_account,
                group: &of.group,
                resource: &of.resource,
                subresource: &of.subresource,
                namespace: &of.namespace,
                name: &of.name,
                verb,
                field_selector: &of.field_selector,
                label_selector: &of.label_selector,
            }),
            _ => return Err(EvaluationError::NoSuchOverload),
        };
        Ok(Stage::Decision(decision))
    })
}
