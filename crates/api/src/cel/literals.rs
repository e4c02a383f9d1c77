//! What can be told of constants before anything runs: texts that are no duration, time, pattern or format.

use super::ast::{Id, Kind, Literal};
use super::checker::Checked;
use super::library::{check_format, regexes, times};
use super::source::Issue;
use super::types::Type;

pub(super) fn validate(checked: &Checked) -> Vec<Issue> {
    let ids = 0..checked.ast.nodes.len() as Id;
    let mut issues: Vec<Issue> = ids.clone().filter_map(|id| wrong(checked, id)).collect();
    let free = arguments_of_formats(checked);
    for id in ids.filter(|id| !free[*id as usize]) {
        mixed(checked, id, &mut issues);
    }
    issues
}

/// By node: whether it is part of what a format is given, where types may be mixed.
fn arguments_of_formats(checked: &Checked) -> Vec<bool> {
    let mut within = vec![false; checked.ast.nodes.len()];
    // Children stand before their parents.
    for id in (0..within.len()).rev() {
        let kind = &checked.ast.nodes[id].kind;
        let is_format = matches!(kind, Kind::Call { function, .. } if &**function == "format");
        if is_format || within[id] {
            kind.for_children(|child| within[child as usize] = true);
        }
    }
    within
}

/// Literals whose entries are of several types.
fn mixed(checked: &Checked, id: Id, issues: &mut Vec<Issue>) {
    let type_of = |id: Id, optional: bool| match optional {
        true => checked.ty(id).unwrap_optional().0,
        false => checked.ty(id),
    };
    let mut differs = |id: Id, first: &Type, ty: &Type| {
        if first != ty {
            let message = format!("expected type '{first}' but found '{ty}'");
            issues.push(Issue::new(checked.ast.at(id), message));
        }
        first != ty
    };
    match checked.ast.kind(id) {
        Kind::List(items) => {
            let mut types = items.iter().map(|(item, optional)| (*item, type_of(*item, *optional)));
            if let Some((_, first)) = types.next() {
                // One is told of a list.
                let _ = types.any(|(item, ty)| differs(item, first, ty));
            }
        }
        Kind::Map(entries) => {
            let Some(first) = entries.first() else {
                return;
            };
            let (key, value) = (checked.ty(first.key), type_of(first.value, first.optional));
            for entry in &entries[1..] {
                differs(entry.key, key, checked.ty(entry.key));
                differs(entry.value, value, type_of(entry.value, entry.optional));
            }
        }
        _ => {}
    }
}

fn wrong(checked: &Checked, id: Id) -> Option<Issue> {
    let Kind::Call { target, function, args } = checked.ast.kind(id) else {
        return None;
    };
    let (first, literal) = args.first().and_then(|first| Some((*first, checked.ast.literal(*first)?))).unzip();
    let is_wrong = match (&**function, literal) {
        ("duration", Some(Literal::String(text))) => text.parse::<crate::duration::Duration>().is_err(),
        ("timestamp", Some(Literal::String(text))) => {
            times::parse(text).is_none_or(|time| times::checked(time).is_err())
        }
        ("duration", Some(Literal::Int(_))) => true,
        ("timestamp", Some(Literal::Int(second))) => times::at_second(*second).is_err(),
        ("matches", Some(Literal::String(pattern))) => regexes::compile(pattern).is_err(),
        ("format", _) => return wrong_format(checked, id, (*target)?, args),
        _ => false,
    };
    let at = checked.ast.at(first?);
    is_wrong.then(|| Issue::new(at, format!("invalid {function} argument")))
}

/// A constant format with its arguments listed.
fn wrong_format(checked: &Checked, id: Id, target: Id, args: &[Id]) -> Option<Issue> {
    let (Some(Literal::String(format)), [list]) = (checked.ast.literal(target), args) else {
        return None;
    };
    let Kind::List(items) = checked.ast.kind(*list) else {
        return None;
    };
    let types: Vec<&Type> = items.iter().map(|(item, _)| checked.ty(*item)).collect();
    let (argument, message) = check_format(format, &types).err()?;
    let at = argument.and_then(|argument| items.get(argument)).map_or(id, |(item, _)| *item);
    Some(Issue::new(checked.ast.at(at), message))
}
