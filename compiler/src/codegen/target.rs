//! Instruction-set levels: their names on the command line, their feature bits, their Cranelift flags.
//!
//! Must never know: which kernel wants which feature. The feature bits are those of `dorefac.h`; the same number means
//! another feature on another architecture, so bits are only read together with [`Level::arch`].

use cranelift_codegen::isa::{self, OwnedTargetIsa};
use cranelift_codegen::settings::{self, Configurable};
use std::str::FromStr;
use target_lexicon::{Architecture, Triple};

/// An architecture that dorefac compiles for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Arch {
    /// 64-bit x86.
    X86_64,
    /// 64-bit Arm, little endian.
    Aarch64,
}

impl Arch {
    /// The architecture of a target triple.
    pub fn of(triple: &Triple) -> Result<Arch, TargetError> {
        match triple.architecture {
            Architecture::X86_64 => Ok(Arch::X86_64),
            Architecture::Aarch64(_) => Ok(Arch::Aarch64),
            other => Err(TargetError::Architecture(other.to_string())),
        }
    }

    /// As in target triples.
    pub fn name(self) -> &'static str {
        match self {
            Arch::X86_64 => "x86_64",
            Arch::Aarch64 => "aarch64",
        }
    }

    /// The machine that this compiler runs on, if dorefac compiles for it.
    pub fn host() -> Option<Arch> {
        Arch::of(&Triple::host()).ok()
    }
}

/// Why a target or level cannot be had.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum TargetError {
    /// Neither x86-64 nor aarch64.
    #[error("architecture `{0}` is not supported (x86_64 and aarch64 are)")]
    Architecture(String),
    /// Not a level of this architecture.
    #[error(
        "unknown CPU level `{0}` for {1} (x86_64: x86-64-v2, x86-64-v3, x86-64-v4, native; aarch64: generic, native)"
    )]
    Level(String, &'static str),
    /// Not a feature of this architecture, or one whose base the level lacks.
    #[error("CPU feature `{0}` is not available at level `{1}`")]
    Feature(String, String),
    /// `native`, but the target is not this machine's architecture.
    #[error("level `native` needs a target of this machine's architecture")]
    Native,
    /// Two levels of the list are the same.
    #[error("CPU level `{0}` is listed twice")]
    Twice(String),
    /// Cranelift refused the flags.
    #[error("bug: Cranelift refuses the flags of `{0}`: {1}")]
    Isa(String, String),
}

/// Feature bits of x86-64, as in `dorefac.h`.
pub mod x86 {
    /// SSE3, SSE4.1 and SSE4.2.
    pub const SSE41: u64 = 1 << 0;
    /// `popcnt`.
    pub const POPCNT: u64 = 1 << 1;
    /// SSSE3.
    pub const SSSE3: u64 = 1 << 2;
    /// AVX and AVX2.
    pub const AVX2: u64 = 1 << 3;
    /// Fused multiply-add.
    pub const FMA: u64 = 1 << 4;
    /// BMI1.
    pub const BMI1: u64 = 1 << 5;
    /// BMI2.
    pub const BMI2: u64 = 1 << 6;
    /// `lzcnt`.
    pub const LZCNT: u64 = 1 << 7;
    /// AVX-512 F, BW, CD, DQ and VL.
    pub const AVX512: u64 = 1 << 8;
    /// AVX-512 VNNI.
    pub const VNNI: u64 = 1 << 9;
    /// AVX-512 VPOPCNTDQ.
    pub const VPOPCNTDQ: u64 = 1 << 10;
    /// AVX-512 BITALG.
    pub const BITALG: u64 = 1 << 11;
    /// AVX-512 VBMI.
    pub const VBMI: u64 = 1 << 12;
    /// AVX-VNNI (the VEX form).
    pub const AVXVNNI: u64 = 1 << 13;
    /// GFNI.
    pub const GFNI: u64 = 1 << 14;
    /// AMX tiles and 8-bit products; usable only with [`AMX_PERMITTED`].
    pub const AMX_INT8: u64 = 1 << 15;
    /// Set by the caller of a model after `enable_amx() == 0`.
    pub const AMX_PERMITTED: u64 = 1 << 16;
    /// What the feature `amx` stands for.
    pub const AMX: u64 = AMX_INT8 | AMX_PERMITTED;
    /// The level x86-64-v2.
    pub const V2: u64 = SSE41 | POPCNT | SSSE3;
    /// The level x86-64-v3.
    pub const V3: u64 = V2 | AVX2 | FMA | BMI1 | BMI2 | LZCNT;
    /// The level x86-64-v4.
    pub const V4: u64 = V3 | AVX512;
}

