//! What the expressions of admission may refer to: those of policies and of the match conditions of webhooks
//! (`k8s.io/apiserver/pkg/admission/plugin/cel`).

use super::declarations::Declarations;
use super::types::Type;

const REQUEST: &str = "kubernetes.AdmissionRequest";
const NAMESPACE: &str = "kubernetes.Namespace";

impl Declarations {
    /// `object` and `oldObject`, which have no types, `request` and `namespaceObject`, which do. All values are
    /// documents: `request` an AdmissionRequest, `namespaceObject` null for what is in no namespace.
    pub fn admission() -> Self {
        let declarations = Self::new()
            .variable("object", Type::Dyn)
            .variable("oldObject", Type::Dyn)
            .variable("request", Type::object(REQUEST))
            .variable("namespaceObject", Type::object(NAMESPACE));
        namespace(request(declarations))
    }

    /// `authorizer`, and `authorizer.requestResource`, a variable with a dot in its name.
    pub fn authorizer(self) -> Self {
        self.variable("authorizer", Type::object("kubernetes.authorization.Authorizer"))
            .variable("authorizer.requestResource", Type::object("kubernetes.authorization.ResourceCheck"))
    }
}

fn texts<const N: usize>(names: [&'static str; N]) -> [(&'static str, Type); N] {
    names.map(|name| (name, Type::String))
}

fn request(declarations: Declarations) -> Declarations {
    let kind = || Type::object("kubernetes.GroupVersionKind");
    let resource = || Type::object("kubernetes.GroupVersionResource");
    let strings = || Type::list(Type::String);
    let own = [
        ("kind", kind()),
        ("resource", resource()),
        ("requestKind", kind()),
        ("requestResource", resource()),
        ("userInfo", Type::object("kubernetes.UserInfo")),
        ("dryRun", Type::Bool),
        ("options", Type::Dyn),
    ];
    let user = [("groups", strings()), ("extra", Type::map(Type::String, strings()))];
    declarations
        .object("kubernetes.GroupVersionKind", texts(["group", "version", "kind"]))
        .object("kubernetes.GroupVersionResource", texts(["group", "version", "resource"]))
        .object("kubernetes.UserInfo", texts(["username", "uid"]).into_iter().chain(user))
        .object(
            REQUEST,
            texts(["subResource", "requestSubResource", "name", "namespace", "operation"]).into_iter().chain(own),
        )
}

fn namespace(declarations: Declarations) -> Declarations {
    let strings = || Type::list(Type::String);
    let labels = || Type::map(Type::String, Type::String);
    let own = [
        ("labels", labels()),
        ("annotations", labels()),
        ("creationTimestamp", Type::Timestamp),
        ("deletionGracePeriodSeconds", Type::Int),
        ("deletionTimestamp", Type::Timestamp),
        ("generation", Type::Int),
        ("finalizers", strings()),
    ];
    let metadata = texts(["name", "generateName", "namespace", "UID", "resourceVersion"]).into_iter().chain(own);
    let condition = texts(["status", "type", "message", "reason"]).into_iter();
    declarations
        .object("kubernetes.NamespaceMetadata", metadata)
        .object("kubernetes.NamespaceSpec", [("finalizers", strings())])
        .object("kubernetes.NamespaceCondition", condition.chain([("lastTransitionTime", Type::Timestamp)]))
        .object(
            "kubernetes.NamespaceStatus",
            [("conditions", Type::list(Type::object("kubernetes.NamespaceCondition"))), ("phase", Type::String)],
        )
        .object(
            NAMESPACE,
            [
                ("metadata", Type::object("kubernetes.NamespaceMetadata")),
                ("spec", Type::object("kubernetes.NamespaceSpec")),
                ("status", Type::object("kubernetes.NamespaceStatus")),
            ],
        )
}
