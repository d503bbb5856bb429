//! A stream that need not be there yet: a ledger serves reads while its broker is away.
use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use futures_core::future::BoxFuture;
use tokio::sync::{Mutex, mpsc};
use waybill_ledger::stream::{
    Acknowledged, Broker, BrokerFault, Feed, Fitness, Message, Outgoing, StreamState,
};

use crate::{
    settings::Settings,
    stream::{Error, Stream, connect},
};

/// Connects when the broker is first needed and there; from then on the connection comes back by itself. Clones share it.
#[derive(Clone, Debug)]
pub struct Patient {
    settings: Arc<Settings>,
    stream: Arc<Mutex<Option<Stream>>>,
    consumer: Arc<OnceLock<String>>,
}

impl Patient {
    /// A stream that nobody has reached yet.
    #[must_use]
    pub fn new(settings: Settings) -> Self {
        Self {
            settings: Arc::new(settings),
            stream: Arc::default(),
            consumer: Arc::default(),
        }
    }

    /// Connects now.
    ///
    /// # Errors
    /// See [`Error`]; after [`Error::Away`] it goes on trying with every use.
    pub async fn connect(&self) -> Result<(), Error> {
        let mut stream = self.stream.lock().await;
        if stream.is_none() {
            *stream = Some(connect(&self.settings).await?);
        }
        Ok(())
    }

    /// Names the consumer that feeds read through, once that is known: one for each replica.
    pub fn name_consumer(&self, consumer: &str) {
        // A second name would take the first one's place under a running feed.
        let _named_before = self.consumer.set(consumer.to_owned());
    }

    async fn stream(&self) -> Result<Stream, BrokerFault> {
        self.connect().await?;
        let stream = self.stream.lock().await.clone();
        let stream =
            stream.ok_or_else(|| BrokerFault::Away("it is not connected yet".to_owned()))?;
        Ok(match self.consumer.get() {
            Some(consumer) => stream.with_consumer(consumer),
            None => stream,
        })
    }
}

impl Broker for Patient {
    fn state(&self) -> BoxFuture<'_, Result<StreamState, BrokerFault>> {
        Box::pin(async { self.stream().await?.state().await })
    }

    fn ensure(&self) -> BoxFuture<'_, Result<(), BrokerFault>> {
        Box::pin(async { Broker::ensure(&self.stream().await?).await })
    }

    fn message(&self, sequence: u64) -> BoxFuture<'_, Result<Option<Message>, BrokerFault>> {
        Box::pin(async move { self.stream().await?.message(sequence).await })
    }

    fn first_match<'a>(
        &'a self,
        filter: &'a str,
        from_sequence: u64,
    ) -> BoxFuture<'a, Result<Option<Message>, BrokerFault>> {
        Box::pin(async move {
            self.stream()
                .await?
                .first_match(filter, from_sequence)
                .await
        })
    }

    fn publish(&self, message: Outgoing) -> BoxFuture<'_, Result<Acknowledged, BrokerFault>> {
        Box::pin(async move { self.stream().await?.publish(message).await })
    }

    fn fitness(&self) -> BoxFuture<'_, Result<Fitness, BrokerFault>> {
        Box::pin(async { self.stream().await?.fitness().await })
    }

    fn announce(&self, subject: String, text: String) -> BoxFuture<'_, Result<(), BrokerFault>> {
        Box::pin(async move { self.stream().await?.announce(subject, text).await })
    }

    fn announcements(
        &self,
        filter: String,
    ) -> BoxFuture<'_, Result<mpsc::Receiver<Bytes>, BrokerFault>> {
        Box::pin(async move { self.stream().await?.announcements(filter).await })
    }

    fn feed(&self, after_sequence: u64) -> BoxFuture<'_, Result<Box<dyn Feed>, BrokerFault>> {
        Box::pin(async move { self.stream().await?.feed(after_sequence).await })
    }
}
