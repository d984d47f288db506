//! Operators that move elements or fold them. Concat, slice, pad and transpose of images copy boxes of channels, rows and
//! columns from maps to maps: four channels a copy where channels stay channels, else one element. Everything else gathers
//! one element of the result after another, with inference's kernel.

use super::Frame;
use super::pools::Area;
use crate::codegen::emitter::{Emitter, F32X4};
use crate::codegen::kernels::{Gather, Operand};
use crate::graph::types::ValueType;
use crate::graph::{Node, Value as GraphValue};
use crate::lower::train::{Form, Slot};
use cranelift_codegen::ir::{Type, Value, types};

/// Channel, row and column.
type Point = [usize; 3];

/// A box that is copied.
struct Copy {
    extents: Point,
    /// Its first element in the operand and in the result.
    from: Point,
    to: Point,
    /// The operand's axis that becomes each axis of the result.
    axes: Point,
}

impl Copy {
    /// A box of `extents` at the same place in both.
    fn of(extents: Point) -> Copy {
        Copy { extents, from: [0; 3], to: [0; 3], axes: [0, 1, 2] }
    }

    fn emit(&self, e: &mut Emitter<'_, '_>, source: &Area<'_>, target: &Area<'_>) {
        let [channels, height, width] = self.extents;
        // Whole vectors, which fill what lies behind the channels too, as far as a position reaches; then one by one.
        let (fours, all) = if self.axes[0] == 0 {
            let all = channels.next_multiple_of(4).min(target.maps.pitch - self.to[0]);
            (all / 4, all)
        } else {
            (0, channels)
        };
        e.times(height, |e, y| {
            e.times(width, |e, x| {
                let copy = |e: &mut Emitter<'_, '_>, c: Value, ty: Type| {
                    let point = [c, y, x];
                    let from = address(e, source, point, self.from);
                    let to = address(e, target, self.axes.map(|axis| point[axis]), self.to);
                    let v = e.load(ty, from, 0);
                    e.store(v, to, 0);
                };
                e.times(fours, |e, i| {
                    let c = e.mul(i, 4);
                    copy(e, c, F32X4);
                });
                e.times(all - 4 * fours, |e, i| {
                    let c = e.add(i, 4 * fours);
                    copy(e, c, types::F32);
                });
            });
        });
    }
}

fn address(e: &mut Emitter<'_, '_>, area: &Area<'_>, point: [Value; 3], first: Point) -> Value {
    let [c, y, x] = [0, 1, 2].map(|i| e.add(point[i], first[i]));
    let flat = e.at(x, y, area.maps.image[1]);
    area.at(e, flat, c)
}

/// Emits an operator of `lower::GATHERS`.
///
/// # Errors
/// When an operand lies in a form of its own.
pub fn emit(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, node: &Node) -> Result<&'static str, String> {
    match node.op.name {
        "concat" | "slice" | "pad" | "transpose" if images(frame, node) => copies(e, frame, node).map(|()| "move"),
        "reshape" => reshape(e, frame, node),
        _ => gathered(e, frame, node),
    }
}

/// A reshape, in C, H, W order: between an image and its elements as channels without a division.
fn reshape(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, node: &Node) -> Result<&'static str, String> {
    let own = GraphValue { node: node.id, port: 0 };
    let from = frame.operand(node, 0)?;
    let image =
        |v: GraphValue| frame.graph.value_type(v).and_then(|t| t.shape.stored()).ok_or("moves values with a batch");
    let ((c, h, w), (oc, oh, ow)) = (image(from)?, image(own)?);
    let (Form::Maps(a), Form::Maps(b)) = (&frame.buffer(Slot::own(from))?.form, &frame.buffer(Slot::own(own))?.form)
    else {
        return gathered(e, frame, node);
    };
    // Element i of the sample lies at channel i / area, position i mod area of both.
    if [h * w, oh * ow].iter().all(|&n| n > 1) {
        return gathered(e, frame, node);
    }
    let (src, dst) = (frame.base(e, Slot::own(from))?, frame.base(e, Slot::own(own))?);
    let (channels, area, flat_is_source) = if oh * ow == 1 { (c, h * w, false) } else { (oc, oh * ow, true) };
    e.times(channels, |e, channel| {
        e.times(area, |e, p| {
            let element = e.at(p, channel, area);
            let pixel = if flat_is_source { b.pixel() } else { a.pixel() };
            let image = e.at(if flat_is_source { dst } else { src }, p, pixel);
            let image = e.at(image, channel, 4);
            let vector = e.at(if flat_is_source { src } else { dst }, element, 4);
            let (from, to) = if flat_is_source { (vector, image) } else { (image, vector) };
            let v = e.load(types::I32, from, 0);
            e.store(v, to, 0);
        });
    });
    Ok("reshape")
}

