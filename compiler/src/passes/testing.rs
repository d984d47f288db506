//! Helpers of the passes' tests.
