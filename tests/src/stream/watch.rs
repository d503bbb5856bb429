//! What a ledger on a stream says: waited for, compared, and read back as a history to judge.
use std::{
    collections::BTreeMap,
    time::{Duration, Instant},
};

use tonic::{Status, transport::Channel};
use waybill_proto::pb::{
    self, GetStatusResponse, LeafVerdict, StreamCondition, StreamStatus,
    ledger_service_client::LedgerServiceClient,
};

use crate::{history::Held, load};

/// How long something may take that must come by itself.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often it is looked at.
const LOOK_EVERY: Duration = Duration::from_millis(20);

/// Asks one server, also after it was started anew.
#[derive(Clone, Debug)]
pub struct Watch {
    client: LedgerServiceClient<Channel>,
}

impl Watch {
    /// Of the server at this address, which need not be there yet. Within a runtime.
    ///
    /// # Panics
    /// Where that is no address.
    #[must_use]
    pub fn of(url: &str) -> Self {
        let endpoint = tonic::transport::Endpoint::from_shared(url.to_owned());
        let channel = endpoint.expect("an address").connect_lazy();
        let client = LedgerServiceClient::new(channel).max_decoding_message_size(64 << 20);
        Self { client }
    }

    /// How the ledger stands.
    ///
    /// # Errors
    /// What the server answered instead.
    pub async fn status(&mut self) -> Result<GetStatusResponse, Status> {
        let call = self.client.get_status(pb::GetStatusRequest {}).await?;
        Ok(call.into_inner())
    }

    /// Waits until the status is as wanted.
    ///
    /// # Panics
    /// Where it does not become so; with the last one.
    pub async fn until(
        &mut self,
        what: &str,
        wanted: impl Fn(&GetStatusResponse) -> bool,
    ) -> GetStatusResponse {
        let start = Instant::now();
        let mut look = tokio::time::interval(LOOK_EVERY);
        loop {
            look.tick().await;
            let status = self.status().await;
            match status {
                Ok(status) if wanted(&status) => return status,
                other => assert!(start.elapsed() < PATIENCE, "not {what}: {other:?}"),
            }
        }
    }

    /// Waits until messages come in.
    pub async fn following(&mut self) -> GetStatusResponse {
        let wanted = |it: &GetStatusResponse| condition(it) == StreamCondition::Following;
        self.until("following", wanted).await
    }

    /// Waits until the ledger is frozen, and gives why.
    pub async fn frozen(&mut self) -> (GetStatusResponse, StreamStatus) {
        let wanted = |it: &GetStatusResponse| condition(it) == StreamCondition::Frozen;
        let status = self.until("frozen", wanted).await;
        let stream = status.stream.clone().unwrap_or_default();
        (status, stream)
    }

    /// Waits until everything that the broker has up to a sequence is recorded and can be read.
    pub async fn recorded(&mut self, sequence: u64) -> GetStatusResponse {
        let wanted = |it: &GetStatusResponse| {
            let recorded = it.stream.as_ref().map_or(0, |it| it.recorded_sequence);
            recorded >= sequence && it.applied_position == it.durable_position
        };
        self.until("recorded", wanted).await
    }

    /// The root of the tree of a size.
    ///
    /// # Errors
    /// What the server answered instead.
    pub async fn root(&mut self, tree_size: u64) -> Result<(u64, Vec<u8>), Status> {
        let request = pb::GetCheckpointRequest { tree_size };
        let answer = self.client.get_checkpoint(request).await?.into_inner();
        Ok((answer.tree_size, answer.root.to_vec()))
    }

    /// Sizes whose roots are other ones than they were.
    ///
    /// # Errors
    /// What the server answered instead of a checkpoint.
    pub async fn changed(&mut self, roots: &BTreeMap<u64, Vec<u8>>) -> Result<Vec<u64>, Status> {
        let mut changed = Vec::new();
        // A size of 0 asks for the newest; the empty tree has no root that could change.
        for (size, root) in roots.iter().filter(|(size, _)| **size > 0) {
            if self.root(*size).await?.1 != *root {
                changed.push(*size);
            }
        }
        Ok(changed)
    }

    /// The receipt of an event of an emitter; nothing where it has none within that time.
    ///
    /// # Errors
    /// What the server answered instead.
    pub async fn receipt(
        &mut self,
        emitter: usize,
        number: u64,
        wait: Duration,
    ) -> Result<Option<pb::Receipt>, Status> {
        let event = load::event(emitter, number);
        let request = pb::GetReceiptRequest {
            event: Some(pb::EventRef {
                source: event.source,
                id: event.id,
                position: 0,
            }),
            wait: Some(wait.try_into().unwrap_or_default()),
            ..Default::default()
        };
        match self.client.get_receipt(request).await {
            Ok(answer) => Ok(answer.into_inner().receipt),
            Err(status) if status.code() == tonic::Code::NotFound => Ok(None),
            Err(status) => Err(status),
        }
    }

    /// Every leaf in order, as the judge wants it: what is a repeat is nobody's event.
    ///
    /// # Errors
    /// What the server answered instead of a page.
    pub async fn history(&mut self) -> Result<Vec<(u64, Held)>, Status> {
        let position = self.status().await?.durable_position;
        let (mut all, mut page_token) = (Vec::new(), String::new());
        loop {
            let request = pb::ListEventsRequest {
                page_size: 1000,
                page_token,
                at_least: Some(pb::AtLeast {
                    ledger_id: String::new(),
                    position,
                }),
                filter: Some(pb::EventFilter {
                    leaves: pb::LeafSelection::All.into(),
                    last_position: position,
                    ..Default::default()
                }),
                ..Default::default()
            };
            let page = self.client.list_events(request).await?.into_inner();
            all.extend(page.events.iter().map(|it| (it.position, held(it))));
            if page.next_page_token.is_empty() {
                return Ok(all);
            }
            page_token = page.next_page_token;
        }
    }
}

/// What a status says of the stream.
#[must_use]
pub fn condition(status: &GetStatusResponse) -> StreamCondition {
    let stream = status.stream.as_ref();
    stream.map_or(StreamCondition::Unspecified, StreamStatus::condition)
}

fn held(recorded: &pb::RecordedEvent) -> Held {
    match recorded.verdict() {
        LeafVerdict::Admitted => load::held(recorded),
        LeafVerdict::Ledger | LeafVerdict::Duplicate => Held::Own,
        other => Held::Strange(format!("{other:?} {:?}", recorded.refusal)),
    }
}
