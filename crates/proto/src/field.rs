//! The rules of single fields. Each takes the wire's value and the field's path, and gives our word or a refusal.
//!
//! Paths are written when something is refused only, so that the good case costs nothing.
use std::sync::Arc;

use prost_types::{Duration, Timestamp};
use waybill_core::{Code, Entity, Refusal, Time, event::ArtifactRef, refusal::is_unsafe_in_text};

use crate::{
    limits::{ID_BYTES_MAX, REFERENCE_BYTES_MAX},
    pb,
};

/// Longest duration of `google.protobuf.Duration`, in seconds: 10,000 years.
const DURATION_SECONDS_MAX: i64 = 315_576_000_000;

/// A name that must be there.
pub(crate) fn name<'a>(value: &'a str, field: &str) -> Result<&'a str, Refusal> {
    if value.is_empty() {
        return Err(missing(field));
    }
    text_within(value, field, ID_BYTES_MAX)
}

/// A name that may be absent; the empty string is absence.
pub(crate) fn name_if_any<'a>(value: &'a str, field: &str) -> Result<Option<&'a str>, Refusal> {
    if value.is_empty() {
        Ok(None)
    } else {
        name(value, field).map(Some)
    }
}

/// [`name_if_any`], shared.
pub(crate) fn shared_if_any(value: &str, field: &str) -> Result<Option<Arc<str>>, Refusal> {
    Ok(name_if_any(value, field)?.map(Arc::from))
}

/// A repository, branch, URI or entity name: like a name, but longer.
pub(crate) fn reference<'a>(value: &'a str, field: &str) -> Result<&'a str, Refusal> {
    if value.is_empty() {
        return Err(missing(field));
    }
    text_within(value, field, REFERENCE_BYTES_MAX)
}

/// A reference that may be absent; the empty string is absence.
pub(crate) fn reference_if_any<'a>(
    value: &'a str,
    field: &str,
) -> Result<Option<&'a str>, Refusal> {
    if value.is_empty() {
        Ok(None)
    } else {
        reference(value, field).map(Some)
    }
}

/// A commit id of 7 to 64 lowercase hex digits.
pub(crate) fn revision<'a>(value: &'a str, field: &str) -> Result<&'a str, Refusal> {
    if value.is_empty() {
        return Err(missing(field));
    }
    let good = (7..=64).contains(&value.len()) && value.bytes().all(is_lower_hex);
    rule(
        good,
        value,
        field,
        "not a commit id (7 to 64 lowercase hex digits)",
    )
}

/// A commit id in full: 40 or 64 lowercase hex digits.
pub(crate) fn full_revision<'a>(value: &'a str, field: &str) -> Result<&'a str, Refusal> {
    if value.is_empty() {
        return Err(missing(field));
    }
    let good = matches!(value.len(), 40 | 64) && value.bytes().all(is_lower_hex);
    rule(
        good,
        value,
        field,
        "not a full commit id (40 or 64 lowercase hex digits)",
    )
}

/// A commit id that may be absent.
pub(crate) fn revision_if_any(value: &str, field: &str) -> Result<Option<Arc<str>>, Refusal> {
    if value.is_empty() {
        Ok(None)
    } else {
        Ok(Some(revision(value, field)?.into()))
    }
}

/// An entity name, `kind:authority/path`.
pub(crate) fn entity(value: &str, field: &str) -> Result<Entity, Refusal> {
    if value.is_empty() {
        return Err(missing(field));
    }
    Entity::parse(value).map_err(|refusal| refusal.within(field))
}

/// An entity name that may be absent.
pub(crate) fn entity_if_any(value: &str, field: &str) -> Result<Option<Entity>, Refusal> {
    if value.is_empty() {
        Ok(None)
    } else {
        entity(value, field).map(Some)
    }
}

/// A moment that may be absent.
pub(crate) fn time_if_any(value: Option<&Timestamp>, field: &str) -> Result<Option<Time>, Refusal> {
    value
        .map(|t| {
            Time::try_new(t.seconds, i64::from(t.nanos)).map_err(|refusal| refusal.within(field))
        })
        .transpose()
}

/// A moment that must be there.
pub(crate) fn time(value: Option<&Timestamp>, field: &str) -> Result<Time, Refusal> {
    time_if_any(value, field)?.ok_or_else(|| missing(field))
}

