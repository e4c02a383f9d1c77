//! What an expression may refer to: functions with their overloads, variables, and types with fields.

mod signature;

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, LazyLock};

use super::library;
use super::schema::Shape;
use super::types::Type;
use super::value::{EvaluationError, Value};
use super::work::Work;

/// A function as the libraries state it: overloads as `id (args) -> result`, or `id target.(args) -> result`.
pub(super) struct Function {
    pub(super) name: &'static str,
    pub(super) overloads: &'static [&'static str],
    pub(super) run: Run,
}

/// Computes a function, given arguments that fit one of its overloads.
pub(super) type Run = for<'a> fn(&mut Work, &[Value<'a>]) -> Result<Value<'a>, EvaluationError>;

/// All overloads of a name, in the order of the libraries.
#[derive(Debug)]
pub(super) struct FunctionDeclaration {
    pub(super) name: &'static str,
    pub(super) overloads: Vec<Overload>,
}

pub(super) struct Overload {
    pub(super) id: &'static str,
    pub(super) is_member: bool,
    /// Arguments, the target first.
    pub(super) args: Vec<Type>,
    pub(super) result: Type,
    pub(super) run: Run,
}

impl std::fmt::Debug for Overload {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        out.write_str(self.id)
    }
}

type Functions = HashMap<&'static str, Arc<FunctionDeclaration>>;

/// The functions of every environment of Kubernetes 1.36.
static BASE: LazyLock<Functions> = LazyLock::new(|| collect(library::BASE));

/// Those that mutating policies have besides.
static PATCHES: LazyLock<Functions> = LazyLock::new(|| collect(library::PATCHES));

fn collect(libraries: &'static [&'static [Function]]) -> Functions {
    let mut found: HashMap<&'static str, FunctionDeclaration> = HashMap::new();
    for function in libraries.iter().copied().flatten() {
        let declaration = found
            .entry(function.name)
            .or_insert_with(|| FunctionDeclaration { name: function.name, overloads: Vec::new() });
        declaration.overloads.extend(function.overloads.iter().map(|text| signature::parse(text, function.run)));
    }
    found.into_iter().map(|(name, declaration)| (name, Arc::new(declaration))).collect()
}

/// The types of the language that have names of their own.
fn language_type(name: &str) -> Option<Type> {
    Some(match name {
        "bool" => Type::Bool,
        "bytes" => Type::Bytes,
        "double" => Type::Double,
        "google.protobuf.Duration" => Type::Duration,
        "google.protobuf.Timestamp" => Type::Timestamp,
        "int" => Type::Int,
        "list" => Type::list(Type::Dyn),
        "map" => Type::map(Type::Dyn, Type::Dyn),
        "null_type" => Type::Null,
        "optional_type" => Type::optional(Type::Dyn),
        "string" => Type::String,
        "type" => Type::Type(None),
        "uint" => Type::Uint,
        _ => return None,
    })
}

/// The types of Kubernetes's libraries, which have functions and no fields.
const LIBRARY_TYPES: [&str; 12] = [
    "net.IP",
    "net.CIDR",
    "kubernetes.URL",
    "kubernetes.Quantity",
    "kubernetes.NamedFormat",
    "kubernetes.Semver",
    "kubernetes.authorization.Authorizer",
    "kubernetes.authorization.PathCheck",
    "kubernetes.authorization.GroupCheck",
    "kubernetes.authorization.ResourceCheck",
    "kubernetes.authorization.Decision",
    "kubernetes.Format",
];

/// The variables, types and sizes that expressions of one place may refer to, beside the functions, which are those
/// of Kubernetes 1.36 (`k8s.io/apiserver/pkg/cel/environment`).
#[derive(Clone, Debug, Default)]
pub struct Declarations {
    variables: HashMap<Arc<str>, Type>,
    objects: HashMap<Arc<str>, BTreeMap<Arc<str>, Type>>,
    /// How large the values of the shaped variables may be, for the estimate of costs.
    root: Option<Arc<Shape>>,
    mutates: bool,
    /// Whether there is the macro `cel.bind`.
    binds: bool,
}

impl Declarations {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn variable(mut self, name: &str, ty: Type) -> Self {
        self.variables.insert(name.into(), ty);
        self
    }

