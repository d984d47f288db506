//! The windows of a pool of floats: where they and their taps lie, and the loop over them. Small windows are unrolled, those that
//! leave the image with their outer taps moved to its border; only what minds a tap that comes twice, large windows and those
//! with gaps look at each tap there.

use super::Frame;
use super::borders::clear;
use crate::codegen::emitter::Emitter;
use crate::codegen::taps::{Tap, Taps};
use crate::graph::attrs::{Attr, Attrs};
use crate::graph::ops::Window;
use crate::graph::types::Shape;
use crate::graph::{Node, Value as GraphValue};
use crate::lower::train::layouts::Maps;
use crate::lower::train::{Form, Slot};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value};
use cranelift_frontend::Variable;
use std::ops::Range;

/// The window of a pool over an input of `shape`; a global pool's is the whole image.
///
/// # Errors
/// When the window does not fit.
pub fn window(node: &Node, shape: &Shape) -> Result<Window, String> {
    if !node.op.name.starts_with("global") {
        return Window::new(&node.attrs, shape);
    }
    let (_, h, w) = shape.image().ok_or("pools an image")?;
    Window::new(&Attrs::new().with("kernel", Attr::Ints(vec![h as i64, w as i64])), shape)
}

/// Maps in memory.
pub struct Area<'g> {
    /// How they lie.
    pub maps: &'g Maps,
    /// Where.
    pub base: Value,
}

impl Area<'_> {
    /// The maps of a value.
    ///
    /// # Errors
    /// When it lies in another form.
    pub fn new<'g>(e: &mut Emitter<'_, '_>, frame: &Frame<'g>, value: GraphValue) -> Result<Area<'g>, String> {
        let Form::Maps(maps) = &frame.buffer(Slot::own(value))?.form else {
            return Err("reads and writes maps of floats".to_owned());
        };
        Ok(Area { maps, base: frame.base(e, Slot::own(value))? })
    }

    /// Addresses of four channels of the taps of a window in row-major order: each a value and so many bytes.
    pub fn taps(&self, e: &mut Emitter<'_, '_>, window: &Window, place: &Place, channel: Value) -> Vec<(Value, i32)> {
        if place.window == Lies::Inside {
            let first = corner(e, window, place.at);
            let first = self.at(e, first, channel);
            return offsets(window).into_iter().map(|flat| (first, (flat * self.maps.pixel()) as i32)).collect();
        }
        let pixel = self.maps.pixel();
        let rows = nearest(e, window, place.at, 0, window.input[1] * pixel);
        let columns = nearest(e, window, place.at, 1, pixel);
        let first = e.at(self.base, channel, 4);
        let mut taps = Vec::new();
        for row in rows {
            let row = e.b.ins().iadd(first, row);
            for &column in &columns {
                taps.push((e.b.ins().iadd(row, column), 0));
            }
        }
        taps
    }

    /// The address of four channels of a position.
    pub fn at(&self, e: &mut Emitter<'_, '_>, flat: Value, channel: Value) -> Value {
        let at = e.at(self.base, flat, self.maps.pixel());
        e.at(at, channel, 4)
    }
}

/// y·W + x of the first tap of a window inside the image.
fn corner(e: &mut Emitter<'_, '_>, window: &Window, [y, x]: [Value; 2]) -> Value {
    let row = e.mul(y, window.strides[0] * window.input[1]);
    let first = e.at(row, x, window.strides[1]);
    let before = window.pads[0] * window.input[1] + window.pads[1];
    if before == 0 { first } else { e.b.ins().iadd_imm_s(first, -(before as i64)) }
}

/// Positions from the first tap of a window to every tap, in row-major order.
fn offsets(window: &Window) -> Vec<usize> {
    let columns = |ky: usize| {
        let row = ky * window.dilations[0] * window.input[1];
        (0..window.kernel[1]).map(move |kx| row + kx * window.dilations[1])
    };
    (0..window.kernel[0]).flat_map(columns).collect()
}

/// Where the taps of a window lie on an axis, in steps of so many bytes; those outside the image are moved to its border,
/// where another tap lies, for there are no gaps between taps.
fn nearest(e: &mut Emitter<'_, '_>, window: &Window, at: [Value; 2], axis: usize, bytes: usize) -> Vec<Value> {
    let (least, most) = (e.int(0), e.int(window.input[axis] - 1));
    let first = e.mul(at[axis], window.strides[axis]);
    let tap = |k: usize| {
        let tap = e.b.ins().iadd_imm_s(first, k as i64 - window.pads[axis] as i64);
        let tap = e.b.ins().smax(tap, least);
        let tap = e.min(tap, most);
        e.mul(tap, bytes)
    };
    (0..window.kernel[axis]).map(tap).collect()
}

/// A position of a window's output.
pub struct Place {
    /// Row and column.
    pub at: [Value; 2],
    /// y·W + x.
    pub flat: Value,
    /// Its window.
    pub window: Lies,
}

/// Where a window lies.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Lies {
    /// Inside the image; it is unrolled.
    Inside,
    /// Perhaps not; what is not harmed by a tap that comes twice may unroll it, with those outside moved to the border.
    Near,
    /// Anywhere.
    Anywhere,
}

