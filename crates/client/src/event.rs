//! Events before they are sent: builders give a [`Draft`], an emitter makes it an [`Event`] that no longer changes.
use std::time::SystemTime;

use bytes::Bytes;
use prost_types::Timestamp;
use waybill_core::{Identity, Kind};
use waybill_proto::{
    parse,
    pb::{self, event::Payload},
};

use crate::{error::Refusal, id::Id};

/// Adds one method for each optional text of a builder's message.
macro_rules! texts {
    ($part:ident: $($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        $(
            $(#[$doc])*
            #[must_use]
            pub fn $name(mut self, $name: impl Into<String>) -> Self {
                self.$part.$name = $name.into();
                self
            }
        )+
    };
}

mod build;
mod change;
mod commit;
mod deployment;
mod flag;
mod incident;
mod metric;

pub use build::Build;
pub use change::Change;
pub use commit::Commit;
pub use deployment::Deployment;
pub use flag::Flag;
pub use incident::Incident;
pub use metric::{MetricDefinition, MetricWindow};

/// What happened, before it has a source. Everything required is in it already; what is added here is optional.
#[derive(Clone, Debug, PartialEq)]
pub struct Draft(pub(crate) pb::Event);

impl Draft {
    /// Drafts an event of any family of the contract, for those without a builder here.
    #[must_use]
    pub fn of(payload: Payload) -> Self {
        Self(pb::Event {
            payload: Some(payload),
            ..pb::Event::default()
        })
    }

    /// Sets its id. Without this the emitter makes a random one.
    #[must_use]
    pub fn id(mut self, id: &Id) -> Self {
        self.0.id = id.as_str().to_owned();
        self
    }

    /// Says when it happened, as the system where it happened reports it.
    ///
    /// Without this the emitter's clock is taken and the time marked as derived, which leaves it out of the event's
    /// content: sent again later under the same id, it is a duplicate.
    #[must_use]
    pub fn at(self, time: SystemTime) -> Self {
        self.at_with(time, pb::OccurTimeBasis::Reported)
    }

    /// Says when it happened and how that is known.
    #[must_use]
    pub fn at_with(mut self, time: SystemTime, basis: pb::OccurTimeBasis) -> Self {
        self.0.occur_time = Some(Timestamp::from(time));
        self.0.occur_time_basis = basis.into();
        self
    }

    /// Says that nobody knows when it happened.
    #[must_use]
    pub fn at_unknown_time(mut self) -> Self {
        self.0.occur_time = None;
        self.0.occur_time_basis = pb::OccurTimeBasis::Delivery.into();
        self
    }

    /// Says who did it: see [`crate::actor`].
    #[must_use]
    pub fn actor(mut self, actor: pb::Actor) -> Self {
        self.0.actor = Some(actor);
        self
    }

    /// Adds a label; at most 64.
    #[must_use]
    pub fn label(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.0.labels.insert(key.into(), value.into());
        self
    }

    /// Names an event that led to this one.
    #[must_use]
    pub fn caused_by(mut self, source: impl Into<String>, id: &Id) -> Self {
        self.0.causes.push(reference(source.into(), id));
        self
    }

    /// Groups the events of one activity.
    #[must_use]
    pub fn correlation(mut self, id: impl Into<String>) -> Self {
        self.0.correlation_id = id.into();
        self
    }

    /// Marks it as imported long after it happened.
    #[must_use]
    pub fn backfill(mut self) -> Self {
        self.0.backfill = true;
        self
    }

    /// Says that it stands instead of another event.
    #[must_use]
    pub fn correcting(self, source: impl Into<String>, id: &Id, why: impl Into<String>) -> Self {
        self.amending(
            pb::RecordKind::Correction,
            reference(source.into(), id),
            why.into(),
        )
    }

    /// Says that another event never held.
    #[must_use]
    pub fn retracting(self, source: impl Into<String>, id: &Id, why: impl Into<String>) -> Self {
        self.amending(
            pb::RecordKind::Retraction,
            reference(source.into(), id),
            why.into(),
        )
    }

    /// Changes anything else of the message. Source, id and times that are missing afterwards are filled in as always.
    #[must_use]
    pub fn edit(mut self, change: impl FnOnce(&mut pb::Event)) -> Self {
        change(&mut self.0);
        self
    }

    fn amending(mut self, kind: pb::RecordKind, amends: pb::EventRef, why: String) -> Self {
        self.0.record_kind = kind.into();
        self.0.amends = Some(amends);
        self.0.reason = why;
        self
    }
}

/// One event, as it is sent: its identity and its bytes are fixed, however often and from wherever it is sent.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    identity: Identity,
    kind: Kind,
    bytes: Bytes,
}

impl Event {
    /// Takes the bytes of an encoded `waybill.v1.Event` and checks them by the ledger's own rules.
    ///
    /// # Errors
    /// The refusal that the ledger would give.
    pub fn from_bytes(bytes: impl Into<Bytes>) -> Result<Self, Box<Refusal>> {
        let bytes = bytes.into();
        let parsed = parse::parse(&bytes).map_err(|refusal| Box::new(refusal.into()))?;
        Ok(Self {
            identity: parsed.identity,
            kind: parsed.kind,
            bytes,
        })
    }

    /// Who says so.
    #[must_use]
    pub fn source(&self) -> &str {
        &self.identity.source
    }

    /// What they call it.
    #[must_use]
    pub fn id(&self) -> &str {
        &self.identity.id
    }

    /// `<family>.<predicate>`.
    #[must_use]
    pub fn kind(&self) -> &str {
        &self.kind.0
    }

    /// The encoded message.
    #[must_use]
    pub fn bytes(&self) -> &Bytes {
        &self.bytes
    }

    /// Source and id, as other messages refer to it.
    #[must_use]
    pub fn reference(&self) -> pb::EventRef {
        pb::EventRef {
            source: self.source().to_owned(),
            id: self.id().to_owned(),
            position: 0,
        }
    }
}

fn reference(source: String, id: &Id) -> pb::EventRef {
    pb::EventRef {
        source,
        id: id.as_str().to_owned(),
        position: 0,
    }
}

fn revision(repository: impl Into<String>, revision: impl Into<String>) -> pb::Revision {
    pb::Revision {
        repository: repository.into(),
        revision: revision.into(),
    }
}

fn artifact(id: impl Into<String>, digest: impl Into<String>) -> pb::ArtifactRef {
    pb::ArtifactRef {
        id: id.into(),
        digest: digest.into(),
    }
}

/// A time span as the wire has it; one of more than 10,000 years is cut to that.
fn duration(span: std::time::Duration) -> prost_types::Duration {
    prost_types::Duration::try_from(span).unwrap_or(prost_types::Duration {
        seconds: 315_576_000_000,
        nanos: 0,
    })
}
