//! Pools, backward.

use super::super::pool::{ATTRS, Window};
use super::super::{Eval, OpDef, f32_input};
use super::{INPUT, extents};
use crate::graph::attrs::{AttrDef, Attrs};
use crate::graph::scale::Scale;
use crate::graph::types::{CodeType, Elem, Shape, ValueType};
use dorefa_runtime::tensor::Tensor;

const INPUT_ATTRS: &[AttrDef] = &[ATTRS[0], ATTRS[1], ATTRS[2], ATTRS[3], ATTRS[4], ATTRS[5], INPUT];

/// The window of a pool, which must fit the gradient's shape.
fn window(attrs: &Attrs, input: &Shape, dy: &Shape) -> Result<Window, String> {
    let window = Window::new(attrs, input)?;
    if window.output_shape() != *dy {
        return Err(format!("the gradient must have shape {}, has {dy}", window.output_shape()));
    }
    Ok(window)
}

fn input_shape(attrs: &Attrs, dy: &Shape) -> Result<Shape, String> {
    let (c, _, _) = dy.image().filter(|_| dy.rank() == 4).ok_or("the gradient is no image")?;
    let [h, w] = extents(attrs, "input")?;
    Ok(Shape::batched(&[c, h, w]))
}

/// Windows of so many taps have winners: their numbers are codes.
const MOST_TAPS: usize = CodeType::GREATEST as usize + 1;

/// Which tap wins a max pool.
pub static MAX_POOL_WINNER: OpDef = OpDef {
    name: "max_pool_winner",
    doc: "The tap ky·KW + kx of each window's first maximum in row-major order, compared on exact values (a later tap wins \
          only if greater than −∞ and all before it; the first inside the image where none does). Codes of step 1 and scale 1, \
          the top the last tap. Input x (f32 or codes); attributes of the pool.",
    inputs: (1, 1),
    attrs: ATTRS,
    elementwise: false,
    infer: |attrs, types| {
        let x = types.first().ok_or("input 0 is missing")?;
        if matches!(x.elem, Elem::Acc(_)) {
            return Err("compares f32 or codes".to_owned());
        }
        let window = Window::new(attrs, &x.shape)?;
        let ty = ValueType::f32(window.output_shape());
        Ok(vec![ty.with_elem(Elem::Codes(winners(&window)?))])
    },
    eval: |e| match e.types.first().map(|t| &t.elem) {
        Some(Elem::F32) => winning(e, e.f32(0)?, f32::NEG_INFINITY),
        _ => winning(e, e.i32(0)?, i32::MIN),
    },
};

/// The type of winners.
fn winners(window: &Window) -> Result<CodeType, String> {
    let taps = window.kernel[0].checked_mul(window.kernel[1]).filter(|&taps| taps <= MOST_TAPS);
    let taps = taps.ok_or_else(|| format!("a window has at most {MOST_TAPS} taps"))?;
    Ok(CodeType { top: (taps - 1).max(1) as u32, step: 1, offset: 0, scale: [Scale::ONE].into() })
}

fn winning<T: Copy + PartialOrd>(e: &Eval<'_>, x: &[T], least: T) -> Result<Tensor, String> {
    let window = Window::new(e.attrs, &e.types.first().ok_or("input 0 is missing")?.shape)?;
    let mut out = Vec::new();
    window.for_each_tap(e.batch, |_, taps| {
        let mut best = (least, taps.first().map_or(0, |&(tap, _)| tap));
        for &(tap, i) in taps {
            if let Some(&v) = x.get(i).filter(|&&v| v > best.0) {
                best = (v, tap);
            }
        }
        out.push(best.1 as i32);
    });
    e.codes(out)
}

/// Max pool, backward.
pub static MAX_POOL_GRAD: OpDef = OpDef {
    name: "max_pool_grad",
    doc: "dy of each window to the tap that won it, +0 to the others; overlapping windows add in window order from +0. \
          Inputs dy, max_pool_winner(x); attributes of the pool, and `input`.",
    inputs: (2, 2),
    attrs: INPUT_ATTRS,
    elementwise: false,
    infer: |attrs, types| {
        let (dy, winner) = (f32_input(types, 0)?, types.get(1).ok_or("input 1 is missing")?);
        let input = input_shape(attrs, &dy.shape)?;
        let codes = winners(&window(attrs, &input, &dy.shape)?)?;
        if winner.codes() != Some(&codes) || winner.shape != dy.shape {
            return Err(format!("input 1 must be the winners of the pool, is {winner}"));
        }
        Ok(vec![ValueType::f32(input)])
    },
    eval: |e| {
        let window = Window::new(e.attrs, &e.output.shape)?;
        let mut windows = e.f32(0)?.iter().zip(e.i32(1)?);
        let mut out = vec![0f32; e.shape().iter().product()];
        window.for_each_tap(e.batch, |_, taps| {
            let Some((dy, &winner)) = windows.next() else { return };
            let place = taps.iter().find(|&&(tap, _)| usize::try_from(winner) == Ok(tap));
            if let Some(slot) = place.and_then(|&(_, i)| out.get_mut(i)) {
                *slot += dy;
            }
        });
        e.floats(out)
    },
};

/// Average pool, backward.
pub static AVERAGE_POOL_GRAD: OpDef = OpDef {
    name: "average_pool_grad",
    doc: "dy / f32(count) to every valid tap of the window, added in window order from +0; count as in average_pool. Input \
          dy; attributes of the pool, and `input`.",
    inputs: (1, 1),
    attrs: INPUT_ATTRS,
    elementwise: false,
    infer: |attrs, types| {
        let dy = &f32_input(types, 0)?.shape;
        let input = input_shape(attrs, dy)?;
        window(attrs, &input, dy)?;
        Ok(vec![ValueType::f32(input)])
    },
    eval: |e| {
        let window = Window::new(e.attrs, &e.output.shape)?;
        let whole = e.attrs.bool("count_padding", false).then_some(window.kernel[0] * window.kernel[1]);
        let mut windows = e.f32(0)?.iter();
        let mut out = vec![0f32; e.shape().iter().product()];
        window.for_each_output(e.batch, |_, taps| {
            let share = windows.next().map_or(0.0, |dy| dy / whole.unwrap_or(taps.len()) as f32);
            for &i in taps {
                if let Some(slot) = out.get_mut(i) {
                    *slot += share;
                }
            }
        });
        e.floats(out)
    },
};

/// Global average pool, backward.
pub static GLOBAL_AVERAGE_POOL_GRAD: OpDef = OpDef {
    name: "global_average_pool_grad",
    doc: "dy / f32(height·width) at every position. Input dy (N,C,1,1); `input`.",
    inputs: (1, 1),
    attrs: &[INPUT],
    elementwise: false,
    infer: |attrs, types| {
        let dy = &f32_input(types, 0)?.shape;
        match dy.image() {
            Some((_, 1, 1)) => Ok(vec![ValueType::f32(input_shape(attrs, dy)?)]),
            _ => Err(format!("the gradient must be (N,C,1,1), is {dy}")),
        }
    },
    eval: |e| {
        let area = e.shape().iter().skip(2).product::<usize>();
        e.floats(e.f32(0)?.iter().flat_map(|dy| std::iter::repeat_n(dy / area as f32, area)).collect())
    },
};
