//! JetStream's API: a request in JSON, an answer in JSON, errors by number.
use bytes::Bytes;
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use waybill_ledger::stream::BrokerFault;

use crate::link::Link;

/// There is no such consumer.
pub(crate) const CONSUMER_NOT_FOUND: u64 = 10_014;
/// There is no such message.
pub(crate) const MESSAGE_NOT_FOUND: u64 = 10_037;
/// There is a stream of that name, of other configuration.
pub(crate) const STREAM_NAME_IN_USE: u64 = 10_058;
/// There is no such stream.
pub(crate) const STREAM_NOT_FOUND: u64 = 10_059;
/// Another stream has one of the subjects.
pub(crate) const SUBJECTS_OVERLAP: u64 = 10_065;

/// JetStream's no.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct ApiError {
    /// As in HTTP.
    #[serde(default)]
    code: u64,
    /// Which error it is; 0 from servers that do not number it.
    #[serde(default)]
    pub(crate) err_code: u64,
    #[serde(default)]
    description: String,
}

impl ApiError {
    /// What it means for who asked: 503 is a server that cannot now, but for those that somebody must mend.
    pub(crate) fn fault(&self) -> BrokerFault {
        let Self {
            code,
            err_code,
            description,
        } = self;
        let text = format!("{description} ({err_code})");
        if (*code == 503 && !MENDED_BY_HAND.contains(err_code)) || PASSING.contains(err_code) {
            BrokerFault::Away(text)
        } else {
            BrokerFault::Refused(text)
        }
    }
}

/// Answers with 503 that do not pass by themselves: resources are used up (10002, 10023, 10028, 10047, 10077), or
/// JetStream is off (10039, 10076).
const MENDED_BY_HAND: &[u64] = &[10_002, 10_023, 10_028, 10_039, 10_047, 10_076, 10_077];

/// Answers without 503 that pass: no leader (10006 to 10009), a stream or consumer that is not up (10118, 10119), and too
/// many requests (10167).
const PASSING: &[u64] = &[10_006, 10_007, 10_008, 10_009, 10_118, 10_119, 10_167];

/// Asks the API; the outer error says that there was no answer.
pub(crate) async fn ask(
    link: &Link,
    verb: &str,
    body: &Value,
) -> Result<Result<Value, ApiError>, BrokerFault> {
    // An empty request is one without a body.
    let body = if body.is_null() {
        Bytes::new()
    } else {
        body.to_string().into()
    };
    let answer = link.request(format!("$JS.API.{verb}"), None, body).await?;
    answer_of(&answer.payload)
}

/// Reads an answer, of the API or to a publish.
pub(crate) fn answer_of(payload: &[u8]) -> Result<Result<Value, ApiError>, BrokerFault> {
    let mut value: Value = serde_json::from_slice(payload)
        .map_err(|error| BrokerFault::Refused(format!("an answer is no JSON: {error}")))?;
    match value.get_mut("error").map(Value::take) {
        Some(error) => Ok(Err(read(error)?)),
        None => Ok(Ok(value)),
    }
}

/// Reads what an answer must hold.
pub(crate) fn read<T: DeserializeOwned>(value: Value) -> Result<T, BrokerFault> {
    serde_json::from_value(value)
        .map_err(|error| BrokerFault::Refused(format!("an answer is not as it should be: {error}")))
}
