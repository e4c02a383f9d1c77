//! Who owns which fields: `metadata.managedFields` read, written, and bounded in length
//! (`apimachinery/pkg/util/managedfields/internal`: managedfields, capmanagers, conflict).
//!
//! Most writes touch the fields of one manager, or of none but their own. What a manager owns therefore stays as it is
//! written until somebody changes it ([`Fields`]).

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use super::field_set::{FieldSet, FieldSetError, Path, Step};
use crate::status::{Cause, Status};
use crate::validation::quote;

/// The most managers that update; the oldest beyond that are put together.
const MAX_UPDATERS: usize = 10;

/// The name under which the oldest updates are put together.
const ANCIENT: &str = "ancient-changes";

/// What tells managers apart.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Manager {
    pub(super) name: String,
    pub(super) operation: Operation,
    /// None for appliers: they are one manager in all versions.
    pub(super) api_version: Option<String>,
    pub(super) subresource: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Operation {
    Apply,
    Update,
}

/// What one manager owns, in the version in which it wrote last.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Owned {
    pub(super) fields: Fields,
    pub(super) api_version: String,
}

/// A set of fields that is taken apart when it has to be.
#[derive(Clone, Debug)]
pub(super) enum Fields {
    /// A FieldsV1 as [`FieldSet::to_json`] writes it.
    Written(Value),
    Set(FieldSet),
}

/// All managers of an object.
#[derive(Clone, Debug, Default)]
pub(super) struct Managers {
    pub(super) owned: BTreeMap<Manager, Owned>,
    /// When each wrote last, RFC 3339. Kept apart since a manager's fields come and go within one request.
    pub(super) times: BTreeMap<Manager, String>,
}

/// Fields that a client applies with other values than their managers gave them.
#[derive(Clone, Debug, Default)]
pub(super) struct Conflicts(pub(super) BTreeMap<Manager, FieldSet>);

/// Why `metadata.managedFields` cannot be understood.
#[derive(Debug, thiserror::Error)]
pub enum ManagersError {
    #[error("operation must be `Apply` or `Update`")]
    Operation,
    #[error("apiVersion must not be empty")]
    NoApiVersion,
    #[error("missing fieldsType in managed fields entry {0}")]
    NoFieldsType(usize),
    #[error("invalid fieldsType {} in managed fields entry {at}", quote(.found))]
    FieldsType { found: String, at: usize },
    #[error("error decoding set: {0}")]
    Fields(#[from] FieldSetError),
}

impl Fields {
    pub(super) fn set(&self) -> Cow<'_, FieldSet> {
        match self {
            Self::Written(json) => Cow::Owned(FieldSet::from_json(json).unwrap_or_default()),
            Self::Set(set) => Cow::Borrowed(set),
        }
    }

    pub(super) fn is_empty(&self) -> bool {
        match self {
            Self::Written(json) => json.as_object().is_none_or(Map::is_empty),
            Self::Set(set) => set.is_empty(),
        }
    }

    /// The paths that are in `other` too.
    pub(super) fn intersection(&self, other: &FieldSet) -> FieldSet {
        match self {
            Self::Written(json) => other.within_json(json),
            Self::Set(set) => set.intersection(other),
        }
    }

    /// Changes the set, which is taken apart for it.
    pub(super) fn change(&mut self, change: impl FnOnce(&mut FieldSet)) {
        let mut set = std::mem::replace(self, Self::Set(FieldSet::new())).into_set();
        change(&mut set);
        *self = Self::Set(set);
    }

    /// Takes the paths of `other` away.
    pub(super) fn subtract(&mut self, other: &FieldSet) {
        match self {
            Self::Written(json) if other.within_json(json).is_empty() => {}
            _ => self.change(|set| set.subtract(other)),
        }
    }

    /// Adds all of `other`, whose paths move over.
    pub(super) fn absorb(&mut self, other: FieldSet) {
        match self {
            Self::Written(json) if other.within_json(json) == other => {}
            _ => self.change(|set| set.absorb(other)),
        }
    }

    pub(super) fn into_set(self) -> FieldSet {
        match self {
            Self::Written(json) => FieldSet::from_json(&json).unwrap_or_default(),
            Self::Set(set) => set,
        }
    }

