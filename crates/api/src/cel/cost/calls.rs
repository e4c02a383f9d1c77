//! What calls cost at least and at most: of the language's own functions, and of cel-go's lists and sets.

use super::estimate::{Argument, EntrySize, Estimator};
use super::{CostEstimate, LIST, PATTERN, SizeEstimate, TRAVERSAL};
use crate::cel::ast::{Id, Literal};
use crate::cel::types::Type;

/// What a call costs beside its arguments, and how large its result may be if something is known of that.
pub(super) type CallEstimate = (CostEstimate, Option<SizeEstimate>);

const CALL: CostEstimate = CostEstimate { min: 1, max: 1 };

impl Argument {
    pub(super) fn size_or_unknown(&self) -> SizeEstimate {
        self.size.unwrap_or(SizeEstimate::UNKNOWN)
    }
}

impl Estimator<'_> {
    /// What a call costs with its arguments, without its target.
    pub(super) fn call_cost(
        &mut self,
        id: Id,
        function: &str,
        overload: &str,
        target: Option<&Argument>,
        args: &[Argument],
    ) -> CallEstimate {
        let of_args = args.iter().fold(CostEstimate::default(), |sum, arg| sum.add(arg.cost));
        let of_libraries = self
            .extension_cost(overload, target, args)
            .or_else(|| self.kubernetes_cost(function, overload, target, args));
        if let Some((cost, size)) = of_libraries {
            return (cost.add(of_args), size);
        }
        if let Some(estimate) = self.operator_cost(id, overload, args) {
            return estimate;
        }
        let (cost, size) = standard_cost(overload, target, args).unwrap_or((CALL, None));
        (cost.add(of_args), size)
    }

    /// Operators that may not look at all their arguments, or whose result is made of them.
    fn operator_cost(&mut self, id: Id, overload: &str, args: &[Argument]) -> Option<CallEstimate> {
        match (overload, args) {
            ("logical_or" | "logical_and", [left, right]) => {
                Some((CostEstimate { min: left.cost.min, max: left.cost.add(right.cost).max }, None))
            }
            ("conditional", [condition, then, otherwise]) => {
                let entries = EntrySize::union(self.entry_size(then.id), self.entry_size(otherwise.id));
                self.note_entries(id, entries);
                let size = then.size_or_unknown().union(otherwise.size_or_unknown());
                Some((condition.cost.add(then.cost.union(otherwise.cost)), Some(size)))
            }
            ("add_string" | "add_bytes" | "add_list", [left, right]) => {
                let entries = EntrySize::union(self.entry_size(left.id), self.entry_size(right.id));
                self.note_entries(id, entries);
                let size = left.size_or_unknown().add(right.size_or_unknown());
                let cost = if overload == "add_list" { CALL } else { size.scale(TRAVERSAL) };
                Some((cost.add(left.cost).add(right.cost), Some(size)))
            }
            _ => None,
        }
    }

    /// The lists and sets of cel-go's extensions.
    fn extension_cost(&self, overload: &str, target: Option<&Argument>, args: &[Argument]) -> Option<CallEstimate> {
        let size_of = |arg: &Argument| self.library_size(arg);
        match (overload, target, args) {
            ("list_sets_contains_list" | "list_sets_intersects_list", _, [one, other]) => {
                Some((size_of(one).multiply(size_of(other)).scale(1.0).add(CALL), None))
            }
            ("list_sets_equivalent_list", _, [one, other]) => {
                Some((size_of(one).multiply(size_of(other)).scale(2.0).add(CALL), None))
            }
            ("list_slice", Some(list), [start, end]) => {
                let start = self.int_or(start, 0);
                let end = self.int_or(end, size_of(list).max);
                Some(allocating(1.0, SizeEstimate::fixed(end.wrapping_sub(start))))
            }
            ("lists_range", None, [count]) => Some(allocating(1.0, SizeEstimate::fixed(self.int_or(count, u64::MAX)))),
            ("list_reverse", Some(list), []) => Some(allocating(1.0, size_of(list))),
            ("list_flatten", Some(list), []) => Some(allocating(1.0, size_of(list))),
            ("list_flatten_int", Some(list), [depth]) => {
                Some(allocating(self.int_or(depth, u64::MAX) as f64, size_of(list)))
            }
            ("list_distinct", Some(list), []) => Some(allocating(2.0, size_of(list).multiply(size_of(list)))),
            _ if overload.ends_with("_sort") => Some(self.sort(overload, target?)),
            _ if overload.ends_with("_sortByAssociatedKeys") => Some(self.sort(overload, args.first()?)),
            _ => None,
        }
    }

    fn sort(&self, overload: &str, keys: &Argument) -> CallEstimate {
        let is_text = overload.starts_with("list_string") || overload.starts_with("list_bytes");
        let size = self.library_size(keys);
        allocating(if is_text { 2.0 + TRAVERSAL } else { 2.0 }, size.multiply(size))
    }

    /// The value of a literal; `otherwise` of anything else.
    fn int_or(&self, arg: &Argument, otherwise: u64) -> u64 {
        match self.checked.ast.literal(arg.id) {
            Some(Literal::Int(value)) => u64::try_from(*value).unwrap_or(0),
            _ => otherwise,
        }
    }

    /// How large an argument may be, as libraries find out.
    pub(super) fn library_size(&self, arg: &Argument) -> SizeEstimate {
        arg.size.or_else(|| self.stated_size(&arg.path)).unwrap_or(SizeEstimate::UNKNOWN)
    }
}

