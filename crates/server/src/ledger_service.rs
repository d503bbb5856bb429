//! The ledger itself: one event, pages of events, receipts, proofs, refusals, status.
use std::{pin::Pin, time::Duration};

use futures_core::Stream;
use prost::Message;
use tokio::time::{sleep, timeout_at};
use tonic::{Request, Response, Status};
use waybill_core::{Code, Identity, Refusal};
use waybill_ledger::{Entry, Filter, Heads, Ledger, ReadFailure};
use waybill_proto::{pb, raw, server::ledger_service_server::LedgerService};

use crate::{
    call::Deadline,
    gate::Caller,
    page_token::{PageToken, Query},
    shared::Shared,
    status, tail,
    words::{asked, identity, recorded},
};

/// A page ends before its answer grows beyond what clients take by default (4 MiB).
const PAGE_BYTES_MAX: usize = 3 << 20;
/// Refusals of one page, which may keep 4 KiB of body each.
const REFUSALS_MAX: usize = 250;
/// How long those who wait for a receipt let commits gather before they look again.
const LOOK_AGAIN: Duration = Duration::from_millis(10);
/// Entries that are read at once to begin with.
const CHUNK_FIRST: usize = 32;

type TailStream = Pin<Box<dyn Stream<Item = Result<raw::TailEventsResponse, Status>> + Send>>;

/// `waybill.v1.LedgerService`.
pub(crate) struct Reads(pub(crate) Shared);

#[tonic::async_trait]
impl LedgerService for Reads {
    async fn get_event(
        &self,
        request: Request<pb::GetEventRequest>,
    ) -> Result<Response<raw::GetEventResponse>, Status> {
        let (deadline, request) = opened(request);
        let key = asked::key(request.key).map_err(refused)?;
        self.0
            .reach(
                asked::at_least(request.at_least).as_ref(),
                deadline,
                applied,
            )
            .await?;
        let entry = self
            .0
            .compute(deadline, |ledger| async move { ledger.entry(&key).await })
            .await?;
        // An event may be found between the journal and the database; then the read looked up to it.
        let applied_position = self
            .0
            .ledger
            .heads()
            .borrow()
            .applied
            .max(entry.record.position);
        Ok(Response::new(raw::GetEventResponse {
            event: Some(recorded::event(&entry)),
            applied_position,
        }))
    }

    async fn get_receipt(
        &self,
        request: Request<pb::GetReceiptRequest>,
    ) -> Result<Response<pb::GetReceiptResponse>, Status> {
        let caller = Caller::of(request.extensions());
        let (deadline, request) = opened(request);
        let identity = identity("event", request.event.as_ref()).map_err(refused)?;
        // Before anything is looked up: whether the event exists is not told either.
        if !caller.sees(&identity.source) {
            return Err(refused(not_theirs(&identity.source)));
        }
        self.check_size("consistent_from_size", request.consistent_from_size)?;
        self.0
            .reach(
                asked::at_least(request.at_least).as_ref(),
                deadline,
                applied,
            )
            .await?;
        let wait = asked::receipt_wait(request.wait.as_ref()).map_err(refused)?;
        self.await_recorded(&identity, wait, deadline).await?;
        self.check_not_refused(&identity, deadline).await?;
        if !request.prove {
            let receipt = self
                .0
                .compute(
                    deadline,
                    |ledger| async move { ledger.receipt(&identity).await },
                )
                .await?;
            let receipt = Some(recorded::receipt(&receipt));
            return Ok(Response::new(pb::GetReceiptResponse {
                receipt,
                proven: None,
            }));
        }
        let from = request.consistent_from_size;
        let proven = self
            .0
            .compute(deadline, move |ledger| async move {
                ledger.prove(&identity, from).await
            })
            .await?;
        let receipt = Some(recorded::receipt(&proven.receipt));
        Ok(Response::new(pb::GetReceiptResponse {
            receipt,
            proven: Some(recorded::proven(proven)),
        }))
    }

    async fn list_events(
        &self,
        request: Request<pb::ListEventsRequest>,
    ) -> Result<Response<raw::ListEventsResponse>, Status> {
        let (deadline, mut request) = opened(request);
        let size = asked::page_size(std::mem::take(&mut request.page_size)).map_err(refused)?;
        let token = std::mem::take(&mut request.page_token);
        let at_least = asked::at_least(request.at_least.take());
        let query = Query::new(self.0.ledger.ledger_id(), "ListEvents", &request);
        let token = PageToken::decode(&token, query).map_err(refused)?;
        let filter = asked::filter(request.filter, request.descending).map_err(refused)?;
        self.0.reach(at_least.as_ref(), deadline, applied).await?;
        let page = self
            .0
            .compute(deadline, move |ledger| async move {
                page(&ledger, &filter, size, token).await
            })
            .await?;
        let next = page.next.map(|next| {
            PageToken {
                next,
                read_at: page.read_at,
            }
            .encode(query)
        });
        Ok(Response::new(raw::ListEventsResponse {
            events: page.events,
            next_page_token: next.unwrap_or_default(),
            applied_position: page.read_at,
        }))
    }

