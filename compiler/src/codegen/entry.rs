//! The entry of a model: the functions `run`, `cpu`, `prepare`, `init_state` and the descriptor that leads to them.
//!
//! The layout of the structures is that of `emit/dorefac.h`. Must never know: what the tasks compute.

mod cpu;
mod descriptor;
mod run;
mod state;
#[cfg(test)]
pub(crate) mod tests;
mod train;

use super::shares::Shares;
use super::target::Level;
use super::{CodegenError, FunctionId, Image, base_isa, stubs};
use crate::graph::draw::Draw;
use cranelift_codegen::Context;
use cranelift_codegen::ir::{AbiParam, Function, InstBuilder, Signature, Type, Value, types};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

/// The name of the descriptor's data object.
pub const DESCRIPTOR: &str = "dorefac_model";

/// One input or output.
#[derive(Clone, Debug)]
pub struct TensorSpec {
    /// Unique among inputs or outputs.
    pub name: String,
    /// `DOREFAC_F32` ….
    pub dtype: u32,
    /// At most 6; the first is −1, the batch.
    pub dims: Vec<i64>,
}

/// How many independent calls a step's task function gets.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum TaskCount {
    /// So many a sample of the batch.
    PerSample(u64),
    /// As many a sample as each call shares it out.
    Shared(Shares),
    /// So many whatever the batch.
    Fixed(u64),
}

impl TaskCount {
    /// The number given.
    fn most(self) -> u64 {
        match self {
            TaskCount::PerSample(n) | TaskCount::Fixed(n) => n,
            TaskCount::Shared(shares) => shares.most(),
        }
    }
}

/// What a step's calls need of those of its neighbours.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Order {
    /// All of them between those of the step before and those of the step behind.
    Alone,
    /// The calls of sample i read and write what belongs to that sample alone, and what no such step writes.
    Apart,
    /// The same as for [`Order::Alone`], but the steps with calls apart that follow may go on at the same time.
    Beside,
}

/// A tensor of the training state.
#[derive(Clone, Debug)]
pub struct StateSpec {
    /// Unique.
    pub name: String,
    /// Byte in the state, a multiple of 64.
    pub offset: u64,
    /// What it is: the number of `dorefac_state`.
    pub role: u32,
    /// Extents.
    pub dims: Vec<i64>,
    /// What `init_state` writes without a seed.
    pub initial: Vec<f32>,
    /// How it draws from a seed; where absent it writes `initial` then too.
    pub draw: Option<Draw>,
}

/// What a training image has besides steps.
#[derive(Clone, Debug, Default)]
pub struct TrainSpec {
    /// The state.
    pub states: Vec<StateSpec>,
    /// Its bytes.
    pub state_bytes: u64,
}

/// Steps that end with a loss.
#[derive(Clone, Debug)]
pub struct Program {
    /// In order of execution.
    pub steps: Vec<StepSpec>,
    /// The first step behind loss and scores.
    pub updates: usize,
    /// So many steps from there on write the caller's gradients; those behind them change the state.
    pub gradients: usize,
    /// Bytes in the arena of the mean loss and of the number of samples right, both f32.
    pub loss: u64,
    /// See `loss`.
    pub correct: u64,
    /// Flags (i32 each, from this byte of the arena) of gradients that are not finite, with the numbers of state and step of each.
    pub flags: (u64, Vec<(u32, u32)>),
}

/// One step of a level: independent calls of `task`.
#[derive(Clone, Debug)]
pub struct StepSpec {
    /// The layer.
    pub name: String,
    /// The kernel chosen.
    pub kernel: String,
    /// `fn(call: *mut dorefac_call, i: u64, worker: u32)`.
    pub task: FunctionId,
    /// Its calls.
    pub tasks: TaskCount,
    /// When.
    pub order: Order,
    /// Multiply-accumulates per sample.
    pub macs: u64,
    /// Bytes moved per sample.
    pub bytes: u64,
    /// Of the result in the arena.
    pub arena_offset: u64,
    /// Of the result.
    pub dtype: u32,
    /// Of the result.
    pub layout: u32,
}

/// The code of one level.
#[derive(Clone, Debug)]
pub struct LevelSpec {
    /// What it may use.
    pub level: Level,
    /// In order of execution; of a training image: those of the training step, then those of the evaluation.
    pub steps: Vec<StepSpec>,
    /// The training step and the evaluation, of a training image.
    pub programs: Option<[Program; 2]>,
}

