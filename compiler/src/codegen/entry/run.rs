//! `run`: checks of the call, the choice of the level, its steps.

use super::super::{CodegenError, FunctionId, Image, import_function, stubs};
use super::{ModelSpec, Order, StepSpec, TaskCount, build, signature};
pub(super) use crate::codegen::call as at;
use crate::codegen::shares::MANY;
use crate::codegen::target::Arch;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{FuncRef, InstBuilder, MemFlagsData, Value, types};
use cranelift_frontend::FunctionBuilder;

pub(super) fn flags() -> MemFlagsData {
    MemFlagsData::trusted()
}

/// Returns `code` if `bad` is not zero, else goes on.
pub(super) fn refuse_if(b: &mut FunctionBuilder<'_>, bad: Value, code: i64) {
    let (fail, go) = (b.create_block(), b.create_block());
    b.set_cold_block(fail);
    b.ins().brif(bad, fail, &[], go, &[]);
    b.switch_to_block(fail);
    let code = b.ins().iconst(types::I32, code);
    b.ins().return_(&[code]);
    b.switch_to_block(go);
}

/// Defines `dorefac_run` with the floating-point mode around it.
pub(super) fn define(image: &mut Image, spec: &ModelSpec, cpu: FunctionId) -> Result<FunctionId, CodegenError> {
    let step = define_step(image)?;
    let mut levels = Vec::new();
    let mut first_layer = 0;
    for (index, level) in spec.levels.iter().enumerate() {
        let function = match &level.programs {
            None => define_level(image, index, &level.steps, first_layer, step)?,
            Some(programs) => super::train::define_level(image, index, programs, first_layer, step)?,
        };
        levels.push((level.level.features, function));
        if !spec.one_table() {
            first_layer += level.steps.len() as i64;
        }
    }
    let inner = image.declare_function("dorefac_run_checked");
    let arch = image.arch;
    build(image, inner, signature(&[types::I64], Some(types::I32)), |b, params| {
        let call = params[0];
        checks(b, spec, call);
        if spec.train.is_some() {
            super::train::checks(b, call);
        }
        choose(b, &levels, call, cpu, arch);
    })?;
    stubs::wrap_mode(image, "dorefac_run".to_owned(), inner)
}

fn checks(b: &mut FunctionBuilder<'_>, spec: &ModelSpec, call: Value) {
    let null = b.ins().icmp_imm_s(IntCC::Equal, call, 0);
    refuse_if(b, null, -6);
    let abi = b.ins().load(types::I32, flags(), call, at::ABI);
    let wrong = b.ins().icmp_imm_s(IntCC::NotEqual, abi, 1);
    refuse_if(b, wrong, -1);
    let size = b.ins().load(types::I32, flags(), call, at::SIZE);
    let short = b.ins().icmp_imm_u(IntCC::UnsignedLessThan, size, at::STRUCT);
    refuse_if(b, short, -1);
    for (offset, count) in [(at::INPUTS, spec.inputs.len()), (at::OUTPUTS, spec.outputs.len())] {
        if count == 0 {
            continue;
        }
        let array = b.ins().load(types::I64, flags(), call, offset);
        let null = b.ins().icmp_imm_s(IntCC::Equal, array, 0);
        refuse_if(b, null, -6);
        for i in 0..count {
            let pointer = b.ins().load(types::I64, flags(), array, 8 * i as i32);
            let null = b.ins().icmp_imm_s(IntCC::Equal, pointer, 0);
            refuse_if(b, null, -6);
        }
    }
    let batch = b.ins().load(types::I64, flags(), call, at::BATCH);
    let below = b.ins().iadd_imm_s(batch, -1);
    let out = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, below, spec.max_batch() as i64);
    refuse_if(b, out, -3);
    if spec.arena_fixed == 0 && spec.arena_per_sample == 0 && spec.arena_per_worker == 0 {
        return;
    }
    let arena = b.ins().load(types::I64, flags(), call, at::ARENA);
    let null = b.ins().icmp_imm_s(IntCC::Equal, arena, 0);
    refuse_if(b, null, -6);
    let low = b.ins().band_imm_u(arena, 63);
    refuse_if(b, low, -5);
    let workers = b.ins().uload32(flags(), call, at::WORKERS);
    let one = b.ins().iconst(types::I64, 1);
    let workers = b.ins().umax(workers, one);
    let of_batch = b.ins().imul_imm_s(batch, spec.arena_per_sample as i64);
    let of_workers = b.ins().imul_imm_s(workers, spec.arena_per_worker as i64);
    let need = b.ins().iadd(of_batch, of_workers);
    let need = b.ins().iadd_imm_s(need, spec.arena_fixed as i64);
    let have = b.ins().load(types::I64, flags(), call, at::ARENA_SIZE);
    let short = b.ins().icmp(IntCC::UnsignedLessThan, have, need);
    refuse_if(b, short, -4);
}

