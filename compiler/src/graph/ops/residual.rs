//! Residual additions of codes: what the passes make of an addition in front of a quantiser. Exact, by tables that the float
//! steps themselves filled.

use super::OpDef;
use super::integer::{CODE_ATTRS, channel_of, code_type, codes};
use crate::graph::types::{CodeType, Elem, Shape, ValueType};
use dorefa_runtime::tensor::{Data, Tensor};

/// Two codes to one by a table.
pub static TABLE_ADD: OpDef = OpDef {
    name: "table_add",
    doc: "Codes a, b and a table (top_a+1, top_b+1) of result codes: u = table[a][b]. A residual add evaluated once for \
          each pair of codes.",
    inputs: (3, 3),
    attrs: CODE_ATTRS,
    elementwise: true,
    infer: |attrs, types| {
        let ((a, shape), (b, other)) = (codes(types, 0)?, codes(types, 1)?);
        let t = types.get(2).ok_or("input 2 is missing")?;
        if shape != other || t.shape != Shape::fixed(&[a.top as usize + 1, b.top as usize + 1]) {
            return Err("both codes must have one shape, the table (top_a+1, top_b+1)".to_owned());
        }
        Ok(vec![ValueType { elem: Elem::Codes(code_type(attrs)?), ..ValueType::f32(shape) }])
    },
    eval: |e| {
        let width = codes(e.types, 1)?.0.top as i32 + 1;
        let (a, b, t) = (e.i32(0)?, e.i32(1)?, e.i64(2)?);
        let out = a.iter().zip(b).map(|(&a, &b)| t.get((a * width + b) as usize).copied().unwrap_or(0) as i32);
        Tensor::new(e.shape(), Data::I32(out.collect())).map_err(|e| e.to_string())
    },
};

/// Accumulators and codes to codes by thresholds.
pub static RESIDUAL_THRESHOLD: OpDef = OpDef {
    name: "residual_threshold",
    doc: "Accumulators (N,O,…) and codes r of the same shape to codes, by integer thresholds T of shape (O, R·top + 1), \
          R = top_r + 1: u = count of t in T[o][r·top .. (r+1)·top] with acc ≥ t on a rising channel (T[o][R·top] = 1), \
          with −acc ≥ t on a falling one (−1). A residual add in front of a quantiser, evaluated for each code r.",
    inputs: (3, 3),
    attrs: CODE_ATTRS,
    elementwise: true,
    infer: |attrs, types| {
        let c = code_type(attrs)?;
        let x = types.first().ok_or("input 0 is missing")?;
        x.acc().ok_or("thresholds read an accumulator")?;
        let (r, shape) = codes(types, 1)?;
        let channels = x.shape.image().ok_or("thresholds read an image or a matrix")?.0;
        let t = types.get(2).ok_or("input 2 is missing")?;
        let want = Shape::fixed(&[channels, residual_thresholds(&r, c.top) + 1]);
        if shape != x.shape || t.shape != want {
            return Err(format!("accumulators and codes must have one shape, the thresholds {want}, have {}", t.shape));
        }
        Ok(vec![x.with_elem(Elem::Codes(c))])
    },
    eval: |e| {
        let (top, width) = (code_type(e.attrs)?.top as usize, residual_thresholds(&codes(e.types, 1)?.0, 1));
        let (acc, r, t) = (e.i64(0)?, e.i32(1)?, e.i64(2)?);
        let channel = channel_of(&e.shape(), 1);
        let code = |(i, (&a, &r)): (usize, (&i64, &i32))| {
            let row = t.get(channel(i) * (width * top + 1)..).and_then(|t| t.get(..=width * top)).unwrap_or(&[]);
            let direction = row.last().copied().unwrap_or(1);
            let row = row.get(r as usize * top..).and_then(|t| t.get(..top)).unwrap_or(&[]);
            row.iter().filter(|&&t| a * direction >= t).count() as i32
        };
        let out = acc.iter().zip(r).enumerate().map(code).collect();
        Tensor::new(e.shape(), Data::I32(out)).map_err(|e| e.to_string())
    },
};

/// Thresholds an output, for all codes of the residual.
pub fn residual_thresholds(residual: &CodeType, top: u32) -> usize {
    (residual.top as usize + 1).saturating_mul(top as usize)
}

/// Whether a residual table over two code types is small enough to be worth it (at most 2⁸ entries).
pub fn residual_table(a: &CodeType, b: &CodeType) -> bool {
    (a.top as usize + 1) * (b.top as usize + 1) <= 256
}
