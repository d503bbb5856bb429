//! From the bytes of one event to a [`waybill_core::Event`] that cannot be wrong, or to the rule that it breaks.
use std::collections::{BTreeMap, HashMap};

use prost::Message;
use waybill_core::{
    Code, EntityKind, Event, Identity, Kind, Payload, Refusal, Time,
    event::{Basis, RecordKind},
    refusal::shown,
};

use crate::{
    family::{self, About, ledger::identity},
    field, kinds, limits,
    natural_key::Key,
    pb::{self, event::Payload as Wire},
    wire::{self, Fields, Value},
};

/// Field numbers of `Event`.
const SOURCE: u32 = 1;
const ID: u32 = 2;
/// Field numbers of `Event` that are kept for payloads.
const PAYLOAD_NUMBERS: std::ops::RangeInclusive<u32> = 100..=199;

/// Parses and checks one encoded `waybill.v1.Event`.
///
/// Open to the future (LEDGER E4): enum numbers, fields, predicates and families that this version does not know are
/// accepted; the kind of such an event is what its `type` says, else `<family>` or `unknown.<field number>`.
///
/// # Errors
/// Refuses what breaks a rule of LEDGER E8 to E11 or of its family, naming the field's path, the value and the rule.
pub fn parse(bytes: &[u8]) -> Result<Event, Refusal> {
    if bytes.len() > limits::EVENT_BYTES_MAX {
        let rule = format!("an event is at most {} bytes", limits::EVENT_BYTES_MAX);
        return Err(
            Refusal::new(Code::TooLarge, "", format!("{} bytes", bytes.len()), rule)
                .with_hint("keep large bodies elsewhere and refer to them by digest"),
        );
    }
    let event = pb::Event::decode(bytes).map_err(|error| wire::undecodable(&error.to_string()))?;
    let envelope = envelope(&event)?;
    let (kind, about, payload) = payload(&event, bytes, envelope.occur_time)?;
    finish(&event, envelope, kind, about, payload)
}

/// What an event that may be refused says of itself; empty where it says nothing that can be read.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Claim {
    /// Who says so.
    pub source: String,
    /// What they call it.
    pub id: String,
    /// `<family>.<predicate>`, where the payload is of this version.
    pub kind: String,
}

/// Reads what an event says of itself, as far as its bytes can be read, so that its refusal can be found. What is no name
/// is shortened and escaped.
#[must_use]
pub fn claim(bytes: &[u8]) -> Claim {
    let mut claim = Claim::default();
    for field in Fields::new(bytes).map_while(Result::ok) {
        match (field.number, field.value) {
            (SOURCE, Value::Bytes(text)) => claim.source = claimed(text),
            (ID, Value::Bytes(text)) => claim.id = claimed(text),
            _ => {}
        }
    }
    // What is too large is never decoded: a few bytes may stand for a large message.
    if bytes.len() <= limits::EVENT_BYTES_MAX
        && let Ok(event) = pb::Event::decode(bytes)
    {
        let kind = event.payload.as_ref().and_then(kinds::kind_of);
        claim.kind = kind.unwrap_or_default().to_owned();
    }
    claim
}

fn claimed(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    match field::name(&text, "") {
        Ok(name) => name.to_owned(),
        Err(_) => shown(&text),
    }
}

/// The part of the envelope that the payload's reader or the end needs.
struct Envelope {
    identity: Identity,
    occur_time: Option<Time>,
    amends: Amends,
}

/// What `record_kind` and `amends` say together.
enum Amends {
    Known(RecordKind),
    /// A word newer than this version: kept, and no fact.
    Unknown,
}

fn envelope(event: &pb::Event) -> Result<Envelope, Refusal> {
    let identity = Identity {
        source: field::name(&event.source, "source")?.into(),
        id: field::name(&event.id, "id")?.into(),
    };
    let occur_time = field::time_if_any(event.occur_time.as_ref(), "occur_time")?;
    let basis = pb::OccurTimeBasis::try_from(event.occur_time_basis);
    if occur_time.is_none() && !matches!(basis, Ok(pb::OccurTimeBasis::Delivery) | Err(_)) {
        return Err(field::missing("occur_time")
            .with_hint("say when it happened, or set occur_time_basis to OCCUR_TIME_BASIS_DELIVERY if nobody knows"));
    }
    field::time_if_any(event.produce_time.as_ref(), "produce_time")?;
    let amends = amends(event, &identity)?;
    field::name_if_any(&event.correlation_id, "correlation_id")?;
    field::each(&event.causes, "causes", identity_of)?;
    field::each(&event.links, "links", link)?;
    labels(&event.labels)?;
    provenance(event.provenance.as_ref())?;
    cdevents(event.cdevents.as_ref()).map_err(|refusal| refusal.within("cdevents"))?;
    Ok(Envelope {
        identity,
        occur_time,
        amends,
    })
}

