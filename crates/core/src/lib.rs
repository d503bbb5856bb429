//! The words of Waybill: what happened, to what, when, who says so, and why something is refused.
//!
//! Refuses to know: clocks, disks, sockets, protobuf. Whatever is built here cannot be wrong: a constructor checks its
//! rule once and says which rule broke. Reading order: [`refusal`], [`time`], [`name`], [`event`] and its families.

pub mod event;
pub mod name;
pub mod refusal;
pub mod time;

pub use event::{Event, Identity, Kind, Payload, Recorded};
pub use name::{Entity, EntityKind};
pub use refusal::{Code, Refusal};
pub use time::Time;
