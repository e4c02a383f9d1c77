//! The node itself: its Node object, its lease, how it is.
//!
//! [`lease`] is a task of its own that nothing else can hold up: as long as it renews, the node lives. [`object`] makes
//! the Node's status (pure); this file keeps the object on the server equal to it.

pub(crate) mod capacity;
mod info;
pub(crate) mod lease;
mod object;

use std::sync::Arc;
use std::time::Duration;

use api::cri::{self, ListImagesRequest, NetworkConfig, RuntimeConfig, StatusRequest, UpdateRuntimeConfigRequest};
use api::object::ObjectKey;
use client::informer::Change;
use client::patch::Patch;
use client::typed::{decode, resource_of, scope_of};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{Node, NodeStatus};
use serde_json::json;
use tokio_util::sync::CancellationToken;

use crate::context::Context;
use capacity::Capacity;
use object::Facts;

/// While the node is not ready: a runtime does not tell when its network becomes ready.
const LOOK_UNREADY: Duration = Duration::from_millis(200);

/// Registers the node and keeps its status current until the token is cancelled.
pub(crate) async fn run(context: Arc<Context>, token: CancellationToken) {
    let scope = scope_of::<Node>().with_fields(&format!("metadata.name={}", context.config.node_name));
    let informer = context.informers.informer(scope);
    let mut changes = informer.subscribe();
    let mut pressure = context.pressure.subscribe();
    let mut keeper = Keeper {
        context: Arc::clone(&context),
        node: None,
        written: Timestamp::UNIX_EPOCH,
        sent: None,
        cidrs: Vec::new(),
    };
    let power = &context.config.power;
    loop {
        let down = power.is_down();
        let ready = keeper.pass().await;
        // The runtime's state, images and the machine's capacity do not tell of a change. What runs short is told by who
        // looks after it.
        let next = context.clock.after(if ready { context.config.status_update } else { LOOK_UNREADY });
        tokio::select! {
            () = token.cancelled() => return,
            () = next => {}
            () = power.until(!down) => {}
            Ok(()) = pressure.changed() => {}
            change = changes.recv() => match change {
                Some(Change::Applied { new, .. }) => keeper.informed(decode(&new)),
                // Somebody deleted it: the node registers again.
                Some(Change::Deleted(_)) => (keeper.node, keeper.sent) = (None, None),
                Some(Change::Synced | Change::Resync) => {}
                None => changes = informer.subscribe(),
            },
        }
    }
}

struct Keeper {
    context: Arc<Context>,
    node: Option<Node>,
    written: Timestamp,
    /// What was written last. If the server keeps it in another form, it is not written again for that.
    sent: Option<NodeStatus>,
    /// The pod CIDRs that the runtime was told.
    cidrs: Vec<String>,
}

impl Keeper {
    fn informed(&mut self, node: Option<Node>) {
        let revision =
            |node: &Node| node.metadata.resource_version.as_deref().and_then(|it| it.parse::<u64>().ok()).unwrap_or(0);
        if let Some(node) = node
            && self.node.as_ref().is_none_or(|known| revision(&node) >= revision(known))
        {
            self.node = Some(node);
        }
    }

    /// One look at the node. True when it is registered and ready.
    async fn pass(&mut self) -> bool {
        let node = match self.registered().await {
            Ok(node) => node,
            Err(error) => {
                tracing::warn!(%error, "node not registered");
                return false;
            }
        };
        self.tell_cidrs(&node).await;
        let facts = self.facts().await;
        let now = self.context.clock.now();
        let status = object::status(&self.context.config, node.status.as_ref(), &facts, now);
        let ready = facts.unready.is_none();
        let since = Duration::try_from(now.duration_since(self.written)).unwrap_or_default();
        let due = since >= self.context.config.status_report;
        let same = !object::differs(node.status.as_ref(), &status) || !object::differs(self.sent.as_ref(), &status);
        if !due && same {
            return ready;
        }
        self.sent = Some(status.clone());
        match Patch::status(node.status.as_ref(), &status) {
            Ok(Some(patch)) => self.write(&node, patch, now).await && ready,
            Ok(None) => ready,
            Err(error) => {
                tracing::error!(%error, "node status does not encode");
                ready
            }
        }
    }

