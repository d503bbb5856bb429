//! Whole-house tests: one binary, one module a subject.

mod crash;
mod house;
