//! Which types go for which, and what type parameters stand for.
//!
//! The rules are those of cel-go's checker. What a parameter stands for is found out while going; a failed attempt
//! leaves no trace. Work is bounded, since types may share parts and so be exponentially large when written out.

use std::collections::HashMap;
use std::sync::Arc;

use crate::cel::types::Type;

/// The most steps that one expression may take to check.
const MAX_STEPS: u32 = 400_000;

/// The most levels of a type.
const MAX_DEPTH: u32 = 600;

#[derive(Default)]
pub(super) struct Unifier {
    known: HashMap<Arc<str>, Type>,
    /// What was known before, of parameters changed by the attempt under way.
    undo: Vec<(Arc<str>, Option<Type>)>,
    variables: u32,
    steps: u32,
    depth: u32,
}

impl Unifier {
    /// A type that is not known yet.
    pub(super) fn variable(&mut self) -> Type {
        self.variables += 1;
        Type::Param(format!("_var{}", self.variables - 1).into())
    }

    /// Whether the types were too large to be compared; what was said of them then means nothing.
    pub(super) fn is_exhausted(&self) -> bool {
        self.steps > MAX_STEPS
    }

    pub(super) fn assignable(&mut self, to: &Type, from: &Type) -> bool {
        self.attempt(|unifier| unifier.fits(to, from))
    }

    pub(super) fn all_assignable(&mut self, to: &[Type], from: &[Type]) -> bool {
        self.attempt(|unifier| unifier.all_fit(to, from))
    }

    fn attempt(&mut self, run: impl FnOnce(&mut Self) -> bool) -> bool {
        self.undo.clear();
        let holds = run(self);
        if !holds {
            while let Some((name, before)) = self.undo.pop() {
                match before {
                    Some(ty) => self.known.insert(name, ty),
                    None => self.known.remove(&name),
                };
            }
        }
        holds
    }

    /// One step deeper, unless that is too much.
    fn deeper<T>(&mut self, otherwise: T, run: impl FnOnce(&mut Self) -> T) -> T {
        self.steps = self.steps.saturating_add(1);
        if self.depth >= MAX_DEPTH {
            self.steps = u32::MAX;
        }
        if self.is_exhausted() {
            return otherwise;
        }
        self.depth += 1;
        let outcome = run(self);
        self.depth -= 1;
        outcome
    }

    fn learn(&mut self, name: &Arc<str>, ty: &Type) {
        let before = self.known.insert(name.clone(), ty.clone());
        self.undo.push((name.clone(), before));
    }

    fn fits(&mut self, to: &Type, from: &Type) -> bool {
        self.deeper(false, |unifier| unifier.fits_here(to, from))
    }

    fn fits_here(&mut self, to: &Type, from: &Type) -> bool {
        if let Type::Param(name) = from {
            match self.stands_for(name, from, to) {
                (true, _) => return true,
                (false, true) => return false,
                (false, false) => {}
            }
        }
        if let Type::Param(name) = to {
            return self.stands_for(name, to, from).0;
        }
        if to.is_dyn_or_error() || from.is_dyn_or_error() {
            return true;
        }
        match (to, from) {
            (Type::Null, other) | (other, Type::Null) => is_nullable(other),
            (Type::Type(_), Type::Type(_)) => true,
            (Type::List(to), Type::List(from)) => self.fits(to, from),
            (Type::Map(to), Type::Map(from)) => self.fits(&to.0, &from.0) && self.fits(&to.1, &from.1),
            (Type::Opaque(to, to_of), Type::Opaque(from, from_of)) => to == from && self.all_fit(to_of, from_of),
            (to, from) => to == from,
        }
    }

    fn all_fit(&mut self, to: &[Type], from: &[Type]) -> bool {
        to.len() == from.len() && to.iter().zip(from).all(|(to, from)| self.fits(to, from))
    }

    /// Whether the parameter may stand for the type, and whether it stood for something before.
    fn stands_for(&mut self, name: &Arc<str>, param: &Type, ty: &Type) -> (bool, bool) {
        if param == ty {
            return (true, true);
        }
        if let Some(found) = self.known.get(name).cloned() {
            if *ty == found {
                return (true, true);
            }
            if !self.fits(ty, &found) {
                return (false, true);
            }
            let general = if self.is_as_general(ty, &found) { ty } else { &found };
            if self.is_apart(param, general) {
                let general = general.clone();
                self.learn(name, &general);
            }
            return (true, true);
        }
        if self.is_apart(param, ty) {
            self.learn(name, ty);
            return (true, false);
        }
        (false, false)
    }

