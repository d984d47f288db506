//! The leaf function of a nest: loops over the channels, eight or sixteen at a time, and over the positions. Its one
//! argument is the block that `plan` lays out.

use super::Leaf;
use super::bands::{self, Bands};
use super::operators::Writer;
use super::plan::{CHANNEL, HOME, POINTERS, Place, SPARE, STOP};
use crate::codegen::lanes::nest::Sink;
use crate::codegen::lanes::program::{Access, Lane, Op};
use crate::codegen::tiles::{leaf, repeat};
use iced_x86::IcedError;
use iced_x86::code_asm::*;

pub(super) type Done = Result<(), IcedError>;

/// The block.
pub(super) const BLOCK: AsmRegister64 = rdi;
/// Registers of the addresses that positions move.
const MOVING: [AsmRegister64; POINTERS] = [rsi, r8, r9, r10, r11, rbx, rbp, r12, r13, r14];
/// Groups of positions that are left.
const GROUPS: AsmRegister32 = eax;
/// Columns that are left of a row.
const COLUMNS: AsmRegister32 = ecx;
/// y·W + x.
const FLAT: AsmRegister32 = edx;
/// What the caller keeps.
const SAVED: [AsmRegister64; 6] = [rbx, rbp, r12, r13, r14, r15];
/// Positions of a group where sums go round four lanes.
const LANES: usize = 4;

