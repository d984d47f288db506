//! The element-wise chain behind a kernel, made ready for one function: constants and tables by channel. `clif` runs it on four
//! lanes, in the very order and rounding of the operator table; `program` records the same for wider lanes. It must never know where
//! the lanes come from.

mod clif;
mod program;

pub(super) use clif::levels;

use super::emitter::Emitter;
use crate::graph::ops::scale_offset;
use crate::graph::types::{Elem, Shape};
use crate::graph::{Graph, Node, NodeId};
use crate::lower::{line, pack};
use cranelift_codegen::ir::Value;
use dorefa_runtime::tensor::Tensor;
use std::sync::Arc;

/// A prepared constant of the chain.
#[derive(Clone)]
enum Constant {
    /// One value in all lanes.
    Uniform(f32),
    /// Address of one f32 a channel.
    Channel(Value),
    /// Read like any other operand.
    Memory,
}

/// A chain made ready for one function: its tables are addresses in registers.
#[derive(Clone)]
pub struct Chain<'g> {
    graph: &'g Graph,
    links: Vec<Link<'g>>,
}

#[derive(Clone)]
struct Link<'g> {
    id: NodeId,
    op: &'g str,
    channels: usize,
    constants: Vec<Option<Constant>>,
    tables: Vec<Value>,
    /// The scale of a `decode` that is one for all channels.
    scale: Option<f64>,
    /// Whether thresholds are the slopes and offsets of lines (`lower::line`).
    line: bool,
}

/// The lines of a `threshold`'s thresholds, one a channel, if they lie on lines.
fn lines(graph: &Graph, node: &Node, rows: &[i64]) -> Option<Vec<[f32; 2]>> {
    let accumulators = graph.value_type(*graph.operands(node.id).first()?)?.acc()?;
    let top = usize::try_from(node.attrs.int("top", 1)).ok().filter(|_| node.op.name == "threshold")?;
    line::lines(rows, top, [accumulators.lo, accumulators.hi])
}

impl Link<'_> {
    /// The tables of a `threshold` or `residual_threshold`.
    fn thresholds(
        &mut self,
        e: &mut Emitter<'_, '_>,
        graph: &Graph,
        node: &Node,
        tensor: &Tensor,
    ) -> Result<(), String> {
        // The direction comes last.
        let width = tensor.shape().last().copied().unwrap_or(1).max(1);
        let t = tensor.as_i64().ok_or("thresholds must be integers")?;
        if let Some(lines) = lines(graph, node, t) {
            let parts = [0, 1].map(|i| lines.iter().map(|l| l[i]).collect::<Vec<f32>>());
            self.line = true;
            self.tables = parts.iter().map(|part| e.data("line", pack::per_channel(part, self.channels))).collect();
            return Ok(());
        }
        let narrow = |v: i64| v.clamp(i32::MIN.into(), i32::MAX.into()) as i32;
        let all: Vec<i32> = t.iter().map(|&v| narrow(v)).collect();
        let rows = pack::transposed(&all, self.channels, width, i32::MAX);
        self.tables = vec![e.data("thresholds", pack::i32_bytes(&rows))];
        if t.iter().skip(width - 1).step_by(width).all(|&d| d == 1) {
            self.constants.push(None); // every channel rises
        }
        Ok(())
    }

    /// Codes of the residual that a `residual_threshold` reads.
    fn residual_codes(&self, graph: &Graph) -> Option<usize> {
        let residual = graph.operands(self.id).get(1).and_then(|&v| graph.value_type(v))?;
        Some(residual.codes()?.top as usize + 1)
    }
}

fn constant(e: &mut Emitter<'_, '_>, tensor: &Tensor, shape: &Shape) -> Result<Constant, String> {
    let data = tensor.as_f32().ok_or("a constant of the chain must be f32")?;
    let channels = tensor.len();
    Ok(match data {
        [one] => Constant::Uniform(*one),
        many if channel_constant(tensor, shape) => {
            Constant::Channel(e.data("channel", pack::per_channel(many, channels)))
        }
        _ => Constant::Memory,
    })
}

/// Whether a constant is one value, or one for each channel of an image (or feature of a matrix) of `shape`.
pub fn channel_constant(tensor: &Tensor, shape: &Shape) -> bool {
    let (own, rank) = (tensor.shape(), shape.rank());
    let channels = shape.image().map(|i| i.0);
    let at_channels = own.iter().enumerate().all(|(i, &d)| d == 1 || i + rank == own.len() + 1);
    tensor.len() == 1 || (at_channels && channels == Some(tensor.len()))
}

/// Each row of `rows` rows `inner` times: what is one a channel, for a value whose elements all lie as channels.
fn spread<T: Copy>(values: &[T], rows: usize, inner: usize) -> Vec<T> {
    let width = (values.len() / rows.max(1)).max(1);
    values.chunks(width).flat_map(|row| std::iter::repeat_n(row, inner)).flatten().copied().collect()
}