    type TailEventsStream = TailStream;

    async fn tail_events(
        &self,
        request: Request<pb::TailEventsRequest>,
    ) -> Result<Response<TailStream>, Status> {
        let request = request.into_inner();
        let heartbeat =
            asked::heartbeat_interval(request.heartbeat_interval.as_ref()).map_err(refused)?;
        let mut filter = asked::filter(request.filter, false).map_err(refused)?;
        if request.from_head && request.first_position != 0 {
            let rule = "from_head already says where to start";
            let refusal = Refusal::new(
                Code::Contradiction,
                "first_position",
                request.first_position,
                rule,
            );
            return Err(refused(refusal));
        }
        let first = if request.from_head {
            self.0.ledger.heads().borrow().applied + 1
        } else {
            request.first_position
        };
        filter.first_position = filter.first_position.max(first);
        let open = self.0.tails.clone().try_acquire_owned();
        let open = open.map_err(|_| status::too_many("tails", self.0.limits.tails))?;
        Ok(Response::new(Box::pin(tail::tail(
            self.0.clone(),
            filter,
            heartbeat,
            open,
        ))))
    }

    async fn get_checkpoint(
        &self,
        request: Request<pb::GetCheckpointRequest>,
    ) -> Result<Response<pb::GetCheckpointResponse>, Status> {
        let (deadline, request) = opened(request);
        self.check_size("tree_size", request.tree_size)?;
        let size = request.tree_size;
        let checkpoint = self
            .0
            .compute(deadline, move |ledger| async move {
                ledger.checkpoint(size).await
            })
            .await?;
        Ok(Response::new(recorded::checkpoint(checkpoint)))
    }

    async fn get_inclusion_proof(
        &self,
        request: Request<pb::GetInclusionProofRequest>,
    ) -> Result<Response<pb::GetInclusionProofResponse>, Status> {
        let (deadline, request) = opened(request);
        self.check_size("tree_size", request.tree_size)?;
        self.check_size("position", request.position)?;
        let (position, size) = (request.position, request.tree_size);
        let read = move |ledger: Ledger| async move { ledger.inclusion(position, size).await };
        Ok(Response::new(recorded::inclusion(
            &self.0.compute(deadline, read).await?,
        )))
    }

    async fn get_consistency_proof(
        &self,
        request: Request<pb::GetConsistencyProofRequest>,
    ) -> Result<Response<pb::GetConsistencyProofResponse>, Status> {
        let (deadline, request) = opened(request);
        self.check_size("old_size", request.old_size)?;
        self.check_size("new_size", request.new_size)?;
        let (old, new) = (request.old_size, request.new_size);
        let read = move |ledger: Ledger| async move { ledger.consistency(old, new).await };
        Ok(Response::new(recorded::consistency(
            &self.0.compute(deadline, read).await?,
        )))
    }

    async fn list_refusals(
        &self,
        request: Request<pb::ListRefusalsRequest>,
    ) -> Result<Response<pb::ListRefusalsResponse>, Status> {
        let (deadline, request) = opened(request);
        let size = asked::page_size(request.page_size)
            .map_err(refused)?
            .min(REFUSALS_MAX);
        let query = Query::new(
            self.0.ledger.ledger_id(),
            "ListRefusals",
            &pb::ListRefusalsRequest::default(),
        );
        let token = PageToken::decode(&request.page_token, query).map_err(refused)?;
        let before = token.map(|token| token.next);
        let read = move |ledger: Ledger| async move {
            Ok((ledger.refusals(before, size)?, ledger.status()))
        };
        let (entries, status) = self.0.compute(deadline, read).await?;
        let more = entries
            .last()
            .filter(|last| entries.len() == size && last.number > 1);
        let next = more.map(|last| {
            PageToken {
                next: last.number,
                read_at: 0,
            }
            .encode(query)
        });
        Ok(Response::new(pb::ListRefusalsResponse {
            next_page_token: next.unwrap_or_default(),
            refusals: entries.into_iter().map(recorded::refusal_record).collect(),
            total_count: status.refusal_count,
        }))
    }

