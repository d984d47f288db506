//! Where the values of a nest live in a wide leaf function: in registers as long as there are some, else in 64-byte homes of
//! the block that the caller passes. Must never know an instruction.

use crate::codegen::lanes::nest::{Nest, Sink};
use crate::codegen::lanes::program::{Access, Binary, Lane, Level as When, Op, Program, Type, Unary};
use crate::codegen::tiles::Width;
use cranelift_codegen::ir::Value;
use std::collections::{BTreeMap, HashMap};

/// Registers behind the last one that holds values: operands that live in memory pass through them.
pub const SPARE: usize = 4;
/// Addresses that positions can move: general registers for them.
pub const POINTERS: usize = 10;
/// Masks that a level with mask registers can hold; k0 means none.
const MASKS: usize = 7;
/// Bytes of a home.
pub const HOME: usize = 64;
/// Where the first channel lies in the block.
pub const CHANNEL: usize = 0;
/// Where the channel behind the last lies.
pub const STOP: usize = 8;
/// Point values that are given registers before accumulators are.
const FIRST: usize = 8;

/// Where a value lives.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Place {
    /// In a vector register.
    Register(usize),
    /// In a mask register.
    Mask(usize),
    /// In the block, all lanes, at this byte.
    Home(usize),
    /// In the block, one for all lanes, at this byte.
    Scalar(usize),
    /// Among the constants of the function, one for all lanes.
    Constant(u32),
}

/// What does not change at a point.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Still {
    /// The same bits in all lanes.
    Constant(u32),
    /// A value of the channels or of the task.
    Value(Lane),
}

/// The plan of a leaf function.
#[derive(Debug)]
pub struct Plan {
    /// Values that change with the channels, operands first.
    pub channel: Vec<Lane>,
    /// Values that change with the position, operands first.
    pub point: Vec<Lane>,
    /// What is loaded into registers once: constants and scalars.
    pub pinned: Vec<(usize, Place)>,
    /// The accumulators of each sink, in order.
    pub accumulators: Vec<Vec<Place>>,
    /// Addresses in the block: those that positions move, first.
    pub accesses: Vec<(Access, usize)>,
    /// How many of them positions move.
    pub moving: usize,
    /// Addresses of sums in the block.
    pub bases: BTreeMap<Value, usize>,
    /// Factors of decoding in the block, f64.
    pub scales: BTreeMap<Value, usize>,
    /// Values of the task in the block, 4 bytes.
    pub scalars: BTreeMap<Lane, usize>,
    maxima: usize,
    maxima_count: usize,
    /// Bytes of the block.
    pub bytes: usize,
    values: HashMap<Lane, Place>,
    constants: HashMap<u32, Place>,
}

/// Whether a float was clipped to what an i32 holds; then it is no NaN either.
pub fn bounded(program: &Program, x: Lane) -> bool {
    let splat = |v: Lane| if let Op::Splat(bits) = program.node(v).op { Some(f32::from_bits(bits)) } else { None };
    let Op::Binary(Binary::Less, low, above) = program.node(x).op else { return false };
    let Op::Binary(Binary::Greater, _, below) = program.node(low).op else { return false };
    splat(below).is_some_and(|v| v >= i32::MIN as f32) && splat(above).is_some_and(|v| v < i32::MAX as f32)
}

/// The constant that the instructions of this operator take besides its operands.
pub fn implied(program: &Program, op: Op) -> Option<u32> {
    match op {
        Op::Unary(Unary::ToInteger, x) if bounded(program, x) => None,
        Op::Unary(Unary::Neg, _) => Some(0x8000_0000),
        Op::Unary(Unary::Abs, _) => Some(0x7fff_ffff),
        Op::Unary(Unary::ToInteger, _) => Some((i32::MAX as f32).to_bits()),
        _ => None,
    }
}

impl Plan {
    /// The plan of `nest`; `None` where it holds what has no wide form.
    pub fn of(nest: &Nest, width: Width) -> Option<Plan> {
        let mut needed = Needed::of(nest)?;
        let (mut accesses, mut bytes) = (Vec::new(), 16);
        let mut place = |size: usize| {
            bytes += size;
            bytes - size
        };
        // Addresses that move alike share one.
        let mut walks: Vec<Access> = Vec::new();
        for access in needed.moving.drain(..) {
            if !walks.iter().any(|w| w.distance(&access).is_some()) {
                walks.push(access);
            }
        }
        let moving = walks.len();
        if moving > POINTERS {
            return None;
        }
        for access in walks.into_iter().chain(needed.still.drain(..)) {
            accesses.push((access, place(8)));
        }
        let bases = needed.bases.drain(..).map(|v| (v, place(8))).collect();
        let scales = needed.scales.drain(..).map(|v| (v, place(8))).collect();
        let scalars: BTreeMap<Lane, usize> = needed.scalars.drain(..).map(|v| (v, place(4))).collect();
        bytes = bytes.next_multiple_of(HOME);
        let (maxima, count) = (bytes, nest.sinks.iter().filter(|s| matches!(s, Sink::Greatest(_))).count());
        bytes += HOME * count;
        let (channel, point) = (needed.channel, needed.point);
        let mut plan = Plan {
            channel,
            point,
            pinned: Vec::new(),
            accumulators: Vec::new(),
            accesses,
            moving,
            bases,
            scales,
            scalars,
            maxima,
            maxima_count: count,
            bytes,
            values: HashMap::new(),
            constants: HashMap::new(),
        };
        plan.allocate(nest, width)?;
        Some(plan)
    }

