//! The only file of the exporters that knows protobuf: from the neutral [`OnnxModel`] to the bytes of a file.

use crate::import::onnx::proto::{OnnxAttr, OnnxDim, OnnxModel, OnnxNode, OnnxValue};
use crate::import::onnx::tensor::RawTensor;
use onnx_protobuf::attribute_proto::AttributeType;
use onnx_protobuf::tensor_shape_proto::{Dimension, dimension};
use onnx_protobuf::{
    AttributeProto, GraphProto, Message, ModelProto, NodeProto, OperatorSetIdProto, StringStringEntryProto,
    TensorProto, TensorShapeProto, TypeProto, ValueInfoProto, type_proto,
};
use protobuf::MessageField;

/// The greatest file: protobuf's own limit of 2 GiB, with room for what is not weights.
const MAX_WEIGHTS: usize = (1 << 31) - (1 << 24);

/// Encodes a model. The importer's `parse` is the inverse.
///
/// # Errors
/// When the weights exceed what one file holds, or an attribute is of a kind that no operator of dorefac has.
pub(super) fn encode(model: OnnxModel) -> Result<Vec<u8>, String> {
    let total = model.initializers.values().try_fold(0usize, |a, t| a.checked_add(t.raw.len()));
    if total.is_none_or(|t| t > MAX_WEIGHTS) {
        return Err("the weights exceed 2 GiB, the limit of an ONNX file: export a smaller model".to_owned());
    }
    let graph = GraphProto {
        name: model.name,
        node: model.nodes.into_iter().map(node).collect::<Result<_, _>>()?,
        initializer: model.initializers.into_iter().map(|(name, t)| tensor(name, t)).collect(),
        input: model.inputs.into_iter().map(value).collect(),
        output: model.outputs.into_iter().map(value).collect(),
        ..GraphProto::default()
    };
    let opsets = model.opsets.into_iter();
    let metadata = model.metadata.into_iter();
    let model = ModelProto {
        ir_version: model.ir_version,
        producer_name: model.producer,
        opset_import: opsets
            .map(|(domain, version)| OperatorSetIdProto { domain, version, ..OperatorSetIdProto::default() })
            .collect(),
        metadata_props: metadata
            .map(|(key, value)| StringStringEntryProto { key, value, ..StringStringEntryProto::default() })
            .collect(),
        graph: MessageField::some(graph),
        ..ModelProto::default()
    };
    model.write_to_bytes().map_err(|e| format!("cannot be encoded: {e}"))
}

fn node(n: OnnxNode) -> Result<NodeProto, String> {
    let attributes = n.attributes.into_iter().map(|(name, value)| attribute(name, value));
    Ok(NodeProto {
        attribute: attributes.collect::<Result<_, _>>()?,
        name: n.name,
        op_type: n.op_type,
        domain: n.domain,
        input: n.inputs,
        output: n.outputs,
        ..NodeProto::default()
    })
}

fn attribute(name: String, value: OnnxAttr) -> Result<AttributeProto, String> {
    let mut a = AttributeProto { name, ..AttributeProto::default() };
    let kind = match value {
        OnnxAttr::Float(v) => {
            a.f = v;
            AttributeType::FLOAT
        }
        OnnxAttr::Int(v) => {
            a.i = v;
            AttributeType::INT
        }
        OnnxAttr::Str(v) => {
            a.s = v.into_bytes();
            AttributeType::STRING
        }
        OnnxAttr::Floats(v) => {
            a.floats = v;
            AttributeType::FLOATS
        }
        OnnxAttr::Ints(v) => {
            a.ints = v;
            AttributeType::INTS
        }
        OnnxAttr::Tensor(t) => {
            a.t = MessageField::some(tensor(t.name.clone(), *t));
            AttributeType::TENSOR
        }
        OnnxAttr::Other(kind) => return Err(format!("attribute `{}` is a {kind}, which is not written", a.name)),
    };
    a.type_ = kind.into();
    Ok(a)
}

fn tensor(name: String, t: RawTensor) -> TensorProto {
    TensorProto {
        name,
        dims: t.dims,
        data_type: t.data_type,
        raw_data: t.raw,
        float_data: t.floats,
        int32_data: t.ints,
        int64_data: t.longs,
        double_data: t.doubles,
        uint64_data: t.unsigned,
        ..TensorProto::default()
    }
}

fn value(v: OnnxValue) -> ValueInfoProto {
    let shape = v
        .shape
        .map(|dims| TensorShapeProto { dim: dims.into_iter().map(extent).collect(), ..TensorShapeProto::default() });
    let mut ty = TypeProto::default();
    ty.set_tensor_type(type_proto::Tensor {
        elem_type: v.elem_type,
        shape: shape.into(),
        ..type_proto::Tensor::default()
    });
    ValueInfoProto { name: v.name, type_: MessageField::some(ty), ..ValueInfoProto::default() }
}

fn extent(dim: OnnxDim) -> Dimension {
    let value = match dim {
        OnnxDim::Value(n) => Some(dimension::Value::DimValue(n)),
        OnnxDim::Param(p) => Some(dimension::Value::DimParam(p)),
        OnnxDim::Unknown => None,
    };
    Dimension { value, ..Dimension::default() }
}
