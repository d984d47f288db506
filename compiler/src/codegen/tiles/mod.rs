//! Wide tiles: leaf functions of 256-bit instructions, which Cranelift cannot emit, assembled and put into the same image.
//! A tile computes what a kernel's 128-bit inner loop computes, from the same packed weights, to the same bits.
//!
//! A tile follows the System V convention and touches volatile registers only, or saves them. One function serves every
//! step and level with the same shape. Must never know the graph.

mod float_avx2;
mod look_up_avx2;
pub mod product_avx2;
mod split;
mod split_avx2;
mod split_vnni;

pub use float_avx2::FloatShape;
pub use look_up_avx2::LookUpShape;
pub use split::{SplitFinish, SplitShape};

use super::CodegenError;
use super::image::{FunctionId, Image};
use iced_x86::IcedError;
use iced_x86::code_asm::CodeAssembler;

/// The tile of this name, assembled on first use.
fn tile(
    image: &mut Image,
    name: &str,
    assemble: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>,
) -> Result<FunctionId, CodegenError> {
    if let Some(known) = image.functions.iter().position(|f| f.name == name) {
        return Ok(FunctionId(known as u32));
    }
    let failed = |e: IcedError| CodegenError::Compile { name: name.to_owned(), detail: e.to_string() };
    let bytes = assembler(assemble).and_then(|mut a| a.assemble(0)).map_err(failed)?;
    let id = image.declare_function(name);
    image.define_bytes(id, bytes, Vec::new(), 32)?;
    Ok(id)
}

fn assembler(assemble: impl FnOnce(&mut CodeAssembler) -> Result<(), IcedError>) -> Result<CodeAssembler, IcedError> {
    let mut a = CodeAssembler::new(64)?;
    // VEX forms only: an EVEX form would be illegal on AVX2 machines.
    a.set_prefer_vex(true);
    assemble(&mut a)?;
    Ok(a)
}

#[cfg(test)]
mod tests {
    use super::product_avx2::Dot;
    use super::split::Instructions;
    use super::*;
    use crate::codegen::products::{Arithmetic, Finish, Loop, Tile};

    /// Every instruction of a tile is legal on a machine with AVX2 and FMA and no more.
    fn only_avx2(a: &CodeAssembler) {
        for instruction in a.instructions() {
            let code = format!("{:?}", instruction.code());
            assert!(!code.starts_with("EVEX"), "{code}");
            assert!(code.starts_with("VEX") || !code.contains("mm_"), "{code} is no VEX form");
        }
    }

    #[test]
    fn avx2_tiles_hold_no_newer_instruction() -> Result<(), IcedError> {
        for positions in 1..=4 {
            for (quads, limit) in [(1, 20), (7, 20), (16, 60), (131, 20)] {
                let shape = LookUpShape { positions, taps: 9, quads, limit };
                only_avx2(&assembler(|a| shape.assemble(a))?);
            }
        }
        for outputs in [16, 32, 48] {
            let (extents, steps) = ([3, 5, 5], [6400, 160, 4]);
            let vectors = FloatShape::vectors(outputs);
            let shape = FloatShape { vectors, row: 4 * outputs, extents, steps, position: 4, pitch: 256 };
            only_avx2(&assembler(|a| shape.assemble(a))?);
        }
        for (planes, positions) in [(1, 12), (2, 6), (3, 4), (3, 1)] {
            for finish in [SplitFinish::Raw, SplitFinish::Decode, SplitFinish::Threshold(3)] {
                let (instructions, loops, steps) = (Instructions::Avx2, [5, 2, 9], [700, 48]);
                let (bits, position, pitch) = (12, 24, 256);
                let shape = SplitShape { instructions, positions, planes, bits, loops, steps, position, pitch, finish };
                only_avx2(&assembler(|a| shape.assemble(a))?);
            }
        }
        for arithmetic in [Arithmetic::Fma, Arithmetic::MulAdd, Arithmetic::Pairs, Arithmetic::Quads] {
            let added = [true, false].map(|fma| Finish::AddScaled { fma });
            for finish in [Finish::Store, Finish::Add, added[0], added[1]] {
                let nest = vec![Loop { count: 3, stride: 4000 }, Loop { count: 11, stride: 4 }];
                for loops in [nest, vec![Loop { count: 1, stride: 4 }]] {
                    let start = finish == Finish::Store;
                    let shape = Tile { arithmetic, rows: 6, loops, b_step: 64, finish, start };
                    only_avx2(&assembler(|a| product_avx2::assemble(&shape, Dot::Avx2, a))?);
                }
            }
        }
        Ok(())
    }
}
