//! Expressions as trees, macros already expanded. A tree is an arena: it is dropped without recursion, and what is
//! found out about a node (its type, its overloads) stands in tables beside it.

use std::sync::Arc;

/// The position of a node in its [`Ast`].
pub(super) type Id = u32;

/// The names that operators have as functions.
pub(super) mod operator {
    pub(in crate::cel) const CONDITIONAL: &str = "_?_:_";
    pub(in crate::cel) const AND: &str = "_&&_";
    pub(in crate::cel) const OR: &str = "_||_";
    pub(in crate::cel) const NOT: &str = "!_";
    pub(in crate::cel) const EQUALS: &str = "_==_";
    pub(in crate::cel) const NOT_EQUALS: &str = "_!=_";
    pub(in crate::cel) const ADD: &str = "_+_";
    pub(in crate::cel) const NEGATE: &str = "-_";
    pub(in crate::cel) const IN: &str = "@in";
    pub(in crate::cel) const INDEX: &str = "_[_]";
    pub(in crate::cel) const OPTIONAL_INDEX: &str = "_[?_]";
    pub(in crate::cel) const OPTIONAL_SELECT: &str = "_?._";
    pub(in crate::cel) const NOT_STRICTLY_FALSE: &str = "@not_strictly_false";
}

/// The variable in which comprehensions gather their result.
pub(super) const ACCUMULATOR: &str = "@result";

#[derive(Debug, Default)]
pub(super) struct Ast {
    pub(super) nodes: Vec<Node>,
    pub(super) root: Id,
}

#[derive(Clone, Debug)]
pub(super) struct Node {
    pub(super) kind: Kind,
    /// Where messages point to, in bytes from the start of the text.
    pub(super) at: u32,
}

#[derive(Clone, Debug)]
pub(super) enum Kind {
    Literal(Literal),
    Ident(Arc<str>),
    /// `operand.field`; as a test, `has(operand.field)`.
    Select {
        operand: Id,
        field: Arc<str>,
        test: bool,
    },
    /// `function(args)`, `target.function(args)`, or an operator.
    Call {
        target: Option<Id>,
        function: Arc<str>,
        args: Vec<Id>,
    },
    /// Items, and whether each is left out where it is an absent optional.
    List(Vec<(Id, bool)>),
    Map(Vec<Entry>),
    /// `name{fields}`
    Object {
        name: Arc<str>,
        fields: Vec<FieldEntry>,
    },
    Fold(Box<Fold>),
}

#[derive(Clone, Copy, Debug)]
pub(super) struct Entry {
    pub(super) key: Id,
    pub(super) value: Id,
    pub(super) optional: bool,
}

#[derive(Clone, Debug)]
pub(super) struct FieldEntry {
    pub(super) name: Arc<str>,
    pub(super) value: Id,
    pub(super) optional: bool,
    pub(super) at: u32,
}

/// A comprehension: what every macro over lists and maps is expanded to.
#[derive(Clone, Debug)]
pub(super) struct Fold {
    pub(super) range: Id,
    /// The item, or key; with two variables the index, or key.
    pub(super) first: Arc<str>,
    /// The item, or value.
    pub(super) second: Option<Arc<str>>,
    pub(super) accumulator: Arc<str>,
    pub(super) initial: Id,
    /// Whether to go on.
    pub(super) condition: Id,
    pub(super) step: Id,
    pub(super) result: Id,
}

impl Fold {
    pub(super) fn children(&self) -> [Id; 5] {
        [self.range, self.initial, self.condition, self.step, self.result]
    }
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(Arc<str>),
    Bytes(Arc<[u8]>),
}

impl Kind {
    pub(super) fn for_children(&self, mut visit: impl FnMut(Id)) {
        match self {
            Self::Literal(_) | Self::Ident(_) => {}
            Self::Select { operand, .. } => visit(*operand),
            Self::Call { target, args, .. } => target.iter().chain(args).copied().for_each(visit),
            Self::List(items) => items.iter().for_each(|item| visit(item.0)),
            Self::Map(entries) => entries.iter().for_each(|entry| {
                visit(entry.key);
                visit(entry.value);
            }),
            Self::Object { fields, .. } => fields.iter().for_each(|field| visit(field.value)),
            Self::Fold(fold) => fold.children().into_iter().for_each(visit),
        }
    }
}

impl Ast {
    pub(super) fn kind(&self, id: Id) -> &Kind {
        &self.nodes[id as usize].kind
    }

    pub(super) fn at(&self, id: Id) -> u32 {
        self.nodes[id as usize].at
    }

    pub(super) fn literal(&self, id: Id) -> Option<&Literal> {
        match self.kind(id) {
            Kind::Literal(literal) => Some(literal),
            _ => None,
        }
    }

    /// `a.b.c` as a name, where the node is a chain of such fields.
    pub(super) fn qualified_name(&self, mut id: Id) -> Option<String> {
        let mut words: Vec<&str> = Vec::new();
        loop {
            match self.kind(id) {
                Kind::Ident(name) => {
                    words.push(name);
                    words.reverse();
                    return Some(words.join("."));
                }
                Kind::Select { operand, field, test: false } => {
                    words.push(field);
                    id = *operand;
                }
                _ => return None,
            }
        }
    }

    /// Whether the comprehension only names a value (`optMap`, `sortBy`).
    pub(super) fn is_bind(&self, fold: &Fold) -> bool {
        matches!(self.kind(fold.range), Kind::List(items) if items.is_empty())
            && self.literal(fold.condition) == Some(&Literal::Bool(false))
    }
}
