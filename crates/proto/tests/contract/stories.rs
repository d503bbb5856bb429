//! Events to begin with: each is accepted as it is, and a test changes one thing.
use prost::Message;
use prost_types::Timestamp;
use waybill_proto::pb::{self, event::Payload};

/// A full commit id.
pub(crate) const HEAD: &str = "1f2e3d4c5b6a79880716253443526170899aabbc";

/// The envelope that the others share; it happened at 2026-11-03T09:00:00Z.
pub(crate) fn envelope(payload: Payload) -> pb::Event {
    pb::Event {
        source: "//ci.acme.dev/checkout".into(),
        id: "run-881-1-deploy".into(),
        occur_time: Some(Timestamp {
            seconds: 1_793_696_400,
            nanos: 0,
        }),
        payload: Some(payload),
        ..pb::Event::default()
    }
}

/// Checkout went to production.
pub(crate) fn deployment() -> pb::Event {
    let deployment = pb::DeploymentInfo {
        deployment_id: "d-881".into(),
        service: "checkout".into(),
        environment: "production".into(),
        revisions: vec![pb::Revision {
            repository: "https://GitHub.com/acme/shop.git".into(),
            revision: HEAD.into(),
        }],
        ..pb::DeploymentInfo::default()
    };
    let finished = pb::DeploymentFinished {
        deployment: Some(deployment),
        outcome: pb::Outcome::Success.into(),
        ..pb::DeploymentFinished::default()
    };
    let event = Some(pb::deployment_event::Event::Finished(finished));
    envelope(Payload::Deployment(pb::DeploymentEvent { event }))
}

/// A commit of the shop.
pub(crate) fn commit() -> pb::Event {
    let recorded = pb::CommitRecorded {
        repository: "github.com/acme/shop".into(),
        revision: HEAD.into(),
        parents: vec!["0".repeat(40)],
        subject_line: "cart: sum in cents".into(),
        ..pb::CommitRecorded::default()
    };
    let event = Some(pb::commit_event::Event::Recorded(recorded));
    envelope(Payload::Commit(pb::CommitEvent { event }))
}

/// Encodes and parses.
pub(crate) fn parse(event: &pb::Event) -> Result<waybill_core::Event, waybill_core::Refusal> {
    waybill_proto::parse::parse(&event.encode_to_vec())
}
