//! The entry of a training image: checks of `dorefac_train`, and the two programs of a level.

use super::run::{at, calls, chains, emit_calls, emit_chained, flags, refuse_if};
use super::{Program, build, signature};
use crate::codegen::train::at as train_at;
use crate::codegen::{CodegenError, FunctionId, Image};
use cranelift_codegen::ir::condcodes::{FloatCC, IntCC};
use cranelift_codegen::ir::{InstBuilder, Value, types};
use cranelift_frontend::FunctionBuilder;

/// Bytes of `dorefac_train`.
const SIZE: i64 = 144;

/// Refuses a call without a training structure, state or labels.
pub(super) fn checks(b: &mut FunctionBuilder<'_>, call: Value) {
    let train = b.ins().load(types::I64, flags(), call, at::TRAIN);
    let null = b.ins().icmp_imm_s(IntCC::Equal, train, 0);
    refuse_if(b, null, -7);
    let size = b.ins().load(types::I32, flags(), train, 0);
    let short = b.ins().icmp_imm_u(IntCC::UnsignedLessThan, size, SIZE);
    refuse_if(b, short, -1);
    for offset in [train_at::STATE, train_at::LABELS] {
        let pointer = b.ins().load(types::I64, flags(), train, offset);
        let null = b.ins().icmp_imm_s(IntCC::Equal, pointer, 0);
        refuse_if(b, null, -6);
        if offset == train_at::STATE {
            let low = b.ins().band_imm_u(pointer, 63);
            refuse_if(b, low, -5);
        }
    }
    let gradients = b.ins().load(types::I64, flags(), train, train_at::GRADS);
    let low = b.ins().band_imm_u(gradients, 63);
    refuse_if(b, low, -5);
    // An evaluation has none.
    let bits = b.ins().load(types::I32, flags(), train, 4);
    let evaluating = b.ins().band_imm_u(bits, 2);
    let none = b.ins().iconst(types::I64, 0);
    let asked = b.ins().select(evaluating, gradients, none);
    refuse_if(b, asked, -7);
}

/// One level: the training step, or the evaluation where flag 2 is set.
pub(super) fn define_level(
    image: &mut Image,
    index: usize,
    programs: &[Program; 2],
    first_layer: i64,
    step: FunctionId,
) -> Result<FunctionId, CodegenError> {
    let [train, evaluate] = programs;
    let training = calls(image, &format!("{index}_train"), &train.steps, first_layer)?;
    let evaluation = calls(image, &format!("{index}_evaluate"), &evaluate.steps, first_layer + training.len() as i64)?;
    let (before, behind) = training.split_at(train.updates.min(training.len()));
    let (gradients, updates) = behind.split_at(train.gradients.min(behind.len()));
    let train_chains = chains(image, &format!("{index}_train"), before)?;
    let evaluation_chains = chains(image, &format!("{index}_evaluate"), &evaluation)?;
    let id = image.declare_function(format!("dorefac_level_{index}"));
    build(image, id, signature(&[types::I64], Some(types::I32)), |b, params| {
        let call = params[0];
        let state = b.ins().load(types::I64, flags(), call, at::TRAIN);
        let bits = b.ins().load(types::I32, flags(), state, 4);
        let evaluating = b.ins().band_imm_u(bits, 2);
        let (first, second) = (b.create_block(), b.create_block());
        b.ins().brif(evaluating, second, &[], first, &[]);
        b.switch_to_block(second);
        emit_chained(b, call, step, [&evaluation, &evaluation_chains], 1);
        report(b, call, state, evaluate);
        finish(b, 0);
        b.switch_to_block(first);
        emit_chained(b, call, step, [before, &train_chains], 1);
        report(b, call, state, train);
        refuse_infinite(b, call, state, train, first_layer);
        let asked = b.ins().load(types::I64, flags(), state, train_at::GRADS);
        let (write, go) = (b.create_block(), b.create_block());
        b.ins().brif(asked, write, &[], go, &[]);
        b.switch_to_block(write);
        emit_calls(b, call, step, gradients);
        b.ins().jump(go, &[]);
        b.switch_to_block(go);
        let keep = b.ins().band_imm_u(bits, 1);
        refuse_if(b, keep, 0);
        emit_calls(b, call, step, updates);
        finish(b, 0);
    })?;
    Ok(id)
}

fn finish(b: &mut FunctionBuilder<'_>, code: i64) {
    let code = b.ins().iconst(types::I32, code);
    b.ins().return_(&[code]);
}

/// Writes loss and count into `dorefac_train`.
fn report(b: &mut FunctionBuilder<'_>, call: Value, train: Value, program: &Program) {
    let arena = b.ins().load(types::I64, flags(), call, at::ARENA);
    let loss = b.ins().load(types::F32, flags(), arena, program.loss as i32);
    let loss = b.ins().fpromote(types::F64, loss);
    b.ins().store(flags(), loss, train, train_at::LOSS);
    let correct = b.ins().load(types::F32, flags(), arena, program.correct as i32);
    let correct = b.ins().fcvt_to_sint_sat(types::I64, correct);
    b.ins().store(flags(), correct, train, train_at::CORRECT);
    let none = b.ins().iconst(types::I32, -1);
    b.ins().store(flags(), none, train, train_at::BAD_STATE);
    b.ins().store(flags(), none, train, train_at::BAD_STATE + 4);
}

/// Returns −8 where a gradient or the loss is not finite, with the number of the first such state and of the layer (a step of
/// the training program) whose result it is.
fn refuse_infinite(b: &mut FunctionBuilder<'_>, call: Value, train: Value, program: &Program, first_layer: i64) {
    let arena = b.ins().load(types::I64, flags(), call, at::ARENA);
    for (i, &(state, step)) in program.flags.1.iter().enumerate() {
        let flag = b.ins().load(types::I32, flags(), arena, program.flags.0 as i32 + 4 * i as i32);
        let (bad, go) = (b.create_block(), b.create_block());
        b.set_cold_block(bad);
        b.ins().brif(flag, bad, &[], go, &[]);
        b.switch_to_block(bad);
        let state = b.ins().iconst(types::I32, i64::from(state));
        b.ins().store(flags(), state, train, train_at::BAD_STATE);
        let layer = b.ins().iconst(types::I32, first_layer + i64::from(step));
        b.ins().store(flags(), layer, train, train_at::BAD_STATE + 4);
        finish(b, -8);
        b.switch_to_block(go);
    }
    let loss = b.ins().load(types::F32, flags(), arena, program.loss as i32);
    let difference = b.ins().fsub(loss, loss);
    let zero = b.ins().f32const(0.0);
    let bad = b.ins().fcmp(FloatCC::NotEqual, difference, zero);
    refuse_if(b, bad, -8);
}
