//! The stream's configuration: what we create, and what is wrong with what others created.
use std::fmt;

use serde_json::{Value, json};

/// The subjects that a ledger's stream has, and no others: every message of it is a leaf.
pub const SUBJECTS: [&str; 2] = ["waybill.events.v1.>", "waybill.gate.v1.>"];

/// Fields that keep publishers from taking history away: an acknowledgement that is sent to an API subject is an order.
const DENY_DELETE: &str = "deny_delete";
const DENY_PURGE: &str = "deny_purge";

/// Lets a stream pass whose messages may be deleted and purged: the ledger notices either, and freezes.
pub(crate) fn tolerate_purge(findings: &mut [Finding]) {
    for finding in findings {
        if [DENY_DELETE, DENY_PURGE].contains(&finding.field) {
            finding.severity = Severity::Warn;
        }
    }
}

/// The longest message, headers included, in bytes.
const MESSAGE_BYTES_MAX: u64 = 1 << 20;
/// How long the broker remembers a `Nats-Msg-Id`, in nanoseconds.
const DUPLICATE_WINDOW_NS: u64 = 120_000_000_000;

/// A field of the stream that is not as a ledger needs it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// What follows from it.
    pub severity: Severity,
    /// The field, as the broker's JSON names it.
    pub field: &'static str,
    /// What it is.
    pub value: String,
    /// What it must be, and why.
    pub needed: &'static str,
    /// The command that mends it.
    pub mend: String,
}

/// What follows from a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Severity {
    /// History could be lost or changed without anybody's doing: such a stream is not followed.
    Refuse,
    /// Works, but is weaker than it could be, or lets somebody do harm on purpose, which the ledger would notice.
    Warn,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            field,
            value,
            needed,
            mend,
            ..
        } = self;
        write!(f, "{field} is {value}, needed is {needed}: `{mend}`")
    }
}

/// What we create where there is nothing. Fields that 2.9 does not know are left out: their default is right.
pub(crate) fn wanted(name: &str, replicas: u8) -> Value {
    json!({
        "name": name,
        "description": "Waybill: every message is a leaf of a ledger's tree",
        "subjects": SUBJECTS,
        "retention": "limits",
        "storage": "file",
        "discard": "new",
        "max_age": 0,
        "max_msgs": -1,
        "max_bytes": -1,
        "max_msgs_per_subject": -1,
        "max_consumers": -1,
        "max_msg_size": MESSAGE_BYTES_MAX,
        "num_replicas": replicas,
        "duplicate_window": DUPLICATE_WINDOW_NS,
        "deny_delete": true,
        "deny_purge": true,
        "allow_rollup_hdrs": false,
        "allow_direct": true,
    })
}

/// The largest message that a ledger can record, headers included, in bytes: every message of the stream becomes a leaf,
/// so one that could not be kept would bar the way of all that follow.
const RECORDABLE_BYTES_MAX: u64 = 4 << 20;

/// Refuses a stream that takes larger messages than a ledger can record. A stream without a limit of its own takes what the
/// server takes.
pub(crate) fn too_large(config: &Value, server_bytes_max: u64) -> Option<Finding> {
    let own = config["max_msg_size"].as_u64().filter(|size| *size > 0);
    let largest = own.map_or(server_bytes_max, |own| own.min(server_bytes_max));
    (largest > RECORDABLE_BYTES_MAX).then(|| Finding {
        severity: Severity::Refuse,
        field: "max_msg_size",
        value: own.map_or_else(
            || format!("-1 (the server takes {server_bytes_max})"),
            |own| own.to_string(),
        ),
        needed: "at most 4194304: a message that cannot be recorded would bar the way",
        mend: format!(
            "nats stream edit {} --max-msg-size={MESSAGE_BYTES_MAX}",
            config["name"].as_str().unwrap_or_default()
        ),
    })
}

/// What is wrong with a stream's configuration, field by field; a field that is absent has its default.
pub(crate) fn findings(config: &Value) -> Vec<Finding> {
    let mut check = Check {
        config,
        stream: config["name"].as_str().unwrap_or_default(),
        found: Vec::new(),
    };
    check.subjects();
    check.kept();
    check.limits();
    check.rewritten();
    check.weaker();
    check.found
}

struct Check<'a> {
    config: &'a Value,
    stream: &'a str,
    found: Vec<Finding>,
}

