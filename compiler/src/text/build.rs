//! From the syntax tree to the graph: names, operators and attributes are checked against the operator table here.

use super::diagnostic::{Diagnostic, MOST, Source, nearest};
use super::init::Seed;
use super::parser::{Call, Literal, Name, Operand, Statement, Tree};
use super::types::{read_scale, write_type};
use crate::graph::attrs::{Attr, AttrDef, Attrs, Kind};
use crate::graph::ops::{self, OpDef};
use crate::graph::types::{Elem, Layout, ValueType};
use crate::graph::{Graph, Value};
use dorefa_runtime::tensor::{Data, Tensor};
use std::collections::{BTreeMap, BTreeSet};

/// Where the data of constants comes from.
pub(super) struct Weights<'a> {
    pub lookup: &'a dyn Fn(&str) -> Option<Tensor>,
    /// Whether a constant without data is an error; otherwise it is drawn from the seed.
    pub strict: bool,
}

/// What a name stands for; `None` after an error that was reported.
type Bound = Option<Value>;

struct Builder<'a> {
    source: Source<'a>,
    weights: Weights<'a>,
    graph: Graph,
    values: BTreeMap<String, Bound>,
    constants: BTreeMap<String, Bound>,
    /// Every name that the file gives, so that unnamed values do not take one.
    reserved: BTreeSet<String>,
    seed: Seed,
    problems: Vec<Diagnostic>,
}

/// Builds the graph of a tree.
pub(super) fn build(tree: Tree, source: Source<'_>, weights: Weights<'_>) -> Result<Graph, Vec<Diagnostic>> {
    let mut b = Builder {
        source,
        weights,
        graph: Graph::new(&tree.name),
        values: BTreeMap::new(),
        constants: BTreeMap::new(),
        reserved: BTreeSet::new(),
        seed: Seed::default(),
        problems: Vec::new(),
    };
    for (key, text) in tree.meta {
        if key.text == "seed" {
            match text.text.parse() {
                Ok(seed) => b.seed = Seed::new(seed),
                Err(_) => b.fail(&text, "the seed is a number, 0 … 2^64 − 1".to_owned(), None),
            }
        }
        if b.graph.metadata.insert(key.text.clone(), text.text).is_some() {
            b.fail(&key, format!("`{}` is given twice", key.text), None);
        }
    }
    b.reserve(&tree.inputs, &tree.body);
    for (name, ty) in tree.inputs {
        if b.define(&name) {
            let value = b.graph.add_input(&name.text, ty);
            b.values.insert(name.text, Some(value));
        }
    }
    for statement in &tree.body {
        b.statement(statement);
        if b.problems.len() >= MOST {
            return Err(b.problems);
        }
    }
    for (name, operand) in &tree.outputs {
        let value = match operand {
            Some(operand) => b.operand(operand, "", None),
            None => b.value(name, 0),
        };
        if let Some(value) = value {
            b.graph.add_output(&name.text, value);
        }
    }
    if b.problems.is_empty() { Ok(b.graph) } else { Err(b.problems) }
}

