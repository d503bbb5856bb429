//! The events that an amendment joins: what it amends, what that amends in turn, and whatever amends any of them
//! (LEDGER E6).
use std::collections::HashSet;

use waybill_proto::pb::{
    AtLeast, Event, EventFilter, EventRef, ListEventsRequest, RecordKind, RecordedEvent,
    get_event_request::Key,
};

use crate::{
    command::status,
    exit::{Exit, Failure},
    source::Source,
};

const PAGE: i32 = 1_000;

/// An event, which comes first, and all that it is tied to by amendments.
#[derive(Debug)]
pub(super) struct Group(Vec<Event>);

impl Group {
    /// Finds the group of an event, as far as its members are about the same subject.
    ///
    /// # Errors
    /// When the ledger cannot be asked.
    pub(super) async fn of(source: &Source, recorded: &RecordedEvent) -> Result<Self, Failure> {
        let upwards = upwards(source, recorded).await?;
        let subjects: HashSet<&String> = upwards
            .iter()
            .filter_map(|recorded| recorded.entities.first())
            .collect();
        // What has a receipt may not be in the lists yet.
        let durable = status::ask(source).await?.durable_position;
        let mut amendments = Vec::new();
        for subject in subjects {
            amendments.extend(amendments_about(source, subject, durable).await?);
        }
        let events = upwards.into_iter().filter_map(|recorded| recorded.event);
        Ok(Self(tied(events.collect(), amendments)))
    }

    /// A revision above that of every member, so that what carries it speaks for the group (LEDGER E7).
    ///
    /// # Errors
    /// Where a member has the highest revision that there is.
    pub(super) fn next_revision(&self) -> Result<u32, Failure> {
        let highest = self.0.iter().map(|event| event.revision).max();
        highest.unwrap_or_default().checked_add(1).ok_or_else(|| {
            Failure::usage(
                "the event has the highest revision that there is: no correction can win over it",
            )
            .with_hint("retract it, and emit another")
        })
    }

    /// The corrections of the event itself, and of these, that no retraction took out.
    pub(super) fn standing_corrections(&self) -> Vec<&Event> {
        let mut below: Vec<&Event> = self.0.iter().take(1).collect();
        let mut seen = 0;
        while let Some(upper) = below.get(seen).copied() {
            seen += 1;
            let is_correction = |event: &&Event| {
                event.record_kind() == RecordKind::Correction
                    && amended(event) == Some(name(upper))
                    && !below.iter().any(|known| name(known) == name(event))
            };
            let corrections: Vec<&Event> = self.0.iter().filter(is_correction).collect();
            below.extend(corrections);
        }
        let corrections = below.into_iter().skip(1);
        corrections
            .filter(|event| self.stands(event, &mut Vec::new()))
            .collect()
    }

    /// Whether no working retraction names an event; one that comes back to itself does not work.
    fn stands<'e>(&'e self, event: &'e Event, path: &mut Vec<Name<'e>>) -> bool {
        path.push(name(event));
        let stands = !self.0.iter().any(|other| {
            other.record_kind() == RecordKind::Retraction
                && amended(other) == Some(name(event))
                && !path.contains(&name(other))
                && self.stands(other, path)
        });
        path.pop();
        stands
    }
}

type Name<'e> = (&'e str, &'e str);

fn name(event: &Event) -> Name<'_> {
    (&event.source, &event.id)
}

fn amended(event: &Event) -> Option<Name<'_>> {
    let amends = event.amends.as_ref()?;
    Some((&amends.source, &amends.id))
}

/// The event, what it amends, and so on to the root. What is not there yet ends the chain.
async fn upwards(source: &Source, recorded: &RecordedEvent) -> Result<Vec<RecordedEvent>, Failure> {
    let mut chain = vec![recorded.clone()];
    while let Some(next) = chain.last().and_then(above) {
        let is_known = |event: &Event| name(event) == (&next.source, &next.id);
        if chain
            .iter()
            .filter_map(|it| it.event.as_ref())
            .any(is_known)
        {
            break;
        }
        match super::get(source, Key::Event(next)).await {
            Ok(found) => chain.push(found),
            Err(failure) if failure.exit() == Exit::NotFound => break,
            Err(failure) => return Err(failure),
        }
    }
    Ok(chain)
}

fn above(recorded: &RecordedEvent) -> Option<EventRef> {
    let (source, id) = amended(recorded.event.as_ref()?)?;
    Some(EventRef {
        source: source.to_owned(),
        id: id.to_owned(),
        position: 0,
    })
}

async fn amendments_about(
    source: &Source,
    subject: &str,
    at_least: u64,
) -> Result<Vec<Event>, Failure> {
    let mut request = ListEventsRequest {
        page_size: PAGE,
        filter: Some(EventFilter {
            entity: subject.to_owned(),
            ..EventFilter::default()
        }),
        at_least: Some(AtLeast {
            position: at_least,
            ..AtLeast::default()
        }),
        ..ListEventsRequest::default()
    };
    let mut found = Vec::new();
    loop {
        let answer = source
            .answer(source.ledger().list_events(source.request(request.clone())))
            .await?;
        let events = answer.events.into_iter().filter_map(|it| it.event);
        found.extend(events.filter(|event| event.amends.is_some()));
        request.page_token = answer.next_page_token;
        if request.page_token.is_empty() {
            return Ok(found);
        }
    }
}

/// `events`, and of the amendments those that name one of them, or one that does.
fn tied(mut events: Vec<Event>, mut amendments: Vec<Event>) -> Vec<Event> {
    loop {
        let names: HashSet<Name<'_>> = events.iter().map(name).collect();
        amendments.retain(|event| !names.contains(&name(event)));
        let joins = |event: &Event| amended(event).is_some_and(|it| names.contains(&it));
        let (joining, others): (Vec<_>, Vec<_>) = amendments.into_iter().partition(joins);
        if joining.is_empty() {
            return events;
        }
        events.extend(joining);
        amendments = others;
    }
}
