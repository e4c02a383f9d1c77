//! What the runtime says about one pod: the facts that plan and status are made from.

use k8s_openapi::api::core::v1::PodSpec;

use super::spec::Role;
use crate::cgroups::Limits;

/// A pod's sandboxes and containers, newest first.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Observed {
    pub(crate) sandboxes: Vec<Sandbox>,
    pub(crate) containers: Vec<Container>,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Sandbox {
    pub(crate) id: String,
    pub(crate) attempt: u32,
    pub(crate) ready: bool,
    /// Nanoseconds since the epoch, as all times here.
    pub(crate) created_at: i64,
    /// The pod's addresses, the primary one first; none with the host's network.
    pub(crate) ips: Vec<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum State {
    /// Created, its process not started.
    Created,
    Running,
    Exited,
    /// The runtime lost track of it.
    #[default]
    Unknown,
}

#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Container {
    pub(crate) id: String,
    pub(crate) sandbox: String,
    pub(crate) name: String,
    /// How many containers of this name came before it: the restart count.
    pub(crate) attempt: u32,
    pub(crate) state: State,
    pub(crate) created_at: i64,
    pub(crate) started_at: i64,
    pub(crate) finished_at: i64,
    pub(crate) exit_code: i32,
    /// `OOMKilled`, `Error`, `Completed`, `StartError`, ... as the runtime says.
    pub(crate) reason: String,
    pub(crate) message: String,
    /// As the spec names it.
    pub(crate) image: String,
    /// The digest reference that runs.
    pub(crate) image_ref: String,
    /// The fingerprint of the spec that it was made from; empty when the runtime has none.
    pub(crate) fingerprint: String,
    pub(crate) log_path: String,
    /// The identity that its first process got: user, group, supplemental groups.
    pub(crate) user: Option<(i64, i64, Vec<i64>)>,
    /// What it may use now; none where the runtime does not say.
    pub(crate) limits: Option<Limits>,
}

impl Container {
    /// It runs, and may not use now what the spec says: what it may use.
    pub(crate) fn to_resize(
        &self,
        spec: &PodSpec,
        role: Role,
        container: &k8s_openapi::api::core::v1::Container,
    ) -> Option<Limits> {
        let limits = self.limits.filter(|_| self.state == State::Running)?;
        (limits != Limits::wanted(spec, role, container)).then_some(limits)
    }
}

impl Observed {
    /// The sandbox that the pod's containers live in: the newest, when it is ready.
    pub(crate) fn ready_sandbox(&self) -> Option<&Sandbox> {
        self.sandboxes.first().filter(|sandbox| sandbox.ready)
    }

    /// The newest container of a name, in any sandbox.
    pub(crate) fn newest(&self, name: &str) -> Option<&Container> {
        self.containers.iter().filter(|container| container.name == name).max_by_key(|container| container.attempt)
    }

    /// The newest container of a name in one sandbox.
    pub(crate) fn newest_in(&self, sandbox: &str, name: &str) -> Option<&Container> {
        self.newest(name).filter(|container| container.sandbox == sandbox)
    }

    /// The containers of a name, newest first.
    pub(crate) fn history(&self, name: &str) -> Vec<&Container> {
        let mut all: Vec<&Container> = self.containers.iter().filter(|container| container.name == name).collect();
        all.sort_by_key(|container| std::cmp::Reverse(container.attempt));
        all
    }

    pub(crate) fn any_running(&self) -> bool {
        self.containers.iter().any(|container| container.state == State::Running)
    }
}
