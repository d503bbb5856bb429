//! The stated mix: rounds of ten events of one service, fifty services in turn: five commits, a build of the last, its
//! deployments to staging and production, its merged change, and a metric window; about 250 bytes each.
use bytes::Bytes;
use prost::Message;
use prost_types::Timestamp;
use waybill_proto::pb::{self, event::Payload};

const SERVICES: u64 = 50;
/// Events of one round.
const ROUND: u64 = 10;

/// The encoded event of a number: always the same for the same number, and unlike every other.
pub(crate) fn encoded(number: u64) -> Bytes {
    event(number).encode_to_vec().into()
}

pub(crate) fn event(number: u64) -> pb::Event {
    pb::Event {
        source: format!("/bench/ci/{}", number / ROUND % SERVICES),
        id: format!("run-{number}"),
        occur_time: Some(time(number)),
        payload: Some(payload(number)),
        ..Default::default()
    }
}

/// Half a minute apart from 2011 on, so that twenty million events still end in years that people ask about.
fn time(number: u64) -> Timestamp {
    Timestamp {
        seconds: 1_300_000_000 + i64::try_from(number * 30).unwrap_or(0),
        nanos: 0,
    }
}

/// A commit id that nobody can guess from the one before, as real ones are.
fn revision(number: u64) -> String {
    let mix = |salt: u64| {
        let mut z = (number ^ salt).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        z = (z ^ (z >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        z ^ (z >> 32)
    };
    format!("{:016x}{:016x}{:08x}", mix(1), mix(2), mix(3) & 0xffff_ffff)
}

fn repository(number: u64) -> String {
    format!("github.com/acme/{}", service(number))
}

pub(crate) fn service(number: u64) -> String {
    format!("service-{}", number / ROUND % SERVICES)
}

/// The last commit of a number's round.
fn tip(number: u64) -> String {
    revision(number - number % ROUND + 4)
}

/// The commit before, in this round or in the last one of the same service.
fn parent(number: u64) -> Option<String> {
    match number % ROUND {
        0 => number.checked_sub(SERVICES * ROUND).map(tip),
        _ => Some(revision(number - 1)),
    }
}

fn payload(number: u64) -> Payload {
    match number % ROUND {
        0..5 => commit(number),
        5 => build(number),
        6 | 7 => deployment(number),
        8 => change(number),
        _ => metric(number),
    }
}

fn commit(number: u64) -> Payload {
    let recorded = pb::CommitRecorded {
        repository: repository(number),
        revision: revision(number),
        parents: parent(number).into_iter().collect(),
        author_time: Some(time(number)),
        commit_time: Some(time(number)),
        subject_line: format!("checkout: make step {number} of the cart quicker"),
        files: vec![pb::CommitFile {
            path: format!("src/cart/{}.rs", number % 97),
            added: 12,
            removed: 3,
            ..Default::default()
        }],
        files_changed_count: 1,
        lines_added_count: 12,
        lines_removed_count: 3,
        ..Default::default()
    };
    Payload::Commit(pb::CommitEvent {
        event: Some(pb::commit_event::Event::Recorded(recorded)),
    })
}

fn build(number: u64) -> Payload {
    let finished = pb::BuildFinished {
        build_id: format!("b-{number}"),
        source_revisions: vec![pb::Revision {
            repository: repository(number),
            revision: tip(number),
        }],
        outcome: pb::Outcome::Success.into(),
        ..Default::default()
    };
    Payload::Build(pb::BuildEvent {
        event: Some(pb::build_event::Event::Finished(finished)),
    })
}

fn deployment(number: u64) -> Payload {
    let info = pb::DeploymentInfo {
        deployment_id: format!("d-{number}"),
        service: service(number),
        environment: if number.is_multiple_of(2) {
            "staging"
        } else {
            "production"
        }
        .to_owned(),
        revisions: vec![pb::Revision {
            repository: repository(number),
            revision: tip(number),
        }],
        ..Default::default()
    };
    let finished = pb::DeploymentFinished {
        deployment: Some(info),
        outcome: pb::Outcome::Success.into(),
        ..Default::default()
    };
    Payload::Deployment(pb::DeploymentEvent {
        event: Some(pb::deployment_event::Event::Finished(finished)),
    })
}

fn change(number: u64) -> Payload {
    let info = pb::ChangeInfo {
        repository: repository(number),
        number: number.to_string(),
        title: format!("Make step {number} of the cart quicker"),
        head_revision: tip(number),
        ..Default::default()
    };
    let merged = pb::ChangeMerged {
        change: Some(info),
        merge_revision: tip(number),
        merge_method: pb::MergeMethod::Squash.into(),
    };
    Payload::Change(pb::ChangeEvent {
        event: Some(pb::change_event::Event::Merged(merged)),
    })
}

fn metric(number: u64) -> Payload {
    let window = pb::MetricWindowSummarized {
        metric: "http.server.request.duration".to_owned(),
        unit: "ms".to_owned(),
        service: service(number),
        environment: "production".to_owned(),
        start_time: Some(time(number)),
        end_time: Some(Timestamp {
            seconds: time(number).seconds + 60,
            nanos: 0,
        }),
        value: Some(pb::metric_window_summarized::Value::Ratio(
            pb::RatioWindow {
                good_count: number % 10_000,
                total_count: 10_000,
            },
        )),
        ..Default::default()
    };
    Payload::Metric(pb::MetricEvent {
        event: Some(pb::metric_event::Event::WindowSummarized(window)),
    })
}
