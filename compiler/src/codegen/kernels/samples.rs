//! Samples that are done together, by the task of the first: layers of one position, which wait for their weights, read them once
//! for all. A task does its words of outputs, one after another, of every sample. Must never know what a layer computes.

use super::walk::WORD;
use super::{KernelError, Operand, Task};
use crate::codegen::emitter::Emitter;
use crate::graph::ops::Geometry;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, Type, Value};

/// Whether a layer has one position of one group, whose taps all lie in the image.
pub fn one_position(g: &Geometry) -> bool {
    g.output == [1, 1] && g.groups == 1 && g.pads == [0; 4]
}

impl Task<'_> {
    /// This task for the sample that comes so many later.
    pub(super) fn later(&self, e: &mut Emitter<'_, '_>, samples: Value) -> Self {
        let mut moved = |o: &Operand| Operand { base: e.at(o.base, samples, o.apart), ..o.clone() };
        let operands = self.operands.iter().map(|(&value, o)| (value, moved(o))).collect();
        let result = moved(&self.result);
        Task { operands, result, sample: e.b.ins().iadd(self.sample, samples), ..self.clone() }
    }

    /// Calls `body`, with how many there are, if this task's sample is the first of so many, a power of two, that are done
    /// together; the tasks of the others have nothing to do.
    pub(super) fn together(
        &self,
        e: &mut Emitter<'_, '_>,
        samples: usize,
        body: impl FnOnce(&mut Emitter<'_, '_>, Value),
    ) {
        let behind = e.b.ins().band_imm_s(self.sample, samples as i64 - 1);
        let first = e.b.ins().icmp_imm_s(IntCC::Equal, behind, 0);
        e.when(first, |e| {
            let (batch, most) = (self.batch(e), e.int(samples));
            let left = e.b.ins().isub(batch, self.sample);
            let count = e.min(left, most);
            body(e, count);
        });
    }

    /// Runs the chain over a word of outputs of `count` samples, this one's and those behind it, and stores; the lanes, of type
    /// `ty`, lie at `sums`, [`WORD`] a sample.
    pub(super) fn finish_word(
        &self,
        e: &mut Emitter<'_, '_>,
        [word, count]: [Value; 2],
        sums: Value,
        ty: Type,
    ) -> Result<(), KernelError> {
        let (zero, next, before) = (e.int(0), e.add(word, 1), e.mul(word, WORD * 4));
        let lanes = e.b.ins().isub(sums, before);
        let mut result = Ok(());
        e.range(zero, count, 1, |e, ahead| {
            let (task, lanes) = (self.later(e, ahead), e.at(lanes, ahead, WORD * 4));
            let p = task.position(e, zero, zero);
            result = task.finish_from(e, p, Some((word, next)), lanes, ty);
        });
        result
    }
}
