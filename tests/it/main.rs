//! Whole-house tests: one binary, one module a subject.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and talks on stdout"
)]

mod bad_input;
mod crash;
mod house;
mod reflection;
