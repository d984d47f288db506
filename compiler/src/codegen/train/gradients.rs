//! The gradients of the parameters, written for a caller that asked for them: one task a parameter.

use super::Frame;
use super::values::Values;
use crate::codegen::emitter::Emitter;
use crate::codegen::lanes::nest::{Nest, Sink};
use crate::codegen::lanes::program::{Access, Element};
use crate::graph::Value as GraphValue;
use crate::lower::train::{Domain, Form, Slot};
use cranelift_codegen::ir::InstBuilder;
use cranelift_codegen::ir::condcodes::IntCC;
use std::collections::BTreeSet;

/// Emits the step: task i evaluates and stores the i-th gradient.
///
/// # Errors
/// What cannot be evaluated.
pub fn emit(e: &mut Emitter<'_, '_>, frame: &Frame<'_>, list: &[(GraphValue, Slot)]) -> Result<&'static str, String> {
    let reads: BTreeSet<Slot> = frame.step.reads.iter().copied().collect();
    let mut result = Ok(());
    for (i, &(value, slot)) in list.iter().enumerate() {
        let mine = e.b.ins().icmp_imm_s(IntCC::Equal, frame.task, i as i64);
        e.when(mine, |e| {
            if let Err(error) = one(e, frame, &reads, value, slot) {
                result = Err(error);
            }
        });
    }
    result.map(|()| "gradients")
}

fn one(
    e: &mut Emitter<'_, '_>,
    frame: &Frame<'_>,
    reads: &BTreeSet<Slot>,
    value: GraphValue,
    slot: Slot,
) -> Result<(), String> {
    let Form::Floats(len) = frame.buffer(slot)?.form else { return Err("gradients are floats".to_owned()) };
    let mut values = Values::new(e, frame, Domain::Flat(len), reads, &[(value, true)])?;
    let base = values.address(e, slot)?;
    let sinks = vec![Sink::Store(Access::channels(base, Element::F32), values.lanes(value)?)];
    let mut played = std::mem::take(&mut values.played);
    let nest = Nest { program: values.program, sinks, image: [1, 1] };
    let range = [e.int(0), e.int(len)];
    nest.elements(e, &mut played, range).map(|_| ())
}