/// Windows of so many taps are unrolled.
const UNROLLED: usize = 9;

/// Whether windows have few taps.
pub fn unrolled(window: &Window) -> bool {
    window.kernel[0] * window.kernel[1] <= UNROLLED
}

/// What takes the windows of a row that lie inside the image together.
pub type Row<'r> = &'r mut dyn FnMut(&mut Emitter<'_, '_>, Value);

/// Calls `body` at every position of the window's output in row-major order: emits it once for windows inside the image and
/// once for the others, as far as there are such. Where there is a `row`, it takes those inside, a row of them at a time and in
/// their turn. Of `fresh`, maps that windows add to, rows are cleared just before the first windows that reach them, so that they
/// are still in the cache.
pub fn each(
    e: &mut Emitter<'_, '_>,
    window: &Window,
    fresh: Option<&Area<'_>>,
    mut row: Option<Row<'_>>,
    body: impl Fn(&mut Emitter<'_, '_>, Place),
) {
    let [rows, columns] = window.interior();
    let some = unrolled(window) && !rows.is_empty() && !columns.is_empty();
    let outside = if unrolled(window) && window.dilations == [1, 1] { Lies::Near } else { Lies::Anywhere };
    let zero = e.int(0);
    let cleared = fresh.map(|area| (area, e.var(zero)));
    let height = e.int(window.input[0]);
    e.times(window.output[0], |e, y| {
        if let Some((area, cleared)) = cleared {
            // Padding is smaller than the window.
            let reach = (window.kernel[0] - 1) * window.dilations[0] + 1 - window.pads[0];
            let first = e.mul(y, window.strides[0]);
            let end = e.add(first, reach);
            let end = e.min(end, height);
            clear_rows(e, area, cleared, end);
        }
        let inside_row = within(e, y, &rows);
        let (width, step) = (e.int(window.output[1]), if row.is_some() { columns.len() } else { 1 });
        e.walk(zero, width, |e, x| {
            let flat = e.at(x, y, window.output[1]);
            let place = |window: Lies| Place { at: [y, x], flat, window };
            let [one, several] = [1, step].map(|n| e.int(n));
            let mut inside = |e: &mut Emitter<'_, '_>| match &mut row {
                Some(row) => row(e, y),
                None => body(e, place(Lies::Inside)),
            };
            if !some {
                body(e, place(outside));
                return one;
            }
            if covers(window) {
                inside(e);
                return several;
            }
            let column = within(e, x, &columns);
            let whole = e.b.ins().band(inside_row, column);
            e.branch(whole, inside, |e| body(e, place(outside)));
            e.b.ins().select(whole, several, one)
        });
    });
    if let Some((area, cleared)) = cleared {
        clear_rows(e, area, cleared, height);
        let bytes = window.input[0] * window.input[1] * area.maps.pixel();
        let behind = e.add(area.base, bytes);
        clear(e, behind, area.maps.bytes() - bytes);
    }
}

/// Whether `at` is in `range`.
fn within(e: &mut Emitter<'_, '_>, at: Value, range: &Range<usize>) -> Value {
    let shifted = e.b.ins().iadd_imm_s(at, -(range.start as i64));
    e.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, shifted, range.len() as i64)
}

/// Clears the rows from `cleared` to `end`, and notes it.
fn clear_rows(e: &mut Emitter<'_, '_>, area: &Area<'_>, cleared: Variable, end: Value) {
    let (from, bytes) = (e.b.use_var(cleared), area.maps.image[1] * area.maps.pixel());
    e.range(from, end, 1, |e, row| {
        let at = e.at(area.base, row, bytes);
        clear(e, at, bytes);
    });
    let end = e.b.ins().smax(from, end);
    e.b.def_var(cleared, end);
}

/// Calls `body` for every four channels.
pub fn channels(e: &mut Emitter<'_, '_>, window: &Window, mut body: impl FnMut(&mut Emitter<'_, '_>, Value)) {
    e.times(window.channels.div_ceil(4), |e, c| {
        let channel = e.mul(c, 4);
        body(e, channel);
    });
}

/// Calls `body` for every valid tap of a window, in row-major order, with its number among all taps and where it lies.
pub fn taps(
    e: &mut Emitter<'_, '_>,
    window: &Window,
    place: &Place,
    mut body: impl FnMut(&mut Emitter<'_, '_>, [Value; 2]),
) {
    let [y, x] = place.at;
    if place.window != Lies::Inside {
        let valid = |e: &mut Emitter<'_, '_>, tap: Tap| e.when(tap.valid, |e| body(e, [tap.index, tap.flat]));
        return Taps::of_pool(window).each(e, y, x, valid);
    }
    let corner = corner(e, window, place.at);
    for (tap, offset) in offsets(window).into_iter().enumerate() {
        let (tap, flat) = (e.int(tap), e.add(corner, offset));
        body(e, [tap, flat]);
    }
}

/// Whether every window lies inside the image.
pub fn covers(window: &Window) -> bool {
    window.interior() == window.output.map(|n| 0..n)
}
