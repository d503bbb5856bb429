//! What requests say, checked at the door.
use std::time::Duration;

use waybill_core::{Code, Refusal, Time};
use waybill_ledger::{AsOf, AtLeast, Filter, Key, Leaves, ReadOptions};
use waybill_proto::{limits::REFERENCE_BYTES_MAX, pb};

use super::{duration_nanos, identity, time, time_if_given};

/// Kinds that one filter may name.
const KINDS_MAX: usize = 64;
/// Entries of a page where nothing is said, and at most.
const PAGE: (usize, usize) = (100, 1000);
/// Time between heartbeats where nothing is said, at least, and at most; in seconds.
const HEARTBEAT_SECONDS: (u64, u64, u64) = (10, 1, 60);

/// With whose eyes a question is asked.
pub(crate) fn read_options(read: Option<pb::ReadOptions>) -> Result<ReadOptions, Refusal> {
    let Some(read) = read else {
        return Ok(ReadOptions::default());
    };
    Ok(ReadOptions {
        as_of: read
            .as_of
            .and_then(|as_of| as_of.moment)
            .map(|moment| as_of(&moment))
            .transpose()?,
        at_least: at_least(read.at_least),
        evaluated_time: time_if_given("read.evaluated_time", read.evaluated_time.as_ref())?,
        assumed_lag_nanos: match read.knowledge.and_then(|knowledge| knowledge.order) {
            None | Some(pb::knowledge::Order::Recorded(_)) => None,
            Some(pb::knowledge::Order::Assumed(assumed)) => Some(lag(&assumed)?),
        },
    })
}

fn as_of(moment: &pb::as_of::Moment) -> Result<AsOf, Refusal> {
    use pb::as_of::Moment;
    Ok(match moment {
        Moment::Position(position) => AsOf::Position(*position),
        Moment::RecordTime(timestamp) => {
            AsOf::RecordTime(time("read.as_of.record_time", timestamp)?)
        }
        Moment::Event(event) => AsOf::Event(identity("read.as_of.event", Some(event))?),
    })
}

fn lag(assumed: &pb::AssumedKnowledge) -> Result<i64, Refusal> {
    const FIELD: &str = "read.knowledge.assumed.lag";
    let nanos = assumed
        .lag
        .as_ref()
        .map_or(Ok(0), |lag| duration_nanos(FIELD, lag))?;
    if nanos < 0 {
        return Err(Refusal::new(
            Code::OutOfRange,
            FIELD,
            format!("{nanos} ns"),
            "must not be negative",
        ));
    }
    Ok(nanos)
}

/// The position to wait for, where one is given.
pub(crate) fn at_least(at_least: Option<pb::AtLeast>) -> Option<AtLeast> {
    at_least.map(|it| AtLeast {
        ledger_id: it.ledger_id,
        position: it.position,
    })
}

/// Which event is asked for.
pub(crate) fn key(key: Option<pb::get_event_request::Key>) -> Result<Key, Refusal> {
    use pb::get_event_request::Key as Asked;
    match key {
        Some(Asked::Position(0)) => Err(Refusal::new(
            Code::OutOfRange,
            "position",
            0,
            "positions start at 1",
        )),
        Some(Asked::Position(position)) => Ok(Key::Position(position)),
        Some(Asked::Event(event)) => Ok(Key::Identity(identity("event", Some(&event))?)),
        None => Err(Refusal::new(
            Code::Missing,
            "position",
            "",
            "position or event is required",
        )),
    }
}

/// Which events are asked for.
pub(crate) fn filter(filter: Option<pb::EventFilter>, descending: bool) -> Result<Filter, Refusal> {
    let filter = filter.unwrap_or_default();
    if filter.kinds.len() > KINDS_MAX {
        let rule = format!("at most {KINDS_MAX} kinds");
        return Err(Refusal::new(
            Code::TooLarge,
            "filter.kinds",
            filter.kinds.len(),
            rule,
        ));
    }
    for kind in &filter.kinds {
        check_text("filter.kinds", kind)?;
    }
    check_text("filter.entity", &filter.entity)?;
    check_text("filter.source", &filter.source)?;
    if filter.last_position != 0 && filter.first_position > filter.last_position {
        let rule = format!(
            "beyond filter.last_position, which is {}",
            filter.last_position
        );
        return Err(Refusal::new(
            Code::Contradiction,
            "filter.first_position",
            filter.first_position,
            rule,
        ));
    }
    Ok(Filter {
        occur: range(
            "filter.occur_",
            filter.occur_start_time.as_ref(),
            filter.occur_end_time.as_ref(),
        )?,
        record: range(
            "filter.record_",
            filter.record_start_time.as_ref(),
            filter.record_end_time.as_ref(),
        )?,
        kinds: filter.kinds,
        entity: given(filter.entity),
        source: given(filter.source),
        first_position: filter.first_position.max(1),
        last_position: filter.last_position,
        descending,
        leaves: leaves(filter.leaves)?,
    })
}

fn leaves(selection: i32) -> Result<Leaves, Refusal> {
    match pb::LeafSelection::try_from(selection) {
        Ok(pb::LeafSelection::Unspecified | pb::LeafSelection::Facts) => Ok(Leaves::Facts),
        Ok(pb::LeafSelection::All) => Ok(Leaves::All),
        Ok(pb::LeafSelection::Refused) => Ok(Leaves::Refused),
        Err(_) => {
            let rule = "not a selection that this version knows";
            Err(Refusal::new(
                Code::OutOfRange,
                "filter.leaves",
                selection,
                rule,
            ))
        }
    }
}