/// Feature bits of aarch64, as in `dorefac.h`.
pub mod a64 {
    /// `sdot`, `udot`.
    pub const DOTPROD: u64 = 1 << 0;
    /// `usdot`, `smmla`.
    pub const I8MM: u64 = 1 << 1;
    /// Half-precision arithmetic.
    pub const FP16: u64 = 1 << 2;
    /// Scalable vectors.
    pub const SVE: u64 = 1 << 3;
}

/// Bit 63 of a mask: the mask is valid.
pub const FEATURES_VALID: u64 = 1 << 63;

/// Name, bits, bits that it needs.
const X86_FEATURES: [(&str, u64, u64); 7] = [
    ("vnni", x86::VNNI, x86::AVX512),
    ("vpopcntdq", x86::VPOPCNTDQ, x86::AVX512),
    ("bitalg", x86::BITALG, x86::AVX512),
    ("vbmi", x86::VBMI, x86::AVX512),
    ("gfni", x86::GFNI, x86::AVX2),
    ("avxvnni", x86::AVXVNNI, x86::AVX2),
    ("amx", x86::AMX, x86::AVX512),
];
const A64_FEATURES: [(&str, u64, u64); 2] = [("dotprod", a64::DOTPROD, 0), ("i8mm", a64::I8MM, 0)];

/// One instruction-set level that a model holds code for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Level {
    /// As on the command line, features in a fixed order: `x86-64-v4+vnni+vbmi`.
    pub name: String,
    /// The architecture.
    pub arch: Arch,
    /// `DOREFAC_*` bits of `dorefac.h` that the code of this level may use.
    pub features: u64,
}

impl Level {
    /// The base of an architecture, which every such CPU has.
    pub fn generic(arch: Arch) -> Level {
        Level { name: "generic".to_owned(), arch, features: 0 }
    }

    /// Parses `LEVEL(+FEATURE)*[,…]` for the architecture of `triple`; the result ascends by number of features.
    pub fn parse(text: &str, triple: &Triple) -> Result<Vec<Level>, TargetError> {
        let arch = Arch::of(triple)?;
        let mut levels: Vec<Level> = Vec::new();
        for item in text.split(',') {
            let level = Level::parse_one(item.trim(), arch)?;
            if levels.iter().any(|l| l.features == level.features) {
                return Err(TargetError::Twice(level.name));
            }
            levels.push(level);
        }
        levels.sort_by_key(|l| (l.features.count_ones(), l.features));
        Ok(levels)
    }

    fn parse_one(text: &str, arch: Arch) -> Result<Level, TargetError> {
        let mut words = text.split('+');
        let base = words.next().unwrap_or_default();
        let mut features = match (base, arch) {
            // x86-64 without SSE4.1 rounds by calling a library, which an image has not.
            ("generic", Arch::Aarch64) => 0,
            ("x86-64-v2", Arch::X86_64) => x86::V2,
            ("x86-64-v3", Arch::X86_64) => x86::V3,
            ("x86-64-v4", Arch::X86_64) => x86::V4,
            ("native", _) if Arch::host() == Some(arch) => host_features(),
            ("native", _) => return Err(TargetError::Native),
            _ => return Err(TargetError::Level(base.to_owned(), arch.name())),
        };
        for word in words {
            let found = features_of(arch).iter().find(|(name, _, needs)| *name == word && features & needs == *needs);
            let &(_, bit, _) = found.ok_or_else(|| TargetError::Feature(word.to_owned(), base.to_owned()))?;
            features |= bit;
        }
        Ok(Level { name: name_of(arch, features), arch, features })
    }

    /// Whether all of `bits` are set.
    pub fn has(&self, bits: u64) -> bool {
        self.features & bits == bits
    }

    /// Whether it is one of x86-64 and all of `bits` are set.
    pub fn has_x86(&self, bits: u64) -> bool {
        self.arch == Arch::X86_64 && self.has(bits)
    }

