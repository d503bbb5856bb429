//! `event`: show one, and amend history by adding to it. Every change prints its event and the line that undoes it.
use std::path::PathBuf;

use bytes::Bytes;
use prost::Message as _;
use waybill_core::{Entity, EntityKind};
use waybill_proto::pb::{
    Event, EventRef, GetEventRequest, LinkAsserted, LinkEvent, LinkMethod, OccurTimeBasis,
    RecordKind, RecordedEvent, TraceRequest, emit_result::Result as Emitted, event::Payload,
    get_event_request::Key, link_event,
};

use crate::{
    args::{EventCommand, EventRefArgs},
    context::{Context, Missing},
    exit::{Exit, Failure},
    json,
    output::{self, Style, clean},
    source::Source,
    table::{Table, styled},
    when, words,
};

use super::{identity, trace};

mod group;

use group::Group;

/// Does what was asked with one event.
pub(crate) async fn run(context: &Context, command: EventCommand) -> Result<(), Failure> {
    let source = context.source(Missing::Refuse).await?;
    match command {
        EventCommand::Show { event } => show(context, &source, &event).await?,
        EventCommand::Correct {
            event,
            set,
            because,
        } => {
            let recorded = get(&source, key(&event.event)?).await?;
            let group = Group::of(&source, &recorded).await?;
            let corrected = correct(context, &recorded, &set, because, &group)?;
            record(context, &source, corrected, "corrected").await?;
        }
        EventCommand::Retract { event, because } => {
            let recorded = get(&source, key(&event.event)?).await?;
            let retracted = retract(context, &recorded, because)?;
            record(context, &source, retracted, "retracted").await?;
            say_what_stands(context, &source, &recorded).await;
        }
        EventCommand::Link {
            incident,
            cause,
            because,
            confidence,
        } => {
            let event = link(context, &source, &incident, &cause, because, confidence).await?;
            record(context, &source, event, "linked").await?;
        }
    }
    source.close().await
}

async fn show(context: &Context, source: &Source, event: &EventRefArgs) -> Result<(), Failure> {
    let recorded = get(source, key(&event.event)?).await?;
    if context.out.json {
        return context.out.message("RecordedEvent", &recorded);
    }
    let mut table = Table::new(&["", ""]);
    let actor = recorded
        .event
        .as_ref()
        .and_then(|event| event.actor.as_ref());
    let sender = match recorded.sender.as_str() {
        "" => "not verified: whoever is named is only claimed".to_owned(),
        sender => format!("{} (verified)", clean(sender)),
    };
    for (name, value) in [
        ("position", words::count(recorded.position)),
        ("recorded", words::moment(recorded.record_time.as_ref())),
        ("kind", clean(&recorded.kind)),
        ("no fact", super::log::why_no_fact(&recorded)),
        ("subject", clean(&recorded.subject)),
        ("sender", sender),
        (
            "actor",
            actor.map_or_else(String::new, |actor| {
                format!("{} (claimed)", clean(&actor.id))
            }),
        ),
        (
            "about",
            recorded
                .entities
                .iter()
                .map(|entity| clean(entity))
                .collect::<Vec<_>>()
                .join(" "),
        ),
        ("leaf hash", hex::encode(&recorded.leaf_hash)),
        ("natural key", hex::encode(&recorded.natural_key)),
    ] {
        if !value.is_empty() {
            table.row(vec![styled(Style::Faint, name), value.into()]);
        }
    }
    context.out.table(&table)?;
    context
        .out
        .message("Event", &recorded.event.unwrap_or_default())
}

async fn get(source: &Source, key: Key) -> Result<RecordedEvent, Failure> {
    let request = GetEventRequest {
        key: Some(key),
        at_least: None,
    };
    let answer = source
        .answer(source.ledger().get_event(source.request(request)))
        .await?;
    answer
        .event
        .ok_or_else(|| Failure::new(Exit::NotFound, "the server answered without an event"))
}

