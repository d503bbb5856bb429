//! A small story for those who have no repository at hand: one service, three changes, a deployment that hurt and the
//! one that took it back. Every event is marked: source `//demo`, label `origin=demo`.
use bytes::Bytes;
use prost::Message as _;
use prost_types::Duration;
use sha2::{Digest as _, Sha256};
use waybill_core::Time;
use waybill_proto::pb::{self, event::Payload};

use crate::when;

/// Who tells the story.
pub(super) const SOURCE: &str = "//demo";
pub(super) const SERVICE: &str = "checkout";
const REPOSITORY: &str = "demo.invalid/shop";
const MINUTE: i64 = 60_000_000_000;
const HOUR: i64 = 60 * MINUTE;
const DAY: i64 = 24 * HOUR;

/// The commit to look at: it is in the deployment that hurt.
pub(super) fn commit() -> String {
    revision(3)
}

/// The story as it would be told at `now`, in the order in which it happened.
pub(super) fn events(now: Time) -> Vec<Bytes> {
    let story = Story { now };
    let mut events = Vec::new();
    for (number, subject, age) in [
        (1, "cart: show the shipping cost", 9 * DAY),
        (2, "payment: retry a declined card once", 6 * DAY),
        (3, "cart: look prices up in batches", 3 * DAY),
    ] {
        events.extend(story.change(number, subject, age));
    }
    events.extend([
        story.deployment(
            "d-1",
            "staging",
            1,
            9 * DAY - 4 * HOUR,
            pb::DeploymentOperation::Deploy,
        ),
        story.deployment("d-2", "prod", 1, 8 * DAY, pb::DeploymentOperation::Deploy),
        story.deployment("d-3", "prod", 2, 5 * DAY, pb::DeploymentOperation::Deploy),
        story.deployment(
            "d-4",
            "staging",
            3,
            2 * DAY + 6 * HOUR,
            pb::DeploymentOperation::Deploy,
        ),
        story.deployment("d-5", "prod", 3, 2 * DAY, pb::DeploymentOperation::Deploy),
        story.incident(2 * DAY - 22 * MINUTE, false),
        story.link(2 * DAY - HOUR),
        story.deployment(
            "d-6",
            "prod",
            2,
            2 * DAY - 70 * MINUTE,
            pb::DeploymentOperation::Rollback,
        ),
        story.incident(2 * DAY - 80 * MINUTE, true),
    ]);
    events.sort_by_key(|(age, _)| std::cmp::Reverse(*age));
    events
        .into_iter()
        .map(|(_, event)| Bytes::from(event.encode_to_vec()))
        .collect()
}

/// An event and how long ago it happened, in nanoseconds.
type Told = (i64, pb::Event);

struct Story {
    now: Time,
}

impl Story {
    fn event(&self, id: &str, age: i64, payload: Payload) -> Told {
        let time = when::proto_time(self.now.plus_nanos(-age));
        let event = pb::Event {
            source: SOURCE.to_owned(),
            id: id.to_owned(),
            occur_time: Some(time),
            occur_time_basis: pb::OccurTimeBasis::Reported.into(),
            labels: [("origin".to_owned(), "demo".to_owned())].into(),
            payload: Some(payload),
            ..pb::Event::default()
        };
        (age, event)
    }

    /// One commit, its change, and the build of its merge.
    fn change(&self, number: u32, subject: &str, age: i64) -> Vec<Told> {
        let parents = if number == 1 {
            vec![]
        } else {
            vec![revision(number - 1)]
        };
        let time = Some(when::proto_time(self.now.plus_nanos(-age)));
        let commit = pb::CommitRecorded {
            repository: REPOSITORY.to_owned(),
            revision: revision(number),
            parents,
            author_time: time,
            commit_time: time,
            subject_line: subject.to_owned(),
            ..pb::CommitRecorded::default()
        };
        let merged = pb::ChangeMerged {
            change: Some(pb::ChangeInfo {
                repository: REPOSITORY.to_owned(),
                number: (410 + number).to_string(),
                title: subject.to_owned(),
                commits: vec![revision(number)],
                ..pb::ChangeInfo::default()
            }),
            merge_revision: revision(number),
            merge_method: pb::MergeMethod::Squash.into(),
        };
        let build = pb::BuildFinished {
            build_id: format!("b-{number}"),
            source_revisions: vec![at(number)],
            outcome: pb::Outcome::Success.into(),
            span: span(6),
            ..pb::BuildFinished::default()
        };
        let commit = pb::CommitEvent {
            event: Some(pb::commit_event::Event::Recorded(commit)),
        };
        let merged = pb::ChangeEvent {
            event: Some(pb::change_event::Event::Merged(merged)),
        };
        let build = pb::BuildEvent {
            event: Some(pb::build_event::Event::Finished(build)),
        };
        vec![
            self.event(&format!("commit-{number}"), age, Payload::Commit(commit)),
            self.event(
                &format!("change-{number}"),
                age - 2 * HOUR,
                Payload::Change(merged),
            ),
            self.event(
                &format!("build-{number}"),
                age - 3 * HOUR,
                Payload::Build(build),
            ),
        ]
    }

