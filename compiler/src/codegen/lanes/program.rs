//! Straight-line programs on lanes: neighbouring channels of a position, or neighbouring elements of a parameter. Every
//! element-wise operator is written once, as such a program, which `clif` plays on four lanes. It must never know how many
//! lanes there are.

use cranelift_codegen::ir::Value;
use std::collections::HashMap;

/// A value of a program.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub struct Lane(u32);

impl Lane {
    /// Its place in the program.
    pub fn index(self) -> usize {
        self.0 as usize
    }
}

/// What a lane holds.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Type {
    /// A float.
    F32,
    /// An integer.
    I32,
    /// All ones or zeros.
    Mask,
}

/// How often a value changes.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Debug)]
pub enum Level {
    /// Never.
    Constant,
    /// From one task to the next: all lanes are equal.
    Task,
    /// With the channels at hand.
    Channel,
    /// At each point.
    Point,
}

/// How an element lies in memory.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Element {
    /// 4 bytes.
    F32,
    /// 4 bytes.
    I32,
    /// 2 bytes, signed; stored saturated.
    I16,
    /// 1 byte, unsigned; stored saturated.
    U8,
}

impl Element {
    /// Bytes.
    pub fn size(self) -> usize {
        match self {
            Element::F32 | Element::I32 => 4,
            Element::I16 => 2,
            Element::U8 => 1,
        }
    }
}

/// Where elements lie: channel c of row y and column x at `base + origin + y·row + x·column + c·size`.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub struct Access {
    /// An address.
    pub base: Value,
    /// How one lies.
    pub element: Element,
    /// Bytes.
    pub origin: usize,
    /// Bytes from one row to the next; 0 where the position does not matter.
    pub row: usize,
    /// Bytes from one column to the next.
    pub column: usize,
}

impl Access {
    /// One element a channel, or the elements of a parameter.
    pub fn channels(base: Value, element: Element) -> Access {
        Access { base, element, origin: 0, row: 0, column: 0 }
    }

    /// Bytes from every element to that of another access, where these are the same everywhere.
    pub fn distance(&self, other: &Access) -> Option<i32> {
        let here = Access { origin: self.origin, ..*other };
        let bytes = other.origin as i64 - self.origin as i64;
        if here == *self { bytes.try_into().ok() } else { None }
    }
}

/// Of two operands.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Binary {
    /// Floats.
    Add,
    /// Floats.
    Sub,
    /// Floats.
    Mul,
    /// Floats.
    Div,
    /// a < b ? a : b.
    Less,
    /// a > b ? a : b.
    Greater,
    /// Integers, wrapping.
    IAdd,
    /// Integers, wrapping.
    ISub,
    /// Integers, the low half.
    IMul,
    /// Bits.
    And,
    /// Bits.
    Or,
    /// Bits.
    Xor,
}

/// Of one operand.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Unary {
    /// Floats.
    Neg,
    /// Floats.
    Abs,
    /// Floats, IEEE.
    Sqrt,
    /// To the nearest, ties to even.
    Nearest,
    /// Downwards.
    Floor,
    /// Upwards.
    Ceil,
    /// Towards zero.
    Trunc,
    /// Integer to float.
    ToFloat,
    /// Float to integer, towards zero, saturating; NaN gives 0.
    ToInteger,
}

/// Comparisons that give a mask.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Compare {
    /// a = b.
    Equal,
    /// a > b.
    Above,
    /// a ≥ b; of integers signed.
    AtLeast,
}

