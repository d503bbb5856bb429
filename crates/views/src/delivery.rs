//! Question: delivery
//!
//! How often does a service reach production, and how long does a commit take to get there?
//!
//! Unit: deployments per day; nanoseconds from commit to deployment. Clock: occur times, half-open windows.
//! Population: successful deployments of one service to one environment that ended in the window; commits that such a
//! deployment was the first to carry. Source: DORA's *deployment frequency* and *change lead time* (guide of
//! 2026-01-05, [`definition`]). Ours differs in that a first deployment, or one whose previous head is not known,
//! carries an unknown set and never "everything"; that a redeployment or a rollback gives no commit a second lead
//! time; that a re-run is a witness and no second deployment; and that nothing known is no value, never zero.
//!
//! ```story
//! 09:00 commit shop a1
//! 09:10 deploy shop a1 -> prod ok d-1
//! 09:30 commit shop b2 parent a1
//! 10:10 deploy shop b2 -> prod ok d-2
//! ```
//! ->
//! ```answer
//! shop prod: 2 deployments; 1 commit, median 40m
//! ```
use waybill_core::Time;

use crate::{
    facts::{Facts, lanes::Lane},
    known::Known,
    reading::{EventRef, NoValue, Problem, Reading},
};

mod bucket;
pub mod definition;
mod figures;
mod gather;
mod pending;
mod quantile;

pub use bucket::{Buckets, Unit};
pub use definition::Definition;

const DAY_NANOS: i64 = 86_400_000_000_000;
/// The window where no start is given.
const WINDOW_DAYS: i64 = 90;
/// Environments that are production by their name, in lowercase.
const PRODUCTION: [&str; 3] = ["production", "prod", "live"];

/// What is asked.
#[derive(Clone, Debug)]
pub struct Question {
    /// None: every service.
    pub service: Option<String>,
    /// None: the production environments.
    pub environment: Option<String>,
    /// None: 90 days before the end.
    pub start_time: Option<Time>,
    /// None: the evaluated time.
    pub end_time: Option<Time>,
    /// The meaning of the figures.
    pub definition: &'static Definition,
    /// Fill the lists of [`Explanation`].
    pub explain: bool,
    /// How the trend is cut.
    pub buckets: Buckets,
    /// Environments that are declared to be production, beside those that are by name.
    pub production: Vec<String>,
}

/// The figures, per service and environment.
#[derive(Clone, Debug, PartialEq)]
pub struct Answer {
    /// Which definition answered.
    pub definition: &'static Definition,
    /// First moment of the window.
    pub start_time: Time,
    /// First moment after the window.
    pub end_time: Time,
    /// By service, then environment. Never empty when a service was asked for.
    pub services: Vec<ServiceDelivery>,
    /// What the answer had to step around.
    pub problems: Vec<Problem>,
}

/// The figures of one service in one environment.
#[derive(Clone, Debug, PartialEq)]
pub struct ServiceDelivery {
    /// Name of the service.
    pub service: String,
    /// Name of the environment.
    pub environment: String,
    /// How often.
    pub deployment_frequency: DeploymentFrequency,
    /// How long.
    pub change_lead_time: ChangeLeadTime,
    /// What could not be known.
    pub coverage: Coverage,
    /// The window in buckets, ascending; empty where there would be too many.
    pub trend: Vec<TrendPoint>,
}

/// Successful deployments of the window.
#[derive(Clone, Debug, PartialEq)]
pub struct DeploymentFrequency {
    /// Deployments per day.
    pub value: Result<f64, NoValue>,
    /// Deployments counted.
    pub numerator_count: u64,
    /// Days of the window up to the evaluated time.
    pub denominator_days: f64,
    /// Nanoseconds between neighbouring deployments of the window; none below two.
    pub median_interval: Option<i64>,
    /// The value of the window of equal length before.
    pub previous: Result<f64, NoValue>,
    /// What it stands on.
    pub explanation: Explanation,
}

/// From commit to the first deployment that carried it.
#[derive(Clone, Debug, PartialEq)]
pub struct ChangeLeadTime {
    /// Median, in nanoseconds.
    pub value: Result<i64, NoValue>,
    /// 90th percentile, in nanoseconds.
    pub p90: Option<i64>,
    /// Commits counted.
    pub commit_count: u64,
    /// Commits that are merged and not yet deployed.
    pub pending_count: u64,
    /// The median of the window of equal length before.
    pub previous: Result<i64, NoValue>,
    /// What it stands on.
    pub explanation: Explanation,
}

