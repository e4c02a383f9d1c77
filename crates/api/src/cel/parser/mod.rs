//! Tokens to trees (cel-spec, "Syntax"), by recursive descent.
//!
//! Expressions come from strangers: their length, their depth and what macros make of them are limited, so that
//! neither this nor any later walk over the tree can exhaust the stack.

mod macros;

use std::sync::Arc;

use super::ast::{Ast, Entry, FieldEntry, Id, Kind, Literal, Node, operator};
use super::source::Issue;
use super::token::{self, Kind as TokenKind, Token, syntax};

/// The most levels of operators, fields and calls, as cel-go's parser.
const MAX_DEPTH: u16 = 250;

/// The most levels of nodes, which macros and logical operators may make more of.
const MAX_HEIGHT: u16 = 500;

/// The most nodes that macros may make of an expression (`optMap` copies what it is called on).
const MAX_NODES: usize = 200_000;

/// What may start an operand, as messages list it.
const OPERANDS: &str = "{'[', '{', '(', '.', '-', '!', 'true', 'false', 'null', NUM_FLOAT, NUM_INT, NUM_UINT, STRING, \
                        BYTES, IDENTIFIER}";

/// The words that no variable or function may be called.
const RESERVED: [&str; 17] = [
    "as",
    "break",
    "const",
    "continue",
    "else",
    "for",
    "function",
    "if",
    "import",
    "let",
    "loop",
    "package",
    "namespace",
    "return",
    "var",
    "void",
    "while",
];

/// Binary operators, from those that bind least.
const LEVELS: [&[(&str, &str)]; 5] = [
    &[("||", operator::OR)],
    &[("&&", operator::AND)],
    &[
        ("<", "_<_"),
        ("<=", "_<=_"),
        (">=", "_>=_"),
        (">", "_>_"),
        ("==", operator::EQUALS),
        ("!=", operator::NOT_EQUALS),
        ("in", operator::IN),
    ],
    &[("+", operator::ADD), ("-", "_-_")],
    &[("*", "_*_"), ("/", "_/_"), ("%", "_%_")],
];

/// The first level of [`LEVELS`] whose chains are trees that lean to the left.
const RELATIONS: usize = 2;

/// An operator in a text: its level, its symbol, its function.
type Found = (usize, &'static str, &'static str);

pub(super) fn parse(text: &str, binds: bool) -> Result<Ast, Issue> {
    let tokens = token::tokens(text)?;
    let mut parser = Parser { text, tokens, binds, next: 0, depth: 0, ast: Ast::default(), heights: Vec::new() };
    let root = parser.expression()?;
    if !matches!(parser.peek(), TokenKind::End) {
        return Err(parser.unexpected("extraneous input", "<EOF>"));
    }
    parser.ast.root = root;
    Ok(parser.ast)
}

struct Parser<'t> {
    text: &'t str,
    tokens: Vec<Token>,
    /// Whether there is the macro `cel.bind`.
    binds: bool,
    next: usize,
    /// Of expressions within expressions, now.
    depth: u16,
    ast: Ast,
    /// Of each node: the levels that cel-go counts, and all.
    heights: Vec<(u16, u16)>,
}

type Parsed<T = Id> = Result<T, Issue>;