/// A half-open stretch of time whose ends are in order; its fields are `<prefix>start_time` and `<prefix>end_time`.
pub(crate) fn range(
    prefix: &str,
    start: Option<&prost_types::Timestamp>,
    end: Option<&prost_types::Timestamp>,
) -> Result<(Option<Time>, Option<Time>), Refusal> {
    let start = time_if_given(&format!("{prefix}start_time"), start)?;
    let end = time_if_given(&format!("{prefix}end_time"), end)?;
    if let (Some(start), Some(end)) = (start, end)
        && start > end
    {
        let rule = format!("after {prefix}end_time, which is {end}");
        return Err(Refusal::new(
            Code::Contradiction,
            format!("{prefix}start_time"),
            start,
            rule,
        ));
    }
    Ok((start, end))
}

/// Entries of a page: 0 is the default, too many is cut down, negative is refused (AIP-158).
pub(crate) fn page_size(size: i32) -> Result<usize, Refusal> {
    let (default, max) = PAGE;
    match usize::try_from(size) {
        Ok(0) => Ok(default),
        Ok(size) => Ok(size.min(max)),
        Err(_) => Err(Refusal::new(
            Code::OutOfRange,
            "page_size",
            size,
            "must not be negative",
        )),
    }
}

/// How long to wait for an event that is not recorded yet: nothing, or up to a minute.
pub(crate) fn receipt_wait(wait: Option<&prost_types::Duration>) -> Result<Duration, Refusal> {
    const MAX: Duration = Duration::from_secs(60);
    let Some(wait) = wait else {
        return Ok(Duration::ZERO);
    };
    let shown = format!("{}.{:09}s", wait.seconds, wait.nanos);
    let length = Duration::try_from(*wait).ok().filter(|it| *it <= MAX);
    length.ok_or_else(|| Refusal::new(Code::OutOfRange, "wait", shown, "not between 0 and 60 s"))
}

/// Time between heartbeats; what is too short or too long is cut to the bounds.
pub(crate) fn heartbeat_interval(
    interval: Option<&prost_types::Duration>,
) -> Result<Duration, Refusal> {
    let (default, min, max) = HEARTBEAT_SECONDS;
    let Some(interval) = interval else {
        return Ok(Duration::from_secs(default));
    };
    let nanos = duration_nanos("heartbeat_interval", interval)?;
    let nanos = u64::try_from(nanos).map_err(|_| {
        Refusal::new(
            Code::OutOfRange,
            "heartbeat_interval",
            format!("{nanos} ns"),
            "must not be negative",
        )
    })?;
    let asked = if nanos == 0 {
        Duration::from_secs(default)
    } else {
        Duration::from_nanos(nanos)
    };
    Ok(asked.clamp(Duration::from_secs(min), Duration::from_secs(max)))
}

/// Text that is given, or nothing.
pub(crate) fn given(text: String) -> Option<String> {
    Some(text).filter(|text| !text.is_empty())
}

/// Checks the length of a text that is looked up.
pub(crate) fn check_text(field: &str, text: &str) -> Result<(), Refusal> {
    if text.len() > REFERENCE_BYTES_MAX {
        let rule = format!("at most {REFERENCE_BYTES_MAX} bytes");
        return Err(Refusal::new(Code::TooLarge, field, text, rule));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_sizes_are_cut_and_negative_ones_refused() {
        assert_eq!(
            [0, 1, 1000, 5000].map(|size| page_size(size).unwrap()),
            [100, 1, 1000, 1000]
        );
        assert_eq!(page_size(-1).unwrap_err().field, "page_size");
    }

    #[test]
    fn filters_whose_ends_are_crossed_are_refused() {
        let at = |seconds| Some(prost_types::Timestamp { seconds, nanos: 0 });
        let asked = pb::EventFilter {
            occur_start_time: at(9),
            occur_end_time: at(8),
            ..Default::default()
        };
        assert_eq!(
            filter(Some(asked), false).unwrap_err().field,
            "filter.occur_start_time"
        );
        let asked = pb::EventFilter {
            first_position: 3,
            last_position: 2,
            ..Default::default()
        };
        assert_eq!(
            filter(Some(asked), false).unwrap_err().field,
            "filter.first_position"
        );
        let asked = pb::EventFilter {
            kinds: vec![String::new(); KINDS_MAX + 1],
            ..Default::default()
        };
        assert_eq!(
            filter(Some(asked), false).unwrap_err().field,
            "filter.kinds"
        );
        assert_eq!(
            filter(None, true).unwrap(),
            Filter {
                first_position: 1,
                descending: true,
                ..Default::default()
            }
        );
    }

    #[test]
    fn heartbeats_stay_within_their_bounds() {
        let seconds = |seconds| {
            heartbeat_interval(Some(&prost_types::Duration { seconds, nanos: 0 }))
                .map(|it| it.as_secs())
        };
        assert_eq!(
            [0, 1, 7, 600].map(|it| seconds(it).unwrap()),
            [10, 1, 7, 60]
        );
        assert_eq!(seconds(-1).unwrap_err().field, "heartbeat_interval");
    }
}
