//! Plays a lane program on four lanes, in CLIF: the reference of the wider forms.

use super::pick;
use super::program::{Access, Binary, Compare, Element, Lane, Level, Node, Op, Program, Type, Unary};
use crate::codegen::emitter::{Emitter, F32X4, I32X4};
use crate::codegen::functions;
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};

/// Where a program is played: four lanes from `channel` (or element) on.
#[derive(Clone, Copy)]
pub struct Point {
    /// The first of four channels; in a parameter the first of four elements.
    pub channel: Value,
    /// y·W + x; 0 in a parameter.
    pub flat: Value,
    /// (y, x) where they are at hand.
    pub place: Option<(Value, Value)>,
}

/// The values of a program as far as they were played.
#[derive(Clone, Debug, Default)]
pub struct Played {
    values: Vec<Option<Value>>,
    /// Columns of an image.
    pub width: usize,
}

impl Played {
    /// A program over an image of so many columns.
    pub fn of_width(width: usize) -> Played {
        Played { values: Vec::new(), width }
    }

    /// Computes what changes at `level`; what changes less often must have been played. Constants are written anew, so that
    /// they need no register between the levels. A task's values are computed once.
    pub fn play(&mut self, e: &mut Emitter<'_, '_>, program: &Program, level: Level, point: Point) {
        self.values.resize(program.nodes().len(), None);
        for v in program.lanes() {
            let node = program.node(v);
            let known = level == Level::Task && self.lanes(v).is_some();
            if (node.level == level && !known) || node.level == Level::Constant {
                let value = self.node(e, program, node, point);
                if let Some(slot) = self.values.get_mut(v.index()) {
                    *slot = value;
                }
            }
        }
    }

    /// The lanes of a value that was played.
    pub fn lanes(&self, v: Lane) -> Option<Value> {
        self.values.get(v.index()).copied().flatten()
    }

    fn node(&self, e: &mut Emitter<'_, '_>, program: &Program, node: Node, point: Point) -> Option<Value> {
        let get = |v: Lane| self.lanes(v);
        Some(match node.op {
            Op::Splat(bits) if node.ty == Type::F32 => e.splat_f32(f32::from_bits(bits)),
            Op::Splat(bits) => e.splat_i32(bits as i32),
            Op::Given(v) => v,
            Op::Scalar(v) => {
                let ty = e.b.func.dfg.value_type(v).by(4)?;
                e.b.ins().splat(ty, v)
            }
            Op::Load(at) if node.level == Level::Task => {
                let ty = if at.element == Element::F32 { F32X4 } else { I32X4 };
                let one = e.load(ty.lane_type(), at.base, at.origin as i32);
                e.b.ins().splat(ty, one)
            }
            Op::Load(at) => load(e, at, point, self.width),
            Op::Planar(base, channels, plane) => planar(e, base, channels, plane, point),
            Op::Channel => {
                let first = e.b.ins().ireduce(types::I32, point.channel);
                let first = e.b.ins().splat(I32X4, first);
                let numbers = e.data("numbers", (0..4u32).flat_map(u32::to_le_bytes).collect());
                let numbers = e.read(I32X4, numbers, 0);
                e.b.ins().iadd(first, numbers)
            }
            Op::Flat => {
                let flat = e.b.ins().ireduce(types::I32, point.flat);
                e.b.ins().splat(I32X4, flat)
            }
            Op::Binary(op, a, b) => binary(e, op, get(a)?, get(b)?),
            Op::Unary(op, a) => unary(e, op, get(a)?),
            Op::ShiftRight(a, by) => e.b.ins().ushr_imm_u(get(a)?, i64::from(by)),
            Op::Compare(op, a, b) => compare(e, op, program.ty(a) == Type::F32, get(a)?, get(b)?),
            Op::Both(a, b) => e.b.ins().band(get(a)?, get(b)?),
            Op::Select(mask, a, b) => e.select(get(mask)?, get(a)?, get(b)?),
            Op::Decode(levels, scale) => {
                let scale = e.b.ins().splat(types::F64X2, scale);
                let scaled = e.doubles(get(levels)?).map(|half| e.b.ins().fmul(half, scale));
                e.singles(scaled)
            }
            Op::Function(name, a) => functions::each_lane(e, name, get(a)?),
            Op::Power(a, b) => functions::each_pair(e, get(a)?, get(b)?),
        })
    }
}

fn binary(e: &mut Emitter<'_, '_>, op: Binary, a: Value, b: Value) -> Value {
    let bits = |e: &mut Emitter<'_, '_>, f: fn(&mut Emitter<'_, '_>, Value, Value) -> Value| {
        let ty = e.b.func.dfg.value_type(a);
        let (a, b) = (e.cast(I32X4, a), e.cast(I32X4, b));
        let v = f(e, a, b);
        e.cast(ty, v)
    };
    match op {
        Binary::Add => e.b.ins().fadd(a, b),
        Binary::Sub => e.b.ins().fsub(a, b),
        Binary::Mul => e.b.ins().fmul(a, b),
        Binary::Div => e.b.ins().fdiv(a, b),
        Binary::Less => pick(e, FloatCC::LessThan, a, b),
        Binary::Greater => pick(e, FloatCC::GreaterThan, a, b),
        Binary::IAdd => e.b.ins().iadd(a, b),
        Binary::ISub => e.b.ins().isub(a, b),
        Binary::IMul => e.b.ins().imul(a, b),
        Binary::And => bits(e, |e, a, b| e.b.ins().band(a, b)),
        Binary::Or => bits(e, |e, a, b| e.b.ins().bor(a, b)),
        Binary::Xor => bits(e, |e, a, b| e.b.ins().bxor(a, b)),
    }
}

