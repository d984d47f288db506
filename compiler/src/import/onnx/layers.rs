//! Layers on images: convolution and its transpose, batch normalisation, pools, in one or two dimensions.

use super::arguments::{float, int, ints, string};
use super::context::{Fail, Importer, Known};
use super::proto::OnnxNode;
use crate::graph::Value;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::types::{Dim, Shape};

/// Imports the node if it is one of this family.
pub(super) fn handle(im: &mut Importer<'_>, node: &OnnxNode) -> Result<Option<Known>, Fail> {
    if matches!(node.op_type.as_str(), "Conv" | "ConvTranspose" | "BatchNormalization") {
        finite(im, node)?;
    }
    let layer: fn(&mut Importer<'_>, &OnnxNode, Value) -> Result<Value, Fail> = match node.op_type.as_str() {
        "Conv" => conv,
        "ConvTranspose" => conv_transpose,
        "BatchNormalization" => batch_norm,
        "MaxPool" | "AveragePool" => pool,
        "GlobalAveragePool" | "GlobalMaxPool" => global,
        _ => return Ok(None),
    };
    let x = im.input(node, 0)?;
    let x = im.images(node, x)?;
    let y = layer(im, node, x)?;
    Ok(Some(Known::Value(im.samples(node, y)?)))
}

/// Refuses weights, biases and statistics that are not finite, or not constant.
pub(super) fn finite(im: &mut Importer<'_>, node: &OnnxNode) -> Result<(), Fail> {
    for i in 1..node.inputs.len() {
        let Some(name) = im.input_name(node, i) else { continue };
        let value = im.value(name)?;
        if im.shape(value)?.has_batch() && !matches!(node.op_type.as_str(), "MatMul" | "Gemm") {
            return Err(format!("computes `{name}` from the input: only constant weights are supported").into());
        }
        let tensor = im.graph.constant(value);
        if tensor.and_then(|t| t.as_f32()).is_some_and(|v| v.iter().any(|x| !x.is_finite())) {
            return Err(format!("`{name}` is not finite: the training diverged, export another checkpoint").into());
        }
    }
    Ok(())
}

/// A value of one spatial axis with a height of 1 in front of its width; the number of spatial axes it had.
pub(super) fn two_dimensional(im: &mut Importer<'_>, node: &OnnxNode, v: Value) -> Result<(Value, usize), Fail> {
    let shape = im.shape(v)?;
    match *shape.0 {
        [_, _, _, _] => Ok((v, 2)),
        [a, b, w] => {
            let dims = Shape(vec![a, b, Dim::Fixed(1), w]).per_sample();
            Ok((im.reshaped(node, v, &dims)?, 1))
        }
        _ => Err(format!("works on {shape}: only one or two spatial axes are supported").into()),
    }
}

/// A result without the height that [`two_dimensional`] added.
pub(super) fn flattened(im: &mut Importer<'_>, node: &OnnxNode, y: Value, spatial: usize) -> Result<Value, Fail> {
    match *im.shape(y)?.per_sample() {
        [c, 1, w] if spatial == 1 => im.reshaped(node, y, &[c, w]),
        _ => Ok(y),
    }
}

/// A list attribute with one number an axis, a neutral one for the height where the operator has only a width.
fn extents(node: &OnnxNode, name: &str, spatial: usize, neutral: i64, least: i64) -> Result<Vec<i64>, Fail> {
    let count = if name == "pads" { 2 } else { 1 };
    let list = match ints(node, name)? {
        None => vec![neutral; spatial * count],
        Some(v) if v.is_empty() => vec![neutral; spatial * count],
        Some(v) => v,
    };
    if list.len() != spatial * count || list.iter().any(|n| !(least..=1 << 20).contains(n)) {
        let count = spatial * count;
        return Err(format!("attribute `{name}` is {list:?}: {count} numbers of at least {least} are expected").into());
    }
    Ok(match *list {
        [n] => vec![neutral, n],
        [before, after] if count == 2 => vec![0, before, 0, after],
        _ => list,
    })
}