impl Parser<'_> {
    fn peek(&self) -> &TokenKind {
        &self.tokens[self.next].kind
    }

    fn at(&self) -> u32 {
        self.tokens[self.next].at
    }

    /// Steps over a token; the end is never stepped over.
    fn advance(&mut self) {
        if self.next + 1 < self.tokens.len() {
            self.next += 1;
        }
    }

    fn is(&self, symbol: &str) -> bool {
        match self.peek() {
            TokenKind::Symbol(found) => *found == symbol,
            TokenKind::Word(word) => symbol == "in" && word == "in",
            _ => false,
        }
    }

    /// Steps over the symbol if it is next, and says where it stood.
    fn take(&mut self, symbol: &str) -> Option<u32> {
        let at = self.at();
        self.is(symbol).then(|| {
            self.advance();
            at
        })
    }

    fn expect(&mut self, symbol: &'static str) -> Parsed<u32> {
        self.take(symbol).ok_or_else(|| self.unexpected("mismatched input", &format!("'{symbol}'")))
    }

    fn unexpected(&self, what: &str, expected: &str) -> Issue {
        let token = &self.tokens[self.next];
        let found = match token.kind {
            TokenKind::End => "<EOF>",
            _ => &self.text[token.at as usize..token.end as usize],
        };
        syntax(token.at as usize, format!("{what} '{found}' expecting {expected}"))
    }

    fn add(&mut self, at: u32, kind: Kind) -> Parsed {
        let (mut counted, mut height) = (0, 0);
        kind.for_children(|child| {
            let of = self.heights[child as usize];
            counted = counted.max(of.0);
            height = height.max(of.1);
        });
        counted += u16::from(is_counted(&kind));
        height += 1;
        if counted > MAX_DEPTH || height > MAX_HEIGHT {
            return Err(Issue::whole("max recursion depth exceeded"));
        }
        if self.ast.nodes.len() >= MAX_NODES {
            return Err(Issue::whole(format!("expression expands to more than {MAX_NODES} nodes")));
        }
        self.heights.push((counted, height));
        self.ast.nodes.push(Node { kind, at });
        Ok(self.ast.nodes.len() as Id - 1)
    }

    fn call(&mut self, at: u32, function: &str, args: Vec<Id>) -> Parsed {
        self.add(at, Kind::Call { target: None, function: function.into(), args })
    }

    fn expression(&mut self) -> Parsed {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(Issue::whole(format!("expression recursion limit exceeded: {MAX_DEPTH}")));
        }
        let condition = self.operators(0)?;
        let parsed = match self.take("?") {
            Some(at) => self.branches(at, condition),
            None => Ok(condition),
        };
        self.depth -= 1;
        parsed
    }

    fn branches(&mut self, at: u32, condition: Id) -> Parsed {
        let then = self.operators(0)?;
        self.expect(":")?;
        let otherwise = self.expression()?;
        self.call(at, operator::CONDITIONAL, vec![condition, then, otherwise])
    }

    /// Operands and the operators between them, of this level and those that bind more. One loop serves all levels:
    /// what binds more than the operator found is taken by its right side.
    fn operators(&mut self, level: usize) -> Parsed {
        let mut left = self.unary()?;
        while let Some(found) = self.operator(level) {
            left = match found.0 < RELATIONS {
                true => self.logic(left, found)?,
                false => self.binary(left, found)?,
            };
        }
        Ok(left)
    }

    fn operator(&self, level: usize) -> Option<Found> {
        let levels = LEVELS.iter().enumerate().skip(level);
        let all = levels.flat_map(|(at, row)| row.iter().map(move |(symbol, function)| (at, *symbol, *function)));
        all.into_iter().find(|(_, symbol, _)| self.is(symbol))
    }

    fn binary(&mut self, left: Id, (level, _, function): Found) -> Parsed {
        let at = self.at();
        self.advance();
        let right = self.operators(level + 1)?;
        self.call(at, function, vec![left, right])
    }

    /// A chain of `||` or `&&`.
    fn logic(&mut self, first: Id, (level, symbol, function): Found) -> Parsed {
        let mut terms = vec![first];
        let mut operators = Vec::new();
        while let Some(at) = self.take(symbol) {
            operators.push(at);
            terms.push(self.operators(level + 1)?);
        }
        self.balance(function, &terms, &operators)
    }

    /// A chain as a tree of logarithmic depth: what does not matter for the result matters for the stack.
    fn balance(&mut self, function: &str, terms: &[Id], operators: &[u32]) -> Parsed {
        if operators.is_empty() {
            return Ok(terms[0]);
        }
        let middle = operators.len() / 2;
        let left = self.balance(function, &terms[..=middle], &operators[..middle])?;
        let right = self.balance(function, &terms[middle + 1..], &operators[middle + 1..])?;
        self.call(operators[middle], function, vec![left, right])
    }

    fn unary(&mut self) -> Parsed {
        for (symbol, function) in [("!", operator::NOT), ("-", operator::NEGATE)] {
            if self.is(symbol) && !(symbol == "-" && self.is_negative_number()) {
                return self.prefixed(symbol, function);
            }
        }
        self.member()
    }

    fn prefixed(&mut self, symbol: &str, function: &str) -> Parsed {
        let at = self.at();
        let mut count = 0;
        while !self.is_negative_number() && self.take(symbol).is_some() {
            count += 1;
        }
        let operand = self.member()?;
        match count % 2 {
            0 => Ok(operand),
            _ => self.call(at, function, vec![operand]),
        }
    }

    fn is_negative_number(&self) -> bool {
        let following = self.tokens.get(self.next + 1).map(|token| &token.kind);
        self.is("-") && matches!(following, Some(TokenKind::Int(_) | TokenKind::Double(_)))
    }

    /// An operand and the fields, calls and indices behind it.
    fn member(&mut self) -> Parsed {
        let mut operand = self.primary()?;
        loop {
            if let Some(at) = self.take(".") {
                operand = self.field(at, operand)?;
            } else if let Some(at) = self.take("[") {
                let function = match self.take("?") {
                    Some(_) => operator::OPTIONAL_INDEX,
                    None => operator::INDEX,
                };
                let index = self.expression()?;
                self.expect("]")?;
                operand = self.call(at, function, vec![operand, index])?;
            } else {
                return Ok(operand);
            }
        }
    }

    fn field(&mut self, at: u32, operand: Id) -> Parsed {
        let optional = self.take("?").is_some();
        let name_at = self.at();
        let name = self.field_name()?;
        if optional {
            let name = self.add(name_at, Kind::Literal(Literal::String(name)))?;
            return self.call(at, operator::OPTIONAL_SELECT, vec![operand, name]);
        }
        match self.take("(") {
            Some(open) => {
                let args = self.arguments()?;
                self.method(open, operand, name, args)
            }
            None => self.add(at, Kind::Select { operand, field: name, test: false }),
        }
    }

    /// A name behind a dot. Kubernetes does not let names be quoted.
    fn field_name(&mut self) -> Parsed<Arc<str>> {
        let found = match self.peek() {
            TokenKind::Word(word) if !is_keyword(word) => word.as_str().into(),
            TokenKind::Backquoted => return Err(Issue::new(self.at(), "unsupported syntax: '`'")),
            _ => return Err(self.unexpected("mismatched input", "IDENTIFIER")),
        };
        self.advance();
        Ok(found)
    }

    fn arguments(&mut self) -> Parsed<Vec<Id>> {
        let mut args = Vec::new();
        if self.take(")").is_some() {
            return Ok(args);
        }
        loop {
            args.push(self.expression()?);
            if self.take(",").is_none() {
                self.expect(")")?;
                return Ok(args);
            }
        }
    }

    fn primary(&mut self) -> Parsed {
        let at = self.at();
        if self.take("(").is_some() {
            let inner = self.expression()?;
            self.expect(")")?;
            return Ok(inner);
        }
        if self.take("[").is_some() {
            return self.list(at);
        }
        if self.take("{").is_some() {
            return self.map(at);
        }
        let dotted = self.take(".").is_some();
        match self.peek().clone() {
            TokenKind::Word(word) if dotted || !is_keyword(&word) => self.named(&word, dotted),
            _ if dotted => Err(self.unexpected("mismatched input", "IDENTIFIER")),
            _ => self.literal(at),
        }
    }

    /// A variable, a call of a function, or a message.
    fn named(&mut self, word: &str, dotted: bool) -> Parsed {
        let at = self.at();
        if is_keyword(word) {
            return Err(self.unexpected("mismatched input", "IDENTIFIER"));
        }
        self.advance();
        if let Some(name) = self.message_name(word) {
            let open = self.expect("{")?;
            return self.message(open, if dotted { format!(".{name}") } else { name });
        }
        let name = if dotted { format!(".{word}") } else { word.to_owned() };
        if RESERVED.contains(&word) {
            return Err(Issue::new(at, format!("reserved identifier: {word}")));
        }
        match self.take("(") {
            Some(open) => {
                let args = self.arguments()?;
                self.function(open, name, args)
            }
            None => self.add(at, Kind::Ident(name.into())),
        }
    }

    /// `a.b.C` where `{` follows; steps over the names, not over the brace.
    fn message_name(&mut self, first: &str) -> Option<String> {
        let mut name = first.to_owned();
        let mut next = self.next;
        loop {
            match (&self.tokens[next].kind, self.tokens.get(next + 1).map(|token| &token.kind)) {
                (TokenKind::Symbol("{"), _) => {
                    self.next = next;
                    return Some(name);
                }
                (TokenKind::Symbol("."), Some(TokenKind::Word(word))) => {
                    name = format!("{name}.{word}");
                    next += 2;
                }
                _ => return None,
            }
        }
    }

    fn message(&mut self, at: u32, name: String) -> Parsed {
        let mut fields = Vec::new();
        while self.take("}").is_none() {
            let optional = self.take("?").is_some();
            let field = self.field_name()?;
            let colon = self.expect(":")?;
            let value = self.expression()?;
            fields.push(FieldEntry { name: field, value, optional, at: colon });
            self.separator("}")?;
        }
        self.add(at, Kind::Object { name: name.into(), fields })
    }

    fn list(&mut self, at: u32) -> Parsed {
        let mut items = Vec::new();
        while self.take("]").is_none() {
            let optional = self.take("?").is_some();
            items.push((self.expression()?, optional));
            self.separator("]")?;
        }
        self.add(at, Kind::List(items))
    }

    fn map(&mut self, at: u32) -> Parsed {
        let mut entries = Vec::new();
        while self.take("}").is_none() {
            let optional = self.take("?").is_some();
            let key = self.expression()?;
            self.expect(":")?;
            let value = self.expression()?;
            entries.push(Entry { key, value, optional });
            self.separator("}")?;
        }
        self.add(at, Kind::Map(entries))
    }

    /// A comma, or the end of what is listed.
    fn separator(&mut self, end: &'static str) -> Parsed<()> {
        if self.take(",").is_some() || self.is(end) {
            return Ok(());
        }
        Err(self.unexpected("mismatched input", &format!("{{',', '{end}'}}")))
    }

    fn literal(&mut self, at: u32) -> Parsed {
        let negative = self.is_negative_number() && self.take("-").is_some();
        let literal = match self.peek().clone() {
            TokenKind::Int(value) => {
                Literal::Int(signed(value, negative).ok_or_else(|| Issue::new(at, "invalid int literal"))?)
            }
            TokenKind::Uint(value) => Literal::Uint(value),
            TokenKind::Double(value) => Literal::Double(if negative { -value } else { value }),
            TokenKind::String(text) => Literal::String(text.into()),
            TokenKind::Bytes(bytes) => Literal::Bytes(bytes.into()),
            TokenKind::Word(word) => match word.as_str() {
                "true" => Literal::Bool(true),
                "false" => Literal::Bool(false),
                "null" => Literal::Null,
                _ => return Err(self.unexpected("mismatched input", OPERANDS)),
            },
            _ => return Err(self.unexpected("mismatched input", OPERANDS)),
        };
        self.advance();
        self.add(at, Kind::Literal(literal))
    }
}

fn signed(value: u64, negative: bool) -> Option<i64> {
    match negative {
        true => 0_i64.checked_sub_unsigned(value),
        false => i64::try_from(value).ok(),
    }
}

fn is_keyword(word: &str) -> bool {
    matches!(word, "in" | "true" | "false" | "null")
}

/// Whether cel-go's parser counts the node as a level.
fn is_counted(kind: &Kind) -> bool {
    match kind {
        Kind::Select { .. } => true,
        Kind::Call { target, function, .. } => {
            target.is_some() || (function.contains('_') && !matches!(&**function, "_&&_" | "_||_" | "!_" | "-_"))
        }
        _ => false,
    }
}
