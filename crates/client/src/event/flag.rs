//! Feature flags.
use std::{collections::HashMap, time::SystemTime};

use waybill_proto::pb::{self, event::Payload, flag_event};

use super::Draft;

/// A feature flag in one environment.
///
/// ```
/// use waybill_client::Flag;
///
/// let draft = Flag::new("faster-checkout", "production").service("checkout").rolled_out(0.1, 0.5);
/// ```
#[derive(Clone, Debug)]
pub struct Flag {
    info: pb::FlagInfo,
}

impl Flag {
    /// Names the flag and the environment.
    #[must_use]
    pub fn new(flag_key: impl Into<String>, environment: impl Into<String>) -> Self {
        let (flag_key, environment) = (flag_key.into(), environment.into());
        Self {
            info: pb::FlagInfo {
                flag_key,
                environment,
                ..Default::default()
            },
        }
    }

    texts! { info:
        /// The service that it switches.
        service,
        /// The project or set that it lives in.
        set_id,
        /// Who serves it.
        provider,
        /// The provider's version of it.
        version,
        /// The provider's id of this very change.
        audit_id,
    }

    /// It came to be.
    #[must_use]
    pub fn created(&self) -> Draft {
        let flag = Some(self.info.clone());
        draft(flag_event::Event::Created(pb::FlagCreated { flag }))
    }

    /// It was changed: enabled, disabled, targeted otherwise, …
    #[must_use]
    pub fn changed(&self, change_type: pb::FlagChangeType) -> Draft {
        let flag = Some(self.info.clone());
        let change_type = change_type.into();
        draft(flag_event::Event::Changed(pb::FlagChanged {
            flag,
            change_type,
            ..Default::default()
        }))
    }

    /// Another share of users sees it, both 0 to 1.
    #[must_use]
    pub fn rolled_out(&self, ratio_before: f64, ratio_after: f64) -> Draft {
        draft(flag_event::Event::Changed(pb::FlagChanged {
            flag: Some(self.info.clone()),
            change_type: pb::FlagChangeType::RolloutChanged.into(),
            exposure_ratio_before: Some(ratio_before),
            exposure_ratio_after: Some(ratio_after),
            ..Default::default()
        }))
    }

    /// It is no longer used.
    #[must_use]
    pub fn archived(&self) -> Draft {
        let flag = Some(self.info.clone());
        draft(flag_event::Event::Archived(pb::FlagArchived { flag }))
    }

    /// How often each variant was served in `start..end`, one in `sample_rate` evaluations counted.
    #[must_use]
    pub fn exposures(
        &self,
        window: std::ops::Range<SystemTime>,
        counts: impl IntoIterator<Item = (impl Into<String>, u64)>,
        sample_rate: u32,
    ) -> Draft {
        let counts = counts
            .into_iter()
            .map(|(variant, count)| (variant.into(), count));
        draft(flag_event::Event::ExposureSummarized(
            pb::FlagExposureSummarized {
                flag: Some(self.info.clone()),
                variant_counts: counts.collect::<HashMap<_, _>>(),
                sample_rate,
                start_time: Some(window.start.into()),
                end_time: Some(window.end.into()),
            },
        ))
        .at(window.end)
    }
}

fn draft(event: flag_event::Event) -> Draft {
    Draft::of(Payload::Flag(pb::FlagEvent { event: Some(event) }))
}
