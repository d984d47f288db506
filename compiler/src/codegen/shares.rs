//! How a step's work on one sample is shared out among tasks. Each call decides anew, as what neighbouring shares read is prepared
//! for both: no more shares than workers. The entry, which numbers the tasks, and the tasks themselves ask here, so they agree.
//! Must never know what a step computes.

use super::call::{BATCH, PARALLEL_FOR, WORKERS};
use cranelift_codegen::ir::condcodes::IntCC;
use cranelift_codegen::ir::{InstBuilder, MemFlagsData, Value, types};
use cranelift_frontend::FunctionBuilder;

/// Samples from which on they are work enough for all threads: rows are not divided, as what neighbouring rows read would be
/// prepared for both parts, and a sample goes through one step after another while its values are in the cache.
pub const MANY: i64 = 16;

/// What is shared out: as many shares as there are workers, but no more than given.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Shares {
    /// Rows of the result; one share where there are so many samples that every worker has some, or the same number each.
    Rows(u64),
    /// Words of outputs of a result with one position.
    Words(u64),
}

impl Shares {
    /// The most.
    pub fn most(self) -> u64 {
        let (Shares::Rows(n) | Shares::Words(n)) = self;
        n
    }

    /// The shares of a sample in this call, at least 1.
    pub fn of(self, b: &mut FunctionBuilder<'_>, call: Value) -> Value {
        let flags = MemFlagsData::trusted();
        let threads = b.ins().load(types::I64, flags, call, PARALLEL_FOR);
        let alone = b.ins().icmp_imm_s(IntCC::Equal, threads, 0);
        let workers = b.ins().uload32(flags, call, WORKERS);
        let one = b.ins().iconst(types::I64, 1);
        let most = b.ins().iconst(types::I64, self.most() as i64);
        let workers = b.ins().umax(workers, one);
        let whole = match self {
            Shares::Words(_) => alone,
            Shares::Rows(_) => {
                let batch = b.ins().load(types::I64, flags, call, BATCH);
                let many = b.ins().icmp_imm_u(IntCC::UnsignedGreaterThanOrEqual, batch, MANY);
                let rest = b.ins().urem(batch, workers);
                let even = b.ins().icmp_imm_s(IntCC::Equal, rest, 0);
                let enough = b.ins().bor(many, even);
                b.ins().bor(alone, enough)
            }
        };
        let shares = b.ins().umin(workers, most);
        b.ins().select(whole, one, shares)
    }
}
