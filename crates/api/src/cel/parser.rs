//! Tokens to trees (cel-spec, "Syntax"; the macros are cel-go's standard ones and its two-variable ones).
//!
//! A tree may be 250 deep, as upstream's: neither reading nor evaluating hostile text can exhaust the stack.

use super::ast::{Ast, Comprehension, Fold, Id, Literal, Node, Op};
use super::token::{Kind, SyntaxError, Token, tokens};

/// The most levels of a tree, and of recursion while reading it.
const MAX_DEPTH: usize = 250;

const RESERVED: [&str; 16] = [
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
];

type Result<T> = std::result::Result<T, SyntaxError>;

pub(super) fn parse(text: &str) -> Result<Ast> {
    let mut parser = Parser { tokens: tokens(text)?, at: 0, nodes: Vec::new(), heights: Vec::new(), depth: 0 };
    let root = parser.expression()?;
    match parser.peek() {
        Kind::End => Ok(Ast { nodes: parser.nodes, root }),
        other => Err(parser.unexpected(&other.clone())),
    }
}

struct Parser {
    /// Ends with [`Kind::End`].
    tokens: Vec<Token>,
    at: usize,
    nodes: Vec<Node>,
    /// Of each node, how deep the tree below it is.
    heights: Vec<usize>,
    depth: usize,
}

impl Parser {
    fn peek(&self) -> &Kind {
        &self.tokens[self.at.min(self.tokens.len() - 1)].kind
    }

    fn offset(&self) -> usize {
        self.tokens[self.at.min(self.tokens.len() - 1)].at
    }

    fn next(&mut self) -> Kind {
        let kind = self.peek().clone();
        self.at += 1;
        kind
    }

    fn eat(&mut self, symbol: &str) -> bool {
        let found = matches!(self.peek(), Kind::Symbol(found) if *found == symbol);
        self.at += usize::from(found);
        found
    }

    fn expect(&mut self, symbol: &str) -> Result<()> {
        match self.eat(symbol) {
            true => Ok(()),
            false => Err(self.error(format!("expected '{symbol}'"))),
        }
    }

    fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError::new(self.offset(), message)
    }

    fn unexpected(&self, kind: &Kind) -> SyntaxError {
        let found = match kind {
            Kind::End => "end of expression".to_owned(),
            Kind::Symbol(symbol) => format!("'{symbol}'"),
            Kind::Word(word) => format!("'{word}'"),
            _ => "literal".to_owned(),
        };
        self.error(format!("unexpected {found}"))
    }

    fn add(&mut self, node: Node) -> Result<Id> {
        let height = 1 + children(&node).into_iter().map(|id| self.heights[id]).max().unwrap_or(0);
        if height > MAX_DEPTH {
            return Err(self.error(format!("expression recursion limit exceeded: {MAX_DEPTH}")));
        }
        self.nodes.push(node);
        self.heights.push(height);
        Ok(self.nodes.len() - 1)
    }

    fn expression(&mut self) -> Result<Id> {
        self.depth += 1;
        if self.depth > MAX_DEPTH {
            return Err(self.error(format!("expression recursion limit exceeded: {MAX_DEPTH}")));
        }
        let condition = self.or()?;
        let id = if self.eat("?") {
            let then = self.or()?;
            self.expect(":")?;
            let otherwise = self.expression()?;
            self.add(Node::Conditional { condition, then, otherwise })
        } else {
            Ok(condition)
        };
        self.depth -= 1;
        id
    }

    fn or(&mut self) -> Result<Id> {
        let mut terms = vec![self.and()?];
        while self.eat("||") {
            terms.push(self.and()?);
        }
        if terms.len() == 1 { Ok(terms[0]) } else { self.add(Node::Or(terms)) }
    }

    fn and(&mut self) -> Result<Id> {
        let mut terms = vec![self.relation()?];
        while self.eat("&&") {
            terms.push(self.relation()?);
        }
        if terms.len() == 1 { Ok(terms[0]) } else { self.add(Node::And(terms)) }
    }

    fn relation(&mut self) -> Result<Id> {
        let mut left = self.sum()?;
        while let Some(op) = self.operator(&[
            ("==", Op::Equal),
            ("!=", Op::NotEqual),
            ("<=", Op::LessEqual),
            (">=", Op::GreaterEqual),
            ("<", Op::Less),
            (">", Op::Greater),
            ("in", Op::In),
        ]) {
            let right = self.sum()?;
            left = self.add(Node::Binary { op, left, right })?;
        }
        Ok(left)
    }

    fn sum(&mut self) -> Result<Id> {
        let mut left = self.product()?;
        while let Some(op) = self.operator(&[("+", Op::Add), ("-", Op::Subtract)]) {
            let right = self.product()?;
            left = self.add(Node::Binary { op, left, right })?;
        }
        Ok(left)
    }

    fn product(&mut self) -> Result<Id> {
        let mut left = self.unary()?;
        while let Some(op) = self.operator(&[("*", Op::Multiply), ("/", Op::Divide), ("%", Op::Modulo)]) {
            let right = self.unary()?;
            left = self.add(Node::Binary { op, left, right })?;
        }
        Ok(left)
    }

    fn operator(&mut self, of: &[(&str, Op)]) -> Option<Op> {
        let found = match self.peek() {
            Kind::Symbol(symbol) => *symbol,
            Kind::Word(word) if word == "in" => "in",
            _ => return None,
        };
        let op = of.iter().find(|(text, _)| *text == found)?.1;
        self.at += 1;
        Some(op)
    }

    /// Two nots or two minuses undo each other, so only whether their number is odd matters.
    fn unary(&mut self) -> Result<Id> {
        let (mut nots, mut minuses) = (0, 0);
        while self.eat("!") {
            nots += 1;
        }
        if nots == 0 {
            while self.eat("-") {
                minuses += 1;
            }
        }
        if minuses % 2 == 1
            && let Some(literal) = self.negative_literal()
        {
            let id = self.add(Node::Literal(literal))?;
            return self.members(id);
        }
        let operand = self.primary()?;
        let operand = self.members(operand)?;
        match (nots % 2, minuses % 2) {
            (1, _) => self.add(Node::Not(operand)),
            (_, 1) => self.add(Node::Negate(operand)),
            _ => Ok(operand),
        }
    }

    fn negative_literal(&mut self) -> Option<Literal> {
        let literal = match *self.peek() {
            Kind::Int(value) => Literal::Int(0i64.checked_sub_unsigned(value)?),
            Kind::Double(value) => Literal::Double(-value),
            _ => return None,
        };
        self.at += 1;
        Some(literal)
    }

    fn members(&mut self, mut operand: Id) -> Result<Id> {
        loop {
            if self.eat(".") {
                let optional = self.eat("?");
                let field = match self.next() {
                    Kind::Word(name) if name != "in" => name,
                    Kind::Escaped(name) => name,
                    other => return Err(self.unexpected(&other)),
                };
                operand = match !optional && self.eat("(") {
                    true => {
                        let args = self.arguments()?;
                        self.member_call(operand, field, args)?
                    }
                    false => self.add(Node::Select { operand, field, optional })?,
                };
            } else if self.eat("[") {
                let optional = self.eat("?");
                let index = self.expression()?;
                self.expect("]")?;
                operand = self.add(Node::Index { operand, index, optional })?;
            } else {
                return Ok(operand);
            }
        }
    }

    /// Behind the opening parenthesis.
    fn arguments(&mut self) -> Result<Vec<Id>> {
        let mut args = Vec::new();
        if self.eat(")") {
            return Ok(args);
        }
        loop {
            args.push(self.expression()?);
            if self.eat(")") {
                return Ok(args);
            }
            self.expect(",")?;
        }
    }

    fn primary(&mut self) -> Result<Id> {
        let leading_dot = self.eat(".");
        match self.next() {
            Kind::Word(word) if leading_dot || !matches!(word.as_str(), "true" | "false" | "null" | "in") => {
                if RESERVED.contains(&word.as_str()) {
                    return Err(self.error(format!("reserved identifier: {word}")));
                }
                match self.eat("(") {
                    true => {
                        let args = self.arguments()?;
                        self.global_call(word, args)
                    }
                    false => self.add(Node::Ident(word)),
                }
            }
            other if leading_dot => Err(self.unexpected(&other)),
            Kind::Word(word) => match word.as_str() {
                "true" | "false" => self.add(Node::Literal(Literal::Bool(word == "true"))),
                "null" => self.add(Node::Literal(Literal::Null)),
                _ => Err(self.unexpected(&Kind::Word(word))),
            },
            Kind::Symbol("(") => {
                let inner = self.expression()?;
                self.expect(")")?;
                Ok(inner)
            }
            Kind::Symbol("[") => self.list(),
            Kind::Symbol("{") => self.map(),
            Kind::Int(value) => {
                let value = i64::try_from(value).map_err(|_| self.error("invalid int literal"))?;
                self.add(Node::Literal(Literal::Int(value)))
            }
            Kind::Uint(value) => self.add(Node::Literal(Literal::Uint(value))),
            Kind::Double(value) => self.add(Node::Literal(Literal::Double(value))),
            Kind::String(text) => self.add(Node::Literal(Literal::String(text))),
            Kind::Bytes(bytes) => self.add(Node::Literal(Literal::Bytes(bytes))),
            other => Err(self.unexpected(&other)),
        }
    }

    fn list(&mut self) -> Result<Id> {
        let mut items = Vec::new();
        while !self.eat("]") {
            let optional = self.eat("?");
            items.push((self.expression()?, optional));
            if !self.eat(",") {
                self.expect("]")?;
                break;
            }
        }
        self.add(Node::List(items))
    }

    fn map(&mut self) -> Result<Id> {
        let mut entries = Vec::new();
        while !self.eat("}") {
            let optional = self.eat("?");
            let key = self.expression()?;
            self.expect(":")?;
            entries.push((key, self.expression()?, optional));
            if !self.eat(",") {
                self.expect("}")?;
                break;
            }
        }
        self.add(Node::Map(entries))
    }

    fn global_call(&mut self, name: String, args: Vec<Id>) -> Result<Id> {
        if name != "has" || args.len() != 1 {
            return self.add(Node::Call { target: None, name, args });
        }
        match self.nodes[args[0]].clone() {
            Node::Select { operand, field, optional: false } => self.add(Node::Has { operand, field }),
            _ => Err(self.error("invalid argument to has() macro")),
        }
    }

    fn member_call(&mut self, target: Id, name: String, args: Vec<Id>) -> Result<Id> {
        if self.nodes[target] == Node::Ident("cel".to_owned()) && name == "bind" && args.len() == 3 {
            let bound = self.variable(args[0])?;
            return self.add(Node::Bind { name: bound, value: args[1], body: args[2] });
        }
        if let Some((kind, names, has_filter)) = macro_of(&name, args.len()) {
            let first = self.variable(args[0])?;
            let second = if names == 2 { Some(self.variable(args[1])?) } else { None };
            let filter = has_filter.then(|| args[names]);
            let body = args[args.len() - 1];
            let fold = Comprehension { kind, range: target, first, second, filter, body };
            return self.add(Node::Comprehension(Box::new(fold)));
        }
        if matches!(name.as_str(), "optMap" | "optFlatMap") && args.len() == 2 {
            let flat = name == "optFlatMap";
            let name = self.variable(args[0])?;
            return self.add(Node::OptMap { target, name, body: args[1], flat });
        }
        self.add(Node::Call { target: Some(target), name, args })
    }

    fn variable(&self, id: Id) -> Result<String> {
        match &self.nodes[id] {
            Node::Ident(name) => Ok(name.clone()),
            _ => Err(self.error("argument must be a simple name")),
        }
    }
}

