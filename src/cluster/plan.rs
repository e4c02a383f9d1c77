//! Which steps make, start, stop and delete a cluster, and in which order: pure.
//!
//! A plan is stages one after another; the steps of one stage don't need each other and run at once.

use serde::{Deserialize, Serialize};

use super::state::ClusterState;

/// One thing to do; each can be done again without harm.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Step {
    LoadImage,
    CreateNetwork,
    DeleteNetwork,
    CreateNode(String),
    StartNode(String),
    StopNode(String),
    DeleteNode(String),
    /// Until the nodes are Ready, names resolve and pods may be created.
    AwaitReady,
    MergeKubeconfig,
    RemoveKubeconfig,
}

/// Stages of steps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Plan {
    pub(crate) stages: Vec<Vec<Step>>,
}

/// What `cluster create` was asked to leave out.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Wishes {
    pub(crate) wait: bool,
    pub(crate) update_kubeconfig: bool,
}

/// All nodes start at once: an agent asks for its server until it answers.
pub(crate) fn create(state: &ClusterState, wishes: Wishes) -> Plan {
    let mut stages = vec![
        vec![Step::LoadImage, Step::CreateNetwork],
        each_node(state, Step::CreateNode),
        each_node(state, Step::StartNode),
    ];
    if wishes.wait {
        stages.push(vec![Step::AwaitReady]);
    }
    if wishes.update_kubeconfig {
        stages.push(vec![Step::MergeKubeconfig]);
    }
    Plan { stages }
}

/// The image and the network too: a reboot takes from some runtimes what was not on disk.
pub(crate) fn start(state: &ClusterState, wait: bool) -> Plan {
    let mut stages = vec![vec![Step::LoadImage, Step::CreateNetwork], each_node(state, Step::StartNode)];
    if wait {
        stages.push(vec![Step::AwaitReady]);
    }
    Plan { stages }
}

/// Agents first, so that the server hears their last words.
pub(crate) fn stop(state: &ClusterState) -> Plan {
    use super::filters::Role;
    let of = |role: Role| -> Vec<Step> {
        let nodes = state.nodes.iter().filter(|it| it.role == role);
        nodes.map(|it| Step::StopNode(it.name.clone())).collect()
    };
    Plan { stages: [of(Role::Agent), of(Role::Server)].into_iter().filter(|stage| !stage.is_empty()).collect() }
}

/// The kubeconfig first: nobody should still be led to what is going.
pub(crate) fn delete(state: &ClusterState) -> Plan {
    Plan { stages: vec![vec![Step::RemoveKubeconfig], each_node(state, Step::DeleteNode), vec![Step::DeleteNetwork]] }
}

/// What undoes the steps that were begun, whether they came to their end or not; last begun, first undone.
pub(crate) fn rollback(begun: &[Step]) -> Plan {
    let mut nodes = Vec::new();
    let (mut network, mut kubeconfig) = (false, false);
    for step in begun.iter().rev() {
        match step {
            Step::CreateNode(name) | Step::StartNode(name) => {
                let undo = Step::DeleteNode(name.clone());
                if !nodes.contains(&undo) {
                    nodes.push(undo);
                }
            }
            Step::CreateNetwork => network = true,
            Step::MergeKubeconfig => kubeconfig = true,
            // An image is a cache's entry, and the others make nothing.
            _ => {}
        }
    }
    let stages = [
        if kubeconfig { vec![Step::RemoveKubeconfig] } else { Vec::new() },
        nodes,
        if network { vec![Step::DeleteNetwork] } else { Vec::new() },
    ];
    Plan { stages: stages.into_iter().filter(|stage| !stage.is_empty()).collect() }
}

fn each_node(state: &ClusterState, step: impl Fn(String) -> Step) -> Vec<Step> {
    state.nodes.iter().map(|it| step(it.name.clone())).collect()
}