/// What computes a value.
#[derive(Clone, Copy, PartialEq, Eq, Hash, Debug)]
pub enum Op {
    /// The same bits in all lanes.
    Splat(u32),
    /// Lanes that the function has.
    Given(Value),
    /// A scalar of the function in all lanes.
    Scalar(Value),
    /// Elements of memory.
    Load(Access),
    /// Elements that lie a plane a channel: address, channels, bytes of a plane.
    Planar(Value, usize, usize),
    /// The number of the lane's channel.
    Channel,
    /// y·W + x.
    Flat,
    /// Of two.
    Binary(Binary, Lane, Lane),
    /// Of one.
    Unary(Unary, Lane),
    /// Shifted right, zeros coming in.
    ShiftRight(Lane, u8),
    /// A mask.
    Compare(Compare, Lane, Lane),
    /// Both masks.
    Both(Lane, Lane),
    /// mask ? a : b.
    Select(Lane, Lane, Lane),
    /// f32(f64(level)·scale), the scale an f64 scalar of the function.
    Decode(Lane, Value),
    /// The project's own function of that name, in f64.
    Function(&'static str, Lane),
    /// a^b, in f64.
    Power(Lane, Lane),
}

impl Op {
    /// The values that it is computed from.
    pub fn operands(self) -> impl Iterator<Item = Lane> {
        let all = match self {
            Op::Splat(_) | Op::Given(_) | Op::Scalar(_) | Op::Load(_) | Op::Planar(..) | Op::Channel | Op::Flat => {
                [None; 3]
            }
            Op::Binary(_, a, b) | Op::Compare(_, a, b) | Op::Both(a, b) | Op::Power(a, b) => [Some(a), Some(b), None],
            Op::Unary(_, a) | Op::ShiftRight(a, _) | Op::Decode(a, _) | Op::Function(_, a) => [Some(a), None, None],
            Op::Select(m, a, b) => [Some(m), Some(a), Some(b)],
        };
        all.into_iter().flatten()
    }
}

/// A value: how it is computed, what it holds and how often it changes.
#[derive(Clone, Copy, Debug)]
pub struct Node {
    /// How.
    pub op: Op,
    /// What.
    pub ty: Type,
    /// How often.
    pub level: Level,
}

/// Values, operands first.
#[derive(Clone, Debug, Default)]
pub struct Program {
    nodes: Vec<Node>,
    known: HashMap<(Op, Type), Lane>,
}

impl Program {
    /// The values in order.
    pub fn nodes(&self) -> &[Node] {
        &self.nodes
    }

    /// All values.
    pub fn lanes(&self) -> impl Iterator<Item = Lane> + use<> {
        (0..self.nodes.len() as u32).map(Lane)
    }

    /// What a value is; the value must be this program's.
    pub fn node(&self, v: Lane) -> Node {
        self.nodes[v.index()]
    }

    /// What a value holds.
    pub fn ty(&self, v: Lane) -> Type {
        self.node(v).ty
    }

    /// A value that changes at `level` at least. Equal values are one.
    pub fn push(&mut self, op: Op, ty: Type, level: Level) -> Lane {
        let level = op.operands().map(|v| self.node(v).level).fold(level, Level::max);
        *self.known.entry((op, ty)).or_insert_with(|| {
            self.nodes.push(Node { op, ty, level });
            Lane((self.nodes.len() - 1) as u32)
        })
    }

    fn pure(&mut self, op: Op, ty: Type) -> Lane {
        self.push(op, ty, Level::Constant)
    }

    /// A float in all lanes.
    pub fn float(&mut self, v: f32) -> Lane {
        self.pure(Op::Splat(v.to_bits()), Type::F32)
    }

    /// An integer in all lanes.
    pub fn integer(&mut self, v: i32) -> Lane {
        self.pure(Op::Splat(v as u32), Type::I32)
    }

    /// Elements of memory, which change at `level`.
    pub fn load(&mut self, at: Access, level: Level) -> Lane {
        let ty = if at.element == Element::F32 { Type::F32 } else { Type::I32 };
        self.push(Op::Load(at), ty, level)
    }

    fn binary(&mut self, op: Binary, a: Lane, b: Lane) -> Lane {
        let ty = self.ty(a);
        self.pure(Op::Binary(op, a, b), ty)
    }

