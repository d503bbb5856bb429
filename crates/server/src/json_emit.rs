//! A batch of events in JSON: what is not an event is refused in its own place, the rest goes on.
use std::fmt;

use bytes::Bytes;
use prost::Message;
use serde::{
    Deserialize, Deserializer,
    de::{SeqAccess, Visitor},
};
use serde_json::value::RawValue;
use waybill_core::{Code, Refusal};
use waybill_ledger::Refused;
use waybill_proto::{json, limits::BATCH_EVENTS_MAX, pb, raw};

use crate::{shared::Shared, words::recorded};

/// The events of one request, in their order.
pub(crate) struct Batch<'a> {
    items: Vec<(&'a RawValue, Result<Bytes, Refusal>)>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Body<'a> {
    #[serde(borrow, default, deserialize_with = "events")]
    events: Events<'a>,
}

/// Events as they came, at most one more than a batch holds, so that a hostile list costs no more memory than its text.
#[derive(Default)]
struct Events<'a> {
    kept: Vec<&'a RawValue>,
    count: usize,
}

impl<'a> Batch<'a> {
    /// Reads a request.
    ///
    /// # Errors
    /// Refuses what is no request at all, and a batch of too many events.
    pub(crate) fn read(body: &'a [u8]) -> Result<Self, Refusal> {
        let refuse = |why: String| {
            Refusal::new(
                Code::Undecodable,
                "body",
                "",
                format!("not an EmitRequest: {why}"),
            )
            .with_hint("send {\"events\": [{…}, …]}")
        };
        // serde would read a list as the fields in their order.
        if !body.trim_ascii_start().starts_with(b"{") {
            return Err(refuse("an object is expected".to_owned()));
        }
        let body: Body<'_> =
            serde_json::from_slice(body).map_err(|error| refuse(error.to_string()))?;
        if body.events.count > BATCH_EVENTS_MAX {
            let rule = format!("a batch holds at most {BATCH_EVENTS_MAX} events");
            return Err(
                Refusal::new(Code::TooLarge, "events", body.events.count, rule)
                    .with_hint("send it in parts"),
            );
        }
        let read = |item: &'a RawValue| (item, json::event_from_json(item.get()).map(Bytes::from));
        Ok(Self {
            items: body.events.kept.into_iter().map(read).collect(),
        })
    }

    /// Puts on record what is not an event; the ledger does the same for what is.
    pub(crate) fn note_refusals(&self, shared: &Shared, sender: &str) {
        for (text, item) in &self.items {
            if let Err(refusal) = item {
                note(shared, sender, refusal, text.get().as_bytes());
            }
        }
    }

    /// True when the ledger need not be asked. An empty batch is the ledger's to answer.
    pub(crate) fn is_all_refused(&self) -> bool {
        !self.items.is_empty() && self.items.iter().all(|(_, item)| item.is_err())
    }

    /// The request for the events that are events, encoded.
    pub(crate) fn request(&self) -> Vec<u8> {
        let events = self
            .items
            .iter()
            .filter_map(|(_, item)| item.as_ref().ok().cloned())
            .collect();
        raw::EmitRequest { events }.encode_to_vec()
    }

    /// The whole answer, encoded: the ledger's results and our refusals, each in its place.
    ///
    /// # Errors
    /// Only when the ledger's answer cannot be read.
    pub(crate) fn with_results(self, answer: Bytes) -> Result<Vec<u8>, Refusal> {
        let answer = pb::EmitResponse::decode(answer)
            .map_err(|error| Refusal::new(Code::Undecodable, "", "", error.to_string()))?;
        let mut answered = answer.results.into_iter();
        let results = self.items.into_iter().filter_map(|(_, item)| match item {
            Ok(_) => answered.next(),
            Err(refusal) => Some(recorded::emit_result(&Err(Refused {
                refusal,
                recorded: None,
            }))),
        });
        Ok(pb::EmitResponse {
            results: results.collect(),
        }
        .encode_to_vec())
    }
}

/// Puts on record what was refused before the ledger saw it.
pub(crate) fn note(shared: &Shared, sender: &str, refusal: &Refusal, text: &[u8]) {
    let text = Bytes::copy_from_slice(text);
    shared.ledger.note_refusal(refusal, sender, &text);
    shared.metrics.rejected(refusal.code.as_str());
}

fn events<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Events<'de>, D::Error> {
    struct List;
    impl<'de> Visitor<'de> for List {
        type Value = Events<'de>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            f.write_str("a list of events")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut events = Events::default();
            while let Some(event) = list.next_element()? {
                events.count += 1;
                if events.kept.len() <= BATCH_EVENTS_MAX {
                    events.kept.push(event);
                }
            }
            Ok(events)
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Events::default())
        }
    }
    deserializer.deserialize_any(List)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_an_event_keeps_its_place() {
        let body = br#"{"events": [{"source": "/a", "id": "1"}, {"surce": "/a"}, 7]}"#;
        let batch = Batch::read(body).unwrap();
        assert!(!batch.is_all_refused());
        assert_eq!(
            raw::EmitRequest::decode(&*batch.request())
                .unwrap()
                .events
                .len(),
            1
        );
        let receipt = pb::emit_result::Result::Receipt(pb::Receipt {
            position: 5,
            ..Default::default()
        });
        let answer = pb::EmitResponse {
            results: vec![pb::EmitResult {
                result: Some(receipt),
            }],
        };
        let answer = batch.with_results(answer.encode_to_vec().into()).unwrap();
        let results = pb::EmitResponse::decode(&*answer).unwrap().results;
        let kinds: Vec<bool> = results
            .iter()
            .map(|it| matches!(it.result, Some(pb::emit_result::Result::Receipt(_))))
            .collect();
        assert_eq!(kinds, [true, false, false]);
    }

    #[test]
    fn what_is_not_a_request_is_refused_whole() {
        for body in [
            "",
            "[]",
            "{\"event\": []}",
            "{\"events\": {}}",
            "{\"events\": [}",
            "{\"events\": [], \"events\": []}",
        ] {
            assert!(Batch::read(body.as_bytes()).is_err(), "{body}");
        }
        assert!(Batch::read(b"{\"events\": null}").unwrap().items.is_empty());
        let many = format!("{{\"events\": [{}1]}}", "1,".repeat(BATCH_EVENTS_MAX));
        assert_eq!(
            Batch::read(many.as_bytes()).err().unwrap().code,
            Code::TooLarge
        );
    }
}