/// The use of a constant: operator, position, and the operator's first operand.
pub(super) type Use = (&'static OpDef, usize, Option<Value>);

impl Builder<'_> {
    fn fail(&mut self, at: &Name, message: String, hint: Option<String>) {
        self.problems.push(self.source.diagnostic(at.at, at.len, message, hint));
    }

    fn reserve(&mut self, inputs: &[(Name, ValueType)], body: &[Statement]) {
        fn constants(call: &Call, names: &mut BTreeSet<String>) {
            for operand in &call.operands {
                match operand {
                    Operand::Constant { name, .. } => drop(names.insert(name.text.clone())),
                    Operand::Call(call) => constants(call, names),
                    Operand::Value { .. } => {}
                }
            }
        }
        self.reserved.extend(inputs.iter().map(|(n, _)| n.text.clone()));
        for statement in body {
            match statement {
                Statement::Constant { name, .. } => drop(self.reserved.insert(name.text.clone())),
                Statement::Define { name, call, .. } => {
                    self.reserved.insert(name.text.clone());
                    constants(call, &mut self.reserved);
                }
                Statement::Update { .. } => {}
            }
        }
    }

    /// Whether `name` is free; the error is reported otherwise.
    fn define(&mut self, name: &Name) -> bool {
        let free = !self.values.contains_key(&name.text) && !self.constants.contains_key(&name.text);
        if name.text.is_empty() {
            self.fail(name, "a name is not empty".to_owned(), None);
        } else if !free {
            self.fail(name, format!("`{}` is defined twice", name.text), Some("choose another name".to_owned()));
        }
        free && !name.text.is_empty()
    }

    fn statement(&mut self, statement: &Statement) {
        match statement {
            Statement::Constant { name, ty } => drop(self.constant(name, Some(ty), None)),
            Statement::Update { role, target, value } => {
                let state = self.constant(target, None, None);
                if let Some((state, value)) = state.zip(self.operand(value, "", None))
                    && let Err(error) = self.graph.add_update(*role, state.node, value)
                {
                    self.fail(target, format!("`@{}` {}", target.text, error.message), None);
                }
            }
            Statement::Define { name, ty, call } => {
                if !self.define(name) {
                    return;
                }
                let value = self.call(call, &name.text);
                self.values.insert(name.text.clone(), value);
                let actual = value.and_then(|v| self.graph.value_type(v)).cloned();
                if let (Some(declared), Some(actual)) = (ty, actual)
                    && (declared.elem != actual.elem || declared.shape != actual.shape)
                {
                    let dense = ValueType { layout: Layout::Dense, ..actual };
                    let message = format!("`{}` is not {} but {}", name.text, write_type(declared), write_type(&dense));
                    self.fail(name, message, None);
                }
            }
        }
    }

    fn value(&mut self, name: &Name, port: u16) -> Bound {
        let Some(&value) = self.values.get(&name.text) else {
            let text = &name.text;
            let hint = if self.reserved.contains(text) && !self.constants.contains_key(text) {
                Some("values are defined before they are used".to_owned())
            } else if self.constants.contains_key(text) {
                Some(format!("a constant is written `@{text}`"))
            } else {
                nearest(text, self.values.keys().map(String::as_str)).map(|n| format!("did you mean `{n}`?"))
            };
            self.fail(name, format!("there is no value `{text}`"), hint);
            return None;
        };
        let value = Value { port, ..value? };
        if self.graph.value_type(value).is_none() {
            self.fail(name, format!("`{}` has no output {port}", name.text), None);
            return None;
        }
        Some(value)
    }

    fn operand(&mut self, operand: &Operand, hint: &str, usage: Option<Use>) -> Bound {
        match operand {
            Operand::Value { name, port } => self.value(name, *port),
            Operand::Constant { name, ty } => self.constant(name, ty.as_ref(), usage),
            Operand::Call(call) => {
                let name = format!("{hint}.{}", call.op.text);
                let free = |n: &String| !self.reserved.contains(n);
                let name = std::iter::once(name.clone())
                    .chain((2u32..).map(|i| format!("{name}_{i}")))
                    .find(|n| free(n) && self.graph.fresh_name(n) == *n)
                    .unwrap_or(name);
                self.call(call, &name)
            }
        }
    }

    fn call(&mut self, call: &Call, name: &str) -> Bound {
        let operators = || ops::TABLE.iter().filter(|op| **op != &ops::INPUT && **op != &ops::CONSTANT);
        let Some(op) = operators().find(|op| op.name == call.op.text).copied() else {
            let near = nearest(&call.op.text, operators().map(|op| op.name));
            let hint = near.map(|n| format!("did you mean `{n}`?"));
            self.fail(&call.op, format!("there is no operator `{}`", call.op.text), hint);
            return None;
        };
        let (mut operands, mut sound) = (Vec::new(), true);
        for (i, operand) in call.operands.iter().enumerate() {
            match self.operand(operand, name, Some((op, i, operands.first().copied()))) {
                Some(value) => operands.push(value),
                None => sound = false,
            }
        }
        let attrs = self.attrs(op, call);
        let (least, most) = op.inputs;
        if !(least..=most).contains(&call.operands.len()) {
            let takes = if least == most { format!("{least}") } else { format!("{least} to {most}") };
            let message = format!("`{}` takes {takes} operands, has {}", op.name, call.operands.len());
            self.fail(&call.op, message, Some(op.doc.to_owned()));
            return None;
        }
        let attrs = attrs.filter(|_| sound)?;
        match self.graph.add(op, name, &operands, attrs) {
            Ok(value) => {
                for (port, &layout) in call.layouts.iter().enumerate().take(1 << 10) {
                    self.graph.set_layout(Value { port: port as u16, ..value }, layout);
                }
                Some(value)
            }
            Err(error) => {
                self.fail(&call.op, format!("`{}`: {}", op.name, error.message), None);
                None
            }
        }
    }

    fn attrs(&mut self, op: &'static OpDef, call: &Call) -> Option<Attrs> {
        let (mut attrs, before) = (Attrs::new(), self.problems.len());
        for (name, literal) in &call.attrs {
            let Some(def) = op.attrs.iter().find(|d| d.name == name.text) else {
                let known: Vec<_> = op.attrs.iter().map(|d| d.name).collect();
                let near = nearest(&name.text, known.iter().copied());
                let hint = match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None if known.is_empty() => "it has none".to_owned(),
                    None => format!("it has: {}", known.join(", ")),
                };
                self.fail(name, format!("`{}` has no attribute `{}`", op.name, name.text), Some(hint));
                continue;
            };
            match attr(def, literal) {
                Err(message) => self.fail(name, message, Some(format!("{}: {}", def.name, def.doc))),
                Ok(value) => {
                    if attrs.0.insert(name.text.clone(), value).is_some() {
                        self.fail(name, format!("`{}` is given twice", name.text), None);
                    }
                }
            }
        }
        let given = |d: &&AttrDef| call.attrs.iter().any(|(n, _)| n.text == d.name);
        for def in op.attrs.iter().filter(|d| d.required && !given(d)) {
            let message = format!("`{}` needs the attribute `{}`", op.name, def.name);
            self.fail(&call.op, message, Some(format!("{}: {}", def.name, def.doc)));
        }
        (self.problems.len() == before).then_some(attrs)
    }

    fn constant(&mut self, name: &Name, ty: Option<&ValueType>, usage: Option<Use>) -> Bound {
        if let Some(&bound) = self.constants.get(&name.text) {
            let known = bound.and_then(|v| self.graph.value_type(v)).cloned();
            if let (Some(ty), Some(known)) = (ty, known)
                && *ty != known
            {
                self.fail(name, format!("`@{}` was declared as {}", name.text, write_type(&known)), None);
            }
            return bound;
        }
        let Some(ty) = ty else {
            let near = nearest(&name.text, self.constants.keys().map(String::as_str));
            let hint = near.map(|n| format!("did you mean `@{n}`?"));
            let hint = hint.unwrap_or_else(|| format!("as in `@{}: f32[16, 3, 3, 3]`", name.text));
            self.fail(name, format!("`@{}` needs a type at its first use", name.text), Some(hint));
            return None;
        };
        if !self.define(name) {
            return None;
        }
        let value = match self.tensor(&name.text, ty, usage) {
            Ok(tensor) => {
                let value = self.graph.add_typed_constant(&name.text, tensor, ty.elem.clone());
                self.graph.set_layout(value, ty.layout);
                Some(value)
            }
            Err(message) => {
                self.fail(name, message, None);
                None
            }
        };
        self.constants.insert(name.text.clone(), value);
        value
    }

    fn tensor(&mut self, name: &str, ty: &ValueType, usage: Option<Use>) -> Result<Tensor, String> {
        if ty.shape.has_batch() {
            return Err("a constant has no batch".to_owned());
        }
        let Some(tensor) = (self.weights.lookup)(name) else {
            if self.weights.strict {
                return Err(format!("the weights file holds no `{name}`"));
            }
            return self.seed.tensor(&self.graph, name, ty, usage);
        };
        let shape = ty.shape.per_sample();
        let fits = match (&ty.elem, tensor.data()) {
            (Elem::F32, Data::F32(v)) => match v.iter().position(|v| !v.is_finite()) {
                Some(i) => return Err(format!("element {i} of `{name}` is not finite")),
                None => true,
            },
            (Elem::Codes(c), Data::I32(v)) => v.iter().all(|&u| u >= 0 && u as u32 <= c.top),
            (Elem::Acc(_), Data::I64(_)) => true,
            _ => false,
        };
        if fits && tensor.shape() == shape {
            Ok(tensor)
        } else {
            let (kind, held) = (tensor.data().type_name(), tensor.shape());
            Err(format!("`{name}` is {}, the weights file holds {kind}{held:?}", write_type(ty)))
        }
    }
}

