//! The dialect of QONNX whose images have their channels last: Conv, MaxPool and BatchNormalization between transposes.
//! The weights of Conv lie as (O, KH, KW, C).

use super::context::{Fail, Importer, Known};
use super::layers;
use super::proto::OnnxNode;
use crate::graph::Value;
use crate::graph::attrs::{Attr, Attrs};

/// Imports a node of this dialect.
pub(super) fn handle(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Known, Fail> {
    let x = im.input(node, 0)?;
    let rank = im.dims(x)?.len() as i64;
    if rank < 3 {
        return Err("works on an image, whose last axis holds the channels".into());
    }
    let first = turned(im, node, x, [0, rank - 1].into_iter().chain(1..rank - 1))?;
    let mut inputs = node.inputs.clone();
    if let Some(slot) = inputs.first_mut() {
        *slot = im.temporary(0, first);
    }
    if node.op_type == "Conv" {
        let w = im.input(node, 1)?;
        let w = turned(im, node, w, [0, rank - 1].into_iter().chain(1..rank - 1))?;
        if let Some(slot) = inputs.get_mut(1) {
            *slot = im.temporary(1, w);
        }
    }
    let inner = OnnxNode { domain: String::new(), inputs, ..node.clone() };
    match layers::handle(im, &inner)? {
        Some(Known::Value(y)) => Ok(Known::Value(turned(im, node, y, std::iter::once(0).chain(2..rank).chain([1]))?)),
        _ => Err("is no operator of this domain: Conv, MaxPool and BatchNormalization are".into()),
    }
}

/// The axes of a value in another order, as the file counts them.
fn turned(im: &mut Importer<'_>, node: &OnnxNode, x: Value, perm: impl Iterator<Item = i64>) -> Result<Value, Fail> {
    let lead = (im.shape(x)?.rank() - im.dims(x)?.len()) as i64;
    let perm = (0..lead).chain(perm.map(|p| p + lead)).collect();
    im.add_with("transpose", node, &[x], Attrs::new().with("perm", Attr::Ints(perm)))
}
