//! ONNX files into the graph IR.

pub mod proto;
pub mod tensor;
mod wire;
