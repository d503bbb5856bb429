//! Shared by the whole-house tests and by the programs `torture` and `bench`: real processes, and a judge of histories.

pub mod bench;
pub mod history;
pub mod load;
pub mod loss;
pub mod process;
pub mod stream;
