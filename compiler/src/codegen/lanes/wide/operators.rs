//! Single values of a wide leaf function: operands are fetched from where they live, results are left where they belong.
//! Must never know a loop.

use super::Leaf;
use super::assemble::{BLOCK, Done, spares};
use super::plan::{CHANNEL, Place, SPARE, implied};
use crate::codegen::lanes::program::{Binary, Element, Lane, Op, Type, Unary};
use iced_x86::IcedError;
use iced_x86::code_asm::*;
use std::collections::BTreeMap;

/// Writes the values of a leaf function.
pub(super) struct Writer<'a> {
    leaf: &'a Leaf<'a>,
    spares: [usize; SPARE],
    labels: BTreeMap<u32, CodeLabel>,
    numbers: Option<CodeLabel>,
    /// Some value is the number of the position.
    pub flat: bool,
    /// What the plan forgot: a bug of this module.
    pub forgotten: Option<&'static str>,
}

impl<'a> Writer<'a> {
    /// For one function.
    pub fn new(leaf: &'a Leaf<'a>) -> Self {
        let flat = leaf.plan.point.iter().any(|&v| matches!(leaf.nest.program.node(v).op, Op::Flat));
        Writer {
            leaf,
            spares: spares(leaf.width.registers()),
            labels: BTreeMap::new(),
            numbers: None,
            flat,
            forgotten: None,
        }
    }

    /// A register that no value is given.
    pub fn spare(&self, i: usize) -> usize {
        self.spares[i % SPARE]
    }

    /// Writes the constants behind the code.
    pub fn constants(&mut self, a: &mut CodeAssembler) -> Done {
        for (bits, mut label) in std::mem::take(&mut self.labels) {
            a.set_label(&mut label)?;
            a.dd(&[bits])?;
        }
        if let Some(mut label) = self.numbers.take() {
            a.set_label(&mut label)?;
            a.dd(&std::array::from_fn::<u32, 16, _>(|i| i as u32))?;
        }
        Ok(())
    }

    /// Loads what lives at a place into a register.
    pub fn load_place(&mut self, a: &mut CodeAssembler, to: usize, from: Place) -> Done {
        let width = self.leaf.width;
        match from {
            Place::Register(_) | Place::Mask(_) => Ok(()),
            Place::Home(at) => width.load(a, to, BLOCK + at as i32),
            Place::Scalar(at) => width.broadcast(a, to, BLOCK + at as i32),
            Place::Constant(bits) => {
                let label = *self.labels.entry(bits).or_insert_with(|| a.create_label());
                width.broadcast(a, to, dword_ptr(label))
            }
        }
    }

    /// The register of a place; what is in memory passes through spare register `i`.
    fn register(&mut self, a: &mut CodeAssembler, place: Place, i: usize) -> Result<usize, IcedError> {
        match place {
            Place::Register(r) | Place::Mask(r) => Ok(r),
            _ => {
                let to = self.spare(i);
                self.load_place(a, to, place)?;
                Ok(to)
            }
        }
    }

    fn place(&mut self, v: Lane) -> Place {
        self.leaf.plan.place(&self.leaf.nest.program, v).unwrap_or_else(|| {
            self.forgotten = Some("a value without a place");
            Place::Constant(0)
        })
    }

    /// The register of a value.
    pub fn fetch(&mut self, a: &mut CodeAssembler, v: Lane, i: usize) -> Result<usize, IcedError> {
        let place = self.place(v);
        self.register(a, place, i)
    }

    fn forget(&mut self, what: &'static str) -> Done {
        self.forgotten = Some(what);
        Ok(())
    }

    /// Computes `v` by `write` into its register, or into a spare one and its home. The spare one is the third.
    fn into(
        &mut self,
        a: &mut CodeAssembler,
        v: Lane,
        write: impl FnOnce(&mut Self, &mut CodeAssembler, usize) -> Done,
    ) -> Done {
        match self.place(v) {
            Place::Register(r) | Place::Mask(r) => write(self, a, r),
            Place::Home(at) => {
                let through = self.spare(2);
                write(self, a, through)?;
                self.leaf.width.store(a, BLOCK + at as i32, through)
            }
            Place::Scalar(_) | Place::Constant(_) => Ok(()),
        }
    }

