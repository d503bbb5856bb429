//! Asking: each question of the ledger as a method, at a position or later.
use std::time::Duration;

use prost::{DecodeError, Message};
use tonic::Status;
use waybill_proto::pb::{
    self, delivery_service_client::DeliveryServiceClient, get_event_request::Key,
    ledger_service_client::LedgerServiceClient, trace_service_client::TraceServiceClient,
};

use crate::{
    carrier::Carrier,
    client::Client,
    error::Error,
    wire::{self, within},
};

mod proof;
mod question;
mod tail;

pub use proof::{VerifyError, verify};
pub use question::{Delivery, List, Trace};
pub use tail::{Start, Tail, Tailed};
/// An event with what the ledger says of it; the event itself as the bytes that came, see [`decode`].
pub use waybill_proto::raw::RecordedEvent;
use waybill_proto::raw::{GetEventResponse, ListEventsResponse};

/// How long an answer is waited for when nothing else is said.
const WITHIN: Duration = Duration::from_secs(30);

/// Asks one ledger. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Reader {
    client: Client,
    at_least: Option<pb::AtLeast>,
    within: Duration,
}

/// One page of a list.
#[derive(Clone, Debug, PartialEq)]
pub struct Page {
    /// The events.
    pub events: Vec<RecordedEvent>,
    /// The same question, for the next page; `None` after the last.
    pub next: Option<List>,
    /// Position that all pages of this list are read at.
    pub applied_position: u64,
}

impl Reader {
    pub(crate) fn new(client: Client) -> Self {
        Self {
            client,
            at_least: None,
            within: WITHIN,
        }
    }

    /// Answers at the position of a receipt or later: you read what you wrote.
    #[must_use]
    pub fn after(self, receipt: &pb::Receipt) -> Self {
        let (ledger_id, position) = (receipt.ledger_id.clone(), receipt.position);
        self.at_least(pb::AtLeast {
            ledger_id,
            position,
        })
    }

    /// Answers at a position or later.
    #[must_use]
    pub fn at_least(mut self, at_least: pb::AtLeast) -> Self {
        self.at_least = Some(at_least);
        self
    }

    /// Waits this long for an answer, tries and pauses included, instead of 30 s.
    #[must_use]
    pub fn within(mut self, within: Duration) -> Self {
        self.within = within;
        self
    }

    /// Where did this change go, and where did this come from?
    ///
    /// # Errors
    /// [`Error::NotFound`] for a reference that names nothing; [`Error`] for the rest.
    pub async fn trace(&self, question: Trace) -> Result<pb::TraceResponse, Error> {
        let mut request = question.request;
        request
            .read
            .get_or_insert_default()
            .at_least
            .clone_from(&self.at_least);
        self.ask(async |limit| {
            let mut service = TraceServiceClient::new(self.client.carrier.clone())
                .max_decoding_message_size(wire::ANSWER_BYTES_MAX);
            service.trace(within(request.clone(), limit)).await
        })
        .await
    }

    /// How often and how fast are changes delivered?
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn delivery(&self, question: Delivery) -> Result<pb::DeliveryResponse, Error> {
        let mut request = question.request;
        request
            .read
            .get_or_insert_default()
            .at_least
            .clone_from(&self.at_least);
        self.ask(async |limit| {
            let mut service = DeliveryServiceClient::new(self.client.carrier.clone())
                .max_decoding_message_size(wire::ANSWER_BYTES_MAX);
            service.delivery(within(request.clone(), limit)).await
        })
        .await
    }

    /// The event of a source and an id.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not recorded; [`Error`] for the rest.
    pub async fn event(&self, source: &str, id: &str) -> Result<RecordedEvent, Error> {
        self.get(Key::Event(reference(source, id))).await
    }