/// What a figure stands on. Lists are filled when the question asks to explain; counts always.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explanation {
    /// By occur time, then name.
    pub counted: Vec<Counted>,
    /// By name, then reason.
    pub excluded: Vec<Excluded>,
    /// By occur time, then name.
    pub pending: Vec<Counted>,
    /// All that was left out, listed or not.
    pub excluded_count: u64,
}

/// One thing that counted, with its own value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counted {
    /// The event that tells of it.
    pub event: EventRef,
    /// Its full name.
    pub entity: String,
    /// When it happened.
    pub occur_time: Option<Time>,
    /// Nanoseconds, for a lead time.
    pub elapsed: Option<i64>,
    /// The deployment that carried it, for a commit; empty for a deployment.
    pub deployment: String,
}

/// One thing, or one kind of thing, that did not count.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Excluded {
    /// Its full name.
    pub entity: String,
    /// Why not.
    pub reason: &'static str,
    /// The event that tells of it; none where there is none.
    pub event: Option<EventRef>,
    /// How many.
    pub count: u64,
}

/// What could not be known, of the window's deployments.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Coverage {
    /// Deployments that ended in the window, however.
    pub deployment_count: u64,
    /// Successful ones whose set of changes is not known.
    pub unknown_change_set_count: u64,
    /// Successful ones that do not say what they run.
    pub without_revision_count: u64,
    /// Counted ones that nobody reported.
    pub inferred_deployment_count: u64,
    /// Those that did not succeed.
    pub failed_deployment_count: u64,
}

/// One bucket of the window.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TrendPoint {
    /// First moment of the whole bucket.
    pub start_time: Time,
    /// First moment after the whole bucket.
    pub end_time: Time,
    /// The window or the evaluated time cuts the bucket.
    pub partial: bool,
    /// Deployments counted.
    pub deployment_count: u64,
    /// Nanoseconds; none without commits.
    pub median_lead_time: Option<i64>,
    /// Commits counted.
    pub commit_count: u64,
}

/// The window of a question, in nanoseconds.
#[derive(Clone, Copy, Debug)]
struct Window {
    /// First moment of the window before.
    before: i64,
    start: i64,
    end: i64,
    /// The end, or the evaluated time where that comes first.
    until: i64,
}

impl Default for Question {
    /// Every service in production, 90 days, by weeks, under `dora/2025`.
    fn default() -> Self {
        Self {
            service: None,
            environment: None,
            start_time: None,
            end_time: None,
            definition: &definition::DORA_2025,
            explain: false,
            buckets: Buckets::Every {
                unit: Unit::Week,
                offset_seconds: 0,
            },
            production: Vec::new(),
        }
    }
}

impl Question {
    /// The window asked about, with what was left out filled in.
    #[must_use]
    pub fn window(&self, reading: &Reading) -> (Time, Time) {
        let end = self.end_time.unwrap_or(reading.evaluated_time);
        let start = self.start_time;
        (
            start.unwrap_or_else(|| end.plus_nanos(-WINDOW_DAYS * DAY_NANOS)),
            end,
        )
    }

    fn asks_for(&self, environment: &str) -> bool {
        match &self.environment {
            Some(asked) => asked == environment,
            None => {
                PRODUCTION.contains(&environment.to_lowercase().as_str())
                    || self.production.iter().any(|name| name == environment)
            }
        }
    }
}

/// Answers from what was known at the reading's position.
#[must_use]
pub fn ask(facts: &Facts, reading: &Reading, question: &Question) -> Answer {
    let known = Known::new(facts, reading);
    let (start_time, end_time) = question.window(reading);
    let (start, end) = (start_time.nanos(), end_time.nanos());
    let window = Window {
        before: start.saturating_sub(end.saturating_sub(start)),
        start,
        end,
        until: end.min(known.now),
    };
    let mut problems = known.problems();
    let mut services: Vec<ServiceDelivery> = lanes(&known, question)
        .into_iter()
        .map(|(service, environment, lane)| {
            let gathered = gather::gather(&known, lane, &window, question);
            problems.extend(gathered.problems(&service, &environment));
            figures::figures(gathered, service, environment, &window, question)
        })
        .collect();
    if services.is_empty() {
        services.extend(figures::nothing_known(&known, &window, question));
    }
    problems.sort_by(|a, b| (a.code, &a.text).cmp(&(b.code, &b.text)));
    Answer {
        definition: question.definition,
        start_time,
        end_time,
        services,
        problems,
    }
}