fn unary(e: &mut Emitter<'_, '_>, op: Unary, a: Value) -> Value {
    match op {
        Unary::Neg => e.b.ins().fneg(a),
        Unary::Abs => e.b.ins().fabs(a),
        Unary::Sqrt => e.b.ins().sqrt(a),
        Unary::Nearest => e.b.ins().nearest(a),
        Unary::Floor => e.b.ins().floor(a),
        Unary::Ceil => e.b.ins().ceil(a),
        Unary::Trunc => e.b.ins().trunc(a),
        Unary::ToFloat => e.b.ins().fcvt_from_sint(F32X4, a),
        Unary::ToInteger => e.b.ins().fcvt_to_sint_sat(I32X4, a),
    }
}

fn compare(e: &mut Emitter<'_, '_>, op: Compare, floats: bool, a: Value, b: Value) -> Value {
    let (float, integer) = match op {
        Compare::Equal => (FloatCC::Equal, IntCC::Equal),
        Compare::Above => (FloatCC::GreaterThan, IntCC::SignedGreaterThan),
        Compare::AtLeast => (FloatCC::GreaterThanOrEqual, IntCC::SignedGreaterThanOrEqual),
    };
    if floats { e.b.ins().fcmp(float, a, b) } else { e.b.ins().icmp(integer, a, b) }
}

/// The address of four elements.
pub fn address(e: &mut Emitter<'_, '_>, at: Access, point: Point, width: usize) -> Value {
    let mut address = e.add(at.base, at.origin);
    if at.row == width * at.column {
        if at.column > 0 {
            address = e.at(address, point.flat, at.column);
        }
    } else {
        let columns = e.int(width);
        let divided =
            |e: &mut Emitter<'_, '_>| (e.b.ins().udiv(point.flat, columns), e.b.ins().urem(point.flat, columns));
        let (y, x) = point.place.unwrap_or_else(|| divided(e));
        address = e.at(address, y, at.row);
        address = e.at(address, x, at.column);
    }
    e.at(address, point.channel, at.element.size())
}

/// Loads four elements.
pub fn load(e: &mut Emitter<'_, '_>, at: Access, point: Point, width: usize) -> Value {
    let address = address(e, at, point, width);
    match at.element {
        Element::F32 => e.load(F32X4, address, 0),
        Element::I32 => e.load(I32X4, address, 0),
        Element::I16 => e.b.ins().sload16x4(MemFlagsData::new().with_notrap(), address, 0),
        Element::U8 => bytes(e, address),
    }
}

/// Loads four bytes, zero-extended.
pub fn bytes(e: &mut Emitter<'_, '_>, address: Value) -> Value {
    let four = e.load(types::I32, address, 0);
    let four = e.b.ins().scalar_to_vector(I32X4, four);
    let four = e.cast(types::I8X16, four);
    let four = e.b.ins().uwiden_low(four);
    e.b.ins().uwiden_low(four)
}

/// Floats of four planes; lanes beyond the last channel repeat it.
fn planar(e: &mut Emitter<'_, '_>, base: Value, channels: usize, plane: usize, point: Point) -> Value {
    let mut v = e.splat_f32(0.0);
    for lane in 0..channels.min(4) {
        let (channel, last) = (e.add(point.channel, lane), e.int(channels - 1));
        let channel = e.min(channel, last);
        let at = e.at(base, channel, plane);
        let at = e.at(at, point.flat, 4);
        let one = e.load(types::F32, at, 0);
        v = e.b.ins().insertlane(v, one, lane as u8);
    }
    v
}

/// Stores the first `valid` lanes.
pub fn store(e: &mut Emitter<'_, '_>, element: Element, v: Value, address: Value, valid: usize) {
    let v = match element {
        Element::F32 | Element::I32 => return e.store(v, address, 0),
        Element::I16 => e.b.ins().snarrow(v, v),
        Element::U8 => {
            let narrow = e.b.ins().snarrow(v, v);
            e.b.ins().unarrow(narrow, narrow)
        }
    };
    if valid == 4 {
        let all = e.cast(if element == Element::U8 { I32X4 } else { types::I64X2 }, v);
        let all = e.b.ins().extractlane(all, 0);
        return e.store(all, address, 0);
    }
    for lane in 0..valid {
        let one = e.b.ins().extractlane(v, lane as u8);
        e.store(one, address, (lane * element.size()) as i32);
    }
}
