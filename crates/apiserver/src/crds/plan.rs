//! What a definition's status has to say, given what other definitions have (`k8s.io/apiextensions-apiserver`'s
//! `pkg/controller/{status,establish,apiapproval}`).
//!
//! Schemas that are not structural are refused when a definition is written, so the condition `NonStructuralSchema` has
//! no occasion here.

use std::borrow::Borrow;
use std::collections::BTreeSet;

use api::custom::{APPROVAL_ANNOTATION as APPROVAL, Approval, has_condition, is_community_group};
use serde_json::{Value, json};

use crate::document::{Document, owned_words};

pub(super) const FINALIZER: &str = "customresourcecleanup.apiextensions.k8s.io";

/// A condition but for its time.
pub(super) struct Condition<'c> {
    pub(super) kind: &'c str,
    pub(super) status: &'c str,
    pub(super) reason: &'c str,
    pub(super) message: String,
}

/// True when what a definition says is served.
pub(super) fn is_served(definition: &Value) -> bool {
    has_condition(definition, "NamesAccepted") || has_condition(definition, "Established")
}

/// True when nothing but its instances keeps a definition.
pub(super) fn is_to_be_finalized(definition: &Value) -> bool {
    definition.is_terminating() && definition.finalizers().contains(&FINALIZER)
}

/// What of a definition others must know to settle theirs: its names, and whether it has them.
pub(super) fn claim(definition: &Value) -> Value {
    let (spec, status) = (&definition["spec"], &definition["status"]);
    let conditions = status["conditions"].as_array().into_iter().flatten();
    let accepted: Vec<&Value> = conditions.filter(|condition| condition["type"] == "NamesAccepted").collect();
    json!({
        "spec": {"group": spec["group"]},
        "status": {"acceptedNames": status["acceptedNames"], "conditions": accepted},
    })
}

/// Brings the names and conditions of a definition up to date; of `others`, their [`claim`] is enough.
pub(super) fn settle(definition: &mut Value, others: &[impl Borrow<Value>], now: &str) {
    let (names, conflict) = accept(definition, others);
    if definition["status"]["acceptedNames"] != names {
        definition["status"]["acceptedNames"] = names;
    }
    let accepted = match &conflict {
        None => ("True", "NoConflicts", "no conflicts found".to_owned()),
        Some((reason, message)) => ("False", *reason, message.clone()),
    };
    let (status, reason, message) = accepted;
    set_condition(definition, &Condition { kind: "NamesAccepted", status, reason, message }, now);
    establish(definition, conflict.is_none(), now);
    if let Some(condition) = approval(definition) {
        set_condition(definition, &condition, now);
    }
}

/// What is established stays so, whatever names it asks for later.
fn establish(definition: &mut Value, accepted: bool, now: &str) {
    if has_condition(definition, "Established") {
        return;
    }
    let (status, reason, message) = match accepted {
        true => ("True", "InitialNamesAccepted", "the initial names have been accepted"),
        false => ("False", "NotAccepted", "not all names are accepted"),
    };
    let message = message.to_owned();
    set_condition(definition, &Condition { kind: "Established", status, reason, message }, now);
}

