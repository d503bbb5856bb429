//! Streams that are created, and streams that others created.
use serde_json::{Value, json};
use waybill_fixture::nats::{Options, Server};
use waybill_nats::{Error, Finding, Settings, Severity, Sync, connect};

use crate::kit::{each, settings, stream};

async fn api(server: &Server, verb: &str, body: Value) -> Value {
    let client = async_nats::connect(server.url()).await.unwrap();
    // An empty request is one without a body.
    let body = if body.is_null() {
        String::new()
    } else {
        body.to_string()
    };
    let answer = client
        .request(format!("$JS.API.{verb}"), body.into())
        .await
        .unwrap();
    serde_json::from_slice(&answer.payload).unwrap()
}

fn fields(findings: &[Finding], severity: Severity) -> Vec<&str> {
    let found = findings.iter().filter(|it| it.severity == severity);
    found.map(|it| it.field).collect()
}

#[test]
fn a_stream_is_created_as_it_must_be_and_found_again() {
    each(Options::default(), async |server| {
        let created = stream(&server).await;
        // One server has one copy; nothing else is amiss.
        assert_eq!(
            fields(&created.findings().await.unwrap(), Severity::Warn),
            ["num_replicas"]
        );
        assert_eq!(
            fields(&created.findings().await.unwrap(), Severity::Refuse),
            [""; 0]
        );
        let info = api(&server, "STREAM.INFO.WAYBILL_EVENTS", Value::Null).await;
        let config = &info["config"];
        let expected = json!({
            "subjects": ["waybill.events.v1.>", "waybill.gate.v1.>"], "retention": "limits", "storage": "file",
            "discard": "new", "max_age": 0, "max_msgs": -1, "max_bytes": -1, "max_msgs_per_subject": -1,
            "deny_delete": true, "deny_purge": true, "duplicate_window": 120_000_000_000u64, "num_replicas": 1,
            "max_msg_size": 1_048_576, "allow_direct": true
        });
        for (field, value) in expected.as_object().unwrap() {
            assert_eq!(&config[field], value, "{field}");
        }
        stream(&server).await;
        assert!(created.server().await.unwrap().contains("nats-server 2."));
    });
}

#[test]
fn a_stream_that_would_lose_messages_is_refused_with_the_command_that_mends_it() {
    each(Options::default(), async |server| {
        let subjects = json!(["waybill.events.v1.>", "waybill.gate.v1.>"]);
        let cases = [
            (json!({"retention": "workqueue"}), "retention"),
            (json!({"storage": "memory"}), "storage"),
            (json!({"max_age": 3_600_000_000_000u64}), "max_age"),
            (json!({"max_msgs": 5, "discard": "old"}), "discard"),
            (json!({"max_bytes": 5000, "discard": "old"}), "max_bytes"),
            (json!({"max_msgs_per_subject": 1}), "max_msgs_per_subject"),
            (json!({"allow_rollup_hdrs": true}), "allow_rollup_hdrs"),
            (json!({"no_ack": true}), "no_ack"),
            (json!({"subjects": ["waybill.events.v1.>"]}), "subjects"),
            (json!({"subjects": ["waybill.>"]}), "subjects"),
            (
                json!({"subjects": null, "mirror": {"name": "OTHER"}}),
                "mirror",
            ),
            (json!({"sources": [{"name": "OTHER"}]}), "sources"),
        ];
        let newer = [
            (json!({"allow_msg_ttl": true}), "allow_msg_ttl"),
            (
                json!({"subject_transform": {"src": "waybill.events.v1.>", "dest": "waybill.gate.v1.>"}}),
                "subject_transform",
            ),
            (
                json!({"allow_msg_schedules": true, "discard": "old"}),
                "allow_msg_schedules",
            ),
        ];
        let other = api(
            &server,
            "STREAM.CREATE.OTHER",
            json!({"name": "OTHER", "subjects": ["other"]}),
        )
        .await;
        assert!(other["error"].is_null(), "{other}");
        let newer = newer.into_iter().filter(|_| server.is_at_least(2, 12));
        for (change, field) in cases.into_iter().chain(newer) {
            let mut config =
                json!({"name": "WAYBILL_EVENTS", "subjects": subjects, "discard": "new"});
            for (name, value) in change.as_object().unwrap() {
                config[name] = value.clone();
            }
            let created = api(&server, "STREAM.CREATE.WAYBILL_EVENTS", config).await;
            assert!(created["error"].is_null(), "{change}: {created}");
            let Err(Error::Unfit { findings, .. }) = connect(&settings(&server)).await else {
                panic!("{change} is refused");
            };
            let finding = findings.iter().find(|it| it.field == field).unwrap();
            assert_eq!(finding.severity, Severity::Refuse, "{change}");
            assert!(
                finding
                    .mend
                    .starts_with("nats stream edit WAYBILL_EVENTS --")
                    || finding.mend.contains("serve --stream")
            );
            api(&server, "STREAM.DELETE.WAYBILL_EVENTS", Value::Null).await;
        }
    });
}

