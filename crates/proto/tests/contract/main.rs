//! The contract as its users meet it: what is accepted, what is refused and in which words, what is hashed.
#![allow(clippy::unwrap_used, reason = "a test that cannot go on should stop")]

mod canonical;
mod catalogue;
mod elsewhere;
mod hostile;
mod json;
mod message;
mod parse;
mod stories;
