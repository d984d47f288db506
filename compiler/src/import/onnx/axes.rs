//! Axes as the file counts them, which need not be the graph's: the batch comes first in the graph, while in the file a sample may be
//! the whole input. Moves of elements along them.

use super::context::{Fail, Importer};
use super::proto::OnnxNode;
use crate::graph::Value;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::ops::take::LONGEST;
use crate::graph::types::{Dim, Shape};

/// Why axis 0 cannot be the batch.
pub(super) const BATCH: &str =
    "moves axis 0, which must stay the batch: export the model so that axis 0 is only carried through";

/// Most indices that all selections of a file may have together.
const INDICES: usize = 1 << 23;

impl Importer<'_> {
    /// The shape of a value.
    pub fn shape(&self, value: Value) -> Result<Shape, Fail> {
        Ok(self.ty(value)?.shape.clone())
    }

    /// The extents of a value as the file counts its axes.
    pub fn dims(&self, value: Value) -> Result<Vec<Dim>, Fail> {
        let shape = self.shape(value)?;
        let lead = self.lead_of(&shape);
        Ok(shape.0.into_iter().skip(lead).collect())
    }

    fn lead_of(&self, shape: &Shape) -> usize {
        if shape.has_batch() { self.lead } else { 0 }
    }

    /// The graph's axis that the file calls `a`; the batch is refused.
    pub fn axis(&self, value: Value, a: i64) -> Result<usize, Fail> {
        let shape = self.shape(value)?;
        let lead = self.lead_of(&shape);
        let at = axis(a, shape.rank() - lead)? + lead;
        if shape.0.get(at) == Some(&Dim::Batch) { Err(BATCH.into()) } else { Ok(at) }
    }

    /// A value with other extents, as the file counts axes.
    pub fn shaped(&mut self, node: &OnnxNode, value: Value, dims: &[Dim]) -> Result<Value, Fail> {
        if self.lead == 0 && self.shape(value)?.has_batch() && dims.first() != Some(&Dim::Batch) {
            return Err(BATCH.into());
        }
        let dims = Shape(dims.to_vec()).per_sample();
        self.reshaped(node, value, &dims)
    }

    /// Values with as many axes as the one that has most, ones in front, so that they broadcast as the file means it.
    pub fn aligned(&mut self, node: &OnnxNode, values: &[Value]) -> Result<Vec<Value>, Fail> {
        let ranks = values.iter().map(|&v| Ok(self.dims(v)?.len())).collect::<Result<Vec<_>, Fail>>()?;
        let most = ranks.iter().copied().max().unwrap_or(0);
        let mut out = Vec::new();
        for (&v, &rank) in values.iter().zip(&ranks) {
            let mut dims = self.dims(v)?;
            if rank == most || !self.shape(v)?.has_batch() {
                out.push(v);
                continue;
            }
            if self.lead == 0 && self.file_batch != Some(1) {
                return Err(BATCH.into());
            }
            let at = 1 - self.lead;
            dims.splice(at.min(rank)..at.min(rank), std::iter::repeat_n(Dim::Fixed(1), most - rank));
            out.push(self.shaped(node, v, &dims)?);
        }
        Ok(out)
    }

    /// Adds an element-wise operator, its inputs aligned.
    pub fn elementwise(&mut self, op: &str, node: &OnnxNode, inputs: &[Value], attrs: Attrs) -> Result<Value, Fail> {
        let inputs = self.aligned(node, inputs)?;
        self.add_with(op, node, &inputs, attrs)
    }

    /// A value with the file's axis 0 as the batch, for operators on images.
    pub fn images(&mut self, node: &OnnxNode, value: Value) -> Result<Value, Fail> {
        let shape = self.shape(value)?;
        match (self.lead_of(&shape), shape.0.get(1)) {
            (0, _) => Ok(value),
            (_, Some(Dim::Fixed(1))) => {
                let rest = shape.per_sample().get(1..).unwrap_or(&[]).to_vec();
                self.reshaped(node, value, &rest)
            }
            _ => Err("works on several images although another operator moves axis 0: export with batch 1".into()),
        }
    }

    /// Undoes [`Importer::images`] for a result.
    pub fn samples(&mut self, node: &OnnxNode, value: Value) -> Result<Value, Fail> {
        if self.lead == 0 {
            return Ok(value);
        }
        let dims: Vec<usize> = std::iter::once(1).chain(self.shape(value)?.per_sample()).collect();
        self.reshaped(node, value, &dims)
    }

    /// A constant as a value of every sample: `dims` without the batch. Computed values stay as they are.
    pub fn repeated(&mut self, node: &OnnxNode, value: Value) -> Result<Value, Fail> {
        if self.shape(value)?.has_batch() {
            return Ok(value);
        }
        let input = self.graph.inputs().first().copied().ok_or("has no input that depends on the image")?;
        self.add("repeat", node, &[value, Value { node: input, port: 0 }])
    }

    /// Element `i` along the graph's axis `at` becomes element `indices[i]`.
    pub fn taken(&mut self, node: &OnnxNode, value: Value, at: usize, indices: Vec<i64>) -> Result<Value, Fail> {
        let extent = self.shape(value)?.0.get(at).copied();
        if extent == Some(Dim::Fixed(indices.len())) && indices.iter().enumerate().all(|(i, &n)| n == i as i64) {
            return Ok(value);
        }
        let run = indices
            .first()
            .copied()
            .filter(|&first| first >= 0 && indices.iter().enumerate().all(|(i, &n)| n == first + i as i64));
        let attrs = Attrs::new().with("axis", Attr::Int(at as i64));
        if let Some(start) = run {
            let length = Attr::Int(indices.len() as i64);
            return self.add_with(
                "slice",
                node,
                &[value],
                attrs.with("start", Attr::Int(start)).with("length", length),
            );
        }
        self.select(node, value, attrs.with("indices", Attr::Ints(indices)))
    }

    /// Adds a selection. A few bytes of a file can ask for long lists of indices, so those of all selections are bounded.
    pub fn select(&mut self, node: &OnnxNode, value: Value, attrs: Attrs) -> Result<Value, Fail> {
        self.indices = self.indices.saturating_add(attrs.ints("indices").len());
        if self.indices > INDICES {
            return Err(
                format!("selects with those before it more than {INDICES} elements by index: not supported").into()
            );
        }
        self.add_with("take", node, &[value], attrs)
    }

    /// The value repeated along axes of extent 1 until it has `dims`, as the file counts axes; the ranks are equal.
    pub fn expanded(&mut self, node: &OnnxNode, mut value: Value, dims: &[Dim]) -> Result<Value, Fail> {
        let own = self.dims(value)?;
        let lead = self.lead_of(&self.shape(value)?);
        for (i, (from, to)) in own.iter().zip(dims).enumerate() {
            match (from, to) {
                (a, b) if a == b => {}
                (Dim::Fixed(1), &Dim::Fixed(n)) if n <= LONGEST => {
                    value = self.taken(node, value, i + lead, vec![0; n])?;
                }
                _ => return Err(format!("repeats {} to {}", Shape(own), Shape(dims.to_vec())).into()),
            }
        }
        Ok(value)
    }

    /// Another shape of the same elements: `dims` are the extents without the batch.
    pub fn reshaped(&mut self, node: &OnnxNode, value: Value, dims: &[usize]) -> Result<Value, Fail> {
        if self.shape(value)?.per_sample() == dims {
            return Ok(value);
        }
        let dims = dims.iter().map(|&d| d as i64).collect();
        self.add_with("reshape", node, &[value], Attrs::new().with("shape", Attr::Ints(dims)))
    }
}

/// An axis counted from the front.
pub(super) fn axis(axis: i64, rank: usize) -> Result<usize, Fail> {
    let rank = rank as i64;
    if (-rank..rank).contains(&axis) {
        Ok(axis.rem_euclid(rank.max(1)) as usize)
    } else {
        Err(format!("axis {axis} does not exist in {rank} axes").into())
    }
}