    /// Whether it is one of aarch64 and all of `bits` are set.
    pub fn has_a64(&self, bits: u64) -> bool {
        self.arch == Arch::Aarch64 && self.has(bits)
    }

    /// Whether `fma` compiles to an instruction (without, Cranelift would call a library function).
    pub fn has_fma(&self) -> bool {
        match self.arch {
            Arch::X86_64 => self.has(x86::FMA | x86::AVX2),
            Arch::Aarch64 => true,
        }
    }
}

fn features_of(arch: Arch) -> &'static [(&'static str, u64, u64)] {
    match arch {
        Arch::X86_64 => &X86_FEATURES,
        Arch::Aarch64 => &A64_FEATURES,
    }
}

/// The canonical name; bits that are in no level's name (a `native` between two levels) are listed as `native-<hex>`.
fn name_of(arch: Arch, features: u64) -> String {
    let bases: &[(&str, u64)] = match arch {
        Arch::X86_64 => &[("x86-64-v4", x86::V4), ("x86-64-v3", x86::V3), ("x86-64-v2", x86::V2), ("generic", 0)],
        Arch::Aarch64 => &[("generic", 0)],
    };
    let (mut name, mut rest) = (String::new(), features);
    for (base, bits) in bases {
        if features & bits == *bits {
            name.push_str(base);
            rest &= !bits;
            break;
        }
    }
    for (word, bit, _) in features_of(arch) {
        if rest & bit == *bit {
            name.push('+');
            name.push_str(word);
            rest &= !bit;
        }
    }
    if rest == 0 { name } else { format!("native-{features:x}") }
}

/// What this machine and its operating system allow; 0 if the architecture is not one of ours. AMX is among them where the
/// system grants it to this process, which is asked for.
pub fn host_features() -> u64 {
    host::features()
}

#[cfg(target_arch = "x86_64")]
mod host {
    use super::x86;
    use std::arch::is_x86_feature_detected as has;

    pub(super) fn features() -> u64 {
        let avx512 = has!("avx512f") && has!("avx512bw") && has!("avx512cd") && has!("avx512dq") && has!("avx512vl");
        let found = [
            (has!("sse3") && has!("sse4.1") && has!("sse4.2"), x86::SSE41),
            (has!("popcnt"), x86::POPCNT),
            (has!("ssse3"), x86::SSSE3),
            (has!("avx2"), x86::AVX2),
            (has!("fma"), x86::FMA),
            (has!("bmi1"), x86::BMI1),
            (has!("bmi2"), x86::BMI2),
            (has!("lzcnt"), x86::LZCNT),
            (avx512, x86::AVX512),
            (avx512 && has!("avx512vnni"), x86::VNNI),
            (avx512 && has!("avx512vpopcntdq"), x86::VPOPCNTDQ),
            (avx512 && has!("avx512bitalg"), x86::BITALG),
            (avx512 && has!("avx512vbmi"), x86::VBMI),
            (has!("avx2") && has!("avxvnni"), x86::AVXVNNI),
            (has!("avx2") && has!("gfni"), x86::GFNI),
        ];
        let found = found.iter().filter(|(yes, _)| *yes).fold(0, |mask, (_, bit)| mask | bit);
        if avx512 && dorefa_runtime::abi::permit_amx() { found | x86::AMX } else { found }
    }
}

#[cfg(target_arch = "aarch64")]
mod host {
    use super::a64;
    use std::arch::is_aarch64_feature_detected as has;

    pub(super) fn features() -> u64 {
        let found = [(has!("dotprod"), a64::DOTPROD), (has!("i8mm"), a64::I8MM)];
        found.iter().filter(|(yes, _)| *yes).fold(0, |mask, (_, bit)| mask | bit)
    }
}

#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
mod host {
    pub(super) fn features() -> u64 {
        0
    }
}

