//! The arithmetic of a rollout: how many replicas each ReplicaSet may have next.

use api::int_or_string::IntOrString;
use k8s_openapi::api::apps::v1::DeploymentSpec;

use super::sets::{DESIRED, MAX, Set};

/// How far a rollout may stray from the wanted number of pods.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    pub(super) replicas: i32,
    pub(super) surge: i32,
    pub(super) unavailable: i32,
    pub(super) recreate: bool,
}

impl Limits {
    pub(super) fn of(spec: &DeploymentSpec) -> Self {
        let replicas = spec.replicas.unwrap_or(1);
        let strategy = spec.strategy.as_ref();
        let recreate = strategy.and_then(|strategy| strategy.type_.as_deref()) == Some("Recreate");
        if recreate {
            return Self { replicas, surge: 0, unavailable: 0, recreate };
        }
        let rolling = strategy.and_then(|strategy| strategy.rolling_update.as_ref());
        let scaled = |value: Option<&k8s_openapi::apimachinery::pkg::util::intstr::IntOrString>, round_up| {
            let value = value.and_then(|value| IntOrString::from_json(&serde_json::to_value(value).ok()?));
            let value = value.unwrap_or(IntOrString::String("25%".to_owned()));
            i32::try_from(value.scaled(i64::from(replicas), round_up).unwrap_or_default()).unwrap_or(i32::MAX)
        };
        let surge = scaled(rolling.and_then(|rolling| rolling.max_surge.as_ref()), true);
        let mut unavailable = scaled(rolling.and_then(|rolling| rolling.max_unavailable.as_ref()), false);
        if surge == 0 && unavailable == 0 {
            // Rounding may leave no room to move at all; validation refuses two explicit zeros.
            unavailable = 1;
        }
        Self { replicas, surge, unavailable: unavailable.min(replicas), recreate }
    }

    pub(super) fn max(&self) -> i32 {
        self.replicas.saturating_add(self.surge)
    }
}

pub(super) fn total<'a>(sets: impl IntoIterator<Item = &'a Set>) -> i32 {
    sets.into_iter().map(|set| set.replicas).sum()
}

/// The size of the new ReplicaSet when there are `all` replicas now, `new` of them its own.
pub(super) fn grow(limits: &Limits, all: i32, new: i32) -> i32 {
    if limits.recreate {
        return limits.replicas;
    }
    if new > limits.replicas {
        return limits.replicas;
    }
    let room = (limits.max() - all).max(0);
    new + room.min(limits.replicas - new)
}

/// Takes replicas from old ReplicaSets: those that are not available first, then as many available ones as can be
/// spared. True if any was taken.
pub(super) fn shrink_old(limits: &Limits, olds: &mut [Set], new: &Set) -> bool {
    let least = limits.replicas - limits.unavailable;
    let new_unavailable = new.replicas - new.available();
    let before = total(&*olds);
    let mut spare = before + new.replicas - least - new_unavailable;
    if before == 0 || spare <= 0 {
        return false;
    }
    for old in olds.iter_mut() {
        if spare <= 0 {
            break;
        }
        let unhealthy = (old.replicas - old.available()).clamp(0, spare);
        if old.replicas > 0 && unhealthy > 0 {
            old.resize(old.replicas - unhealthy, limits.replicas, limits.max());
            spare -= unhealthy;
        }
    }
    let available = olds.iter().map(Set::available).sum::<i32>() + new.available();
    let mut spare = available - least;
    for old in olds.iter_mut() {
        if spare <= 0 {
            break;
        }
        let taken = old.replicas.min(spare);
        if taken > 0 {
            old.resize(old.replicas - taken, limits.replicas, limits.max());
            spare -= taken;
        }
    }
    total(&*olds) != before
}

/// Whether the Deployment was resized since its ReplicaSets were.
pub(super) fn is_resized(limits: &Limits, sets: &[Set]) -> bool {
    let active = sets.iter().filter(|set| set.replicas > 0);
    active.filter_map(|set| set.number(DESIRED)).any(|desired| desired != i64::from(limits.replicas))
}

/// Follows a resize: the one active ReplicaSet takes it all, several share it in proportion to their sizes.
pub(super) fn rescale(limits: &Limits, sets: &mut [Set], new: Option<usize>) {
    let active: Vec<usize> = (0..sets.len()).filter(|at| sets[*at].replicas > 0).collect();
    let only = match active[..] {
        [] => new.or_else(|| sets.len().checked_sub(1)),
        [one] => Some(one),
        _ => None,
    };
    if let Some(only) = only {
        sets[only].resize(limits.replicas, limits.replicas, limits.max());
        return;
    }
    let saturated = new.map(|at| &sets[at]).is_some_and(|set| {
        let desired = set.number(DESIRED).unwrap_or_default();
        set.replicas == limits.replicas && desired == i64::from(limits.replicas) && set.available() == limits.replicas
    });
    if saturated {
        for at in active.into_iter().filter(|at| Some(*at) != new) {
            sets[at].resize(0, limits.replicas, limits.max());
        }
    } else if !limits.recreate {
        share(limits, sets, active);
    }
}

fn share(limits: &Limits, sets: &mut [Set], mut active: Vec<usize>) {
    let allowed = if limits.replicas > 0 { limits.max() } else { 0 };
    let to_add = allowed - total(&*sets);
    // Biggest first; of equals the newest gets what is given and the oldest loses what is taken.
    active.sort_by_key(|at| {
        let age = i64::try_from(*at).unwrap_or_default();
        (-sets[*at].replicas, if to_add > 0 { -age } else { age })
    });
    let mut added = 0;
    let mut sizes: Vec<i32> = Vec::new();
    for at in &active {
        let set = &sets[*at];
        let fraction = if to_add == 0 { 0 } else { proportion(limits, set, to_add, added) };
        added += fraction;
        sizes.push((set.replicas + fraction).max(0));
    }
    if let Some(first) = sizes.first_mut() {
        *first = (*first + to_add - added).max(0);
    }
    for (at, size) in active.into_iter().zip(sizes) {
        sets[at].resize(size, limits.replicas, limits.max());
    }
}

/// A ReplicaSet's part of `to_add`, of which `added` is given away.
fn proportion(limits: &Limits, set: &Set, to_add: i32, added: i32) -> i32 {
    if set.replicas == 0 {
        return 0;
    }
    let whole = if limits.replicas == 0 {
        -set.replicas
    } else {
        let was = set.number(MAX).filter(|max| *max > 0).unwrap_or_else(|| i64::from(set.status_replicas()).max(1));
        let size =
            f64::from(set.replicas) * f64::from(limits.max()) / f64::from(i32::try_from(was).unwrap_or(i32::MAX));
        #[expect(clippy::cast_possible_truncation, reason = "a product of replica counts, saturated by the cast")]
        let size = size.round() as i32;
        size - set.replicas
    };
    let left = to_add - added;
    if to_add > 0 { whole.min(left) } else { whole.max(left) }
}
