//! `init_state(state, seed)`: the values of the file that was compiled, or those that a seed draws (`graph::draw`).

use super::run::{flags, refuse_if};
use super::{StateSpec, TrainSpec, build, signature};
use crate::codegen::train::mix;
use crate::codegen::{CodegenError, DataId, FunctionId, Image, import_data};
use crate::graph::draw::{self, Draw};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

/// Defines `init_state`. A null seed, or one of zeros, takes the file's values; else the first of its two numbers is the seed
/// of the draws. Momenta are zero either way.
pub(super) fn init_state(image: &mut Image, train: &TrainSpec) -> Result<FunctionId, CodegenError> {
    let states = train.states.iter().map(|state| (state, initial(image, state))).collect::<Vec<_>>();
    let id = image.declare_function("dorefac_init_state");
    build(image, id, signature(&[types::I64, types::I64], Some(types::I32)), |b, params| {
        let &[state, seed] = params else { return };
        let null = b.ins().icmp_imm_s(IntCC::Equal, state, 0);
        refuse_if(b, null, -6);
        let (given, drawn) = (b.create_block(), b.create_block());
        let numbers = b.create_block();
        b.ins().brif(seed, numbers, &[], given, &[]);
        b.switch_to_block(numbers);
        let [first, second] = [0, 8].map(|offset| b.ins().load(types::I64, flags(), seed, offset));
        let any = b.ins().bor(first, second);
        b.ins().brif(any, drawn, &[], given, &[]);
        b.switch_to_block(given);
        for (spec, data) in &states {
            copy(b, state, spec, *data);
        }
        finish(b);
        b.switch_to_block(drawn);
        for (spec, data) in &states {
            match spec.draw {
                None => copy(b, state, spec, *data),
                Some(draw) => elements(b, state, spec, |b, i| element(b, draw, &spec.name, first, i)),
            }
        }
        finish(b);
    })?;
    Ok(id)
}

fn finish(b: &mut FunctionBuilder<'_>) {
    let code = b.ins().iconst(types::I32, 0);
    b.ins().return_(&[code]);
}

/// The file's values; none where all are zero.
fn initial(image: &mut Image, state: &StateSpec) -> Option<DataId> {
    let bytes: Vec<u8> = state.initial.iter().flat_map(|v| v.to_le_bytes()).collect();
    bytes.iter().any(|&b| b != 0).then(|| image.add_data(format!("initial.{}", state.name), bytes, 64))
}

/// Writes every element of a state and zeros up to the next one.
fn elements(
    b: &mut FunctionBuilder<'_>,
    state: Value,
    spec: &StateSpec,
    mut value: impl FnMut(&mut FunctionBuilder<'_>, Value) -> Value,
) {
    let to = b.ins().iadd_imm_s(state, spec.offset as i64);
    let len = spec.initial.len();
    for (first, end, real) in [(0, len, true), (len, len.next_multiple_of(16), false)] {
        let (head, body, done) = (b.create_block(), b.create_block(), b.create_block());
        let i = b.append_block_param(head, types::I64);
        let start = b.ins().iconst(types::I64, first as i64);
        b.ins().jump(head, &[start.into()]);
        b.switch_to_block(head);
        let more = b.ins().icmp_imm_u(IntCC::UnsignedLessThan, i, end as i64);
        b.ins().brif(more, body, &[], done, &[]);
        b.switch_to_block(body);
        let v = if real { value(b, i) } else { b.ins().f32const(0.0) };
        let offset = b.ins().imul_imm_s(i, 4);
        let at = b.ins().iadd(to, offset);
        b.ins().store(flags(), v, at, 0);
        let next = b.ins().iadd_imm_s(i, 1);
        b.ins().jump(head, &[next.into()]);
        b.switch_to_block(done);
    }
}

fn copy(b: &mut FunctionBuilder<'_>, state: Value, spec: &StateSpec, from: Option<DataId>) {
    elements(b, state, spec, |b, i| match from {
        None => b.ins().f32const(0.0),
        Some(data) => {
            let global = import_data(b.func, data);
            let base = b.ins().symbol_value(types::I64, global);
            let offset = b.ins().imul_imm_s(i, 4);
            let at = b.ins().iadd(base, offset);
            b.ins().load(types::F32, flags(), at, 0)
        }
    });
}

/// Element `i` of the tensor `name`, as [`Draw::values`] has it.
fn element(b: &mut FunctionBuilder<'_>, draw: Draw, name: &str, seed: Value, i: Value) -> Value {
    let constant = |b: &mut FunctionBuilder<'_>, v: u64| b.ins().iconst(types::I64, v as i64);
    let hash = |b: &mut FunctionBuilder<'_>| {
        let (name, stride) = (constant(b, draw::name_hash(name)), constant(b, draw::STRIDE));
        let key = b.ins().iadd(seed, name);
        let key = mix(b, key);
        let distance = b.ins().imul(i, stride);
        let own = b.ins().iadd(key, distance);
        mix(b, own)
    };
    let v = match draw {
        Draw::Value(v) => return b.ins().f32const(v),
        Draw::Normal(spread) => {
            let h = hash(b);
            let mut sum = b.ins().ushr_imm_u(h, 48);
            for shift in [0, 16, 32] {
                let field = b.ins().ushr_imm_u(h, shift);
                let field = b.ins().band_imm_u(field, 0xffff);
                sum = b.ins().iadd(sum, field);
            }
            let sum = b.ins().fcvt_from_sint(types::F64, sum);
            let [unit, two, root, spread] = [65536.0, 2.0, 3f64.sqrt(), spread].map(|v| b.ins().f64const(v));
            let v = b.ins().fdiv(sum, unit);
            let v = b.ins().fsub(v, two);
            let v = b.ins().fmul(root, v);
            b.ins().fmul(v, spread)
        }
        Draw::Uniform(bound) => {
            let h = hash(b);
            let h = b.ins().ushr_imm_u(h, 11);
            let h = b.ins().fcvt_from_sint(types::F64, h);
            let [unit, least, width] = [(1u64 << 53) as f64, -bound, bound - -bound].map(|v| b.ins().f64const(v));
            let v = b.ins().fdiv(h, unit);
            let v = b.ins().fmul(width, v);
            b.ins().fadd(least, v)
        }
    };
    b.ins().fdemote(types::F32, v)
}
