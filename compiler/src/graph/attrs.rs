//! Attributes of operators: named values, checked against the operator's table entry.

use super::scale::Scale;
use std::collections::BTreeMap;

/// An attribute's value.
#[derive(Clone, PartialEq, Debug)]
pub enum Attr {
    /// An integer.
    Int(i64),
    /// A float.
    Float(f32),
    /// A truth value.
    Bool(bool),
    /// A word, such as a rounding mode.
    Word(String),
    /// A list of integers.
    Ints(Vec<i64>),
    /// Exact scales, one or one a channel.
    Scales(Vec<Scale>),
}

/// The kind of an attribute.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Kind {
    /// [`Attr::Int`]
    Int,
    /// [`Attr::Float`]
    Float,
    /// [`Attr::Bool`]
    Bool,
    /// [`Attr::Word`], one of these.
    Word(&'static [&'static str]),
    /// [`Attr::Ints`]
    Ints,
    /// [`Attr::Scales`]
    Scales,
}

impl Kind {
    /// Whether `value` is of this kind.
    pub fn admits(self, value: &Attr) -> bool {
        match (self, value) {
            (Kind::Int, Attr::Int(_)) | (Kind::Float, Attr::Float(_)) | (Kind::Bool, Attr::Bool(_)) => true,
            (Kind::Ints, Attr::Ints(_)) | (Kind::Scales, Attr::Scales(_)) => true,
            (Kind::Word(words), Attr::Word(w)) => words.contains(&w.as_str()),
            _ => false,
        }
    }
}

/// A row of an operator's attribute table.
#[derive(Clone, Copy, Debug)]
pub struct AttrDef {
    /// Name in the text format.
    pub name: &'static str,
    /// Kind.
    pub kind: Kind,
    /// Whether it must be given.
    pub required: bool,
    /// What it means, with its unit and default.
    pub doc: &'static str,
}

/// The attributes of one node, in the order of their names.
#[derive(Clone, PartialEq, Debug, Default)]
pub struct Attrs(pub BTreeMap<String, Attr>);

impl Attrs {
    /// No attribute.
    pub fn new() -> Attrs {
        Attrs::default()
    }

    /// With one more attribute.
    pub fn with(mut self, name: &str, value: Attr) -> Attrs {
        self.0.insert(name.to_owned(), value);
        self
    }

    /// The integer `name`, or `default`.
    pub fn int(&self, name: &str, default: i64) -> i64 {
        if let Some(Attr::Int(v)) = self.0.get(name) { *v } else { default }
    }

    /// The float `name`, or `default`.
    pub fn float(&self, name: &str, default: f32) -> f32 {
        if let Some(Attr::Float(v)) = self.0.get(name) { *v } else { default }
    }

    /// The truth value `name`, or `default`.
    pub fn bool(&self, name: &str, default: bool) -> bool {
        if let Some(Attr::Bool(v)) = self.0.get(name) { *v } else { default }
    }

    /// The word `name`, or `default`.
    pub fn word<'a>(&'a self, name: &str, default: &'a str) -> &'a str {
        if let Some(Attr::Word(v)) = self.0.get(name) { v } else { default }
    }

    /// The list `name`; empty where absent.
    pub fn ints(&self, name: &str) -> &[i64] {
        if let Some(Attr::Ints(v)) = self.0.get(name) { v } else { &[] }
    }

    /// The scales `name`; empty where absent.
    pub fn scales(&self, name: &str) -> &[Scale] {
        if let Some(Attr::Scales(v)) = self.0.get(name) { v } else { &[] }
    }
}
