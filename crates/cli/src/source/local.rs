//! A ledger's own directory, served to this process alone: on a loopback port that nobody else is told.
use std::path::PathBuf;

use tokio::{net::TcpListener, sync::oneshot, task::JoinHandle};
use waybill_ledger::Ledger;
use waybill_server::Settings;

use crate::{
    context::Missing,
    exit::{Exit, Failure, chain},
    house,
};

/// A ledger that this process has open.
pub(super) struct Local {
    ledger: Ledger,
    address: String,
    stop: oneshot::Sender<()>,
    server: JoinHandle<Result<(), waybill_server::Error>>,
}

impl Local {
    /// Opens a directory and waits until questions can be answered at its head.
    pub(super) async fn open(
        directory: PathBuf,
        state: PathBuf,
        missing: Missing,
        quiet: bool,
    ) -> Result<Self, Failure> {
        if missing == Missing::Refuse && !waybill_ledger::is_ledger(&directory) {
            return Err(Failure::new(
                Exit::NotFound,
                format!("there is no ledger in {}", directory.display()),
            )
            .with_hint(
                "`waybill import` and `waybill emit` begin one, and so does `waybill serve`",
            ));
        }
        let opened = tokio::task::spawn_blocking(move || {
            house::open(directory, state, "a waybill command", quiet)
        })
        .await;
        let ledger = opened.map_err(|error| Failure::unexpected(error.to_string()))??;
        Self::serve(ledger).await
    }

    /// Serves a ledger to this process.
    async fn serve(ledger: Ledger) -> Result<Self, Failure> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let listen = listener.local_addr()?;
        let (stop, stopped) = oneshot::channel();
        let shutdown = async move { drop(stopped.await) };
        let server = tokio::spawn(waybill_server::serve(
            ledger.clone(),
            Settings::new(listen),
            listener,
            shutdown,
        ));
        let mut heads = ledger.heads();
        let whole = heads.borrow().durable;
        // An error says that the ledger has stopped, which the first question will tell better.
        drop(heads.wait_for(|heads| heads.folded >= whole).await);
        Ok(Self {
            ledger,
            address: format!("http://{listen}"),
            stop,
            server,
        })
    }

    pub(super) fn address(&self) -> String {
        self.address.clone()
    }

    /// The key that makes actors (LEDGER E10).
    pub(super) fn actor_key(&self) -> [u8; 32] {
        self.ledger.actor_key()
    }

    /// Finishes what is under way and writes the head.
    pub(super) async fn close(self) -> Result<(), Failure> {
        let Self {
            ledger,
            stop,
            server,
            ..
        } = self;
        // The other end is gone only if the server ended by itself, and then it says why.
        let _ = stop.send(());
        if let Ok(Err(error)) = server.await {
            return Err(Failure::unexpected(chain(&error)));
        }
        let closed = tokio::task::spawn_blocking(move || ledger.close()).await;
        closed
            .map_err(|error| Failure::unexpected(error.to_string()))?
            .map_err(|fault| house::failure(&fault))
    }
}
