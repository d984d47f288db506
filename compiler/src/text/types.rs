//! Types and scales in the text format, read and written.

use super::parser::{Parsed, Parser};
use crate::graph::scale::Scale;
use crate::graph::types::{AccType, CodeType, Dim, Elem, Layout, Scales, Shape, ValueType};

/// Greatest extent, and elements of one sample, of a declared type.
const EXTENT: usize = 1 << 31;
const ELEMENTS: usize = 1 << 40;
/// Most axes.
const RANK: usize = 8;

impl Parser<'_> {
    /// `element[extents] layout=…`
    pub fn value_type(&mut self) -> Parsed<ValueType> {
        let elem = self.element()?;
        self.expect("[")?;
        let start = self.next;
        let dims = self.list("]", |p| {
            if p.next == start && p.eat("N") {
                return Ok(Dim::Batch);
            }
            match p.number("an extent")? {
                n if (1..=EXTENT).contains(&n) => Ok(Dim::Fixed(n)),
                _ => {
                    p.next -= 1;
                    p.fail(format!("an extent is 1 … {EXTENT}"), None)
                }
            }
        })?;
        let shape = Shape(dims);
        if shape.rank() > RANK || shape.sample_len().is_none_or(|n| n > ELEMENTS) {
            self.next -= 1;
            return self.fail(format!("the shape {shape} is too large"), None);
        }
        let layout = self.layouts()?.first().copied().unwrap_or_default();
        Ok(ValueType { elem, shape, layout })
    }

    fn element(&mut self) -> Parsed<Elem> {
        if self.eat("f32") {
            return Ok(Elem::F32);
        }
        if self.eat("acc") {
            self.expect("<")?;
            let lo = self.number("the lower bound")?;
            self.expect("..")?;
            let hi = self.number("the upper bound")?;
            if lo > hi {
                self.next -= 1;
                return self.fail(format!("the bounds {lo}..{hi} hold nothing"), None);
            }
            self.expect(",")?;
            self.expect("scale")?;
            let scale = self.scales()?;
            self.expect(">")?;
            return Ok(Elem::Acc(AccType { lo, hi, scale }));
        }
        let Some(bits) = self.peek().text.strip_prefix('u').and_then(|b| b.parse::<u32>().ok()) else {
            return self.expected("a type", Some("a type is f32[…], u2<0..3, scale 1/3>[…] or acc<…>[…]".to_owned()));
        };
        self.next += 1;
        self.expect("<")?;
        if self.number::<u32>("0")? != 0 {
            self.next -= 1;
            return self.fail("codes start at 0".to_owned(), None);
        }
        self.expect("..")?;
        let top: u32 = self.number("the greatest code")?;
        let mut code = CodeType { top, step: 1, offset: 0, scale: Vec::new().into() };
        if !(1..=CodeType::GREATEST).contains(&top) || code.bits() != bits {
            self.next -= 1;
            return self.fail(format!("{bits} bits do not fit the greatest code {top}"), None);
        }
        while self.eat(",") {
            if self.eat("step") {
                code.step = self.bounded("the step", 1, 1 << 16)?;
            } else if self.eat("offset") {
                code.offset = self.bounded("the offset", -(1 << 24), 1 << 24)?;
            } else {
                self.expect("scale")?;
                code.scale = self.scales()?;
            }
        }
        self.expect(">")?;
        if code.scale.is_empty() {
            self.next -= 1;
            return self.fail("codes need a scale".to_owned(), Some("as in u2<0..3, scale 1/3>".to_owned()));
        }
        Ok(Elem::Codes(code))
    }

    fn bounded(&mut self, what: &str, lo: i32, hi: i32) -> Parsed<i32> {
        match self.number(what)? {
            n if (lo..=hi).contains(&n) => Ok(n),
            _ => {
                self.next -= 1;
                self.fail(format!("{what} is {lo} … {hi}"), None)
            }
        }
    }

    fn scales(&mut self) -> Parsed<Scales> {
        let one = |p: &mut Self| {
            let text = p.scale_text()?;
            match read_scale(&text) {
                Ok(scale) => Ok(scale),
                Err(message) => {
                    p.next -= 1;
                    p.fail(message, None)
                }
            }
        };
        let list = if self.eat("[") { self.list("]", one)? } else { vec![one(self)?] };
        Ok(list.into())
    }
}

/// A scale, its exponent kept small enough for every sum of exponents.
pub(super) fn read_scale(text: &str) -> Result<Scale, String> {
    let small = |e: &str| e.parse().is_ok_and(|e: i32| (-2000..=2000).contains(&e));
    if text.split_once('^').is_some_and(|(_, e)| !small(e)) {
        return Err(format!("`{text}` is not a scale like 1/3 or 13/5*2^-7"));
    }
    text.parse()
}

/// `1/3`, or `[1/3, …]` where there are several.
pub(super) fn write_scales(scales: &[Scale]) -> String {
    match scales {
        [one] => one.to_string(),
        many => format!("[{}]", many.iter().map(Scale::to_string).collect::<Vec<_>>().join(", ")),
    }
}

/// A type as [`Parser::value_type`] reads it.
pub(super) fn write_type(ty: &ValueType) -> String {
    let elem = match &ty.elem {
        Elem::F32 => "f32".to_owned(),
        Elem::Codes(c) => {
            let (bits, scale) = (c.bits(), write_scales(&c.scale));
            format!("u{bits}<0..{}, step {}, offset {}, scale {scale}>", c.top, c.step, c.offset)
        }
        Elem::Acc(a) => format!("acc<{}..{}, scale {}>", a.lo, a.hi, write_scales(&a.scale)),
    };
    format!("{elem}{}{}", ty.shape, write_layouts(&[ty.layout]))
}

/// The suffix ` layout=…`; empty where all are dense.
pub(super) fn write_layouts(layouts: &[Layout]) -> String {
    let word = |l: &Layout| match l {
        Layout::Dense => "dense",
        Layout::Nhwc => "nhwc",
        Layout::Nibbles => "nibbles",
        Layout::Bits => "bits",
    };
    match layouts {
        all if all.iter().all(|l| *l == Layout::Dense) => String::new(),
        [one] => format!(" layout={}", word(one)),
        many => format!(" layout=[{}]", many.iter().map(word).collect::<Vec<_>>().join(", ")),
    }
}
