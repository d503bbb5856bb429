//! proto3 JSON of the contract's messages: the same text that the server's JSON door gives, here also on several lines.
use prost::Message;
use waybill_core::Refusal;
use waybill_proto::{json, pb};

use crate::exit::{Exit, Failure};

/// A message on several lines, for people and files; its fields stand in their order.
///
/// # Errors
/// When the message is not one of the contract's.
pub(crate) fn pretty<M: Message>(name: &str, message: &M) -> Result<String, Failure> {
    Ok(indented(&line(name, message)?))
}

/// A message on one line.
///
/// # Errors
/// As [`pretty`].
pub(crate) fn line<M: Message>(name: &str, message: &M) -> Result<String, Failure> {
    json::message_to_json(&format!("waybill.v1.{name}"), &message.encode_to_vec()).map_err(
        |refusal| {
            Failure::unexpected(format!(
                "waybill.v1.{name} cannot be written as JSON: {refusal}"
            ))
        },
    )
}

/// A message as a JSON value.
///
/// # Errors
/// As [`pretty`].
pub(crate) fn value<M: Message>(name: &str, message: &M) -> Result<serde_json::Value, Failure> {
    serde_json::from_str(&line(name, message)?)
        .map_err(|error| Failure::unexpected(error.to_string()))
}

/// Reads one event; what breaks a rule is named by its path.
///
/// # Errors
/// A rejection, as the ledger would say it.
pub(crate) fn event(text: &str) -> Result<pb::Event, Failure> {
    let bytes = json::event_from_json(text).map_err(rejected)?;
    pb::Event::decode(bytes.as_slice()).map_err(|error| Failure::unexpected(error.to_string()))
}

/// Reads any message of the contract from a file that we wrote.
///
/// # Errors
/// A usage failure that names what is wrong with the text.
pub(crate) fn message<M: Message + Default>(name: &str, text: &[u8]) -> Result<M, Failure> {
    let bytes = json::message_from_json(&format!("waybill.v1.{name}"), text)?;
    M::decode(bytes.as_slice()).map_err(|error| Failure::unexpected(error.to_string()))
}

fn rejected(refusal: Refusal) -> Failure {
    Failure::new(Exit::Rejected, format!("rejected: {refusal}")).with_hint(refusal.hint)
}

/// Breaks compact JSON into lines, each level two spaces deeper.
fn indented(compact: &str) -> String {
    let mut out = String::with_capacity(compact.len() * 2);
    let (mut depth, mut in_string, mut escaped) = (0_usize, false, false);
    let mut chars = compact.chars().peekable();
    let break_line = |out: &mut String, depth: usize| {
        out.push('\n');
        out.extend(std::iter::repeat_n("  ", depth));
    };
    while let Some(c) = chars.next() {
        if in_string {
            out.push(c);
            in_string = escaped || c != '"';
            escaped = !escaped && c == '\\';
            continue;
        }
        match c {
            '{' | '[' => {
                out.push(c);
                if chars.peek().is_some_and(|next| matches!(next, '}' | ']')) {
                    out.extend(chars.next());
                } else {
                    depth += 1;
                    break_line(&mut out, depth);
                }
            }
            '}' | ']' => {
                depth = depth.saturating_sub(1);
                break_line(&mut out, depth);
                out.push(c);
            }
            ',' => {
                out.push(c);
                break_line(&mut out, depth);
            }
            ':' => out.push_str(": "),
            '"' => {
                in_string = true;
                out.push(c);
            }
            c if c.is_ascii_whitespace() => {}
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_say_the_same_in_the_same_order() {
        let compact = r#"{"z":"a,\"{b\\","list":[1,{"x":true}],"empty":{},"none":[]}"#;
        let expected = "\
{
  \"z\": \"a,\\\"{b\\\\\",
  \"list\": [
    1,
    {
      \"x\": true
    }
  ],
  \"empty\": {},
  \"none\": []
}";
        assert_eq!(indented(compact), expected);
    }

    #[test]
    fn events_survive_the_way_there_and_back() {
        let event = pb::Event {
            source: "//ci".to_owned(),
            id: "1".to_owned(),
            ..pb::Event::default()
        };
        assert_eq!(
            super::event(&pretty("Event", &event).unwrap()).unwrap(),
            event
        );
    }

    #[test]
    fn an_unknown_key_is_rejected_with_its_path() {
        let failure = event(r#"{"source":"//ci","deployment":{"finishd":{}}}"#).unwrap_err();
        assert_eq!(failure.exit(), Exit::Rejected);
        assert!(failure.to_string().contains("deployment"), "{failure}");
    }
}
