//! What macros stand for. They are expanded while parsing, into what cel-go expands them into: costs are those of the
//! expanded tree.

use std::sync::Arc;

use super::{Parsed, Parser};
use crate::cel::ast::{ACCUMULATOR, Entry, FieldEntry, Fold, Id, Kind, Literal, operator};
use crate::cel::source::Issue;

/// The name of the loop variable of comprehensions that loop over nothing.
const UNUSED: &str = "#unused";

/// What `sortBy` calls the list it sorts.
const SORT_INPUT: &str = "@__sortBy_input__";

#[derive(Clone, Copy, PartialEq)]
enum Quantifier {
    All,
    Exists,
    ExistsOne,
}

impl Parser<'_> {
    /// A call of a function, or the macro `has`.
    pub(super) fn function(&mut self, at: u32, name: String, args: Vec<Id>) -> Parsed {
        if name != "has" || args.len() != 1 {
            return self.call(at, &name, args);
        }
        match self.ast.kind(args[0]).clone() {
            Kind::Select { operand, field, test: false } => self.add(at, Kind::Select { operand, field, test: true }),
            _ => Err(Issue::new(self.ast.at(args[0]), "invalid argument to has() macro")),
        }
    }

    /// A call behind a dot, or a macro.
    pub(super) fn method(&mut self, at: u32, target: Id, name: Arc<str>, args: Vec<Id>) -> Parsed {
        match (&*name, args.len()) {
            ("all", 2 | 3) => self.quantifier(at, Quantifier::All, target, &args),
            ("exists", 2 | 3) => self.quantifier(at, Quantifier::Exists, target, &args),
            ("exists_one", 2 | 3) | ("existsOne", 3) => self.quantifier(at, Quantifier::ExistsOne, target, &args),
            ("map", 2 | 3) => self.map_macro(at, target, &args),
            ("filter", 2) => self.filter(at, target, &args),
            ("transformList", 3 | 4) => self.transform(at, target, &args, |parser, value| {
                let accumulator = parser.accumulator(at)?;
                let item = parser.add(at, Kind::List(vec![(value, false)]))?;
                parser.call(at, operator::ADD, vec![accumulator, item])
            }),
            ("transformMap", 3 | 4) => {
                let first = self.variable(args[0], "argument must be a simple name")?;
                self.transform(at, target, &args, |parser, value| {
                    let accumulator = parser.accumulator(at)?;
                    let key = parser.add(at, Kind::Ident(first.clone()))?;
                    parser.call(at, "cel.@mapInsert", vec![accumulator, key, value])
                })
            }
            ("transformMapEntry", 3 | 4) => self.transform(at, target, &args, |parser, value| {
                let accumulator = parser.accumulator(at)?;
                parser.call(at, "cel.@mapInsert", vec![accumulator, value])
            }),
            ("optMap", 2) => self.opt_map(at, target, &args, true),
            ("optFlatMap", 2) => self.opt_map(at, target, &args, false),
            ("sortBy", 2) => self.sort_by(at, target, &args),
            ("bind", 3) if self.binds && matches!(self.ast.kind(target), Kind::Ident(space) if &**space == "cel") => {
                match self.ast.kind(args[0]).clone() {
                    Kind::Ident(name) => self.bind(at, name, args[1], args[2]),
                    _ => {
                        let why = "cel.bind() variable names must be simple identifiers";
                        Err(Issue::new(self.ast.at(args[0]), why))
                    }
                }
            }
            _ => self.add(at, Kind::Call { target: Some(target), function: name, args }),
        }
    }

    fn accumulator(&mut self, at: u32) -> Parsed {
        self.add(at, Kind::Ident(ACCUMULATOR.into()))
    }

    fn literal_at(&mut self, at: u32, literal: Literal) -> Parsed {
        self.add(at, Kind::Literal(literal))
    }

    /// The name that a macro's argument is.
    fn variable(&self, arg: Id, otherwise: &str) -> Parsed<Arc<str>> {
        match self.ast.kind(arg) {
            Kind::Ident(name) if matches!(&**name, ACCUMULATOR | "__result__") => {
                Err(Issue::new(self.ast.at(arg), "iteration variable overwrites accumulator variable"))
            }
            Kind::Ident(name) => Ok(name.clone()),
            _ => Err(Issue::new(self.ast.at(arg), otherwise)),
        }
    }

    /// Two variables, which must differ.
    fn variables(&self, args: &[Id]) -> Parsed<(Arc<str>, Arc<str>)> {
        let first = self.variable(args[0], "argument must be a simple name")?;
        let second = self.variable(args[1], "argument must be a simple name")?;
        if first == second {
            return Err(Issue::new(self.ast.at(args[1]), format!("duplicate variable name: {first}")));
        }
        Ok((first, second))
    }

    fn quantifier(&mut self, at: u32, quantifier: Quantifier, range: Id, args: &[Id]) -> Parsed {
        let (first, second) = match args.len() {
            2 => (self.variable(args[0], "argument must be a simple name")?, None),
            _ => self.variables(args).map(|(first, second)| (first, Some(second)))?,
        };
        let predicate = args[args.len() - 1];
        let (initial, condition, step, result) = match quantifier {
            Quantifier::All => self.all(at, predicate)?,
            Quantifier::Exists => self.exists(at, predicate)?,
            Quantifier::ExistsOne => self.exists_one(at, predicate)?,
        };
        let accumulator = ACCUMULATOR.into();
        self.fold(at, Fold { range, first, second, accumulator, initial, condition, step, result })
    }

    fn all(&mut self, at: u32, predicate: Id) -> Parsed<(Id, Id, Id, Id)> {
        let initial = self.literal_at(at, Literal::Bool(true))?;
        let so_far = self.accumulator(at)?;
        let condition = self.call(at, operator::NOT_STRICTLY_FALSE, vec![so_far])?;
        let so_far = self.accumulator(at)?;
        let step = self.call(at, operator::AND, vec![so_far, predicate])?;
        Ok((initial, condition, step, self.accumulator(at)?))
    }

    fn exists(&mut self, at: u32, predicate: Id) -> Parsed<(Id, Id, Id, Id)> {
        let initial = self.literal_at(at, Literal::Bool(false))?;
        let so_far = self.accumulator(at)?;
        let not_yet = self.call(at, operator::NOT, vec![so_far])?;
        let condition = self.call(at, operator::NOT_STRICTLY_FALSE, vec![not_yet])?;
        let so_far = self.accumulator(at)?;
        let step = self.call(at, operator::OR, vec![so_far, predicate])?;
        Ok((initial, condition, step, self.accumulator(at)?))
    }

    fn exists_one(&mut self, at: u32, predicate: Id) -> Parsed<(Id, Id, Id, Id)> {
        let initial = self.literal_at(at, Literal::Int(0))?;
        let condition = self.literal_at(at, Literal::Bool(true))?;
        let (so_far, one) = (self.accumulator(at)?, self.literal_at(at, Literal::Int(1))?);
        let more = self.call(at, operator::ADD, vec![so_far, one])?;
        let step = self.when(at, Some(predicate), more)?;
        let (so_far, one) = (self.accumulator(at)?, self.literal_at(at, Literal::Int(1))?);
        Ok((initial, condition, step, self.call(at, operator::EQUALS, vec![so_far, one])?))
    }

    /// `condition ? step : accumulator`
    fn when(&mut self, at: u32, condition: Option<Id>, step: Id) -> Parsed {
        let Some(condition) = condition else {
            return Ok(step);
        };
        let unchanged = self.accumulator(at)?;
        self.call(at, operator::CONDITIONAL, vec![condition, step, unchanged])
    }

    fn map_macro(&mut self, at: u32, range: Id, args: &[Id]) -> Parsed {
        let first = self.variable(args[0], "argument is not an identifier")?;
        let (filter, value) = match args {
            [_, value] => (None, *value),
            _ => (Some(args[1]), args[2]),
        };
        self.gather(at, range, first, filter, value)
    }

    fn filter(&mut self, at: u32, range: Id, args: &[Id]) -> Parsed {
        let first = self.variable(args[0], "argument is not an identifier")?;
        self.gather(at, range, first, Some(args[1]), args[0])
    }

    /// A list of `value`, of those that `filter` lets through.
    fn gather(&mut self, at: u32, range: Id, first: Arc<str>, filter: Option<Id>, value: Id) -> Parsed {
        let initial = self.add(at, Kind::List(Vec::new()))?;
        let condition = self.literal_at(at, Literal::Bool(true))?;
        let so_far = self.accumulator(at)?;
        let item = self.add(at, Kind::List(vec![(value, false)]))?;
        let step = self.call(at, operator::ADD, vec![so_far, item])?;
        let step = self.when(at, filter, step)?;
        let (accumulator, result) = (ACCUMULATOR.into(), self.accumulator(at)?);
        self.fold(at, Fold { range, first, second: None, accumulator, initial, condition, step, result })
    }

    /// The macros of two variables that make a list or a map.
    fn transform(&mut self, at: u32, range: Id, args: &[Id], step: impl FnOnce(&mut Self, Id) -> Parsed) -> Parsed {
        let (first, second) = self.variables(args)?;
        let filter = (args.len() == 4).then(|| args[2]);
        let step = step(self, args[args.len() - 1])?;
        let makes_list = matches!(self.ast.kind(step), Kind::Call { function, .. } if &**function == operator::ADD);
        let initial = self.add(at, if makes_list { Kind::List(Vec::new()) } else { Kind::Map(Vec::new()) })?;
        let condition = self.literal_at(at, Literal::Bool(true))?;
        let step = self.when(at, filter, step)?;
        let (accumulator, result) = (ACCUMULATOR.into(), self.accumulator(at)?);
        self.fold(at, Fold { range, first, second: Some(second), accumulator, initial, condition, step, result })
    }

    /// `target.hasValue() ? optional.of(bind(name, target.value(), body)) : optional.none()`
    fn opt_map(&mut self, at: u32, target: Id, args: &[Id], wrap: bool) -> Parsed {
        let Kind::Ident(name) = self.ast.kind(args[0]).clone() else {
            let function = if wrap { "optMap" } else { "optFlatMap" };
            let message = format!("{function}() variable name must be a simple identifier");
            return Err(Issue::new(self.ast.at(args[0]), message));
        };
        let condition = self.method_of(at, target, "hasValue")?;
        let copy = self.copy(target)?;
        let value = self.method_of(at, copy, "value")?;
        let mut then = self.bind(at, name, value, args[1])?;
        if wrap {
            then = self.optional(at, "of", vec![then])?;
        }
        let none = self.optional(at, "none", Vec::new())?;
        self.call(at, operator::CONDITIONAL, vec![condition, then, none])
    }

    fn optional(&mut self, at: u32, function: &str, args: Vec<Id>) -> Parsed {
        self.call(at, &format!("optional.{function}"), args)
    }

    fn method_of(&mut self, at: u32, target: Id, function: &str) -> Parsed {
        self.add(at, Kind::Call { target: Some(target), function: function.into(), args: Vec::new() })
    }

    fn bind(&mut self, at: u32, accumulator: Arc<str>, initial: Id, result: Id) -> Parsed {
        let range = self.add(at, Kind::List(Vec::new()))?;
        let condition = self.literal_at(at, Literal::Bool(false))?;
        let step = self.add(at, Kind::Ident(accumulator.clone()))?;
        let first = UNUSED.into();
        self.fold(at, Fold { range, first, second: None, accumulator, initial, condition, step, result })
    }

    fn sort_by(&mut self, at: u32, target: Id, args: &[Id]) -> Parsed {
        if matches!(self.ast.kind(target), Kind::Literal(_) | Kind::Map(_) | Kind::Object { .. }) {
            let message = "sortBy can only be applied to a list, identifier, comprehension, call or select expression";
            return Err(Issue::new(self.ast.at(target), message));
        }
        let input = self.add(at, Kind::Ident(SORT_INPUT.into()))?;
        let keys = self.map_macro(at, input, args)?;
        let input = self.add(at, Kind::Ident(SORT_INPUT.into()))?;
        let function = "@sortByAssociatedKeys".into();
        let sorted = self.add(at, Kind::Call { target: Some(input), function, args: vec![keys] })?;
        self.bind(at, SORT_INPUT.into(), target, sorted)
    }

    fn fold(&mut self, at: u32, fold: Fold) -> Parsed {
        self.add(at, Kind::Fold(Box::new(fold)))
    }

    /// A copy of a tree. As deep as trees may be, and in all as large.
    fn copy(&mut self, id: Id) -> Parsed {
        let at = self.ast.at(id);
        let kind = match self.ast.kind(id).clone() {
            Kind::Select { operand, field, test } => Kind::Select { operand: self.copy(operand)?, field, test },
            Kind::Call { target, function, args } => {
                let target = target.map(|target| self.copy(target)).transpose()?;
                let args = args.into_iter().map(|arg| self.copy(arg)).collect::<Parsed<_>>()?;
                Kind::Call { target, function, args }
            }
            Kind::List(items) => {
                let copied = items.into_iter().map(|(item, optional)| Ok((self.copy(item)?, optional)));
                Kind::List(copied.collect::<Parsed<_>>()?)
            }
            Kind::Map(entries) => {
                let copied = entries.into_iter().map(|Entry { key, value, optional }| {
                    Ok(Entry { key: self.copy(key)?, value: self.copy(value)?, optional })
                });
                Kind::Map(copied.collect::<Parsed<_>>()?)
            }
            Kind::Object { name, fields } => {
                let copied = fields.into_iter().map(|field| Ok(FieldEntry { value: self.copy(field.value)?, ..field }));
                Kind::Object { name, fields: copied.collect::<Parsed<_>>()? }
            }
            Kind::Fold(fold) => Kind::Fold(Box::new(Fold {
                range: self.copy(fold.range)?,
                initial: self.copy(fold.initial)?,
                condition: self.copy(fold.condition)?,
                step: self.copy(fold.step)?,
                result: self.copy(fold.result)?,
                ..*fold
            })),
            leaf @ (Kind::Literal(_) | Kind::Ident(_)) => leaf,
        };
        self.add(at, kind)
    }
}
