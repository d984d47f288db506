//! The registry of the kernels of layers with weights, and the choice among them: which can compute a layer at a level, and
//! what each is predicted to cost. Conditions and cost models stand beside the kernels; any choice gives the same bits.

use super::layer::Layer;
use super::{
    amx, float_conv, int_conv, int_direct, look_up, look_up_flat, look_up64, popcount, split, split_tiling,
    split_winograd,
};
use crate::codegen::target::Level;
use crate::graph::types::Layout;

/// A kernel of layers with weights.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kernel {
    /// Tiles of bytes.
    Amx,
    /// 64-entry tables of activations.
    LookUp64,
    /// 16-entry tables of weights, 256 bits wide.
    LookUp16Avx2,
    /// The same, 128 bits wide.
    LookUp16,
    /// The same of one position and 64 outputs, 256 bits wide.
    LookUpFlatAvx2,
    /// The same, 128 bits wide.
    LookUpFlat,
    /// AND and popcount, 512 bits wide.
    PopcountAvx512,
    /// The same, 64 bits wide.
    Popcount,
    /// Digits of weights as tiles of bytes.
    SplitAmx,
    /// Transformed weights multiplied as i16, digits where that leaves a code open.
    SplitWinograd,
    /// The same, 256 bits wide.
    SplitWinogradAvx2,
    /// Digits of weights multiplied as bytes.
    SplitVnni,
    /// Weights of one digit multiplied as bytes, digits of others as i16, 256 bits wide.
    SplitAvxVnni,
    /// Weights of one digit multiplied as bytes, 256 bits wide.
    SplitBytesAvx2,
    /// Digits of weights multiplied as i16, 256 bits wide.
    SplitAvx2,
    /// Digits of weights multiplied as bytes, four at a time, NEON.
    SplitDot,
    /// Digits of weights multiplied as i16, NEON, several positions at once.
    SplitNeon,
    /// The same, 128 bits wide, one position.
    Split,
    /// One product at a time.
    Direct,
    /// The same in 64 bits.
    DirectWide,
    /// Float chains, 512 bits wide.
    FloatAvx512,
    /// The same, 256 bits wide.
    FloatAvx2,
    /// The same, 128 bits wide.
    Float,
}

/// A kernel that can compute a layer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Candidate {
    /// The kernel.
    pub kernel: Kernel,
    /// Predicted cycles a sample, on one core.
    pub cycles: f64,
}

impl Kernel {
    /// All of them.
    pub const ALL: [Kernel; 23] = [
        Kernel::Amx,
        Kernel::LookUp64,
        Kernel::LookUp16Avx2,
        Kernel::LookUp16,
        Kernel::LookUpFlatAvx2,
        Kernel::LookUpFlat,
        Kernel::PopcountAvx512,
        Kernel::Popcount,
        Kernel::SplitAmx,
        Kernel::SplitWinograd,
        Kernel::SplitWinogradAvx2,
        Kernel::SplitVnni,
        Kernel::SplitAvxVnni,
        Kernel::SplitBytesAvx2,
        Kernel::SplitAvx2,
        Kernel::SplitDot,
        Kernel::SplitNeon,
        Kernel::Split,
        Kernel::Direct,
        Kernel::DirectWide,
        Kernel::FloatAvx512,
        Kernel::FloatAvx2,
        Kernel::Float,
    ];

