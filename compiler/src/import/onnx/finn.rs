//! The FINN dialect: MultiThreshold.

use super::arguments::{float, string};
use super::context::{Fail, Importer, Known};
use super::proto::OnnxNode;
use crate::graph::Value;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::types::{Dim, Shape};

/// Imports the node if it is one of this dialect.
pub(super) fn handle(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Option<Known>, Fail> {
    Ok(match node.op_type.as_str() {
        "MultiThreshold" => Some(Known::Value(multi_threshold(im, node)?)),
        _ => None,
    })
}

/// count(x ≥ T[c, ·])·out_scale + out_bias.
fn multi_threshold(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let (x, t) = (im.input(node, 0)?, im.input(node, 1)?);
    let mut x = im.images(node, x)?;
    let (scale, bias) = (float(node, "out_scale", 1.0)?, float(node, "out_bias", 0.0)?);
    let rank = im.shape(x)?.rank();
    let last = match string(node, "data_layout", "NCHW")? {
        "NCHW" | "NC" => false,
        "NHWC" => rank == 4,
        layout => return Err(format!("has the data layout `{layout}`: NCHW, NHWC and NC are supported").into()),
    };
    let turn = |perm: [i64; 4]| Attrs::new().with("perm", Attr::Ints(perm.to_vec()));
    if last {
        x = im.add_with("transpose", node, &[x], turn([0, 3, 1, 2]))?;
    }
    check_rows(&im.shape(x)?, &im.shape(t)?)?;
    let mut y = im.add("multi_threshold", node, &[x, t])?;
    if scale != 1.0 {
        let scale = im.scalar("out_scale", scale)?;
        y = im.add("mul", node, &[y, scale])?;
    }
    if bias != 0.0 {
        let bias = im.scalar("out_bias", bias)?;
        y = im.add("add", node, &[y, bias])?;
    }
    if last {
        y = im.add_with("transpose", node, &[y], turn([0, 2, 3, 1]))?;
    }
    im.samples(node, y)
}

fn check_rows(x: &Shape, t: &Shape) -> Result<(), Fail> {
    match (x.0.get(1), &*t.0) {
        (_, [Dim::Fixed(1), _]) => Ok(()),
        (Some(c), [rows, _]) if c == rows => Ok(()),
        _ => Err(format!("has thresholds of shape {t} for an input {x}: (C or 1, B) is expected").into()),
    }
}
