//! A tiny model for the tests of the emitters.
#![allow(unsafe_code)]

use super::*;
use crate::codegen::image::import_data;
use crate::codegen::target::{Arch, x86};
use cranelift_codegen::ir::MemFlagsData;

/// One step, one output element per sample: 42.5 read from a data object.
pub(crate) fn tiny(arch: Arch) -> Image {
    let mut image = Image::new(arch);
    let constant = image.add_data("constant", 42.5f32.to_le_bytes().to_vec(), 4);
    let task = image.declare_function("task");
    build(&mut image, task, signature(&[types::I64, types::I64, types::I32], None), |b, params| {
        let flags = MemFlagsData::trusted();
        let outputs = b.ins().load(types::I64, flags, params[0], 40);
        let output = b.ins().load(types::I64, flags, outputs, 0);
        let gv = import_data(b.func, constant);
        let from = b.ins().symbol_value(types::I64, gv);
        let value = b.ins().load(types::F32, flags, from, 0);
        let offset = b.ins().ishl_imm_u(params[1], 2);
        let to = b.ins().iadd(output, offset);
        b.ins().store(flags, value, to, 0);
        b.ins().return_(&[]);
    })
    .unwrap();
    let features = if arch == Arch::X86_64 { x86::POPCNT } else { 0 };
    let tensor = TensorSpec { name: "y".to_owned(), dtype: 1, dims: vec![-1, 1] };
    let step = StepSpec {
        name: "layer".to_owned(),
        kernel: "constant".to_owned(),
        task,
        tasks: TaskCount::PerSample(1),
        order: Order::Alone,
        macs: 0,
        bytes: 4,
        arena_offset: 0,
        dtype: 1,
        layout: 0,
    };
    let spec = ModelSpec {
        inputs: vec![tensor.clone()],
        outputs: vec![tensor],
        levels: vec![LevelSpec {
            level: Level { name: "level".to_owned(), arch, features },
            steps: vec![step],
            programs: None,
        }],
        arena_fixed: 64,
        arena_per_sample: 8,
        arena_per_worker: 16,
        metadata_json: "{}".to_owned(),
        graph_hash: 7,
        train: None,
        fma: false,
    };
    finish(&mut image, &spec).unwrap();
    image
}

#[repr(C, align(64))]
struct Arena([u8; 128]);

/// Calls `run` of a [`tiny`] descriptor in every way.
pub(crate) unsafe fn check_calls(descriptor: *const u8) {
    // SAFETY: the fields are where `dorefac.h` has them; the functions have its types.
    unsafe {
        assert_eq!(std::slice::from_raw_parts(descriptor, 8), b"DOREFAC\0");
        let at = |offset: usize| descriptor.offset(*descriptor.add(offset).cast::<i64>() as isize);
        let run: extern "C" fn(*mut u64) -> i32 = std::mem::transmute(at(152));
        let cpu: extern "C" fn(u64, u64) -> u64 = std::mem::transmute(at(160));
        let prepare: extern "C" fn(u32, *mut u8) -> i32 = std::mem::transmute(at(184));
        let host = crate::codegen::target::host_features();
        let amx = x86::AMX;
        assert_eq!(cpu(0, 0) & !(1 << 63) & !amx, host & !amx);
        assert!(host & amx == 0 || cpu(0, 0) & x86::AMX_INT8 != 0);
        assert_eq!(prepare(0, std::ptr::null_mut()), -7);
        let (input, mut output, mut arena) = ([0f32; 3], [0f32; 3], Arena([0; 128]));
        let (inputs, outputs) = ([input.as_ptr()], [output.as_mut_ptr()]);
        let mut call = [0u64; 14];
        call[0] = 1 | 112 << 32;
        call[2] = 3;
        (call[4], call[5]) = (inputs.as_ptr() as u64, outputs.as_ptr() as u64);
        (call[6], call[7], call[10]) = (arena.0.as_mut_ptr() as u64, 128, 1);
        assert_eq!(run(call.as_mut_ptr()), 0);
        assert_eq!(output, [42.5; 3]);
        let code = |index: usize, value: u64| {
            let mut other = call;
            other[index] = value;
            run(other.as_mut_ptr())
        };
        assert_eq!(code(0, 2 | 112 << 32), -1);
        assert_eq!(code(0, 1 | 104 << 32), -1);
        assert_eq!(code(1, 1 << 63), -2);
        assert_eq!(code(2, 0), -3);
        assert_eq!(code(7, 103), -4);
        assert_eq!(code(7, 104), 0);
        assert_eq!(code(6, call[6] + 8), -5);
        assert_eq!(code(4, 0), -6);
        extern "C" fn parallel(pool: *mut u32, task: extern "C" fn(*mut u64, u64, u32), data: *mut u64, n: u64) {
            (0..n).rev().for_each(|i| task(data, i, 0));
            // SAFETY: the test passes a counter.
            unsafe { *pool += n as u32 };
        }
        let mut count = 0u32;
        (call[8], call[9]) = (parallel as *const () as u64, &raw mut count as u64);
        output = [0.0; 3];
        assert_eq!(run(call.as_mut_ptr()), 0);
        assert_eq!((output, count), ([42.5; 3], 3));
    }
}
