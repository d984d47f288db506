//! Diagnostics of the text format: what is wrong, where, the line itself and a hint.

use std::fmt;

/// Longest part of a source line that a diagnostic shows, in characters.
const SHOWN: usize = 120;

/// Errors after which a file is given up.
pub const MOST: usize = 20;

/// One problem of a source file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The file as the user named it.
    pub file: String,
    /// Line, from 1.
    pub line: usize,
    /// Column in characters, from 1.
    pub column: usize,
    /// What is wrong.
    pub message: String,
    /// What to do about it.
    pub hint: Option<String>,
    source: String,
    caret: (usize, usize),
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let line = self.line.to_string();
        let gap = " ".repeat(line.len());
        let (before, width) = self.caret;
        writeln!(f, "error: {}", self.message)?;
        writeln!(f, "{gap}--> {}:{}:{}", self.file, self.line, self.column)?;
        writeln!(f, "{line} | {}", self.source)?;
        write!(f, "{gap} | {}{}", " ".repeat(before), "^".repeat(width))?;
        match &self.hint {
            Some(hint) => write!(f, "\n{gap} = hint: {hint}"),
            None => Ok(()),
        }
    }
}

/// A source file under its name: makes diagnostics from byte offsets.
#[derive(Clone, Copy)]
pub(super) struct Source<'a> {
    pub file: &'a str,
    pub text: &'a str,
}

impl Source<'_> {
    /// A diagnostic for `len` bytes at byte `at`.
    pub fn diagnostic(&self, at: usize, len: usize, message: String, hint: Option<String>) -> Diagnostic {
        let head = self.text.get(..at).unwrap_or(self.text);
        let start = head.rfind('\n').map_or(0, |i| i + 1);
        let line = self.text.get(start..).and_then(|t| t.split(['\n', '\r']).next()).unwrap_or("");
        let before = head.get(start..).unwrap_or("").chars().count();
        let marked = self.text.get(at..at + len).and_then(|t| t.split('\n').next()).map_or(1, |t| t.chars().count());
        // A long line is shown from shortly before the mark.
        let skip = if before > SHOWN - 20 { before - 20 } else { 0 };
        let plain = |c: char| if c.is_control() { ' ' } else { c };
        let source: String = line.chars().skip(skip).take(SHOWN).map(plain).collect();
        let caret = (before - skip, marked.clamp(1, (SHOWN + skip).saturating_sub(before).max(1)));
        let line = head.matches('\n').count() + 1;
        Diagnostic { file: self.file.to_owned(), line, column: before + 1, message, hint, source, caret }
    }
}

/// The candidate nearest to `name`, if one is near enough to be a slip of the pen.
pub(super) fn nearest<'a>(name: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > 64 {
        return None;
    }
    let distance = |other: &str| {
        let other: Vec<char> = other.chars().collect();
        let mut row: Vec<usize> = (0..=other.len()).collect();
        for (i, a) in name.chars().enumerate() {
            let mut diagonal = i;
            let mut left = i + 1;
            for (cell, b) in row.iter_mut().skip(1).zip(&other) {
                let best = (diagonal + usize::from(a != *b)).min(left + 1).min(*cell + 1);
                diagonal = *cell;
                *cell = best;
                left = best;
            }
            if let Some(first) = row.first_mut() {
                *first = i + 1;
            }
        }
        row.last().copied().unwrap_or(usize::MAX)
    };
    let limit = (name.chars().count() / 3).max(2);
    candidates.into_iter().map(|c| (distance(c), c)).filter(|(d, _)| *d <= limit).min().map(|(_, c)| c)
}
