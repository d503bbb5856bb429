//! Tells everyone that the server is stopping.
use std::future::Future;

use tokio::sync::watch;

/// Knows whether the server is stopping; clones share it.
#[derive(Clone, Debug)]
pub(crate) struct Drain(watch::Receiver<bool>);

/// Starts the stop.
#[derive(Debug)]
pub(crate) struct Begin(watch::Sender<bool>);

/// A way to tell, and a way to hear.
pub(crate) fn drain() -> (Begin, Drain) {
    let (sender, receiver) = watch::channel(false);
    (Begin(sender), Drain(receiver))
}

impl Begin {
    pub(crate) fn begin(&self) {
        self.0.send_replace(true);
    }
}

impl Drain {
    pub(crate) fn begun(&self) -> bool {
        *self.0.borrow()
    }

    /// Ends when the server begins to stop, or is gone.
    pub(crate) fn wait(&self) -> impl Future<Output = ()> + Send + 'static {
        let mut receiver = self.0.clone();
        async move {
            // An error says that the server is gone, which is the same to those who wait.
            drop(receiver.wait_for(|begun| *begun).await);
        }
    }
}