/// Strides, dilations and padding of a window of `kernel` over an image of height and width `image`, `auto_pad` resolved.
fn window(node: &OnnxNode, image: [usize; 2], kernel: [i64; 2], spatial: usize) -> Result<Attrs, Fail> {
    let strides = extents(node, "strides", spatial, 1, 1)?;
    let dilations = extents(node, "dilations", spatial, 1, 1)?;
    let same = |i: usize| -> Result<(i64, i64), Fail> {
        let (n, stride) = (image[i] as i64, strides[i]);
        let span = (kernel[i] - 1).checked_mul(dilations[i]).ok_or("the kernel is too large")?.saturating_add(1);
        let outputs = (n + stride - 1) / stride;
        let total = ((outputs - 1) * stride).saturating_add(span).saturating_sub(n).max(0);
        Ok((total / 2, total - total / 2))
    };
    let pads = match string(node, "auto_pad", "NOTSET")? {
        "NOTSET" | "" => extents(node, "pads", spatial, 0, 0)?,
        "VALID" => vec![0; 4],
        mode @ ("SAME_UPPER" | "SAME_LOWER") => {
            let ((t, b), (l, r)) = (same(0)?, same(1)?);
            if mode == "SAME_UPPER" { vec![t, l, b, r] } else { vec![b, r, t, l] }
        }
        mode => return Err(format!("attribute `auto_pad` is `{mode}`, which does not exist").into()),
    };
    let attrs = Attrs::new().with("strides", Attr::Ints(strides)).with("pads", Attr::Ints(pads));
    Ok(attrs.with("dilations", Attr::Ints(dilations)))
}

/// Height and width of a value of two spatial axes.
fn image(im: &Importer<'_>, x: Value) -> Result<[usize; 2], Fail> {
    let shape = im.shape(x)?;
    let (_, h, w) = shape.image().ok_or_else(|| format!("reads {shape}: an image (N,C,H,W) is expected"))?;
    Ok([h, w])
}

/// Input, weights and their kernel, of a convolution.
fn operands(im: &mut Importer<'_>, node: &OnnxNode, x: Value) -> Result<(Value, Value, [i64; 2], usize), Fail> {
    let w = im.input(node, 1)?;
    let given = im.shape(w)?;
    let (x, spatial) = two_dimensional(im, node, x)?;
    let (w, own) = two_dimensional(im, node, w)?;
    let weights = im.shape(w)?;
    let [_, _, Dim::Fixed(kh), Dim::Fixed(kw)] = *weights.0 else {
        return Err(format!("has weights of shape {given}: (O,C,KH,KW) or (O,C,K) is expected").into());
    };
    let kernel = [kh as i64, kw as i64];
    if spatial != own
        || (node.attributes.contains_key("kernel_shape") && extents(node, "kernel_shape", spatial, 1, 1)? != kernel)
    {
        return Err(format!("attribute `kernel_shape` or the input differ from the weights' shape {given}").into());
    }
    Ok((x, w, kernel, spatial))
}

fn conv(im: &mut Importer<'_>, node: &OnnxNode, x: Value) -> Result<Value, Fail> {
    let (x, w, kernel, spatial) = operands(im, node, x)?;
    let attrs = window(node, image(im, x)?, kernel, spatial)?.with("groups", Attr::Int(int(node, "group", 1)?));
    let mut inputs = vec![x, w];
    if im.input_name(node, 2).is_some() {
        inputs.push(im.input(node, 2)?);
    }
    let y = im.add_with("conv", node, &inputs, attrs)?;
    flattened(im, node, y, spatial)
}

/// A convolution of the image with zeros between its elements and around it by the turned kernel. The sums have the same
/// terms, zeros aside, in order of (ci, ky, kx) of the turned kernel.
fn conv_transpose(im: &mut Importer<'_>, node: &OnnxNode, x: Value) -> Result<Value, Fail> {
    let (x, w, kernel, spatial) = operands(im, node, x)?;
    let (extent, groups) = (image(im, x)?, int(node, "group", 1)?);
    let strides = extents(node, "strides", spatial, 1, 1)?;
    let dilations = extents(node, "dilations", spatial, 1, 1)?;
    let more = extents(node, "output_padding", spatial, 0, 0)?;
    let mut pads = extents(node, "pads", spatial, 0, 0)?;
    let mut wanted = ints(node, "output_shape")?;
    let mode = string(node, "auto_pad", "NOTSET")?;
    if mode.starts_with("SAME") && wanted.is_none() {
        let same = (0..2).map(|i| extent[i] as i64 * strides[i]);
        wanted = Some(same.skip(2 - spatial).collect());
    }
    let span = |i: usize| (kernel[i] - 1) * dilations[i] + 1;
    if let Some(wanted) = wanted {
        let wanted = wanted.get(wanted.len().saturating_sub(spatial)..).unwrap_or(&[]);
        for (i, &n) in (2 - spatial..2).zip(wanted) {
            let total = strides[i] * (extent[i] as i64 - 1) + more[i] + span(i) - n;
            let (less, rest) = (total.max(0) / 2, total.max(0) - total.max(0) / 2);
            let (before, after) = if mode == "SAME_UPPER" { (less, rest) } else { (rest, less) };
            pads[i] = before;
            // What is missing is appended.
            pads[i + 2] = after + total.min(0);
        }
    }
    let mut x = x;
    for i in 0..2 {
        let n = extent[i] as i64;
        let spread = (n - 1) * strides[i] + 1;
        let before = span(i) - 1 - pads[i];
        let length = before + spread + span(i) - 1 - pads[i + 2] + more[i];
        if !(1..=1 << 20).contains(&length) {
            return Err(format!("makes an image of extent {length} of one of {n}").into());
        }
        let source = |at: i64| if at >= 0 && at < spread && at % strides[i] == 0 { at / strides[i] } else { -1 };
        x = im.taken(node, x, i + 2, (0..length).map(|o| source(o - before)).collect())?;
    }
    let w = turned(im, node, w, groups)?;
    let attrs = Attrs::new().with("dilations", Attr::Ints(dilations)).with("groups", Attr::Int(groups));
    let mut inputs = vec![x, w];
    if im.input_name(node, 2).is_some() {
        inputs.push(im.input(node, 2)?);
    }
    let y = im.add_with("conv", node, &inputs, attrs)?;
    flattened(im, node, y, spatial)
}

