//! Updates that make their gradient themselves, a few rows at a time, where the machine's kernel can: neither the gradient nor
//! what waits for it goes through memory. Must never know how the gradient is computed, nor what the update is.

use super::{Frame, at, fused, glue, reduce};
use crate::codegen::CodegenError;
use crate::codegen::emitter::Emitter;
use crate::codegen::image::FunctionId;
use crate::codegen::products::{COLUMNS, Finished, GATHERED, Take, share, transpose_near};
use crate::codegen::tiles::Width;
use crate::codegen::tiles::ahead::ahead;
use crate::graph::Value as GraphValue;
use crate::lower::LINE;
use crate::lower::train::{Form, Phase, Place, Product, ProductPlan, Slot, Tasks, plan};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use std::cell::Cell;

/// Floats of a cache line.
const FLOATS: usize = LINE / 4;

/// Whether the gradient must be in memory all the same, with the factors `scales`: for a caller that asks for it, and for the check
/// that all is finite where the factors leave that open.
pub fn early(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, scales: Value) -> Value {
    let asked = e.read(types::I64, frame.train, at::GRADS);
    let (none, beyond) = (e.int(0), reduce::beyond(e, frame, scales));
    let asked = e.b.ins().icmp(IntCC::NotEqual, asked, none);
    e.b.ins().bor(asked, beyond)
}

/// Emits the step.
///
/// # Errors
/// What cannot be evaluated, or when the operands do not fit the kernel.
pub fn emit(
    e: &mut Emitter<'_, '_>,
    frame: &Frame<'_>,
    product: &Product,
    phase: &Phase,
) -> Result<&'static str, String> {
    let gradient = Slot::own(GraphValue { node: product.node, port: 0 });
    let Form::Floats(len) = frame.buffer(gradient)?.form else { return Err("gradients are floats".to_owned()) };
    let ProductPlan::WeightGrad(mut plan, _) = plan(frame.graph, frame.node(product.node)?)? else {
        return Err("is no weight gradient".to_owned());
    };
    let tasks = if let Tasks::Fixed(n) = frame.step.tasks { n } else { 1 };
    if !plan.writes_dense(e.level, e.fma) {
        let lines = share(e, frame.task, tasks, len.div_ceil(FLOATS));
        let [start, stop] = lines.map(|n| e.mul(n, FLOATS));
        let end = e.int(len);
        let stop = e.min(stop, end);
        return Ok(fused::name(fused::elements(e, frame, len, phase, [start, stop])?));
    }
    let ([a, b], scales) = glue::weight_operands(e, frame, product, &mut plan)?;
    let scales = scales.ok_or("a product of levels without factors")?;
    let states = phase.reads.iter().filter(|s| {
        let buffer = frame.plan.buffers.get(s);
        buffer.is_some_and(|b| matches!(b.place, Place::State(_)) && b.form == Form::Floats(len))
    });
    let states = states.map(|&s| frame.base(e, s)).collect::<Result<Vec<_>, _>>()?;
    let near = e.stack(COLUMNS * GATHERED * 4, LINE);
    let update = Update { frame, phase, gradient, len, row: plan.rows(), states, near, width: Cell::new(None) };
    plan.emit_rows(e, frame.task, frame.batch, [a, b], scales, &update).map_err(|e| e.to_string())?;
    Ok(match update.width.get() {
        None => "gradient and update",
        Some(Width::Ymm) => "gradient and update, AVX2",
        Some(Width::Zmm) => "gradient and update, AVX-512",
    })
}

/// The update takes the gradient's rows.
struct Update<'a, 'g> {
    frame: &'a Frame<'g>,
    phase: &'a Phase,
    gradient: Slot,
    /// Elements of the parameter, and of an output's row of it.
    len: usize,
    row: usize,
    /// What is read besides the gradient, element by element.
    states: Vec<Value>,
    /// Where the rows lie that are being taken, outputs of rows.
    near: Value,
    width: Cell<Option<Width>>,
}

impl Update<'_, '_> {
    /// The first of the rows' elements of output `i` of the block.
    fn element(&self, e: &mut Emitter<'_, '_>, rows: &Finished, i: Value) -> Value {
        let output = e.b.ins().iadd(rows.output, i);
        e.at(rows.row, output, self.row)
    }

    /// Asks for so many neighbours of states from an element on, and for those of the outputs behind.
    fn ask(
        &self,
        e: &mut Emitter<'_, '_>,
        function: FunctionId,
        states: &[Value],
        element: Value,
        many: usize,
        outputs: Value,
    ) {
        let [apart, lines] = [self.row * 4, many / FLOATS].map(|n| e.int(n));
        for &state in states {
            let at = e.at(state, element, 4);
            e.call(function, &[at, apart, lines, outputs]);
        }
    }

    /// How many outputs the block has.
    fn outputs(e: &mut Emitter<'_, '_>, rows: &Finished) -> Value {
        let [all, fewer] = rows.outputs.map(|n| e.int(n));
        e.b.ins().select(rows.last, fewer, all)
    }
}

impl Take for Update<'_, '_> {
    /// A third of these rows' states comes near, a part of the outputs at a time, for all at once would hold up what else reads
    /// memory. The others come while the rows before them are taken, so that memory rests in neither.
    fn ahead(
        &self,
        e: &mut Emitter<'_, '_>,
        rows: &Finished,
        (part, parts): (Value, usize),
    ) -> Result<(), CodegenError> {
        let function = ahead(e.image)?;
        let [first, end] = share(e, part, parts, COLUMNS);
        let all = Self::outputs(e, rows);
        let [first, end] = [first, end].map(|n| e.min(n, all));
        let (count, element) = (e.b.ins().isub(end, first), self.element(e, rows, first));
        let (first, _) = self.states.split_at(self.states.len().div_ceil(3));
        self.ask(e, function, first, element, rows.rows, count);
        Ok(())
    }

    fn take(&self, e: &mut Emitter<'_, '_>, rows: &Finished, sums: Value) -> Result<(), CodegenError> {
        transpose_near(e, [sums, self.near], rows.rows)?;
        let function = ahead(e.image)?;
        let (_, others) = self.states.split_at(self.states.len().div_ceil(3));
        let (none, all) = (e.int(0), Self::outputs(e, rows));
        let mut done = Ok(());
        e.range(none, all, 1, |e, i| {
            let start = self.element(e, rows, i);
            let stop = e.add(start, rows.rows);
            let one = e.int(1);
            self.ask(e, function, others, stop, rows.rows, one);
            // The gradient as if all of it were there.
            let (near, before) = (e.at(self.near, i, rows.rows * 4), e.mul(start, 4));
            let base = e.b.ins().isub(near, before);
            let frame = Frame { moved: Some((self.gradient, base)), ..*self.frame };
            match fused::elements(e, &frame, self.len, self.phase, [start, stop]) {
                Ok(width) => self.width.set(width),
                Err(error) => done = Err(CodegenError::Spec(error)),
            }
        });
        done
    }
}