/// What a macro does, how many variables it names, and whether a filter stands before its body.
fn macro_of(name: &str, args: usize) -> Option<(Fold, usize, bool)> {
    Some(match (name, args) {
        ("all", 2) => (Fold::All, 1, false),
        ("all", 3) => (Fold::All, 2, false),
        ("exists", 2) => (Fold::Exists, 1, false),
        ("exists", 3) => (Fold::Exists, 2, false),
        ("exists_one" | "existsOne", 2) => (Fold::ExistsOne, 1, false),
        ("exists_one" | "existsOne", 3) => (Fold::ExistsOne, 2, false),
        ("filter", 2) => (Fold::Filter, 1, false),
        ("map", 2) => (Fold::Map, 1, false),
        ("map", 3) => (Fold::Map, 1, true),
        ("transformList", 3) => (Fold::Map, 2, false),
        ("transformList", 4) => (Fold::Map, 2, true),
        ("transformMap", 3) => (Fold::TransformMap, 2, false),
        ("transformMap", 4) => (Fold::TransformMap, 2, true),
        _ => return None,
    })
}

fn children(node: &Node) -> Vec<Id> {
    match node {
        Node::Literal(_) | Node::Ident(_) => Vec::new(),
        Node::Select { operand, .. } | Node::Has { operand, .. } | Node::Not(operand) | Node::Negate(operand) => {
            vec![*operand]
        }
        Node::Index { operand, index, .. } => vec![*operand, *index],
        Node::Call { target, args, .. } => target.iter().chain(args).copied().collect(),
        Node::Binary { left, right, .. } => vec![*left, *right],
        Node::And(terms) | Node::Or(terms) => terms.clone(),
        Node::Conditional { condition, then, otherwise } => vec![*condition, *then, *otherwise],
        Node::List(items) => items.iter().map(|(id, _)| *id).collect(),
        Node::Map(entries) => entries.iter().flat_map(|(key, value, _)| [*key, *value]).collect(),
        Node::Comprehension(fold) => [fold.range, fold.body].into_iter().chain(fold.filter).collect(),
        Node::Bind { value, body, .. } => vec![*value, *body],
        Node::OptMap { target, body, .. } => vec![*target, *body],
    }
}