    fn into_json(self) -> Value {
        match self {
            Self::Written(json) => json,
            Self::Set(set) => set.to_json(),
        }
    }
}

impl PartialEq for Fields {
    fn eq(&self, other: &Self) -> bool {
        self.set() == other.set()
    }
}

impl From<FieldSet> for Fields {
    fn from(set: FieldSet) -> Self {
        Self::Set(set)
    }
}

impl Manager {
    pub(super) fn new(name: &str, operation: Operation, api_version: &str, subresource: &str) -> Self {
        Self {
            name: if name.is_empty() { "unknown" } else { name }.to_owned(),
            operation,
            api_version: (operation == Operation::Update).then(|| api_version.to_owned()),
            subresource: subresource.to_owned(),
        }
    }
}

impl std::fmt::Display for Manager {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&quote(&self.name))?;
        if !self.subresource.is_empty() {
            write!(f, " with subresource {}", quote(&self.subresource))?;
        }
        match &self.api_version {
            Some(api_version) => write!(f, " using {api_version}"),
            None => Ok(()),
        }
    }
}

impl Managers {
    /// Reads `metadata.managedFields` as somebody states it; absent is nobody.
    pub(super) fn from_json(entries: Option<Value>) -> Result<Self, ManagersError> {
        Self::read(entries, |fields| FieldSet::from_json(&fields).map(Fields::Set))
    }

    /// Reads `metadata.managedFields` as [`Managers::into_json`] wrote it.
    pub(super) fn from_stored(entries: Option<Value>) -> Result<Self, ManagersError> {
        Self::read(entries, |fields| Ok(Fields::Written(fields)))
    }

    fn read(
        entries: Option<Value>,
        fields: impl Fn(Value) -> Result<Fields, FieldSetError>,
    ) -> Result<Self, ManagersError> {
        let mut managers = Self::default();
        let Some(Value::Array(entries)) = entries else { return Ok(managers) };
        for (at, mut entry) in entries.into_iter().enumerate() {
            let mut text = |key: &str| match entry.get_mut(key).map(Value::take) {
                Some(Value::String(text)) => text,
                _ => String::new(),
            };
            let operation = match text("operation").as_str() {
                "Apply" => Operation::Apply,
                "Update" => Operation::Update,
                _ => return Err(ManagersError::Operation),
            };
            let api_version = text("apiVersion");
            if api_version.is_empty() {
                return Err(ManagersError::NoApiVersion);
            }
            match text("fieldsType").as_str() {
                "FieldsV1" => {}
                "" => return Err(ManagersError::NoFieldsType(at)),
                found => return Err(ManagersError::FieldsType { found: found.to_owned(), at }),
            }
            let manager = Manager {
                name: text("manager"),
                operation,
                api_version: (operation == Operation::Update).then(|| api_version.clone()),
                subresource: text("subresource"),
            };
            let time = text("time");
            let fields = match entry.get_mut("fieldsV1").map(Value::take).filter(|fields| !fields.is_null()) {
                Some(json) => fields(json)?,
                None => Fields::Set(FieldSet::new()),
            };
            if !time.is_empty() {
                managers.times.insert(manager.clone(), time);
            }
            managers.owned.insert(manager, Owned { fields, api_version });
        }
        Ok(managers)
    }

    /// Writes `metadata.managedFields`: appliers first, then by time; none when nobody owns anything.
    pub(super) fn into_json(mut self) -> Option<Value> {
        let mut order: Vec<(Manager, Owned)> = std::mem::take(&mut self.owned).into_iter().collect();
        order.sort_by(|(a, a_owned), (b, b_owned)| {
            let key = |manager: &Manager| (manager.operation, self.seconds(manager));
            key(a)
                .cmp(&key(b))
                .then_with(|| a.name.cmp(&b.name))
                .then_with(|| a_owned.api_version.cmp(&b_owned.api_version))
                .then_with(|| a.subresource.cmp(&b.subresource))
        });
        let entries: Vec<Value> = order.into_iter().map(|(manager, owned)| self.entry(manager, owned)).collect();
        (!entries.is_empty()).then_some(Value::Array(entries))
    }