/// The code generator for a level. Cranelift's own presets lack AVX, so every flag is set here.
pub fn isa(level: &Level) -> Result<OwnedTargetIsa, TargetError> {
    let bug = |e: &dyn std::fmt::Display| TargetError::Isa(level.name.clone(), e.to_string());
    let mut shared = settings::builder();
    let values = [
        ("opt_level", "speed"),
        ("is_pic", "false"),
        ("use_colocated_libcalls", "false"),
        ("preserve_frame_pointers", "true"),
        ("enable_probestack", "false"),
        ("enable_verifier", "true"),
    ];
    for (name, value) in values {
        shared.set(name, value).map_err(|e| bug(&e))?;
    }
    let triple = match level.arch {
        Arch::X86_64 => "x86_64-unknown-linux-gnu",
        Arch::Aarch64 => "aarch64-unknown-linux-gnu",
    };
    let mut builder = isa::lookup(Triple::from_str(triple).map_err(|e| bug(&e))?).map_err(|e| bug(&e))?;
    for (bit, flags) in flags_of(level.arch) {
        if level.has(*bit) {
            for flag in *flags {
                builder.enable(flag).map_err(|e| bug(&e))?;
            }
        }
    }
    builder.finish(settings::Flags::new(shared)).map_err(|e| bug(&e))
}

fn flags_of(arch: Arch) -> &'static [(u64, &'static [&'static str])] {
    match arch {
        Arch::X86_64 => &[
            (x86::SSE41, &["has_sse3", "has_sse41", "has_sse42"]),
            (x86::POPCNT, &["has_popcnt"]),
            (x86::SSSE3, &["has_ssse3"]),
            (x86::AVX2, &["has_avx", "has_avx2"]),
            (x86::FMA, &["has_fma"]),
            (x86::BMI1, &["has_bmi1"]),
            (x86::BMI2, &["has_bmi2"]),
            (x86::LZCNT, &["has_lzcnt"]),
            (x86::AVX512, &["has_avx512f", "has_avx512dq", "has_avx512vl"]),
            (x86::VNNI, &["has_avx512vnni"]),
            (x86::BITALG, &["has_avx512bitalg"]),
            (x86::VBMI, &["has_avx512vbmi"]),
            (x86::AVXVNNI, &["has_avx_vnni"]),
        ],
        Arch::Aarch64 => &[(a64::DOTPROD, &["has_dotprod"]), (a64::I8MM, &["has_i8mm"]), (a64::FP16, &["has_fp16"])],
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn triple(text: &str) -> Triple {
        Triple::from_str(text).unwrap()
    }

    #[test]
    fn levels_parse_sort_and_refuse() {
        let x = triple("x86_64-unknown-linux-gnu");
        let levels = Level::parse("x86-64-v4+vbmi+vnni,x86-64-v2,x86-64-v3+gfni", &x).unwrap();
        let names: Vec<_> = levels.iter().map(|l| l.name.as_str()).collect();
        assert_eq!(names, ["x86-64-v2", "x86-64-v3+gfni", "x86-64-v4+vnni+vbmi"]);
        let amx = Level::parse("x86-64-v4+amx+vnni", &x).unwrap();
        assert_eq!((amx[0].name.as_str(), amx[0].has_x86(x86::AMX)), ("x86-64-v4+vnni+amx", true));
        assert!(levels[1].has_fma() && !levels[0].has_fma());
        assert!(matches!(Level::parse("x86-64-v3+vnni", &x), Err(TargetError::Feature(..))));
        assert!(matches!(Level::parse("x86-64-v3,x86-64-v3", &x), Err(TargetError::Twice(_))));
        assert!(matches!(Level::parse("", &x), Err(TargetError::Level(..))));
        assert!(matches!(Level::parse("generic", &x), Err(TargetError::Level(..))));
        let a = triple("aarch64-unknown-linux-gnu");
        assert_eq!(Level::parse("generic+i8mm+dotprod", &a).unwrap()[0].name, "generic+dotprod+i8mm");
        assert!(Level::parse("x86-64-v2", &a).is_err());
        assert!(Level::parse("generic", &triple("riscv64gc-unknown-linux-gnu")).is_err());
    }

    #[test]
    fn every_level_has_a_code_generator() {
        let all = "x86-64-v2,x86-64-v3+gfni+avxvnni,x86-64-v4+vnni+vpopcntdq+bitalg+vbmi,x86-64-v4+amx";
        for level in Level::parse(all, &triple("x86_64-unknown-linux-gnu")).unwrap() {
            isa(&level).unwrap();
        }
        isa(&Level::parse("generic+dotprod+i8mm", &triple("aarch64-unknown-linux-gnu")).unwrap()[0]).unwrap();
        isa(&Level::parse("native", &Triple::host()).unwrap()[0]).unwrap();
    }
}
