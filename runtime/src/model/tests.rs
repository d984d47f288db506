//! A model written by hand in memory: y = 2·x + i over samples of 3 floats, in tasks, with a profile hook.

use super::*;
use crate::tensor::{Data, Tensor};

#[repr(C)]
pub(super) struct Image {
    pub desc: abi::ModelDesc,
    pub ports: [abi::TensorDesc; 2],
    pub levels: [abi::LevelDesc; 2],
    pub layers: [abi::LayerDesc; 1],
    pub states: [abi::StateDesc; 1],
    pub text: [u8; 64],
}

unsafe extern "C" fn cpu(_: u64, _: u64) -> u64 {
    abi::FEATURES_VALID | 1
}

unsafe extern "C" fn prepare(level: u32, to: *mut c_void) -> i32 {
    // SAFETY: 64 bytes by the level's description.
    unsafe { *to.cast::<f32>() = 2.0 + level as f32 };
    abi::OK
}

unsafe extern "C" fn task(data: *mut c_void, i: u64, _: u32) {
    // SAFETY: the call of `run` below.
    unsafe {
        let call = &*data.cast::<abi::Call>();
        let (x, y) = ((*call.inputs).cast::<f32>(), (*call.outputs).cast::<f32>());
        let factor = if call.prepared.is_null() { 2.0 } else { *call.prepared.cast::<f32>() };
        for k in 0..3 {
            let at = i as usize * 3 + k;
            *y.add(at) = factor * *x.add(at) + k as f32;
            *call.arena.cast::<f32>().add(at) = *y.add(at);
        }
    }
}

unsafe extern "C" fn run(call: *mut abi::Call) -> i32 {
    // SAFETY: the call is the session's.
    unsafe {
        let c = &*call;
        if c.batch == 0 || c.batch > 5 {
            return abi::E_BATCH;
        }
        if c.arena_size < c.batch * 12 || c.arena.align_offset(64) != 0 {
            return abi::E_ARENA;
        }
        if let Some(p) = c.profile {
            p(c.profile_ctx, 0, 0);
        }
        match c.parallel_for {
            Some(f) => f(c.pool, task, call.cast(), c.batch),
            None => (0..c.batch).for_each(|i| task(call.cast(), i, 0)),
        }
        if let Some(p) = c.profile {
            p(c.profile_ctx, 0, 1);
        }
    }
    abi::OK
}

pub(super) fn image(change: impl Fn(&mut Image)) -> Result<Model, ModelError> {
    // SAFETY: plain integers.
    let mut image: Box<Image> = Box::new(unsafe { std::mem::zeroed() });
    let base = &raw const *image as i64;
    let names = b"x\0layer\0{\"labels\":[\"a\"]}\0";
    image.text[..names.len()].copy_from_slice(names);
    let text = std::mem::offset_of!(Image, text) as i64;
    let dims = [-1, 3, 0, 0, 0, 0];
    image.ports = [abi::TensorDesc { name: text, dtype: abi::F32, rank: 2, dims }; 2];
    image.levels = [abi::LevelDesc { name: text, required: 1, prepared_bytes: 64 }; 2];
    image.levels[1].required = 3;
    image.layers =
        [abi::LayerDesc { name: text + 2, kernel: text, macs: 3, bytes: 12, offset: 0, dtype: 1, layout: 0 }];
    let d = &mut image.desc;
    (d.magic, d.abi, d.size, d.arch, d.kind) = (abi::MAGIC, 1, 192, abi::ARCH_HOST, abi::INFERENCE);
    (d.n_inputs, d.n_outputs, d.n_levels, d.n_layers, d.arena_align) = (1, 1, 2, 1, 64);
    d.inputs = std::mem::offset_of!(Image, ports) as i64;
    d.outputs = d.inputs + 64;
    d.levels = std::mem::offset_of!(Image, levels) as i64;
    d.layers = std::mem::offset_of!(Image, layers) as i64;
    (d.arena_per_sample, d.max_batch, d.metadata) = (12, 5, text + 8);
    d.run = run as *const () as i64 - base;
    d.cpu = cpu as *const () as i64 - base;
    d.prepare = prepare as *const () as i64 - base;
    change(&mut image);
    let pointer = (&raw const *image).cast();
    // SAFETY: the image lives in the box that is kept.
    unsafe { Model::from_descriptor(pointer, image) }
}

