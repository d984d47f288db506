//! Convolutions and matrix products: of integers where the gradient and the other operand are codes.

use super::{Parts, missing, plain, reshaped};
use crate::grad::builder::{Builder, Gradient};
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::{GraphError, Node, Value};

pub(super) fn gradients(
    b: &mut Builder<'_>,
    node: &Node,
    operands: &[Value],
    dy: Gradient,
) -> Result<Parts, GraphError> {
    let (Some(&x), Some(&w)) = (operands.first(), operands.get(1)) else { return Err(missing(node)) };
    let (name, mut parts) = (format!("d{}", node.name), Vec::new());
    let shape = |v: Value| b.source.value_type(v).map(|t| t.shape.clone()).ok_or_else(|| missing(node));
    let (input, weights) = (shape(x)?, shape(w)?);
    let (_, h, width) = input.image().ok_or_else(|| missing(node))?;
    let (a, k) = (b.get(x).codes, b.get(w).codes);
    if b.wanted.contains(&x) {
        let attrs = node.attrs.clone().with("input", Attr::Ints(vec![h as i64, width as i64]));
        let float = match (dy.codes, k) {
            (Some((g, m)), Some(k)) => {
                let acc = b.add("int_conv_input_grad", &format!("{name}_int"), &[g, k.value], attrs)?;
                b.decode(&format!("{name}_x"), acc, &[Some(m), k.factor])?
            }
            _ => {
                let w = b.float(w)?;
                b.add("conv_input_grad", &format!("{name}_x"), &[dy.float, w], attrs)?
            }
        };
        parts.push((0, plain(reshaped(b, float, &input)?)));
    }
    if b.wanted.contains(&w) {
        let dims = weights.per_sample();
        let kernel =
            dims.get(2..).filter(|k| k.len() == 2).map_or(vec![1, 1], |k| k.iter().map(|&d| d as i64).collect());
        let attrs = node.attrs.clone().with("kernel", Attr::Ints(kernel));
        let float = match (a, dy.codes) {
            (Some(a), Some((g, m))) => b.add("int_conv_weight_grad", &format!("{name}_w"), &[a.value, g, m], attrs)?,
            _ => {
                let x = b.float(x)?;
                b.add("conv_weight_grad", &format!("{name}_w"), &[x, dy.float], attrs)?
            }
        };
        parts.push((1, plain(reshaped(b, float, &weights)?)));
    }
    if operands.len() > 2 {
        parts.push((2, plain(b.add("channel_sum", &format!("{name}_b"), &[dy.float], Attrs::new())?)));
    }
    Ok(parts)
}

/// Products of two computed matrices (…, R, K) and (…, K, C): each times the other, transposed.
pub(super) fn computed(b: &mut Builder<'_>, node: &Node, operands: &[Value], dy: Value) -> Result<Parts, GraphError> {
    let &[p, q] = operands else { return Err(missing(node)) };
    let name = format!("d{}", node.name);
    let rank = node.types.first().map_or(0, |t| t.shape.rank());
    // The last two axes change places.
    let perm: Vec<i64> = (0..rank).map(|i| if i + 2 < rank { i } else { 2 * rank - 3 - i } as i64).collect();
    let mut parts = Vec::new();
    for (port, other) in [q, p].into_iter().enumerate() {
        if !operands.get(port).is_some_and(|v| b.wanted.contains(v)) {
            continue;
        }
        let other = b.float(other)?;
        let turned = b.add("transpose", &name, &[other], Attrs::new().with("perm", Attr::Ints(perm.clone())))?;
        let factors = if port == 0 { [dy, turned] } else { [turned, dy] };
        parts.push((port, plain(b.add("product", &name, &factors, Attrs::new())?)));
    }
    Ok(parts)
}
