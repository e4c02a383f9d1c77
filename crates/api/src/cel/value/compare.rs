//! Equality and order: numbers by value whatever their type, values of different types are unequal.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use super::container::{List, ListSemantics, Map, Members};
use super::{EvaluationError, Object, Value};
use crate::cel::work::Work;

type Result<T> = std::result::Result<T, EvaluationError>;

impl<'a> Value<'a> {
    pub(in crate::cel) fn equals(&self, other: &Value<'_>, work: &mut Work) -> Result<bool> {
        work.spend(1)?;
        Ok(match (self, other) {
            (Self::Null, Value::Null) => true,
            (Self::Bytes(a), Value::Bytes(b)) => a == b,
            (Self::Type(a), Value::Type(b)) => a == b,
            (Self::Optional(Some(a)), Value::Optional(Some(b))) => a.equals(b, work)?,
            (Self::Optional(a), Value::Optional(b)) => a.is_none() && b.is_none(),
            (Self::List(a), Value::List(b)) => a.equals(b, work)?,
            (Self::Map(a), Value::Map(b)) => a.equals(b, work)?,
            (Self::Object(a), Value::Object(b)) => a.equals(b, work)?,
            (Self::Quantity(a), Value::Quantity(b)) => a == b,
            (Self::Address(a), Value::Address(b)) => a == b,
            (Self::Cidr(a), Value::Cidr(b)) => a == b,
            (Self::Url(a), Value::Url(b)) => a == b,
            (Self::Semver(a), Value::Semver(b)) => a == b,
            (Self::Format(a), Value::Format(b)) => a.name == b.name,
            (Self::Authorizer(a), Value::Authorizer(b)) => a.is_same(b),
            _ => self.order(other) == Some(Ordering::Equal),
        })
    }

    /// Order; none between values that have none.
    pub(in crate::cel) fn order(&self, other: &Value<'_>) -> Option<Ordering> {
        match (self, other) {
            (Self::Bool(a), Value::Bool(b)) => Some(a.cmp(b)),
            (Self::String(a), Value::String(b)) => Some(a.cmp(b)),
            (Self::Bytes(a), Value::Bytes(b)) => Some(a.cmp(b)),
            (Self::Timestamp(a), Value::Timestamp(b)) => Some(a.nanos.cmp(&b.nanos)),
            (Self::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            (Self::Double(a), Value::Double(b)) => a.partial_cmp(b),
            (Self::Double(a), b) => compare_double(*a, b.whole()?),
            (a, Value::Double(b)) => compare_double(*b, a.whole()?).map(Ordering::reverse),
            (a, b) => Some(a.whole()?.cmp(&b.whole()?)),
        }
    }

    fn whole(&self) -> Option<i128> {
        match self {
            Self::Int(value) => Some(i128::from(*value)),
            Self::Uint(value) => Some(i128::from(*value)),
            _ => None,
        }
    }
}

/// A double beside a whole number: by range where the number has no exact double.
fn compare_double(double: f64, whole: i128) -> Option<Ordering> {
    if double.is_nan() {
        return None;
    }
    if double < -9.3e18 {
        return Some(Ordering::Less);
    }
    if double > 1.9e19 {
        return Some(Ordering::Greater);
    }
    double.partial_cmp(&(whole as f64))
}

/// Whether all are true; stops at the first that is not.
fn all<T>(items: impl IntoIterator<Item = T>, mut test: impl FnMut(T) -> Result<bool>) -> Result<bool> {
    for item in items {
        if !test(item)? {
            return Ok(false);
        }
    }
    Ok(true)
}

impl Object<'_> {
    fn equals(&self, other: &Object<'_>, work: &mut Work) -> Result<bool> {
        if self.name != other.name || self.fields.len() != other.fields.len() {
            return Ok(false);
        }
        all(&self.fields, |(name, value)| {
            let found = other.fields.iter().find(|(known, _)| known == name);
            found.map_or(Ok(false), |(_, found)| value.equals(found, work))
        })
    }
}

impl<'a> List<'a> {
    fn equals(&self, other: &List<'_>, work: &mut Work) -> Result<bool> {
        if self.len() != other.len() {
            return Ok(false);
        }
        match self.semantics {
            ListSemantics::Atomic => all(self.iter().zip(other.iter()), |(a, b)| a?.equals(&b?, work)),
            ListSemantics::Set => all(other.iter(), |item| self.contains(&item?, work)),
            ListSemantics::Map(keys) => {
                let by_key = self.by_key(keys)?;
                all(other.iter(), |item| {
                    let item = item?;
                    let found = by_key.get(&map_key(&item, keys)?);
                    found.map_or(Ok(false), |found| found.equals(&item, work))
                })
            }
        }
    }

    pub(in crate::cel) fn contains(&self, value: &Value<'_>, work: &mut Work) -> Result<bool> {
        for item in self.iter() {
            if item?.equals(value, work)? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn by_key(&self, keys: &[Arc<str>]) -> Result<BTreeMap<String, Value<'a>>> {
        self.iter().map(|item| item.and_then(|item| Ok((map_key(&item, keys)?, item)))).collect()
    }

    /// The list with another behind it: what a set has it keeps, what a list-map has by key it overwrites.
    pub(in crate::cel) fn concat(&self, other: &List<'a>, work: &mut Work) -> Result<List<'a>> {
        work.spend(2 * (self.len() + other.len()) as u64)?;
        let mut items = self.to_vec()?;
        match self.semantics {
            ListSemantics::Atomic => items.extend(other.to_vec()?),
            ListSemantics::Set => {
                for item in other.to_vec()? {
                    let is_other = |known: &Value<'a>| known.equals(&item, work).map(|same| !same);
                    if all(&items, is_other)? {
                        items.push(item);
                    }
                }
            }
            ListSemantics::Map(keys) => {
                let mut places: BTreeMap<String, usize> = BTreeMap::new();
                for (at, item) in items.iter().enumerate() {
                    places.insert(map_key(item, keys)?, at);
                }
                for item in other.to_vec()? {
                    match places.get(&map_key(&item, keys)?) {
                        Some(at) => items[*at] = item,
                        None => items.push(item),
                    }
                }
            }
        }
        Ok(List { semantics: self.semantics, ..List::owned(items) })
    }
}

/// What tells the items of a list-map apart, as text.
fn map_key(item: &Value<'_>, keys: &[Arc<str>]) -> Result<String> {
    let Value::Map(map) = item else {
        let message = "unexpected data format for element of array with x-kubernetes-list-type=map";
        return Err(EvaluationError::failed(format_args!("{message}: {}", item.type_name())));
    };
    let parts = keys.iter().map(|key| Ok(format!("{:?}", map.find(&Value::text(key.clone()))?)));
    Ok(parts.collect::<Result<Vec<String>>>()?.join("\0"))
}

impl Map<'_> {
    fn equals(&self, other: &Map<'_>, work: &mut Work) -> Result<bool> {
        if self.len() != other.len() {
            return Ok(false);
        }
        if let (Members::Document(members, Some(shape)), Members::Document(others, _)) = (&self.members, &other.members)
        {
            // What no field describes is compared as it stands, where both have it.
            let undescribed = members.iter().filter(|(key, _)| shape.member(key).is_none());
            let differs = |(key, value)| others.get::<String>(key).is_some_and(|other| other != value);
            if undescribed.into_iter().any(differs) {
                return Ok(false);
            }
        }
        all(self.iter(), |entry| {
            let (key, value) = entry?;
            let found = other.find(&key.to_value())?;
            found.map_or(Ok(false), |found| value.equals(&found, work))
        })
    }
}
