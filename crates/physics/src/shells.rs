//! Stub while the rest is compiled.
