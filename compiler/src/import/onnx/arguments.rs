//! Typed access to a node's inputs and attributes, with a message where one is of another kind.

use super::context::{DEPTH, Fail, Importer, Known, Sym, ints_tensor, to_floats};
use super::proto::{OnnxAttr, OnnxNode};
use crate::graph::Value;
use dorefa_runtime::tensor::Tensor;
use std::sync::Arc;

impl Importer<'_> {
    /// The name of input `i`, if given.
    pub fn input_name<'n>(&self, node: &'n OnnxNode, i: usize) -> Option<&'n str> {
        node.inputs.get(i).map(String::as_str).filter(|s| !s.is_empty())
    }

    /// Input `i` as a value of the graph.
    pub fn input(&mut self, node: &OnnxNode, i: usize) -> Result<Value, Fail> {
        let name = self.input_name(node, i).ok_or_else(|| format!("has no input {i}"))?;
        self.value(name)
    }

    /// Input `i` as a constant tensor; `None` where the input is left out.
    pub fn constant_input(&mut self, node: &OnnxNode, i: usize) -> Result<Option<Tensor>, Fail> {
        let Some(name) = self.input_name(node, i) else { return Ok(None) };
        match self.known(name)? {
            Known::Tensor(t) => Ok(Some(Arc::unwrap_or_clone(t))),
            Known::Ints(ints, scalar) => ints_tensor(&ints, scalar).map(Some),
            Known::Value(v) => match self.computed(v, DEPTH) {
                Some(t) => Ok(Some((*t).clone())),
                None => {
                    Err(format!("input {i} (`{name}`) must be a constant: fold constants before the export").into())
                }
            },
            Known::Poisoned | Known::Unavailable => Err(Fail::Poisoned),
        }
    }

    /// Input `i` as a constant scalar; `None` where the input is left out.
    pub fn scalar_input(&mut self, node: &OnnxNode, i: usize) -> Result<Option<f32>, Fail> {
        let Some(tensor) = self.constant_input(node, i)? else { return Ok(None) };
        match (to_floats(tensor)?.as_f32(), i) {
            (Some(&[v]), _) => Ok(Some(v)),
            _ => Err(format!("input {i} must be one number").into()),
        }
    }

    /// Input `i` as numbers of shape arithmetic; `None` where the input is left out.
    pub fn ints_input(&mut self, node: &OnnxNode, i: usize) -> Result<Option<Vec<Sym>>, Fail> {
        let Some(name) = self.input_name(node, i) else { return Ok(None) };
        if let Known::Ints(ints, _) = self.known(name)? {
            return Ok(Some(ints));
        }
        let tensor = self.constant_input(node, i)?;
        // Integers that went through float operators are whole numbers.
        let whole = |v: &[f32]| v.iter().all(|x| x.fract() == 0.0).then(|| v.iter().map(|&x| x as i64).collect());
        let list: Option<Vec<i64>> =
            tensor.as_ref().and_then(|t| t.as_i64().map(<[i64]>::to_vec).or_else(|| t.as_f32().and_then(whole)));
        match list {
            Some(v) => Ok(Some(v.into_iter().map(Sym::Known).collect())),
            None => Err(format!("input {i} must hold integers").into()),
        }
    }

    /// Known integers from attribute `name`, or from input `i` in newer operator sets.
    pub fn ints_of(&mut self, node: &OnnxNode, name: &str, i: usize) -> Result<Option<Vec<i64>>, Fail> {
        if let Some(v) = ints(node, name)? {
            return Ok(Some(v));
        }
        let Some(syms) = self.ints_input(node, i)? else { return Ok(None) };
        let known = syms.iter().map(|s| if let Sym::Known(n) = s { Some(*n) } else { None }).collect::<Option<_>>();
        known.map(Some).ok_or_else(|| format!("input {i} depends on the batch").into())
    }
}

/// An integer attribute.
pub(super) fn int(node: &OnnxNode, name: &str, default: i64) -> Result<i64, Fail> {
    match node.attributes.get(name) {
        None => Ok(default),
        Some(OnnxAttr::Int(v)) => Ok(*v),
        Some(_) => Err(format!("attribute `{name}` must be an integer").into()),
    }
}

/// A float attribute.
pub(super) fn float(node: &OnnxNode, name: &str, default: f32) -> Result<f32, Fail> {
    match node.attributes.get(name) {
        None => Ok(default),
        Some(OnnxAttr::Float(v)) => Ok(*v),
        Some(OnnxAttr::Int(v)) => Ok(*v as f32),
        Some(_) => Err(format!("attribute `{name}` must be a float").into()),
    }
}

/// A string attribute.
pub(super) fn string<'n>(node: &'n OnnxNode, name: &str, default: &'n str) -> Result<&'n str, Fail> {
    match node.attributes.get(name) {
        None => Ok(default),
        Some(OnnxAttr::Str(v)) => Ok(v),
        Some(_) => Err(format!("attribute `{name}` must be a string").into()),
    }
}

/// A list of integers, if given.
pub(super) fn ints(node: &OnnxNode, name: &str) -> Result<Option<Vec<i64>>, Fail> {
    match node.attributes.get(name) {
        None => Ok(None),
        Some(OnnxAttr::Ints(v)) => Ok(Some(v.clone())),
        Some(OnnxAttr::Int(v)) => Ok(Some(vec![*v])),
        Some(_) => Err(format!("attribute `{name}` must be a list of integers").into()),
    }
}
