//! The families that no view reads yet, a row each: what they are about, what they need, which fact they are.
//!
//! Paths lead from the predicate's message, or from the part of it that is named after the family. A path that a
//! predicate's message does not have asks nothing of it. `proto/README.md` shows the same table; a test compares.
use waybill_core::EntityKind;

/// One family.
pub(crate) struct Row {
    /// Its name, as in its kinds.
    pub(crate) family: &'static str,
    /// Its own entity.
    pub(crate) subject: Subject,
    /// What must be there.
    pub(crate) required: &'static [&'static str],
    /// The parts of its natural key.
    pub(crate) key: &'static [&'static str],
    /// Whether a moment ends the key.
    pub(crate) moment: Moment,
}

/// The entity that a family is about.
pub(crate) enum Subject {
    /// Those that its fields name; the first of them is the subject.
    Fields,
    /// One without an authority of its own.
    Named(EntityKind, &'static str),
    /// `other:<family>/<value>`.
    Other(&'static str),
}

/// Whether a family's facts are told apart by time.
pub(crate) enum Moment {
    /// They happen once.
    Never,
    /// They happen again and again, but for these predicates, which happen once.
    Except(&'static [&'static str]),
    /// As `Except`, by this field where it is there.
    Field(&'static str, &'static [&'static str]),
}

const RUN: [&str; 3] = ["run.provider", "run.run_id", "run.attempt"];

/// Finds the row of a family.
pub(crate) fn row(family: &str) -> Option<&'static Row> {
    ROWS.iter().find(|row| row.family == family)
}

/// All rows, in the order of `event.proto`.
pub(crate) const ROWS: &[Row] = &[
    Row {
        family: "pipeline_run",
        subject: Subject::Fields,
        required: &["pipeline_run", "run.run_id", "outcome"],
        key: &RUN,
        moment: Moment::Never,
    },
    Row {
        family: "task_run",
        subject: Subject::Other("task_run_id"),
        required: &["task_run", "task_run_id", "run.run_id", "outcome"],
        key: &[RUN[0], RUN[1], RUN[2], "task_run_id"],
        moment: Moment::Never,
    },
    Row {
        family: "check",
        subject: Subject::Fields,
        required: &["repository", "revision", "name"],
        key: &[
            "repository",
            "revision",
            "name",
            "check_id",
            "status",
            "conclusion",
            "complete_time",
        ],
        moment: Moment::Never,
    },
    Row {
        family: "test_suite_run",
        subject: Subject::Other("suite_id"),
        required: &["test_suite_run", "run.run_id", "suite_id", "outcome"],
        key: &[RUN[0], RUN[1], RUN[2], "suite_id"],
        moment: Moment::Never,
    },
    Row {
        family: "test_case_run",
        subject: Subject::Other("case_id"),
        required: &["test_case_run", "run.run_id", "case_id", "outcome"],
        key: &[RUN[0], RUN[1], RUN[2], "suite_id", "case_id", "index"],
        moment: Moment::Never,
    },
    Row {
        family: "test_output",
        subject: Subject::Other("uri"),
        required: &["output_type", "format", "uri"],
        key: &[
            RUN[0],
            RUN[1],
            RUN[2],
            "suite_id",
            "case_id",
            "output_type",
            "uri",
        ],
        moment: Moment::Never,
    },
    Row {
        family: "environment",
        subject: Subject::Named(EntityKind::Environment, "name"),
        required: &["environment", "name"],
        key: &["name"],
        moment: Moment::Except(&["created"]),
    },
    Row {
        family: "alert",
        subject: Subject::Other("fingerprint"),
        required: &["alert", "fingerprint", "start_time"],
        key: &["provider", "fingerprint", "start_time"],
        moment: Moment::Never,
    },
    Row {
        family: "ticket",
        subject: Subject::Named(EntityKind::Ticket, "uri"),
        required: &["ticket", "uri"],
        key: &["uri"],
        moment: Moment::Field("update_time", &["created"]),
    },
    Row {
        family: "slo",
        subject: Subject::Other("name"),
        required: &["slo", "name", "document_digest", "start_time", "end_time"],
        key: &[
            "service",
            "name",
            "document_digest",
            "alert_fingerprint",
            "start_time",
            "end_time",
        ],
        moment: Moment::Except(&["budget_evaluated"]),
    },
    Row {
        family: "budget",
        subject: Subject::Fields,
        required: &["compensation_id", "slo", "start_time", "end_time", "reason"],
        key: &["compensation_id"],
        moment: Moment::Never,
    },
    Row {
        family: "component",
        subject: Subject::Fields,
        required: &["service"],
        key: &["service"],
        moment: Moment::Except(&[]),
    },
    Row {
        family: "ownership",
        subject: Subject::Fields,
        required: &["owned_entity"],
        key: &["owned_entity", "path", "revision", "blob_id"],
        moment: Moment::Except(&[]),
    },
    Row {
        family: "dependency",
        subject: Subject::Fields,
        required: &["service", "needed_entity"],
        key: &["service", "needed_entity"],
        moment: Moment::Except(&[]),
    },
    Row {
        family: "contract",
        subject: Subject::Other("name"),
        required: &[
            "contract",
            "name",
            "version",
            "provider_service",
            "consumer_service",
            "compatibility",
        ],
        key: &[
            "provider_service",
            "name",
            "version",
            "document_digest",
            "base_version",
            "consumer_service",
            "consumer_version",
            "compatibility",
        ],
        moment: Moment::Never,
    },
    Row {
        family: "policy",
        subject: Subject::Other("policy_id"),
        required: &["policy", "policy_id", "document_digest"],
        key: &["policy_id", "document_digest"],
        moment: Moment::Except(&[]),
    },
    Row {
        family: "gate",
        subject: Subject::Other("decision_id"),
        required: &[
            "decision_id",
            "gate",
            "stage",
            "target_entity",
            "policy_digest",
            "verdict",
            "reason",
            "measurements.name",
        ],
        key: &["decision_id"],
        moment: Moment::Except(&["decided"]),
    },
    Row {
        family: "approval",
        subject: Subject::Other("approval_id"),
        required: &["approval", "approval_id", "decision", "status"],
        key: &["approval_id", "decision", "status"],
        moment: Moment::Except(&["created"]),
    },
    Row {
        family: "exemption",
        subject: Subject::Other("exemption_id"),
        required: &[
            "exemption_id",
            "policy_id",
            "target_entity",
            "reason",
            "expire_time",
        ],
        key: &["exemption_id"],
        moment: Moment::Never,
    },
    Row {
        family: "freeze",
        subject: Subject::Other("freeze_id"),
        required: &["freeze_id", "start_time", "end_time"],
        key: &["freeze_id"],
        moment: Moment::Never,
    },
    Row {
        family: "maintenance",
        subject: Subject::Other("maintenance_id"),
        required: &["maintenance_id", "start_time", "end_time"],
        key: &["maintenance_id"],
        moment: Moment::Never,
    },
    Row {
        family: "review",
        subject: Subject::Fields,
        required: &[
            "review_id",
            "scope_entity",
            "finding",
            "finding.finding_id",
            "finding.review_id",
            "finding.statement",
        ],
        key: &["review_id", "finding.review_id", "finding.finding_id"],
        moment: Moment::Except(&["held", "finding_recorded"]),
    },
    Row {
        family: "action",
        subject: Subject::Other("action_id"),
        required: &["action", "action_id", "effect", "expected_effects.metric"],
        key: &["action_id"],
        moment: Moment::Except(&["proposed"]),
    },
    Row {
        family: "team",
        subject: Subject::Fields,
        required: &["team", "member", "member.id"],
        key: &["team", "member.id"],
        moment: Moment::Except(&[]),
    },
    Row {
        family: "organisation",
        subject: Subject::Other("organisation"),
        required: &["organisation", "team"],
        key: &["organisation", "team"],
        moment: Moment::Except(&[]),
    },
    Row {
        family: "definition",
        subject: Subject::Other("definition_id"),
        required: &["definition_id", "version", "document_digest"],
        key: &["definition_id", "version"],
        moment: Moment::Never,
    },
    Row {
        family: "stage",
        subject: Subject::Other("stage"),
        required: &["stage"],
        key: &["service", "stage"],
        moment: Moment::Except(&[]),
    },
    Row {
        family: "journey",
        subject: Subject::Other("journey"),
        required: &["journey", "steps.name"],
        key: &["journey"],
        moment: Moment::Except(&[]),
    },
    Row {
        family: "failure_state",
        subject: Subject::Other("failure_state"),
        required: &["failure_state", "journey"],
        key: &["failure_state"],
        moment: Moment::Except(&[]),
    },
    Row {
        family: "rollback",
        subject: Subject::Other("proposal_id"),
        required: &["proposal_id", "deployment_entity", "reason"],
        key: &["proposal_id"],
        moment: Moment::Never,
    },
];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_catalogue_lists_the_same_keys() {
        let readme = include_str!("../../../../proto/README.md");
        for row in ROWS {
            let heading = format!("### `{}` (experimental)\n", row.family);
            let section = readme
                .split(&heading)
                .nth(1)
                .expect("every family has a section");
            let key = section
                .lines()
                .find(|line| line.starts_with("Natural key: "))
                .expect("and a key");
            let parts: Vec<String> = row.key.iter().map(|part| format!("`{part}`")).collect();
            let moment = match row.moment {
                Moment::Never => String::new(),
                Moment::Except(once) => format!("; then the occur time{}", but(once)),
                Moment::Field(path, once) => {
                    format!("; then `{path}`, or else the occur time{}", but(once))
                }
            };
            assert_eq!(
                key,
                format!("Natural key: {}{moment}.", parts.join(", ")),
                "{}",
                row.family
            );
        }
    }

    fn but(once: &[&str]) -> String {
        let names: Vec<String> = once.iter().map(|name| format!("`{name}`")).collect();
        if names.is_empty() {
            String::new()
        } else {
            format!(" (not {})", names.join(", "))
        }
    }
}
