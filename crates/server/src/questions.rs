//! The questions: convert, wait for the position that is asked for, ask, convert back.
use tonic::{Request, Response, Status};
use waybill_core::Refusal;
use waybill_ledger::{AsOf, Basis, Heads, Ledger, ReadFailure, ReadOptions};
use waybill_proto::{
    pb,
    server::{delivery_service_server::DeliveryService, trace_service_server::TraceService},
};
use waybill_views::delivery::{Answer, Buckets, Question};

use crate::{
    call::Deadline,
    shared::Shared,
    status,
    words::{asked, delivery, trace},
    zone,
};

/// `waybill.v1.TraceService` and `waybill.v1.DeliveryService`.
#[derive(Clone)]
pub(crate) struct Questions(pub(crate) Shared);

#[tonic::async_trait]
impl TraceService for Questions {
    async fn trace(
        &self,
        request: Request<pb::TraceRequest>,
    ) -> Result<Response<pb::TraceResponse>, Status> {
        let deadline = Deadline::of(request.extensions());
        let request = request.into_inner();
        let question = trace::question(&request).map_err(refused)?;
        let options = self.opened(request.read, deadline).await?;
        let ask = move |ledger: Ledger| async move { ledger.trace(&options, question).await };
        let (basis, answer) = self.0.compute(deadline, ask).await?;
        match status::unresolved(&request.r#ref, basis.position, &answer.resolution) {
            Some(status) => Err(status),
            None => Ok(Response::new(trace::answer(&basis, &answer))),
        }
    }
}

#[tonic::async_trait]
impl DeliveryService for Questions {
    async fn delivery(
        &self,
        request: Request<pb::DeliveryRequest>,
    ) -> Result<Response<pb::DeliveryResponse>, Status> {
        let deadline = Deadline::of(request.extensions());
        let request = request.into_inner();
        let question = delivery::question(&request).map_err(refused)?;
        let zone = asked::given(request.time_zone).unwrap_or_else(|| delivery::UTC.to_owned());
        let options = self.opened(request.read, deadline).await?;
        let name = zone.clone();
        let ask =
            move |ledger: Ledger| async move { in_zone(&ledger, options, question, &name).await };
        let (basis, answer) = self.0.compute(deadline, ask).await?;
        Ok(Response::new(delivery::answer(&basis, &answer, zone)))
    }
}

impl Questions {
    /// With whose eyes a question is asked, once the ledger stands where it must.
    async fn opened(
        &self,
        read: Option<pb::ReadOptions>,
        deadline: Deadline,
    ) -> Result<ReadOptions, Status> {
        let options = asked::read_options(read).map_err(refused)?;
        self.0
            .reach(options.at_least.as_ref(), deadline, |heads: &Heads| {
                heads.folded
            })
            .await?;
        Ok(options)
    }
}

/// Asks with buckets of a time zone. Which window a question has is known only with its answer, so that it is asked
/// twice where the zone is not UTC, the second time pinned to what the first stood on.
async fn in_zone(
    ledger: &Ledger,
    mut options: ReadOptions,
    mut question: Question,
    zone: &str,
) -> Result<(Basis, Answer), ReadFailure> {
    if zone == delivery::UTC {
        return ledger.delivery(&options, question).await;
    }
    let time_zone = zone::time_zone(zone)?;
    let (basis, answer) = ledger.delivery(&options, question.clone()).await?;
    if let Buckets::Every { unit, .. } = question.buckets {
        let bounds = zone::bounds(&time_zone, unit, answer.start_time, answer.end_time)?;
        question.buckets = Buckets::At(bounds);
    }
    options.evaluated_time = Some(basis.evaluated_time);
    if options.assumed_lag_nanos.is_none() {
        options.as_of = Some(AsOf::Position(basis.position));
    }
    ledger.delivery(&options, question).await
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn refused(refusal: Refusal) -> Status {
    status::refused(&refusal)
}