    async fn get_status(
        &self,
        request: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::GetStatusResponse>, Status> {
        let pb::GetStatusRequest {} = request.into_inner();
        Ok(Response::new(recorded::status(&self.0.status().await?)))
    }
}

impl Reads {
    /// Waits until an event is recorded, no longer than asked and than the caller waits. Whether it came, the read says.
    async fn await_recorded(
        &self,
        identity: &Identity,
        wait: Duration,
        deadline: Deadline,
    ) -> Result<(), Status> {
        let shared = &self.0;
        let mut heads = shared.ledger.heads();
        let end = shared.wait_end_within(deadline, wait);
        // Many may wait: each looks into memory only, once for a group commit, and not for each of a burst of them.
        while !wait.is_zero() && !shared.ledger.may_hold(identity) {
            let durable = heads.borrow_and_update().durable;
            let grown = heads.wait_for(|heads| heads.durable > durable);
            let more = tokio::select! {
                grown = timeout_at(end, grown) => matches!(grown, Ok(Ok(_))),
                () = shared.drain.wait() => return Err(status::draining()),
            };
            if !more {
                break;
            }
            sleep(LOOK_AGAIN).await;
        }
        Ok(())
    }

    /// Says of an event that is not recorded whether a message under its identity was refused, and why.
    async fn check_not_refused(
        &self,
        identity: &Identity,
        deadline: Deadline,
    ) -> Result<(), Status> {
        let shared = &self.0;
        if shared.ledger.may_hold(identity) {
            return Ok(());
        }
        let wanted = identity.clone();
        let read = move |ledger: Ledger| async move { ledger.refused_under(&wanted).await };
        match shared.compute(deadline, read).await? {
            None => Ok(()),
            Some(entry) => Err(status::refused_leaf(identity, &entry)),
        }
    }

    /// Refuses a size beyond the tree at once: to wait for one is what `at_least` is for.
    fn check_size(&self, field: &str, size: u64) -> Result<(), Status> {
        let durable = self.0.ledger.heads().borrow().durable;
        if size <= durable {
            return Ok(());
        }
        let rule = format!("beyond the tree, which has {durable} leaves");
        Err(status::unread(&ReadFailure::Refused(Refusal::new(
            Code::OutOfRange,
            field,
            size,
            rule,
        ))))
    }
}

/// One page, cut by count and by bytes.
pub(crate) struct Page {
    events: Vec<raw::RecordedEvent>,
    next: Option<u64>,
    read_at: u64,
}

async fn page(
    ledger: &Ledger,
    filter: &Filter,
    size: usize,
    token: Option<PageToken>,
) -> Result<Page, ReadFailure> {
    let (mut from, mut read_at) = (
        token.map(|token| token.next),
        token.map_or(0, |token| token.read_at),
    );
    let (mut events, mut bytes, mut chunk) = (Vec::new(), 0, CHUNK_FIRST);
    loop {
        let part = ledger
            .list(filter, chunk.min(size - events.len()), from, read_at)
            .await?;
        (from, read_at, chunk) = (part.next, part.applied, next_chunk(chunk, &part.entries));
        for entry in &part.entries {
            let event = recorded::event(entry);
            bytes += event.encoded_len();
            if bytes > PAGE_BYTES_MAX && !events.is_empty() {
                return Ok(Page {
                    events,
                    next: Some(entry.record.position),
                    read_at,
                });
            }
            events.push(event);
        }
        if from.is_none() || events.len() == size {
            let next = match (from, ledger.lost(filter)) {
                (None, Some(damage)) if events.is_empty() => {
                    return Err(ReadFailure::Damaged(damage));
                }
                // What is whole comes first, and the page after it says what is lost.
                (None, Some(damage)) => Some(damage.first_position),
                (from, _) => from,
            };
            return Ok(Page {
                events,
                next,
                read_at,
            });
        }
    }
}

/// How many entries to read at once, so that small ones come in numbers and large ones do not fill the memory.
pub(crate) fn next_chunk(chunk: usize, entries: &[Entry]) -> usize {
    const MIN: usize = 8;
    const MAX: usize = 512;
    let bytes: usize = entries.iter().map(|entry| entry.record.bytes.len()).sum();
    match bytes {
        0..=0x4_0000 => (chunk * 2).min(MAX),
        0x4_0001..=0x10_0000 => chunk,
        _ => (chunk / 2).max(MIN),
    }
}

fn opened<T>(request: Request<T>) -> (Deadline, T) {
    (Deadline::of(request.extensions()), request.into_inner())
}

fn not_theirs(source: &str) -> Refusal {
    let rule = "not a source of the caller's token";
    Refusal::new(Code::NotAllowed, "event.source", source, rule)
        .with_hint("ask with a token of this source, or with one that may read")
}

fn applied(heads: &Heads) -> u64 {
    heads.applied
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn refused(refusal: Refusal) -> Status {
    status::refused(&refusal)
}
