//! A runtime without nodes: it notes what it is asked, and refuses what a test tells it to refuse.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Mutex;

use futures::FutureExt as _;
use futures::future::BoxFuture;

use super::{Exec, NodeFile, NodeRuntime, NodeSpec, Observed, RuntimeError, RuntimeKind};
use crate::node_image::NodeImage;

#[derive(Debug, Default)]
pub(crate) struct Fake {
    calls: Mutex<Vec<String>>,
    nodes: Mutex<BTreeMap<String, bool>>,
    /// The call that fails.
    refuse: Option<String>,
}

impl Fake {
    pub(crate) fn refusing(call: &str) -> Self {
        Self { refuse: Some(call.to_owned()), ..Self::default() }
    }

    /// What was asked, in order.
    pub(crate) fn calls(&self) -> Vec<String> {
        self.calls.lock().expect("no holder panics").clone()
    }

    /// The nodes that there would be.
    pub(crate) fn left(&self) -> Vec<String> {
        self.nodes.lock().expect("no holder panics").keys().cloned().collect()
    }

    fn call(&self, call: String) -> BoxFuture<'_, Result<(), RuntimeError>> {
        let refused = self.refuse.as_ref() == Some(&call);
        self.calls.lock().expect("no holder panics").push(call.clone());
        let result = if refused { Err(RuntimeError::failed(call, "refused")) } else { Ok(()) };
        async move { result }.boxed()
    }

    fn set(&self, node: &NodeSpec, state: Option<bool>) {
        let mut nodes = self.nodes.lock().expect("no holder panics");
        match state {
            Some(running) => nodes.insert(node.name.clone(), running),
            None => nodes.remove(&node.name),
        };
    }
}

impl NodeRuntime for Fake {
    fn kind(&self) -> RuntimeKind {
        RuntimeKind::Native
    }

    fn load_image<'a>(&'a self, image: &'a NodeImage) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.call(format!("load {}", image.name))
    }

    fn create_network<'a>(&'a self, cluster: &'a str, _: u8) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.call(format!("create network {cluster}"))
    }

    fn delete_network<'a>(&'a self, cluster: &'a str, _: u8) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.call(format!("delete network {cluster}"))
    }

    fn create_node<'a>(&'a self, node: &'a NodeSpec, _: &'a [NodeFile]) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.set(node, Some(false));
        self.call(format!("create {}", node.name))
    }

    fn start_node<'a>(&'a self, node: &'a NodeSpec) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.set(node, Some(true));
        self.call(format!("start {}", node.name))
    }

    fn stop_node<'a>(&'a self, node: &'a NodeSpec) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.set(node, Some(false));
        self.call(format!("stop {}", node.name))
    }

    fn delete_node<'a>(&'a self, node: &'a NodeSpec) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.set(node, None);
        self.call(format!("delete {}", node.name))
    }

    fn inspect<'a>(&'a self, node: &'a NodeSpec) -> BoxFuture<'a, Result<Option<Observed>, RuntimeError>> {
        let running = self.nodes.lock().expect("no holder panics").get(&node.name).copied();
        let observed = running.map(|running| Observed { name: node.name.clone(), running });
        async move { Ok(observed) }.boxed()
    }

    fn copy_in<'a>(&'a self, node: &'a NodeSpec, _: &'a Path, to: &'a str) -> BoxFuture<'a, Result<(), RuntimeError>> {
        self.call(format!("copy to {}:{to}", node.name))
    }

    fn exec<'a>(&'a self, node: &'a NodeSpec, exec: &'a Exec) -> BoxFuture<'a, Result<i32, RuntimeError>> {
        self.call(format!("exec in {}: {}", node.name, exec.command.join(" "))).map(|it| it.map(|()| 0)).boxed()
    }
}