/// What an event was called: a position, or source and id.
fn key(typed: &[String]) -> Result<Key, Failure> {
    match typed {
        [source, id] => Ok(Key::Event(EventRef {
            source: source.clone(),
            id: id.clone(),
            position: 0,
        })),
        [one] => {
            if let Some((source, id)) = one.split_once(' ') {
                return Ok(Key::Event(EventRef {
                    source: source.to_owned(),
                    id: id.to_owned(),
                    position: 0,
                }));
            }
            let number = one
                .strip_prefix("seq:")
                .or_else(|| one.strip_prefix("evt:"))
                .unwrap_or(one);
            let position = number.parse().ok().filter(|position| *position > 0);
            position.map(Key::Position).ok_or_else(|| {
                Failure::usage(format!(
                    "the event is `{}`, neither a position nor a source with its id",
                    waybill_core::refusal::shown(one)
                ))
                .with_hint("write 184223, or SOURCE ID")
            })
        }
        _ => Err(Failure::usage(
            "an event is a position, or a source and an id",
        )),
    }
}

/// The event as it should have been: the whole, with the named fields set. It wins over all that the group says so
/// far, unless a revision was named.
fn correct(
    context: &Context,
    recorded: &RecordedEvent,
    set: &[String],
    because: String,
    group: &Group,
) -> Result<Event, Failure> {
    let original = recorded.event.clone().unwrap_or_default();
    let mut value = json::value("Event", &original)?;
    for assignment in set {
        assign(&mut value, assignment)?;
    }
    let changed = json::event(&value.to_string())?;
    if changed == original {
        return Err(Failure::usage(
            "the correction changes nothing: the event says so already",
        ));
    }
    if (&changed.source, &changed.id) != (&original.source, &original.id) {
        return Err(
            Failure::usage("source and id name the event and cannot be corrected")
                .with_hint("retract it, and emit another"),
        );
    }
    let names_revision = set
        .iter()
        .any(|assignment| assignment.starts_with("revision="));
    let revision = match names_revision {
        true => changed.revision,
        false => group.next_revision()?,
    };
    let amended = amend(context, &original, RecordKind::Correction, because)?;
    Ok(Event {
        revision,
        id: amended.id,
        record_kind: amended.record_kind,
        amends: amended.amends,
        reason: amended.reason,
        produce_time: amended.produce_time,
        ..changed
    })
}

fn retract(context: &Context, recorded: &RecordedEvent, because: String) -> Result<Event, Failure> {
    let original = recorded.event.clone().unwrap_or_default();
    let amended = amend(context, &original, RecordKind::Retraction, because)?;
    Ok(Event {
        payload: original.payload,
        service: original.service,
        environment: original.environment,
        ..amended
    })
}

/// The envelope of an amendment. It is said by the same source as what it amends (LEDGER E6).
fn amend(
    context: &Context,
    original: &Event,
    kind: RecordKind,
    because: String,
) -> Result<Event, Failure> {
    let word = if kind == RecordKind::Correction {
        "correction"
    } else {
        "retraction"
    };
    Ok(Event {
        source: original.source.clone(),
        id: format!("{word}-{}", identity::random_hex()?),
        r#type: original.r#type.clone(),
        occur_time: Some(when::proto_time(context.now)),
        occur_time_basis: OccurTimeBasis::Derived.into(),
        produce_time: Some(when::proto_time(context.now)),
        record_kind: kind.into(),
        amends: Some(EventRef {
            source: original.source.clone(),
            id: original.id.clone(),
            position: 0,
        }),
        reason: because,
        ..Event::default()
    })
}

