//! A small writer of ONNX files for tests of what no exporter writes.

/// A field of a protobuf message that holds bytes.
pub fn field(number: u32, value: &[u8]) -> Vec<u8> {
    let mut out = varint(u64::from(number) << 3 | 2);
    out.extend(varint(value.len() as u64));
    out.extend_from_slice(value);
    out
}

/// A field that holds an integer.
pub fn number(field: u32, value: i64) -> Vec<u8> {
    let mut out = varint(u64::from(field) << 3);
    out.extend(varint(value as u64));
    out
}

fn varint(mut value: u64) -> Vec<u8> {
    let mut out = Vec::new();
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
    out
}

/// Element type codes.
pub const FLOAT: i64 = 1;
/// As above.
pub const INT64: i64 = 7;

/// An input, by its extents; −1 is the batch. Element type float.
pub fn input(name: &str, dims: &[i64]) -> Vec<u8> {
    field(11, &port(name, dims))
}

/// An output of no declared shape.
pub fn output(name: &str) -> Vec<u8> {
    field(12, &port(name, &[]))
}

fn port(name: &str, dims: &[i64]) -> Vec<u8> {
    let dim = |&d: &i64| if d < 0 { field(1, &field(2, b"N")) } else { field(1, &number(1, d)) };
    let shape = if dims.is_empty() { Vec::new() } else { field(2, &dims.iter().flat_map(dim).collect::<Vec<_>>()) };
    let tensor = [number(1, FLOAT), shape].concat();
    [field(1, name.as_bytes()), field(2, &field(1, &tensor))].concat()
}

/// An initialiser with these little-endian bytes.
pub fn initialiser(name: &str, kind: i64, dims: &[i64], raw: &[u8]) -> Vec<u8> {
    let dims = dims.iter().flat_map(|&d| number(1, d)).collect::<Vec<_>>();
    field(5, &[dims, number(2, kind), field(8, name.as_bytes()), field(9, raw)].concat())
}

/// An initialiser of floats.
pub fn floats(name: &str, dims: &[i64], values: &[f32]) -> Vec<u8> {
    initialiser(name, FLOAT, dims, &values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>())
}

/// An initialiser of integers of rank 1.
pub fn ints(name: &str, values: &[i64]) -> Vec<u8> {
    let raw = values.iter().flat_map(|v| v.to_le_bytes()).collect::<Vec<_>>();
    initialiser(name, INT64, &[values.len() as i64], &raw)
}

/// A node; `domain::Operator` names another domain. Attributes as [`attribute`] makes them.
pub fn node(operator: &str, inputs: &[&str], outputs: &[&str], attributes: &[Vec<u8>]) -> Vec<u8> {
    let (domain, operator) = operator.split_once("::").unwrap_or(("", operator));
    let names = |number, names: &[&str]| names.iter().flat_map(|n| field(number, n.as_bytes())).collect::<Vec<_>>();
    let head = [names(1, inputs), names(2, outputs), field(4, operator.as_bytes()), field(7, domain.as_bytes())];
    field(1, &[head.concat(), attributes.concat()].concat())
}

/// An attribute of integers.
pub fn attribute(name: &str, values: &[i64]) -> Vec<u8> {
    let values = values.iter().flat_map(|&v| number(8, v)).collect::<Vec<_>>();
    field(5, &[field(1, name.as_bytes()), values, number(20, 7)].concat())
}

/// An attribute that is one integer.
pub fn int(name: &str, value: i64) -> Vec<u8> {
    field(5, &[field(1, name.as_bytes()), number(3, value), number(20, 2)].concat())
}

/// A model of these parts of its graph, with version 13 of ONNX's operators.
pub fn model(parts: &[Vec<u8>]) -> Vec<u8> {
    let opset = |domain: &str, version| field(8, &[field(1, domain.as_bytes()), number(2, version)].concat());
    let graph = [parts.concat(), field(2, b"g")].concat();
    [number(1, 8), opset("", 13), opset("qonnx.custom_op.general", 1), field(7, &graph)].concat()
}
