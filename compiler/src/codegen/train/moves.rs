//! Operators that move the elements of images: concat, slice, pad and transpose. Each copies boxes of channels, rows and
//! columns from maps to maps. Cost: four channels a copy where channels stay channels, else one element.

use super::Frame;
use super::pools::Area;
use crate::codegen::emitter::{Emitter, F32X4};
use crate::graph::{Node, Value as GraphValue};
use cranelift_codegen::ir::{Value, types};

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
        let whole = self.axes[0] == 0;
        e.times(height, |e, y| {
            e.times(width, |e, x| {
                e.times(if whole { channels.div_ceil(4) } else { channels }, |e, c| {
                    let c = if whole { e.mul(c, 4) } else { c };
                    let point = [c, y, x];
                    let from = address(e, source, point, self.from);
                    let to = address(e, target, self.axes.map(|axis| point[axis]), self.to);
                    let v = e.load(if whole { F32X4 } else { types::F32 }, from, 0);
                    e.store(v, to, 0);
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

/// Emits `concat`, `slice`, `pad` or `transpose`.
///
/// # Errors
/// When the values are no images, or the operator has another form.
pub fn emit(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, node: &Node) -> Result<&'static str, String> {
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
    Ok("move")
}

/// Channels, height and width of an image (a matrix is one of a single position).
fn extents(frame: &Frame<'_>, value: GraphValue) -> Result<Point, String> {
    let image = frame.graph.value_type(value).and_then(|t| t.shape.image());
    image.map(|(c, h, w)| [c, h, w]).ok_or_else(|| "moves images and matrices only; reshape before it".to_owned())
}