    /// The event at a position.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn event_at(&self, position: u64) -> Result<RecordedEvent, Error> {
        self.get(Key::Position(position)).await
    }

    /// One page of the events that a list names.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn list(&self, question: List) -> Result<Page, Error> {
        let mut request = question.request;
        request.at_least.clone_from(&self.at_least);
        let answer: ListEventsResponse = self.raw(wire::LIST_EVENTS, request.clone()).await?;
        let ListEventsResponse {
            events,
            next_page_token,
            applied_position,
        } = answer;
        let more = !next_page_token.is_empty();
        let request = pb::ListEventsRequest {
            page_token: next_page_token,
            ..request
        };
        let next = more.then_some(List { request });
        Ok(Page {
            events,
            next,
            applied_position,
        })
    }

    /// Events from a position on, and then as they are recorded. Waits for a ledger that is away for as long as
    /// `patience`, each time that it is.
    #[must_use]
    pub fn tail(&self, start: Start, filter: pb::EventFilter, patience: Duration) -> Tail {
        Tail::new(self.clone(), start, filter, patience)
    }

    /// How the ledger is.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn status(&self) -> Result<pb::GetStatusResponse, Error> {
        self.ask(async |limit| {
            self.ledger()
                .get_status(within(pb::GetStatusRequest {}, limit))
                .await
        })
        .await
    }

    /// The newest signed checkpoint: keep it, and later receipts can be checked against it.
    ///
    /// # Errors
    /// See [`Error`].
    pub async fn checkpoint(&self) -> Result<pb::GetCheckpointResponse, Error> {
        let request = pb::GetCheckpointRequest { tree_size: 0 };
        self.ask(async |limit| self.ledger().get_checkpoint(within(request, limit)).await)
            .await
    }

    /// The receipt of an event.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not recorded; [`Error`] for the rest.
    pub async fn receipt(&self, source: &str, id: &str) -> Result<pb::Receipt, Error> {
        let answer = self.get_receipt(source, id, false, 0).await?;
        answer.receipt.ok_or_else(|| empty("receipt"))
    }

    /// The receipt of an event with its proof, for [`verify`]. With a size above 0, also that the tree of that size, a
    /// kept checkpoint's, was not rewritten since.
    ///
    /// # Errors
    /// [`Error::NotFound`] when it is not recorded; [`Error`] for the rest.
    pub async fn proven_receipt(
        &self,
        source: &str,
        id: &str,
        consistent_from_size: u64,
    ) -> Result<pb::ProvenReceipt, Error> {
        let answer = self
            .get_receipt(source, id, true, consistent_from_size)
            .await?;
        answer.proven.ok_or_else(|| empty("proof"))
    }

    async fn get(&self, key: Key) -> Result<RecordedEvent, Error> {
        let request = pb::GetEventRequest {
            at_least: self.at_least.clone(),
            key: Some(key),
        };
        let answer: GetEventResponse = self.raw(wire::GET_EVENT, request).await?;
        answer.event.ok_or_else(|| empty("event"))
    }

    async fn get_receipt(
        &self,
        source: &str,
        id: &str,
        prove: bool,
        consistent_from_size: u64,
    ) -> Result<pb::GetReceiptResponse, Error> {
        let request = pb::GetReceiptRequest {
            event: Some(reference(source, id)),
            prove,
            consistent_from_size,
            at_least: self.at_least.clone(),
            wait: None,
        };
        self.ask(async |limit| {
            self.ledger()
                .get_receipt(within(request.clone(), limit))
                .await
        })
        .await
    }

    fn ledger(&self) -> LedgerServiceClient<Carrier> {
        LedgerServiceClient::new(self.client.carrier.clone())
            .max_decoding_message_size(wire::ANSWER_BYTES_MAX)
    }

    async fn ask<A>(
        &self,
        mut call: impl AsyncFnMut(Duration) -> Result<tonic::Response<A>, Status>,
    ) -> Result<A, Error> {
        self.client
            .run(self.within, async |limit| {
                call(limit).await.map(tonic::Response::into_inner)
            })
            .await
    }

    async fn raw<Q, A>(&self, path: &'static str, request: Q) -> Result<A, Error>
    where
        Q: Message + Clone + 'static,
        A: Message + Default + 'static,
    {
        let carrier = &self.client.carrier;
        self.client
            .run(self.within, async |limit| {
                wire::unary(carrier, path, request.clone(), limit).await
            })
            .await
    }
}

/// The event of a record, decoded.
///
/// # Errors
/// The bytes are no event; the ledger records none such.
pub fn decode(record: &RecordedEvent) -> Result<pb::Event, DecodeError> {
    pb::Event::decode(record.event.clone())
}

fn reference(source: &str, id: &str) -> pb::EventRef {
    pb::EventRef {
        source: source.to_owned(),
        id: id.to_owned(),
        position: 0,
    }
}

fn empty(what: &str) -> Error {
    Error::Failed(format!("it answered without the {what}"))
}