    fn deployment(
        &self,
        id: &str,
        environment: &str,
        number: u32,
        age: i64,
        operation: pb::DeploymentOperation,
    ) -> Told {
        let rollback = operation == pb::DeploymentOperation::Rollback;
        let info = pb::DeploymentInfo {
            deployment_id: id.to_owned(),
            service: SERVICE.to_owned(),
            environment: environment.to_owned(),
            operation: operation.into(),
            revisions: vec![at(number)],
            rollback_of: if rollback {
                "d-5".to_owned()
            } else {
                String::new()
            },
            ..pb::DeploymentInfo::default()
        };
        let finished = pb::DeploymentFinished {
            deployment: Some(info),
            outcome: pb::Outcome::Success.into(),
            span: span(4),
            ..pb::DeploymentFinished::default()
        };
        let event = pb::DeploymentEvent {
            event: Some(pb::deployment_event::Event::Finished(finished)),
        };
        self.event(id, age, Payload::Deployment(event))
    }

    fn incident(&self, age: i64, resolved: bool) -> Told {
        use pb::incident_event::Event as Moved;
        let incident = Some(pb::IncidentInfo {
            incident_id: "INC-1".to_owned(),
            environment: "prod".to_owned(),
            services: vec![SERVICE.to_owned()],
            severity: "high".to_owned(),
            title: "checkout answers with errors".to_owned(),
            ..pb::IncidentInfo::default()
        });
        let (id, event) = if resolved {
            (
                "incident-resolved",
                Moved::Resolved(pb::IncidentResolved {
                    incident,
                    resolution: "rolled back".to_owned(),
                }),
            )
        } else {
            (
                "incident-detected",
                Moved::Detected(pb::IncidentDetected { incident }),
            )
        };
        self.event(
            id,
            age,
            Payload::Incident(pb::IncidentEvent { event: Some(event) }),
        )
    }

    fn link(&self, age: i64) -> Told {
        let asserted = pb::LinkAsserted {
            link_id: "link-1".to_owned(),
            from_entity: format!("deployment:{SERVICE}/d-5"),
            to_entity: "incident:INC-1".to_owned(),
            method: pb::LinkMethod::Explicit.into(),
            confidence: Some(0.9),
            because: "errors began with it".to_owned(),
        };
        let event = pb::LinkEvent {
            event: Some(pb::link_event::Event::Asserted(asserted)),
        };
        self.event("link-1", age, Payload::Link(event))
    }
}

/// A commit id that looks like one, the same every time.
fn revision(number: u32) -> String {
    hex::encode(&Sha256::digest(format!("demo commit {number}"))[..20])
}

fn at(number: u32) -> pb::Revision {
    pb::Revision {
        repository: REPOSITORY.to_owned(),
        revision: revision(number),
    }
}

fn span(minutes: i64) -> Option<pb::Span> {
    Some(pb::Span {
        elapsed: Some(Duration {
            seconds: minutes * 60,
            nanos: 0,
        }),
        queued: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_event_is_one_that_a_ledger_takes_and_is_marked() {
        let events = events(Time::try_new(1_800_000_000, 0).unwrap());
        assert_eq!(events.len(), 18);
        let mut last = None;
        for bytes in events {
            let event = waybill_proto::parse::parse(&bytes).unwrap();
            assert_eq!(&*event.identity.source, SOURCE);
            assert_eq!(event.labels["origin"], "demo");
            assert!(
                last <= event.occur_time,
                "in the order in which it happened"
            );
            last = event.occur_time;
        }
    }
}
