//! Reading a descriptor: strings and arrays at self-relative offsets, all of them checked.
//!
//! Where the image's extent is known (a file), every offset is checked to lie inside it, so that a damaged descriptor is an
//! error and nothing is read beyond the image. Must never know: files, and how a model is run.
#![allow(unsafe_code)]

use super::elf::Layout;
use super::{DType, Layer, Level, Port, State};
use crate::abi;
use std::marker::PhantomData;
use std::ops::Range;

/// Most bytes of a name.
const NAME: usize = 1 << 16;
/// Most inputs, outputs and levels.
const FEW: u32 = 1 << 10;
/// Most layers and state tensors.
const MANY: u32 = 1 << 20;
/// Most bytes of memory that a model may ask for, whatever for: what an address space of 47 bits holds.
const MEMORY: u64 = 1 << 46;

/// Reads the arrays and strings of a descriptor.
pub(super) struct View<'a> {
    base: *const u8,
    image: PhantomData<&'a [u8]>,
    /// Ranges of offsets from the descriptor that may be read; `None` where the caller vouches for all.
    readable: Option<Vec<Range<i64>>>,
    /// Those of code.
    executable: Option<Vec<Range<i64>>>,
}

/// What a checked descriptor says.
pub(super) struct Described {
    pub desc: abi::ModelDesc,
    pub inputs: Vec<Port>,
    pub outputs: Vec<Port>,
    pub levels: Vec<Level>,
    pub layers: Vec<Layer>,
    pub states: Vec<State>,
    pub metadata: serde_json::Value,
}

