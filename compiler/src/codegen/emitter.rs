//! A thin layer over Cranelift's `FunctionBuilder`: counted loops, addresses and 128-bit lanes. It knows no operator.

use super::image::{DataId, FunctionId, Image, import_data, import_function};
use super::target::{Arch, Level};
use crate::lower::LINE;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    self, AbiParam, InstBuilder, MemFlagsData, Signature, StackSlotData, StackSlotKind, Type, Value, types,
};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, Variable};

/// Emits one function for one CPU level.
pub struct Emitter<'a, 'b> {
    /// The function being built.
    pub b: FunctionBuilder<'a>,
    /// The image that takes constants.
    pub image: &'b mut Image,
    /// The CPU level.
    pub level: &'b Level,
    /// The numeric profile: fused multiply-add.
    pub fma: bool,
}

const READ: MemFlagsData = MemFlagsData::new().with_notrap().with_readonly().with_can_move();

/// 128-bit lanes.
pub const F32X4: Type = types::F32X4;
/// 128-bit lanes.
pub const I32X4: Type = types::I32X4;

/// The signature of a leaf function: so many 64-bit parameters and no result.
pub(super) fn leaf_signature(parameters: usize) -> Signature {
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params = vec![AbiParam::new(types::I64); parameters];
    signature
}

impl Emitter<'_, '_> {
    /// Begins the function: its entry block, whose parameters it gives.
    pub fn enter(&mut self) -> Vec<Value> {
        let entry = self.b.create_block();
        self.b.append_block_params_for_function_params(entry);
        self.b.switch_to_block(entry);
        self.b.seal_block(entry);
        self.b.block_params(entry).to_vec()
    }

    /// A 64-bit constant.
    pub fn int(&mut self, v: usize) -> Value {
        self.b.ins().iconst(types::I64, v as i64)
    }

    /// a + constant.
    pub fn add(&mut self, a: Value, v: usize) -> Value {
        if v == 0 { a } else { self.b.ins().iadd_imm_s(a, v as i64) }
    }

    /// a · constant.
    pub fn mul(&mut self, a: Value, v: usize) -> Value {
        self.b.ins().imul_imm_s(a, v as i64)
    }

    /// base + index · constant.
    pub fn at(&mut self, base: Value, index: Value, scale: usize) -> Value {
        let offset = self.mul(index, scale);
        self.b.ins().iadd(base, offset)
    }

    /// Loads from aligned memory that is always there.
    pub fn load(&mut self, ty: Type, base: Value, offset: i32) -> Value {
        self.b.ins().load(ty, MemFlagsData::new().with_notrap(), base, offset)
    }

    /// Loads what this function never writes: constants, a kernel's input. Cranelift may then place the load at its use,
    /// without which an unrolled body loads everything first and spills.
    pub fn read(&mut self, ty: Type, base: Value, offset: i32) -> Value {
        self.b.ins().load(ty, READ, base, offset)
    }

    /// [`Emitter::read`] of a byte, zero-extended to 64 bits.
    pub fn read_byte(&mut self, base: Value, offset: i32) -> Value {
        let byte = self.read(types::I8, base, offset);
        self.b.ins().uextend(types::I64, byte)
    }

    /// Stores.
    pub fn store(&mut self, value: Value, base: Value, offset: i32) {
        self.b.ins().store(MemFlagsData::new().with_notrap(), value, base, offset);
    }

    /// Puts bytes into the image's constants and gives their address.
    pub fn data(&mut self, name: &str, bytes: Vec<u8>) -> Value {
        // Levels and layers share what is equal.
        if let Some(known) = self.image.data.iter().position(|d| d.bytes == bytes && d.fixups.is_empty()) {
            return self.data_address(DataId(known as u32));
        }
        let name = format!("{name}.{}", self.image.data.len());
        let id = self.image.add_data(name, bytes, LINE as u64);
        self.data_address(id)
    }

    /// The address of a constant.
    pub fn data_address(&mut self, id: DataId) -> Value {
        let global = import_data(self.b.func, id);
        self.b.ins().symbol_value(types::I64, global)
    }