/// The names that a definition may have now, and the last of those that it may not.
fn accept(definition: &Value, others: &[impl Borrow<Value>]) -> (Value, Option<(&'static str, String)>) {
    let (spec, status) = (&definition["spec"], &definition["status"]);
    let taken = Taken::of(definition, others);
    let (asked, had) = (&spec["names"], &status["acceptedNames"]);
    let mut names = had.clone();
    if !names.is_object() {
        names = json!({"plural": "", "kind": ""});
    }
    let mut conflict = None;
    let single = [
        ("plural", "PluralConflict", &taken.resources),
        ("singular", "SingularConflict", &taken.resources),
        ("shortNames", "ShortNamesConflict", &taken.resources),
        ("kind", "KindConflict", &taken.kinds),
        ("listKind", "ListKindConflict", &taken.kinds),
    ];
    for (field, reason, taken) in single {
        let clashes: Vec<String> = if field == "shortNames" {
            let known = owned_words(&had[field]);
            owned_words(&asked[field])
                .into_iter()
                .filter(|name| !known.contains(name) && taken.contains(name))
                .collect()
        } else {
            let name = asked[field].as_str().unwrap_or_default().to_owned();
            let fresh = had[field] == asked[field] || !taken.contains(&name);
            if fresh { Vec::new() } else { vec![name] }
        };
        match clashes.is_empty() {
            true => copy(&mut names, asked, field),
            false => conflict = Some((reason, clash(&clashes))),
        }
    }
    copy(&mut names, asked, "categories");
    (names, conflict)
}

fn copy(names: &mut Value, asked: &Value, field: &str) {
    match asked.get(field) {
        Some(value) => names[field] = value.clone(),
        None => {
            names.as_object_mut().map(|names| names.remove(field));
        }
    }
}

/// As Go joins errors.
fn clash(names: &[String]) -> String {
    let said: Vec<String> = names.iter().map(|name| format!("{name:?} is already in use")).collect();
    match said.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}

/// The names that the definitions of a group have been given, this one's among them.
struct Taken {
    resources: BTreeSet<String>,
    kinds: BTreeSet<String>,
}

impl Taken {
    fn of(definition: &Value, others: &[impl Borrow<Value>]) -> Self {
        let mut taken = Self { resources: BTreeSet::new(), kinds: BTreeSet::new() };
        let group = &definition["spec"]["group"];
        let in_group = others.iter().map(Borrow::borrow).filter(|other| other["spec"]["group"] == *group);
        for known in in_group.chain([definition]) {
            let names = &known["status"]["acceptedNames"];
            let text = |field: &str| names[field].as_str().unwrap_or_default().to_owned();
            taken.resources.extend([text("plural"), text("singular")]);
            taken.resources.extend(owned_words(&names["shortNames"]));
            taken.kinds.extend([text("kind"), text("listKind")]);
        }
        taken
    }
}

/// Whether the community has approved of an API in a group of its own.
fn approval(definition: &Value) -> Option<Condition<'static>> {
    let group = definition["spec"]["group"].as_str().unwrap_or_default();
    if !is_community_group(group) {
        return None;
    }
    let annotation = definition["metadata"]["annotations"][APPROVAL].as_str().unwrap_or_default();
    let (approval, message) = api::custom::approval(annotation);
    let (status, reason) = match approval {
        Approval::Invalid => ("False", "InvalidAnnotation"),
        Approval::Missing => ("False", "MissingAnnotation"),
        Approval::Bypassed => ("False", "UnapprovedAnnotation"),
        Approval::Approved => ("True", "ApprovedAnnotation"),
    };
    Some(Condition { kind: "KubernetesAPIApprovalPolicyConformant", status, reason, message })
}

