//! The labels and annotations by which sandboxes and containers are known again: upstream's, so that `crictl` and log
//! collectors find what they look for, and so that a kubelet that starts anew adopts what runs. And those of static pods.

pub(crate) const POD_NAME: &str = "io.kubernetes.pod.name";
pub(crate) const POD_NAMESPACE: &str = "io.kubernetes.pod.namespace";
pub(crate) const POD_UID: &str = "io.kubernetes.pod.uid";
pub(crate) const CONTAINER_NAME: &str = "io.kubernetes.container.name";

/// The fingerprint of the spec that a container was made from.
pub(crate) const CONTAINER_HASH: &str = "io.kubernetes.container.hash";
pub(crate) const RESTART_COUNT: &str = "io.kubernetes.container.restartCount";
pub(crate) const TERMINATION_MESSAGE_PATH: &str = "io.kubernetes.container.terminationMessagePath";
pub(crate) const TERMINATION_MESSAGE_POLICY: &str = "io.kubernetes.container.terminationMessagePolicy";

/// On a pod: where it comes from; without it, and with `api`, from the API server.
pub(crate) const CONFIG_SOURCE: &str = "kubernetes.io/config.source";
/// On a static pod: what tells one content of its file from another.
pub(crate) const CONFIG_HASH: &str = "kubernetes.io/config.hash";
/// On a static pod: when this content was first seen.
pub(crate) const CONFIG_SEEN: &str = "kubernetes.io/config.seen";
/// On a pod of the API server that only shows a static pod: that one's hash.
pub(crate) const CONFIG_MIRROR: &str = "kubernetes.io/config.mirror";
