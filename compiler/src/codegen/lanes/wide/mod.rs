//! A nest on eight or sixteen lanes: an assembled leaf function, to which the caller passes addresses and scalars in a block.
//! Reference: the nest played on four lanes by `clif`, which takes over what this has no form for. Must never know what is
//! computed.

mod assemble;
mod bands;
mod instructions;
mod operators;
mod plan;
#[cfg(test)]
mod tests;

use super::clif::Played;
use super::nest::Nest;
use super::program::Lane;
use crate::codegen::emitter::Emitter;
use crate::codegen::tiles::{Width, tile};
use bands::Bands;
use cranelift_codegen::ir::{InstBuilder, Value, types};
use iced_x86::code_asm::CodeAssembler;
use plan::{CHANNEL, HOME, Plan, STOP};

/// A leaf function to be.
pub struct Leaf<'a> {
    nest: &'a Nest,
    plan: Plan,
    bands: Option<Bands>,
    width: Width,
    fma: bool,
}

/// The widths that the level has, the widest first.
pub fn widths(e: &Emitter<'_, '_>) -> Vec<Width> {
    match Width::of(e.level) {
        None => Vec::new(),
        Some(Width::Zmm) => vec![Width::Zmm, Width::Ymm],
        Some(Width::Ymm) => vec![Width::Ymm],
    }
}

impl<'a> Leaf<'a> {
    /// The function for `nest`; `None` where it holds what has no wide form.
    pub fn of(nest: &'a Nest, width: Width, fma: bool) -> Option<Leaf<'a>> {
        Some(Leaf { nest, plan: Plan::of(nest, width)?, bands: None, width, fma })
    }

    /// The same for calls over so many channels.
    pub fn over(self, channels: usize) -> Leaf<'a> {
        Leaf { bands: Bands::of(self.nest, &self.plan, self.width, channels), ..self }
    }

    /// Calls the function for the channels (or elements) from `start` on, whole registers of them, until `stop` is reached.
    /// Gives the maxima so far, four lanes each of which any may be the greatest.
    ///
    /// # Errors
    /// When a value of the task was not played, or the function cannot be assembled.
    pub fn call(
        &self,
        e: &mut Emitter<'_, '_>,
        played: &Played,
        [start, stop]: [Value; 2],
    ) -> Result<Vec<Vec<Value>>, String> {
        let scalar =
            |(&v, &at): (&Lane, &usize)| Ok((played.lanes(v).ok_or("a value of the task was not played")?, at));
        let scalars = self.plan.scalars.iter().map(scalar).collect::<Result<Vec<_>, String>>()?;
        let name = format!("lanes {} of {}", e.image.functions.len(), 32 * self.width.lanes());
        let mut forgotten = None;
        let assemble = |a: &mut CodeAssembler| self.assemble(a).map(|what| forgotten = what);
        let function = tile(e.image, &name, assemble).map_err(|e| e.to_string())?;
        if let Some(what) = forgotten {
            return Err(format!("a wide lane program has {what}"));
        }
        let block = e.stack(self.bands.map_or(self.plan.bytes, |b| b.bytes), HOME);
        e.store(start, block, CHANNEL as i32);
        e.store(stop, block, STOP as i32);
        for (access, at) in &self.plan.accesses {
            let address = e.add(access.base, access.origin);
            e.store(address, block, *at as i32);
        }
        for (&value, &at) in self.plan.bases.iter().chain(&self.plan.scales) {
            e.store(value, block, at as i32);
        }
        for (lanes, at) in scalars {
            let one = e.b.ins().extractlane(lanes, 0);
            e.store(one, block, at as i32);
        }
        e.call(function, &[block]);
        let quarters = self.width.lanes() / 4;
        let maximum = |e: &mut Emitter<'_, '_>, i: usize| {
            (0..quarters).map(|q| e.load(types::F32X4, block, (self.plan.maximum(i) + 16 * q) as i32)).collect()
        };
        Ok((0..self.plan.maxima_count()).map(|i| maximum(e, i)).collect())
    }
}