impl<'a> View<'a> {
    /// A view of an image in memory whose descriptor the caller vouches for.
    ///
    /// # Safety
    /// `base` is the descriptor of an image as dorefac.h describes it, and outlives the view.
    pub(super) unsafe fn trusted(base: *const u8) -> View<'a> {
        View { base, image: PhantomData, readable: None, executable: None }
    }

    /// A view of a file's bytes, which nobody vouches for.
    ///
    /// # Errors
    /// When the descriptor lies outside the bytes.
    pub(super) fn of_file(bytes: &'a [u8], layout: &Layout) -> Result<View<'a>, String> {
        let at = |n: u64| i64::try_from(n).ok()?.checked_sub(i64::try_from(layout.descriptor).ok()?);
        let relative = |ranges: &[Range<u64>]| {
            let one = |r: &Range<u64>| Some(at(r.start)?..at(r.end.min(bytes.len() as u64))?);
            ranges.iter().map(one).collect::<Option<Vec<_>>>()
        };
        let base = bytes.get(usize::try_from(layout.descriptor).unwrap_or(usize::MAX)..);
        let base = base.ok_or("its descriptor lies outside the file; compile or copy it again")?.as_ptr();
        let ranges = relative(&layout.readable).zip(relative(&layout.executable));
        let (readable, executable) = ranges.ok_or("its segments are malformed; compile or copy it again")?;
        Ok(View { base, image: PhantomData, readable: Some(readable), executable: Some(executable) })
    }

    /// Bytes that may be read from `offset` on; `None` where nobody knows how many.
    fn room(&self, offset: i64) -> Result<Option<usize>, String> {
        let Some(ranges) = &self.readable else { return Ok(None) };
        let range = ranges.iter().find(|r| r.contains(&offset));
        let room = range.and_then(|r| usize::try_from(r.end.checked_sub(offset)?).ok());
        room.map(Some).ok_or_else(|| damaged(&format!("points to byte {offset}, outside the image")))
    }

    fn at(&self, offset: i64) -> *const u8 {
        self.base.wrapping_offset(offset as isize)
    }

    /// The NUL-terminated text at `offset`, at most `most` bytes; empty where the offset is 0.
    fn text(&self, offset: i64, most: usize) -> Result<String, String> {
        if offset == 0 {
            return Ok(String::new());
        }
        let room = self.room(offset)?.unwrap_or(usize::MAX).min(most);
        // SAFETY: `room` bytes may be read, or by the contract of `trusted` there is a NUL, beyond which nothing is read.
        let bytes = (0..room).map(|i| unsafe { self.at(offset).wrapping_add(i).read() });
        let text: Vec<u8> = bytes.take_while(|&b| b != 0).collect();
        if text.len() == room {
            return Err(damaged("holds a text that does not end"));
        }
        Ok(String::from_utf8_lossy(&text).into_owned())
    }

    fn name(&self, offset: i64) -> Result<String, String> {
        self.text(offset, NAME)
    }

    /// Bytes that an array of `count` such elements takes, checked to lie inside the image.
    fn extent<T>(&self, offset: i64, count: u32) -> Result<Range<i64>, String> {
        let len = size_of::<T>().checked_mul(count as usize).filter(|&n| n <= isize::MAX as usize);
        let len = len.ok_or_else(|| damaged("counts more than there can be"))?;
        if self.room(offset)?.is_some_and(|room| len > room) {
            return Err(damaged(&format!("counts {count} entries, beyond the image")));
        }
        Ok(offset..offset.saturating_add(len as i64))
    }

    fn array<T: Copy>(&self, offset: i64, count: u32) -> Result<Vec<T>, String> {
        if count == 0 {
            return Ok(Vec::new());
        }
        if offset == 0 {
            return Err(damaged("counts entries of an array that is absent"));
        }
        self.extent::<T>(offset, count)?;
        let first = self.at(offset).cast::<T>();
        // SAFETY: that many `T`, plain integers, lie inside the image as `extent` checked, or by the contract of
        // `trusted`; no alignment is assumed.
        Ok((0..count as usize).map(|i| unsafe { first.wrapping_add(i).read_unaligned() }).collect())
    }

    /// Reads and checks the descriptor and everything that it points to.
    ///
    /// # Errors
    /// What is wrong, and what to do.
    pub(super) fn describe(&self) -> Result<Described, String> {
        self.extent::<abi::ModelDesc>(0, 1)?;
        // SAFETY: inside the image as just checked, or by the contract of `trusted`.
        let desc = unsafe { self.base.cast::<abi::ModelDesc>().read_unaligned() };
        check_head(&desc)?;
        self.check_arrays(&desc)?;
        self.check_functions(&desc)?;
        let (inputs, outputs) = (self.ports(desc.inputs, desc.n_inputs)?, self.ports(desc.outputs, desc.n_outputs)?);
        let text = self.text(desc.metadata, usize::MAX)?;
        let metadata = if text.is_empty() {
            serde_json::Value::Null
        } else {
            serde_json::from_str(&text).map_err(|e| format!("its metadata is not JSON ({e}); compile it again"))?
        };
        let (levels, layers, states) = (self.levels(&desc)?, self.layers(&desc)?, self.states(&desc)?);
        Ok(Described { desc, inputs, outputs, levels, layers, states, metadata })
    }

    /// The arrays lie in the image, apart from one another and from the descriptor.
    fn check_arrays(&self, d: &abi::ModelDesc) -> Result<(), String> {
        let descriptor = 0..size_of::<abi::ModelDesc>() as i64;
        let mut ranges = vec![descriptor];
        let mut add = |offset, count, extent: Result<Range<i64>, String>| {
            if offset != 0 && count != 0 {
                ranges.push(extent?);
            }
            Ok::<_, String>(())
        };
        add(d.inputs, d.n_inputs, self.extent::<abi::TensorDesc>(d.inputs, d.n_inputs))?;
        add(d.outputs, d.n_outputs, self.extent::<abi::TensorDesc>(d.outputs, d.n_outputs))?;
        add(d.levels, d.n_levels, self.extent::<abi::LevelDesc>(d.levels, d.n_levels))?;
        add(d.layers, d.n_layers, self.extent::<abi::LayerDesc>(d.layers, d.n_layers))?;
        add(d.states, d.n_states, self.extent::<abi::StateDesc>(d.states, d.n_states))?;
        ranges.sort_by_key(|r| r.start);
        match ranges.windows(2).any(|w| matches!(w, [a, b] if b.start < a.end)) {
            true => Err(damaged("has arrays that overlap")),
            false => Ok(()),
        }
    }

    /// Functions lie in code; those that must be there are.
    fn check_functions(&self, d: &abi::ModelDesc) -> Result<(), String> {
        let functions = [("run", d.run), ("cpu", d.cpu), ("enable_amx", d.enable_amx)];
        let more = [("init_state", d.init_state), ("prepare", d.prepare)];
        let code = |at: i64| self.executable.as_ref().is_none_or(|ranges| ranges.iter().any(|r| r.contains(&at)));
        for (name, at) in functions.into_iter().chain(more) {
            if at != 0 && !code(at) {
                return Err(damaged(&format!("has a function `{name}` outside the code")));
            }
        }
        match d.run == 0 || d.cpu == 0 {
            true => Err(damaged("lacks run or cpu")),
            false => Ok(()),
        }
    }

    fn ports(&self, offset: i64, count: u32) -> Result<Vec<Port>, String> {
        let port = |t: abi::TensorDesc| {
            let name = self.name(t.name)?;
            let dtype = DType::from_code(t.dtype).filter(|d| !matches!(d, DType::I8 | DType::F64));
            let Some(dtype) = dtype else {
                return Err(format!("tensor `{name}` has element type {}, which this runtime does not pass", t.dtype));
            };
            let dims: Option<Vec<_>> = t.dims.get(..t.rank as usize).and_then(|dims| {
                let one = |(axis, &d): (usize, &i64)| match d {
                    -1 if axis == 0 => Some(None),
                    d => usize::try_from(d).ok().map(Some),
                };
                dims.iter().enumerate().map(one).collect()
            });
            let size = |dims: &Vec<Option<usize>>| {
                dims.iter().flatten().try_fold(dtype.size(), |a, &d| a.checked_mul(d)).filter(|&n| n as u64 <= MEMORY)
            };
            match dims.filter(|d| size(d).is_some()) {
                Some(dims) => Ok(Port { name, dtype, dims }),
                None => Err(format!(
                    "tensor `{name}` has an impossible shape {:?} of rank {}; compile it again",
                    t.dims, t.rank
                )),
            }
        };
        self.array::<abi::TensorDesc>(offset, count)?.into_iter().map(port).collect()
    }

    fn levels(&self, d: &abi::ModelDesc) -> Result<Vec<Level>, String> {
        let one = |l: abi::LevelDesc| {
            if l.prepared_bytes > MEMORY || (l.prepared_bytes != 0 && d.prepare == 0) {
                return Err(damaged("has a level whose weights cannot be prepared"));
            }
            Ok(Level { name: self.name(l.name)?, required: l.required, prepared_bytes: l.prepared_bytes })
        };
        self.array(d.levels, d.n_levels)?.into_iter().map(one).collect()
    }

    fn layers(&self, d: &abi::ModelDesc) -> Result<Vec<Layer>, String> {
        let one = |l: abi::LayerDesc| {
            Ok(Layer {
                name: self.name(l.name)?,
                kernel: self.name(l.kernel)?,
                macs: l.macs,
                bytes: l.bytes,
                offset: l.offset,
                dtype: DType::from_code(l.dtype),
                layout: l.layout,
            })
        };
        self.array(d.layers, d.n_layers)?.into_iter().map(one).collect()
    }

    fn states(&self, d: &abi::ModelDesc) -> Result<Vec<State>, String> {
        let one = |s: abi::StateDesc| {
            let name = self.name(s.name)?;
            let dims: Option<Vec<usize>> =
                s.dims.get(..s.rank as usize).and_then(|d| d.iter().map(|&d| usize::try_from(d).ok()).collect());
            match dims {
                Some(dims) => Ok(State { name, offset: s.offset, count: s.count, role: s.role, dims }),
                None => Err(damaged(&format!("has a state tensor `{name}` of an impossible shape"))),
            }
        };
        let states = self.array(d.states, d.n_states)?.into_iter().map(one).collect::<Result<Vec<_>, _>>()?;
        let mut ranges: Vec<_> =
            states.iter().map(|s| s.offset..s.offset.saturating_add(s.count.saturating_mul(4))).collect();
        ranges.sort_by_key(|r| r.start);
        match ranges.windows(2).any(|w| matches!(w, [a, b] if b.start < a.end)) {
            true => Err(damaged("has state tensors that overlap")),
            false => Ok(states),
        }
    }
}