impl<'g> Chain<'g> {
    /// Puts the chain's constants and tables into the image.
    ///
    /// # Errors
    /// Names the node whose constants have no per-channel form.
    pub fn prepare(e: &mut Emitter<'_, '_>, graph: &'g Graph, nodes: &[NodeId]) -> Result<Chain<'g>, (NodeId, String)> {
        let links = nodes.iter().map(|&id| Self::link(e, graph, id).map_err(|m| (id, m)));
        Ok(Chain { graph, links: links.collect::<Result<_, _>>()? })
    }

    fn link(e: &mut Emitter<'_, '_>, graph: &'g Graph, id: NodeId) -> Result<Link<'g>, String> {
        let node = graph.node(id).ok_or("the node does not exist")?;
        let ty = node.types.first().ok_or("the node has no type")?;
        let channels = ty.shape.stored().ok_or("only values with a batch as axis 0 have kernels")?.0;
        // Channels of the operator, each of so many elements that lie as channels.
        let own = ty.shape.per_sample().first().copied().unwrap_or(1);
        let inner = channels / own.max(1);
        let operands = graph.operands(id);
        let mut link = Link {
            id,
            op: node.op.name,
            channels,
            constants: Vec::new(),
            tables: Vec::new(),
            scale: None,
            line: false,
        };
        let tensors: Vec<_> = operands.iter().map(|&v| graph.constant(v)).collect();
        match node.op.name {
            "batch_norm" => {
                let [scale, offset] = batch_norm(node, &tensors, [own, inner])?;
                link.tables = vec![
                    e.data("bn_scale", pack::per_channel(&scale, channels)),
                    e.data("bn_offset", pack::per_channel(&offset, channels)),
                ];
            }
            "threshold" | "residual_threshold" => {
                let t = tensors.last().copied().flatten().ok_or("thresholds must be constant")?;
                link.thresholds(e, graph, node, t)?;
            }
            "multi_threshold" => {
                let t = tensors.get(1).copied().flatten().ok_or("thresholds must be constant")?;
                let (rows, count) = if let [r, n] = *t.shape() { (r, n) } else { (1, 0) };
                let all = spread(t.as_f32().unwrap_or(&[]), rows, if rows == 1 { 1 } else { inner });
                let rows = pack::transposed(&all, channels, count, f32::INFINITY);
                link.tables = vec![e.data("thresholds", pack::f32_bytes(&rows))];
            }
            "table_add" => {
                let t =
                    tensors.get(2).copied().flatten().and_then(|t| t.as_i64()).ok_or("the table must be constant")?;
                link.tables = vec![e.data("table", pack::i32_bytes(&t.iter().map(|&v| v as i32).collect::<Vec<_>>()))];
            }
            "lookup" => {
                let t =
                    tensors.get(1).copied().flatten().and_then(|t| t.as_f32()).ok_or("the table must be constant")?;
                link.tables = vec![e.data("values", pack::f32_bytes(t))];
            }
            "decode" => {
                let source = operands.first().and_then(|&v| graph.value_type(v)).ok_or("no operand")?;
                let scales = match &source.elem {
                    Elem::Codes(c) => &c.scale,
                    Elem::Acc(a) => &a.scale,
                    Elem::F32 => return Err("decodes codes or accumulators".to_owned()),
                };
                let scales: Vec<f64> = scales.iter().map(|s| s.to_f64()).collect();
                link.scale = scales.first().copied().filter(|_| scales.len() == 1);
                link.tables = vec![e.data("scale", decode_scales(&scales, inner, channels))];
            }
            _ => {
                for tensor in tensors {
                    link.constants.push(tensor.map(|t| constant(e, t, &ty.shape)).transpose()?);
                }
            }
        }
        Ok(link)
    }
}

/// Scale and offset of a batch normalisation for each channel of the operator, each of `inner` elements.
fn batch_norm(
    node: &Node,
    tensors: &[Option<&Arc<Tensor>>],
    [own, inner]: [usize; 2],
) -> Result<[Vec<f32>; 2], String> {
    let p: Vec<&[f32]> = tensors.iter().skip(1).filter_map(|t| t.and_then(|t| t.as_f32())).collect();
    let [g, b, m, v] = *p else { return Err("the parameters must be constant".to_owned()) };
    let epsilon = node.attrs.float("epsilon", 1e-5);
    let pairs: Vec<_> =
        (0..own).filter_map(|c| Some(scale_offset(*g.get(c)?, *b.get(c)?, *m.get(c)?, *v.get(c)?, epsilon))).collect();
    let (scale, offset) = spread(&pairs, own, inner).into_iter().unzip();
    Ok([scale, offset])
}

/// A `decode`'s scales, one or one a channel of the operator, for all channels.
fn decode_scales(scales: &[f64], inner: usize, channels: usize) -> Vec<u8> {
    let scales = spread(scales, scales.len(), if scales.len() == 1 { 1 } else { inner });
    let all: Vec<f64> = (0..channels.next_multiple_of(4))
        .map(|c| if scales.len() == 1 { scales.first() } else { scales.get(c) }.copied().unwrap_or(0.0))
        .collect();
    pack::f64_bytes(&all)
}
