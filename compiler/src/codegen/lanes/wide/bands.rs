//! Bands of positions: where a nest has more channels than a register has lanes, memory that lies channels inside would be read a
//! register's worth in every pixel, channel group after channel group, which no prefetcher follows. So the leaf function does
//! all channels of some positions before it goes on to the next; what it sums waits in the block meanwhile. A pass over images
//! larger than the caches takes half the time for it. A band is a page or two, at whose end machines forget what they fetched
//! ahead, so each element asks for the one that lies a band further.
//!
//! ```text
//! for channels { for positions { … } }    →    for bands { for channels { for positions of the band { … } } }
//! ```

use super::assemble::{BLOCK, Done};
use super::plan::{CHANNEL, HOME, Plan};
use crate::codegen::lanes::nest::{Nest, Sink};
use crate::codegen::lanes::program::Access;
use crate::codegen::tiles::Width;
use iced_x86::IcedError;
use iced_x86::code_asm::*;

/// Positions of a band: few enough that the pages which they lie on are remembered, a multiple of the lanes of sums.
const POSITIONS: usize = 16;
/// Bytes of the block that sums may wait in.
const WAITING: usize = 16 << 10;

/// Bytes from an element to that of the same channel in the next band, but for what lies between rows.
pub(super) fn ahead(access: &Access) -> i32 {
    (POSITIONS * access.column) as i32
}

/// The bands of a leaf function, and where it keeps count of them in the block.
#[derive(Clone, Copy, Debug)]
pub struct Bands {
    count: u32,
    /// Positions of the last band.
    last: usize,
    at: i32,
    /// Bytes that the sums of a register's channels wait in, and of the whole block.
    record: usize,
    /// Bytes of the block.
    pub bytes: usize,
}

/// Words behind [`Bands::at`]: the first channel, the sums of the channels at hand, bands left, groups of positions of the band,
/// columns left of a row, the band's first position; then the sums.
const FIRST: i32 = 0;
const RECORD: i32 = 8;
const LEFT: i32 = 16;
const GROUPS: i32 = 20;
const COLUMNS: i32 = 24;
const FLAT: i32 = 28;

impl Bands {
    /// The bands of `nest` over so many channels, if they help.
    pub fn of(nest: &Nest, plan: &Plan, width: Width, channels: usize) -> Option<Bands> {
        let (area, vectors) = (nest.image[0] * nest.image[1], channels / width.lanes());
        let waiting = nest.sinks.iter().zip(&plan.accumulators).filter(|(s, _)| !matches!(s, Sink::Greatest(_)));
        let record = waiting.map(|(_, places)| places.len() * HOME).sum::<usize>();
        if vectors < 2 || area <= POSITIONS || vectors * record > WAITING {
            return None;
        }
        let count = area.div_ceil(POSITIONS);
        Some(Bands {
            count: count as u32,
            last: area - (count - 1) * POSITIONS,
            at: plan.bytes as i32,
            record,
            bytes: plan.bytes + HOME + vectors * record,
        })
    }

    fn word(self, word: i32) -> AsmMemoryOperand {
        BLOCK + (self.at + word)
    }

    /// Before the first band of groups of so many positions; `columns` are those of a row. rax is overwritten.
    pub fn begin(self, a: &mut CodeAssembler, group: usize, columns: usize) -> Done {
        a.mov(rax, qword_ptr(BLOCK + CHANNEL as i32))?;
        a.mov(qword_ptr(self.word(FIRST)), rax)?;
        a.mov(dword_ptr(self.word(LEFT)), self.count)?;
        a.mov(dword_ptr(self.word(GROUPS)), (POSITIONS / group) as u32)?;
        a.mov(dword_ptr(self.word(COLUMNS)), columns as u32)?;
        a.mov(dword_ptr(self.word(FLAT)), 0)?;
        self.first_record(a)
    }

    fn first_record(self, a: &mut CodeAssembler) -> Done {
        a.lea(rax, self.word(HOME as i32))?;
        a.mov(qword_ptr(self.word(RECORD)), rax)
    }

    /// Groups of positions of the band, the columns left of its first row, and its first position.
    pub fn positions(self, a: &mut CodeAssembler, [groups, columns, flat]: [AsmRegister32; 3]) -> Done {
        a.mov(groups, dword_ptr(self.word(GROUPS)))?;
        a.mov(columns, dword_ptr(self.word(COLUMNS)))?;
        a.mov(flat, dword_ptr(self.word(FLAT)))
    }

    /// Positions behind the last band's groups.
    pub fn rest(self, group: usize) -> usize {
        self.last % group
    }

    /// Goes to `label` unless this is the last band.
    pub fn unless_last(self, a: &mut CodeAssembler, label: CodeLabel) -> Done {
        a.cmp(dword_ptr(self.word(LEFT)), 1)?;
        a.jne(label)
    }

    /// Goes to `label` unless this is the first band.
    pub fn unless_first(self, a: &mut CodeAssembler, label: CodeLabel) -> Done {
        a.cmp(dword_ptr(self.word(LEFT)), self.count)?;
        a.jne(label)
    }

    /// The address of the sums of the channels at hand.
    pub fn record(self, a: &mut CodeAssembler, to: AsmRegister64) -> Done {
        a.mov(to, qword_ptr(self.word(RECORD)))
    }

    /// Behind the channels at hand: the next ones' sums lie behind theirs.
    pub fn next_record(self, a: &mut CodeAssembler) -> Done {
        a.add(qword_ptr(self.word(RECORD)), self.record as i32)
    }

    /// Behind all channels of a band, whose last channels' addresses are in `moving`: the next band goes on where they are; goes
    /// to `again` if there is one. Channels go by so many lanes, positions by groups. r15 and rax are overwritten.
    pub fn next(
        self,
        a: &mut CodeAssembler,
        moving: impl Iterator<Item = (AsmRegister64, usize, usize)>,
        [columns, flat]: [AsmRegister32; 2],
        [lanes, group]: [usize; 2],
        again: CodeLabel,
    ) -> Result<(), IcedError> {
        // The channel counter is one register's channels ahead of them.
        a.mov(r15d, lanes as u32)?;
        a.sub(r15, qword_ptr(BLOCK + CHANNEL as i32))?;
        for (register, at, size) in moving {
            a.lea(register, ptr(register + r15 * size as i32))?;
            a.mov(qword_ptr(BLOCK + at as i32), register)?;
        }
        a.mov(dword_ptr(self.word(COLUMNS)), columns)?;
        a.mov(dword_ptr(self.word(FLAT)), flat)?;
        a.mov(rax, qword_ptr(self.word(FIRST)))?;
        a.mov(qword_ptr(BLOCK + CHANNEL as i32), rax)?;
        self.first_record(a)?;
        let mut end = a.create_label();
        a.dec(dword_ptr(self.word(LEFT)))?;
        a.jz(end)?;
        a.cmp(dword_ptr(self.word(LEFT)), 1)?;
        a.jne(again)?;
        a.mov(dword_ptr(self.word(GROUPS)), (self.last / group) as u32)?;
        a.jmp(again)?;
        a.set_label(&mut end)?;
        a.zero_bytes()
    }
}
