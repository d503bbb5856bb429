//! Page tokens: where a list goes on, bound to the query and to the position that the list is read at (AIP-158).
//!
//! A token is base64url over {version, first 8 bytes of a SHA-256 over the query, next, read at}. It is opaque, not
//! secret: forging one shows nothing that a list would not show.
use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
use sha2::{Digest, Sha256};
use waybill_core::{Code, Refusal};

const VERSION: u8 = 1;
const BYTES: usize = 1 + 8 + 8 + 8;

/// Where a list goes on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct PageToken {
    /// The first entry of the next page.
    pub(crate) next: u64,
    /// The position that the whole list is read at.
    pub(crate) read_at: u64,
}

/// What a token is bound to: the ledger, the method and the request without its paging.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Query([u8; 8]);

impl Query {
    pub(crate) fn new(ledger_id: &str, method: &str, request: &impl prost::Message) -> Self {
        let mut hasher = Sha256::new();
        for part in [ledger_id, method] {
            hasher.update(part.as_bytes());
            hasher.update([0]);
        }
        hasher.update(request.encode_to_vec());
        let mut digest = [0; 8];
        digest.copy_from_slice(&hasher.finalize()[..8]);
        Self(digest)
    }
}

impl PageToken {
    pub(crate) fn encode(self, query: Query) -> String {
        let mut bytes = Vec::with_capacity(BYTES);
        bytes.push(VERSION);
        bytes.extend(query.0);
        bytes.extend(self.next.to_be_bytes());
        bytes.extend(self.read_at.to_be_bytes());
        URL_SAFE_NO_PAD.encode(bytes)
    }

    /// Reads a token; an empty one is the first page.
    pub(crate) fn decode(token: &str, query: Query) -> Result<Option<Self>, Refusal> {
        if token.is_empty() {
            return Ok(None);
        }
        let refuse = |code, rule: &str| {
            Refusal::new(code, "page_token", token, rule)
                .with_hint("start again without a page token")
        };
        let bytes = URL_SAFE_NO_PAD.decode(token).ok();
        let Some([VERSION, rest @ ..]) = bytes.as_deref().filter(|bytes| bytes.len() == BYTES)
        else {
            return Err(refuse(Code::Malformed, "not a page token of this server"));
        };
        let (digest, places) = rest.split_at(8);
        if digest != query.0 {
            return Err(refuse(
                Code::Contradiction,
                "the token of another query: all fields but page_size must stay",
            ));
        }
        let (next, read_at) = places.split_at(8);
        Ok(Some(Self {
            next: number(next),
            read_at: number(read_at),
        }))
    }
}

fn number(bytes: &[u8]) -> u64 {
    bytes
        .iter()
        .fold(0, |number, byte| number << 8 | u64::from(*byte))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_goes_on_with_its_own_query_only() {
        let query = |text: &str| Query::new("ledger", "List", &text.to_owned());
        let token = PageToken {
            next: 41,
            read_at: u64::MAX,
        };
        let text = token.encode(query("a"));
        assert_eq!(PageToken::decode(&text, query("a")), Ok(Some(token)));
        assert_eq!(PageToken::decode("", query("a")), Ok(None));
        assert_eq!(
            PageToken::decode(&text, query("b")).unwrap_err().code,
            Code::Contradiction
        );
        let elsewhere = Query::new("ledger", "Other", &"a".to_owned());
        assert!(PageToken::decode(&text, elsewhere).is_err());
        for bad in ["!", "AAAA", &text[1..], &text.replace('A', "B")] {
            assert!(PageToken::decode(bad, query("a")).is_err(), "{bad}");
        }
    }
}