fn amends(event: &pb::Event, own: &Identity) -> Result<Amends, Refusal> {
    use pb::RecordKind as Wire;
    let within = |refusal: Refusal| refusal.within("amends");
    let target = event
        .amends
        .as_ref()
        .map(identity)
        .transpose()
        .map_err(within)?;
    if target.as_ref() == Some(own) {
        return Err(Refusal::new(
            Code::Contradiction,
            "amends",
            own,
            "the event itself",
        ));
    }
    let Ok(kind) = Wire::try_from(event.record_kind) else {
        return Ok(Amends::Unknown);
    };
    let amend = match kind {
        Wire::Unspecified | Wire::Assertion => {
            return match target {
                None => Ok(Amends::Known(RecordKind::Assertion)),
                Some(target) => Err(Refusal::new(
                    Code::Contradiction,
                    "amends",
                    target,
                    "not for an assertion",
                )
                .with_hint(
                    "set record_kind to CORRECTION, RETRACTION or REDACTION, or leave amends out",
                )),
            };
        }
        Wire::Correction => RecordKind::Correction,
        Wire::Retraction => RecordKind::Retraction,
        Wire::Redaction => RecordKind::Redaction,
    };
    target
        .map(|target| Amends::Known(amend(target)))
        .ok_or_else(|| {
            field::missing("amends")
                .with_hint("name the source and id of the event that is amended")
        })
}

fn identity_of(event: &pb::EventRef) -> Result<(), Refusal> {
    identity(event).map(|_| ())
}

fn link(link: &pb::EventLink) -> Result<(), Refusal> {
    if let Some(event) = &link.event {
        identity_of(event).map_err(|refusal| refusal.within("event"))?;
    }
    field::name_if_any(&link.relation, "relation")?;
    field::reference_if_any(&link.entity, "entity").map(|_| ())
}

/// Checks how many labels there are, and their keys.
pub(crate) fn labels(labels: &HashMap<String, String>) -> Result<(), Refusal> {
    if labels.len() > limits::LABELS_MAX {
        let rule = format!("an event has at most {} labels", limits::LABELS_MAX);
        return Err(Refusal::new(
            Code::TooLarge,
            "labels",
            format!("{} labels", labels.len()),
            rule,
        ));
    }
    // The smallest bad key is named, so that the same event is always refused in the same words.
    let bad = |key: &&String| field::name(key, "labels").is_err();
    labels
        .keys()
        .filter(bad)
        .min()
        .map_or(Ok(()), |key| field::name(key, "labels").map(|_| ()))
}

fn provenance(provenance: Option<&pb::Provenance>) -> Result<(), Refusal> {
    let Some(provenance) = provenance else {
        return Ok(());
    };
    let names = [
        (&provenance.adapter, "adapter"),
        (&provenance.adapter_version, "adapter_version"),
        (&provenance.delivery_id, "delivery_id"),
        (&provenance.media_type, "media_type"),
    ];
    let check = || {
        for (value, field) in names {
            field::name_if_any(value, field)?;
        }
        field::reference_if_any(&provenance.raw_ref, "raw_ref")?;
        field::digest_if_any(&provenance.body_digest, "body_digest")
    };
    check().map_err(|refusal| refusal.within("provenance"))
}