    /// Where a value lives.
    pub fn place(&self, program: &Program, v: Lane) -> Option<Place> {
        match program.node(v).op {
            Op::Splat(bits) => Some(self.constant(bits)),
            _ => self.values.get(&v).copied(),
        }
    }

    /// Where a constant lives.
    pub fn constant(&self, bits: u32) -> Place {
        self.constants.get(&bits).copied().unwrap_or(Place::Constant(bits))
    }

    /// Which of the addresses that positions move an access goes by, and the bytes from it.
    pub fn walk(&self, access: &Access) -> Option<(usize, i32)> {
        let moving = self.accesses.iter().take(self.moving).enumerate();
        moving.filter_map(|(i, (walk, _))| Some((i, walk.distance(access)?))).next()
    }

    /// Where the address of an access that positions do not move lies in the block.
    pub fn still(&self, access: &Access) -> Option<usize> {
        self.accesses.iter().skip(self.moving).find(|(a, _)| a == access).map(|(_, at)| *at)
    }

    /// How many maxima there are.
    pub fn maxima_count(&self) -> usize {
        self.maxima_count
    }

    /// Where a maximum is left in the block.
    pub fn maximum(&self, i: usize) -> usize {
        self.maxima + HOME * i
    }

    fn home(&mut self) -> Place {
        self.bytes += HOME;
        Place::Home(self.bytes - HOME)
    }

    fn allocate(&mut self, nest: &Nest, width: Width) -> Option<()> {
        let program = &nest.program;
        let mut masks: Vec<usize> = (1..=MASKS).rev().collect();
        let in_masks = |v: Lane| width == Width::Zmm && program.ty(v) == Type::Mask;
        for &v in &self.channel {
            if in_masks(v) {
                self.values.insert(v, Place::Mask(masks.pop()?));
            }
        }
        let last = last_uses(program, &self.point, &nest.sinks);
        let peak = pressure(&self.point, &last, program, in_masks);
        let mut free: Vec<usize> = (0..width.registers() - SPARE).rev().collect();
        let counts: Vec<usize> = nest.sinks.iter().map(accumulators).collect();
        let in_registers = counts.iter().sum::<usize>() + peak.min(FIRST) <= free.len();
        for count in counts {
            let one = |p: &mut Plan, free: &mut Vec<usize>| {
                let register = if in_registers { free.pop() } else { None };
                register.map_or_else(|| p.home(), Place::Register)
            };
            let places = (0..count).map(|_| one(self, &mut free)).collect();
            self.accumulators.push(places);
        }
        let split = free.len() - peak.min(free.len());
        let pool = free.split_off(split);
        self.pin(program, &mut free, &nest.sinks);
        self.scan(program, &last, pool, masks, in_masks)
    }

    /// Gives what does not change at a point the registers that points leave, the most used first; homes to the rest.
    fn pin(&mut self, program: &Program, free: &mut Vec<usize>, sinks: &[Sink]) {
        let mut uses: BTreeMap<Still, usize> = BTreeMap::new();
        let key = |v: Lane| match program.node(v).op {
            Op::Splat(bits) => Still::Constant(bits),
            _ => Still::Value(v),
        };
        let read =
            self.point.iter().flat_map(|&v| program.node(v).op.operands()).chain(sinks.iter().flat_map(operands));
        for v in read.filter(|&v| program.node(v).level != When::Point) {
            *uses.entry(key(v)).or_default() += 1;
        }
        for bits in self.point.iter().filter_map(|&v| implied(program, program.node(v).op)) {
            *uses.entry(Still::Constant(bits)).or_default() += 1;
        }
        let mut order: Vec<_> = uses.into_iter().collect();
        order.sort_by_key(|&(key, count)| (std::cmp::Reverse(count), key));
        for (still, _) in order {
            if matches!(still, Still::Value(v) if self.values.contains_key(&v)) {
                continue;
            }
            let Some(register) = free.pop() else { break };
            match still {
                Still::Constant(bits) => {
                    self.pinned.push((register, Place::Constant(bits)));
                    self.constants.insert(bits, Place::Register(register));
                }
                Still::Value(v) => {
                    if let Some(&at) = self.scalars.get(&v) {
                        self.pinned.push((register, Place::Scalar(at)));
                    }
                    self.values.insert(v, Place::Register(register));
                }
            }
        }
        for (&v, &at) in &self.scalars {
            self.values.entry(v).or_insert(Place::Scalar(at));
        }
        for v in self.channel.clone() {
            if !self.values.contains_key(&v) {
                let home = self.home();
                self.values.insert(v, home);
            }
        }
    }