    /// As reports and tables show it.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::Amx => "AMX",
            Kernel::LookUp64 => "look-up 64, AVX-512",
            Kernel::LookUp16Avx2 => "look-up 16, AVX2",
            Kernel::LookUp16 => "look-up 16",
            Kernel::LookUpFlatAvx2 => "look-up 16 flat, AVX2",
            Kernel::LookUpFlat => "look-up 16 flat",
            Kernel::PopcountAvx512 => "bit-serial popcount, AVX-512",
            Kernel::Popcount => "bit-serial popcount",
            Kernel::SplitAmx => "split integer, AMX",
            Kernel::SplitWinograd => "split integer Winograd, VNNI",
            Kernel::SplitWinogradAvx2 => "split integer Winograd, AVX2",
            Kernel::SplitVnni => "split integer, VNNI",
            Kernel::SplitAvxVnni => "split integer, AVX-VNNI",
            Kernel::SplitBytesAvx2 => "split integer bytes, AVX2",
            Kernel::SplitAvx2 => "split integer, AVX2",
            Kernel::SplitDot => "split integer, dot products",
            Kernel::SplitNeon => "split integer, NEON",
            Kernel::Split => "split integer",
            Kernel::Direct => "direct integer",
            Kernel::DirectWide => "direct integer, 64 bits",
            Kernel::FloatAvx512 => "float chain, AVX-512",
            Kernel::FloatAvx2 => "float chain, AVX2",
            Kernel::Float => "float chain",
        }
    }

    /// As the command line takes it: the name in small letters, its words joined by hyphens.
    pub fn word(self) -> String {
        word(self.name())
    }

    /// The kernel of a name or word, in whatever spelling.
    pub fn parse(text: &str) -> Option<Kernel> {
        Kernel::ALL.into_iter().find(|k| k.word() == word(text))
    }

    /// The layouts that the layer's input may have; the first is what a layer that is to have this kernel asks for.
    pub fn reads(self) -> &'static [Layout] {
        match self {
            Kernel::LookUp64 => &[Layout::Nibbles, Layout::Bits],
            Kernel::LookUp16Avx2 | Kernel::LookUp16 => &[Layout::Nibbles, Layout::Bits],
            Kernel::LookUpFlatAvx2 | Kernel::LookUpFlat => &[Layout::Bits],
            Kernel::PopcountAvx512 | Kernel::Popcount => &[Layout::Bits],
            Kernel::Direct | Kernel::DirectWide => &[Layout::Nhwc, Layout::Dense],
            _ => &[],
        }
    }

    /// Whether the kernel can compute `layer` at `level`.
    ///
    /// # Errors
    /// Why not.
    pub fn fits(self, layer: &Layer<'_>, level: &Level) -> Result<(), String> {
        let float = matches!(self, Kernel::FloatAvx512 | Kernel::FloatAvx2 | Kernel::Float);
        match (float, layer.codes.is_some()) {
            (true, true) => return Err("it computes floats, the layer codes".to_owned()),
            (false, false) => return Err("it computes codes, the layer floats".to_owned()),
            _ => {}
        }
        let layouts = self.reads();
        if !layouts.is_empty() && !layouts.contains(&layer.input.layout) {
            return Err(format!("its input cannot lie as the kernel reads it, it lies as {:?}", layer.input.layout));
        }
        match self {
            Kernel::Amx | Kernel::SplitAmx => amx::fits(layer, level, self),
            Kernel::LookUp64 => look_up64::fits(layer, level),
            Kernel::LookUp16Avx2 => look_up::fits(layer, level, true),
            Kernel::LookUp16 => look_up::fits(layer, level, false),
            Kernel::LookUpFlatAvx2 => look_up_flat::fits(layer, level, true),
            Kernel::LookUpFlat => look_up_flat::fits(layer, level, false),
            Kernel::PopcountAvx512 => popcount::fits(layer, level),
            Kernel::Popcount => layer.in_lanes(),
            Kernel::SplitWinograd | Kernel::SplitWinogradAvx2 => split_winograd::fits(layer, level, self),
            Kernel::SplitVnni | Kernel::SplitAvxVnni => split::fits(layer, level, self),
            Kernel::SplitBytesAvx2 | Kernel::SplitAvx2 => split::fits(layer, level, self),
            Kernel::SplitDot | Kernel::SplitNeon | Kernel::Split => split::fits(layer, level, self),
            Kernel::Direct => layer.in_lanes(),
            Kernel::DirectWide => int_direct::fits_wide(layer),
            Kernel::FloatAvx512 | Kernel::FloatAvx2 | Kernel::Float => float_conv::fits(layer, level, self),
        }
    }

    /// Whether the kernel, which fits, pools what it makes where the step pools; else its codes are pooled afterwards.
    pub(super) fn pools(self, layer: &Layer<'_>) -> bool {
        match self {
            Kernel::SplitWinograd | Kernel::SplitWinogradAvx2 => split_winograd::pools(layer, self),
            Kernel::SplitVnni => split_tiling::pools(layer, self),
            _ => false,
        }
    }

    /// Predicted cycles of one sample on one core, where the kernel fits.
    pub fn cycles(self, layer: &Layer<'_>, level: &Level) -> f64 {
        match self {
            Kernel::Amx | Kernel::SplitAmx => amx::cycles(layer, self),
            Kernel::LookUp64 => look_up64::cycles(layer),
            Kernel::LookUp16Avx2 => look_up::cycles(layer, level, true),
            Kernel::LookUp16 => look_up::cycles(layer, level, false),
            Kernel::LookUpFlatAvx2 => look_up_flat::cycles(layer, true),
            Kernel::LookUpFlat => look_up_flat::cycles(layer, false),
            Kernel::PopcountAvx512 => popcount::cycles(layer),
            Kernel::Popcount => int_conv::cycles(layer),
            Kernel::SplitWinograd | Kernel::SplitWinogradAvx2 => split_winograd::cycles(layer, level, self),
            Kernel::SplitVnni | Kernel::SplitAvxVnni => split::cycles(layer, self),
            Kernel::SplitBytesAvx2 | Kernel::SplitAvx2 => split::cycles(layer, self),
            Kernel::SplitDot | Kernel::SplitNeon | Kernel::Split => split::cycles(layer, self),
            Kernel::Direct | Kernel::DirectWide => int_direct::cycles(layer),
            Kernel::FloatAvx512 | Kernel::FloatAvx2 | Kernel::Float => float_conv::cycles(layer, self),
        }
    }
}

/// Small letters and digits, everything between them one hyphen.
fn word(text: &str) -> String {
    let lower = text.to_ascii_lowercase();
    let words = lower.split(|c: char| !c.is_ascii_alphanumeric()).filter(|w| !w.is_empty());
    words.collect::<Vec<_>>().join("-")
}

/// The kernels that can compute a layer at a level with the layouts it has, the cheapest first.
pub fn candidates(layer: &Layer<'_>, level: &Level) -> Vec<Candidate> {
    let fitting = Kernel::ALL.into_iter().filter(|k| k.fits(layer, level).is_ok());
    let mut all: Vec<Candidate> =
        fitting.map(|kernel| Candidate { kernel, cycles: kernel.cycles(layer, level) }).collect();
    all.sort_by(|a, b| a.cycles.total_cmp(&b.cycles));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kernel_has_a_word_of_its_own() {
        for kernel in Kernel::ALL {
            assert_eq!(Kernel::parse(kernel.name()), Some(kernel));
            assert_eq!(Kernel::parse(&kernel.word().to_uppercase()), Some(kernel));
        }
        assert_eq!(Kernel::LookUp64.word(), "look-up-64-avx-512");
        assert_eq!(Kernel::parse("look-up 32"), None);
    }
}