/// A call that makes a list of this size.
fn allocating(factor: f64, size: SizeEstimate) -> CallEstimate {
    (size.scale(factor).add(CALL).add(CostEstimate::fixed(LIST)), Some(size))
}

/// The functions of the language.
fn standard_cost(overload: &str, target: Option<&Argument>, args: &[Argument]) -> Option<CallEstimate> {
    let size_of = Argument::size_or_unknown;
    Some(match (overload, target, args) {
        ("string_format", Some(target), _) => (size_of(target).scale(TRAVERSAL), None),
        ("string_to_bytes", _, [text]) => {
            let size = size_of(text);
            let result = SizeEstimate { min: size.min, max: size.max.wrapping_mul(4) };
            (size.scale(TRAVERSAL), Some(result))
        }
        ("bytes_to_string", _, [bytes]) => {
            let size = size_of(bytes);
            (size.scale(TRAVERSAL), Some(SizeEstimate { min: size.min / 4, max: size.max }))
        }
        ("strings_quote", _, [text]) => {
            let size = size_of(text);
            let result = SizeEstimate { min: size.min.wrapping_add(2), max: size.max.wrapping_mul(2).wrapping_add(2) };
            (size.scale(TRAVERSAL), Some(result))
        }
        ("starts_with_string" | "ends_with_string", _, [part]) => (size_of(part).scale(TRAVERSAL), None),
        ("in_list", _, [_, list]) => (size_of(list).scale(1.0), None),
        ("matches_string", Some(text), [pattern]) => {
            let text = size_of(text).add(SizeEstimate::fixed(1)).scale(TRAVERSAL);
            (text.multiply(size_of(pattern).scale(PATTERN)), None)
        }
        ("contains_string", Some(text), [part]) => {
            (size_of(text).scale(TRAVERSAL).multiply(size_of(part).scale(TRAVERSAL)), None)
        }
        (_, _, [left, right]) if compares_texts(overload) => {
            let max = size_of(left).max.min(size_of(right).max);
            (CostEstimate { min: max.min(1), max }.scale(TRAVERSAL), None)
        }
        _ => return None,
    })
}

/// Whether the overload may look at all of its operands.
pub(super) fn compares_texts(overload: &str) -> bool {
    matches!(
        overload,
        "equals"
            | "not_equals"
            | "less_string"
            | "less_equals_string"
            | "greater_string"
            | "greater_equals_string"
            | "less_bytes"
            | "less_equals_bytes"
            | "greater_bytes"
            | "greater_equals_bytes"
    )
}

/// The type that a list, or what else has parameters, is made of.
pub(super) fn first_parameter(ty: &Type) -> Option<&Type> {
    match ty {
        Type::Map(of) => Some(&of.0),
        other => other.parameters().first(),
    }
}
