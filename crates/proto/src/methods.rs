//! Every method of the contract as one closed list, generated from `proto/`.
//!
//! A `match` over it without `_` does not build when the contract gains a method that nobody has decided about.

include!(concat!(env!("OUT_DIR"), "/methods.rs"));
