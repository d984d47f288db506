//! Layers: convolution, matrix products, batch normalisation, pools.

use super::context::{Fail, Importer, Known, float, int, ints, string};
use super::proto::OnnxNode;
use crate::graph::Value;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::types::{Dim, Shape};
use dorefa_runtime::tensor::Tensor;

/// Imports the node if it is one of this family.
pub(super) fn handle(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Option<Known>, Fail> {
    if matches!(node.op_type.as_str(), "Conv" | "Gemm" | "MatMul" | "BatchNormalization") {
        finite(im, node)?;
    }
    let value = match node.op_type.as_str() {
        "Conv" => conv(im, node)?,
        "Gemm" => gemm(im, node)?,
        "MatMul" => {
            let (x, w) = (im.input(node, 0)?, im.input(node, 1)?);
            if im.shape(w)?.has_batch() {
                return Err(
                    "multiplies two inputs that depend on the image: only constant weights are supported".into()
                );
            }
            let w = transposed(im, node, w)?;
            im.add("matmul", node, &[x, w])?
        }
        "BatchNormalization" => batch_norm(im, node)?,
        "MaxPool" | "AveragePool" => pool(im, node)?,
        "GlobalAveragePool" => {
            let x = im.input(node, 0)?;
            im.add("global_average_pool", node, &[x])?
        }
        "GlobalMaxPool" => {
            let x = im.input(node, 0)?;
            im.add_with("reduce_max", node, &[x], Attrs::new().with("axes", Attr::Ints(vec![2, 3])))?
        }
        _ => return Ok(None),
    };
    Ok(Some(Known::Value(value)))
}

/// Refuses weights, biases and statistics that are not finite.
fn finite(im: &mut Importer<'_>, node: &OnnxNode) -> Result<(), Fail> {
    for i in 1..node.inputs.len() {
        let Some(name) = im.input_name(node, i) else { continue };
        let value = im.value(name)?;
        let tensor = im.graph.constant(value);
        if tensor.and_then(|t| t.as_f32()).is_some_and(|v| v.iter().any(|x| !x.is_finite())) {
            return Err(format!("`{name}` is not finite: the training diverged, export another checkpoint").into());
        }
    }
    Ok(())
}

fn conv(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let (x, w) = (im.input(node, 0)?, im.input(node, 1)?);
    let (shape, weights) = (im.shape(x)?, im.shape(w)?);
    let [_, _, Dim::Fixed(kh), Dim::Fixed(kw)] = *weights.0 else {
        return Err(format!("has weights of shape {weights}: only two-dimensional convolutions are supported").into());
    };
    let kernel = [kh as i64, kw as i64];
    if ints(node, "kernel_shape")?.is_some_and(|k| k != kernel) {
        return Err(format!("attribute `kernel_shape` differs from the weights' shape {weights}").into());
    }
    let attrs = window(node, &shape, kernel)?.with("groups", Attr::Int(int(node, "group", 1)?));
    let mut inputs = vec![x, w];
    if im.input_name(node, 2).is_some() {
        inputs.push(im.input(node, 2)?);
    }
    im.add_with("conv", node, &inputs, attrs)
}

/// Strides, dilations and padding of a window over an image, `auto_pad` resolved.
fn window(node: &OnnxNode, shape: &Shape, kernel: [i64; 2]) -> Result<Attrs, Fail> {
    let pair = |name: &str| match ints(node, name)?.as_deref() {
        None | Some([]) => Ok([1, 1]),
        Some(&[a, b]) if (1..=1 << 20).contains(&a) && (1..=1 << 20).contains(&b) => Ok([a, b]),
        Some(v) => Err(Fail::Message(format!("attribute `{name}` is {v:?}: two numbers of at least 1 are expected"))),
    };
    let (strides, dilations) = (pair("strides")?, pair("dilations")?);
    let (_, h, w) = shape.image().ok_or_else(|| format!("reads {shape}: an image (N,C,H,W) is expected"))?;
    let same = |i: usize, n: usize| -> Result<(i64, i64), Fail> {
        let (n, stride) = (n as i64, strides[i]);
        let span = (kernel[i] - 1).checked_mul(dilations[i]).ok_or("the kernel is too large")?.saturating_add(1);
        let outputs = (n + stride - 1) / stride;
        let total = ((outputs - 1) * stride).saturating_add(span).saturating_sub(n).max(0);
        Ok((total / 2, total - total / 2))
    };
    let pads = match string(node, "auto_pad", "NOTSET")? {
        "NOTSET" | "" => match ints(node, "pads")?.as_deref() {
            None | Some([]) => vec![0; 4],
            Some(v) if v.len() == 4 => v.to_vec(),
            Some(v) => return Err(format!("attribute `pads` is {v:?}: four numbers are expected").into()),
        },
        "VALID" => vec![0; 4],
        mode @ ("SAME_UPPER" | "SAME_LOWER") => {
            let ((t, b), (l, r)) = (same(0, h)?, same(1, w)?);
            if mode == "SAME_UPPER" { vec![t, l, b, r] } else { vec![b, r, t, l] }
        }
        mode => return Err(format!("attribute `auto_pad` is `{mode}`, which does not exist").into()),
    };
    let list = |v: [i64; 2]| Attr::Ints(v.to_vec());
    let attrs = Attrs::new().with("strides", list(strides)).with("pads", Attr::Ints(pads));
    Ok(attrs.with("dilations", list(dilations)))
}

fn pool(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let x = im.input(node, 0)?;
    let shape = im.shape(x)?;
    let Some(&[kh, kw]) = ints(node, "kernel_shape")?.as_deref() else {
        return Err("attribute `kernel_shape` needs two numbers: only pools of images are supported".into());
    };
    if !(1..=1 << 20).contains(&kh) || !(1..=1 << 20).contains(&kw) {
        return Err(format!("attribute `kernel_shape` is [{kh}, {kw}]").into());
    }
    let mut attrs = window(node, &shape, [kh, kw])?;
    if attrs.0.remove("dilations").is_some_and(|d| d != Attr::Ints(vec![1, 1])) {
        return Err("dilated pools are not supported".into());
    }
    attrs = attrs.with("kernel", Attr::Ints(vec![kh, kw])).with("ceil", Attr::Bool(int(node, "ceil_mode", 0)? != 0));
    if node.op_type == "MaxPool" {
        return im.add_with("max_pool", node, &[x], attrs);
    }
    attrs = attrs.with("count_padding", Attr::Bool(int(node, "count_include_pad", 0)? != 0));
    im.add_with("average_pool", node, &[x], attrs)
}

/// The transpose of a matrix: a constant is transposed here, a transpose is undone.
fn transposed(im: &mut Importer<'_>, node: &OnnxNode, w: Value) -> Result<Value, Fail> {
    let perm = Attrs::new().with("perm", Attr::Ints(vec![1, 0]));
    let producer = im.graph.node(w.node).ok_or(Fail::Poisoned)?;
    if producer.op.name == "transpose" && producer.attrs == perm {
        return im.graph.operands(w.node).first().copied().ok_or(Fail::Poisoned);
    }
    let name = format!("{}_t", producer.name);
    if let Some(tensor) = im.graph.constant(w)
        && let (&[rows, columns], Some(data)) = (tensor.shape(), tensor.as_f32())
    {
        let turned: Vec<f32> =
            (0..columns).flat_map(|c| data.iter().skip(c).step_by(columns.max(1)).copied()).collect();
        let turned = Tensor::f32(vec![columns, rows], turned).map_err(|e| e.to_string())?;
        return Ok(im.graph.add_constant(&name, turned)?);
    }
    im.add_with("transpose", node, &[w], perm)
}

fn gemm(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let (x, mut w) = (im.input(node, 0)?, im.input(node, 1)?);
    if int(node, "transA", 0)? != 0 {
        return Err("attribute `transA` is not supported: the batch must be the rows of the first input".into());
    }
    if im.shape(w)?.has_batch() {
        return Err("multiplies two inputs that depend on the image: only constant weights are supported".into());
    }
    if int(node, "transB", 0)? == 0 {
        w = transposed(im, node, w)?;
    }
    let (alpha, beta) = (float(node, "alpha", 1.0)?, float(node, "beta", 1.0)?);
    let mut bias = if im.input_name(node, 2).is_some() && beta != 0.0 { Some(im.input(node, 2)?) } else { None };
    if let Some(b) = bias.filter(|_| beta != 1.0) {
        let beta = im.scalar("beta", beta)?;
        bias = Some(im.add("mul", node, &[b, beta])?);
    }
    let outputs = im.shape(w)?.per_sample().first().copied().unwrap_or(0);
    if let Some(b) = bias
        && im.shape(b)? == Shape::fixed(&[1, outputs])
    {
        bias = Some(im.reshaped(node, b, &[outputs])?);
    }
    match bias {
        Some(b) if alpha == 1.0 && im.shape(b)? == Shape::fixed(&[outputs]) => im.add("matmul", node, &[x, w, b]),
        _ => {
            let mut y = im.add("matmul", node, &[x, w])?;
            if alpha != 1.0 {
                let alpha = im.scalar("alpha", alpha)?;
                y = im.add("mul", node, &[y, alpha])?;
            }
            if let Some(b) = bias { im.add("add", node, &[y, b]) } else { Ok(y) }
        }
    }
}

fn batch_norm(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Value, Fail> {
    let training = int(node, "training_mode", 0)? != 0;
    if training || int(node, "spatial", 1)? == 0 {
        return Err(
            "normalises by the batch's own statistics: export the model in inference mode (model.eval())".into()
        );
    }
    let inputs = (0..5).map(|i| im.input(node, i)).collect::<Result<Vec<_>, _>>()?;
    let epsilon = float(node, "epsilon", 1e-5)?;
    im.add_with("batch_norm", node, &inputs, Attrs::new().with("epsilon", Attr::Float(epsilon)))
}