/// The lanes that a question is about and that were known, by the names of service and environment.
fn lanes(known: &Known<'_>, question: &Question) -> Vec<(String, String, u32)> {
    let service = question.service.as_deref();
    let wanted = service.map(|service| known.facts.symbols.find(service));
    let mut lanes: Vec<(String, String, u32)> = known
        .facts
        .lanes
        .all()
        .filter(|(_, lane)| wanted.is_none_or(|wanted| wanted == Some(lane.service())))
        .map(|(at, lane)| {
            (
                known.text(lane.service()),
                known.text(lane.environment()),
                at,
            )
        })
        .filter(|(_, environment, _)| question.asks_for(environment))
        .filter(|(_, _, at)| is_known(known, known.facts.lanes.at(*at)))
        .collect();
    lanes.sort();
    lanes
}

fn is_known(known: &Known<'_>, lane: &Lane) -> bool {
    let timed = lane.finished.iter().chain(&lane.begun).map(|key| key.2);
    let mut slots = timed.chain(lane.untimed.iter().copied());
    slots.any(|slot| known.past(slot))
}

#[cfg(test)]
mod tests {
    use waybill_fixture::{moment, story};

    use super::*;
    use crate::reading::Knowledge;

    /// Tells the story, asks about its first two weeks at their end, and shows what came out.
    fn check(text: &str, expected: &str) {
        check_at(text, Question::default(), expected);
    }

    fn check_at(text: &str, question: Question, expected: &str) {
        let mut facts = Facts::new();
        for recorded in story(text) {
            facts.apply(&recorded);
        }
        let reading = Reading {
            as_of: facts.head().0,
            evaluated_time: moment("2026-01-19 00:00"),
            knowledge: Knowledge::Recorded,
        };
        let question = Question {
            start_time: Some(question.start_time.unwrap_or(moment("2026-01-05 00:00"))),
            explain: true,
            ..question
        };
        let shown = shown(&ask(&facts, &reading, &question));
        let expected: Vec<&str> = expected.lines().map(str::trim).collect();
        assert_eq!(shown.trim(), expected.join("\n").trim(), "\n{shown}");
    }

    fn shown(answer: &Answer) -> String {
        let mut out = String::new();
        for row in &answer.services {
            let (frequency, lead) = (&row.deployment_frequency, &row.change_lead_time);
            let value = match &lead.value {
                Ok(median) => format!("median {}", clock(*median)),
                Err(none) => none.code.to_owned(),
            };
            let deployments = match &frequency.value {
                Ok(_) => format!("{} deployments", frequency.numerator_count),
                Err(none) => none.code.to_owned(),
            };
            out += &format!(
                "{} {}: {deployments}; {} commits, {value}\n",
                row.service, row.environment, lead.commit_count
            );
            for (what, figure) in [("", &frequency.explanation), ("commit ", &lead.explanation)] {
                for left in &figure.excluded {
                    out += &format!("- {what}{}: {}\n", short(&left.entity), left.reason);
                }
                for waiting in &figure.pending {
                    out += &format!("- {what}{}: pending\n", short(&waiting.entity));
                }
            }
        }
        for problem in &answer.problems {
            if problem.code != "pending_unknown" {
                out += &format!("! {} {}\n", problem.code, problem.count);
            }
        }
        out
    }

    fn clock(nanos: i64) -> String {
        let minutes = nanos / 60_000_000_000;
        match minutes {
            0..60 => format!("{minutes}m"),
            minutes => format!("{}h{:02}m", minutes / 60, minutes % 60),
        }
    }

    /// The first two digits of a commit, else the last part.
    fn short(entity: &str) -> &str {
        let last = entity.rsplit('/').next().unwrap_or(entity);
        if entity.starts_with("commit:") {
            &last[..2]
        } else {
            last
        }
    }

