//! Batch normalisation, through the statistics of the batch.

use super::{Parts, missing, plain};
use crate::grad::builder::Builder;
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::{GraphError, Node, Value};

pub(super) fn gradients(b: &mut Builder<'_>, node: &Node, operands: &[Value], dz: Value) -> Result<Parts, GraphError> {
    let &x = operands.first().ok_or_else(|| missing(node))?;
    let area = b.source.value_type(x).and_then(|t| t.shape.image()).map(|(_, h, w)| (h * w) as i64);
    let area = Attrs::new().with("area", Attr::Int(area.ok_or_else(|| missing(node))?));
    let saved = b.saved.get(&node.id).cloned().unwrap_or_default().0;
    let get = |name: &str| saved.get(name).copied().ok_or_else(|| missing(node));
    let (mean, root, scale) = (get("mean")?, get("root")?, get("scale")?);
    let input = b.float(x)?;
    let name = |part: &str| format!("d{}_{part}", node.name);
    let one = b.literal(1.0)?;
    let rstd = b.add("div", &name("rstd"), &[one, root], Attrs::new())?;
    let xhat = b.add("channel_normalize", &name("xhat"), &[input, mean, rstd], Attrs::new())?;
    let dgamma = b.add("channel_dot", &name("gamma"), &[dz, xhat], Attrs::new())?;
    let dbeta = b.add("channel_sum", &name("beta"), &[dz], Attrs::new())?;
    let mut parts = vec![(1, plain(dgamma)), (2, plain(dbeta))];
    if b.wanted.contains(&x) {
        let (g, s) = (
            b.add("per_element", &name("gamma_mean"), &[dgamma], area.clone())?,
            b.add("per_element", &name("beta_mean"), &[dbeta], area)?,
        );
        parts.push((0, plain(b.add("batch_norm_grad", &name("x"), &[dz, xhat, g, s, scale], Attrs::new())?)));
    }
    Ok(parts)
}
