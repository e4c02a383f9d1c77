//! Finds the types of a tree and the overloads that its calls may mean, or says what is wrong.

mod unify;

use std::sync::Arc;

use super::ast::{Ast, Entry, FieldEntry, Fold, Id, Kind, Literal, operator};
use super::declarations::{Declarations, FunctionDeclaration, Overload};
use super::source::Issue;
use super::types::Type;
use unify::Unifier;

/// A tree whose types are known.
#[derive(Debug)]
pub(super) struct Checked {
    pub(super) ast: Ast,
    /// By node.
    pub(super) types: Vec<Type>,
    /// By node: what a call may mean; empty for what is none.
    pub(super) overloads: Vec<Overloads>,
}

/// The overloads of a function that the arguments of one call may fit.
#[derive(Clone, Debug, Default)]
pub(super) struct Overloads {
    pub(super) function: Option<Arc<FunctionDeclaration>>,
    pub(super) ids: Vec<&'static str>,
}

impl Checked {
    pub(super) fn ty(&self, id: Id) -> &Type {
        &self.types[id as usize]
    }

    pub(super) fn overload_ids(&self, id: Id) -> &[&'static str] {
        &self.overloads[id as usize].ids
    }
}

pub(super) fn check(ast: Ast, declarations: &Declarations) -> Result<Checked, Vec<Issue>> {
    let count = ast.nodes.len();
    let mut checker = Checker {
        ast,
        declarations,
        types: vec![Type::Dyn; count],
        overloads: vec![Overloads::default(); count],
        scope: Vec::new(),
        unifier: Unifier::default(),
        issues: Vec::new(),
    };
    checker.check(checker.ast.root);
    let mut types = std::mem::take(&mut checker.types);
    for ty in &mut types {
        *ty = checker.unifier.substitute(ty, true);
    }
    if checker.unifier.is_exhausted() {
        return Err(vec![Issue::whole("expression has types too large to check")]);
    }
    match checker.issues.is_empty() {
        true => Ok(Checked { ast: checker.ast, types, overloads: checker.overloads }),
        false => Err(checker.issues),
    }
}

struct Checker<'d> {
    ast: Ast,
    declarations: &'d Declarations,
    types: Vec<Type>,
    overloads: Vec<Overloads>,
    /// Variables of comprehensions, the innermost last.
    scope: Vec<(Arc<str>, Type)>,
    unifier: Unifier,
    issues: Vec<Issue>,
}

