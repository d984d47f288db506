//! The passes: from the graph as imported to the graph as lowered, one file a pass, the verifier after each.
//!
//! Every pass but [`lift`] keeps every value to the bit (numerics contract, rule 2). A pass must never know a target
//! machine, a memory layout or a file format.

mod average;
mod chain;
pub mod dead;
pub mod fixed;
mod flatten;
pub mod fold;
#[cfg(test)]
mod golden;
pub mod join;
pub mod lift;
pub mod outputs;
pub mod pool;
mod probe;
pub mod ranges;
pub mod recognize;
pub mod recover;
pub mod residual;
pub mod shortcut;
pub mod spread;
#[cfg(test)]
pub(crate) mod testing;
pub mod threshold;
pub mod transpose;

use crate::graph::attrs::Attrs;
use crate::graph::{Graph, GraphError, Value, ops, verify};

/// Why the passes could not run.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum PassError {
    /// The model cannot be compiled: the user's matter.
    #[error("{0}")]
    Input(String),
    /// A pass broke the graph: our bug.
    #[error("internal error after pass `{pass}`: {message}; please report this")]
    Bug {
        /// The pass.
        pass: String,
        /// What the verifier or the graph said.
        message: String,
    },
}

impl From<GraphError> for PassError {
    fn from(e: GraphError) -> PassError {
        PassError::Bug { pass: "unknown".into(), message: e.to_string() }
    }
}

impl From<String> for PassError {
    fn from(message: String) -> PassError {
        PassError::Bug { pass: "unknown".into(), message }
    }
}

/// What the passes have to tell about one layer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Note {
    /// The layer's name in the source.
    pub layer: String,
    /// For instance "stays float because its weights are no codes".
    pub text: String,
}

/// What the passes made of the model.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Report {
    /// Notes in the order in which they arose.
    pub notes: Vec<Note>,
}

impl Report {
    /// Adds a note.
    pub fn note(&mut self, layer: &str, text: impl Into<String>) {
        self.notes.push(Note { layer: layer.to_owned(), text: text.into() });
    }
}

/// Runs all passes; `fma` is the numeric profile, `observe` sees the graph after each pass, by the pass's name.
///
/// # Errors
/// When the model cannot be compiled, or a pass has a bug.
pub fn run(graph: &mut Graph, fma: bool, observe: &mut dyn FnMut(&'static str, &Graph)) -> Result<Report, PassError> {
    let mut report = Report::default();
    let mut done = |name: &'static str, result: Result<(), PassError>, graph: &Graph| {
        match result {
            Err(PassError::Bug { message, .. }) => return Err(PassError::Bug { pass: name.into(), message }),
            other => other?,
        }
        verify::verify(graph).map_err(|e| PassError::Bug { pass: name.into(), message: e.join("; ") })?;
        observe(name, graph);
        Ok(())
    };
    verify::verify(graph).map_err(|e| PassError::Input(e.join("\n")))?;

    let r = dead::run(graph);
    done("dead", r, graph)?;
    let r = recognize::run(graph);
    done("recognize", r, graph)?;
    let hints = recover::hints(graph);
    let r = fold::run(graph, fma);
    done("fold", r, graph)?;
    let r = transpose::run(graph);
    done("transpose", r, graph)?;
    let r = join::sink(graph);
    done("join", r, graph)?;
    let r = recover::check(graph).and_then(|()| lift::run(graph, &hints, &mut report));
    done("lift", r, graph)?;
    let r = transpose::run(graph);
    done("transpose_codes", r, graph)?;
    let r = join::encode(graph);
    done("join_codes", r, graph)?;
    let r = pool::run(graph);
    done("pool", r, graph)?;
    let r = threshold::run(graph, &mut report);
    done("threshold", r, graph)?;
    let r = shortcut::run(graph, &mut report);
    done("shortcut", r, graph)?;
    let r = residual::run(graph, &mut report);
    done("residual", r, graph)?;
    let r = spread::run(graph).and_then(|()| dead::run(graph)).and_then(|()| outputs::run(graph));
    done("final", r, graph)?;
    Ok(report)
}

/// Adds a node of a known operator.
fn add(graph: &mut Graph, op: &str, name: &str, inputs: &[Value], attrs: Attrs) -> Result<Value, PassError> {
    Ok(graph.add(ops::known(op), name, inputs, attrs)?)
}

/// The operator's name of the node that makes `value`.
fn op_of(graph: &Graph, value: Value) -> &'static str {
    graph.node(value.node).map_or("", |n| n.op.name)
}

/// The name of the node that makes `value`.
fn name_of(graph: &Graph, value: Value) -> String {
    graph.node(value.node).map(|n| n.name.clone()).unwrap_or_default()
}

/// The one value that all elements of a constant have.
fn uniform(graph: &Graph, value: Value) -> Option<f32> {
    let data = graph.constant(value)?.as_f32()?;
    let first = *data.first()?;
    data.iter().all(|v| v.to_bits() == first.to_bits()).then_some(first)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(g: &Graph, op: &str) -> usize {
        g.order().iter().filter(|&&id| g.node(id).is_some_and(|n| n.op.name == op)).count()
    }

    #[test]
    fn every_pass_but_lift_keeps_the_bits() {
        for bits in [1, 2, 3, 4, 8] {
            let mut g = testing::small(bits);
            let mut seen = vec![("import", testing::outputs(&g, &[4, 2, 8, 8]))];
            let report = run(&mut g, true, &mut |name, g| seen.push((name, testing::outputs(g, &[4, 2, 8, 8]))));
            let report = report.expect("compiles");
            for pair in seen.windows(2) {
                let [(_, a), (name, b)] = pair else { continue };
                let scale = a.iter().fold(1f32, |m, v| m.max(v.abs()));
                let same = a.iter().zip(b).all(|(a, b)| {
                    if *name == "lift" { (a - b).abs() <= 1e-4 * scale } else { a.to_bits() == b.to_bits() }
                });
                assert!(same, "{bits} bits, pass {name}: {a:?} {b:?}");
            }
            assert_eq!(count(&g, "int_conv"), 2, "{report:?}");
            assert_eq!(count(&g, "code_pool"), 2);
            assert_eq!(count(&g, "threshold"), usize::from(bits <= 4), "{report:?}");
        }
    }
}
