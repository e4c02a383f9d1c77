//! The ClusterRoles that people and components have, and who has them from the start.

use super::{Binding, Role, account, group, rule, urls, user};

pub(super) const ROLES: &[Role] = &[
    Role::new("admin").aggregates("admin"),
    Role::new("cluster-admin").rules(&[rule("*", "*", "*"), urls("*", "*")]),
    Role::new("edit").aggregated_to("admin").aggregates("edit"),
    Role::new("system:aggregate-to-admin").aggregated_to("admin").rules(&[
        rule("authorization.k8s.io", "localsubjectaccessreviews", "create"),
        rule(
            "rbac.authorization.k8s.io",
            "rolebindings roles",
            "create delete deletecollection get list patch update watch",
        ),
    ]),
    Role::new("system:aggregate-to-edit").aggregated_to("edit").rules(&[
        rule("core", "pods/attach pods/exec pods/portforward pods/proxy secrets services/proxy", "get list watch"),
        rule("core", "serviceaccounts", "impersonate"),
        rule(
            "core",
            "pods pods/attach pods/exec pods/portforward pods/proxy",
            "create delete deletecollection patch update",
        ),
        rule("core", "pods/eviction", "create"),
        rule(
            "core",
            "configmaps persistentvolumeclaims replicationcontrollers replicationcontrollers/scale secrets \
             serviceaccounts services services/proxy",
            "create delete deletecollection patch update",
        ),
        rule("core", "serviceaccounts/token", "create"),
        rule("core events.k8s.io", "events", "create delete deletecollection patch update"),
        rule(
            "apps",
            "daemonsets deployments deployments/rollback deployments/scale replicasets replicasets/scale \
             statefulsets statefulsets/scale",
            "create delete deletecollection patch update",
        ),
        rule("autoscaling", "horizontalpodautoscalers", "create delete deletecollection patch update"),
        rule("batch", "cronjobs jobs", "create delete deletecollection patch update"),
        rule(
            "extensions",
            "daemonsets deployments deployments/rollback deployments/scale ingresses networkpolicies replicasets \
             replicasets/scale replicationcontrollers/scale",
            "create delete deletecollection patch update",
        ),
        rule("policy", "poddisruptionbudgets", "create delete deletecollection patch update"),
        rule("networking.k8s.io", "ingresses networkpolicies", "create delete deletecollection patch update"),
        rule("coordination.k8s.io", "leases", "create delete deletecollection get list patch update watch"),
        rule("resource.k8s.io", "resourceclaims resourceclaimtemplates", "create delete deletecollection patch update"),
    ]),
    Role::new("system:aggregate-to-view").aggregated_to("view").rules(&[
        rule(
            "core",
            "configmaps endpoints persistentvolumeclaims persistentvolumeclaims/status pods \
             replicationcontrollers replicationcontrollers/scale serviceaccounts services services/status",
            "get list watch",
        ),
        rule(
            "core",
            "bindings limitranges namespaces/status pods/log pods/status replicationcontrollers/status \
             resourcequotas resourcequotas/status",
            "get list watch",
        ),
        rule("core", "namespaces", "get list watch"),
        rule("core events.k8s.io", "events", "get list watch"),
        rule("discovery.k8s.io", "endpointslices", "get list watch"),
        rule(
            "apps",
            "controllerrevisions daemonsets daemonsets/status deployments deployments/scale deployments/status \
             replicasets replicasets/scale replicasets/status statefulsets statefulsets/scale statefulsets/status",
            "get list watch",
        ),
        rule("autoscaling", "horizontalpodautoscalers horizontalpodautoscalers/status", "get list watch"),
        rule("batch", "cronjobs cronjobs/status jobs jobs/status", "get list watch"),
        rule(
            "extensions",
            "daemonsets daemonsets/status deployments deployments/scale deployments/status ingresses \
             ingresses/status networkpolicies replicasets replicasets/scale replicasets/status \
             replicationcontrollers/scale",
            "get list watch",
        ),
        rule("policy", "poddisruptionbudgets poddisruptionbudgets/status", "get list watch"),
        rule("networking.k8s.io", "ingresses ingresses/status networkpolicies", "get list watch"),
        rule("resource.k8s.io", "resourceclaims resourceclaims/status resourceclaimtemplates", "get list watch"),
    ]),
    Role::new("system:auth-delegator").rules(&[
        rule("authentication.k8s.io", "tokenreviews", "create"),
        rule("authorization.k8s.io", "subjectaccessreviews", "create"),
    ]),
    Role::new("system:basic-user").rules(&[
        rule("authorization.k8s.io", "selfsubjectaccessreviews selfsubjectrulesreviews", "create"),
        rule("authentication.k8s.io", "selfsubjectreviews", "create"),
    ]),
    Role::new("system:certificates.k8s.io:certificatesigningrequests:nodeclient").rules(&[rule(
        "certificates.k8s.io",
        "certificatesigningrequests/nodeclient",
        "create",
    )]),
    Role::new("system:certificates.k8s.io:certificatesigningrequests:selfnodeclient").rules(&[rule(
        "certificates.k8s.io",
        "certificatesigningrequests/selfnodeclient",
        "create",
    )]),
    Role::new("system:certificates.k8s.io:kube-apiserver-client-approver").rules(&[rule(
        "certificates.k8s.io",
        "signers",
        "approve",
    )
    .named("kubernetes.io/kube-apiserver-client")]),
    Role::new("system:certificates.k8s.io:kube-apiserver-client-kubelet-approver").rules(&[rule(
        "certificates.k8s.io",
        "signers",
        "approve",
    )
    .named("kubernetes.io/kube-apiserver-client-kubelet")]),
    Role::new("system:certificates.k8s.io:kubelet-serving-approver").rules(&[rule(
        "certificates.k8s.io",
        "signers",
        "approve",
    )
    .named("kubernetes.io/kubelet-serving")]),
    Role::new("system:certificates.k8s.io:legacy-unknown-approver").rules(&[rule(
        "certificates.k8s.io",
        "signers",
        "approve",
    )
    .named("kubernetes.io/legacy-unknown")]),
    Role::new("system:discovery").rules(&[urls(
        "get",
        "/api /api/* /apis /apis/* /healthz /livez /openapi /openapi/* /readyz /version /version/",
    )]),
    Role::new("system:heapster").rules(&[
        rule("core", "events namespaces nodes pods", "get list watch"),
        rule("extensions", "deployments", "get list watch"),
    ]),
    Role::new("system:kube-aggregator").rules(&[rule("core", "endpoints services", "get list watch")]),
    Role::new("system:kube-controller-manager").rules(&[
        rule("core events.k8s.io", "events", "create patch update"),
        rule("coordination.k8s.io", "leases", "create"),
        rule("coordination.k8s.io", "leases", "get update").named("kube-controller-manager"),
        rule("core", "secrets serviceaccounts", "create"),
        rule("core", "secrets", "delete"),
        rule("core", "configmaps namespaces secrets serviceaccounts", "get"),
        rule("core", "secrets serviceaccounts", "update"),
        rule("authentication.k8s.io", "tokenreviews", "create"),
        rule("authorization.k8s.io", "subjectaccessreviews", "create"),
        rule("*", "*", "list watch"),
        rule("core", "serviceaccounts/token", "create"),
    ]),
    Role::new("system:kube-dns").rules(&[rule("core", "endpoints services", "list watch")]),
    Role::new("system:kube-scheduler").rules(&[
        rule("core events.k8s.io", "events", "create patch update"),
        rule("coordination.k8s.io", "leases", "create"),
        rule("coordination.k8s.io", "leases", "get list update watch").named("kube-scheduler"),
        rule("coordination.k8s.io", "leasecandidates", "create delete deletecollection get list patch update watch"),
        rule("core", "nodes", "get list watch"),
        rule("core", "pods", "delete get list watch"),
        rule("core", "bindings pods/binding", "create"),
        rule("core", "pods/status", "patch update"),
        rule("core", "replicationcontrollers services", "get list watch"),
        rule("apps extensions", "replicasets", "get list watch"),
        rule("apps", "statefulsets", "get list watch"),
        rule("policy", "poddisruptionbudgets", "get list watch"),
        rule("core", "persistentvolumeclaims persistentvolumes", "get list watch"),
        rule("authentication.k8s.io", "tokenreviews", "create"),
        rule("authorization.k8s.io", "subjectaccessreviews", "create"),
        rule("storage.k8s.io", "csinodes", "get list watch"),
        rule("storage.k8s.io", "volumeattachments", "get list watch"),
        rule("core", "namespaces", "get list watch"),
        rule("storage.k8s.io", "csidrivers", "get list watch"),
        rule("storage.k8s.io", "csistoragecapacities", "get list watch"),
        rule("resource.k8s.io", "deviceclasses", "get list watch"),
        rule("resource.k8s.io", "resourceclaims", "get list patch update watch"),
        rule("resource.k8s.io", "resourceclaims/status", "get list patch update watch"),
        rule("core", "pods/finalizers", "update"),
        rule("resource.k8s.io", "resourceslices", "get list watch"),
        rule("resource.k8s.io", "resourceclaims", "create delete"),
        rule("resource.k8s.io", "resourceclaims/binding", "patch update"),
    ]),
    Role::new("system:kubelet-api-admin").rules(&[
        rule("core", "nodes", "get list watch"),
        rule("core", "nodes", "proxy"),
        rule("core", "nodes/log nodes/metrics nodes/proxy nodes/stats", "*"),
        rule("core", "nodes/configz nodes/healthz nodes/pods", "*"),
    ]),
    Role::new("system:monitoring").rules(&[
        urls("get", "/flagz /healthz /healthz/* /livez /livez/* /metrics /metrics/slis /readyz /readyz/* /statusz"),
        rule("core", "nodes/metrics", "get"),
    ]),
    Role::new("system:node").rules(&[
        rule("authentication.k8s.io", "tokenreviews", "create"),
        rule("authorization.k8s.io", "localsubjectaccessreviews subjectaccessreviews", "create"),
        rule("core", "services", "get list watch"),
        rule("core", "nodes", "create get list watch"),
        rule("core", "nodes/status", "patch update"),
        rule("core", "nodes", "patch update"),
        rule("core events.k8s.io", "events", "create patch update"),
        rule("core", "pods", "get list watch"),
        rule("core", "pods", "create delete"),
        rule("core", "pods/status", "patch update"),
        rule("core", "pods/eviction", "create"),
        rule("core", "configmaps secrets", "get list watch"),
        rule("core", "persistentvolumeclaims persistentvolumes", "get"),
        rule("core", "endpoints", "get"),
        rule("certificates.k8s.io", "certificatesigningrequests", "create get list watch"),
        rule("coordination.k8s.io", "leases", "create delete get patch update"),
        rule("storage.k8s.io", "volumeattachments", "get"),
        rule("core", "serviceaccounts/token", "create"),
        rule("core", "persistentvolumeclaims/status", "get patch update"),
        rule("storage.k8s.io", "csidrivers", "get list watch"),
        rule("storage.k8s.io", "csinodes", "create delete get patch update"),
        rule("node.k8s.io", "runtimeclasses", "get list watch"),
        rule("resource.k8s.io", "resourceclaims", "get"),
        rule("resource.k8s.io", "resourceslices", "deletecollection"),
        rule("core", "serviceaccounts", "get"),
    ]),
    Role::new("system:node-bootstrapper").rules(&[rule(
        "certificates.k8s.io",
        "certificatesigningrequests",
        "create get list watch",
    )]),
    Role::new("system:node-problem-detector").rules(&[
        rule("core", "nodes", "get"),
        rule("core", "nodes/status", "patch"),
        rule("core events.k8s.io", "events", "create patch update"),
    ]),
    Role::new("system:node-proxier").rules(&[
        rule("core", "endpoints services", "list watch"),
        rule("core", "nodes", "get list watch"),
        rule("core events.k8s.io", "events", "create patch update"),
        rule("networking.k8s.io", "servicecidrs", "list watch"),
        rule("discovery.k8s.io", "endpointslices", "list watch"),
    ]),
    Role::new("system:persistent-volume-provisioner").rules(&[
        rule("core", "persistentvolumes", "create delete get list watch"),
        rule("core", "persistentvolumeclaims", "get list update watch"),
        rule("storage.k8s.io", "storageclasses", "get list watch"),
        rule("core", "events", "watch"),
        rule("core events.k8s.io", "events", "create patch update"),
    ]),
    Role::new("system:public-info-viewer").rules(&[urls("get", "/healthz /livez /readyz /version /version/")]),
    Role::new("system:service-account-issuer-discovery").rules(&[urls(
        "get",
        "/.well-known/openid-configuration /.well-known/openid-configuration/ /openid/v1/jwks /openid/v1/jwks/",
    )]),
    Role::new("system:volume-scheduler").rules(&[
        rule("core", "persistentvolumes", "get list patch update watch"),
        rule("storage.k8s.io", "storageclasses", "get list watch"),
        rule("core", "persistentvolumeclaims", "get list patch update watch"),
    ]),
    Role::new("view").aggregated_to("edit").aggregates("view"),
];

pub(super) const BINDINGS: &[Binding] = &[
    Binding::new("cluster-admin").to(&[group("system:masters")]),
    Binding::new("system:basic-user").to(&[group("system:authenticated")]),
    Binding::new("system:discovery").to(&[group("system:authenticated")]),
    Binding::new("system:kube-controller-manager").to(&[user("system:kube-controller-manager")]),
    Binding::new("system:kube-dns").to(&[account("kube-dns")]),
    Binding::new("system:kube-scheduler").to(&[user("system:kube-scheduler")]),
    Binding::new("system:monitoring").to(&[group("system:monitoring")]),
    Binding::new("system:node").to(&[]),
    Binding::new("system:node-proxier").to(&[user("system:kube-proxy")]),
    Binding::new("system:public-info-viewer").to(&[group("system:authenticated"), group("system:unauthenticated")]),
    Binding::new("system:service-account-issuer-discovery").to(&[group("system:serviceaccounts")]),
    Binding::new("system:volume-scheduler").to(&[user("system:kube-scheduler")]),
];