    /// The address of so many bytes on the stack, aligned to a power of two.
    pub fn stack(&mut self, bytes: usize, align: usize) -> Value {
        // Cranelift aligns a slot within the frame, whose own address is a multiple of 16.
        let room = align.saturating_sub(16);
        let slot = StackSlotData::new(StackSlotKind::ExplicitSlot, (bytes + room) as u32, align.min(16).ilog2() as u8);
        let slot = self.b.create_sized_stack_slot(slot);
        let at = self.b.ins().stack_addr(types::I64, slot, 0);
        if room == 0 {
            return at;
        }
        let beyond = self.b.ins().iadd_imm_s(at, align as i64 - 1);
        self.b.ins().band_imm_s(beyond, -(align as i64))
    }

    /// Calls a tile: a leaf function of 64-bit arguments without a result.
    pub fn call(&mut self, tile: FunctionId, arguments: &[Value]) {
        let tile = import_function(self.b.func, tile, leaf_signature(arguments.len()));
        self.b.ins().call(tile, arguments);
    }

    /// A new variable holding `v`.
    pub fn var(&mut self, v: Value) -> Variable {
        let ty = self.b.func.dfg.value_type(v);
        let var = self.b.declare_var(ty);
        self.b.def_var(var, v);
        var
    }

    /// Emits `for i in start..end step step { body }` (64-bit, start may equal end). As with all loops, `body` is called once.
    pub fn range(&mut self, start: Value, end: Value, step: usize, mut body: impl FnMut(&mut Self, Value)) {
        self.walk(start, end, |e, i| {
            body(e, i);
            e.int(step)
        });
    }

    /// Emits a loop over 0..n, or only its body where n is 1.
    pub fn times(&mut self, n: usize, mut body: impl FnMut(&mut Self, Value)) {
        let zero = self.int(0);
        match n {
            0 => return,
            1 => return body(self, zero),
            _ => {}
        }
        let end = self.int(n);
        self.range(zero, end, 1, body);
    }

    /// Emits the body `n` times over, counting down: two instructions a turn less than [`Emitter::times`], for short bodies that need no
    /// index.
    pub fn repeat(&mut self, n: usize, body: impl FnOnce(&mut Self)) {
        match n {
            0 => return,
            1 => return body(self),
            _ => {}
        }
        let n = self.int(n);
        let counter = self.var(n);
        let (again, after) = (self.b.create_block(), self.b.create_block());
        self.b.ins().jump(again, &[]);
        self.b.switch_to_block(again);
        body(self);
        let left = self.b.use_var(counter);
        let left = self.b.ins().iadd_imm_s(left, -1);
        self.b.def_var(counter, left);
        self.b.ins().brif(left, again, &[], after, &[]);
        self.b.seal_block(again);
        self.b.seal_block(after);
        self.b.switch_to_block(after);
    }

    /// Emits `if condition { body }`.
    pub fn when(&mut self, condition: Value, body: impl FnOnce(&mut Self)) {
        let (inside, after) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(condition, inside, &[], after, &[]);
        self.b.switch_to_block(inside);
        self.b.seal_block(inside);
        body(self);
        self.b.ins().jump(after, &[]);
        self.b.seal_block(after);
        self.b.switch_to_block(after);
    }

    /// Σ of the 16-bit unsigned integers so many bytes from an address, as I32.
    pub fn sum_u16(&mut self, at: Value, offsets: impl Iterator<Item = i32>) -> Value {
        let flags = MemFlagsData::new().with_notrap();
        let terms = offsets.map(|offset| self.b.ins().uload16(types::I32, flags, at, offset));
        let terms: Vec<Value> = terms.collect();
        match terms.into_iter().reduce(|a, b| self.b.ins().iadd(a, b)) {
            Some(sum) => sum,
            None => self.b.ins().iconst(types::I32, 0),
        }
    }

