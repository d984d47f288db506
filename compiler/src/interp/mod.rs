//! The reference interpreter: executes a graph at any stage, one operator after another, by the definitions in the
//! operator table. It is the definition of dorefac's numerics and must never know a layout, a kernel or a machine.

use crate::graph::ops::{self, Eval};
use crate::graph::types::Shape;
use crate::graph::{Context, Graph, GraphError, NodeId, Value};
use dorefa_runtime::tensor::{Data, Tensor};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Why a graph could not be executed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum InterpError {
    /// The caller's inputs do not fit.
    #[error("input {name}: {message}")]
    Input {
        /// The input's name.
        name: String,
        /// What does not fit.
        message: String,
    },
    /// An operator refused.
    #[error("{node} ({op}): {message}")]
    Node {
        /// The node.
        node: String,
        /// Its operator.
        op: &'static str,
        /// What went wrong.
        message: String,
    },
}

/// Executes `graph` on a batch; `fma` is the numeric profile. Returns the outputs in order.
///
/// # Errors
/// When an input's shape or type does not fit.
pub fn run(graph: &Graph, inputs: &[Tensor], fma: bool) -> Result<Vec<Tensor>, InterpError> {
    let values = run_all(graph, inputs, fma, |v| graph.is_output(v))?;
    Ok(graph.outputs().iter().filter_map(|(_, v)| values.get(v)).map(|t| (**t).clone()).collect())
}

/// Executes one step of training: the outputs in order, and the next data of each updated constant in the order of
/// [`Graph::updates`]. The graph itself stays as it is; see [`apply`].
///
/// # Errors
/// As [`run`].
pub fn step(
    graph: &Graph,
    inputs: &[Tensor],
    fma: bool,
    context: &Context,
) -> Result<(Vec<Tensor>, Vec<Arc<Tensor>>), InterpError> {
    let values = run_step(graph, inputs, fma, context, |v| graph.is_output(v) || graph.is_update(v))?;
    let outputs = graph.outputs().iter().filter_map(|(_, v)| values.get(v)).map(|t| (**t).clone()).collect();
    Ok((outputs, graph.updates().iter().filter_map(|u| values.get(&u.value).cloned()).collect()))
}

/// Puts what [`step`] returned into the graph's constants.
///
/// # Errors
/// When a tensor does not fit its constant.
pub fn apply(graph: &mut Graph, updated: Vec<Arc<Tensor>>) -> Result<(), GraphError> {
    let targets: Vec<NodeId> = graph.updates().iter().map(|u| u.node).collect();
    targets.into_iter().zip(updated).try_for_each(|(node, tensor)| graph.set_constant(node, tensor))
}

/// Executes `graph` and returns every value that `keep` asks for; others are dropped after their last reader.
///
/// # Errors
/// As [`run`].
pub fn run_all(
    graph: &Graph,
    inputs: &[Tensor],
    fma: bool,
    keep: impl Fn(Value) -> bool,
) -> Result<BTreeMap<Value, Arc<Tensor>>, InterpError> {
    run_step(graph, inputs, fma, &Context::default(), keep)
}

/// As [`run_all`], with the context of a training step.
///
/// # Errors
/// As [`run`].
pub fn run_step(
    graph: &Graph,
    inputs: &[Tensor],
    fma: bool,
    context: &Context,
    keep: impl Fn(Value) -> bool,
) -> Result<BTreeMap<Value, Arc<Tensor>>, InterpError> {
    let mut values: BTreeMap<Value, Arc<Tensor>> = BTreeMap::new();
    let batch = bind_inputs(graph, inputs, &mut values)?;
    let order = graph.order();
    let mut readers: BTreeMap<Value, usize> = BTreeMap::new();
    for v in order.iter().flat_map(|&id| graph.operands(id)) {
        *readers.entry(v).or_default() += 1;
    }
    for id in order {
        let Some(node) = graph.node(id) else { continue };
        let value = Value { node: id, port: 0 };
        if *node.op == ops::INPUT {
            continue;
        }
        if let Some(tensor) = &node.tensor {
            values.insert(value, tensor.clone());
            continue;
        }
        let operands = graph.operands(id);
        let held: Vec<_> = operands.iter().filter_map(|v| values.get(v).cloned()).collect();
        let result = evaluate(graph, id, &held, batch, fma, context).map_err(|message| InterpError::Node {
            node: node.name.clone(),
            op: node.op.name,
            message,
        })?;
        values.insert(value, Arc::new(result));
        for v in operands {
            if let Some(n) = readers.get_mut(&v) {
                *n -= 1;
                if *n == 0 && !keep(v) {
                    values.remove(&v);
                }
            }
        }
    }
    Ok(values)
}

