//! What calls did cost, by their arguments and results.

use super::calls::compares_texts;
use super::library::{AUTHORIZATION, is_constant, selector_cost};
use super::{LIST, PATTERN, SizeEstimate, TRAVERSAL, scaled};
use crate::cel::value::Value;

/// An argument or result; none where it was an error.
pub(in crate::cel) type Outcome<'v, 'a> = Option<&'v Value<'a>>;

/// What a call cost. The overload is empty where it was not known before the arguments were.
pub(in crate::cel) fn call(function: &str, overload: &str, args: &[Outcome<'_, '_>], result: Outcome<'_, '_>) -> u64 {
    extension(overload, args, result)
        .or_else(|| kubernetes(function, overload, args, result))
        .unwrap_or_else(|| standard(overload, args))
}

fn size(value: Outcome<'_, '_>) -> u64 {
    value.map_or(1, Value::cost_size)
}

fn of_text(length: u64) -> u64 {
    scaled(length, TRAVERSAL)
}

fn of_pattern(text: u64, pattern: u64) -> u64 {
    of_text(text.saturating_add(1)).saturating_mul(scaled(pattern, PATTERN))
}

/// The functions of the language.
fn standard(overload: &str, args: &[Outcome<'_, '_>]) -> u64 {
    match (overload, args) {
        (
            "starts_with_string" | "ends_with_string" | "string_to_bytes" | "bytes_to_string" | "strings_quote"
            | "string_format",
            [first, ..],
        ) => of_text(size(*first)),
        ("in_list", [_, list]) => size(*list),
        ("add_string" | "add_bytes", [left, right]) => of_text(size(*left).saturating_add(size(*right))),
        ("matches_string", [text, pattern]) => of_pattern(size(*text), size(*pattern)),
        ("contains_string", [text, part]) => of_text(size(*text)).saturating_mul(of_text(size(*part))),
        (_, [left, right]) if compares_texts(overload) => of_text(size(*left).min(size(*right))),
        _ => 1,
    }
}

/// The lists and sets of cel-go's extensions.
fn extension(overload: &str, args: &[Outcome<'_, '_>], result: Outcome<'_, '_>) -> Option<u64> {
    // A negative depth makes a negative cost, which upstream's arithmetic lets wrap around.
    let allocating = |factor: f64, size: u64| ((size as f64 * factor) as i64 as u64).wrapping_add(1 + LIST);
    Some(match (overload, args) {
        ("list_sets_contains_list" | "list_sets_intersects_list", [one, other]) => {
            size(*one).saturating_mul(size(*other)).saturating_add(1)
        }
        ("list_sets_equivalent_list", [one, other]) => {
            size(*one).saturating_mul(size(*other)).saturating_mul(2).saturating_add(1)
        }
        ("list_slice" | "lists_range" | "list_reverse", _) => allocating(1.0, size(result)),
        ("list_flatten", [list, ..]) => allocating(1.0, size(*list)),
        ("list_flatten_int", [list, depth]) => {
            let depth = if let Some(Value::Int(depth)) = depth { *depth as f64 } else { 1.0 };
            allocating(depth, size(*list))
        }
        ("list_distinct", [list]) => self_comparison(*list),
        (_, [list, ..]) if overload.ends_with("_sort") => self_comparison(*list),
        (_, [_, keys]) if overload.ends_with("_sortByAssociatedKeys") => self_comparison(*keys),
        _ => return None,
    })
}

fn self_comparison(list: Outcome<'_, '_>) -> u64 {
    let count = size(list);
    let is_text = matches!(list, Some(Value::List(list))
        if matches!(list.get(0), Some(Ok(Value::String(_) | Value::Bytes(_)))));
    let factor = if is_text { 2.0 + TRAVERSAL } else { 2.0 };
    ((count.saturating_mul(count) as f64 * factor) as u64).saturating_add(1 + LIST)
}

/// The functions of Kubernetes's libraries.
fn kubernetes(function: &str, overload: &str, args: &[Outcome<'_, '_>], result: Outcome<'_, '_>) -> Option<u64> {
    if is_constant(function) {
        return Some(1);
    }
    Some(match (function, args) {
        ("check", _) => AUTHORIZATION,
        ("fieldSelector" | "labelSelector", [_, text, ..]) => selector_cost(SizeEstimate::fixed(size(*text))).max,
        ("isSorted" | "sum" | "max" | "min" | "indexOf" | "lastIndexOf", [first, ..]) => traversal(*first),
        ("ip", _) if overload == "cidr_ip" => 1,
        (
            "url"
            | "lowerAscii"
            | "upperAscii"
            | "substring"
            | "trim"
            | "jsonpatch.escapeKey"
            | "cidr"
            | "isIP"
            | "isCIDR"
            | "ip"
            | "quantity"
            | "isQuantity"
            | "semver"
            | "isSemver",
            [first, ..],
        ) => of_text(size(*first)),
        ("replace" | "split" | "ip.isCanonical", [first, ..]) => scaled(size(*first), 2.0 * TRAVERSAL),
        ("join", [_, ..]) => scaled(size(result), 2.0 * TRAVERSAL),
        ("find" | "findAll", [text, pattern, ..]) => of_pattern(size(*text), size(*pattern)),
        ("containsIP", [cidr, other]) => {
            let by_text = if overload == "cidr_contains_ip_string" { of_text(size(*other)) } else { 0 };
            of_text(2 * size(*cidr)) + by_text
        }
        ("containsCIDR", [cidr, other]) => {
            let by_text = if overload == "cidr_contains_cidr_string" { of_text(size(*other)) } else { 0 };
            of_text(2 * size(*cidr)) + of_text(size(*cidr)) + 1 + by_text
        }
        ("validate", [Some(Value::Format(format)), text]) => of_pattern(size(*text), format.pattern_size),
        ("_==_", [Some(left), _]) if is_of_library(left) => 1,
        _ => return None,
    })
}

fn is_of_library(value: &Value<'_>) -> bool {
    matches!(
        value,
        Value::Quantity(_)
            | Value::Address(_)
            | Value::Cidr(_)
            | Value::Format(_)
            | Value::Url(_)
            | Value::Semver(_)
            | Value::Authorizer(_)
    )
}

/// What looking at all of a value costs. The depth of values is that of documents and expressions.
fn traversal(value: Outcome<'_, '_>) -> u64 {
    match value {
        Some(Value::String(text)) => (text.len() as f64 * TRAVERSAL) as u64,
        Some(Value::Bytes(bytes)) => (bytes.len() as f64 * TRAVERSAL) as u64,
        Some(Value::List(list)) => {
            list.iter().fold(0, |sum: u64, item| sum.saturating_add(traversal(item.ok().as_ref())))
        }
        Some(Value::Map(map)) => map.iter().fold(0, |sum: u64, entry| {
            let Ok((key, value)) = entry else {
                return sum.saturating_add(1);
            };
            sum.saturating_add(traversal(Some(&key.to_value()))).saturating_add(traversal(Some(&value)))
        }),
        _ => 1,
    }
}
