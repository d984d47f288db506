//! From tokens to a syntax tree. Knows the grammar, no operator.
//!
//! ```text
//! file      = "dorefa" "1" meta* "graph" name "(" inputs ")" "->" "(" outputs ")" "{" statement* "}"
//! meta      = "meta" name "=" text
//! input     = name ":" type              output = name | name "=" operand
//! statement = name [":" type] "=" call   |  "@" name ":" type
//!           | "update" role "@" name "=" operand            role = parameter | momentum | variance | statistic
//! call      = operator "(" argument,* ")" [layout]
//! argument  = operand | name "=" literal
//! operand   = name ["!" port] | "@" name [":" type] | call
//! type      = element "[" extent,* "]" [layout]
//! element   = "f32" | "u"BITS "<0.." TOP [", step" INT] [", offset" INT] ", scale" scales ">"
//!           | "acc<" LO ".." HI ", scale" scales ">"
//! layout    = "layout" "=" (word | "[" word,* "]")      on the line of what it belongs to
//! ```

use super::diagnostic::{Diagnostic, MOST, Source};
use super::lexer::{Kind, Token};
use crate::graph::Role;
use crate::graph::types::{Layout, ValueType};

/// Deepest nesting of calls.
const DEPTH: usize = 64;

/// A name and its place.
#[derive(Clone, Debug)]
pub(super) struct Name {
    pub text: String,
    pub at: usize,
    pub len: usize,
}

/// A literal attribute value, its kind still open.
#[derive(Clone, Debug)]
pub(super) enum Literal {
    Number(String),
    Word(String),
    List(Vec<Literal>),
}

/// An operand.
#[derive(Debug)]
pub(super) enum Operand {
    Value { name: Name, port: u16 },
    Constant { name: Name, ty: Option<ValueType> },
    Call(Call),
}

/// An operator applied.
#[derive(Debug)]
pub(super) struct Call {
    pub op: Name,
    pub operands: Vec<Operand>,
    pub attrs: Vec<(Name, Literal)>,
    pub layouts: Vec<Layout>,
}

/// A statement of the body.
#[derive(Debug)]
pub(super) enum Statement {
    Define { name: Name, ty: Option<ValueType>, call: Call },
    Constant { name: Name, ty: ValueType },
    Update { role: Role, target: Name, value: Operand },
}

/// A file.
#[derive(Debug, Default)]
pub(super) struct Tree {
    pub meta: Vec<(Name, Name)>,
    pub name: String,
    pub inputs: Vec<(Name, ValueType)>,
    pub outputs: Vec<(Name, Option<Operand>)>,
    pub body: Vec<Statement>,
}

/// The problem was reported.
pub(super) struct Reported;
pub(super) type Parsed<T> = Result<T, Reported>;

pub(super) struct Parser<'a> {
    pub source: Source<'a>,
    pub tokens: Vec<Token<'a>>,
    pub next: usize,
    pub problems: Vec<Diagnostic>,
}

