//! The words of the wire and our words, both ways; the only place in this crate where one becomes the other.
//!
//! This file has what all share; [`asked`] has what requests say, [`recorded`] what the ledger answers, [`trace`] and
//! [`delivery`] what questions answer.
use bytes::Bytes;
use prost_types::{Duration, Timestamp};
use waybill_core::{Code, Identity, Refusal, Time};
use waybill_ledger::{Basis, Hash};
use waybill_proto::{limits::ID_BYTES_MAX, pb};
use waybill_views::{NoValue, Problem};

pub(crate) mod asked;
pub(crate) mod delivery;
pub(crate) mod recorded;
pub(crate) mod trace;

const NANOS_PER_SECOND: i64 = 1_000_000_000;

/// A moment as the wire says it.
pub(crate) fn timestamp(time: Time) -> Timestamp {
    Timestamp {
        seconds: time.seconds(),
        nanos: time.subsec_nanos(),
    }
}

/// A moment as the wire says it, refused outside 1970 to 2200.
pub(crate) fn time(field: &str, timestamp: &Timestamp) -> Result<Time, Refusal> {
    Time::try_new(timestamp.seconds, i64::from(timestamp.nanos))
        .map_err(|refusal| refusal.within(field))
}

/// As [`time`], where it may be absent.
pub(crate) fn time_if_given(
    field: &str,
    timestamp: Option<&Timestamp>,
) -> Result<Option<Time>, Refusal> {
    timestamp
        .map(|timestamp| time(field, timestamp))
        .transpose()
}

/// A span as the wire says it; both parts have the sign of the whole.
pub(crate) fn duration(nanos: i64) -> Duration {
    let rest = i32::try_from(nanos % NANOS_PER_SECOND).unwrap_or(0);
    Duration {
        seconds: nanos / NANOS_PER_SECOND,
        nanos: rest,
    }
}

/// A span in nanoseconds, refused where it has no sane length (292 years).
pub(crate) fn duration_nanos(field: &str, duration: &Duration) -> Result<i64, Refusal> {
    let whole = duration.seconds.checked_mul(NANOS_PER_SECOND);
    whole
        .and_then(|whole| whole.checked_add(i64::from(duration.nanos)))
        .ok_or_else(|| {
            let rule = "seconds must lie within 292 years";
            Refusal::new(Code::OutOfRange, field, duration.seconds, rule)
        })
}

/// Which event, by source and id. The position of a reference is ignored on the way in.
pub(crate) fn identity(field: &str, reference: Option<&pb::EventRef>) -> Result<Identity, Refusal> {
    let missing = |part: &str| {
        Refusal::new(Code::Missing, format!("{field}.{part}"), "", "required")
            .with_hint("name the event by source and id, as it was emitted")
    };
    let Some(reference) = reference else {
        return Err(missing("source"));
    };
    for (part, text) in [("source", &reference.source), ("id", &reference.id)] {
        if text.is_empty() {
            return Err(missing(part));
        }
        if text.len() > ID_BYTES_MAX {
            let rule = format!("at most {ID_BYTES_MAX} bytes");
            return Err(Refusal::new(
                Code::TooLarge,
                format!("{field}.{part}"),
                text,
                rule,
            ));
        }
    }
    Ok(Identity {
        source: reference.source.as_str().into(),
        id: reference.id.as_str().into(),
    })
}

/// A reference to an event; 0 where its position is not known.
pub(crate) fn event_ref(identity: &Identity, position: u64) -> pb::EventRef {
    pb::EventRef {
        source: identity.source.to_string(),
        id: identity.id.to_string(),
        position,
    }
}

/// A hash as bytes.
pub(crate) fn hash(hash: &Hash) -> Bytes {
    Bytes::copy_from_slice(hash)
}

/// A path of hashes as bytes.
pub(crate) fn path(path: &[Hash]) -> Vec<Bytes> {
    path.iter().map(hash).collect()
}

/// Something odd that an answer had to step around.
pub(crate) fn problem(problem: &Problem) -> pb::Problem {
    pb::Problem {
        code: problem.code.to_owned(),
        text: problem.text.clone(),
        events: problem.events.iter().map(view_ref).collect(),
        count: problem.count,
    }
}

/// Why there is no value.
pub(crate) fn no_value(none: &NoValue) -> pb::NoValue {
    pb::NoValue {
        code: none.code.to_owned(),
        text: none.text.clone(),
        remedy: none.remedy.clone(),
    }
}

/// A reference as views give it.
pub(crate) fn view_ref(event: &waybill_views::EventRef) -> pb::EventRef {
    event_ref(&event.identity, event.position)
}

/// What an answer stands on.
pub(crate) fn basis(basis: &Basis) -> pb::Basis {
    use pb::knowledge::Order;
    let order = match basis.assumed_lag_nanos {
        None => Order::Recorded(pb::RecordedKnowledge {}),
        Some(lag) => Order::Assumed(pb::AssumedKnowledge {
            lag: Some(duration(lag)),
        }),
    };
    pb::Basis {
        ledger_id: basis.ledger_id.to_string(),
        position: basis.position,
        record_time: basis.record_time.map(timestamp),
        root: hash(&basis.root),
        evaluated_time: Some(timestamp(basis.evaluated_time)),
        knowledge: Some(pb::Knowledge { order: Some(order) }),
        excluded_count: basis.excluded_count,
        refused_leaf_count: basis.refused_leaf_count,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_keep_their_sign_and_length() {
        for nanos in [0, 1, -1, 1_500_000_000, -1_500_000_000, i64::MAX, i64::MIN] {
            assert_eq!(duration_nanos("lag", &duration(nanos)), Ok(nanos));
        }
        let endless = Duration {
            seconds: i64::MAX,
            nanos: 0,
        };
        assert_eq!(
            duration_nanos("lag", &endless).unwrap_err().code,
            Code::OutOfRange
        );
    }

    #[test]
    fn a_moment_outside_the_bounds_is_refused_under_its_field() {
        let refusal = time(
            "read.as_of.record_time",
            &Timestamp {
                seconds: -1,
                nanos: 0,
            },
        )
        .unwrap_err();
        assert_eq!(
            (refusal.field.as_str(), refusal.value.as_str()),
            ("read.as_of.record_time", "-1")
        );
    }
}