/// Sets one field of an event in JSON: `labels.team=payments`, `deployment.finished.outcome=OUTCOME_FAILURE`.
fn assign(value: &mut serde_json::Value, assignment: &str) -> Result<(), Failure> {
    let (path, text) = assignment
        .split_once('=')
        .ok_or_else(|| wrong(assignment, "not PATH=VALUE"))?;
    let plain = serde_json::Value::String(text.to_owned());
    let place = place_at(value, path, assignment)?;
    // What reads as JSON is meant as JSON, unless the field holds text: `true`, `12`, `["a"]`, else plain text.
    *place = match (&place, serde_json::from_str(text)) {
        (serde_json::Value::String(_), _) | (_, Err(_)) => plain.clone(),
        (_, Ok(parsed)) => parsed,
    };
    // A field that was not there does not say whether it holds text: the contract does.
    if json::event(&value.to_string()).is_err() {
        let mut with_text = value.clone();
        *place_at(&mut with_text, path, assignment)? = plain;
        if json::event(&with_text.to_string()).is_ok() {
            *value = with_text;
        }
    }
    Ok(())
}

/// Where a path leads, made on the way where there is nothing yet.
fn place_at<'a>(
    value: &'a mut serde_json::Value,
    path: &str,
    assignment: &str,
) -> Result<&'a mut serde_json::Value, Failure> {
    use serde_json::Value;
    let mut place = value;
    for key in path.split('.') {
        if place.is_null() {
            *place = Value::Object(serde_json::Map::new());
        }
        place = match place {
            Value::Object(map) => map.entry(key.to_owned()).or_insert(Value::Null),
            Value::Array(list) => {
                let index: usize = key.parse().map_err(|_| {
                    wrong(
                        assignment,
                        &format!("and `{key}` is not an index of a list"),
                    )
                })?;
                let count = list.len();
                list.get_mut(index).ok_or_else(|| {
                    wrong(assignment, &format!("and the list has {count} entries"))
                })?
            }
            _ => {
                return Err(wrong(
                    assignment,
                    &format!("and there is nothing below `{key}`"),
                ));
            }
        };
    }
    Ok(place)
}

fn wrong(assignment: &str, why: &str) -> Failure {
    Failure::usage(format!(
        "--set is `{}`, {why}",
        waybill_core::refusal::shown(assignment)
    ))
}

/// A link from what a REF means to an incident.
async fn link(
    context: &Context,
    source: &Source,
    incident: &str,
    cause: &str,
    because: String,
    confidence: Option<f64>,
) -> Result<Event, Failure> {
    let incident = Entity::named(EntityKind::Incident, incident)
        .map_err(|refusal| Failure::from(refusal.within("the incident")))?;
    let cause = match Entity::parse(cause) {
        Ok(entity) => entity.as_str().to_owned(),
        Err(_) => {
            trace::ask(
                source,
                TraceRequest {
                    r#ref: cause.to_owned(),
                    max_nodes: 1,
                    ..TraceRequest::default()
                },
            )
            .await?
            .entity
        }
    };
    let link_id = identity::random_hex()?;
    let asserted = LinkAsserted {
        link_id: link_id.clone(),
        from_entity: cause,
        to_entity: incident.as_str().to_owned(),
        method: LinkMethod::Explicit.into(),
        confidence,
        because,
    };
    Ok(Event {
        source: identity::source(context),
        id: format!("link-{link_id}"),
        occur_time: Some(when::proto_time(context.now)),
        occur_time_basis: OccurTimeBasis::Derived.into(),
        payload: Some(Payload::Link(LinkEvent {
            event: Some(link_event::Event::Asserted(asserted)),
        })),
        ..Event::default()
    })
}

/// Records an event and says how to undo it.
async fn record(
    context: &Context,
    source: &Source,
    event: Event,
    done: &str,
) -> Result<(), Failure> {
    let answer = source
        .emit(vec![Bytes::from(event.encode_to_vec())])
        .await?;
    if context.out.json {
        context.out.message("EmitResponse", &answer)?;
    }
    match answer
        .results
        .into_iter()
        .next()
        .and_then(|result| result.result)
    {
        Some(Emitted::Receipt(receipt)) => {
            if !context.out.json {
                context.out.line(format!(
                    "{done} seq:{}  {} {}",
                    receipt.position,
                    clean(&event.source),
                    clean(&event.id)
                ))?;
            }
            output::say(format!("undo: {}", retracting(context, &event)));
            Ok(())
        }
        Some(Emitted::Refusal(refusal)) => Err(identity::rejection(&refusal)),
        None => Err(Failure::unexpected(
            "the server did not say what became of the event",
        )),
    }
}

