//! FlowSchemas and PriorityLevelConfigurations as they are read. What is in the store is valid; what a newer server
//! wrote may say more.

use serde::Deserialize;
use serde_json::Value;

use crate::document::Document;

pub(super) const GROUP: &str = "flowcontrol.apiserver.k8s.io";
pub(super) const EXEMPT: &str = "exempt";
pub(super) const CATCH_ALL: &str = "catch-all";

/// A FlowSchema.
#[derive(Clone, Debug)]
pub(super) struct FlowSchema {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) spec: FlowSchemaSpec,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct FlowSchemaSpec {
    pub(super) priority_level_configuration: Named,
    pub(super) matching_precedence: i32,
    pub(super) distinguisher_method: Option<DistinguisherMethod>,
    pub(super) rules: Vec<Rule>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct Named {
    pub(super) name: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(tag = "type")]
pub(super) enum DistinguisherMethod {
    ByUser,
    ByNamespace,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct Rule {
    pub(super) subjects: Vec<Subject>,
    pub(super) resource_rules: Vec<ResourceRule>,
    pub(super) non_resource_rules: Vec<NonResourceRule>,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(tag = "kind")]
pub(super) enum Subject {
    User {
        user: Named,
    },
    Group {
        group: Named,
    },
    #[serde(rename_all = "camelCase")]
    ServiceAccount {
        service_account: ServiceAccount,
    },
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub(super) struct ServiceAccount {
    pub(super) namespace: String,
    pub(super) name: String,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct ResourceRule {
    pub(super) verbs: Vec<String>,
    pub(super) api_groups: Vec<String>,
    pub(super) resources: Vec<String>,
    pub(super) cluster_scope: bool,
    pub(super) namespaces: Vec<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(super) struct NonResourceRule {
    pub(super) verbs: Vec<String>,
    #[serde(rename = "nonResourceURLs")]
    pub(super) paths: Vec<String>,
}

/// A PriorityLevelConfiguration.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct PriorityLevel {
    pub(super) name: String,
    pub(super) uid: String,
    pub(super) exempt: bool,
    pub(super) shares: u32,
    pub(super) lendable_percent: u32,
    /// None: as much as there is.
    pub(super) borrowing_percent: Option<u32>,
    /// None: who finds no seat is refused.
    pub(super) queuing: Option<Queuing>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Queuing {
    pub(super) queues: usize,
    pub(super) hand_size: usize,
    pub(super) queue_length_limit: usize,
}

impl FlowSchema {
    /// `None` for what this server cannot read.
    pub(super) fn read(object: &Value) -> Option<Self> {
        let spec = serde_json::from_value(object["spec"].clone()).ok()?;
        Some(Self { name: object.name().to_owned(), uid: object.uid().to_owned(), spec })
    }
}

impl PriorityLevel {
    /// `None` for what this server cannot read, and for another level than `exempt` that would be exempt.
    pub(super) fn read(object: &Value) -> Option<Self> {
        let name = object.name().to_owned();
        let exempt = match object["spec"]["type"].as_str()? {
            "Exempt" => true,
            "Limited" => false,
            _ => return None,
        };
        let how = &object["spec"][if exempt { "exempt" } else { "limited" }];
        let number = |field: &str| how[field].as_u64().and_then(|it| u32::try_from(it).ok());
        let response = &how["limitResponse"];
        let queuing = match response["type"].as_str() {
            Some("Queue") => Some(serde_json::from_value::<Queuing>(response["queuing"].clone()).ok()?),
            _ => None,
        };
        let dealt = queuing.is_none_or(|it| it.hand_size > 0 && it.hand_size <= it.queues);
        (dealt && exempt == (name == EXEMPT)).then(|| Self {
            uid: object.uid().to_owned(),
            exempt,
            shares: number("nominalConcurrencyShares").unwrap_or(if exempt { 0 } else { 30 }),
            lendable_percent: number("lendablePercent").unwrap_or(0),
            borrowing_percent: number("borrowingLimitPercent"),
            queuing,
            name,
        })
    }
}