/// Runs the last level whose features are all there.
fn choose(b: &mut FunctionBuilder<'_>, levels: &[(u64, FunctionId)], call: Value, cpu: FunctionId, arch: Arch) {
    let given = b.ins().load(types::I64, flags(), call, at::FEATURES);
    let mut features = given;
    if arch == Arch::X86_64 && levels.iter().any(|l| l.0 != 0) {
        let (detect, go) = (b.create_block(), b.create_block());
        let mask = b.append_block_param(go, types::I64);
        b.ins().brif(given, go, &[given.into()], detect, &[]);
        b.switch_to_block(detect);
        let cpu = import_function(b.func, cpu, signature(&[types::I64, types::I64], Some(types::I64)));
        let detected = b.ins().call(cpu, &[given, given]);
        let detected = b.inst_results(detected)[0];
        b.ins().jump(go, &[detected.into()]);
        b.switch_to_block(go);
        features = mask;
    }
    for (index, (required, function)) in levels.iter().enumerate().rev() {
        let missing = b.ins().bnot(features);
        let required = b.ins().iconst(types::I64, *required as i64);
        let missing = b.ins().band(missing, required);
        let (fits, next) = (b.create_block(), b.create_block());
        b.ins().brif(missing, next, &[], fits, &[]);
        b.switch_to_block(fits);
        let number = b.ins().iconst(types::I32, index as i64);
        b.ins().store(flags(), number, call, at::LEVEL);
        let function = import_function(b.func, *function, signature(&[types::I64], Some(types::I32)));
        let result = b.ins().call(function, &[call]);
        let result = b.inst_results(result)[0];
        b.ins().return_(&[result]);
        b.switch_to_block(next);
    }
    let code = b.ins().iconst(types::I32, -2);
    b.ins().return_(&[code]);
}

/// The steps of one level, in order.
fn define_level(
    image: &mut Image,
    index: usize,
    steps: &[StepSpec],
    first_layer: i64,
    step: FunctionId,
) -> Result<FunctionId, CodegenError> {
    let calls = calls(image, &format!("{index}"), steps, first_layer)?;
    let chains = chains(image, &format!("{index}"), &calls)?;
    let id = image.declare_function(format!("dorefac_level_{index}"));
    build(image, id, signature(&[types::I64], Some(types::I32)), |b, params| {
        emit_chained(b, params[0], step, [&calls, &chains], MANY);
        let ok = b.ins().iconst(types::I32, 0);
        b.ins().return_(&[ok]);
    })?;
    Ok(id)
}

/// One step as the level's function calls it.
#[derive(Clone)]
pub(super) struct StepCall {
    layer: i64,
    task: FunctionId,
    wrapped: FunctionId,
    tasks: TaskCount,
    order: Order,
    /// Tasks before those.
    more: u64,
}

/// Wraps the task functions of `steps`.
pub(super) fn calls(
    image: &mut Image,
    label: &str,
    steps: &[StepSpec],
    first_layer: i64,
) -> Result<Vec<StepCall>, CodegenError> {
    let mut calls = Vec::with_capacity(steps.len());
    for (number, s) in steps.iter().enumerate() {
        let wrapped = stubs::wrap_mode(image, format!("dorefac_task_{label}_{number}"), s.task)?;
        calls.push(StepCall {
            layer: first_layer + number as i64,
            task: s.task,
            wrapped,
            tasks: s.tasks,
            order: s.order,
            more: 0,
        });
    }
    Ok(calls)
}

