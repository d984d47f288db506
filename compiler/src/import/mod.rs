//! Importers: files of other frameworks into the graph IR. They keep the file's own arithmetic and collect everything
//! that is wrong before they give up. Nothing here knows a pass or a machine.

pub mod onnx;

use std::fmt;

/// One thing that is wrong with a file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problem {
    /// The file.
    pub file: String,
    /// The node or tensor; empty where the file as a whole is meant.
    pub node: String,
    /// The operator; empty where none is meant.
    pub operator: String,
    /// What is wrong, and what to do.
    pub message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: ", one_line(&self.file))?;
        if !self.node.is_empty() {
            write!(f, "{}: ", one_line(&self.node))?;
        }
        if !self.operator.is_empty() {
            write!(f, "{}: ", one_line(&self.operator))?;
        }
        f.write_str(&one_line(&self.message))
    }
}

/// Text from a file on one line of bounded length, so that a hostile name cannot break the report.
fn one_line(text: &str) -> String {
    let mut line: String = text.chars().take(400).map(|c| if c.is_control() { ' ' } else { c }).collect();
    if text.chars().nth(400).is_some() {
        line.push('…');
    }
    line
}

/// Most problems that a report shows, each on its line.
const SHOWN: usize = 1000;

fn report(problems: &[Problem]) -> String {
    let mut lines: Vec<String> = problems.iter().take(SHOWN).map(Problem::to_string).collect();
    if let (Some(more @ 1..), Some(first)) = (problems.len().checked_sub(SHOWN), problems.first()) {
        lines.push(format!("{}: {more} more problems", one_line(&first.file)));
    }
    lines.join("\n")
}

/// Everything that keeps a file from being imported; printed one line a problem.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}", report(.problems))]
pub struct ImportError {
    /// The problems in the order of the file; never empty.
    pub problems: Vec<Problem>,
}

impl ImportError {
    /// A problem of a whole file.
    pub fn of_file(file: &str, message: impl Into<String>) -> ImportError {
        let problem =
            Problem { file: file.to_owned(), node: String::new(), operator: String::new(), message: message.into() };
        ImportError { problems: vec![problem] }
    }
}