/// Whether all operands and the result are images in maps.
fn images(frame: &Frame<'_>, node: &Node) -> bool {
    let own = GraphValue { node: node.id, port: 0 };
    let image = |v: GraphValue| {
        let maps = frame.buffer(Slot::own(v)).is_ok_and(|b| matches!(b.form, Form::Maps(_)));
        maps && frame.graph.value_type(v).is_some_and(|t| t.shape.image().is_some())
    };
    frame.graph.operands(node.id).into_iter().chain([own]).all(image)
}

/// How a value lies that is read or written element by element.
fn operand(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, value: GraphValue) -> Result<Operand, String> {
    let slot = Slot::own(value);
    let base = frame.base(e, slot)?;
    let image = frame.graph.value_type(value).and_then(stored).ok_or("a value has no shape")?;
    match &frame.buffer(slot)?.form {
        Form::Maps(maps) => Ok(Operand::floats(base, image, Some(maps.pitch))),
        Form::Image(4) | Form::Floats(_) => Ok(Operand::floats(base, image, None)),
        _ => Err("reads floats".to_owned()),
    }
}

/// Channels, height and width of a sample, or of a parameter: its elements as channels.
fn stored(ty: &ValueType) -> Option<(usize, usize, usize)> {
    ty.shape.stored().or_else(|| Some((ty.shape.sample_len()?, 1, 1)))
}

/// One element after another.
fn gathered(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, node: &Node) -> Result<&'static str, String> {
    let own = GraphValue { node: node.id, port: 0 };
    let operands = frame.graph.operands(node.id);
    let inputs = operands.into_iter().map(|v| operand(e, frame, v)).collect::<Result<Vec<_>, _>>()?;
    let image @ (channels, height, width) = node.types.first().and_then(stored).ok_or("has no shape")?;
    let base = frame.base(e, Slot::own(own))?;
    let pixel = if let Form::Maps(maps) = &frame.buffer(Slot::own(own))?.form { maps.pixel() } else { 0 };
    let gather = Gather::new(e, frame.graph, node, inputs, image)?;
    e.times(height, |e, y| {
        e.times(width, |e, x| {
            let flat = e.at(x, y, width);
            let at = e.at(base, flat, pixel);
            e.times(channels, |e, c| {
                let v = gather.element(e, [c, y, x]);
                let to = e.at(at, c, 4);
                e.store(v, to, 0);
            });
        });
    });
    Ok("gather")
}

/// Boxes of images.
fn copies(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, node: &Node) -> Result<(), String> {
    let target = Area::new(e, frame, GraphValue { node: node.id, port: 0 })?;
    let operands = frame.graph.operands(node.id);
    let sources = operands.iter().map(|&v| Ok((extents(frame, v)?, Area::new(e, frame, v)?)));
    let sources = sources.collect::<Result<Vec<_>, String>>()?;
    let first = sources.first().ok_or("has no operand")?;
    let place = |axis: i64| usize::try_from(axis - 1).ok().filter(|&i| i < 3).ok_or("moves the batch");
    match node.op.name {
        "concat" => {
            let axis = place(node.attrs.int("axis", 1))?;
            let mut start = 0;
            // In this order: what four channels write beyond the last one, the next operand writes again.
            for (extents, source) in &sources {
                let mut copy = Copy::of(*extents);
                copy.to[axis] = start;
                start += extents[axis];
                copy.emit(e, source, &target);
            }
        }
        "slice" => {
            let mut copy = Copy::of(extents(frame, GraphValue { node: node.id, port: 0 })?);
            copy.from[place(node.attrs.int("axis", 1))?] = node.attrs.int("start", 0).max(0) as usize;
            copy.emit(e, &first.1, &target);
        }
        "pad" => {
            let before = |i: usize| node.attrs.ints("pads").get(i).map_or(0, |&p| p.max(0) as usize);
            let value = e.splat_f32(node.attrs.float("value", 0.0));
            e.times((target.maps.bytes()) / 16, |e, i| {
                let at = e.at(target.base, i, 16);
                e.store(value, at, 0);
            });
            Copy { to: [0, before(0), before(1)], ..Copy::of(first.0) }.emit(e, &first.1, &target);
        }
        "transpose" => {
            let axes = node.attrs.ints("perm").iter().skip(1).map(|&p| place(p)).collect::<Result<Vec<_>, _>>()?;
            let axes = Point::try_from(axes).map_err(|_| "transposes values that are no images")?;
            Copy { axes, ..Copy::of(first.0) }.emit(e, &first.1, &target);
        }
        other => return Err(format!("{other} has no kernel in a training step")),
    }
    Ok(())
}

/// Channels, height and width of an image (a matrix is one of a single position).
fn extents(frame: &Frame<'_>, value: GraphValue) -> Result<Point, String> {
    let image = frame.graph.value_type(value).and_then(|t| t.shape.image());
    image.map(|(c, h, w)| [c, h, w]).ok_or_else(|| "moves images and matrices only; reshape before it".to_owned())
}