    /// Loads elements.
    pub fn load(&mut self, a: &mut CodeAssembler, v: Lane, element: Element, at: AsmMemoryOperand) -> Done {
        self.into(a, v, |w, a, to| w.leaf.width.load_element(a, element, to, at))
    }

    /// A general register in all lanes.
    pub fn splat(&mut self, a: &mut CodeAssembler, v: Lane, from: AsmRegister32) -> Done {
        self.into(a, v, |w, a, to| w.leaf.width.splat(a, to, from))
    }

    /// The numbers of the channels at hand.
    pub fn channel(&mut self, a: &mut CodeAssembler, v: Lane) -> Done {
        let label = *self.numbers.get_or_insert_with(|| a.create_label());
        self.into(a, v, |w, a, to| {
            let (width, numbers) = (w.leaf.width, w.spare(0));
            width.load(a, numbers, dword_ptr(label))?;
            width.broadcast(a, to, BLOCK + CHANNEL as i32)?;
            width.add_i32(a, to, [to, numbers])
        })
    }

    /// Any value but what `load`, `splat` and `channel` give.
    pub fn value(&mut self, a: &mut CodeAssembler, v: Lane) -> Done {
        let (program, width) = (&self.leaf.nest.program, self.leaf.width);
        let node = program.node(v);
        let [s0, s1, s2, s3] = self.spares;
        self.into(a, v, |w, a, to| match node.op {
            Op::Binary(op, x, y) => {
                let operands = [w.fetch(a, x, 0)?, w.fetch(a, y, 1)?];
                width.binary(a, op, to, operands)
            }
            Op::Unary(op, x) => {
                let x = w.fetch(a, x, 0)?;
                w.unary(a, node.op, op, to, x)
            }
            Op::ShiftRight(x, by) => {
                let x = w.fetch(a, x, 0)?;
                width.shift_right(a, by, to, x)
            }
            Op::Compare(op, x, y) => {
                let floats = program.ty(x) == Type::F32;
                let operands = [w.fetch(a, x, 0)?, w.fetch(a, y, 1)?];
                width.compare(a, (op, floats), to, operands, s3)
            }
            Op::Both(x, y) => {
                let operands = [w.fetch(a, x, 0)?, w.fetch(a, y, 1)?];
                width.both(a, to, operands)
            }
            Op::Select(mask, x, y) => {
                let (mask, operands) = (w.fetch(a, mask, 0)?, [w.fetch(a, x, 1)?, w.fetch(a, y, 3)?]);
                width.select(a, to, mask, operands)
            }
            Op::Decode(x, scale) => {
                let x = w.fetch(a, x, 0)?;
                match w.leaf.plan.scales.get(&scale) {
                    Some(&at) => width.decode(a, to, x, BLOCK + at as i32, [s0, s1, s2]),
                    None => w.forget("a scale without a place"),
                }
            }
            _ => w.forget("an operator without a wide form"),
        })
    }

    fn unary(&mut self, a: &mut CodeAssembler, op: Op, unary: Unary, to: usize, x: usize) -> Done {
        let width = self.leaf.width;
        let constant = match implied(&self.leaf.nest.program, op) {
            Some(bits) => Some(self.register(a, self.leaf.plan.constant(bits), 1)?),
            None => None,
        };
        let operand = constant.unwrap_or(x);
        match unary {
            Unary::Neg => width.binary(a, Binary::Xor, to, [x, operand]),
            Unary::Abs => width.binary(a, Binary::And, to, [x, operand]),
            Unary::Sqrt => width.square_root(a, to, x),
            Unary::Nearest => width.round(a, 0, to, x),
            Unary::Floor => width.round(a, 1, to, x),
            Unary::Ceil => width.round(a, 2, to, x),
            Unary::Trunc => width.round(a, 3, to, x),
            Unary::ToFloat => width.to_float(a, to, x),
            Unary::ToInteger if constant.is_none() => width.truncate(a, to, x),
            Unary::ToInteger => width.to_integer(a, to, [x, operand], [self.spare(2), self.spare(3)]),
        }
    }

