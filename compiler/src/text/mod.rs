//! The native format `.dorefa`: the graph IR's own text, what a person writes, `--emit` prints and golden tests read.
//!
//! ```text
//! dorefa 1
//! meta input.scale = "1/256"
//! graph tiny(x: f32[N, 3, 40, 40]) -> (logits) {
//!   c0 = conv(x, @conv0.w: f32[8, 3, 5, 5], @conv0.b: f32[8])
//!   a0 = quantize_activation(max_pool(c0, kernel=[2, 2], strides=[2, 2]), bits=2)
//!   logits = matmul(reshape(a0, shape=[2592]), @fc.w: f32[10, 2592])
//! }
//! ```
//!
//! `parser` holds the grammar, `build` checks against the operator table. Weights stand beside the text as safetensors
//! (`weights`), or the text in the safetensors' metadata, or nowhere: then they are drawn from the seed (`init`).
//! This module knows no operator but in `init`, and no pass.

mod build;
mod diagnostic;
mod init;
mod lexer;
mod parser;
mod printer;
#[cfg(test)]
mod tests;
mod types;
mod weights;

pub use diagnostic::Diagnostic;
pub use init::{First, draws as training_draws, training as training_parameters};
pub use printer::print;
pub use weights::GRAPH_KEY;

use crate::graph::{Graph, verify};
use build::Weights;
use diagnostic::Source;
use dorefa_runtime::tensor::Tensor;
use parser::Parser;
use std::io::Write;
use std::path::{Path, PathBuf};

/// Why a native graph could not be read or written. Several lines, one report.
#[derive(Debug, thiserror::Error)]
pub enum TextError {
    /// The file system refused.
    #[error("{}: {error}", path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// Its error.
        error: std::io::Error,
    },
    /// The text is wrong.
    #[error("{}", join(.0))]
    Source(Vec<Diagnostic>),
    /// The weights file is wrong.
    #[error("{}: {message}", path.display())]
    Weights {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        message: String,
    },
    /// The graph breaks an invariant.
    #[error("{}: {}", path.display(), problems.join("\n"))]
    Invalid {
        /// The file.
        path: PathBuf,
        /// One line a violation.
        problems: Vec<String>,
    },
}

fn join(problems: &[Diagnostic]) -> String {
    problems.iter().map(Diagnostic::to_string).collect::<Vec<_>>().join("\n")
}

impl TextError {
    fn io(path: &Path, error: std::io::Error) -> TextError {
        TextError::Io { path: path.to_owned(), error }
    }

    fn weights(path: &Path, message: String) -> TextError {
        TextError::Weights { path: path.to_owned(), message }
    }
}

/// Reads a graph. `file` is the name that diagnostics show; `weights` gives the data of a constant by name, and a constant
/// for which it gives `None` is drawn from the graph's seed.
///
/// # Errors
/// All problems of the text that can be told apart, at most twenty.
pub fn parse(source: &str, file: &str, weights: &dyn Fn(&str) -> Option<Tensor>) -> Result<Graph, Vec<Diagnostic>> {
    parse_with(source, file, Weights { lookup: weights, strict: false })
}

fn parse_with(text: &str, file: &str, weights: Weights<'_>) -> Result<Graph, Vec<Diagnostic>> {
    let source = Source { file, text };
    let mut problems = Vec::new();
    let tokens = lexer::lex(source, &mut problems);
    let mut parser = Parser { source, tokens, next: 0, problems };
    let tree = parser.file();
    match tree {
        Ok(tree) if parser.problems.is_empty() => build::build(tree, source, weights),
        _ => {
            parser.problems.sort_by_key(|p| (p.line, p.column));
            Err(parser.problems)
        }
    }
}

/// Reads `x.dorefa` with the weights in `x.safetensors` beside it (drawn from the seed where there is no such file), or a
/// `.safetensors` file that carries its graph.
///
/// # Errors
/// When a file cannot be read, or the text or the weights are wrong.
pub fn load(path: impl AsRef<Path>) -> Result<Graph, TextError> {
    let path = path.as_ref();
    if is_weights(path) {
        return of_weights(path, weights::File::read(path)?);
    }
    let bytes = std::fs::read(path).map_err(|e| TextError::io(path, e))?;
    let text = String::from_utf8(bytes).map_err(|_| TextError::weights(path, "is not UTF-8 text".to_owned()))?;
    let beside = path.with_extension("safetensors");
    let weights = if beside.exists() { Some(weights::File::read(&beside)?) } else { None };
    of_text(path, &text, weights.as_ref())
}

/// Reads the bytes of a `.safetensors` file that carries its graph; `path` is what messages name.
///
/// # Errors
/// As [`load`].
pub fn from_safetensors(path: &Path, bytes: Vec<u8>) -> Result<Graph, TextError> {
    of_weights(path, weights::File::of_bytes(path, bytes)?)
}

fn of_weights(path: &Path, file: weights::File) -> Result<Graph, TextError> {
    let none = || TextError::weights(path, format!("carries no graph in its metadata `{GRAPH_KEY}`"));
    of_text(path, &file.graph().ok_or_else(none)?, Some(&file))
}

fn of_text(path: &Path, text: &str, weights: Option<&weights::File>) -> Result<Graph, TextError> {
    let lookup = |name: &str| weights.and_then(|w| w.tensor(name));
    let source = Weights { lookup: &lookup, strict: weights.is_some() };
    let graph = parse_with(text, &path.display().to_string(), source).map_err(TextError::Source)?;
    verify::verify(&graph).map_err(|problems| TextError::Invalid { path: path.to_owned(), problems })?;
    Ok(graph)
}

/// Writes a graph and its weights: text and `.safetensors` beside it, or one file where `path` ends in `.safetensors`.
/// Each file is written beside its place, then renamed into it.
///
/// # Errors
/// When a file cannot be written.
pub fn save(graph: &Graph, path: impl AsRef<Path>) -> Result<(), TextError> {
    let path = path.as_ref();
    let text = print(graph);
    let encode = |text| weights::encode(graph, text).map_err(|message| TextError::weights(path, message));
    if is_weights(path) {
        return replace(path, &encode(Some(text))?);
    }
    replace(&path.with_extension("safetensors"), &encode(None)?)?;
    replace(path, text.as_bytes())
}

fn is_weights(path: &Path) -> bool {
    path.extension().is_some_and(|e| e == "safetensors")
}

fn replace(path: &Path, bytes: &[u8]) -> Result<(), TextError> {
    let folder = path.parent().filter(|p| !p.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let write = || {
        let mut builder = tempfile::Builder::new();
        #[cfg(unix)]
        builder.permissions(std::os::unix::fs::PermissionsExt::from_mode(0o666)); // less the umask, as any new file
        let mut file = builder.tempfile_in(folder)?;
        file.write_all(bytes)?;
        file.as_file().sync_all()?;
        file.persist(path).map_err(|e| e.error)?;
        Ok(())
    };
    write().map_err(|e| TextError::io(path, e))
}
