//! Element-wise code on lanes. An operator is written once, as a piece of a [`program::Program`]; `clif` plays a program on
//! four lanes, `wide` on eight or sixteen. A `nest` is a program evaluated at every channel and
//! position, with what is stored or summed there.

pub mod clif;
pub mod nest;
pub mod operators;
pub mod program;
pub mod wide;

use super::emitter::Emitter;
use crate::graph::attrs::Attrs;
use cranelift_codegen::ir::condcodes::FloatCC;
use cranelift_codegen::ir::{InstBuilder, Value};
use program::{Level, Op, Program, Type};

/// The operator `op` on four lanes that the function has; `None` if it needs more than lanes, or operands are missing.
pub fn apply(e: &mut Emitter<'_, '_>, op: &str, attrs: &Attrs, inputs: &[Value]) -> Option<Value> {
    let mut program = Program::default();
    let given = |p: &mut Program, v: Value| {
        let ty = if e.b.func.dfg.value_type(v).lane_type().is_float() { Type::F32 } else { Type::I32 };
        p.push(Op::Given(v), ty, Level::Point)
    };
    let lanes: Vec<_> = inputs.iter().map(|&v| given(&mut program, v)).collect();
    let result = operators::apply(&mut program, op, attrs, &lanes)?;
    let mut played = clif::Played::default();
    let zero = e.int(0);
    played.play(e, &program, Level::Point, clif::Point { channel: zero, flat: zero, place: None });
    played.lanes(result)
}

/// cc(a, b) ? a : b.
pub fn pick(e: &mut Emitter<'_, '_>, cc: FloatCC, a: Value, b: Value) -> Value {
    let mask = e.b.ins().fcmp(cc, a, b);
    e.select(mask, a, b)
}
