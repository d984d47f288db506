//! `--bits W,A,G`: other bit widths for all quantisers of a graph.

use crate::cli::Failure;
use crate::graph::Graph;
use crate::graph::attrs::Attr;

/// The quantisers whose bits the three numbers set.
const QUANTISERS: [&str; 3] = ["quantize_weights", "quantize_activation", "quantize_gradient"];

/// Bit widths of weights, activations and gradients.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bits(pub [i64; 3]);

impl std::str::FromStr for Bits {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let bad = || format!("`{text}` is not understood; write W,A,G, each 1 … 16 or 32, for example 1,2,6");
        let number = |t: &str| t.parse::<i64>().ok().filter(|b| (1..=16).contains(b) || *b == 32);
        let numbers = text.split(',').map(number).collect::<Option<Vec<_>>>().ok_or_else(bad)?;
        numbers.try_into().map(Bits).map_err(|_| bad())
    }
}

impl Bits {
    /// Sets the bits of every quantiser of `graph`.
    ///
    /// # Errors
    /// When the graph has none.
    pub fn apply(self, graph: &mut Graph) -> Result<(), Failure> {
        let mut found = 0;
        for id in graph.order() {
            let Some(node) = graph.node(id) else { continue };
            let Some((_, bits)) = QUANTISERS.iter().zip(self.0).find(|(name, _)| **name == node.op.name) else {
                continue;
            };
            let mut attrs = node.attrs.clone();
            attrs.0.insert("bits".to_owned(), Attr::Int(bits));
            graph.set_attrs(id, attrs).map_err(Failure::input)?;
            found += 1;
        }
        match found {
            0 => Err(Failure::input(format!("--bits: the graph has no {}; write them into it", QUANTISERS.join(", ")))),
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::text;

    #[test]
    fn every_quantiser_gets_its_bits() {
        let source = "dorefa 1\ngraph t(x: f32[N, 2, 4, 4]) -> (y) {\n  a = quantize_activation(x, bits=2)\n  \
                      c = conv(a, quantize_weights(@w: f32[3, 2, 1, 1], bits=1))\n  \
                      y = quantize_gradient(c, bits=6)\n}\n";
        let mut graph = text::parse(source, "t", &|_| None).unwrap();
        "8,32,4".parse::<Bits>().unwrap().apply(&mut graph).unwrap();
        let printed = text::print(&graph);
        let bits =
            |op: &str| printed.lines().find(|l| l.contains(op)).unwrap().split("bits=").nth(1).unwrap().to_owned();
        assert_eq!(bits("quantize_weights"), "8)");
        assert_eq!(bits("quantize_activation"), "32)");
        assert_eq!(bits("quantize_gradient"), "4)");
        for bad in ["", "1,2", "1,2,3,4", "0,2,6", "1,17,6", "a,b,c"] {
            assert!(bad.parse::<Bits>().is_err(), "{bad}");
        }
        let mut plain =
            text::parse("dorefa 1\ngraph t(x: f32[N, 2]) -> (y) {\n  y = relu(x)\n}\n", "t", &|_| None).unwrap();
        assert!("1,2,6".parse::<Bits>().unwrap().apply(&mut plain).is_err());
    }
}
