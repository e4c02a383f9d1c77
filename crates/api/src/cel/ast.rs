//! Expressions as trees. A tree is an arena: it is dropped without recursion, however it was written.

/// The position of a node in its [`Ast`].
pub(super) type Id = usize;

#[derive(Debug)]
pub(super) struct Ast {
    pub(super) nodes: Vec<Node>,
    pub(super) root: Id,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Node {
    Literal(Literal),
    Ident(String),
    /// `operand.field`, or `operand.?field`
    Select {
        operand: Id,
        field: String,
        optional: bool,
    },
    /// `has(operand.field)`
    Has {
        operand: Id,
        field: String,
    },
    /// `operand[index]`, or `operand[?index]`
    Index {
        operand: Id,
        index: Id,
        optional: bool,
    },
    /// `name(args)`, or `target.name(args)`
    Call {
        target: Option<Id>,
        name: String,
        args: Vec<Id>,
    },
    Not(Id),
    Negate(Id),
    Binary {
        op: Op,
        left: Id,
        right: Id,
    },
    /// All of them, which may be more than two so that long chains stay flat.
    And(Vec<Id>),
    Or(Vec<Id>),
    Conditional {
        condition: Id,
        then: Id,
        otherwise: Id,
    },
    List(Vec<(Id, bool)>),
    /// Keys, values, and whether the entry is left out where the value is an absent optional.
    Map(Vec<(Id, Id, bool)>),
    Comprehension(Box<Comprehension>),
    /// `cel.bind(name, value, body)`
    Bind {
        name: String,
        value: Id,
        body: Id,
    },
    /// `target.optMap(name, body)`; `flat` for `optFlatMap`.
    OptMap {
        target: Id,
        name: String,
        body: Id,
        flat: bool,
    },
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Literal {
    Null,
    Bool(bool),
    Int(i64),
    Uint(u64),
    Double(f64),
    String(String),
    Bytes(Vec<u8>),
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Op {
    Equal,
    NotEqual,
    Less,
    LessEqual,
    Greater,
    GreaterEqual,
    In,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
}

/// One of the macros that look at each item of a list or key of a map.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Comprehension {
    pub(super) kind: Fold,
    pub(super) range: Id,
    /// The item or key; with two names, index or key and value.
    pub(super) first: String,
    pub(super) second: Option<String>,
    /// The condition of `map` with three arguments and of the transforms.
    pub(super) filter: Option<Id>,
    pub(super) body: Id,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Fold {
    All,
    Exists,
    ExistsOne,
    Filter,
    Map,
    TransformMap,
}