/// Everything that the entry and descriptor hold.
#[derive(Clone, Debug)]
pub struct ModelSpec {
    /// In order of the call's pointers.
    pub inputs: Vec<TensorSpec>,
    /// In order of the call's pointers.
    pub outputs: Vec<TensorSpec>,
    /// Ascending: the last that fits runs.
    pub levels: Vec<LevelSpec>,
    /// Arena bytes whatever the batch.
    pub arena_fixed: u64,
    /// Arena bytes per sample.
    pub arena_per_sample: u64,
    /// Arena bytes per worker.
    pub arena_per_worker: u64,
    /// Names, labels, preprocessing, layouts.
    pub metadata_json: String,
    /// Of graph, weights and options.
    pub graph_hash: u64,
    /// The numeric profile: whether multiply and add are fused.
    pub fma: bool,
    /// Of a training image.
    pub train: Option<TrainSpec>,
}

impl ModelSpec {
    /// The largest batch whose arena size and task count cannot overflow.
    fn max_batch(&self) -> u64 {
        let tasks = self.levels.iter().flat_map(|l| &l.steps).map(|s| s.tasks.most()).max().unwrap_or(1);
        ((1 << 46) / self.arena_per_sample.max(tasks).max(1)).clamp(1, 1 << 30)
    }

    /// Whether all levels show the same layers, so that one table serves.
    fn one_table(&self) -> bool {
        let same = |a: &StepSpec, b: &StepSpec| {
            (&a.name, &a.kernel, a.macs, a.bytes, a.arena_offset, a.dtype, a.layout)
                == (&b.name, &b.kernel, b.macs, b.bytes, b.arena_offset, b.dtype, b.layout)
        };
        let all = |a: &LevelSpec, b: &LevelSpec| {
            a.steps.len() == b.steps.len() && a.steps.iter().zip(&b.steps).all(|(x, y)| same(x, y))
        };
        self.levels.windows(2).all(|w| all(&w[0], &w[1]))
    }
}

/// Adds the entry functions and the descriptor to an image that holds all tasks, and checks the image.
pub fn finish(image: &mut Image, spec: &ModelSpec) -> Result<(), CodegenError> {
    if spec.levels.is_empty() || spec.levels.iter().any(|l| l.level.arch != image.arch) {
        return Err(CodegenError::Spec("a model needs levels, all of the image's architecture".to_owned()));
    }
    if spec.inputs.iter().chain(&spec.outputs).any(|t| t.dims.is_empty() || t.dims.len() > 6 || t.dims[0] != -1) {
        return Err(CodegenError::Spec("a tensor needs 1 to 6 dimensions, the first the batch".to_owned()));
    }
    if spec.arena_per_worker > 1 << 30 || spec.arena_fixed > 1 << 60 || spec.arena_per_sample > 1 << 46 {
        return Err(CodegenError::TooLarge("arena".to_owned()));
    }
    let cpu = cpu::define(image)?;
    let run = run::define(image, spec, cpu)?;
    let enable_amx = stubs::enable_amx(image)?;
    let prepare = constant(image, "dorefac_prepare", &[types::I32, types::I64], -7)?;
    let init_state = match &spec.train {
        Some(train) => state::init_state(image, train)?,
        None => constant(image, "dorefac_init_state", &[types::I64, types::I64], -7)?,
    };
    descriptor::define(image, spec, &[run, cpu, enable_amx, init_state, prepare])?;
    image.check()
}

/// A signature of the C calling convention, which is SystemV for Cranelift on both architectures.
fn signature(params: &[Type], result: Option<Type>) -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params.extend(params.iter().map(|&t| AbiParam::new(t)));
    signature.returns.extend(result.map(AbiParam::new));
    signature
}

/// Builds and defines a function for the base instruction set; `body` fills it.
fn build(
    image: &mut Image,
    id: FunctionId,
    signature: Signature,
    body: impl FnOnce(&mut FunctionBuilder<'_>, &[Value]),
) -> Result<(), CodegenError> {
    let isa = base_isa(image.arch)?;
    let mut ctx = Context::for_function(Function::with_name_signature(Default::default(), signature));
    let mut builder_ctx = FunctionBuilderContext::new();
    let mut builder = FunctionBuilder::new(&mut ctx.func, &mut builder_ctx);
    let block = builder.create_block();
    builder.append_block_params_for_function_params(block);
    builder.switch_to_block(block);
    let params = builder.block_params(block).to_vec();
    body(&mut builder, &params);
    builder.seal_all_blocks();
    builder.finalize(isa.frontend_config());
    image.define(id, ctx, &*isa)
}

/// A function that returns `value`.
fn constant(image: &mut Image, name: &str, params: &[Type], value: i64) -> Result<FunctionId, CodegenError> {
    let id = image.declare_function(name);
    build(image, id, signature(params, Some(types::I32)), |b, _| {
        let value = b.ins().iconst(types::I32, value);
        b.ins().return_(&[value]);
    })?;
    Ok(id)
}
