//! Metrics: what they mean, and windows of them.
use std::{ops::Range, time::SystemTime};

use waybill_proto::pb::{self, event::Payload, metric_event, metric_window_summarized::Value};

use super::{Draft, revision};

/// One window of one metric of one service, which ends in a value.
///
/// ```
/// use std::time::{Duration, SystemTime};
/// use waybill_client::MetricWindow;
///
/// let start = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
/// let window = start..start + Duration::from_secs(60);
/// let draft = MetricWindow::new("orders_ok", "{order}", "checkout", window)
///     .environment("production")
///     .ratio(998, 1_000);
/// ```
#[derive(Clone, Debug)]
pub struct MetricWindow {
    all: pb::MetricWindowSummarized,
    end: SystemTime,
}

impl MetricWindow {
    /// Names the metric, its UCUM unit (`ms`, `By`, `1`, `{request}`), the service, and the half-open window.
    #[must_use]
    pub fn new(
        metric: impl Into<String>,
        unit: impl Into<String>,
        service: impl Into<String>,
        window: Range<SystemTime>,
    ) -> Self {
        let all = pb::MetricWindowSummarized {
            metric: metric.into(),
            unit: unit.into(),
            service: service.into(),
            start_time: Some(window.start.into()),
            end_time: Some(window.end.into()),
            ..Default::default()
        };
        Self {
            all,
            end: window.end,
        }
    }

    texts! { all:
        /// Where it was measured.
        environment,
        /// The version that served.
        version,
        /// The instance that served.
        instance,
        /// The region that served.
        region,
        /// The arm of a flag or experiment.
        arm,
    }

    /// The revision that served.
    #[must_use]
    pub fn revision(mut self, repository: impl Into<String>, id: impl Into<String>) -> Self {
        self.all.revision = Some(revision(repository, id));
        self
    }

    /// Adds an attribute that tells this series from others.
    #[must_use]
    pub fn attribute(mut self, key: impl Into<String>, value: impl Into<String>) -> Self {
        self.all.attributes.insert(key.into(), value.into());
        self
    }

    /// Good of total.
    #[must_use]
    pub fn ratio(&self, good_count: u64, total_count: u64) -> Draft {
        self.summarized(Value::Ratio(pb::RatioWindow {
            good_count,
            total_count,
        }))
    }

    /// Log buckets.
    #[must_use]
    pub fn histogram(&self, histogram: pb::HistogramWindow) -> Draft {
        self.summarized(Value::Histogram(histogram))
    }

    /// Count, sum and sum of squares.
    #[must_use]
    pub fn moments(&self, moments: pb::MomentsWindow) -> Draft {
        self.summarized(Value::Moments(moments))
    }

    fn summarized(&self, value: Value) -> Draft {
        let summarized = pb::MetricWindowSummarized {
            value: Some(value),
            ..self.all.clone()
        };
        draft(metric_event::Event::WindowSummarized(summarized)).at(self.end)
    }
}

/// What a metric means.
#[derive(Clone, Debug)]
pub struct MetricDefinition {
    all: pb::MetricDefined,
}

impl MetricDefinition {
    /// Names the metric and its UCUM unit.
    #[must_use]
    pub fn new(metric: impl Into<String>, unit: impl Into<String>) -> Self {
        let (metric, unit) = (metric.into(), unit.into());
        Self {
            all: pb::MetricDefined {
                metric,
                unit,
                ..Default::default()
            },
        }
    }

    texts! { all:
        /// The service that it is of; all where nothing is said.
        service,
        /// In a sentence.
        description,
    }

    /// What it measures.
    #[must_use]
    pub fn meaning(mut self, meaning: pb::MetricMeaning) -> Self {
        self.all.meaning = meaning.into();
        self
    }

    /// The direction that is better.
    #[must_use]
    pub fn direction(mut self, direction: pb::Direction) -> Self {
        self.all.direction = direction.into();
        self
    }

    /// What it means when a window is missing.
    #[must_use]
    pub fn absent_means(mut self, absent_means: pb::AbsentMeaning) -> Self {
        self.all.absent_means = absent_means.into();
        self
    }

    /// It is defined so.
    #[must_use]
    pub fn defined(&self) -> Draft {
        draft(metric_event::Event::Defined(self.all.clone()))
    }
}

fn draft(event: metric_event::Event) -> Draft {
    Draft::of(Payload::Metric(pb::MetricEvent { event: Some(event) }))
}