/// A retraction takes out one event only (LEDGER E6): says which corrections of it stand, and how to take them out too.
async fn say_what_stands(context: &Context, source: &Source, retracted: &RecordedEvent) {
    let group = match Group::of(source, retracted).await {
        Ok(group) => group,
        Err(failure) => {
            return output::say(format!(
                "note: whether a correction of it still stands is not known: {failure}"
            ));
        }
    };
    for correction in group.standing_corrections() {
        output::say(format!(
            "note: a correction of it still stands: {}",
            retracting(context, correction)
        ));
    }
}

/// The line that takes an event out.
fn retracting(context: &Context, event: &Event) -> String {
    format!(
        "waybill event retract {} {}{} --because TEXT",
        words::quoted(&event.source),
        words::quoted(&event.id),
        place(context)
    )
}

/// The flags that name the same ledger again; settings name it by themselves.
fn place(context: &Context) -> String {
    let global = &context.global;
    let directory = |directory: &PathBuf| directory.to_string_lossy().into_owned();
    let flags = [
        ("--server", global.server.clone()),
        ("--context", global.context.clone()),
        ("--ledger", global.ledger.as_ref().map(directory)),
        ("--state", global.state.as_ref().map(directory)),
    ];
    flags
        .into_iter()
        .filter_map(|(flag, value)| Some(format!(" {flag} {}", words::quoted(&value?))))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assigned(assignment: &str) -> Result<String, Failure> {
        let mut value = serde_json::json!({
            "id": "1",
            "labels": { "team": "a" },
            "deployment": { "finished": { "deployment": { "revisions": [{ "revision": "abc" }] } } },
        });
        assign(&mut value, assignment)?;
        Ok(value.to_string())
    }

    #[test]
    fn sets_fields_by_their_path() {
        assert!(
            assigned("labels.team=12")
                .unwrap()
                .contains(r#""team":"12""#),
            "text stays text"
        );
        assert!(assigned("labels.new=x").unwrap().contains(r#""new":"x""#));
        assert!(
            assigned("labels.new=17").unwrap().contains(r#""new":"17""#),
            "text that was not there is text"
        );
        assert!(
            assigned("deployment.finished.deployment.revisions.0.revision=def")
                .unwrap()
                .contains(r#""revision":"def""#)
        );
        assert!(
            assigned("deployment.finished.exitCode=3")
                .unwrap()
                .contains(r#""exitCode":3"#)
        );
        assert!(
            assigned("actor.id=me")
                .unwrap()
                .contains(r#""actor":{"id":"me"}"#)
        );
    }

    #[test]
    fn refuses_paths_that_lead_nowhere() {
        for (assignment, why) in [
            ("labels.team", "not PATH=VALUE"),
            ("id.below=1", "nothing below"),
            (
                "deployment.finished.deployment.revisions.7.revision=x",
                "1 entries",
            ),
            (
                "deployment.finished.deployment.revisions.x=1",
                "not an index",
            ),
        ] {
            let failure = assigned(assignment).unwrap_err();
            assert!(failure.to_string().contains(why), "{failure}");
        }
    }

    #[test]
    fn reads_events_by_position_or_identity() {
        let read = |words: &[&str]| {
            key(&words
                .iter()
                .map(|word| (*word).to_owned())
                .collect::<Vec<_>>())
        };
        assert_eq!(read(&["seq:12"]).unwrap(), Key::Position(12));
        assert_eq!(read(&["12"]).unwrap(), Key::Position(12));
        assert!(
            matches!(read(&["//ci", "run 1"]).unwrap(), Key::Event(event) if event.id == "run 1")
        );
        assert!(
            matches!(read(&["//ci run"]).unwrap(), Key::Event(event) if event.source == "//ci")
        );
        assert!(read(&["0"]).is_err());
        assert!(read(&["banana"]).is_err());
    }
}