    /// Returns from a function without results if `condition`.
    pub fn leave_if(&mut self, condition: Value) {
        let (out, after) = (self.b.create_block(), self.b.create_block());
        self.b.ins().brif(condition, out, &[], after, &[]);
        self.b.switch_to_block(out);
        self.b.seal_block(out);
        self.b.ins().return_(&[]);
        self.b.seal_block(after);
        self.b.switch_to_block(after);
    }

    /// Emits `if condition { then } else { other }`.
    pub fn branch<R>(
        &mut self,
        condition: Value,
        then: impl FnOnce(&mut Self) -> R,
        other: impl FnOnce(&mut Self) -> R,
    ) -> (R, R) {
        let (yes, no, after) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.ins().brif(condition, yes, &[], no, &[]);
        self.b.switch_to_block(yes);
        self.b.seal_block(yes);
        let first = then(self);
        self.b.ins().jump(after, &[]);
        self.b.switch_to_block(no);
        self.b.seal_block(no);
        let second = other(self);
        self.b.ins().jump(after, &[]);
        self.b.seal_block(after);
        self.b.switch_to_block(after);
        (first, second)
    }

    /// sum += v, integers.
    pub fn accumulate(&mut self, sum: Variable, v: Value) {
        let old = self.b.use_var(sum);
        let new = self.b.ins().iadd(old, v);
        self.b.def_var(sum, new);
    }

    /// sum += v, floats.
    pub fn accumulate_float(&mut self, sum: Variable, v: Value) {
        let old = self.b.use_var(sum);
        let new = self.b.ins().fadd(old, v);
        self.b.def_var(sum, new);
    }

    /// variable += constant; gives what it held. An address that moves so costs an addition where Cranelift would find it anew from
    /// the loop's index.
    pub fn advance(&mut self, variable: Variable, by: usize) -> Value {
        let old = self.b.use_var(variable);
        let new = self.add(old, by);
        self.b.def_var(variable, new);
        old
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

    /// Emits a loop from `start` while below `end`; the body gives the step.
    pub fn walk(&mut self, start: Value, end: Value, mut body: impl FnMut(&mut Self, Value) -> Value) {
        let counter = self.var(start);
        self.repeat_while(
            |e| {
                let i = e.b.use_var(counter);
                e.b.ins().icmp(IntCC::SignedLessThan, i, end)
            },
            |e| {
                let i = e.b.use_var(counter);
                let step = body(e, i);
                let next = e.b.ins().iadd(i, step);
                e.b.def_var(counter, next);
            },
        );
    }

    /// Emits `while condition { body }`.
    pub fn repeat_while(&mut self, mut condition: impl FnMut(&mut Self) -> Value, mut body: impl FnMut(&mut Self)) {
        let (head, inside, exit) = (self.b.create_block(), self.b.create_block(), self.b.create_block());
        self.b.ins().jump(head, &[]);
        self.b.switch_to_block(head);
        let more = condition(self);
        self.b.ins().brif(more, inside, &[], exit, &[]);
        self.b.switch_to_block(inside);
        self.b.seal_block(inside);
        body(self);
        self.b.ins().jump(head, &[]);
        self.b.seal_block(head);
        self.b.seal_block(exit);
        self.b.switch_to_block(exit);
    }

    /// index·stride + tap·dilation − before, and whether it lies in 0 … extent.
    pub fn tap(&mut self, index: Value, tap: Value, [stride, dilation, before, extent]: [usize; 4]) -> (Value, Value) {
        let base = self.mul(index, stride);
        let at = self.at(base, tap, dilation);
        let at = self.b.ins().iadd_imm_s(at, -(before as i64));
        let valid = self.b.ins().icmp_imm_u(IntCC::UnsignedLessThan, at, extent as i64);
        (at, valid)
    }

    /// Smaller of two signed values.
    pub fn min(&mut self, a: Value, b: Value) -> Value {
        self.b.ins().smin(a, b)
    }

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

    /// The same 128 bits as another type.
    pub fn cast(&mut self, ty: Type, v: Value) -> Value {
        if self.b.func.dfg.value_type(v) == ty {
            return v;
        }
        let flags = MemFlagsData::new().with_endianness(ir::Endianness::Little);
        self.b.ins().bitcast(ty, flags, v)
    }
}