/// Checks what is a name in a CDEvents event; its custom data is its own.
fn cdevents(cdevents: Option<&pb::CdEvents>) -> Result<(), Refusal> {
    let Some(cdevents) = cdevents else {
        return Ok(());
    };
    let names = [
        (&cdevents.spec_version, "spec_version"),
        (&cdevents.r#type, "type"),
        (&cdevents.schema_uri, "schema_uri"),
        (
            &cdevents.custom_data_content_type,
            "custom_data_content_type",
        ),
        (&cdevents.subject_source, "subject_source"),
    ];
    for (value, field) in names {
        field::reference_if_any(value, field)?;
    }
    Ok(())
}

/// Reads the payload: its kind, what its family's reader says of it, and our words for it.
fn payload(
    event: &pb::Event,
    bytes: &[u8],
    time: Option<Time>,
) -> Result<(Kind, About, Payload), Refusal> {
    let known = event
        .payload
        .as_ref()
        .and_then(|payload| Some((payload, kinds::kind_of(payload)?)));
    let Some((payload, kind)) = known else {
        return Ok((
            unknown_kind(event, bytes)?,
            About::new("", time),
            Payload::Other,
        ));
    };
    agrees(&event.r#type, kind)?;
    let mut about = About::new(kind, time);
    let ours = family(payload, &mut about).map_err(|refusal| {
        let (_, predicate) = kind.split_once('.').unwrap_or_default();
        refusal.within(predicate).within(kinds::field_of(payload))
    })?;
    Ok((Kind(kind.into()), about, ours.unwrap_or(Payload::Other)))
}

/// Hands a payload to the reader of its family. None where the predicate is unknown, which never comes here.
fn family(payload: &Wire, about: &mut About) -> Result<Option<Payload>, Refusal> {
    macro_rules! read {
        ($event:expr, $read:path) => {
            $event
                .event
                .as_ref()
                .map(|event| $read(event, about))
                .transpose()
        };
    }
    match payload {
        Wire::Repository(e) => read!(e, family::repository::repository),
        Wire::Branch(e) => read!(e, family::repository::branch),
        Wire::Commit(e) => read!(e, family::commit::read),
        Wire::Change(e) => read!(e, family::change::read),
        Wire::Build(e) => read!(e, family::delivery::build),
        Wire::Artifact(e) => read!(e, family::delivery::artifact),
        Wire::Release(e) => read!(e, family::delivery::release),
        Wire::Deployment(e) => read!(e, family::deployment::read),
        Wire::Flag(e) => read!(e, family::flag::read),
        Wire::Incident(e) => read!(e, family::incident::read),
        Wire::Metric(e) => read!(e, family::metric::read),
        Wire::Link(e) => read!(e, family::link::read),
        Wire::Ledger(e) => read!(e, family::ledger::read),
        Wire::PipelineRun(e) => family::described::read(e, "pipeline_run", about),
        Wire::TaskRun(e) => family::described::read(e, "task_run", about),
        Wire::Check(e) => family::described::read(e, "check", about),
        Wire::TestSuiteRun(e) => family::described::read(e, "test_suite_run", about),
        Wire::TestCaseRun(e) => family::described::read(e, "test_case_run", about),
        Wire::TestOutput(e) => family::described::read(e, "test_output", about),
        Wire::EnvironmentEvent(e) => family::described::read(e, "environment", about),
        Wire::Alert(e) => family::described::read(e, "alert", about),
        Wire::Ticket(e) => family::described::read(e, "ticket", about),
        Wire::Slo(e) => family::described::read(e, "slo", about),
        Wire::Budget(e) => family::described::read(e, "budget", about),
        Wire::Component(e) => family::described::read(e, "component", about),
        Wire::Ownership(e) => family::described::read(e, "ownership", about),
        Wire::Dependency(e) => family::described::read(e, "dependency", about),
        Wire::Contract(e) => family::described::read(e, "contract", about),
        Wire::Policy(e) => family::described::read(e, "policy", about),
        Wire::Gate(e) => family::described::read(e, "gate", about),
        Wire::Approval(e) => family::described::read(e, "approval", about),
        Wire::Exemption(e) => family::described::read(e, "exemption", about),
        Wire::Freeze(e) => family::described::read(e, "freeze", about),
        Wire::Maintenance(e) => family::described::read(e, "maintenance", about),
        Wire::Review(e) => family::described::read(e, "review", about),
        Wire::Action(e) => family::described::read(e, "action", about),
        Wire::Team(e) => family::described::read(e, "team", about),
        Wire::Organisation(e) => family::described::read(e, "organisation", about),
        Wire::Definition(e) => family::described::read(e, "definition", about),
        Wire::Stage(e) => family::described::read(e, "stage", about),
        Wire::Journey(e) => family::described::read(e, "journey", about),
        Wire::FailureState(e) => family::described::read(e, "failure_state", about),
        Wire::Rollback(e) => family::described::read(e, "rollback", about),
    }
}

fn agrees(name: &str, kind: &str) -> Result<(), Refusal> {
    if name.is_empty() || kinds::kind_of_type(name) == kind {
        return Ok(());
    }
    let right = kinds::type_of(kind);
    Err(Refusal::new(
        Code::Contradiction,
        "type",
        name,
        format!("not the type of the payload, `{right}`"),
    )
    .with_hint("leave type out; it follows from the payload"))
}

/// Names an event whose payload this version does not know, or refuses an event that has none.
fn unknown_kind(event: &pb::Event, bytes: &[u8]) -> Result<Kind, Refusal> {
    let name = field::name_if_any(&event.r#type, "type")?;
    let number = unknown_payload(bytes)?;
    if let Some(kind) = name.map(kinds::kind_of_type) {
        if kinds::KINDS.contains(&kind) {
            return Err(field::missing(kind)
                .with_hint(format!("type names it, but the payload `{kind}` is absent")));
        }
        return Ok(Kind(kind.to_owned().into()));
    }
    if let Some(kind) = amending_kind(event.record_kind) {
        return Ok(Kind(kind.into()));
    }
    match (number, event.payload.as_ref().map(kinds::field_of)) {
        (Some(_), Some(family)) => Ok(Kind(family.into())),
        (Some(number), None) => Ok(Kind(format!("unknown.{number}").into())),
        (None, family) => Err(field::missing(family.unwrap_or("payload"))
            .with_hint("say what happened: set one family and predicate")),
    }
}

/// A retraction or a redaction says all by naming its target; it needs no payload.
fn amending_kind(record_kind: i32) -> Option<&'static str> {
    match pb::RecordKind::try_from(record_kind) {
        Ok(pb::RecordKind::Retraction) => Some("ledger.retracted"),
        Ok(pb::RecordKind::Redaction) => Some("ledger.redacted"),
        _ => None,
    }
}

/// The number of the first payload field that says something.
fn unknown_payload(bytes: &[u8]) -> Result<Option<u32>, Refusal> {
    for field in Fields::new(bytes) {
        let field = field?;
        if PAYLOAD_NUMBERS.contains(&field.number) && field.value != Value::Bytes(&[]) {
            return Ok(Some(field.number));
        }
    }
    Ok(None)
}

fn finish(
    event: &pb::Event,
    envelope: Envelope,
    kind: Kind,
    mut about: About,
    payload: Payload,
) -> Result<Event, Refusal> {
    let Envelope {
        identity,
        occur_time,
        amends,
    } = envelope;
    about
        .entities
        .named_if_any(EntityKind::Service, &event.service, "service")?;
    about
        .entities
        .named_if_any(EntityKind::Environment, &event.environment, "environment")?;
    let actor = field::actor(event.actor.as_ref(), "actor")?;
    let (record_kind, payload) = match amends {
        Amends::Known(record_kind) => (agreed(record_kind, about.amends.take())?, Some(payload)),
        Amends::Unknown => (RecordKind::Assertion, None),
    };
    let is_fact = matches!(
        record_kind,
        RecordKind::Assertion | RecordKind::Correction(_)
    ) && payload.is_some();
    let natural_key = about
        .natural_key()
        .filter(|_| is_fact)
        .unwrap_or_else(|| Key::of_identity(&identity.source, &identity.id));
    Ok(Event {
        kind,
        occur_time,
        basis: basis(event.occur_time_basis, occur_time),
        backfill: event.backfill,
        revision: event.revision,
        record_kind,
        natural_key,
        reason: field::text_if_any(&event.reason),
        actor,
        labels: event
            .labels
            .iter()
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect::<BTreeMap<_, _>>(),
        entities: about.entities.into_list(),
        payload: payload.unwrap_or(Payload::Other),
        identity,
    })
}

/// What the envelope amends and what a payload of the ledger's family amends must be the same.
fn agreed(envelope: RecordKind, payload: Option<RecordKind>) -> Result<RecordKind, Refusal> {
    match (envelope, payload) {
        (envelope, None) => Ok(envelope),
        (RecordKind::Assertion, Some(payload)) => Ok(payload),
        (envelope, Some(payload)) if envelope == payload => Ok(envelope),
        (
            RecordKind::Correction(at) | RecordKind::Retraction(at) | RecordKind::Redaction(at),
            Some(_),
        ) => Err(Refusal::new(
            Code::Contradiction,
            "amends",
            at,
            "not what the payload amends",
        )
        .with_hint("name the amended event in the envelope only, without a payload")),
    }
}

/// Nothing said is REPORTED; a word newer than this version claims no more than it must.
fn basis(number: i32, occur_time: Option<Time>) -> Basis {
    match pb::OccurTimeBasis::try_from(number) {
        Ok(pb::OccurTimeBasis::Unspecified | pb::OccurTimeBasis::Reported) => Basis::Reported,
        Ok(pb::OccurTimeBasis::AuthorClock) => Basis::AuthorClock,
        Ok(pb::OccurTimeBasis::Derived) => Basis::Derived,
        Ok(pb::OccurTimeBasis::Delivery) => Basis::Delivery,
        Err(_) if occur_time.is_some() => Basis::Derived,
        Err(_) => Basis::Delivery,
    }
}
