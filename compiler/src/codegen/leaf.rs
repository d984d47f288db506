//! Leaf functions in CLIF: what several kernels or steps of a level call, compiled once for it. Must never know what they compute.

use super::CodegenError;
use super::emitter::{Emitter, leaf_signature};
use super::image::FunctionId;
use super::target;
use cranelift_codegen::Context;
use cranelift_codegen::ir::{InstBuilder, UserFuncName, Value};
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
    let (level, fma) = (e.level, e.fma);
    e.image.function_once(name, |image, id| {
        let isa = target::isa(level)?;
        let mut context = Context::new();
        context.func.signature = leaf_signature(parameters);
        context.func.name = UserFuncName::user(0, id.0);
        let mut builders = FunctionBuilderContext::new();
        let b = FunctionBuilder::new(&mut context.func, &mut builders);
        let mut inner = Emitter { b, image: &mut *image, level, fma };
        let parameters = inner.enter();
        body(&mut inner, &parameters);
        inner.b.ins().return_(&[]);
        inner.b.seal_all_blocks();
        inner.b.finalize(isa.frontend_config());
        image.define(id, context, &*isa)
    })
}