#[test]
fn runs_any_batch_with_any_threads() {
    let model = image(|_| ()).unwrap();
    assert_eq!(model.inputs()[0], Port { name: "x".into(), dtype: DType::F32, dims: vec![None, Some(3)] });
    assert_eq!(model.layers()[0].name, "layer");
    assert_eq!(model.metadata()["labels"][0], "a");
    for threads in 1..4 {
        let mut session = Session::new(&model, threads).unwrap();
        assert_eq!((session.level(), session.chunk()), (0, 5));
        for batch in [0usize, 1, 5, 23] {
            let x: Vec<f32> = (0..batch * 3).map(|v| v as f32).collect();
            let want: Vec<f32> = x.iter().enumerate().map(|(i, v)| 2.0 * v + (i % 3) as f32).collect();
            let y = session.run(&[Tensor::f32([batch, 3], x.clone()).unwrap()]).unwrap();
            assert_eq!(y, [Tensor::f32([batch, 3], want.clone()).unwrap()]);
            let mut seen = 0;
            let mut look = |e: LayerEvent<'_>| {
                let first = f32::from_le_bytes(e.arena[..4].try_into().unwrap());
                assert_eq!(first, want[e.first_sample * 3]);
                seen += e.batch;
            };
            let (_, times) = session.run_profiled(&[Tensor::f32([batch, 3], x).unwrap()], &mut look).unwrap();
            assert_eq!((seen, times.len()), (batch, 1));
        }
    }
}

#[test]
fn refuses_what_does_not_fit() {
    let mut session = Session::new(&image(|_| ()).unwrap(), 1).unwrap();
    let text = |r: Result<Vec<Tensor>, RunError>| r.unwrap_err().to_string();
    assert!(text(session.run(&[])).contains("1 input(s)"));
    assert!(text(session.run(&[Tensor::new([1, 3], Data::U8(vec![0; 3])).unwrap()])).contains("scale the pixels"));
    assert!(text(session.run(&[Tensor::f32([3, 1], vec![0.0; 3]).unwrap()])).contains("[N, 3]"));
    assert!(matches!(session.use_level(1), Err(RunError::Cpu { .. })));
    assert!(matches!(session.use_level(2), Err(RunError::NoLevel { .. })));
    let poor = image(|i| i.levels[0].required = 6).unwrap();
    assert!(Session::new(&poor, 1).err().unwrap().to_string().contains("lower --cpu"));
    let train = image(|i| i.desc.kind = abi::TRAIN_STEP).unwrap();
    assert!(matches!(Session::new(&train, 1), Err(RunError::NotInference)));
}

#[test]
fn bad_descriptors_are_errors() {
    assert!(image(|i| i.desc.magic[0] = 0).is_err());
    assert!(image(|i| i.desc.abi = 2).is_err());
    assert!(image(|i| i.desc.size = 100).is_err());
    assert!(image(|i| i.desc.arch = 9).is_err());
    assert!(image(|i| i.desc.kind = 7).is_err());
    assert!(image(|i| i.ports[0].rank = 7).is_err());
    assert!(image(|i| i.ports[0].dims[1] = -5).is_err());
    assert!(image(|i| i.ports[0].dtype = 77).is_err());
}

#[test]
fn bad_files_are_errors() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("m.so");
    assert!(matches!(Model::load(&path), Err(ModelError::Read { .. })));
    let mut elf = vec![0u8; 64];
    elf[..6].copy_from_slice(b"\x7fELF\x02\x01");
    elf[16] = 3;
    elf[18] = if abi::ARCH_HOST == 1 { 62 } else { 183 };
    elf[32] = 64;
    elf[56] = 2;
    for bytes in [&b""[..], b"hello", &elf[..20], &elf] {
        std::fs::write(&path, bytes).unwrap();
        let error = Model::load(&path).err().unwrap().to_string();
        assert!(error.contains("m.so"), "{error}");
    }
}

#[test]
fn a_foreign_library_is_a_link_error() {
    let libc = ["/lib/x86_64-linux-gnu/libm.so.6", "/lib/aarch64-linux-gnu/libm.so.6", "/usr/lib64/libm.so.6"];
    for path in libc.iter().filter(|p| Path::new(p).exists()) {
        match Model::load(path) {
            Err(ModelError::Link { .. }) | Err(ModelError::Malformed { .. }) => {}
            Err(e) => panic!("{e}"),
            Ok(_) => panic!("loaded {path}"),
        }
    }
}
