//! `waybill serve --nats` on real brokers: real processes, real disks, real restarts. Where the broker's version may matter, a
//! story is told with each of those that are here.
mod changed;
mod forgets;
mod killed;
mod refused;
mod stranger;
mod weather;

use std::future::Future;

/// Runs a story.
fn told<T>(story: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build();
    runtime.unwrap().block_on(story)
}

/// What a command said on both streams.
fn said(output: &std::process::Output) -> String {
    crate::kit::said(output)
}