    /// Gives the values of a point registers for as long as they are wanted, homes where there are none left.
    fn scan(
        &mut self,
        program: &Program,
        last: &HashMap<Lane, usize>,
        mut registers: Vec<usize>,
        mut masks: Vec<usize>,
        in_masks: impl Fn(Lane) -> bool,
    ) -> Option<()> {
        for (at, v) in self.point.clone().into_iter().enumerate() {
            let ends = |o: &Lane| program.node(*o).level == When::Point && last.get(o) == Some(&at);
            let mut ended: Vec<Lane> = program.node(v).op.operands().filter(ends).collect();
            ended.sort();
            ended.dedup();
            for operand in ended {
                match self.values.get(&operand) {
                    Some(&Place::Register(r)) => registers.push(r),
                    Some(&Place::Mask(k)) => masks.push(k),
                    _ => {}
                }
            }
            let place = if in_masks(v) {
                Place::Mask(masks.pop()?)
            } else {
                registers.pop().map_or_else(|| self.home(), Place::Register)
            };
            self.values.insert(v, place);
        }
        Some(())
    }
}

/// What a nest needs, in the order of evaluation.
#[derive(Default)]
struct Needed {
    seen: Vec<bool>,
    channel: Vec<Lane>,
    point: Vec<Lane>,
    moving: Vec<Access>,
    still: Vec<Access>,
    bases: Vec<Value>,
    scales: Vec<Value>,
    scalars: Vec<Lane>,
}

fn add<T: PartialEq>(list: &mut Vec<T>, v: T) {
    if !list.contains(&v) {
        list.push(v);
    }
}

impl Needed {
    fn of(nest: &Nest) -> Option<Needed> {
        let mut needed = Needed { seen: vec![false; nest.program.nodes().len()], ..Needed::default() };
        for sink in &nest.sinks {
            match *sink {
                Sink::Store(at, _) => add(&mut needed.moving, at),
                Sink::Sum(base, ..) | Sink::Moments(base, ..) => add(&mut needed.bases, base),
                Sink::Greatest(_) => {}
                Sink::Grouped(..) | Sink::Single(..) => return None,
            }
            for v in operands(sink) {
                needed.visit(&nest.program, v)?;
            }
        }
        Some(needed)
    }

    /// Lists a value behind its operands, each just before it is first wanted.
    fn visit(&mut self, program: &Program, v: Lane) -> Option<()> {
        if std::mem::replace(self.seen.get_mut(v.index())?, true) {
            return Some(());
        }
        let node = program.node(v);
        match (node.level, node.op) {
            (_, Op::Splat(_)) => return Some(()),
            (When::Task, _) if node.ty != Type::Mask => {
                self.scalars.push(v);
                return Some(());
            }
            (When::Task, _) => return None,
            (_, Op::Given(_) | Op::Scalar(_) | Op::Planar(..) | Op::Function(..) | Op::Power(..)) => return None,
            (When::Point, Op::Load(at)) => add(&mut self.moving, at),
            (_, Op::Load(at)) => add(&mut self.still, at),
            (_, Op::Decode(_, scale)) => add(&mut self.scales, scale),
            _ => {}
        }
        for operand in node.op.operands() {
            self.visit(program, operand)?;
        }
        if node.level == When::Point { &mut self.point } else { &mut self.channel }.push(v);
        Some(())
    }
}

/// The values that a sink takes.
pub fn operands(sink: &Sink) -> impl Iterator<Item = Lane> + use<> {
    let (a, b) = match *sink {
        Sink::Store(_, v)
        | Sink::Grouped(_, v, _)
        | Sink::Single(_, v)
        | Sink::Greatest(v)
        | Sink::Moments(_, _, v) => (v, None),
        Sink::Sum(_, a, b) => (a, b),
    };
    std::iter::once(a).chain(b)
}

/// Registers that a sink accumulates in.
fn accumulators(sink: &Sink) -> usize {
    match sink {
        Sink::Sum(..) | Sink::Moments(..) => 4,
        Sink::Greatest(_) => 1,
        _ => 0,
    }
}

/// The place in `point` where each of its values is wanted last; what a sink takes, to the end.
fn last_uses(program: &Program, point: &[Lane], sinks: &[Sink]) -> HashMap<Lane, usize> {
    let mut last = HashMap::new();
    for (at, &v) in point.iter().enumerate() {
        last.extend(program.node(v).op.operands().map(|o| (o, at)));
    }
    last.extend(sinks.iter().flat_map(operands).map(|v| (v, point.len())));
    last
}

/// The most vectors that are alive at once.
fn pressure(
    point: &[Lane],
    last: &HashMap<Lane, usize>,
    program: &Program,
    in_masks: impl Fn(Lane) -> bool + Copy,
) -> usize {
    let (mut alive, mut peak) = (Vec::new(), 0);
    for (at, &v) in point.iter().enumerate() {
        alive.retain(|o| last.get(o).is_some_and(|&end| end > at));
        if !in_masks(v) && program.node(v).level == When::Point {
            alive.push(v);
        }
        peak = peak.max(alive.len());
    }
    peak
}
