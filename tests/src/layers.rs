//! Small networks around one layer, whose weights and inputs reach the ends of their ranges.

use dorefa_runtime::Tensor;
use dorefac::graph::Graph;
use dorefac::{passes, text};

/// What weights or pixels are.
#[derive(Clone, Copy, Debug)]
pub enum Fill {
    /// All at their greatest.
    Greatest,
    /// All at their least.
    Least,
    /// Of either sign, multiples of a step.
    Mixed,
    /// No small multiples of anything.
    Rough,
    /// The greatest for the last 32 of 68 channels under windows of 9 taps, else the least: no part of a sum has its share.
    Uneven,
    /// Small ones of which a few are far greater than the rest.
    Outlier,
}

impl Fill {
    /// Those that reach the ends of every range, and one between.
    pub const ALL: [Fill; 3] = [Fill::Greatest, Fill::Least, Fill::Mixed];

    /// Element `i`.
    pub fn value(self, i: usize) -> f32 {
        match self {
            Fill::Greatest => 1.0,
            Fill::Least => -1.0,
            Fill::Mixed => ((i * 7919 + 13) % 97) as f32 / 48.0 - 1.0,
            Fill::Rough => (i as f32 * 1.7).sin(),
            Fill::Outlier if i % 61 == 7 => 1.0,
            Fill::Outlier => (i as f32 * 1.7).sin() / 16.0,
            Fill::Uneven if i / 9 % 68 >= 36 => 1.0,
            Fill::Uneven => -1.0,
        }
    }
}

/// A network in the profile `fma` with the layer `c` over `channels` channels of codes of `bits`, whose weights are `weights` of the text.
///
/// # Panics
/// When the text is no graph.
pub fn network([channels, size]: [usize; 2], input: &str, layer: &str, weights: Fill, fma: bool) -> Graph {
    let source = format!(
        "dorefa 1\ngraph g(x: f32[N, {channels}, {size}, {size}]) -> (y) {{\n  a = {input}\n  {}\n}}\n",
        layer.replace("; ", "\n  ")
    );
    let values = |name: &str| {
        // The layer that is forced has these, the others always the same.
        let fill = if name == "w" { weights } else { Fill::Mixed };
        let shape = source.split(&format!("@{name}: f32[")).nth(1)?.split(']').next()?;
        let dims: Vec<usize> = shape.split(", ").filter_map(|d| d.parse().ok()).collect();
        Tensor::f32(dims.clone(), (0..dims.iter().product()).map(|i| fill.value(i)).collect()).ok()
    };
    let mut graph = text::parse(&source, "forced.dorefa", &values)
        .unwrap_or_else(|p| panic!("{}", p.iter().map(ToString::to_string).collect::<String>()));
    passes::run(&mut graph, fma, &mut |_, _| {}).expect("passes");
    graph
}
