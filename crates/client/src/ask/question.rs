//! Questions, with what they may say beyond what they must.
use std::time::{Duration, SystemTime};

use waybill_proto::pb::{self, as_of, knowledge};

/// Adds what every question may say about whose eyes it is answered with.
macro_rules! read_options {
    () => {
        /// Uses only what the ledger had recorded up to a position.
        #[must_use]
        pub fn as_of_position(self, position: u64) -> Self {
            self.knowing(as_of::Moment::Position(position))
        }

        /// Uses only what the ledger had recorded by a time.
        #[must_use]
        pub fn as_of_time(self, record_time: SystemTime) -> Self {
            self.knowing(as_of::Moment::RecordTime(record_time.into()))
        }

        /// Sets the question's *now*.
        #[must_use]
        pub fn evaluated_at(mut self, time: SystemTime) -> Self {
            self.read().evaluated_time = Some(time.into());
            self
        }

        /// Takes imported events as known at their own time plus a lag, instead of when they were imported.
        #[must_use]
        pub fn assuming_known_after(mut self, lag: Duration) -> Self {
            let lag = prost_types::Duration::try_from(lag).ok();
            let order = knowledge::Order::Assumed(pb::AssumedKnowledge { lag });
            self.read().knowledge = Some(pb::Knowledge { order: Some(order) });
            self
        }

        fn knowing(mut self, moment: as_of::Moment) -> Self {
            self.read().as_of = Some(pb::AsOf {
                moment: Some(moment),
            });
            self
        }

        fn read(&mut self) -> &mut pb::ReadOptions {
            self.request.read.get_or_insert_default()
        }
    };
}

/// Where did this change go, and where did this come from?
#[derive(Clone, Debug, PartialEq)]
pub struct Trace {
    pub(crate) request: pb::TraceRequest,
}

impl Trace {
    /// From a commit id or its beginning, `#412`, a version, a deployment, an entity name.
    #[must_use]
    pub fn of(reference: impl Into<String>) -> Self {
        Self {
            request: pb::TraceRequest {
                r#ref: reference.into(),
                ..Default::default()
            },
        }
    }

    /// Leaves out what happened after this moment.
    #[must_use]
    pub fn at(mut self, time: SystemTime) -> Self {
        self.request.at = Some(time.into());
        self
    }

    /// At most this many nodes.
    #[must_use]
    pub fn max_nodes(mut self, nodes: u32) -> Self {
        self.request.max_nodes = i32::try_from(nodes).unwrap_or(i32::MAX);
        self
    }

    read_options! {}
}

/// How often and how fast are changes delivered?
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Delivery {
    pub(crate) request: pb::DeliveryRequest,
}

impl Delivery {
    /// Of every service, in production, over the last 90 days.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Of one service.
    #[must_use]
    pub fn service(mut self, service: impl Into<String>) -> Self {
        self.request.service = service.into();
        self
    }

    /// In one environment.
    #[must_use]
    pub fn environment(mut self, environment: impl Into<String>) -> Self {
        self.request.environment = environment.into();
        self
    }

    /// Since this moment, included.
    #[must_use]
    pub fn since(mut self, time: SystemTime) -> Self {
        self.request.start_time = Some(time.into());
        self
    }

    /// Until this moment, not included.
    #[must_use]
    pub fn until(mut self, time: SystemTime) -> Self {
        self.request.end_time = Some(time.into());
        self
    }

    /// Under this definition, such as `dora/2025`.
    #[must_use]
    pub fn definition(mut self, definition: impl Into<String>) -> Self {
        self.request.definition = definition.into();
        self
    }

    /// Names every event that counted, was left out, or is pending.
    #[must_use]
    pub fn explained(mut self) -> Self {
        self.request.explain = true;
        self
    }

    /// Cuts the trend into these buckets, in this time zone (an IANA name; empty is UTC).
    #[must_use]
    pub fn trend(mut self, bucket: pb::TrendBucket, time_zone: impl Into<String>) -> Self {
        self.request.trend_bucket = bucket.into();
        self.request.time_zone = time_zone.into();
        self
    }

    read_options! {}
}

/// Which events are recorded? All that are given must hold.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct List {
    pub(crate) request: pb::ListEventsRequest,
}

impl List {
    /// Everything, oldest first, 100 a page.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Only what a filter lets through.
    #[must_use]
    pub fn filter(mut self, filter: pb::EventFilter) -> Self {
        self.request.filter = Some(filter);
        self
    }

    /// Only this kind (`deployment.finished`) or family (`deployment`), or one of those given before.
    #[must_use]
    pub fn kind(mut self, kind: impl Into<String>) -> Self {
        self.request
            .filter
            .get_or_insert_default()
            .kinds
            .push(kind.into());
        self
    }

    /// Only what is about an entity: its name, or a plain form of it.
    #[must_use]
    pub fn entity(mut self, entity: impl Into<String>) -> Self {
        self.request.filter.get_or_insert_default().entity = entity.into();
        self
    }

    /// Only what one source says.
    #[must_use]
    pub fn source(mut self, source: impl Into<String>) -> Self {
        self.request.filter.get_or_insert_default().source = source.into();
        self
    }

    /// Newest first.
    #[must_use]
    pub fn newest_first(mut self) -> Self {
        self.request.descending = true;
        self
    }

    /// This many a page, at most 1,000.
    #[must_use]
    pub fn page_size(mut self, events: u32) -> Self {
        self.request.page_size = i32::try_from(events).unwrap_or(i32::MAX);
        self
    }
}