    /// Whether the parameter is no part of the type.
    fn is_apart(&mut self, param: &Type, within: &Type) -> bool {
        if param == within {
            return false;
        }
        self.deeper(false, |unifier| match within {
            Type::Param(name) => match unifier.known.get(name).cloned() {
                Some(found) => unifier.is_apart(param, &found),
                None => true,
            },
            Type::Map(of) => unifier.is_apart(param, &of.0) && unifier.is_apart(param, &of.1),
            other => other.parameters().iter().all(|of| unifier.is_apart(param, of)),
        })
    }

    /// The more general of two types that go together.
    pub(super) fn most_general(&mut self, one: Type, other: Type) -> Type {
        if self.is_as_general(&one, &other) { one } else { other }
    }

    fn is_as_general(&mut self, one: &Type, other: &Type) -> bool {
        self.deeper(false, |unifier| match (one, other) {
            (Type::Dyn | Type::Any | Type::Param(_), _) => true,
            (_, Type::Dyn | Type::Any | Type::Param(_)) => false,
            (Type::List(one), Type::List(other)) => unifier.is_as_general(one, other),
            (Type::Map(one), Type::Map(other)) => {
                unifier.is_as_general(&one.0, &other.0) && unifier.is_as_general(&one.1, &other.1)
            }
            (Type::Opaque(one, of), Type::Opaque(other, other_of)) => {
                one == other
                    && of.len() == other_of.len()
                    && of.iter().zip(other_of.iter()).all(|(one, other)| unifier.is_as_general(one, other))
            }
            (Type::Type(_), Type::Type(_)) => true,
            (one, other) => one == other,
        })
    }

    /// The type with what is known put in place of parameters; those left become dyn in the end.
    pub(super) fn substitute(&mut self, ty: &Type, is_end: bool) -> Type {
        self.deeper(Type::Dyn, |unifier| match ty {
            Type::Param(name) => match unifier.known.get(name).cloned() {
                Some(found) => unifier.substitute(&found, is_end),
                None if is_end => Type::Dyn,
                None => ty.clone(),
            },
            Type::List(item) => Type::list(unifier.substitute(item, is_end)),
            Type::Map(of) => Type::map(unifier.substitute(&of.0, is_end), unifier.substitute(&of.1, is_end)),
            Type::Opaque(name, of) => {
                Type::Opaque(name.clone(), of.iter().map(|of| unifier.substitute(of, is_end)).collect())
            }
            Type::Type(Some(of)) => Type::of_type(unifier.substitute(of, is_end)),
            other => other.clone(),
        })
    }

    /// Types of a signature with its parameters made unknown types of their own.
    pub(super) fn instantiate(&mut self, args: &[Type], result: &Type) -> (Vec<Type>, Type) {
        let mut fresh = HashMap::new();
        let args = args.iter().map(|arg| self.rename(arg, &mut fresh)).collect();
        (args, self.rename(result, &mut fresh))
    }

    fn rename(&mut self, ty: &Type, fresh: &mut HashMap<Arc<str>, Type>) -> Type {
        match ty {
            Type::Param(name) => match fresh.get(name) {
                Some(found) => found.clone(),
                None => {
                    let variable = self.variable();
                    fresh.insert(name.clone(), variable.clone());
                    variable
                }
            },
            Type::List(item) => Type::list(self.rename(item, fresh)),
            Type::Map(of) => Type::map(self.rename(&of.0, fresh), self.rename(&of.1, fresh)),
            Type::Opaque(name, of) => Type::Opaque(name.clone(), of.iter().map(|of| self.rename(of, fresh)).collect()),
            Type::Type(Some(of)) => Type::of_type(self.rename(of, fresh)),
            other => other.clone(),
        }
    }
}

fn is_nullable(ty: &Type) -> bool {
    matches!(ty, Type::Null | Type::Opaque(..) | Type::Object(_) | Type::Duration | Type::Timestamp)
}