    #[test]
    fn commits_count_once_at_their_first_deployment() {
        check(
            "09:00 commit shop a1
             09:10 deploy shop a1 -> prod ok d-1
             09:30 commit shop b2 parent a1
             10:10 deploy shop b2 -> prod ok d-2
             11:00 deploy shop b2 -> prod ok d-3",
            "shop prod: 3 deployments; 1 commits, median 40m
             - commit d-1: unknown change set: first known deployment",
        );
    }

    #[test]
    fn the_emitter_may_know_what_ran_before() {
        check(
            "09:00 commit shop a1
             09:30 commit shop b2 parent a1
             10:00 deploy shop b2 -> prod ok d-1 previous a1",
            "shop prod: 1 deployments; 1 commits, median 30m",
        );
    }

    #[test]
    fn a_rollback_and_its_undoing_bring_nothing_twice() {
        check(
            "09:00 commit shop a1
             09:10 deploy shop a1 -> prod ok d-1
             09:20 commit shop b2 parent a1
             09:30 deploy shop b2 -> prod ok d-2
             09:40 deploy shop a1 -> prod ok d-3 op rollback rollback-of d-2
             09:50 commit shop c3 parent b2
             10:00 deploy shop c3 -> prod ok d-4",
            "shop prod: 4 deployments; 2 commits, median 10m
             - commit d-1: unknown change set: first known deployment",
        );
    }

    #[test]
    fn an_unknown_head_leaves_the_next_set_unknown() {
        check(
            "09:00 commit shop a1
             09:10 deploy shop a1 -> prod ok d-1
             09:15 commit shop b2 parent a1
             09:20 deploy shop -> prod ok d-2
             09:25 commit shop c3 parent b2
             09:30 deploy shop c3 -> prod ok d-3
             09:40 commit shop d4 parent c3
             09:50 deploy shop d4 -> prod ok d-4
             10:00 deploy shop d4 -> prod ok d-5 range-unknown",
            "shop prod: 5 deployments; 1 commits, median 10m
             - commit d-1: unknown change set: first known deployment
             - commit d-2: no revision
             - commit d-3: unknown change set: the head before it is not known
             - commit d-5: unknown change set: its range is said to be unknown",
        );
    }

    #[test]
    fn history_that_is_not_there_is_said() {
        check(
            "09:00 commit shop a1
             09:10 deploy shop a1 -> prod ok d-1
             09:15 commit shop c3 parent b2
             09:20 deploy shop c3 -> prod ok d-2
             09:30 commit shop e5
             09:35 deploy shop e5 -> prod ok d-3
             09:40 deploy shop f6 -> prod ok d-4
             09:45 deploy shop ~aabbccd -> prod ok d-5",
            "shop prod: 5 deployments; 0 commits, no_change_sets
             - commit d-1: unknown change set: first known deployment
             - commit d-2: unknown change set: a commit on the way is not recorded
             - commit d-3: unknown change set: no commit in common with the head before it
             - commit d-4: unknown change set: its revision is not recorded
             - commit d-5: unknown change set: its revision means no commit or several",
        );
    }

    #[test]
    fn merges_do_not_count_and_a_squash_stands_for_its_commits() {
        check(
            "08:00 commit shop a1
             08:10 deploy shop a1 -> prod ok d-1
             09:00 commit shop b1 parent a1
             09:10 commit shop b2 parent b1
             09:20 commit shop c3 parent a1
             09:20 merge shop #7 as c3 squash commits b1,b2
             09:30 commit shop d4 parent c3
             09:40 commit shop e5 parent c3,d4
             10:00 deploy shop e5 -> prod ok d-2",
            "shop prod: 2 deployments; 3 commits, median 50m
             - commit e5: merge commit
             - commit d-1: unknown change set: first known deployment",
        );
    }

    #[test]
    fn what_is_merged_and_not_deployed_is_pending() {
        check(
            "08:00 commit shop a1
             08:10 deploy shop a1 -> prod ok d-1
             09:00 commit shop b2 parent a1
             09:10 merge shop #7 as b2
             09:20 deploy shop b2 -> prod failed d-2
             09:30 commit shop c3 parent b2
             09:30 merge shop #8 as c3
             09:40 deploy shop c3 -> prod started d-3",
            "shop prod: 1 deployments; 0 commits, no_change_sets
             - d-2: failed
             - d-3: pending
             - commit d-1: unknown change set: first known deployment
             - commit b2: pending
             - commit c3: pending",
        );
    }