/// The steps with each run of those that take samples apart made one, which does all for a sample while its values are in
/// the cache, and a step that may go on at the same time as the run behind it made one with that. There is no hook between
/// steps that are one.
pub(super) fn chains(image: &mut Image, label: &str, calls: &[StepCall]) -> Result<Vec<StepCall>, CodegenError> {
    let mut chained = Vec::new();
    for run in calls.chunk_by(|a, b| a.order == Order::Apart && b.order == Order::Apart) {
        let [first, _, ..] = run else {
            chained.extend(run.iter().cloned());
            continue;
        };
        let name = format!("dorefac_chain_{label}_{}", first.layer);
        let parameters = [types::I64, types::I64, types::I32];
        let task = image.declare_function(&name);
        build(image, task, signature(&parameters, None), |b, params| {
            for step in run {
                let task = import_function(b.func, step.task, signature(&parameters, None));
                let shares = match step.tasks {
                    TaskCount::Shared(shares) => shares.of(b, params[0]),
                    TaskCount::PerSample(n) if n > 1 => b.ins().iconst(types::I64, n as i64),
                    _ => {
                        b.ins().call(task, params);
                        continue;
                    }
                };
                parts(b, task, params, shares);
            }
            b.ins().return_(&[]);
        })?;
        let wrapped = stubs::wrap_mode(image, format!("{name}_task"), task)?;
        chained.push(StepCall { task, wrapped, tasks: TaskCount::PerSample(1), ..first.clone() });
    }
    let mut all: Vec<StepCall> = Vec::new();
    for call in chained {
        match all.pop() {
            Some(StepCall { order: Order::Beside, tasks: TaskCount::Fixed(more), task, layer, .. })
                if call.order == Order::Apart =>
            {
                let name = format!("dorefac_beside_{label}_{layer}");
                all.push(StepCall { layer, more, ..beside(image, &name, (task, more), &call)? });
            }
            before => all.extend(before.into_iter().chain([call])),
        }
    }
    Ok(all)
}

/// Calls the `n` tasks of sample `params[1]`.
fn parts(b: &mut FunctionBuilder<'_>, task: FuncRef, params: &[Value], n: Value) {
    let first = b.ins().imul(params[1], n);
    let end = b.ins().iadd(first, n);
    let (body, done) = (b.create_block(), b.create_block());
    b.ins().jump(body, &[first.into()]);
    let i = b.append_block_param(body, types::I64);
    b.switch_to_block(body);
    b.ins().call(task, &[params[0], i, params[2]]);
    let next = b.ins().iadd_imm_s(i, 1);
    let more = b.ins().icmp(IntCC::UnsignedLessThan, next, end);
    b.ins().brif(more, body, &[next.into()], done, &[]);
    b.switch_to_block(done);
}

/// The first tasks are those of a step, the others those of the run behind it.
fn beside(
    image: &mut Image,
    name: &str,
    (first, more): (FunctionId, u64),
    run: &StepCall,
) -> Result<StepCall, CodegenError> {
    let parameters = [types::I64, types::I64, types::I32];
    let task = image.declare_function(name);
    build(image, task, signature(&parameters, None), |b, params| {
        let (own, theirs) = (b.create_block(), b.create_block());
        let before = b.ins().icmp_imm_u(IntCC::UnsignedLessThan, params[1], more as i64);
        let rest = b.ins().iadd_imm_s(params[1], -(more as i64));
        b.ins().brif(before, own, &[], theirs, &[]);
        for (block, function, i) in [(own, first, params[1]), (theirs, run.task, rest)] {
            b.switch_to_block(block);
            let function = import_function(b.func, function, signature(&parameters, None));
            b.ins().call(function, &[params[0], i, params[2]]);
            b.ins().return_(&[]);
        }
    })?;
    let wrapped = stubs::wrap_mode(image, format!("{name}_task"), task)?;
    Ok(StepCall { task, wrapped, ..run.clone() })
}

/// Calls the steps in order, or in chains where no hook asks for what each step made and the batch is `least` samples or more.
pub(super) fn emit_chained(
    b: &mut FunctionBuilder<'_>,
    call: Value,
    step: FunctionId,
    [calls, chains]: [&[StepCall]; 2],
    least: i64,
) {
    if calls.len() == chains.len() {
        return emit_calls(b, call, step, calls);
    }
    let hook = b.ins().load(types::I64, flags(), call, at::PROFILE);
    let batch = b.ins().load(types::I64, flags(), call, at::BATCH);
    let few = b.ins().icmp_imm_u(IntCC::UnsignedLessThan, batch, least);
    let few = b.ins().uextend(types::I64, few);
    let apart = b.ins().bor(hook, few);
    let (each, together, done) = (b.create_block(), b.create_block(), b.create_block());
    b.ins().brif(apart, each, &[], together, &[]);
    for (block, calls) in [(each, calls), (together, chains)] {
        b.switch_to_block(block);
        emit_calls(b, call, step, calls);
        b.ins().jump(done, &[]);
    }
    b.switch_to_block(done);
}

