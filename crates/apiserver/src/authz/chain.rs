//! The authorizers that are asked, one after the other, until one decides (upstream: `pkg/kubeapiserver/authorizer`,
//! `pkg/authorization/union`).

use std::sync::Arc;

use client::metrics::Series;
use parking_lot::RwLock;
use serde_json::Value;

use super::abac::Policies;
use super::webhook::{Known, Question, Webhook};
use super::{Attributes, Decision, NodeAuthorizer, Rbac, figures};
use crate::authn::{MASTERS, User};

/// All authorizers. What is asked of which, and in which order, may change while the server runs.
pub struct Authorizer {
    pub nodes: NodeAuthorizer,
    pub rbac: Rbac,
    chain: RwLock<Arc<[Link]>>,
}

/// One authorizer of the chain.
pub(super) struct Link {
    way: Way,
    allowed: Series,
    denied: Series,
}

pub(super) enum Way {
    Node,
    Rbac,
    Abac(Arc<Policies>),
    AlwaysAllow,
    AlwaysDeny,
    Webhook(Box<Webhook>),
}

/// What was heard of those who were asked so far.
#[derive(Default)]
struct Heard {
    asked: usize,
    reasons: Vec<String>,
    errors: Vec<String>,
}

/// What comes of asking on.
enum Step<'c> {
    Decided(Decision),
    /// Another server is to be asked.
    Ask(&'c Link, &'c Webhook, Question),
}

impl Link {
    /// `kind` and `name` are what figures tell.
    pub(super) fn new(way: Way, kind: &str, name: &str) -> Self {
        let [allowed, denied] = ["allowed", "denied"].map(|decision| figures::DECISIONS.of(&[decision, name, kind]));
        Self { way, allowed, denied }
    }
}

impl Authorizer {
    pub(super) fn new(nodes: NodeAuthorizer, rbac: Rbac, chain: Vec<Link>) -> Self {
        Self { nodes, rbac, chain: RwLock::new(chain.into()) }
    }

    /// Asks others from now on.
    pub(super) fn turn(&self, chain: Vec<Link>) {
        *self.chain.write() = chain.into();
    }

    pub async fn authorize(&self, attributes: &Attributes) -> Decision {
        if attributes.user.is_in(MASTERS) {
            return Decision::allowed("");
        }
        let chain = self.chain.read().clone();
        let mut heard = Heard::default();
        loop {
            match self.ask_on(&chain, attributes, &mut heard) {
                Step::Decided(decision) => return decision,
                Step::Ask(link, webhook, question) => {
                    // Kept apart: few requests ask other servers, and all would be as large as if they did.
                    let said = Box::pin(webhook.ask(question)).await;
                    if let Some(decision) = heard.take(link, said) {
                        return decision;
                    }
                }
            }
        }
    }

    /// The answer where no other server has to be asked for it.
    pub(crate) fn known(&self, attributes: &Attributes) -> Option<Decision> {
        if attributes.user.is_in(MASTERS) {
            return Some(Decision::allowed(""));
        }
        let chain = self.chain.read().clone();
        match self.ask_on(&chain, attributes, &mut Heard::default()) {
            Step::Decided(decision) => Some(decision),
            Step::Ask(..) => None,
        }
    }

    /// What some in the chain cannot tell of a user: all that he may do.
    pub(crate) fn untold_rules(&self) -> Vec<&'static str> {
        let chain = self.chain.read().clone();
        let is_webhook = |link: &Link| matches!(link.way, Way::Webhook(_));
        let webhooks = chain.iter().filter(|link| is_webhook(link));
        webhooks.map(|_| "webhook authorizer does not support user rule resolution").collect()
    }

    pub(crate) fn asks_rbac(&self) -> bool {
        self.chain.read().iter().any(|link| matches!(link.way, Way::Rbac))
    }

    pub(crate) fn asks_node(&self) -> bool {
        self.chain.read().iter().any(|link| matches!(link.way, Way::Node))
    }

    /// What the file of policies lets a user do to resources of a namespace, and to paths.
    pub(crate) fn stated_rules(&self, user: &User, namespace: &str) -> (Vec<Value>, Vec<Value>) {
        let chain = self.chain.read().clone();
        let found = chain.iter().find_map(|link| match &link.way {
            Way::Abac(policies) => Some(policies.rules(user, namespace)),
            _ => None,
        });
        found.unwrap_or_default()
    }

    /// True where everybody may do everything.
    pub(crate) fn allows_all(&self) -> bool {
        self.chain.read().iter().any(|link| matches!(link.way, Way::AlwaysAllow))
    }

    fn ask_on<'c>(&self, chain: &'c [Link], attributes: &Attributes, heard: &mut Heard) -> Step<'c> {
        while let Some(link) = chain.get(heard.asked) {
            heard.asked += 1;
            let said = match &link.way {
                Way::Node => match self.nodes.judge(&self.rbac, attributes) {
                    Some(Ok(())) => Decision::allowed(""),
                    Some(Err(why)) => Decision::no_opinion(why),
                    None => continue,
                },
                Way::Rbac => self.rbac.authorize(attributes),
                Way::Abac(policies) => policies.authorize(attributes),
                Way::AlwaysAllow => Decision::allowed(""),
                Way::AlwaysDeny => Decision::no_opinion("Everything is forbidden."),
                Way::Webhook(webhook) => match webhook.known(attributes) {
                    Known::Answer(decision) => decision,
                    Known::Unknown(question) => return Step::Ask(link, webhook, question),
                },
            };
            if let Some(decision) = heard.take(link, said) {
                return Step::Decided(decision);
            }
        }
        Step::Decided(heard.end())
    }
}

impl Heard {
    /// The decision, if what was said is one.
    fn take(&mut self, link: &Link, said: Decision) -> Option<Decision> {
        if said.allowed || said.denied {
            if said.denied { &link.denied } else { &link.allowed }.add(1.0);
            return Some(said);
        }
        self.errors.extend(said.error);
        if !said.reason.is_empty() {
            self.reasons.push(said.reason);
        }
        None
    }

    /// Nobody has decided.
    fn end(&mut self) -> Decision {
        let error = match self.errors.as_slice() {
            [] => None,
            [one] => Some(one.clone()),
            several => Some(format!("[{}]", several.join(", "))),
        };
        Decision { error, ..Decision::no_opinion(self.reasons.join("\n")) }
    }
}
