//! Runs one function of code under test in this process.
#![allow(unsafe_code)]

use crate::codegen::emitter::Emitter;
use crate::codegen::entry::DESCRIPTOR;
use crate::codegen::image::{Fixup, Image, Symbol};
use crate::codegen::target::{self, Level};
use crate::emit::jit::JitImage;
use cranelift_codegen::Context;
use cranelift_codegen::ir::{AbiParam, InstBuilder, Signature, UserFuncName, Value, types};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

/// An image with one function of `count` 64-bit arguments, passed as a list, which `body` fills.
pub fn build(level: &Level, fma: bool, count: usize, body: impl FnOnce(&mut Emitter<'_, '_>, &[Value])) -> Image {
    let mut image = Image::new(level.arch);
    image.keep_text = true;
    let descriptor = image.add_data(DESCRIPTOR, vec![0; 8], 64);
    let id = image.declare_function("test");
    image.add_fixup(descriptor, Fixup { at: 0, target: Symbol::Function(id), addend: 0 });
    let isa = target::isa(level).unwrap();
    let mut context = Context::new();
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params = vec![AbiParam::new(types::I64)];
    context.func.signature = signature;
    context.func.name = UserFuncName::user(0, id.0);
    let mut builders = FunctionBuilderContext::new();
    let b = FunctionBuilder::new(&mut context.func, &mut builders);
    let mut e = Emitter { b, image: &mut image, level, fma };
    let entry = e.b.create_block();
    e.b.append_block_params_for_function_params(entry);
    e.b.switch_to_block(entry);
    e.b.seal_block(entry);
    let list = e.b.block_params(entry)[0];
    let arguments: Vec<Value> = (0..count).map(|i| e.load(types::I64, list, 8 * i as i32)).collect();
    body(&mut e, &arguments);
    e.b.ins().return_(&[]);
    e.b.seal_all_blocks();
    e.b.finalize(isa.frontend_config());
    image.define(id, context, &*isa).unwrap();
    image
}

/// The function of an image, ready to be called.
pub struct Code(JitImage);

impl Code {
    /// Links it.
    pub fn new(image: &Image) -> Code {
        Code(JitImage::new(image).unwrap())
    }

    /// Calls it. The arguments must be what the function under test expects: addresses of buffers of the sizes that the
    /// products state.
    pub fn call(&self, arguments: &[u64]) {
        let descriptor = self.0.descriptor();
        // SAFETY: the descriptor's first field is the distance to the function that `build` defined, whose one parameter is
        // a list; the image lives on in `self`, and tests pass buffers of the stated sizes.
        unsafe {
            let distance = *descriptor.cast::<i64>();
            let function: extern "C" fn(*const u64) = std::mem::transmute(descriptor.offset(distance as isize));
            function(arguments.as_ptr());
        }
    }
}

/// A buffer of `bytes`, aligned to 64, filled with `fill` so that what is not written shows.
pub struct Memory(Vec<[u64; 8]>, usize);

impl Memory {
    /// Of `bytes`.
    pub fn new(bytes: usize, fill: u8) -> Memory {
        // One element more: the allocation is aligned to 8.
        Memory(vec![[u64::from_ne_bytes([fill; 8]); 8]; bytes.div_ceil(64) + 2], bytes)
    }

    /// Holding `values`, with 64 bytes behind them.
    pub fn of<const N: usize>(values: impl Iterator<Item = [u8; N]>) -> Memory {
        let bytes: Vec<u8> = values.flatten().collect();
        let mut memory = Memory::new(bytes.len() + 64, 0);
        memory.bytes_mut()[..bytes.len()].copy_from_slice(&bytes);
        memory
    }

    /// Its address.
    pub fn address(&self) -> u64 {
        self.bytes().as_ptr() as u64
    }

    /// Its contents.
    pub fn bytes(&self) -> &[u8] {
        let all = self.0.as_flattened();
        // SAFETY: plain numbers as bytes.
        let all = unsafe { std::slice::from_raw_parts(all.as_ptr().cast::<u8>(), all.len() * 8) };
        let skip = all.as_ptr().align_offset(64);
        &all[skip..skip + self.1]
    }

    /// Its contents.
    pub fn bytes_mut(&mut self) -> &mut [u8] {
        let all = self.0.as_flattened_mut();
        // SAFETY: plain numbers as bytes.
        let all = unsafe { std::slice::from_raw_parts_mut(all.as_mut_ptr().cast::<u8>(), all.len() * 8) };
        let skip = all.as_ptr().align_offset(64);
        &mut all[skip..skip + self.1]
    }

    /// The element at byte `at`.
    pub fn get<const N: usize>(&self, at: usize) -> [u8; N] {
        self.bytes()[at..at + N].try_into().unwrap()
    }

    /// Sets the element at byte `at`.
    pub fn set<const N: usize>(&mut self, at: usize, value: [u8; N]) {
        self.bytes_mut()[at..at + N].copy_from_slice(&value);
    }
}