    /// A variable whose values follow a schema. Its objects become types called `type_name` and
    /// `type_name.<field>`, and its sizes are what costs are estimated from: all shaped variables of an environment
    /// are states of one thing.
    pub fn shaped(mut self, name: &str, type_name: &str, shape: &Arc<Shape>) -> Self {
        let ty = shape.declare(type_name, &mut |object, fields| {
            self.objects.insert(object, fields);
        });
        self.variables.insert(name.into(), ty);
        self.root = Some(shape.clone());
        self
    }

    /// The `device` that the selectors of `resource.k8s.io` speak of
    /// (`k8s.io/dynamic-resource-allocation/cel/compile.go`).
    pub fn device() -> Self {
        const DEVICE: &str = "kubernetes.DRADevice";
        let by_domain = |of: Type| Type::map(Type::String, Type::map(Type::String, of));
        let fields = [
            ("driver", Type::String),
            ("allowMultipleAllocations", Type::Bool),
            ("attributes", by_domain(Type::Any)),
            ("capacity", by_domain(Type::object("kubernetes.Quantity"))),
        ];
        let root = Some(Arc::new(Shape::of_device()));
        Self { root, binds: true, ..Self::new().object(DEVICE, fields).variable("device", Type::object(DEVICE)) }
    }

    /// Like [`Self::shaped`], for a value that may be absent.
    pub fn optionally_shaped(mut self, name: &str, type_name: &str, shape: &Arc<Shape>) -> Self {
        self = self.shaped(name, type_name, shape);
        if let Some(ty) = self.variables.get_mut(name) {
            *ty = Type::optional(ty.clone());
        }
        self
    }

    /// A type with fields.
    pub fn object<N: Into<Arc<str>>>(mut self, name: &str, fields: impl IntoIterator<Item = (N, Type)>) -> Self {
        let fields = fields.into_iter().map(|(name, ty)| (name.into(), ty)).collect();
        self.objects.insert(name.into(), fields);
        self
    }

    /// What mutating policies may construct: `Object{}`, `Object.spec{}` and so on with any fields, and `JSONPatch{}`.
    pub fn mutations(mut self) -> Self {
        self.mutates = true;
        let patch = [("op", Type::String), ("path", Type::String), ("from", Type::String), ("value", Type::Dyn)];
        self.object("JSONPatch", patch)
    }

    pub(super) fn function(&self, name: &str) -> Option<&'static Arc<FunctionDeclaration>> {
        let patches = if self.mutates { PATCHES.get(name) } else { None };
        BASE.get(name).or(patches)
    }

    /// The type of a variable, or of the name of a type.
    pub(super) fn ident(&self, name: &str) -> Option<Type> {
        let name = name.strip_prefix('.').unwrap_or(name);
        self.variables.get(name).cloned().or_else(|| self.type_named(name).map(Type::of_type))
    }

    fn type_named(&self, name: &str) -> Option<Type> {
        if let Some(ty) = language_type(name) {
            return Some(ty);
        }
        if LIBRARY_TYPES.contains(&name) {
            return Some(signature::named(name));
        }
        (self.objects.contains_key(name) || self.is_open(name)).then(|| Type::object(name))
    }

    /// Whether the type takes any field.
    fn is_open(&self, name: &str) -> bool {
        self.mutates && (name == "Object" || name.starts_with("Object."))
    }

    pub(super) fn has_object(&self, name: &str) -> bool {
        self.objects.contains_key(name) || self.is_open(name)
    }

    pub(super) fn field(&self, object: &str, field: &str) -> Option<Type> {
        if self.is_open(object) {
            return Some(Type::Dyn);
        }
        let fields = self.objects.get(object)?;
        // Words that the language reserves are escaped as fields, and may be written plainly where the grammar lets them.
        fields.get(field).or_else(|| fields.get(format!("__{field}__").as_str())).cloned()
    }

    pub(super) fn has_bind(&self) -> bool {
        self.binds
    }

    pub(super) fn root(&self) -> Option<&Shape> {
        self.root.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_signature_is_well_formed() {
        assert!(BASE.len() > 100);
        assert_eq!(PATCHES.len(), 1);
        let has_only_known_params = |overload: &Overload| format!("{}", overload.result).len() < 80;
        assert!(BASE.values().all(|function| function.overloads.iter().all(has_only_known_params)));
    }
}