    async fn write(&mut self, node: &Node, patch: Patch, now: Timestamp) -> bool {
        let metadata = &node.metadata;
        let text = |field: &Option<String>| field.clone().unwrap_or_default();
        let patch = patch.guarded(&text(&metadata.uid), &text(&metadata.resource_version));
        let key = ObjectKey::new("", &self.context.config.node_name);
        match self.context.requests.patch_sub(&resource_of::<Node>(), &key, "status", &patch).await {
            Ok(object) => {
                self.node = serde_json::from_value(object).ok();
                self.written = now;
                true
            }
            Err(error) => {
                if !error.is_conflict() {
                    tracing::warn!(%error, "node status not written");
                }
                // Read and written anew.
                self.node = None;
                self.sent = None;
                false
            }
        }
    }

    /// The Node, created or brought up to date when this agent sees it for the first time.
    async fn registered(&mut self) -> Result<Node, client::request::RequestError> {
        if let Some(node) = &self.node {
            return Ok(node.clone());
        }
        let context = &self.context;
        let (resource, key) = (resource_of::<Node>(), ObjectKey::new("", &context.config.node_name));
        let own = object::registration(&context.config, &info::observe(&context.runtime));
        let object = match context.requests.get(&resource, &key).await {
            Ok(found) => {
                let labels = json!({"metadata": {"labels": own["metadata"]["labels"], "annotations": own["metadata"]["annotations"]}});
                let mut merged = found.clone();
                client::patch::merge(&mut merged, &labels);
                match merged == found {
                    true => found,
                    false => context.requests.patch(&resource, &key, &Patch::Merge(labels)).await?,
                }
            }
            Err(error) if error.is_not_found() => {
                // Ready from the first moment, if it is: nobody has to wait for a second write.
                let mut own = own;
                let status = object::status(&context.config, None, &self.facts().await, context.clock.now());
                own["status"] = serde_json::to_value(status).unwrap_or_default();
                let created = context.requests.create(&resource, "", &own).await?;
                self.written = context.clock.now();
                created
            }
            Err(error) => return Err(error),
        };
        let node: Node = serde_json::from_value(object).unwrap_or_default();
        self.node = Some(node.clone());
        Ok(node)
    }

    /// The runtime's network needs to know which addresses are the node's to give.
    async fn tell_cidrs(&mut self, node: &Node) {
        let cidrs = node.spec.as_ref().and_then(|spec| spec.pod_cidrs.clone()).unwrap_or_default();
        if cidrs.is_empty() || cidrs == self.cidrs {
            return;
        }
        let network_config = Some(NetworkConfig { pod_cidr: cidrs.join(",") });
        let request = UpdateRuntimeConfigRequest { runtime_config: Some(RuntimeConfig { network_config }) };
        match self.context.runtime.service.update_runtime_config(request).await {
            Ok(_) => self.cidrs = cidrs,
            Err(error) => tracing::warn!(%error, "runtime not told the node's pod CIDRs"),
        }
    }

    async fn facts(&self) -> Facts {
        let runtime = &self.context.runtime;
        let capacity = Capacity::observe(&self.context.config);
        self.context.capacity.write().clone_from(&capacity);
        let images = runtime.images.list_images(ListImagesRequest::default()).await;
        let status = runtime.service.status(StatusRequest { verbose: false }).await;
        Facts {
            info: info::observe(runtime),
            pressure: *self.context.pressure.borrow(),
            images: images.map(|it| it.images).unwrap_or_default(),
            handlers: status.as_ref().map(|it| it.runtime_handlers.clone()).unwrap_or_default(),
            unready: unready(&status, self.context.config.goes_down()),
            capacity,
        }
    }
}

/// Why pods cannot run here, in upstream's words.
fn unready(status: &cri::Result<cri::StatusResponse>, down: bool) -> Option<String> {
    let conditions = match status {
        Ok(status) => status.status.clone().unwrap_or_default().conditions,
        Err(error) => {
            tracing::warn!(%error, "the container runtime does not tell its status");
            return Some("container runtime is down".to_owned());
        }
    };
    let problems: Vec<String> = [("RuntimeReady", "runtime"), ("NetworkReady", "runtime network")]
        .into_iter()
        .filter_map(|(kind, what)| match conditions.iter().find(|it| it.r#type == kind) {
            Some(it) if it.status => None,
            Some(it) => {
                Some(format!("container {what} not ready: {kind}=false reason:{} message:{}", it.reason, it.message))
            }
            None => Some(format!("container {what} not ready: {kind} is not set")),
        })
        .chain(down.then(|| "node is shutting down".to_owned()))
        .collect();
    (!problems.is_empty()).then(|| problems.join(", "))
}