fn damaged(what: &str) -> String {
    format!("its descriptor {what}; the file is damaged: compile it again")
}

/// The descriptor's own fields.
fn check_head(d: &abi::ModelDesc) -> Result<(), String> {
    if d.magic != abi::MAGIC {
        return Err("it has no dorefac descriptor; pass a file made by `dorefac compile`".into());
    }
    if d.abi != abi::ABI {
        return Err(format!("its interface version is {}, this runtime knows {}; compile it again", d.abi, abi::ABI));
    }
    if (d.size as usize) < size_of::<abi::ModelDesc>() {
        return Err(format!("its descriptor has {} bytes, too few; compile it again", d.size));
    }
    if d.arch != abi::ARCH_HOST {
        return Err(format!(
            "it is for architecture {}, this is {}; compile with another --target",
            d.arch,
            abi::ARCH_HOST
        ));
    }
    if !matches!(d.kind, abi::INFERENCE | abi::TRAIN_STEP) {
        return Err(format!("its kind {} is unknown; use a newer runtime", d.kind));
    }
    if !d.arena_align.is_power_of_two() || d.arena_align > 64 || d.max_batch == 0 {
        return Err(damaged("is inconsistent (arena alignment or greatest batch)"));
    }
    let counts = [d.n_inputs, d.n_outputs, d.n_levels];
    if d.n_outputs == 0 || d.n_levels == 0 || counts.iter().any(|&n| n > FEW) || d.n_layers.max(d.n_states) > MANY {
        return Err(damaged("counts no or too many inputs, outputs, levels, layers or states"));
    }
    if [d.arena_fixed, d.arena_per_sample, d.arena_per_worker, d.state_bytes].iter().any(|&n| n > MEMORY) {
        return Err(damaged("asks for more memory than there can be"));
    }
    Ok(())
}
