//! Exporters: the graph IR as ONNX, the way back of `import/onnx`.
//!
//! An export goes in two steps: the dialect's file rewrites a copy of the graph until every node has one counterpart in the
//! dialect, then [`nodes`] writes node by node into the neutral form that the importer reads, and [`proto`] encodes it.
//!
//! | dialect | weights | activations |
//! |---|---|---|
//! | float | constants that hold the quantised values | Clip, Mul n, Round, Div n |
//! | qonnx | BipolarQuant, or Quant with scale 2/n and zero point n/2 | Mul n, Relu, Quant with scale 1, Div n |
//!
//! Both keep every bit of the interpreter's result, and lift to the same codes when they are imported again; the one
//! exception is weights of 2 and more bits in QONNX, whose floats differ in the last place before they are lifted. What
//! training alone needs (the gradient quantiser) vanishes. Nothing here knows a machine, a layout or a lowered graph.

mod float;
mod nodes;
mod proto;
mod qonnx;
#[cfg(test)]
mod tests;

use crate::graph::Graph;
use crate::passes::PassError;

/// What an exported file is written in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Dialect {
    /// ONNX's own operators in f32 ("fake quantisation").
    Float,
    /// The quantisers as nodes of the domain `qonnx.custom_op.general`, the rest as in `Float`.
    Qonnx,
}

impl Dialect {
    /// The dialect of a name.
    pub fn parse(name: &str) -> Option<Dialect> {
        match name {
            "float" => Some(Dialect::Float),
            "qonnx" => Some(Dialect::Qonnx),
            _ => None,
        }
    }
}

/// Why a graph could not be exported; printed one line a problem.
#[derive(Clone, PartialEq, Eq, Debug, thiserror::Error)]
pub enum ExportError {
    /// What the dialect does not express, each line naming the node and its operator.
    #[error("{}", .0.join("\n"))]
    Unsupported(Vec<String>),
    /// The graph could not be rewritten.
    #[error(transparent)]
    Rewrite(#[from] PassError),
}

/// The bytes of an ONNX file (operator set 17) that computes what `graph` computes. Its metadata become the file's metadata
/// properties; inputs and outputs keep their names.
///
/// # Errors
/// Everything that the dialect does not express, at once.
pub fn onnx(graph: &Graph, dialect: Dialect) -> Result<Vec<u8>, ExportError> {
    let mut graph = graph.clone();
    match dialect {
        Dialect::Float => float::rewrite(&mut graph)?,
        Dialect::Qonnx => qonnx::rewrite(&mut graph)?,
    }
    let model = nodes::model(&graph, dialect).map_err(ExportError::Unsupported)?;
    proto::encode(model).map_err(|e| ExportError::Unsupported(vec![e]))
}