impl<'a> Parser<'a> {
    pub fn peek_at(&self, ahead: usize) -> Token<'a> {
        let end = || Token { kind: Kind::End, text: "", at: self.source.text.len(), first: true };
        self.tokens.get(self.next + ahead).or(self.tokens.last()).cloned().unwrap_or_else(end)
    }

    pub fn peek(&self) -> Token<'a> {
        self.peek_at(0)
    }

    pub fn is(&self, text: &str) -> bool {
        self.is_at(0, text)
    }

    fn is_at(&self, ahead: usize, text: &str) -> bool {
        let t = self.peek_at(ahead);
        t.text == text && matches!(t.kind, Kind::Ident | Kind::Punct)
    }

    pub fn eat(&mut self, text: &str) -> bool {
        let found = self.is(text);
        self.next += usize::from(found);
        found
    }

    /// Reports a problem at the next token.
    pub fn fail<T>(&mut self, message: String, hint: Option<String>) -> Parsed<T> {
        let t = self.peek();
        self.problems.push(self.source.diagnostic(t.at, t.text.len(), message, hint));
        Err(Reported)
    }

    /// Reports that `what` was expected.
    pub fn expected<T>(&mut self, what: &str, hint: Option<String>) -> Parsed<T> {
        let t = self.peek();
        let found = if t.kind == Kind::End { "the end of the file".to_owned() } else { format!("`{}`", short(t.text)) };
        self.fail(format!("expected {what}, found {found}"), hint)
    }

    pub fn expect(&mut self, text: &str) -> Parsed<()> {
        if self.eat(text) { Ok(()) } else { self.expected(&format!("`{text}`"), None) }
    }

    fn name(&mut self, what: &str) -> Parsed<Name> {
        let t = self.peek();
        let text = match t.kind {
            Kind::Ident => t.text.to_owned(),
            Kind::Text(text) => text,
            _ => return self.expected(what, Some("names with other characters stand in quotes".to_owned())),
        };
        self.next += 1;
        Ok(Name { text, at: t.at, len: t.text.len() })
    }

    /// Items separated by commas up to `close`.
    pub fn list<T>(&mut self, close: &str, mut item: impl FnMut(&mut Self) -> Parsed<T>) -> Parsed<Vec<T>> {
        let mut items = Vec::new();
        while !self.eat(close) {
            items.push(item(self)?);
            if !self.is(close) && !self.eat(",") {
                return self.expected(&format!("`,` or `{close}`"), None);
            }
        }
        Ok(items)
    }

    /// The whole file; problems of single statements are collected.
    pub fn file(&mut self) -> Parsed<Tree> {
        let mut tree = Tree::default();
        if !self.is("dorefa") {
            return self.expected("`dorefa 1`", Some("a native graph starts with the line `dorefa 1`".to_owned()));
        }
        self.next += 1;
        if self.peek().text != "1" {
            let hint = "this compiler reads version 1 of the format".to_owned();
            return self.expected("the format's version", Some(hint));
        }
        self.next += 1;
        while self.eat("meta") {
            let key = self.name("a key")?;
            self.expect("=")?;
            if !matches!(self.peek().kind, Kind::Text(_)) {
                return self.expected("a quoted text", Some("as in `meta input.scale = \"1/255\"`".to_owned()));
            }
            tree.meta.push((key, self.name("a text")?));
        }
        self.expect("graph")?;
        tree.name = self.name("the graph's name")?.text;
        self.expect("(")?;
        tree.inputs = self.list(")", |p| {
            let name = p.name("an input's name")?;
            p.expect(":")?;
            Ok((name, p.value_type()?))
        })?;
        self.expect("->")?;
        self.expect("(")?;
        tree.outputs = self.list(")", |p| {
            let name = p.name("an output's name")?;
            let operand = if p.eat("=") { Some(p.operand(DEPTH)?) } else { None };
            Ok((name, operand))
        })?;
        self.expect("{")?;
        while !self.eat("}") {
            if self.peek().kind == Kind::End {
                return self.expected("`}`", None);
            }
            match self.statement() {
                Ok(statement) => tree.body.push(statement),
                Err(Reported) if self.problems.len() < MOST => self.recover(),
                Err(Reported) => return Err(Reported),
            }
        }
        if self.peek().kind == Kind::End { Ok(tree) } else { self.expected("the end of the file", None) }
    }

    /// Skips to what looks like the next statement.
    fn recover(&mut self) {
        loop {
            let t = self.peek();
            let starts = self.is("@") || self.is("update") || self.is_at(1, "=") || self.is_at(1, ":");
            if t.kind == Kind::End || t.text == "}" || (t.first && starts) {
                return;
            }
            self.next += 1;
        }
    }

    fn statement(&mut self) -> Parsed<Statement> {
        if self.eat("@") {
            let name = self.name("a constant's name")?;
            self.expect(":")?;
            return Ok(Statement::Constant { name, ty: self.value_type()? });
        }
        if self.is("update") && !self.is_at(1, "=") && !self.is_at(1, ":") {
            return self.update();
        }
        let name = self.name("a statement or `}`")?;
        let ty = if self.eat(":") { Some(self.value_type()?) } else { None };
        self.expect("=")?;
        if self.peek().kind != Kind::Ident || !self.is_at(1, "(") {
            let hint = "a statement applies one operator, as in `y = relu(x)`".to_owned();
            return self.expected("an operator and its operands", Some(hint));
        }
        Ok(Statement::Define { name, ty, call: self.call(0)? })
    }

    fn update(&mut self) -> Parsed<Statement> {
        self.expect("update")?;
        let Some(role) = Role::ALL.into_iter().find(|r| self.is(r.word())) else {
            return self.expected("`parameter`, `momentum`, `variance` or `statistic`", None);
        };
        self.next += 1;
        self.expect("@")?;
        let target = self.name("a constant's name")?;
        self.expect("=")?;
        Ok(Statement::Update { role, target, value: self.operand(DEPTH)? })
    }

    fn call(&mut self, depth: usize) -> Parsed<Call> {
        let op = self.name("an operator")?;
        self.expect("(")?;
        let (mut operands, mut attrs) = (Vec::new(), Vec::new());
        self.list(")", |p| {
            if p.is_at(1, "=") {
                let name = p.name("an attribute")?;
                p.expect("=")?;
                attrs.push((name, p.literal(0)?));
            } else if attrs.is_empty() {
                operands.push(p.operand(depth + 1)?);
            } else {
                return p.expected("an attribute", Some("operands stand before the attributes".to_owned()));
            }
            Ok(())
        })?;
        Ok(Call { op, operands, attrs, layouts: self.layouts()? })
    }

    fn operand(&mut self, depth: usize) -> Parsed<Operand> {
        if self.eat("@") {
            let name = self.name("a constant's name")?;
            let ty = if self.eat(":") { Some(self.value_type()?) } else { None };
            return Ok(Operand::Constant { name, ty });
        }
        if self.is_at(1, "(") {
            if depth >= DEPTH {
                return self.fail("calls are nested too deeply".to_owned(), Some("name an inner value".to_owned()));
            }
            return Ok(Operand::Call(self.call(depth)?));
        }
        let name = self.name("an operand")?;
        let port = if self.eat("!") { self.number("a port, from 0")? } else { 0 };
        Ok(Operand::Value { name, port })
    }

    /// The suffix `layout=…`, one a port; on the same line.
    pub fn layouts(&mut self) -> Parsed<Vec<Layout>> {
        if !self.is("layout") || !self.is_at(1, "=") || self.peek().first {
            return Ok(Vec::new());
        }
        self.next += 2;
        if self.eat("[") { self.list("]", Self::layout) } else { Ok(vec![self.layout()?]) }
    }

    fn layout(&mut self) -> Parsed<Layout> {
        let layout = match self.peek().text {
            "dense" => Layout::Dense,
            "nhwc" => Layout::Nhwc,
            "nibbles" => Layout::Nibbles,
            "bits" => Layout::Bits,
            _ => return self.expected("`dense`, `nhwc` or `bits`", None),
        };
        self.next += 1;
        Ok(layout)
    }

    /// A number of type `T`.
    pub fn number<T: std::str::FromStr>(&mut self, what: &str) -> Parsed<T> {
        let t = self.peek();
        match t.text.parse() {
            Ok(n) if t.kind == Kind::Number => {
                self.next += 1;
                Ok(n)
            }
            _ => self.expected(what, None),
        }
    }

    fn literal(&mut self, depth: usize) -> Parsed<Literal> {
        if depth < 2 && self.eat("[") {
            return Ok(Literal::List(self.list("]", |p| p.literal(depth + 1))?));
        }
        let t = self.peek();
        match t.kind {
            Kind::Ident => {
                self.next += 1;
                Ok(Literal::Word(t.text.to_owned()))
            }
            Kind::Text(text) => {
                self.next += 1;
                Ok(Literal::Word(text))
            }
            Kind::Number => Ok(Literal::Number(self.scale_text()?)),
            _ => self.expected("a number, a word or a list", None),
        }
    }

    /// The text of a number or of a scale such as `13/5*2^-7`.
    pub fn scale_text(&mut self) -> Parsed<String> {
        let mut text = String::new();
        loop {
            let t = self.peek();
            if t.kind != Kind::Number {
                return self.expected("a number", None);
            }
            text.push_str(t.text);
            self.next += 1;
            match ["/", "*", "^"].iter().find(|p| self.is(p)) {
                Some(p) if text.len() < 200 => {
                    text.push_str(p);
                    self.next += 1;
                }
                _ => return Ok(text),
            }
        }
    }
}

fn short(text: &str) -> String {
    if text.chars().count() > 40 { text.chars().take(40).chain(['…']).collect() } else { text.to_owned() }
}