impl Leaf<'_> {
    /// Assembles the function; gives what the plan forgot, if it forgot something.
    pub fn assemble(&self, a: &mut CodeAssembler) -> Result<Option<&'static str>, IcedError> {
        let mut w = Writer::new(self);
        leaf(a, &SAVED, |a| self.body(a, &mut w))?;
        w.constants(a)?;
        Ok(w.forgotten)
    }

    fn body(&self, a: &mut CodeAssembler, w: &mut Writer<'_>) -> Done {
        for &(register, from) in &self.plan.pinned {
            w.load_place(a, register, from)?;
        }
        self.clear(a, w, |sink| matches!(sink, Sink::Greatest(_)))?;
        let (mut again, mut end) = (a.create_label(), a.create_label());
        a.mov(rax, qword_ptr(BLOCK + CHANNEL as i32))?;
        a.cmp(rax, qword_ptr(BLOCK + STOP as i32))?;
        a.jae(end)?;
        let mut band = a.create_label();
        if let Some(bands) = self.bands {
            bands.begin(a, self.group(), self.nest.image[1])?;
            a.set_label(&mut band)?;
            a.zero_bytes()?;
        }
        a.set_label(&mut again)?;
        self.channels(a, w)?;
        a.mov(rax, qword_ptr(BLOCK + CHANNEL as i32))?;
        a.add(rax, self.width.lanes() as i32)?;
        a.mov(qword_ptr(BLOCK + CHANNEL as i32), rax)?;
        a.cmp(rax, qword_ptr(BLOCK + STOP as i32))?;
        a.jb(again)?;
        if let Some(bands) = self.bands {
            let moving = self.moving().map(|(access, at, register)| (register, at, access.element.size()));
            bands.next(a, moving, [COLUMNS, FLAT], [self.width.lanes(), self.group()], band)?;
        }
        a.set_label(&mut end)?;
        self.maxima(a, w)
    }

    /// Positions that are unrolled, so that sums go round their lanes.
    fn group(&self) -> usize {
        if self.nest.sinks.iter().any(|s| matches!(s, Sink::Sum(..))) { LANES } else { 1 }
    }

    /// All positions of the channels at hand, or of the band.
    fn channels(&self, a: &mut CodeAssembler, w: &mut Writer<'_>) -> Done {
        for (access, at, register) in self.moving() {
            pointer(a, register, at, access.element.size())?;
        }
        for &v in &self.plan.channel {
            match self.nest.program.node(v).op {
                Op::Load(access) => self.still(a, w, v, access)?,
                Op::Channel => w.channel(a, v)?,
                _ => w.value(a, v)?,
            }
        }
        let waits = |sink: &Sink| !matches!(sink, Sink::Greatest(_));
        let Some(bands) = self.bands else {
            self.clear(a, w, waits)?;
            self.positions(a, w)?;
            return self.sums(a, w);
        };
        let places = || self.accumulators(waits).enumerate();
        let (mut resume, mut start) = (a.create_label(), a.create_label());
        bands.unless_first(a, resume)?;
        self.clear(a, w, waits)?;
        a.jmp(start)?;
        a.set_label(&mut resume)?;
        bands.record(a, r15)?;
        places().try_for_each(|(i, place)| w.set_place(a, place, r15 + i * HOME))?;
        a.set_label(&mut start)?;
        self.band(a, w, bands)?;
        let (mut wait, mut next) = (a.create_label(), a.create_label());
        bands.unless_last(a, wait)?;
        self.sums(a, w)?;
        a.jmp(next)?;
        a.set_label(&mut wait)?;
        bands.record(a, r15)?;
        places().try_for_each(|(i, place)| w.store_place(a, place, r15 + i * HOME))?;
        a.set_label(&mut next)?;
        bands.next_record(a)
    }

    /// The accumulators of the sinks that `which` names.
    fn accumulators(&self, which: impl Fn(&Sink) -> bool) -> impl Iterator<Item = Place> {
        let sinks = self.nest.sinks.iter().zip(&self.plan.accumulators).filter(move |(s, _)| which(s));
        sinks.flat_map(|(_, places)| places.iter().copied())
    }

    /// The addresses that positions move: where they lie in the block, and their registers.
    fn moving(&self) -> impl Iterator<Item = (&Access, usize, AsmRegister64)> {
        let moving = self.plan.accesses.iter().take(self.plan.moving).zip(MOVING);
        moving.map(|((access, at), register)| (access, *at, register))
    }

    /// Loads a value that positions do not change.
    fn still(&self, a: &mut CodeAssembler, w: &mut Writer<'_>, v: Lane, access: Access) -> Done {
        let Some(at) = self.plan.still(&access) else { return Ok(()) };
        pointer(a, rax, at, access.element.size())?;
        w.load(a, v, access.element, rax + 0)
    }

    fn positions(&self, a: &mut CodeAssembler, w: &mut Writer<'_>) -> Done {
        let [height, width] = self.nest.image;
        let (area, group) = (height * width, self.group());
        if w.flat {
            a.xor(FLAT, FLAT)?;
        }
        a.mov(COLUMNS, width as u32)?;
        repeat(a, GROUPS, area / group, |a| self.several(a, w, group))?;
        self.several(a, w, area % group)
    }

    /// The positions of a band.
    fn band(&self, a: &mut CodeAssembler, w: &mut Writer<'_>, bands: Bands) -> Done {
        bands.positions(a, [GROUPS, COLUMNS, FLAT])?;
        let (mut again, mut rest, mut end) = (a.create_label(), a.create_label(), a.create_label());
        a.test(GROUPS, GROUPS)?;
        a.jz(rest)?;
        a.set_label(&mut again)?;
        self.several(a, w, self.group())?;
        a.dec(GROUPS)?;
        a.jnz(again)?;
        a.set_label(&mut rest)?;
        a.zero_bytes()?;
        if bands.rest(self.group()) > 0 {
            bands.unless_last(a, end)?;
            self.several(a, w, bands.rest(self.group()))?;
        }
        a.set_label(&mut end)?;
        a.zero_bytes()
    }

    /// So many positions, one after another; moves on behind them.
    fn several(&self, a: &mut CodeAssembler, w: &mut Writer<'_>, count: usize) -> Done {
        if count == 0 {
            return Ok(());
        }
        if !self.gaps() {
            (0..count).try_for_each(|lane| self.point(a, w, lane, lane))?;
            return self.advance(a, w, count);
        }
        (0..count).try_for_each(|lane| {
            self.point(a, w, lane, 0)?;
            self.advance(a, w, 1)?;
            self.next_column(a)
        })
    }

    /// Bytes between the end of a row and the start of the next.
    fn gap(&self, access: &Access) -> i64 {
        access.row as i64 - (self.nest.image[1] * access.column) as i64
    }

    fn gaps(&self) -> bool {
        let [height, _] = self.nest.image;
        height > 1 && self.moving().any(|(access, ..)| self.gap(access) != 0)
    }

    /// Moves every address by so many columns.
    fn advance(&self, a: &mut CodeAssembler, w: &Writer<'_>, columns: usize) -> Done {
        for (access, _, register) in self.moving() {
            if access.column > 0 {
                a.add(register, (columns * access.column) as i32)?;
            }
        }
        if w.flat { a.add(FLAT, columns as i32) } else { Ok(()) }
    }

    /// Behind the last column every address moves on to the next row.
    fn next_column(&self, a: &mut CodeAssembler) -> Done {
        let mut inside = a.create_label();
        a.dec(COLUMNS)?;
        a.jnz(inside)?;
        for (access, _, register) in self.moving() {
            match self.gap(access) {
                0 => {}
                gap => a.add(register, gap as i32)?,
            }
        }
        a.mov(COLUMNS, self.nest.image[1] as u32)?;
        a.set_label(&mut inside)?;
        a.zero_bytes()
    }

    /// One position, `ahead` columns behind the addresses; sums go to `lane`.
    fn point(&self, a: &mut CodeAssembler, w: &mut Writer<'_>, lane: usize, ahead: usize) -> Done {
        for &v in &self.plan.point {
            match self.nest.program.node(v).op {
                Op::Load(access) => {
                    let Some(at) = self.moved(&access, ahead) else { continue };
                    w.load(a, v, access.element, at)?;
                    if self.bands.is_some() {
                        a.prefetcht1(byte_ptr(at + bands::ahead(&access)))?;
                    }
                }
                Op::Flat => {
                    a.lea(r15d, ptr(rdx + ahead as i32))?;
                    w.splat(a, v, r15d)?;
                }
                _ => w.value(a, v)?,
            }
        }
        for (sink, places) in self.nest.sinks.iter().zip(&self.plan.accumulators) {
            match *sink {
                Sink::Store(access, v) => {
                    let Some(at) = self.moved(&access, ahead) else { continue };
                    let x = w.fetch(a, v, 0)?;
                    self.width.store_element(a, access.element, at, x, w.spare(1))?;
                }
                Sink::Sum(_, x, y) => {
                    let Some(&sum) = places.get(lane) else { continue };
                    w.sum(a, sum, x, y)?;
                }
                Sink::Moments(_, _, x) => w.moments(a, places, x)?,
                Sink::Greatest(x) => {
                    let Some(&best) = places.first() else { continue };
                    w.greatest(a, best, x)?;
                }
                Sink::Grouped(..) | Sink::Single(..) => {}
            }
        }
        Ok(())
    }

    fn moved(&self, access: &Access, ahead: usize) -> Option<AsmMemoryOperand> {
        let (walk, distance) = self.plan.walk(access)?;
        Some(*MOVING.get(walk)? + (distance + (ahead * access.column) as i32))
    }

    /// Zeroes the accumulators of the sinks that `which` names.
    fn clear(&self, a: &mut CodeAssembler, w: &Writer<'_>, which: impl Fn(&Sink) -> bool) -> Done {
        self.accumulators(which).try_for_each(|place| w.clear(a, place))
    }

    /// Stores the sums of the channels at hand.
    fn sums(&self, a: &mut CodeAssembler, w: &Writer<'_>) -> Done {
        for (sink, places) in self.nest.sinks.iter().zip(&self.plan.accumulators) {
            let (base, size) = match sink {
                Sink::Sum(base, ..) => (base, 4),
                Sink::Moments(base, ..) => (base, 8),
                _ => continue,
            };
            let Some(&at) = self.plan.bases.get(base) else { continue };
            pointer(a, rax, at, size)?;
            match (sink, &**places) {
                (Sink::Sum(..), &[s0, s1, s2, s3]) => w.store_tree(a, [s0, s1, s2, s3], rax + 0)?,
                (Sink::Moments(_, squares, _), places) => {
                    let half = (self.width.lanes() * 4) as i32;
                    for (&place, offset) in places.iter().zip([0, half, *squares as i32, *squares as i32 + half]) {
                        w.store_place(a, place, rax + offset)?;
                    }
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Leaves the maxima in the block.
    fn maxima(&self, a: &mut CodeAssembler, w: &Writer<'_>) -> Done {
        let maxima = self.accumulators(|sink| matches!(sink, Sink::Greatest(_)));
        for (i, place) in maxima.enumerate() {
            w.store_place(a, place, BLOCK + self.plan.maximum(i) as i32)?;
        }
        Ok(())
    }
}

/// The address at byte `at` of the block, moved to the channels at hand; r15 is overwritten.
fn pointer(a: &mut CodeAssembler, to: AsmRegister64, at: usize, size: usize) -> Done {
    a.mov(to, qword_ptr(BLOCK + at as i32))?;
    a.mov(r15, qword_ptr(BLOCK + CHANNEL as i32))?;
    a.lea(to, ptr(to + r15 * size as i32))
}

/// The registers that no value is given.
pub(super) fn spares(registers: usize) -> [usize; SPARE] {
    std::array::from_fn(|i| registers - SPARE + i)
}
