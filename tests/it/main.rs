//! Whole-house tests: one binary, one module a subject.
#![allow(
    clippy::unwrap_used,
    clippy::print_stdout,
    reason = "a test fails by panicking and talks on stdout"
)]

mod bad_input;
mod broker;
mod client;
mod command_line;
mod contexts;
mod crash;
mod damaged_journal;
mod deploy_files;
mod emitters;
mod failed_sync;
mod fsync_mutants;
mod full_disk;
mod gate;
mod house;
mod import;
mod kit;
mod machine;
mod nats_permissions;
mod nats_users;
mod open_door;
mod other_address;
mod pipeline;
mod readme_stream;
mod reflection;
mod sealed_segments;
mod sled_faults;
mod stream;
mod try_it;