impl Checker<'_> {
    fn issue(&mut self, id: Id, message: String) {
        let at = self.ast.at(id);
        self.issues.push(Issue::new(at, message));
    }

    fn undeclared(&mut self, id: Id, name: &str) -> Type {
        self.issue(id, format!("undeclared reference to '{name}' (in container '')"));
        Type::Error
    }

    fn known(&mut self, id: Id) -> Type {
        self.types[id as usize].clone()
    }

    fn check(&mut self, id: Id) -> Type {
        let ty = match self.ast.kind(id) {
            Kind::Literal(literal) => literal_type(literal),
            Kind::Ident(name) => {
                let name = name.clone();
                self.ident(&name).unwrap_or_else(|| self.undeclared(id, &name))
            }
            Kind::Select { .. } => self.select(id),
            Kind::Call { .. } => self.call(id),
            Kind::List(_) => self.list(id),
            Kind::Map(_) => self.map(id),
            Kind::Object { .. } => self.object(id),
            Kind::Fold(_) => self.fold(id),
        };
        self.types[id as usize] = ty.clone();
        ty
    }

    fn ident(&self, name: &str) -> Option<Type> {
        let local = self.scope.iter().rev().find(|(known, _)| **known == *name);
        local.map(|(_, ty)| ty.clone()).or_else(|| self.declarations.ident(name))
    }

    /// A field, or a name with dots in it.
    fn select(&mut self, id: Id) -> Type {
        let Kind::Select { operand, field, test } = self.ast.kind(id).clone() else {
            return Type::Error;
        };
        if let Some(name) = self.ast.qualified_name(id)
            && let Some(ty) = self.ident(&name)
        {
            self.ast.nodes[id as usize].kind = Kind::Ident(name.into());
            return ty;
        }
        let ty = self.select_field(id, operand, &field, false);
        if test { Type::Bool } else { self.unifier.substitute(&ty, false) }
    }

    fn select_field(&mut self, id: Id, operand: Id, field: &str, optional: bool) -> Type {
        let operand = self.check(operand);
        let operand = self.unifier.substitute(&operand, false);
        let (target, is_optional) = operand.unwrap_optional();
        let found = match target {
            Type::Map(of) => of.1.clone(),
            Type::Object(name) => self.object_field(self.ast.at(id), name, field),
            Type::Param(_) => {
                self.unifier.assignable(&Type::Dyn, target);
                Type::Dyn
            }
            other => {
                if !other.is_dyn_or_error() {
                    self.issue(id, format!("type '{other}' does not support field selection"));
                }
                Type::Dyn
            }
        };
        if optional || is_optional { Type::optional(found) } else { found }
    }

    fn object_field(&mut self, at: u32, object: &str, field: &str) -> Type {
        if !self.declarations.has_object(object) {
            self.issues.push(Issue::new(at, format!("unexpected failed resolution of '{object}'")));
            return Type::Error;
        }
        self.declarations.field(object, field).unwrap_or_else(|| {
            self.issues.push(Issue::new(at, format!("undefined field '{field}'")));
            Type::Error
        })
    }

    fn call(&mut self, id: Id) -> Type {
        let Kind::Call { target, function, args } = self.ast.kind(id).clone() else {
            return Type::Error;
        };
        if &*function == operator::OPTIONAL_SELECT {
            return self.optional_select(id, &args);
        }
        for arg in &args {
            self.check(*arg);
        }
        let Some(target) = target else {
            let name = function.strip_prefix('.').unwrap_or(&function);
            return match self.declarations.function(name) {
                Some(declaration) => self.resolve(id, declaration, false, &args),
                None => self.undeclared(id, &function),
            };
        };
        if let Some(prefix) = self.ast.qualified_name(target)
            && let Some(declaration) = self.declarations.function(&format!("{prefix}.{function}"))
        {
            let function = declaration.name.into();
            self.ast.nodes[id as usize].kind = Kind::Call { target: None, function, args: args.clone() };
            return self.resolve(id, declaration, false, &args);
        }
        self.check(target);
        let all: Vec<Id> = std::iter::once(target).chain(args).collect();
        match self.declarations.function(&function) {
            Some(declaration) => self.resolve(id, declaration, true, &all),
            None => self.undeclared(id, &function),
        }
    }

    fn optional_select(&mut self, id: Id, args: &[Id]) -> Type {
        let [operand, field] = args else {
            let count = args.len();
            self.issue(
                id,
                format!("unsupported optional field selection: incorrect signature. argument count: {count}"),
            );
            return Type::Error;
        };
        let Some(Literal::String(name)) = self.ast.literal(*field).cloned() else {
            self.issue(*field, "unsupported optional field selection".into());
            return Type::Error;
        };
        let ty = self.select_field(id, *operand, &name, true);
        self.types[*field as usize] = Type::String;
        self.overloads[id as usize].ids = vec!["select_optional_field"];
        self.unifier.substitute(&ty, false)
    }

    /// The result type of a call, by the overloads that its arguments fit.
    fn resolve(&mut self, id: Id, function: &Arc<FunctionDeclaration>, is_member: bool, args: &[Id]) -> Type {
        let types: Vec<Type> = args.iter().map(|arg| self.known(*arg)).collect();
        let mut ids = Vec::new();
        let result = match function.name {
            operator::AND | operator::OR => {
                ids.push(if function.name == operator::AND { "logical_and" } else { "logical_or" });
                self.logic(args, &types)
            }
            _ => self.fitting(function, is_member, &types, &mut ids),
        };
        let Some(result) = result else {
            if ids.is_empty() {
                let signature = self.signature(&types, is_member);
                let name = function.name;
                self.issue(id, format!("found no matching overload for '{name}' applied to '{signature}'"));
            }
            return Type::Error;
        };
        self.overloads[id as usize] = Overloads { function: Some(function.clone()), ids };
        result
    }

    fn logic(&mut self, args: &[Id], types: &[Type]) -> Option<Type> {
        let mut all = true;
        for (arg, ty) in args.iter().zip(types) {
            if !self.unifier.assignable(ty, &Type::Bool) {
                self.mismatch(*arg, &Type::Bool, ty);
                all = false;
            }
        }
        all.then_some(Type::Bool)
    }

    fn fitting(
        &mut self,
        function: &FunctionDeclaration,
        is_member: bool,
        types: &[Type],
        ids: &mut Vec<&'static str>,
    ) -> Option<Type> {
        let mut result: Option<Type> = None;
        let may_fit = |overload: &&Overload| overload.is_member == is_member && overload.args.len() == types.len();
        for overload in function.overloads.iter().filter(may_fit) {
            let (params, returns) = self.unifier.instantiate(&overload.args, &overload.result);
            if !self.unifier.all_assignable(types, &params) {
                continue;
            }
            ids.push(overload.id);
            let returns = self.unifier.substitute(&returns, false);
            result = Some(match result {
                None => returns,
                Some(before) if before.is_dyn() || before == returns => before,
                Some(_) => Type::Dyn,
            });
        }
        result
    }

    fn signature(&mut self, types: &[Type], is_member: bool) -> String {
        let texts: Vec<String> = types.iter().map(|ty| self.unifier.substitute(ty, true).to_string()).collect();
        match (is_member, texts.split_first()) {
            (true, Some((target, args))) => format!("{target}.({})", args.join(", ")),
            _ => format!("({})", texts.join(", ")),
        }
    }

    fn mismatch(&mut self, id: Id, expected: &Type, found: &Type) {
        self.issue(id, format!("expected type '{expected}' but found '{found}'"));
    }

    fn list(&mut self, id: Id) -> Type {
        let Kind::List(items) = self.ast.kind(id).clone() else {
            return Type::Error;
        };
        let mut joined = None;
        for (item, optional) in items {
            let ty = self.check(item);
            let ty = self.unwrapped(item, ty, optional);
            joined = Some(self.join(joined, ty));
        }
        Type::list(joined.unwrap_or_else(|| self.unifier.variable()))
    }

    fn map(&mut self, id: Id) -> Type {
        let Kind::Map(entries) = self.ast.kind(id).clone() else {
            return Type::Error;
        };
        let (mut keys, mut values) = (None, None);
        for Entry { key, value, optional } in entries {
            let ty = self.check(key);
            keys = Some(self.join(keys, ty));
            let ty = self.check(value);
            let ty = self.unwrapped(value, ty, optional);
            values = Some(self.join(values, ty));
        }
        match (keys, values) {
            (Some(key), Some(value)) => Type::map(key, value),
            _ => {
                let key = self.unifier.variable();
                Type::map(key, self.unifier.variable())
            }
        }
    }

    /// The type of an entry: what it holds, where it is optional.
    fn unwrapped(&mut self, id: Id, ty: Type, optional: bool) -> Type {
        if !optional {
            return ty;
        }
        let (inner, is_optional) = ty.unwrap_optional();
        let inner = inner.clone();
        if !is_optional && !inner.is_dyn() {
            self.mismatch(id, &Type::optional(inner.clone()), &inner);
        }
        inner
    }

    /// The one type of entries of a literal.
    fn join(&mut self, before: Option<Type>, ty: Type) -> Type {
        let Some(before) = before else {
            return ty;
        };
        match self.unifier.assignable(&before, &ty) {
            true => self.unifier.most_general(before, ty),
            // Literals of mixed types are refused later, but for the arguments of a format.
            false => Type::Dyn,
        }
    }

    fn object(&mut self, id: Id) -> Type {
        let Kind::Object { name, fields } = self.ast.kind(id).clone() else {
            return Type::Error;
        };
        let Some(declared) = self.ident(&name) else {
            return self.undeclared(id, &name);
        };
        let object = match &declared {
            Type::Type(Some(of)) => match &**of {
                object @ Type::Object(name) if self.declarations.has_object(name) => object.clone(),
                other => {
                    self.issue(id, format!("'{}' is not a message type", other.runtime_name()));
                    Type::Error
                }
            },
            other => {
                self.issue(id, format!("'{}' is not a type", other.runtime_name()));
                Type::Error
            }
        };
        for field in &fields {
            self.object_entry(name.strip_prefix('.').unwrap_or(&name), field);
        }
        object
    }

    fn object_entry(&mut self, object: &str, field: &FieldEntry) {
        let value = self.check(field.value);
        let value = self.unwrapped(field.value, value, field.optional);
        let expected = self.object_field(field.at, object, &field.name);
        if !self.unifier.assignable(&expected, &value) {
            let name = &field.name;
            let message = format!("expected type of field '{name}' is '{expected}' but provided type is '{value}'");
            self.issues.push(Issue::new(field.at, message));
        }
    }

    fn fold(&mut self, id: Id) -> Type {
        let Kind::Fold(fold) = self.ast.kind(id).clone() else {
            return Type::Error;
        };
        let Fold { range, first, second, accumulator, initial, condition, step, result } = *fold;
        let range_type = self.check(range);
        let range_type = self.unifier.substitute(&range_type, false);
        let gathered = self.check(initial);
        let before = self.scope.len();
        self.scope.push((accumulator, gathered.clone()));
        let (key, item) = self.range(range, &range_type);
        match second {
            Some(second) => {
                self.scope.push((first, key));
                self.scope.push((second, item));
            }
            None => self.scope.push((first, if matches!(range_type, Type::Map(_)) { key } else { item })),
        }
        let ty = self.check(condition);
        self.assert(condition, &Type::Bool, &ty);
        let ty = self.check(step);
        self.assert(step, &gathered, &ty);
        self.scope.truncate(before + 1);
        let ty = self.check(result);
        self.scope.truncate(before);
        self.unifier.substitute(&ty, false)
    }

    /// The types of what is looped over: index or key, and item or value.
    fn range(&mut self, id: Id, range: &Type) -> (Type, Type) {
        match range {
            Type::List(item) => (Type::Int, (**item).clone()),
            Type::Map(of) => (of.0.clone(), of.1.clone()),
            Type::Dyn | Type::Error | Type::Param(_) => {
                self.unifier.assignable(&Type::Dyn, range);
                (Type::Dyn, Type::Dyn)
            }
            other => {
                let message = format!(
                    "expression of type '{other}' cannot be range of a comprehension (must be list, map, or dynamic)"
                );
                self.issue(id, message);
                (Type::Error, Type::Error)
            }
        }
    }

    fn assert(&mut self, id: Id, expected: &Type, found: &Type) {
        if !self.unifier.assignable(expected, found) {
            self.mismatch(id, expected, found);
        }
    }
}

fn literal_type(literal: &Literal) -> Type {
    match literal {
        Literal::Null => Type::Null,
        Literal::Bool(_) => Type::Bool,
        Literal::Int(_) => Type::Int,
        Literal::Uint(_) => Type::Uint,
        Literal::Double(_) => Type::Double,
        Literal::String(_) => Type::String,
        Literal::Bytes(_) => Type::Bytes,
    }
}
