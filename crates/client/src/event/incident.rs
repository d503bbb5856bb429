//! Incidents.
use waybill_proto::pb::{self, event::Payload, incident_event};

use super::Draft;

/// An incident, from its detection to its end.
///
/// ```
/// use waybill_client::Incident;
///
/// let incident = Incident::new("INC-212", "production").service("checkout").severity("2");
/// let (detected, resolved) = (incident.detected(), incident.resolved("rolled back"));
/// ```
#[derive(Clone, Debug)]
pub struct Incident {
    info: pb::IncidentInfo,
}

impl Incident {
    /// Names the incident and the environment; `unknown` where that is not known.
    #[must_use]
    pub fn new(incident_id: impl Into<String>, environment: impl Into<String>) -> Self {
        let (incident_id, environment) = (incident_id.into(), environment.into());
        Self {
            info: pb::IncidentInfo {
                incident_id,
                environment,
                ..Default::default()
            },
        }
    }

    texts! { info:
        /// How bad it is, in your own words.
        severity,
        /// How urgent it is, in your own words.
        priority,
        /// Its title.
        title,
        /// Its ticket.
        ticket_uri,
        /// A page for people.
        uri,
        /// The tool that runs it.
        provider,
        /// The tool's id of this very step.
        transition_id,
    }

    /// Adds a service that it hurts.
    #[must_use]
    pub fn service(mut self, service: impl Into<String>) -> Self {
        self.info.services.push(service.into());
        self
    }

    /// Adds the entity name of something that may have caused it.
    #[must_use]
    pub fn suspect(mut self, entity: impl Into<String>) -> Self {
        self.info.suspected_causes.push(entity.into());
        self
    }

    /// A machine noticed it.
    #[must_use]
    pub fn detected(&self) -> Draft {
        self.step(|incident| incident_event::Event::Detected(pb::IncidentDetected { incident }))
    }

    /// A person noticed it: see [`crate::actor`].
    #[must_use]
    pub fn reported(&self, reporter: Option<pb::Actor>) -> Draft {
        self.step(|incident| {
            incident_event::Event::Reported(pb::IncidentReported { incident, reporter })
        })
    }

    /// Somebody is on it.
    #[must_use]
    pub fn acknowledged(&self) -> Draft {
        self.step(|incident| {
            incident_event::Event::Acknowledged(pb::IncidentAcknowledged { incident })
        })
    }

    /// What is known of it changed.
    #[must_use]
    pub fn updated(&self) -> Draft {
        self.step(|incident| incident_event::Event::Updated(pb::IncidentUpdated { incident }))
    }

    /// It no longer hurts.
    #[must_use]
    pub fn mitigated(&self) -> Draft {
        self.step(|incident| incident_event::Event::Mitigated(pb::IncidentMitigated { incident }))
    }

    /// It is over, and how; empty where nothing is said.
    #[must_use]
    pub fn resolved(&self, resolution: impl Into<String>) -> Draft {
        let resolution = resolution.into();
        self.step(|incident| {
            incident_event::Event::Resolved(pb::IncidentResolved {
                incident,
                resolution,
            })
        })
    }

    /// It is not over after all.
    #[must_use]
    pub fn reopened(&self) -> Draft {
        self.step(|incident| incident_event::Event::Reopened(pb::IncidentReopened { incident }))
    }

    /// It is the same as another incident.
    #[must_use]
    pub fn merged(&self, merged_into: impl Into<String>) -> Draft {
        let merged_into = merged_into.into();
        self.step(|incident| {
            incident_event::Event::Merged(pb::IncidentMerged {
                incident,
                merged_into,
            })
        })
    }

    /// It was none; why may be empty.
    #[must_use]
    pub fn cancelled(&self, reason: impl Into<String>) -> Draft {
        let reason = reason.into();
        self.step(|incident| {
            incident_event::Event::Cancelled(pb::IncidentCancelled { incident, reason })
        })
    }

    fn step(&self, step: impl FnOnce(Option<pb::IncidentInfo>) -> incident_event::Event) -> Draft {
        let event = Some(step(Some(self.info.clone())));
        Draft::of(Payload::Incident(pb::IncidentEvent { event }))
    }
}
