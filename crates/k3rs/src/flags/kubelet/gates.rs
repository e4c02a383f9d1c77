//! Feature gates. What 1.36 has on by default is on, and nothing else: a gate may be named that asks for just that.

use super::nearest;

/// Every gate of 1.36 with its default, by name.
const GATES: &str = include_str!("feature-gates.txt");

fn gates() -> impl Iterator<Item = (&'static str, bool)> {
    GATES.lines().filter_map(|line| line.split_once(' ')).map(|(name, default)| (name, default == "true"))
}

pub(super) fn check(name: &str, wanted: bool) -> Result<(), String> {
    match gates().find(|(known, _)| *known == name) {
        Some((_, default)) if default == wanted => Ok(()),
        Some((_, default)) => {
            let state = if default { "on" } else { "off" };
            Err(format!(
                "feature gate {name} is {state} in 1.36 by default, and cannot be otherwise here: leave it out"
            ))
        }
        None => {
            let meant = nearest(name, gates().map(|(name, _)| name));
            let meant = meant.map(|it| format!(": did you mean {it}?")).unwrap_or_default();
            Err(format!("1.36 has no feature gate {name}{meant}"))
        }
    }
}