/// A window, half open, of two moments that must be there; it holds at least one nanosecond.
pub(crate) fn window(
    start: Option<&Timestamp>,
    end: Option<&Timestamp>,
) -> Result<(Time, Time), Refusal> {
    let (start, end) = (time(start, "start_time")?, time(end, "end_time")?);
    ordered(start, end)?;
    Ok((start, end))
}

/// Checks that a window's end lies after its start.
pub(crate) fn ordered(start: Time, end: Time) -> Result<(), Refusal> {
    rule(start < end, end, "end_time", "not after start_time").map(|_| ())
}

/// A duration that may be absent and is never negative.
pub(crate) fn duration(value: Option<&Duration>, field: &str) -> Result<(), Refusal> {
    let Some(d) = value else { return Ok(()) };
    let good =
        (0..=DURATION_SECONDS_MAX).contains(&d.seconds) && (0..1_000_000_000).contains(&d.nanos);
    if good {
        return Ok(());
    }
    let shown = format!("{} s and {} ns", d.seconds, d.nanos);
    Err(Refusal::new(
        Code::OutOfRange,
        field,
        shown,
        "a duration lies in 0 to 10,000 years",
    ))
}

/// How long a run took.
pub(crate) fn span(value: Option<&pb::Span>) -> Result<(), Refusal> {
    let Some(span) = value else { return Ok(()) };
    duration(span.elapsed.as_ref(), "span.elapsed")?;
    duration(span.queued.as_ref(), "span.queued")
}

/// A share of 0 to 1.
pub(crate) fn ratio(value: f64, field: &str) -> Result<f64, Refusal> {
    // The comparison is false for NaN.
    rule(
        (0.0..=1.0).contains(&value),
        value,
        field,
        "a ratio lies in 0 to 1",
    )
    .map_err(out_of_range)
}

/// A share of 0 to 1 in parts per million, rounded to the nearest.
#[allow(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the value lies in 0 to 1,000,000"
)]
pub(crate) fn parts_per_million(value: Option<f64>, field: &str) -> Result<Option<u32>, Refusal> {
    value
        .map(|v| ratio(v, field).map(|v| (v * 1e6).round() as u32))
        .transpose()
}

/// A number that is neither infinite nor NaN.
pub(crate) fn finite(value: f64, field: &str) -> Result<f64, Refusal> {
    rule(
        value.is_finite(),
        value,
        field,
        "neither infinite nor NaN is a number here",
    )
    .map_err(out_of_range)
}

/// A finite number that is not negative.
pub(crate) fn not_negative(value: f64, field: &str) -> Result<f64, Refusal> {
    rule(
        value.is_finite() && value >= 0.0,
        value,
        field,
        "the number is finite and not negative",
    )
    .map_err(out_of_range)
}

/// A number of an enum that must say something; numbers newer than this version do.
pub(crate) fn said(value: i32, field: &str) -> Result<(), Refusal> {
    if value == 0 {
        Err(missing(field))
    } else {
        Ok(())
    }
}

/// SHA-256 as 32 bytes, or absent.
pub(crate) fn digest_if_any(value: &[u8], field: &str) -> Result<(), Refusal> {
    rule(
        matches!(value.len(), 0 | 32),
        format!("{} bytes", value.len()),
        field,
        "a SHA-256 digest has 32 bytes",
    )
    .map(|_| ())
}

/// An artifact that must be there, by its id, its digest or both.
pub(crate) fn artifact(
    value: Option<&pb::ArtifactRef>,
    field: &str,
) -> Result<ArtifactRef, Refusal> {
    artifact_ref(value.ok_or_else(|| missing(field))?).map_err(|refusal| refusal.within(field))
}

/// One artifact by its id, its digest or both.
pub(crate) fn artifact_ref(value: &pb::ArtifactRef) -> Result<ArtifactRef, Refusal> {
    let id = reference_if_any(&value.id, "id")?.map(Arc::from);
    let digest = if value.digest.is_empty() {
        None
    } else {
        Some(content_digest(&value.digest)?.into())
    };
    if id.is_none() && digest.is_none() {
        return Err(missing("id").with_hint("give the artifact's id, its digest, or both"));
    }
    Ok(ArtifactRef { id, digest })
}

