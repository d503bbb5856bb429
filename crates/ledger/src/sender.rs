//! Who hands events in, and for which sources they may speak (LEDGER E6, A1).
use std::sync::Arc;

use waybill_core::{Code, Event, Refusal, event::RecordKind};
use waybill_proto::kinds::OPERATOR_KINDS;

/// Who hands events in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sender {
    /// The verified name, kept with the record; empty where nobody was asked.
    pub name: Arc<str>,
    /// For which sources it may speak.
    pub scope: Scope,
}

/// For which sources a sender may speak.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Scope {
    /// An operator, or a caller on an open loopback address: any source, any amendment.
    Everything,
    /// An emitter: these sources, and amendments of their events only.
    Sources(Arc<[SourcePattern]>),
}

/// A source, or the beginning of sources.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum SourcePattern {
    /// This source.
    Exactly(Arc<str>),
    /// Every source that begins so.
    Beginning(Arc<str>),
}

impl SourcePattern {
    /// Reads `//ci.acme.dev/checkout`, or `//ci.acme.dev/*` for all that begin so.
    #[must_use]
    pub fn read(text: &str) -> Self {
        match text.strip_suffix('*') {
            Some(beginning) => Self::Beginning(beginning.into()),
            None => Self::Exactly(text.into()),
        }
    }

    /// Whether a source is meant.
    #[must_use]
    pub fn covers(&self, source: &str) -> bool {
        match self {
            Self::Exactly(exactly) => &**exactly == source,
            Self::Beginning(beginning) => source.starts_with(&**beginning),
        }
    }
}

impl Sender {
    /// A caller that nobody was asked about, on an address that is open to this machine only.
    #[must_use]
    pub fn unverified() -> Self {
        Self {
            name: Arc::from(""),
            scope: Scope::Everything,
        }
    }

    /// Whether it may speak for a source.
    #[must_use]
    pub fn covers(&self, source: &str) -> bool {
        match &self.scope {
            Scope::Everything => true,
            Scope::Sources(patterns) => patterns.iter().any(|pattern| pattern.covers(source)),
        }
    }

    /// Checks that it may say this (LEDGER E6): its own sources, amendments of their events, and of the ledger's own family
    /// only what emitters tell of themselves.
    ///
    /// # Errors
    /// [`Code::NotAllowed`], naming the field.
    pub fn check(&self, event: &Event) -> Result<(), Refusal> {
        let Scope::Sources(_) = &self.scope else {
            return Ok(());
        };
        self.check_source("source", &event.identity.source)?;
        match &event.record_kind {
            RecordKind::Assertion => {}
            RecordKind::Correction(amended)
            | RecordKind::Retraction(amended)
            | RecordKind::Redaction(amended) => {
                self.check_source("amends.source", &amended.source)?;
            }
        }
        if OPERATOR_KINDS.contains(&&*event.kind.0) {
            let rule = "a kind that only an operator may emit";
            return Err(Refusal::new(Code::NotAllowed, "type", &event.kind.0, rule)
                .with_hint("ask somebody who has a token with the role operate"));
        }
        Ok(())
    }

    fn check_source(&self, field: &str, source: &str) -> Result<(), Refusal> {
        if self.covers(source) {
            return Ok(());
        }
        let rule = format!("not a source that `{}` may speak for", self.name);
        Err(Refusal::new(Code::NotAllowed, field, source, rule)
            .with_hint("emit under a source of your token, or ask for a token of this source"))
    }
}
