//! Test support shared by the files in `tests/tests`.