impl Check<'_> {
    fn note(
        &mut self,
        severity: Severity,
        field: &'static str,
        needed: &'static str,
        mend: String,
    ) {
        let value = match &self.config[field] {
            Value::Null => "absent".to_owned(),
            value => value.to_string(),
        };
        self.found.push(Finding {
            severity,
            field,
            value,
            needed,
            mend,
        });
    }

    fn edit(&mut self, severity: Severity, field: &'static str, needed: &'static str, flags: &str) {
        let mend = format!("nats stream edit {} {flags}", self.stream);
        self.note(severity, field, needed, mend);
    }

    /// For what a server does not let us edit.
    fn another(&mut self, field: &'static str, needed: &'static str) {
        self.note(
            Severity::Refuse,
            field,
            needed,
            "waybill serve --stream ANOTHER_NAME".to_owned(),
        );
    }

    fn text(&self, field: &str) -> &str {
        self.config[field].as_str().unwrap_or_default()
    }

    /// Whether a limit is set; 0 and -1 are none.
    fn limited(&self, field: &str) -> bool {
        self.config[field].as_i64().unwrap_or_default() > 0
    }

    fn is(&self, field: &str) -> bool {
        self.config[field].as_bool().unwrap_or_default()
    }

    fn subjects(&mut self) {
        let has: Vec<&str> = self.config["subjects"]
            .as_array()
            .map(|it| it.iter().filter_map(Value::as_str).collect())
            .unwrap_or_default();
        let mirror = !self.config["mirror"].is_null();
        if mirror {
            self.another("mirror", "none: a mirror cannot be published to");
        } else if has.len() != SUBJECTS.len() || !SUBJECTS.iter().all(|it| has.contains(it)) {
            let needed =
                "waybill.events.v1.> and waybill.gate.v1.> and no other: every message is a leaf";
            self.edit(
                Severity::Refuse,
                "subjects",
                needed,
                &format!("--subjects '{}'", SUBJECTS.join(",")),
            );
        }
    }

    fn kept(&mut self) {
        if self.text("retention") != "limits" {
            self.another("retention", "limits: others drop messages that were read");
        }
        if self.text("storage") != "file" {
            self.another("storage", "file: memory is empty after a restart");
        }
        if self.limited("max_age") {
            self.edit(
                Severity::Refuse,
                "max_age",
                "0: messages would vanish with time",
                "--max-age=0",
            );
        }
        if self.is("allow_msg_ttl") {
            self.another(
                "allow_msg_ttl",
                "false: messages could say when they vanish",
            );
        }
        if self.is("sealed") {
            self.another("sealed", "false: nothing can be published");
        }
    }

    fn limits(&mut self) {
        let total = self.limited("max_msgs") || self.limited("max_bytes");
        let drops = self.text("discard") != "new";
        if drops {
            let severity = if total {
                Severity::Refuse
            } else {
                Severity::Warn
            };
            self.edit(
                severity,
                "discard",
                "new: a full stream must refuse, not forget",
                "--discard=new",
            );
        }
        for (field, flag) in [
            ("max_msgs", "--max-msgs=-1"),
            ("max_bytes", "--max-bytes=-1"),
        ] {
            if self.limited(field) {
                let severity = if drops {
                    Severity::Refuse
                } else {
                    Severity::Warn
                };
                self.edit(
                    severity,
                    field,
                    "-1: at this limit the stream takes no more",
                    flag,
                );
            }
        }
        if self.limited("max_msgs_per_subject") {
            let needed = "-1: a new message would push out an older one";
            self.edit(
                Severity::Refuse,
                "max_msgs_per_subject",
                needed,
                "--max-msgs-per-subject=-1",
            );
        }
        let size = self.config["max_msg_size"].as_u64().unwrap_or_default();
        if size > 0 && size < MESSAGE_BYTES_MAX {
            let needed = "1048576 or more, or -1: larger events are refused";
            self.edit(
                Severity::Warn,
                "max_msg_size",
                needed,
                "--max-msg-size=1048576",
            );
        }
    }

    /// What changes messages on their way in, or lets a message change others.
    fn rewritten(&mut self) {
        if self.config["sources"]
            .as_array()
            .is_some_and(|it| !it.is_empty())
        {
            self.another(
                "sources",
                "none: messages of others would come in between, renumbered",
            );
        }
        if !self.config["subject_transform"].is_null() {
            self.another(
                "subject_transform",
                "none: a subject says who may have published",
            );
        }
        if self.is("allow_rollup_hdrs") {
            let needed = "false: a message could delete those before it";
            self.edit(
                Severity::Refuse,
                "allow_rollup_hdrs",
                needed,
                "--no-allow-rollup",
            );
        }
        if self.is("allow_msg_counter") {
            self.another(
                "allow_msg_counter",
                "false: the broker would rewrite messages",
            );
        }
        if self.is("allow_msg_schedules") {
            self.another(
                "allow_msg_schedules",
                "false: the broker would publish and delete by itself",
            );
        }
        if self.is("no_ack") {
            self.edit(
                Severity::Refuse,
                "no_ack",
                "false: nobody would know what was stored",
                "--ack",
            );
        }
    }

    fn weaker(&mut self) {
        let warn = Severity::Warn;
        if !self.is("deny_delete") {
            self.edit(
                Severity::Refuse,
                DENY_DELETE,
                "true: whoever may publish could delete messages, by the subject that they want the acknowledgement on",
                "--deny-delete",
            );
        }
        if !self.is("deny_purge") {
            self.edit(
                Severity::Refuse,
                DENY_PURGE,
                "true: whoever may publish could purge messages, by the subject that they want the acknowledgement on",
                "--deny-purge",
            );
        }
        if self.config["num_replicas"].as_u64().unwrap_or(1) < 2 {
            self.edit(
                warn,
                "num_replicas",
                "3: there is one copy of each message",
                "--replicas=3",
            );
        }
        if self.config["duplicate_window"].as_u64().unwrap_or_default() < DUPLICATE_WINDOW_NS {
            let needed = "2 minutes or more: repeats that come later are stored twice";
            self.edit(warn, "duplicate_window", needed, "--dupe-window=2m");
        }
        if self.text("persist_mode") == "async" {
            let mend = "waybill serve --stream ANOTHER_NAME".to_owned();
            self.note(
                warn,
                "persist_mode",
                "default: what was acknowledged may not be on disk",
                mend,
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Our own configuration with fields changed, and what is said: `severity field` each.
    fn check(change: Value, expected: &[&str]) {
        let mut config = wanted("S", 3);
        for (field, value) in change.as_object().unwrap() {
            config[field] = value.clone();
        }
        let found: Vec<String> = findings(&config)
            .iter()
            .map(|it| format!("{:?} {}", it.severity, it.field))
            .collect();
        assert_eq!(found, expected, "{change}");
    }

    #[test]
    fn our_own_has_no_findings() {
        check(json!({}), &[]);
        check(json!({"num_replicas": 1}), &["Warn num_replicas"]);
    }

    #[test]
    fn what_loses_history_refuses() {
        check(json!({"retention": "workqueue"}), &["Refuse retention"]);
        check(json!({"storage": "memory"}), &["Refuse storage"]);
        check(json!({"max_age": 1}), &["Refuse max_age"]);
        check(
            json!({"max_msgs_per_subject": 1}),
            &["Refuse max_msgs_per_subject"],
        );
        check(
            json!({"allow_rollup_hdrs": true}),
            &["Refuse allow_rollup_hdrs"],
        );
        check(json!({"allow_msg_ttl": true}), &["Refuse allow_msg_ttl"]);
        check(
            json!({"allow_msg_counter": true}),
            &["Refuse allow_msg_counter"],
        );
        check(
            json!({"allow_msg_schedules": true}),
            &["Refuse allow_msg_schedules"],
        );
        check(json!({"sources": [{"name": "O"}]}), &["Refuse sources"]);
        check(
            json!({"mirror": {"name": "O"}, "subjects": null}),
            &["Refuse mirror"],
        );
        check(
            json!({"subject_transform": {"src": ">"}}),
            &["Refuse subject_transform"],
        );
        check(json!({"sealed": true}), &["Refuse sealed"]);
        check(json!({"no_ack": true}), &["Refuse no_ack"]);
        check(json!({"subjects": [SUBJECTS[0]]}), &["Refuse subjects"]);
        check(json!({"subjects": ["waybill.>"]}), &["Refuse subjects"]);
        check(
            json!({"subjects": [SUBJECTS[0], SUBJECTS[1], "other"]}),
            &["Refuse subjects"],
        );
    }

    #[test]
    fn a_limit_is_worse_where_old_messages_go() {
        check(json!({"max_msgs": 10}), &["Warn max_msgs"]);
        check(json!({"discard": "old"}), &["Warn discard"]);
        check(
            json!({"discard": "old", "max_bytes": 10}),
            &["Refuse discard", "Refuse max_bytes"],
        );
        check(json!({"max_msg_size": 10}), &["Warn max_msg_size"]);
    }

    #[test]
    fn messages_that_cannot_be_recorded_are_kept_out() {
        let found =
            |size: i64, server| too_large(&json!({ "name": "S", "max_msg_size": size }), server);
        assert_eq!(found(-1, 1 << 20), None);
        assert_eq!(found(1 << 20, 64 << 20), None);
        assert_eq!(
            found(-1, 8 << 20).unwrap().value,
            "-1 (the server takes 8388608)"
        );
        assert_eq!(found(8 << 20, 64 << 20).unwrap().severity, Severity::Refuse);
    }

    #[test]
    fn what_is_weaker_warns() {
        check(json!({"deny_delete": false}), &["Refuse deny_delete"]);
        check(json!({"deny_purge": null}), &["Refuse deny_purge"]);
        check(json!({"duplicate_window": 1}), &["Warn duplicate_window"]);
        check(json!({"persist_mode": "async"}), &["Warn persist_mode"]);
    }
}