#[test]
fn what_is_only_weaker_is_told_and_followed() {
    each(Options::default(), async |server| {
        let config = json!({
            "name": "WAYBILL_EVENTS", "subjects": ["waybill.gate.v1.>", "waybill.events.v1.>"], "discard": "new",
            "max_msgs": 1000, "max_msg_size": 1000, "duplicate_window": 1_000_000_000u64, "storage": "file",
        });
        api(&server, "STREAM.CREATE.WAYBILL_EVENTS", config).await;
        let refused = connect(&settings(&server)).await.unwrap_err();
        let Error::Unfit { findings, .. } = refused else {
            panic!("{refused}");
        };
        let purges = ["deny_delete", "deny_purge"];
        assert_eq!(fields(&findings, Severity::Refuse), purges);
        let allowed = Settings {
            allow_purge: true,
            ..settings(&server)
        };
        let findings = connect(&allowed).await.unwrap().findings().await.unwrap();
        let expected = [
            "max_msgs",
            "max_msg_size",
            "deny_delete",
            "deny_purge",
            "num_replicas",
            "duplicate_window",
        ];
        assert_eq!(fields(&findings, Severity::Warn), expected);
        let text = findings[0].to_string();
        assert_eq!(
            text,
            "max_msgs is 1000, needed is -1: at this limit the stream takes no more: \
             `nats stream edit WAYBILL_EVENTS --max-msgs=-1`"
        );
    });
}

#[test]
fn subjects_of_another_stream_are_named() {
    each(Options::default(), async |server| {
        api(
            &server,
            "STREAM.CREATE.OLD",
            json!({"name": "OLD", "subjects": ["waybill.events.>"]}),
        )
        .await;
        let error = connect(&settings(&server)).await.unwrap_err().to_string();
        assert!(error.contains("its subjects are of stream OLD"), "{error}");
    });
}

#[test]
fn a_server_without_jetstream_says_so() {
    each(Options::default(), async |mut server| {
        server.configure(Options {
            config: "accounts { A { users: [{user: a, password: b}] } }\nno_auth_user: a",
            ..Options::default()
        });
        server.restart();
        let error = connect(&settings(&server)).await.unwrap_err();
        assert!(
            matches!(error, Error::Refused(_)) && error.to_string().contains("10039"),
            "{error}"
        );
    });
}

#[test]
fn the_servers_sync_setting_is_read_where_it_says() {
    each(Options::default(), async |mut server| {
        let unknown = stream(&server).await.sync().await;
        assert_eq!(
            unknown,
            Sync::Unknown("no monitoring address was given".to_owned())
        );
        let mut settings = settings(&server);
        settings.monitor = Some(server.monitor_url());
        let seconds = |it: u64| Sync::Every(std::time::Duration::from_secs(it));
        let stream = connect(&settings).await.unwrap();
        let newer = server.is_at_least(2, 10);
        assert_eq!(stream.sync().await, seconds(if newer { 120 } else { 60 }));
        if newer {
            for (setting, expected) in [
                ("sync_interval: \"1s\"", seconds(1)),
                ("sync_interval: always", Sync::Always),
            ] {
                server.configure(Options {
                    jetstream: setting,
                    ..Options::default()
                });
                server.restart();
                assert_eq!(stream.sync().await, expected);
            }
        }
        server.kill();
        let Sync::Unknown(why) = stream.sync().await else {
            panic!("a server that is gone says nothing");
        };
        assert!(why.contains("refused"), "{why}");
    });
}