    #[test]
    fn one_deployment_counts_once_however_often_it_was_told() {
        check(
            "08:00 commit shop a1
             08:10 deploy shop a1 -> prod failed d-1 attempt 1
             08:20 deploy shop a1 -> prod ok d-1 attempt 2
             08:20 deploy shop a1 -> prod ok d-1 attempt 2 from webhook
             08:30 deploy shop a1 -> prod ok d-1 attempt 3
             08:40 deploy shop a1 -> prod ok d-9 op config
             - deploy shop a1 -> prod ok d-8",
            "shop prod: 1 deployments; 0 commits, no_change_sets
             - d-1: an attempt of a deployment that succeeded
             - d-1: run again after it had succeeded
             - d-8: no occur time
             - d-9: changes configuration only
             - commit d-1: unknown change set: first known deployment",
        );
    }

    #[test]
    fn artifacts_and_releases_say_what_runs() {
        check(
            "08:00 commit shop a1
             08:05 build b-1 of shop a1 makes sha256:aa
             08:10 deploy shop -> prod ok d-1 artifacts sha256:aa
             09:00 commit shop b2 parent a1
             09:05 release shop v2 of shop b2
             09:10 deploy shop -> prod ok d-2 version v2",
            "shop prod: 2 deployments; 1 commits, median 10m
             - commit d-1: unknown change set: first known deployment",
        );
    }

    #[test]
    fn corrections_and_retractions_change_what_counts() {
        check(
            "08:00 commit shop a1
             08:10 deploy shop a1 -> prod ok d-1
             09:00 commit shop b2 parent a1
             09:30 deploy shop b2 -> prod failed d-2 @d
             09:40 correct @d deploy shop b2 -> prod ok d-2
             09:50 deploy shop b2 -> prod ok d-3 @e
             09:55 retract @e
             09:56 retract @nobody",
            "shop prod: 2 deployments; 1 commits, median 40m
             - commit d-1: unknown change set: first known deployment
             ! amends_absent 1",
        );
    }

    #[test]
    fn nothing_known_is_no_value() {
        let question = Question {
            service: Some("shop".into()),
            ..Question::default()
        };
        check_at(
            "08:00 deploy shop a1 -> staging ok d-1",
            question,
            "shop : no_deployments; 0 commits, no_deployments",
        );
        check("08:00 deploy shop a1 -> staging ok d-1", "");
    }

    #[test]
    fn environments_are_production_by_name_or_declaration() {
        let question = Question {
            production: vec!["eu".into()],
            ..Question::default()
        };
        check_at(
            "08:00 deploy shop -> Live ok d-1
             08:00 deploy shop -> eu ok d-2
             08:00 deploy shop -> test ok d-3",
            question,
            "shop Live: 1 deployments; 0 commits, no_change_sets
             - commit d-1: no revision
             shop eu: 1 deployments; 0 commits, no_change_sets
             - commit d-2: no revision",
        );
    }

    #[test]
    fn partial_buckets_are_marked() {
        let mut facts = Facts::new();
        for recorded in story(
            "08:00 deploy shop -> prod ok d-1
             2026-01-13 08:00 deploy shop -> prod ok d-2
             2026-01-15 08:00 deploy shop -> prod ok d-3",
        ) {
            facts.apply(&recorded);
        }
        let reading = Reading {
            as_of: 3,
            evaluated_time: moment("2026-01-15 12:00"),
            knowledge: Knowledge::Recorded,
        };
        let question = Question {
            start_time: Some(moment("2026-01-05 00:00")),
            ..Question::default()
        };
        let answer = ask(&facts, &reading, &question);
        let trend: Vec<(u64, bool)> = answer.services[0]
            .trend
            .iter()
            .map(|point| (point.deployment_count, point.partial))
            .collect();
        assert_eq!(trend, [(1, false), (2, true)]);
        let frequency = &answer.services[0].deployment_frequency;
        assert_eq!(frequency.denominator_days, 10.5);
        assert_eq!(frequency.median_interval, Some(5 * DAY_NANOS));
        assert_eq!(frequency.value, Ok(3.0 / 10.5));
    }
}