    fn entry(&mut self, manager: Manager, owned: Owned) -> Value {
        let operation = match manager.operation {
            Operation::Apply => "Apply",
            Operation::Update => "Update",
        };
        let time = self.times.remove(&manager);
        let mut entry = Map::new();
        let mut put = |key: &str, value: Value| entry.insert(key.to_owned(), value);
        put("operation", json!(operation));
        put("apiVersion", Value::String(owned.api_version));
        put("fieldsType", json!("FieldsV1"));
        put("fieldsV1", owned.fields.into_json());
        if !manager.name.is_empty() {
            put("manager", Value::String(manager.name));
        }
        if !manager.subresource.is_empty() {
            put("subresource", Value::String(manager.subresource));
        }
        if let Some(time) = time {
            put("time", Value::String(time));
        }
        Value::Object(entry)
    }

    fn seconds(&self, manager: &Manager) -> i64 {
        let time = self.times.get(manager).and_then(|time| crate::time::parse(time).ok());
        time.map_or(0, |time| time.as_second())
    }

    /// Takes `fields` away from `manager`, who goes when nothing is left.
    pub(super) fn take(&mut self, manager: &Manager, fields: &FieldSet) {
        if let Some(owned) = self.owned.get_mut(manager) {
            owned.fields.subtract(fields);
            if owned.fields.is_empty() {
                self.owned.remove(manager);
            }
        }
    }

    /// All that anybody owns.
    pub(super) fn all_fields(&self) -> FieldSet {
        let mut all = FieldSet::new();
        for owned in self.owned.values() {
            all.absorb(owned.fields.clone().into_set());
        }
        all
    }

    /// Puts the oldest updaters of each version together until few enough are left.
    pub(super) fn cap_updaters(&mut self) {
        let mut updaters: Vec<Manager> =
            self.owned.keys().filter(|manager| manager.operation == Operation::Update).cloned().collect();
        let mut count = updaters.len();
        if count <= MAX_UPDATERS {
            return;
        }
        updaters.sort_by_cached_key(|manager| (self.seconds(manager), manager.clone()));
        let mut first_of_version: BTreeMap<String, Manager> = BTreeMap::new();
        for manager in updaters {
            if count <= MAX_UPDATERS {
                break;
            }
            let Some(owned) = self.owned.get(&manager).cloned() else {
                continue;
            };
            let Some(first) = first_of_version.get(&owned.api_version) else {
                first_of_version.insert(owned.api_version, manager);
                continue;
            };
            let bucket = Manager::new(ANCIENT, Operation::Update, &owned.api_version, "");
            let mut gathered = match self.owned.get(&bucket) {
                Some(bucket) => bucket.clone(),
                None => self.owned.remove(first).unwrap_or_else(|| owned.clone()),
            };
            gathered.fields.absorb(owned.fields.into_set());
            self.owned.remove(&manager);
            self.owned.insert(bucket.clone(), gathered);
            count -= 1;
            match self.times.get(&manager).cloned() {
                Some(time) => self.times.insert(bucket, time),
                None => self.times.remove(&bucket),
            };
        }
    }
}

impl Conflicts {
    pub(super) fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The conflicts at fields that are not in `allowed`.
    pub(super) fn without(&self, allowed: &FieldSet) -> Self {
        let rest = self.0.iter().map(|(manager, fields)| (manager.clone(), fields.difference(allowed)));
        Self(rest.filter(|(_, fields)| !fields.is_empty()).collect())
    }

    /// The answer to the client.
    pub(super) fn into_status(self) -> Status {
        let list: Vec<(&Manager, Vec<Vec<Step>>)> =
            self.0.iter().map(|(manager, fields)| (manager, fields.paths())).collect();
        let causes: Vec<Cause> = list
            .iter()
            .flat_map(|(manager, paths)| {
                paths.iter().map(move |path| Cause {
                    reason: "FieldManagerConflict".into(),
                    message: format!("conflict with {manager}"),
                    field: Path(path).to_string(),
                })
            })
            .collect();
        let message = match causes.as_slice() {
            [only] => format!("Apply failed with 1 conflict: {}: {}", only.message, only.field),
            _ => {
                let mut lines = Vec::new();
                for (manager, paths) in list {
                    lines.push(format!("conflicts with {manager}:"));
                    lines.extend(paths.iter().map(|path| format!("- {}", Path(path))));
                }
                format!("Apply failed with {} conflicts: {}", causes.len(), lines.join("\n"))
            }
        };
        Status::apply_conflict(causes, message)
    }
}