    /// Zeroes an accumulator.
    pub fn clear(&self, a: &mut CodeAssembler, place: Place) -> Done {
        self.accumulate(a, place, |w, a, to| w.leaf.width.zero(a, to))
    }

    /// Gives an accumulator the value that lies there.
    pub fn set_place(&self, a: &mut CodeAssembler, place: Place, from: AsmMemoryOperand) -> Done {
        self.accumulate(a, place, |w, a, to| w.leaf.width.load(a, to, from))
    }

    /// Changes an accumulator, which lives in a register or passes through the third spare one.
    fn accumulate(
        &self,
        a: &mut CodeAssembler,
        place: Place,
        change: impl FnOnce(&Self, &mut CodeAssembler, usize) -> Done,
    ) -> Done {
        let (width, through) = (self.leaf.width, self.spare(2));
        match place {
            Place::Register(r) => change(self, a, r),
            Place::Home(at) => {
                width.load(a, through, BLOCK + at as i32)?;
                change(self, a, through)?;
                width.store(a, BLOCK + at as i32, through)
            }
            _ => Ok(()),
        }
    }

    /// sum += x, or x·y.
    pub fn sum(&mut self, a: &mut CodeAssembler, sum: Place, x: Lane, y: Option<Lane>) -> Done {
        let width = self.leaf.width;
        let x = self.fetch(a, x, 0)?;
        let y = y.map(|y| self.fetch(a, y, 1)).transpose()?;
        self.accumulate(a, sum, |w, a, sum| match y {
            None => width.binary(a, Binary::Add, sum, [sum, x]),
            Some(y) => width.add_product(a, w.leaf.fma, sum, [x, y], w.spare(3)),
        })
    }

    /// best = x > best ? x : best.
    pub fn greatest(&mut self, a: &mut CodeAssembler, best: Place, x: Lane) -> Done {
        let x = self.fetch(a, x, 0)?;
        self.accumulate(a, best, |w, a, best| w.leaf.width.binary(a, Binary::Greater, best, [x, best]))
    }

    /// Adds integers and their squares, lower lanes and upper ones.
    pub fn moments(&mut self, a: &mut CodeAssembler, places: &[Place], x: Lane) -> Done {
        let width = self.leaf.width;
        let x = self.fetch(a, x, 3)?;
        let halves = [self.spare(0), self.spare(1)];
        width.widen(a, halves, x)?;
        for (i, &place) in places.iter().enumerate() {
            let half = halves[i % 2];
            if i >= 2 {
                width.square(a, half)?;
            }
            self.accumulate(a, place, |_, a, sum| width.add_longs(a, sum, half))?;
        }
        Ok(())
    }

    /// Stores (s0 + s2) + (s1 + s3).
    pub fn store_tree(&self, a: &mut CodeAssembler, sums: [Place; 4], at: AsmMemoryOperand) -> Done {
        let (width, [t0, t1, t2, t3]) = (self.leaf.width, self.spares);
        let mut registers = [t0, t1, t2, t3];
        for (place, to) in sums.into_iter().zip(&mut registers) {
            match place {
                Place::Register(r) => *to = r,
                Place::Home(home) => width.load(a, *to, BLOCK + home as i32)?,
                _ => {}
            }
        }
        let [s0, s1, s2, s3] = registers;
        width.binary(a, Binary::Add, t0, [s0, s2])?;
        width.binary(a, Binary::Add, t1, [s1, s3])?;
        width.binary(a, Binary::Add, t0, [t0, t1])?;
        width.store(a, at, t0)
    }

    /// Stores an accumulator.
    pub fn store_place(&self, a: &mut CodeAssembler, place: Place, at: AsmMemoryOperand) -> Done {
        let (width, through) = (self.leaf.width, self.spare(2));
        match place {
            Place::Register(r) => width.store(a, at, r),
            Place::Home(home) => {
                width.load(a, through, BLOCK + home as i32)?;
                width.store(a, at, through)
            }
            _ => Ok(()),
        }
    }
}
