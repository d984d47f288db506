//! Checks the protobuf wire format of an ONNX file before it is parsed.
//!
//! The parser (protobuf 3.4.0) recurses without bound on nested unknown groups (RUSTSEC-2024-0437), and a message of two
//! bytes may become one of hundreds in memory. The walk here follows the schema, so it sees exactly the messages that
//! the parser will see; it refuses group tags, deep nesting and absurd numbers of messages.

/// The greatest nesting of messages: deeper than any real model, shallower than the parser's own limit.
const MAX_DEPTH: usize = 64;
/// The greatest number of messages in a file.
const MAX_MESSAGES: usize = 4_000_000;

/// The messages of the ONNX schema that hold further messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Message {
    Model,
    Training,
    Function,
    Graph,
    Node,
    Attribute,
    Tensor,
    Sparse,
    ValueInfo,
    Annotation,
    Type,
    TensorType,
    ElemType,
    MapType,
    Shape,
    /// A message without messages inside.
    Leaf,
}

impl Message {
    /// The message in field `field`, if that field holds one.
    fn child(self, field: u64) -> Option<Message> {
        use Message::*;
        Some(match (self, field) {
            (Model, 7) => Graph,
            (Model, 8 | 14) => Leaf,
            (Model, 20) => Training,
            (Model, 25) => Function,
            (Training, 1 | 2) => Graph,
            (Training, 3 | 4) => Leaf,
            (Function, 7) => Node,
            (Function, 9 | 14) => Leaf,
            (Function, 11) => Attribute,
            (Function, 12) => ValueInfo,
            (Graph, 1) => Node,
            (Graph, 5) => Tensor,
            (Graph, 11..=13) => ValueInfo,
            (Graph, 14) => Annotation,
            (Graph, 15) => Sparse,
            (Graph, 16) => Leaf,
            (Node, 5) => Attribute,
            (Node, 9) => Leaf,
            (Attribute, 5 | 10) => Tensor,
            (Attribute, 6 | 11) => Graph,
            (Attribute, 14 | 15) => Type,
            (Attribute, 22 | 23) => Sparse,
            (Tensor, 3 | 13 | 16) => Leaf,
            (Sparse, 1 | 2) => Tensor,
            (ValueInfo, 2) => Type,
            (ValueInfo, 4) => Leaf,
            (Annotation, 2) => Leaf,
            (Type, 1 | 8) => TensorType,
            (Type, 4 | 9) => ElemType,
            (Type, 5) => MapType,
            (TensorType, 2) => Shape,
            (ElemType, 1) => Type,
            (MapType, 2) => Type,
            (Shape, 1) => Leaf,
            _ => return None,
        })
    }
}

/// Walks over a `ModelProto`.
///
/// # Errors
/// What is malformed, and at which byte.
pub fn check(bytes: &[u8]) -> Result<(), String> {
    // A stack of its own: (message, its end). Innermost last.
    let mut stack = vec![(Message::Model, bytes.len())];
    let mut at = 0usize;
    let mut messages = 0usize;
    while let Some(&(message, end)) = stack.last() {
        if at >= end {
            stack.pop();
            continue;
        }
        let start = at;
        let bad = |what: &str| format!("{what} at byte {start}: the file is truncated, damaged or no ONNX model");
        let tag = varint(bytes, &mut at, end).ok_or_else(|| bad("broken field tag"))?;
        let (field, wire) = (tag >> 3, tag & 7);
        if field == 0 || tag > u64::from(u32::MAX) {
            return Err(bad("invalid field number"));
        }
        let skip = match wire {
            0 => {
                varint(bytes, &mut at, end).ok_or_else(|| bad("broken integer"))?;
                0
            }
            1 => 8,
            5 => 4,
            2 => {
                let len = varint(bytes, &mut at, end).ok_or_else(|| bad("broken length"))?;
                let len = usize::try_from(len).ok().filter(|&l| l <= end - at);
                let len = len.ok_or_else(|| bad("a field longer than what holds it"))?;
                if let Some(child) = message.child(field) {
                    messages += 1;
                    if messages > MAX_MESSAGES {
                        return Err(format!("more than {MAX_MESSAGES} messages: no model of a sensible size"));
                    }
                    if stack.len() >= MAX_DEPTH {
                        return Err(format!("messages nested deeper than {MAX_DEPTH} at byte {start}: refused"));
                    }
                    stack.push((child, at + len));
                    continue;
                }
                len
            }
            3 | 4 => return Err(format!("protobuf group tag at byte {start}: ONNX has no groups, refused")),
            _ => return Err(bad("invalid wire type")),
        };
        if skip > end - at {
            return Err(bad("a field longer than what holds it"));
        }
        at += skip;
    }
    Ok(())
}

/// Reads a variable-length integer of at most ten bytes before `end`.
fn varint(bytes: &[u8], at: &mut usize, end: usize) -> Option<u64> {
    let mut value = 0u64;
    for shift in 0..10 {
        if *at >= end {
            return None;
        }
        let byte = *bytes.get(*at)?;
        *at += 1;
        value |= u64::from(byte & 0x7f).checked_shl(7 * shift).unwrap_or(0);
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_refused_at_every_level() {
        assert!(check(&[0x0b, 0x0c]).unwrap_err().contains("group"));
        // graph { node { unknown group 31 } }
        assert!(check(&[0x3a, 0x05, 0x0a, 0x03, 0xfb, 0x01, 0x00]).unwrap_err().contains("group"));
        // The same bytes inside a string field are no tags.
        assert_eq!(check(&[0x12, 0x02, 0x0b, 0x0c]), Ok(()));
    }

    #[test]
    fn deep_nesting_is_refused() {
        // graph in attribute in node in graph …, each wrapped around the last.
        let mut inner: Vec<u8> = Vec::new();
        for _ in 0..40 {
            for tag in [0x32u8, 0x2a, 0x0a] {
                let mut outer = vec![tag];
                let mut len = inner.len();
                while len >= 0x80 {
                    outer.push((len & 0x7f) as u8 | 0x80);
                    len >>= 7;
                }
                outer.push(len as u8);
                outer.extend(&inner);
                inner = outer;
            }
        }
        let mut model = vec![0x3a, (inner.len() & 0x7f) as u8 | 0x80, (inner.len() >> 7) as u8];
        model.extend(&inner);
        assert!(check(&model).unwrap_err().contains("nested"));
    }

    #[test]
    fn lengths_beyond_the_parent_are_refused() {
        assert!(check(&[0x3a, 0x04, 0x0a, 0x05, 0x00, 0x00]).is_err());
        assert!(check(&[0x3a, 0xff]).is_err());
        assert!(check(&[0x09, 0x00]).is_err());
        assert_eq!(check(&[]), Ok(()));
    }
}
