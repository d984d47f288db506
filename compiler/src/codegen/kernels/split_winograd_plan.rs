//! How a layer is computed by transformed rows: what the kernels' instructions multiply, how many rows of results a time, how large a
//! strip.

use super::choice::Kernel;
use super::layer::{Layer, demand, thresholds};
use super::split_tiling::{all_digits, early_codes, levels, whole_windows};
use crate::codegen::target::{Level, x86};
use crate::codegen::tiles::split::Instructions;
use crate::codegen::tiles::split_winograd::{WinogradShape, exact};
use crate::codegen::tiles::split_winograd_rows::RowTransform;
use crate::codegen::tiles::{SplitShape, Width};
use crate::lower::split::{Products, Split, TILE};
use crate::lower::split_winograd::{Filter, ROWS, SplitWinograd};

/// Bytes of a strip: each of its levels is read once or hardly ever, so it may lie in the second-level cache.
const STRIP: usize = 64 << 10;
/// Bytes of transformed rows, which every block of outputs reads, at most.
const TRANSFORMED: usize = 64 << 10;

/// What differs between the kernels.
#[derive(Clone, Copy)]
pub(super) struct Machine {
    /// Of the tile.
    pub instructions: Instructions,
    /// Of the vectors that are transformed.
    pub width: Width,
    /// What the exact weights are multiplied as.
    pub products: Products,
    /// Digits of weights with which all but the lowest cost more than transformed weights.
    pub digits: usize,
}

impl Machine {
    pub fn of(kernel: Kernel) -> Machine {
        let (avx2, vnni) = (Instructions::Avx2 { dot: false }, Instructions::Vnni);
        match kernel {
            Kernel::SplitWinogradAvx2 => {
                Machine { instructions: avx2, width: Width::Ymm, products: Products::Pairs, digits: 2 }
            }
            _ => Machine { instructions: vnni, width: Width::Zmm, products: Products::Quads, digits: 3 },
        }
    }

    /// Products of 16 outputs a cycle, measured with all that a tile does of them; that of AVX-VNNI is reckoned.
    pub fn rate(self, level: &Level) -> f64 {
        match self.instructions {
            Instructions::Avx2 { .. } if level.has_x86(x86::AVXVNNI) => 0.95,
            Instructions::Avx2 { .. } => 0.75,
            _ => 1.6,
        }
    }
}

/// How a layer is computed.
pub(super) struct Plan {
    /// Whose.
    pub machine: Machine,
    /// The exact weights.
    pub split: Split,
    pub winograd: SplitWinograd,
    /// The tile, but for distances.
    pub exact: SplitShape,
    /// Bytes of a row of the strip.
    pub row: usize,
    /// Levels of a row.
    pub levels: usize,
    /// Rows of results a strip.
    pub rows: usize,
}

impl Plan {
    /// The cheapest for a layer.
    pub fn of(layer: &Layer<'_>, kernel: Kernel) -> Result<Plan, String> {
        let machine = Machine::of(kernel);
        demand(early_codes(layer), "it makes codes of one or two bits only, of whole blocks of 16 outputs")?;
        let behind = thresholds(layer.graph, layer.step.source.node).ok_or("no thresholds follow")?;
        let split =
            all_digits(layer, machine.products).ok_or("its levels or sums do not fit the digits of its weights")?;
        demand(split.planes == machine.digits, "its weights are fewer digits than pay")?;
        let of = |window: Option<[usize; 2]>| {
            let plans = (2..=ROWS).filter_map(|m| Plan::with(layer, machine, m, &split, behind, window));
            plans.min_by(|a, b| a.products(layer, behind).total_cmp(&b.products(layer, behind)))
        };
        // Whole windows where the step pools as a tile does; else its codes are pooled afterwards.
        let pooled = whole_windows(layer).and_then(|window| of(Some(window)));
        pooled
            .or_else(|| of(None))
            .ok_or_else(|| "no filter of its rows has few enough values for its geometry".to_owned())
    }

    /// With `results` rows a time.
    fn with(
        layer: &Layer<'_>,
        machine: Machine,
        results: usize,
        split: &Split,
        behind: (&[i64], usize),
        window: Option<[usize; 2]>,
    ) -> Option<Plan> {
        let g = &layer.g;
        let filter = Filter::of(g, results)?;
        if window.is_some_and(|[height, _]| height != results) {
            return None;
        }
        let winograd = SplitWinograd::new(g, filter, &levels(layer), layer.codes?.a.levels(), behind)?;
        let span = (g.output[1] - 1) * g.strides[1] + g.kernel[1];
        let pixel = g.channels * split.products.element();
        let row = (span * pixel + 16).next_multiple_of(16);
        let blocks = g.output[0].div_ceil(results);
        let rows = (1..=blocks).rev().map(|b| b * results).find(|&r| tall(filter, r) * row <= STRIP)?;
        let exact = exact(&winograd, machine.instructions, split.planes, g.output[1], window)?;
        let exact = exact.with(split, [row, pixel], g.strides[1] * pixel, 0, exact.finish());
        let plan = Plan { machine, split: *split, winograd, exact, row, levels: span * g.channels, rows };
        (WinogradShape::fits(plan.exact) && plan.transformed() <= TRANSFORMED).then_some(plan)
    }

    /// Bytes of a strip.
    pub fn strip(&self) -> usize {
        tall(self.winograd.filter, self.rows) * self.row
    }

    /// Bytes of the transformed rows.
    pub fn transformed(&self) -> usize {
        let filter = self.winograd.filter;
        filter.phases * filter.values() * RowTransform::row(self.levels) + 64
    }

    /// Instructions of the products of 16 outputs of all positions, those of open codes among them.
    pub fn products(&self, layer: &Layer<'_>, behind: (&[i64], usize)) -> f64 {
        let (g, filter) = (&layer.g, self.winograd.filter);
        let rows = g.output[0].next_multiple_of(filter.results) * g.output[1].next_multiple_of(self.exact.columns());
        let each = self.winograd.block_steps() as f64 / filter.results as f64;
        let window: usize = self.exact.window().iter().product();
        // An open output's instructions are no products: two a cycle and more.
        let open = self.winograd.open(behind) * (TILE * WinogradShape::open(self.exact) / 2) as f64 / window as f64;
        rows as f64 * (each + open)
    }
}

/// Rows of a strip for so many rows of results.
pub(super) fn tall(filter: Filter, rows: usize) -> usize {
    filter.phases * (rows + filter.taps - 1)
}
