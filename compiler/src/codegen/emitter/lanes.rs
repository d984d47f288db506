//! 128-bit lanes: what vectors hold, and sums of lanes in the order of the numerics contract.

use super::{Emitter, F32X4, I32X4};
use crate::codegen::target::Arch;
use cranelift_codegen::ir::{self, InstBuilder, MemFlagsData, Type, Value, types};
use cranelift_frontend::Variable;

impl Emitter<'_, '_> {
    /// A float in all lanes.
    pub fn splat_f32(&mut self, v: f32) -> Value {
        let c = self.b.ins().f32const(v);
        self.b.ins().splat(F32X4, c)
    }

    /// An integer in all lanes.
    pub fn splat_i32(&mut self, v: i32) -> Value {
        let c = self.b.ins().iconst(types::I32, i64::from(v as u32));
        self.b.ins().splat(I32X4, c)
    }

    /// 128 bits of zeros.
    pub fn zeros(&mut self, ty: Type) -> Value {
        let zero = self.splat_i32(0);
        self.cast(ty, zero)
    }

    /// The same 128 bits as another type.
    pub fn cast(&mut self, ty: Type, v: Value) -> Value {
        if self.b.func.dfg.value_type(v) == ty {
            return v;
        }
        let flags = MemFlagsData::new().with_endianness(ir::Endianness::Little);
        self.b.ins().bitcast(ty, flags, v)
    }

    /// a·b + c in the numeric profile.
    pub fn mul_add(&mut self, a: Value, b: Value, c: Value) -> Value {
        if self.fma {
            self.b.ins().fma(a, b, c)
        } else {
            let p = self.b.ins().fmul(a, b);
            self.b.ins().fadd(c, p)
        }
    }

    /// mask ? a : b in lanes; the mask is an i32x4 of all-ones and zeros.
    pub fn select(&mut self, mask: Value, a: Value, b: Value) -> Value {
        let ty = self.b.func.dfg.value_type(a);
        let mask = self.cast(ty, mask);
        self.b.ins().bitselect(mask, a, b)
    }

    /// Bytes of `table` selected by the bytes of `index`, all below 16.
    pub fn shuffle_bytes(&mut self, table: Value, index: Value) -> Value {
        match self.image.arch {
            Arch::X86_64 => self.b.ins().x86_pshufb(table, index),
            Arch::Aarch64 => self.b.ins().swizzle(table, index),
        }
    }

    /// All ones in the first `n` of four lanes, zeros in the others.
    pub fn first_lanes(&mut self, n: usize) -> Value {
        let mask = (0..4).flat_map(|i| (if i < n { -1i32 } else { 0 }).to_le_bytes()).collect();
        let mask = self.data("valid", mask);
        self.read(I32X4, mask, 0)
    }

    /// Four integers as doubles, two and two.
    pub fn doubles(&mut self, v: Value) -> [Value; 2] {
        // Only the low half converts in one instruction.
        let high = self.cast(types::I64X2, v);
        let high = self.b.ins().extractlane(high, 1);
        let high = self.b.ins().splat(types::I64X2, high);
        let high = self.cast(I32X4, high);
        [v, high].map(|half| {
            let half = self.b.ins().swiden_low(half);
            self.b.ins().fcvt_from_sint(types::F64X2, half)
        })
    }

    /// Two and two doubles, rounded to four floats.
    pub fn singles(&mut self, halves: [Value; 2]) -> Value {
        let [low, high] = halves.map(|half| {
            let half = self.b.ins().fvdemote(half);
            self.cast(types::I64X2, half)
        });
        let high = self.b.ins().extractlane(high, 0);
        let both = self.b.ins().insertlane(low, high, 1);
        self.cast(F32X4, both)
    }

    /// (l0 + l2) + (l1 + l3): how the four lanes of a sum are added (numerics contract, rule 5).
    pub fn lane_tree(&mut self, [a, b, c, d]: [Value; 4]) -> Value {
        let (even, odd) = (self.b.ins().fadd(a, c), self.b.ins().fadd(b, d));
        self.b.ins().fadd(even, odd)
    }

    /// The sum of `n` values from `zero`: value i is added to lane i mod 4, then the lanes by [`Emitter::lane_tree`].
    pub fn lane_sum(&mut self, n: usize, zero: Value, mut value: impl FnMut(&mut Self, Value) -> Value) -> Value {
        let sums = [(); 4].map(|()| self.var(zero));
        let mut add = |e: &mut Self, i: Value, sum: Variable| {
            let v = value(e, i);
            e.accumulate_float(sum, v);
        };
        let (start, whole) = (self.int(0), self.int(n / 4 * 4));
        self.range(start, whole, 4, |e, i| {
            for (lane, &sum) in sums.iter().enumerate() {
                let i = e.add(i, lane);
                add(e, i, sum);
            }
        });
        for (lane, &sum) in sums.iter().enumerate().take(n % 4) {
            let i = self.add(whole, lane);
            add(self, i, sum);
        }
        let lanes = sums.map(|s| self.b.use_var(s));
        self.lane_tree(lanes)
    }
}