fn content_digest(value: &str) -> Result<&str, Refusal> {
    let good = value.split_once(':').is_some_and(|(algorithm, hex)| {
        let digits = match algorithm {
            "sha256" => 64,
            "sha512" => 128,
            _ => return false,
        };
        hex.len() == digits && hex.bytes().all(is_lower_hex)
    });
    rule(
        good,
        value,
        "digest",
        "not a digest (`sha256:` and 64 lowercase hex digits, or `sha512:` and 128)",
    )
}

/// Where a run came from: the provider's name, the run's id, and the attempt from 1.
pub(crate) fn run(value: Option<&pb::RunRef>) -> Result<Run<'_>, Refusal> {
    let Some(run) = value else {
        return Ok(Run::default());
    };
    let within = |refusal: Refusal| refusal.within("run");
    let provider = name_if_any(&run.provider, "provider")
        .map_err(within)?
        .unwrap_or_default();
    let run_id = name_if_any(&run.run_id, "run_id")
        .map_err(within)?
        .unwrap_or_default();
    name_if_any(&run.job, "job").map_err(within)?;
    reference_if_any(&run.uri, "uri").map_err(within)?;
    Ok(Run {
        provider,
        run_id,
        attempt: run.attempt.max(1),
    })
}

/// A run as its system names it; empty where not said.
#[derive(Clone, Copy, Default)]
pub(crate) struct Run<'a> {
    pub(crate) provider: &'a str,
    pub(crate) run_id: &'a str,
    /// 1 for the first, also where nothing is said.
    pub(crate) attempt: u32,
}

/// A person, a bot or an account.
pub(crate) fn actor(value: Option<&pb::Actor>, field: &str) -> Result<Option<Arc<str>>, Refusal> {
    let Some(actor) = value else { return Ok(None) };
    let within = |refusal: Refusal| refusal.within(field);
    name_if_any(&actor.display_name, "display_name").map_err(within)?;
    shared_if_any(&actor.id, "id").map_err(within)
}

/// Reads every item of a list; a refusal names the item by its place.
pub(crate) fn each<T, U>(
    items: &[T],
    field: &str,
    mut read: impl FnMut(&T) -> Result<U, Refusal>,
) -> Result<Vec<U>, Refusal> {
    let place = |index: usize| format!("{field}[{index}]");
    items
        .iter()
        .enumerate()
        .map(|(i, item)| read(item).map_err(|refusal| refusal.within(&place(i))))
        .collect()
}

/// A list of names, shared.
pub(crate) fn names(items: &[String], field: &str) -> Result<Vec<Arc<str>>, Refusal> {
    each(items, field, |item| name(item, "").map(Arc::from))
}

/// A list of commit ids.
pub(crate) fn revision_ids(items: &[String], field: &str) -> Result<Vec<Arc<str>>, Refusal> {
    each(items, field, |item| revision(item, "").map(Arc::from))
}

/// Free text where it says something.
pub(crate) fn text_if_any(value: &str) -> Option<Arc<str>> {
    if value.is_empty() {
        None
    } else {
        Some(value.into())
    }
}

/// The refusal of a required field that is absent.
pub(crate) fn missing(field: &str) -> Refusal {
    Refusal::new(Code::Missing, field, "", "required").with_hint(format!("set {field}"))
}

/// Passes `value` on when `good`, and refuses it with `rule` otherwise.
pub(crate) fn rule<T: std::fmt::Display>(
    good: bool,
    value: T,
    field: &str,
    rule: &str,
) -> Result<T, Refusal> {
    if good {
        Ok(value)
    } else {
        Err(Refusal::new(Code::Malformed, field, value, rule))
    }
}

/// The same refusal under the code of values outside their bounds.
pub(crate) fn out_of_range(refusal: Refusal) -> Refusal {
    Refusal {
        code: Code::OutOfRange,
        ..refusal
    }
}

fn text_within<'a>(value: &'a str, field: &str, bytes_max: usize) -> Result<&'a str, Refusal> {
    if value.len() > bytes_max {
        return Err(Refusal::new(
            Code::TooLarge,
            field,
            value,
            format!("longer than {bytes_max} bytes"),
        ));
    }
    // Nearly all names are plain ASCII, whose test is cheap.
    let plain = value.bytes().all(|byte| (0x20..0x7F).contains(&byte));
    let good = plain || !value.chars().any(is_unsafe_in_text);
    rule(
        good,
        value,
        field,
        "a name may not hold control or bidirectional characters",
    )
}

fn is_lower_hex(byte: u8) -> bool {
    matches!(byte, b'0'..=b'9' | b'a'..=b'f')
}