    /// a + b of floats.
    pub fn fadd(&mut self, a: Lane, b: Lane) -> Lane {
        self.binary(Binary::Add, a, b)
    }

    /// a − b of floats.
    pub fn fsub(&mut self, a: Lane, b: Lane) -> Lane {
        self.binary(Binary::Sub, a, b)
    }

    /// a·b of floats.
    pub fn fmul(&mut self, a: Lane, b: Lane) -> Lane {
        self.binary(Binary::Mul, a, b)
    }

    /// a/b of floats.
    pub fn fdiv(&mut self, a: Lane, b: Lane) -> Lane {
        self.binary(Binary::Div, a, b)
    }

    /// a < b ? a : b.
    pub fn less(&mut self, a: Lane, b: Lane) -> Lane {
        self.binary(Binary::Less, a, b)
    }

    /// a > b ? a : b.
    pub fn greater(&mut self, a: Lane, b: Lane) -> Lane {
        self.binary(Binary::Greater, a, b)
    }

    /// a + b of integers.
    pub fn iadd(&mut self, a: Lane, b: Lane) -> Lane {
        self.binary(Binary::IAdd, a, b)
    }

    /// a − b of integers.
    pub fn isub(&mut self, a: Lane, b: Lane) -> Lane {
        self.binary(Binary::ISub, a, b)
    }

    /// a·b of integers.
    pub fn imul(&mut self, a: Lane, b: Lane) -> Lane {
        self.binary(Binary::IMul, a, b)
    }

    /// Bits of either but not both.
    pub fn xor(&mut self, a: Lane, b: Lane) -> Lane {
        self.binary(Binary::Xor, a, b)
    }

    /// One operand.
    pub fn unary(&mut self, op: Unary, a: Lane) -> Lane {
        let ty = match op {
            Unary::ToInteger => Type::I32,
            _ => Type::F32,
        };
        self.pure(Op::Unary(op, a), ty)
    }

    /// |a|.
    pub fn abs(&mut self, a: Lane) -> Lane {
        self.unary(Unary::Abs, a)
    }

    /// To the nearest integer, ties to even.
    pub fn nearest(&mut self, a: Lane) -> Lane {
        self.unary(Unary::Nearest, a)
    }

    /// a >> by, zeros coming in.
    pub fn shift_right(&mut self, a: Lane, by: u8) -> Lane {
        self.pure(Op::ShiftRight(a, by), Type::I32)
    }

    /// A mask.
    pub fn compare(&mut self, op: Compare, a: Lane, b: Lane) -> Lane {
        self.pure(Op::Compare(op, a, b), Type::Mask)
    }

    /// Both masks.
    pub fn both(&mut self, a: Lane, b: Lane) -> Lane {
        self.pure(Op::Both(a, b), Type::Mask)
    }

    /// mask ? a : b.
    pub fn select(&mut self, mask: Lane, a: Lane, b: Lane) -> Lane {
        let ty = self.ty(a);
        self.pure(Op::Select(mask, a, b), ty)
    }

    /// f32(f64(level)·scale).
    pub fn decode(&mut self, levels: Lane, scale: Value) -> Lane {
        self.push(Op::Decode(levels, scale), Type::F32, Level::Task)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_values_are_one_and_change_with_their_operands() {
        let mut p = Program::default();
        let (a, b) = (p.float(1.0), p.float(1.0));
        assert_eq!(a, b);
        let flat = p.push(Op::Flat, Type::I32, Level::Point);
        let two = p.integer(2);
        let sum = p.iadd(flat, two);
        assert_eq!((p.node(two).level, p.node(sum).level), (Level::Constant, Level::Point));
        let below = p.compare(Compare::Above, two, flat);
        assert_eq!((p.ty(below), p.ty(sum)), (Type::Mask, Type::I32));
        let four = p.iadd(two, two);
        assert_eq!(p.node(four).level, Level::Constant);
    }
}