/// Weights (C, O/groups, KH, KW) as (O, C/groups, KH, KW) with the kernel turned by half a turn.
fn turned(im: &mut Importer<'_>, node: &OnnxNode, w: Value, groups: i64) -> Result<Value, Fail> {
    let [c, o, kh, kw] = *im.shape(w)?.per_sample() else { return Err("has no weights".into()) };
    let groups = usize::try_from(groups).ok().filter(|&g| g > 0 && c % g == 0);
    let g = groups.ok_or_else(|| format!("has {c} input channels, which do not fall into {groups:?} groups"))?;
    let back = |n: usize| (0..n as i64).rev().collect::<Vec<_>>();
    let mut w = im.taken(node, w, 2, back(kh))?;
    w = im.taken(node, w, 3, back(kw))?;
    w = im.reshaped(node, w, &[g, c / g, o, kh, kw])?;
    w = im.add_with("transpose", node, &[w], Attrs::new().with("perm", Attr::Ints(vec![0, 2, 1, 3, 4])))?;
    im.reshaped(node, w, &[g * o, c / g, kh, kw])
}

fn pool(im: &mut Importer<'_>, node: &OnnxNode, x: Value) -> Result<Value, Fail> {
    let (x, spatial) = two_dimensional(im, node, x)?;
    if !node.attributes.contains_key("kernel_shape") {
        return Err("needs the attribute `kernel_shape`".into());
    }
    let kernel = extents(node, "kernel_shape", spatial, 1, 1)?;
    let &[kh, kw] = &*kernel else { return Err("has no kernel".into()) };
    let mut attrs = window(node, image(im, x)?, [kh, kw], spatial)?;
    if attrs.0.get("dilations") == Some(&Attr::Ints(vec![1, 1])) {
        attrs.0.remove("dilations");
    }
    attrs = attrs.with("kernel", Attr::Ints(kernel)).with("ceil", Attr::Bool(int(node, "ceil_mode", 0)? != 0));
    let y = if node.op_type == "MaxPool" {
        im.add_with("max_pool", node, &[x], attrs)?
    } else {
        attrs = attrs.with("count_padding", Attr::Bool(int(node, "count_include_pad", 0)? != 0));
        im.add_with("average_pool", node, &[x], attrs)?
    };
    flattened(im, node, y, spatial)
}

fn global(im: &mut Importer<'_>, node: &OnnxNode, x: Value) -> Result<Value, Fail> {
    let rank = im.shape(x)?.rank() as i64;
    let axes = Attrs::new().with("axes", Attr::Ints((2..rank).collect()));
    match (node.op_type.as_str(), rank) {
        (_, 0..=2) => Err("pools an image, which has at least three axes".into()),
        ("GlobalAveragePool", 4) => im.add("global_average_pool", node, &[x]),
        ("GlobalAveragePool", _) => im.add_with("reduce_mean", node, &[x], axes),
        _ => im.add_with("reduce_max", node, &[x], axes),
    }
}

fn batch_norm(im: &mut Importer<'_>, node: &OnnxNode, x: Value) -> Result<Value, Fail> {
    let training = int(node, "training_mode", 0)? != 0;
    if training || int(node, "spatial", 1)? == 0 {
        return Err(
            "normalises by the batch's own statistics: export the model in inference mode (model.eval())".into()
        );
    }
    let mut inputs = vec![x];
    for i in 1..5 {
        inputs.push(im.input(node, i)?);
    }
    let epsilon = float(node, "epsilon", 1e-5)?;
    im.add_with("batch_norm", node, &inputs, Attrs::new().with("epsilon", Attr::Float(epsilon)))
}
