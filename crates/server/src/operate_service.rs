//! Decisions that only an operator can take.
use tonic::{Request, Response, Status};
use waybill_core::{Code, Refusal};
use waybill_ledger::stream::{Decided, Decision, DecisionFailure};
use waybill_proto::{pb, server::operate_service_server::OperateService};

use crate::{gate::Caller, shared::Shared, status};

/// `waybill.v1.OperateService`.
pub(crate) struct Operates(pub(crate) Shared);

#[tonic::async_trait]
impl OperateService for Operates {
    async fn republish_stream(
        &self,
        request: Request<pb::RepublishStreamRequest>,
    ) -> Result<Response<pb::RepublishStreamResponse>, Status> {
        let decision = decision(request)?;
        let decided = self.0.ledger.republish(&decision).await.map_err(failed)?;
        Ok(Response::new(pb::RepublishStreamResponse {
            republished_count: decided.republished_count,
            epoch: Some(opened(&decided)),
        }))
    }

    async fn accept_epoch(
        &self,
        request: Request<pb::AcceptEpochRequest>,
    ) -> Result<Response<pb::AcceptEpochResponse>, Status> {
        let decision = decision(request)?;
        let decided = self
            .0
            .ledger
            .accept_epoch(&decision)
            .await
            .map_err(failed)?;
        Ok(Response::new(pb::AcceptEpochResponse {
            epoch: Some(opened(&decided)),
        }))
    }

    async fn accept_gap(
        &self,
        request: Request<pb::AcceptGapRequest>,
    ) -> Result<Response<pb::AcceptGapResponse>, Status> {
        let decision = decision(request)?;
        let decided = self.0.ledger.accept_gap(&decision).await.map_err(failed)?;
        let (gap_first_sequence, gap_last_sequence) = decided.gap.unwrap_or_default();
        Ok(Response::new(pb::AcceptGapResponse {
            epoch: Some(opened(&decided)),
            gap_first_sequence,
            gap_last_sequence,
        }))
    }
}

/// What is decided, by whom and why; a caller that is known is on record by their verified name.
fn decision<R: Decides>(request: Request<R>) -> Result<Decision, Status> {
    let caller = Caller::of(request.extensions());
    let decision = request
        .into_inner()
        .decision()
        .ok_or_else(|| status::refused(&Refusal::new(Code::Missing, "decision", "", "required")))?;
    Ok(Decision {
        sender: caller.name().unwrap_or_default().to_owned(),
        head_root: decision.head_root.to_vec(),
        who: decision.who.map(|who| who.id).unwrap_or_default(),
        why: decision.why,
    })
}

/// A request that decides something about the stream.
trait Decides {
    fn decision(self) -> Option<pb::StreamDecision>;
}

impl Decides for pb::RepublishStreamRequest {
    fn decision(self) -> Option<pb::StreamDecision> {
        self.decision
    }
}

impl Decides for pb::AcceptEpochRequest {
    fn decision(self) -> Option<pb::StreamDecision> {
        self.decision
    }
}

impl Decides for pb::AcceptGapRequest {
    fn decision(self) -> Option<pb::StreamDecision> {
        self.decision
    }
}

fn opened(decided: &Decided) -> pb::OpenedEpoch {
    pb::OpenedEpoch {
        epoch: decided.epoch,
        first_sequence: decided.first_sequence,
        position: decided.position,
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn failed(failure: DecisionFailure) -> Status {
    match failure {
        DecisionFailure::Refused(refusal) => status::unfit(&refusal),
        DecisionFailure::Broker(fault) => status::broker(&fault),
        DecisionFailure::Unreadable(failure) => status::unread(&failure),
    }
}
