//! When an Indexed Job is done before all of its Pods are (`successPolicy`).

use serde_json::Value;

use crate::field_path::Path;
use crate::resources::fields::items;
use crate::validation::{Errors, quote};

const MOST_RULES: usize = 20;
const MOST_TEXT: usize = 64 * 1024;

/// `completions` is how many indexes there are.
pub(super) fn check(errors: &mut Errors, policy: &Value, completions: i64, path: &Path<'_>) {
    let (rules, list) = (items(policy, "rules"), path.child("rules"));
    if rules.is_empty() {
        errors.required(&list, "at least one rules must be specified when the successPolicy is specified");
    }
    if rules.len() > MOST_RULES {
        errors.too_many(&list, rules.len(), MOST_RULES);
    }
    for (at, rule) in rules.iter().enumerate() {
        check_rule(errors, rule, completions, &list.index(at));
    }
}

fn check_rule(errors: &mut Errors, rule: &Value, completions: i64, path: &Path<'_>) {
    let (count, indexes) = (rule["succeededCount"].as_i64(), rule["succeededIndexes"].as_str());
    if count.is_none() && indexes.is_none() {
        errors.required(path, "at least one of succeededCount or succeededIndexes must be specified");
    }
    let mut total = 0;
    if let Some(indexes) = indexes {
        let at = path.child("succeededIndexes");
        if indexes.len() > MOST_TEXT {
            errors.too_long(&at, MOST_TEXT);
        }
        match number_of(indexes, completions) {
            Ok(number) => total = number,
            Err(why) => errors.invalid(&at, indexes, &format!("error parsing succeededIndexes: {why}")),
        }
    }
    let Some(count) = count else { return };
    let at = path.child("succeededCount");
    if count < 0 {
        errors.invalid(&at, count, "must be greater than or equal to 0");
    }
    if count > completions {
        let why = format!("must be less than or equal to {completions} (the number of specified completions)");
        errors.invalid(&at, count, &why);
    }
    if indexes.is_some() && count > total {
        let why = format!(
            "must be less than or equal to {total} (the number of indexes in the specified succeededIndexes field)"
        );
        errors.invalid(&at, count, &why);
    }
}

/// How many indexes a list of intervals names: `1,3-5`.
fn number_of(text: &str, completions: i64) -> Result<i64, String> {
    let mut total = 0;
    let mut last: Option<i64> = None;
    for interval in text.split(',').filter(|_| !text.is_empty()) {
        let (from, to) = bounds(interval, completions)?;
        if let Some(last) = last.filter(|last| *last >= from) {
            return Err(format!("non-increasing order, previous: {last}, current: {from}"));
        }
        total += to - from + 1;
        last = Some(to);
    }
    Ok(total)
}

fn bounds(interval: &str, completions: i64) -> Result<(i64, i64), String> {
    let index = |text: &str| match text.parse::<i64>() {
        Err(_) => Err(format!("cannot convert string to integer for index: {}", quote(text))),
        Ok(index) if index >= completions => Err(format!("too large index: {}", quote(text))),
        Ok(index) => Ok(index),
    };
    match interval.split('-').collect::<Vec<_>>().as_slice() {
        [one] => index(one).map(|index| (index, index)),
        [from, to] => match (index(from)?, index(to)?) {
            (from, to) if from >= to => Err(format!("non-increasing order, previous: {from}, current: {to}")),
            both => Ok(both),
        },
        _ => Err(format!(
            "the fragment {} violates the requirement that an index interval can have at most two parts separated by '-'",
            quote(interval)
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check_text(text: &str, expected: Result<i64, &str>) {
        assert_eq!(number_of(text, 10).as_ref().copied().map_err(String::as_str), expected, "{text}");
    }

    #[test]
    fn indexes_are_counted() {
        check_text("", Ok(0));
        check_text("1,3-5,9", Ok(5));
        check_text("3,3", Err("non-increasing order, previous: 3, current: 3"));
        check_text("5-3", Err("non-increasing order, previous: 5, current: 3"));
        check_text("10", Err(r#"too large index: "10""#));
        check_text("1x", Err(r#"cannot convert string to integer for index: "1x""#));
        check_text(
            "1-2-3",
            Err(concat!(
                r#"the fragment "1-2-3" violates the requirement that an index interval can have at most two parts "#,
                "separated by '-'"
            )),
        );
    }
}