/// Sets a condition; its time moves with its status alone.
pub(super) fn set_condition(definition: &mut Value, condition: &Condition<'_>, now: &str) {
    let Condition { kind, status, reason, message } = condition;
    if !definition["status"]["conditions"].is_array() {
        definition["status"]["conditions"] = json!([]);
    }
    let Some(conditions) = definition["status"]["conditions"].as_array_mut() else { return };
    let mut fresh =
        json!({"type": kind, "status": status, "lastTransitionTime": now, "reason": reason, "message": message});
    match conditions.iter_mut().find(|known| known["type"] == *kind) {
        None => conditions.push(fresh),
        Some(known) => {
            if known["status"] == *status && known["lastTransitionTime"].is_string() {
                fresh["lastTransitionTime"] = known["lastTransitionTime"].clone();
            }
            if let Some(generation) = known.get("observedGeneration") {
                fresh["observedGeneration"] = generation.clone();
            }
            *known = fresh;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-01-01T00:00:00Z";

    fn definition(plural: &str, kind: &str, short: &[&str]) -> Value {
        json!({
            "metadata": {"name": format!("{plural}.example.com")},
            "spec": {"group": "example.com", "names": {
                "plural": plural, "singular": kind.to_lowercase(), "kind": kind, "listKind": format!("{kind}List"),
                "shortNames": short,
            }},
        })
    }

    fn settled(mut definition: Value, others: &[Value]) -> Value {
        settle(&mut definition, others, NOW);
        definition
    }

    fn condition<'v>(definition: &'v Value, kind: &str) -> (&'v str, &'v str, &'v str) {
        let conditions = definition["status"]["conditions"].as_array().unwrap();
        let found = conditions.iter().find(|condition| condition["type"] == kind).unwrap();
        let text = |field: &str| found[field].as_str().unwrap();
        (text("status"), text("reason"), text("message"))
    }

    #[test]
    fn free_names_are_accepted_and_then_established() {
        let widgets = settled(definition("widgets", "Widget", &["w"]), &[]);
        assert_eq!(condition(&widgets, "NamesAccepted"), ("True", "NoConflicts", "no conflicts found"));
        assert_eq!(condition(&widgets, "Established").0, "True");
        assert_eq!(widgets["status"]["acceptedNames"], widgets["spec"]["names"]);
        assert!(is_served(&widgets));
        assert_eq!(settled(widgets.clone(), &[]), widgets);
    }

    #[test]
    fn a_name_belongs_to_whom_it_was_given_first() {
        let widgets = settled(definition("widgets", "Widget", &["w"]), &[]);
        let others = &[claim(&widgets)];
        let clash = settled(definition("gadgets", "Widget", &["w"]), others);
        let message = "\"WidgetList\" is already in use";
        assert_eq!(condition(&clash, "NamesAccepted"), ("False", "ListKindConflict", message));
        assert_eq!(condition(&clash, "Established"), ("False", "NotAccepted", "not all names are accepted"));
        assert!(!is_served(&clash));
        assert_eq!(clash["status"]["acceptedNames"]["plural"], "gadgets");

        let short = settled(definition("gizmos", "Gizmo", &["w", "g"]), others);
        assert_eq!(condition(&short, "NamesAccepted").1, "ShortNamesConflict");
        assert_eq!(short["status"]["acceptedNames"].get("shortNames"), None);

        // Another group has names of its own; who was established stays so.
        let mut elsewhere = definition("widgets", "Widget", &["w"]);
        elsewhere["spec"]["group"] = json!("other.com");
        assert_eq!(condition(&settled(elsewhere, others), "Established").0, "True");
        let mut renamed = settled(definition("gizmos", "Gizmo", &[]), others);
        renamed["spec"]["names"]["shortNames"] = json!(["w"]);
        let renamed = settled(renamed, others);
        assert_eq!(condition(&renamed, "NamesAccepted").0, "False");
        assert_eq!(condition(&renamed, "Established").0, "True");
    }

    #[test]
    fn groups_of_the_community_say_who_approved() {
        let with = |annotation: &str| {
            let mut widgets = definition("widgets", "Widget", &[]);
            widgets["spec"]["group"] = json!("widgets.k8s.io");
            widgets["metadata"]["annotations"][APPROVAL] = json!(annotation);
            let widgets = settled(widgets, &[]);
            condition(&widgets, "KubernetesAPIApprovalPolicyConformant").1.to_owned()
        };
        assert_eq!(with("https://github.com/kubernetes/kubernetes/pull/1"), "ApprovedAnnotation");
        assert_eq!(with("unapproved, experimental"), "UnapprovedAnnotation");
        assert_eq!(with(""), "MissingAnnotation");
        assert_eq!(with("yes"), "InvalidAnnotation");
    }

    #[test]
    fn a_conditions_time_moves_with_its_status() {
        let mut widgets = settled(definition("widgets", "Widget", &[]), &[]);
        settle(&mut widgets, &[] as &[Value], "2027-01-01T00:00:00Z");
        assert_eq!(widgets["status"]["conditions"][0]["lastTransitionTime"], NOW);
    }
}
