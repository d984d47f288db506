//! Tokens of the text format.
//!
//! Identifiers hold letters, digits, `_` and `.`; any other name stands in quotes. Comments run from `#` to the end of
//! the line. Line ends only matter for recovery from errors and before the suffix `layout=`.

use super::diagnostic::{Diagnostic, MOST, Source};

/// The kind of a token.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Kind {
    Ident,
    /// A quoted text, decoded.
    Text(String),
    /// An integer, a float or `-inf`.
    Number,
    Punct,
    End,
}

/// A token and its place.
#[derive(Clone, Debug)]
pub(super) struct Token<'a> {
    pub kind: Kind,
    /// As it stands in the source.
    pub text: &'a str,
    /// Byte offset.
    pub at: usize,
    /// Whether it is the first of its line.
    pub first: bool,
}

const PUNCT: &[&str] = &["->", "..", "(", ")", "{", "}", "[", "]", "<", ">", ",", "=", ":", "@", "/", "*", "^", "!"];

/// Whether a name may stand without quotes.
pub(super) fn is_identifier(name: &str) -> bool {
    let mut chars = name.chars();
    chars.next().is_some_and(|c| c.is_ascii_alphabetic() || c == '_') && chars.all(is_part)
}

fn is_part(c: char) -> bool {
    c.is_ascii_alphanumeric() || c == '_' || c == '.'
}

/// All tokens, an [`Kind::End`] last. What is no token is reported and skipped.
pub(super) fn lex<'a>(source: Source<'a>, problems: &mut Vec<Diagnostic>) -> Vec<Token<'a>> {
    let (text, mut at, mut first) = (source.text, 0, true);
    let mut tokens = Vec::new();
    while let Some(c) = text.get(at..).and_then(|t| t.chars().next()) {
        let rest = text.get(at..).unwrap_or("");
        if c == '#' {
            at += rest.find('\n').unwrap_or(rest.len());
            continue;
        }
        if c.is_whitespace() {
            first |= c == '\n';
            at += c.len_utf8();
            continue;
        }
        let found = if c == '"' { quoted(rest) } else { plain(rest) };
        let len = match found {
            Ok((kind, len)) => {
                tokens.push(Token { kind, text: rest.get(..len).unwrap_or(""), at, first });
                len
            }
            Err((message, len)) => {
                problems.push(source.diagnostic(at, len, message, None));
                len
            }
        };
        first = false;
        at += len;
        if problems.len() >= MOST {
            break;
        }
    }
    tokens.push(Token { kind: Kind::End, text: "", at: text.trim_end().len(), first: true });
    tokens
}

type Found = Result<(Kind, usize), (String, usize)>;

fn plain(rest: &str) -> Found {
    if let Some(len) = number(rest) {
        return Ok((Kind::Number, len));
    }
    let len = rest.find(|c| !is_part(c)).unwrap_or(rest.len());
    if is_identifier(rest.get(..len).unwrap_or("")) {
        return Ok((Kind::Ident, len));
    }
    match PUNCT.iter().find(|p| rest.starts_with(**p)) {
        Some(p) => Ok((Kind::Punct, p.len())),
        None => {
            let c = rest.chars().next().unwrap_or(' ');
            Err((format!("unexpected character {c:?}"), c.len_utf8()))
        }
    }
}

/// The length of the number that `rest` starts with. `0..3` starts with the number 0.
fn number(rest: &str) -> Option<usize> {
    let bytes = rest.as_bytes();
    let digits = |from: usize| bytes.iter().skip(from).take_while(|b| b.is_ascii_digit()).count();
    let sign = usize::from(bytes.first() == Some(&b'-'));
    if sign == 1 && rest.starts_with("-inf") {
        return Some(4);
    }
    let mut len = sign + digits(sign);
    if len == sign {
        return None;
    }
    if bytes.get(len) == Some(&b'.') && digits(len + 1) > 0 {
        len += 1 + digits(len + 1);
    }
    if matches!(bytes.get(len), Some(b'e' | b'E')) {
        let signed = len + 1 + usize::from(matches!(bytes.get(len + 1), Some(b'+' | b'-')));
        if digits(signed) > 0 {
            len = signed + digits(signed);
        }
    }
    Some(len)
}

fn quoted(rest: &str) -> Found {
    let mut value = String::new();
    let mut chars = rest.char_indices().skip(1);
    while let Some((i, c)) = chars.next() {
        match c {
            '"' => return Ok((Kind::Text(value), i + 1)),
            '\n' => return Err(("the quoted text does not end on its line".to_owned(), i)),
            '\\' => match chars.next() {
                Some((_, 'n')) => value.push('\n'),
                Some((_, 't')) => value.push('\t'),
                Some((_, 'r')) => value.push('\r'),
                Some((_, c @ ('"' | '\\'))) => value.push(c),
                Some((j, 'u')) => {
                    let body = rest.get(j + 1..).and_then(|t| t.strip_prefix('{')).and_then(|t| t.split_once('}'));
                    let code = body.and_then(|(hex, _)| u32::from_str_radix(hex, 16).ok()).and_then(char::from_u32);
                    let (Some((hex, _)), Some(c)) = (body, code) else {
                        return Err(("`\\u` is followed by {hexadecimal digits}".to_owned(), j + 1));
                    };
                    value.push(c);
                    chars.nth(hex.chars().count() + 1);
                }
                Some((j, c)) => return Err((format!("unknown escape `\\{c}`"), j + c.len_utf8())),
                None => break,
            },
            c => value.push(c),
        }
    }
    Err(("the quoted text does not end".to_owned(), rest.len()))
}

/// A name as it is written: plain, or in quotes.
pub(super) fn write_name(name: &str) -> String {
    if is_identifier(name) { name.to_owned() } else { write_text(name) }
}

/// A text in quotes.
pub(super) fn write_text(text: &str) -> String {
    let mut out = String::from("\"");
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            '\n' => out.push_str("\\n"),
            '\t' => out.push_str("\\t"),
            '\r' => out.push_str("\\r"),
            c if c.is_control() => out.push_str(&format!("\\u{{{:x}}}", u32::from(c))),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}
