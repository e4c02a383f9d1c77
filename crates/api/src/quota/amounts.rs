//! Named amounts: what upstream calls a `ResourceList`, and its arithmetic (`k8s.io/apiserver/pkg/quota/v1`).

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use crate::quantity::{Format, Quantity};

/// Amounts by the names of what they are of, in order of name.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Amounts(BTreeMap<String, Quantity>);

impl Amounts {
    /// Reads a map of quantities; what is none is passed over, since validation has refused it.
    pub fn from_json(value: &Value) -> Self {
        let pairs = value.as_object().into_iter().flatten();
        Self(pairs.filter_map(|(name, value)| Some((name.clone(), Quantity::from_json(value).ok()?))).collect())
    }

    pub fn to_json(&self) -> Value {
        Value::Object(
            self.iter().map(|(name, amount)| (name.to_owned(), amount.to_string().into())).collect::<Map<_, _>>(),
        )
    }

    pub fn get(&self, name: &str) -> Option<&Quantity> {
        self.0.get(name)
    }

    pub fn set(&mut self, name: impl Into<String>, amount: Quantity) {
        self.0.insert(name.into(), amount);
    }

    /// Sets a whole number.
    pub fn count(&mut self, name: impl Into<String>, number: i64) {
        self.set(name, Quantity::from_i64(number, Format::DecimalSi));
    }

    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.keys().map(String::as_str)
    }

    pub fn iter(&self) -> impl Iterator<Item = (&str, &Quantity)> {
        self.0.iter().map(|(name, amount)| (name.as_str(), amount))
    }

    /// Adds each amount of `other`.
    pub fn add(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            match self.0.get_mut(name) {
                Some(own) => *own = own.add(amount),
                None => drop(self.0.insert(name.clone(), amount.clone())),
            }
        }
    }

    /// Raises each amount to that of `other`, if that is greater.
    pub fn raise(&mut self, other: &Self) {
        for (name, amount) in &other.0 {
            if self.0.get(name).is_none_or(|own| amount > own) {
                self.0.insert(name.clone(), amount.clone());
            }
        }
    }

    /// What there is more of than in `other`: never less than nothing.
    pub fn beyond(&self, other: &Self) -> Self {
        let more = |(name, amount): (&String, &Quantity)| {
            let rest = other.0.get(name).map_or_else(|| amount.clone(), |less| amount.sub(less));
            (name.clone(), if rest.signum() > 0 { rest } else { Quantity::ZERO })
        };
        Self(self.0.iter().map(more).collect())
    }

    /// Only those that `keep` names.
    pub fn only(&self, keep: impl Fn(&str) -> bool) -> Self {
        Self(self.0.iter().filter(|(name, _)| keep(name)).map(|(name, it)| (name.clone(), it.clone())).collect())
    }

    /// Without those of nothing.
    pub fn without_zeros(&self) -> Self {
        Self(self.0.iter().filter(|(_, it)| !it.is_zero()).map(|(name, it)| (name.clone(), it.clone())).collect())
    }

    /// `cpu=1,memory=2Gi`, as refusals show them.
    pub fn listed(&self) -> String {
        let pairs: Vec<String> = self.iter().map(|(name, amount)| format!("{name}={amount}")).collect();
        pairs.join(",")
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn amounts(value: Value) -> Amounts {
        Amounts::from_json(&value)
    }

    #[test]
    fn amounts_are_added_raised_and_compared_by_name() {
        let mut sum = amounts(json!({"cpu": "500m", "pods": "1"}));
        sum.add(&amounts(json!({"cpu": "1", "memory": "1Gi"})));
        assert_eq!(sum.listed(), "cpu=1500m,memory=1Gi,pods=1");
        sum.raise(&amounts(json!({"cpu": "1", "memory": "2Gi"})));
        assert_eq!(sum.listed(), "cpu=1500m,memory=2Gi,pods=1");
        let more = sum.beyond(&amounts(json!({"cpu": "2", "memory": "1Gi"})));
        assert_eq!(more.listed(), "cpu=0,memory=1Gi,pods=1");
        assert_eq!(more.without_zeros().listed(), "memory=1Gi,pods=1");
        assert_eq!(sum.to_json(), json!({"cpu": "1500m", "memory": "2Gi", "pods": "1"}));
    }
}
