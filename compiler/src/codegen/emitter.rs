//! A thin layer over Cranelift's `FunctionBuilder`: addresses, memory, calls and variables; loops and branches (`control`), 128-bit
//! lanes (`lanes`). It knows no operator.

mod control;
mod lanes;

use super::image::{DataId, FunctionId, Image, import_data, import_function};
use super::target::Level;
use crate::lower::LINE;
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{
    AbiParam, InstBuilder, MemFlagsData, Signature, StackSlotData, StackSlotKind, Type, Value, types,
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
}