/// Calls the steps in order.
pub(super) fn emit_calls(b: &mut FunctionBuilder<'_>, call: Value, step: FunctionId, calls: &[StepCall]) {
    let batch = b.ins().load(types::I64, flags(), call, at::BATCH);
    let step = import_function(b.func, step, signature(&[types::I64; 5], None));
    for s in calls {
        let n = match s.tasks {
            TaskCount::PerSample(n) => b.ins().imul_imm_s(batch, n as i64),
            TaskCount::Fixed(n) => b.ins().iconst(types::I64, n as i64),
            TaskCount::Shared(shares) => {
                let shares = shares.of(b, call);
                b.ins().imul(batch, shares)
            }
        };
        let n = b.ins().iadd_imm_s(n, s.more as i64);
        let layer = b.ins().iconst(types::I64, s.layer);
        let task = signature(&[types::I64, types::I64, types::I32], None);
        let raw = import_function(b.func, s.task, task.clone());
        let raw = b.ins().func_addr(types::I64, raw);
        let wrapped = import_function(b.func, s.wrapped, task);
        let wrapped = b.ins().func_addr(types::I64, wrapped);
        b.ins().call(step, &[call, layer, n, wrapped, raw]);
    }
}

/// `step(call, layer, n, wrapped task, task)`: profile hook, all tasks, profile hook.
fn define_step(image: &mut Image) -> Result<FunctionId, CodegenError> {
    let id = image.declare_function("dorefac_step");
    build(image, id, signature(&[types::I64; 5], None), |b, params| {
        let (call, layer, n, wrapped, raw) = (params[0], params[1], params[2], params[3], params[4]);
        let layer = b.ins().ireduce(types::I32, layer);
        profile(b, call, layer, 0);
        let (parallel, serial, head, body, done) =
            (b.create_block(), b.create_block(), b.create_block(), b.create_block(), b.create_block());
        let hook = b.ins().load(types::I64, flags(), call, at::PARALLEL_FOR);
        b.ins().brif(hook, parallel, &[], serial, &[]);
        b.switch_to_block(parallel);
        let pool = b.ins().load(types::I64, flags(), call, at::POOL);
        let sig = b.import_signature(signature(&[types::I64; 4], None));
        b.ins().call_indirect(sig, hook, &[pool, wrapped, call, n]);
        b.ins().jump(done, &[]);
        b.switch_to_block(serial);
        let zero = b.ins().iconst(types::I64, 0);
        b.ins().jump(head, &[zero.into()]);
        let i = b.append_block_param(head, types::I64);
        b.switch_to_block(head);
        let more = b.ins().icmp(IntCC::UnsignedLessThan, i, n);
        b.ins().brif(more, body, &[], done, &[]);
        b.switch_to_block(body);
        let worker = b.ins().iconst(types::I32, 0);
        let sig = b.import_signature(signature(&[types::I64, types::I64, types::I32], None));
        b.ins().call_indirect(sig, raw, &[call, i, worker]);
        let next = b.ins().iadd_imm_s(i, 1);
        b.ins().jump(head, &[next.into()]);
        b.switch_to_block(done);
        profile(b, call, layer, 1);
        b.ins().return_(&[]);
    })?;
    Ok(id)
}

fn profile(b: &mut FunctionBuilder<'_>, call: Value, layer: Value, phase: i64) {
    let (hooked, go) = (b.create_block(), b.create_block());
    let hook = b.ins().load(types::I64, flags(), call, at::PROFILE);
    b.ins().brif(hook, hooked, &[], go, &[]);
    b.switch_to_block(hooked);
    let ctx = b.ins().load(types::I64, flags(), call, at::PROFILE_CTX);
    let phase = b.ins().iconst(types::I32, phase);
    let sig = b.import_signature(signature(&[types::I64, types::I32, types::I32], None));
    b.ins().call_indirect(sig, hook, &[ctx, layer, phase]);
    b.ins().jump(go, &[]);
    b.switch_to_block(go);
}
