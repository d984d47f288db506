//! Offsets in `dorefac_call` (`emit/dorefac.h`): bytes. Must never know who reads them.

pub const ABI: i32 = 0;
pub const SIZE: i32 = 4;
pub const FEATURES: i32 = 8;
pub const BATCH: i32 = 16;
pub const INPUTS: i32 = 32;
pub const OUTPUTS: i32 = 40;
pub const ARENA: i32 = 48;
pub const ARENA_SIZE: i32 = 56;
pub const PARALLEL_FOR: i32 = 64;
pub const POOL: i32 = 72;
pub const WORKERS: i32 = 80;
pub const LEVEL: i32 = 84;
pub const PROFILE: i32 = 88;
pub const PROFILE_CTX: i32 = 96;
pub const TRAIN: i32 = 104;
/// Bytes of all.
pub const STRUCT: i64 = 112;
