//! dorefac.
