//! The commands that turn what the kernel holds into what it should hold; none if that is the same.

use std::collections::BTreeMap;

use super::encode::fingerprint;
use super::rule::Statement;
use super::table::{Base, Data, Key, Set, Table};

/// What the kernel holds of a table. Rules are known by their fingerprints.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Installed {
    pub sets: BTreeMap<String, Set>,
    pub chains: BTreeMap<String, InstalledChain>,
}

/// A chain as the kernel holds it.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct InstalledChain {
    pub base: Option<Base>,
    pub rules: Vec<u64>,
}

/// One change of a table.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command<'a> {
    AddTable,
    /// With all that is in it.
    DeleteTable,
    AddSet(&'a str, &'a Set),
    DeleteSet(&'a str),
    AddElements(&'a str, &'a Set, Vec<(&'a Key, &'a Data)>),
    DeleteElements(&'a str, &'a Set, Vec<&'a Key>),
    AddChain(&'a str, Option<Base>),
    DeleteChain(&'a str),
    /// Removes all rules of a chain.
    FlushChain(&'a str),
    AddRule(&'a str, &'a [Statement]),
}

impl Installed {
    /// What the kernel holds once `table` is applied.
    pub fn of(table: &Table) -> Self {
        let chains = table.chains.iter().map(|(name, chain)| {
            let rules = chain.rules.iter().map(|rule| fingerprint(rule)).collect();
            (name.clone(), InstalledChain { base: chain.base, rules })
        });
        Self { sets: table.sets.clone(), chains: chains.collect() }
    }

    /// Whether a part has another shape than `table` wants, which only a new table can change.
    fn conflicts(&self, table: &Table) -> bool {
        let sets =
            self.sets.iter().any(|(name, set)| table.sets.get(name).is_some_and(|new| !new.same_definition(set)));
        sets || self.chains.iter().any(|(name, old)| table.chains.get(name).is_some_and(|new| new.base != old.base))
    }
}

/// The changes from `installed` (none: there is no such table) to `table`, in an order that the kernel accepts as one
/// transaction: what is referred to comes before what refers to it, and leaves after it.
pub fn diff<'a>(installed: Option<&'a Installed>, table: &'a Table) -> Vec<Command<'a>> {
    const NOTHING: &Installed = &Installed { sets: BTreeMap::new(), chains: BTreeMap::new() };
    let mut out = Vec::new();
    let old = match installed {
        Some(installed) if !installed.conflicts(table) => installed,
        Some(_) => {
            out.extend([Command::DeleteTable, Command::AddTable]);
            NOTHING
        }
        None => {
            out.push(Command::AddTable);
            NOTHING
        }
    };
    for (name, set) in table.sets.iter().filter(|(name, _)| !old.sets.contains_key(*name)) {
        out.push(Command::AddSet(name, set));
    }
    for (name, chain) in table.chains.iter().filter(|(name, _)| !old.chains.contains_key(*name)) {
        out.push(Command::AddChain(name, chain.base));
    }
    rules(old, table, &mut out);
    for (name, set) in &table.sets {
        elements(name, old.sets.get(name), set, &mut out);
    }
    for name in old.chains.keys().filter(|name| !table.chains.contains_key(*name)) {
        out.push(Command::DeleteChain(name));
    }
    for name in old.sets.keys().filter(|name| !table.sets.contains_key(*name)) {
        out.push(Command::DeleteSet(name));
    }
    out
}

fn rules<'a>(old: &'a Installed, table: &'a Table, out: &mut Vec<Command<'a>>) {
    for name in old.chains.keys().filter(|name| !table.chains.contains_key(*name)) {
        out.push(Command::FlushChain(name));
    }
    for (name, chain) in &table.chains {
        let before = old.chains.get(name).map(|chain| chain.rules.as_slice()).unwrap_or_default();
        if before.iter().copied().eq(chain.rules.iter().map(|rule| fingerprint(rule))) {
            continue;
        }
        if !before.is_empty() {
            out.push(Command::FlushChain(name));
        }
        out.extend(chain.rules.iter().map(|rule| Command::AddRule(name, rule)));
    }
}

fn elements<'a>(name: &'a str, old: Option<&'a Set>, new: &'a Set, out: &mut Vec<Command<'a>>) {
    if new.dynamic {
        return;
    }
    let before = old.map(|set| &set.elements);
    let gone: Vec<_> = before
        .into_iter()
        .flatten()
        .filter(|(key, data)| new.elements.get(key) != Some(data))
        .map(|(key, _)| key)
        .collect();
    let come: Vec<_> =
        new.elements.iter().filter(|(key, data)| before.and_then(|before| before.get(key)) != Some(data)).collect();
    if !gone.is_empty() {
        out.push(Command::DeleteElements(name, new, gone));
    }
    if !come.is_empty() {
        out.push(Command::AddElements(name, new, come));
    }
}