/// Evaluates one node on the tensors of its operands.
fn evaluate(
    graph: &Graph,
    id: NodeId,
    held: &[Arc<Tensor>],
    batch: usize,
    fma: bool,
    context: &Context,
) -> Result<Tensor, String> {
    let node = graph.node(id).ok_or("the node does not exist")?;
    let types: Option<Vec<_>> = graph.operands(id).iter().map(|&v| graph.value_type(v)).collect();
    let types = types.filter(|t| t.len() == held.len()).ok_or("an operand is missing")?;
    let output = node.types.first().ok_or("the node has no type")?;
    room_for(&output.shape, batch)?;
    let inputs: Vec<&Tensor> = held.iter().map(|t| &**t).collect();
    (node.op.eval)(&Eval { attrs: &node.attrs, inputs: &inputs, types: &types, output, batch, fma, context: *context })
}

/// Bytes of a result below which nobody asks whether they are there.
const SMALL: usize = 64 << 20;

/// Checks that a large result fits the memory, where an operator would be ended by the system otherwise.
fn room_for(shape: &Shape, batch: usize) -> Result<(), String> {
    let dims = shape.concrete(batch);
    let bytes =
        dims.iter().try_fold(4usize, |a, &d| a.checked_mul(d)).ok_or("the result overflows: pass fewer samples")?;
    if bytes >= SMALL && Vec::<u8>::new().try_reserve_exact(bytes).is_err() {
        return Err(format!("the result takes {bytes} bytes, more than there are: pass fewer samples"));
    }
    Ok(())
}

/// Evaluates a node whose operands are all constants; `None` where one is not, or is state that training updates.
pub fn fold(graph: &Graph, id: NodeId, fma: bool) -> Option<Result<Tensor, String>> {
    let fixed = |v: Value| graph.constant(v).filter(|_| !graph.is_state(v.node)).cloned();
    let held: Vec<_> = graph.operands(id).iter().map(|&v| fixed(v)).collect::<Option<_>>()?;
    (!held.is_empty()).then(|| evaluate(graph, id, &held, 1, fma, &Context::default()))
}

fn bind_inputs(
    graph: &Graph,
    inputs: &[Tensor],
    values: &mut BTreeMap<Value, Arc<Tensor>>,
) -> Result<usize, InterpError> {
    let fail = |name: &str, message: String| InterpError::Input { name: name.to_owned(), message };
    if inputs.len() != graph.inputs().len() {
        let message = format!("the model takes {} inputs, {} were given", graph.inputs().len(), inputs.len());
        return Err(fail("count", message));
    }
    let batch = inputs.first().and_then(|t| t.shape().first().copied()).unwrap_or(1);
    for (&id, tensor) in graph.inputs().iter().zip(inputs) {
        let Some((node, ty)) = graph.node(id).and_then(|n| Some((n, n.types.first()?))) else {
            continue;
        };
        if tensor.shape() != ty.shape.concrete(batch) {
            return Err(fail(&node.name, format!("takes shape {}, was given {:?}", ty.shape, tensor.shape())));
        }
        let given = tensor.data().type_name();
        let tensor = match (ty.codes(), tensor.data()) {
            (None, Data::F32(_)) => tensor.clone(),
            (Some(_), Data::U8(v)) => {
                let codes = Data::I32(v.iter().map(|&p| p.into()).collect());
                Tensor::new(tensor.shape(), codes).map_err(|e| fail(&node.name, e.to_string()))?
            }
            (Some(codes), Data::I32(v)) => match v.iter().find(|&&u| u < 0 || u as u32 > codes.top) {
                Some(u) => return Err(fail(&node.name, format!("holds {u}, which is not in 0 … {}", codes.top))),
                None => tensor.clone(),
            },
            (None, Data::U8(_)) => {
                let remedy = "scale the pixels to floats, or pass --input u8,scale=1/255";
                return Err(fail(&node.name, format!("takes f32, was given u8; {remedy}")));
            }
            (want, _) => {
                let want = if want.is_some() { "u8" } else { "f32" };
                return Err(fail(&node.name, format!("takes {want}, was given {given}; convert the data")));
            }
        };
        values.insert(Value { node: id, port: 0 }, Arc::new(tensor));
    }
    Ok(batch)
}
