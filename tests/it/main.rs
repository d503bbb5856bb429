//! Whole-house tests: one binary, one module a subject.

mod house;
