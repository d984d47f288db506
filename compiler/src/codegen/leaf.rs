//! Leaf functions in CLIF: what several kernels or steps of a level call, compiled once for it. Must never know what they compute.

use super::CodegenError;
use super::emitter::Emitter;
use super::image::FunctionId;
use super::target;
use cranelift_codegen::Context;
use cranelift_codegen::ir::{AbiParam, InstBuilder, Signature, UserFuncName, Value, types};
use cranelift_codegen::isa::CallConv;
use cranelift_frontend::{FunctionBuilder, FunctionBuilderContext};

/// The function `name` of `e`'s level, which has so many 64-bit parameters and no result; `body` emits it on first use.
///
/// # Errors
/// When Cranelift refuses it.
pub(super) fn leaf(
    e: &mut Emitter<'_, '_>,
    name: &str,
    parameters: usize,
    body: impl FnOnce(&mut Emitter<'_, '_>, &[Value]),
) -> Result<FunctionId, CodegenError> {
    if let Some(known) = e.image.functions.iter().position(|f| f.name == name) {
        return Ok(FunctionId(known as u32));
    }
    let id = e.image.declare_function(name);
    let isa = target::isa(e.level)?;
    let mut context = Context::new();
    let mut signature = Signature::new(CallConv::SystemV);
    signature.params = vec![AbiParam::new(types::I64); parameters];
    context.func.signature = signature;
    context.func.name = UserFuncName::user(0, id.0);
    let mut builders = FunctionBuilderContext::new();
    let b = FunctionBuilder::new(&mut context.func, &mut builders);
    let mut inner = Emitter { b, image: &mut *e.image, level: e.level, fma: e.fma };
    let entry = inner.b.create_block();
    inner.b.append_block_params_for_function_params(entry);
    inner.b.switch_to_block(entry);
    inner.b.seal_block(entry);
    let parameters: Vec<Value> = inner.b.block_params(entry).to_vec();
    body(&mut inner, &parameters);
    inner.b.ins().return_(&[]);
    inner.b.seal_all_blocks();
    inner.b.finalize(isa.frontend_config());
    e.image.define(id, context, &*isa)?;
    Ok(id)
}