fn attr(def: &AttrDef, literal: &Literal) -> Result<Attr, String> {
    let bad = |what: &str| format!("`{}` takes {what}", def.name);
    let int = |l: &Literal| match l {
        Literal::Number(text) => text.parse::<i64>().ok(),
        _ => None,
    };
    let scale = |l: &Literal| match l {
        Literal::Number(text) => read_scale(text),
        _ => Err(bad("a scale like 1/3, or a list of scales")),
    };
    match (def.kind, literal) {
        (Kind::Int, l) => int(l).map(Attr::Int).ok_or_else(|| bad("an integer")),
        (Kind::Float, Literal::Number(text) | Literal::Word(text)) => {
            let word = matches!(text.as_str(), "inf" | "nan")
                || text.starts_with(['-', '0', '1', '2', '3', '4', '5'])
                || text.starts_with(['6', '7', '8', '9']);
            text.parse().ok().filter(|_| word).map(Attr::Float).ok_or_else(|| bad("a number"))
        }
        (Kind::Float, Literal::List(_)) => Err(bad("a number")),
        (Kind::Bool, Literal::Word(w)) if w == "true" || w == "false" => Ok(Attr::Bool(w == "true")),
        (Kind::Bool, _) => Err(bad("true or false")),
        (Kind::Word(words), Literal::Word(w)) if words.contains(&w.as_str()) => Ok(Attr::Word(w.clone())),
        (Kind::Word(words), _) => Err(bad(&format!("one of {}", words.join(", ")))),
        (Kind::Ints, Literal::List(list)) => {
            list.iter().map(int).collect::<Option<_>>().map(Attr::Ints).ok_or_else(|| bad("a list of integers"))
        }
        (Kind::Ints, _) => Err(bad("a list of integers, as in [2, 2]")),
        (Kind::Scales, Literal::List(list)) => list.iter().map(scale).collect::<Result<_, _>>().map(Attr::Scales),
        (Kind::Scales, one) => Ok(Attr::Scales(vec![scale(one)?])),
    }
}
