//! What each user of `deploy/nats` may do, as the server sees it: everything that is not in the table is refused.
use std::fs;
use std::os::unix::fs::PermissionsExt;

use serde_json::{Value, json};

use crate::broker::{Broker, Client, Configuration, EMITTERS, servers};

const USERS: [&str; 4] = ["ci-checkout", "pager", "ledger", "operator"];
const CHECKOUT: &str = "waybill.events.v1._._2f_2fci_2eacme_2edev_2fcheckout.deployment.finished._";
const FORGED: &str = "waybill.gate.v1._._2f_2fci_2eacme_2edev_2fcheckout.ledger.epoch_5fopened._";

/// A subject, who may publish to it, and who may subscribe to it.
const TABLE: &[(&str, &str, &str)] = &[
    (CHECKOUT, "ci-checkout ledger operator", "operator"),
    (
        "waybill.events.v1._._2f_2fpager_2eacme_2edev.incident.opened._",
        "pager ledger operator",
        "operator",
    ),
    (
        "waybill.events.v1._._2f_2fother.incident.opened._",
        "ledger operator",
        "operator",
    ),
    (FORGED, "ledger operator", "operator"),
    (
        "waybill.checkpoint.v1.ledger-1.instance-1",
        "ledger operator",
        "ledger operator",
    ),
    ("waybill.checkpoint.v1.ledger-1.*", "", "ledger operator"),
    (
        "waybill.events.v2._._2f_2fci_2eacme_2edev_2fcheckout.deployment.finished._",
        "operator",
        "operator",
    ),
    ("_INBOX_ci_checkout.1", "operator", "ci-checkout operator"),
    ("_INBOX_pager.1", "operator", "pager operator"),
    ("_INBOX_ledger.1", "operator", "ledger operator"),
    ("_INBOX_operator.1", "operator", "operator"),
    ("_INBOX.1", "operator", "operator"),
    (">", "", "operator"),
    ("waybill.>", "", "operator"),
    (
        "waybill.events.v1.*._2f_2fci_2eacme_2edev_2fcheckout.>",
        "",
        "operator",
    ),
    ("$JS.>", "", "operator"),
    (
        "$JS.EVENT.ADVISORY.STREAM.DELETED.WAYBILL_EVENTS",
        "operator",
        "operator",
    ),
    ("$SYS.REQ.SERVER.PING", "operator", "operator"),
    ("$JS.API.INFO", "operator", "operator"),
    ("$JS.API.STREAM.NAMES", "ledger operator", "operator"),
    ("$JS.API.STREAM.LIST", "operator", "operator"),
    (
        "$JS.API.STREAM.INFO.WAYBILL_EVENTS",
        "ledger operator",
        "operator",
    ),
    ("$JS.API.STREAM.INFO.OTHER", "operator", "operator"),
    (
        "$JS.API.STREAM.CREATE.WAYBILL_EVENTS",
        "ledger operator",
        "operator",
    ),
    ("$JS.API.STREAM.CREATE.OTHER", "operator", "operator"),
    (
        "$JS.API.STREAM.UPDATE.WAYBILL_EVENTS",
        "operator",
        "operator",
    ),
    (
        "$JS.API.STREAM.PURGE.WAYBILL_EVENTS",
        "operator",
        "operator",
    ),
    (
        "$JS.API.STREAM.DELETE.WAYBILL_EVENTS",
        "operator",
        "operator",
    ),
    (
        "$JS.API.STREAM.SNAPSHOT.WAYBILL_EVENTS",
        "operator",
        "operator",
    ),
    (
        "$JS.API.STREAM.RESTORE.WAYBILL_EVENTS",
        "operator",
        "operator",
    ),
    (
        "$JS.API.STREAM.MSG.GET.WAYBILL_EVENTS",
        "ledger operator",
        "operator",
    ),
    (
        "$JS.API.STREAM.MSG.DELETE.WAYBILL_EVENTS",
        "operator",
        "operator",
    ),
    ("$JS.API.DIRECT.GET.WAYBILL_EVENTS", "operator", "operator"),
    (
        "$JS.API.CONSUMER.CREATE.WAYBILL_EVENTS",
        "ledger operator",
        "operator",
    ),
    (
        "$JS.API.CONSUMER.CREATE.WAYBILL_EVENTS.c",
        "ledger operator",
        "operator",
    ),
    ("$JS.API.CONSUMER.CREATE.OTHER.c", "operator", "operator"),
    (
        "$JS.API.CONSUMER.DURABLE.CREATE.WAYBILL_EVENTS.c",
        "ledger operator",
        "operator",
    ),
    (
        "$JS.API.CONSUMER.INFO.WAYBILL_EVENTS.c",
        "ledger operator",
        "operator",
    ),
    (
        "$JS.API.CONSUMER.DELETE.WAYBILL_EVENTS.c",
        "ledger operator",
        "operator",
    ),
    (
        "$JS.API.CONSUMER.MSG.NEXT.WAYBILL_EVENTS.c",
        "ledger operator",
        "operator",
    ),
    (
        "$JS.API.CONSUMER.NAMES.WAYBILL_EVENTS",
        "operator",
        "operator",
    ),
    (
        "$JS.API.CONSUMER.LIST.WAYBILL_EVENTS",
        "operator",
        "operator",
    ),
    (
        "$JS.ACK.WAYBILL_EVENTS.c.1.1.1.1.0",
        "ledger operator",
        "operator",
    ),
    ("$JS.ACK.OTHER.c.1.1.1.1.0", "operator", "operator"),
];

/// The subjects of the table that a user was let at, out of those that can be asked for.
fn let_through(client: &mut Client, asked: &[&str], verb: &str) -> Vec<String> {
    for subject in asked {
        match verb {
            "Publish" => client.publish(subject, "", ""),
            _ => client.subscribe(subject),
        }
    }
    let errors = client.errors();
    let is_refused = |subject: &&&str| {
        let told = format!("Permissions Violation for {verb} to \"{subject}\"");
        errors.iter().any(|error| error.contains(&told))
    };
    let (refused, allowed): (Vec<&&str>, Vec<&&str>) = asked.iter().partition(is_refused);
    assert_eq!(refused.len(), errors.len(), "{errors:?}");
    allowed
        .into_iter()
        .map(|subject| (*subject).to_owned())
        .collect()
}

#[test]
fn each_user_may_do_what_is_its_own_and_nothing_else() {
    for server in servers() {
        let broker = Broker::start(&server);
        for user in USERS {
            let mut client = broker.connect(user);
            // A wildcard is no subject that one can publish to.
            let plain: Vec<&str> = TABLE
                .iter()
                .map(|row| row.0)
                .filter(|subject| !subject.contains(['*', '>']))
                .collect();
            let every: Vec<&str> = TABLE.iter().map(|row| row.0).collect();
            let meant = |column: fn(&(&str, &str, &str)) -> String| -> Vec<String> {
                let rows = TABLE
                    .iter()
                    .filter(|row| column(row).split(' ').any(|it| it == user));
                rows.map(|row| row.0.to_owned()).collect()
            };
            let published = let_through(&mut client, &plain, "Publish");
            assert_eq!(
                published,
                meant(|row| row.1.to_owned()),
                "{user} on {}",
                server.display()
            );
            let subscribed = let_through(&mut client, &every, "Subscription");
            assert_eq!(
                subscribed,
                meant(|row| row.2.to_owned()),
                "{user} on {}",
                server.display()
            );
        }
    }
}

#[test]
fn nobody_comes_in_without_a_key() {
    // The seed of a user that no broker knows.
    let stranger = Configuration::new();
    let seed = fs::read_to_string(stranger.seed("operator")).unwrap();
    for server in servers() {
        let broker = Broker::start(&server);
        for seed in [None, Some(seed.trim())] {
            let told = Client::connect(broker.port, seed).unwrap_err();
            assert!(told.contains("Authorization Violation"), "{told}");
        }
    }
}

fn stream() -> Value {
    json!({
        "name": "WAYBILL_EVENTS", "subjects": ["waybill.events.v1.>", "waybill.gate.v1.>"], "storage": "file", "retention": "limits",
        "discard": "new", "num_replicas": 1, "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0,
        "deny_purge": true, "deny_delete": true, "duplicate_window": 120_000_000_000_u64,
    })
}

fn json_of(text: &str) -> Value {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

#[test]
fn the_users_can_do_their_work() {
    for server in servers() {
        let broker = Broker::start(&server);
        let mut ledger = broker.connect("ledger");
        let made = ledger.request(
            "$JS.API.STREAM.CREATE.WAYBILL_EVENTS",
            "_INBOX_ledger.1",
            &stream().to_string(),
        );
        assert_eq!(
            json_of(&made.payload)["config"]["name"],
            "WAYBILL_EVENTS",
            "{made:?}"
        );

        let mut emitter = broker.connect("ci-checkout");
        let acknowledged = emitter.request(CHECKOUT, "_INBOX_ci_checkout.1", "an event");
        assert_eq!(json_of(&acknowledged.payload)["seq"], 1, "{acknowledged:?}");

        let consumer = json!({"stream_name": "WAYBILL_EVENTS", "config": {"durable_name": "c", "ack_policy": "all", "deliver_policy": "all"}});
        let made = ledger.request(
            "$JS.API.CONSUMER.DURABLE.CREATE.WAYBILL_EVENTS.c",
            "_INBOX_ledger.2",
            &consumer.to_string(),
        );
        assert_eq!(json_of(&made.payload)["name"], "c", "{made:?}");
        let message = ledger.request(
            "$JS.API.CONSUMER.MSG.NEXT.WAYBILL_EVENTS.c",
            "_INBOX_ledger.3",
            "1",
        );
        assert_eq!(message.payload, "an event");
        ledger.request(&message.reply, "_INBOX_ledger.4", "");
        let info = ledger.request(
            "$JS.API.CONSUMER.INFO.WAYBILL_EVENTS.c",
            "_INBOX_ledger.5",
            "",
        );
        assert_eq!(
            json_of(&info.payload)["ack_floor"]["stream_seq"],
            1,
            "{info:?}"
        );

        let gate = ledger.request(FORGED, "_INBOX_ledger.6", "an opener");
        assert_eq!(json_of(&gate.payload)["seq"], 2, "{gate:?}");
        let got = ledger.request(
            "$JS.API.STREAM.MSG.GET.WAYBILL_EVENTS",
            "_INBOX_ledger.7",
            "{\"seq\": 2}",
        );
        assert_eq!(
            json_of(&got.payload)["message"]["subject"],
            FORGED,
            "{got:?}"
        );
        let gone = ledger.request(
            "$JS.API.CONSUMER.DELETE.WAYBILL_EVENTS.c",
            "_INBOX_ledger.8",
            "",
        );
        assert_eq!(json_of(&gone.payload)["success"], true, "{gone:?}");
    }
}

/// Who publishes names where the acknowledgement goes, and no permission covers that: the server then says
/// `{"stream": "WAYBILL_EVENTS", "seq": 1}` there, which a purge or a deletion would take as its orders. The stream itself must
/// deny both.
#[test]
fn an_acknowledgement_that_is_sent_elsewhere_does_no_harm() {
    for server in servers() {
        let broker = Broker::start(&server);
        let mut ledger = broker.connect("ledger");
        ledger.request(
            "$JS.API.STREAM.CREATE.WAYBILL_EVENTS",
            "_INBOX_ledger.1",
            &stream().to_string(),
        );
        let mut emitter = broker.connect("ci-checkout");
        let calls = [
            "STREAM.PURGE",
            "STREAM.MSG.DELETE",
            "STREAM.DELETE",
            "STREAM.UPDATE",
        ];
        for call in calls {
            emitter.publish(
                CHECKOUT,
                &format!("$JS.API.{call}.WAYBILL_EVENTS"),
                "an event",
            );
        }
        assert_eq!(emitter.errors(), [""; 0]);
        // Its answer comes behind theirs.
        emitter.request(CHECKOUT, "_INBOX_ci_checkout.1", "the last one");
        let info = ledger.request("$JS.API.STREAM.INFO.WAYBILL_EVENTS", "_INBOX_ledger.2", "");
        let state = &json_of(&info.payload)["state"];
        assert_eq!(
            (&state["first_seq"], &state["messages"]),
            (&json!(1), &json!(calls.len() + 1)),
            "{info:?}"
        );
    }
}

#[test]
fn configurations_are_valid_where_the_server_knows_their_fields() {
    let configuration = Configuration::new();
    let certificate = [
        "req",
        "-x509",
        "-newkey",
        "ec",
        "-pkeyopt",
        "ec_paramgen_curve:P-256",
        "-nodes",
        "-subj",
        "/CN=localhost",
        "-days",
        "2",
    ];
    fs::create_dir(configuration.dir.path().join("tls")).unwrap();
    let made = std::process::Command::new("openssl")
        .args(certificate)
        .args(["-keyout", "tls/server.key", "-out", "tls/server.crt"])
        .current_dir(configuration.dir.path())
        .output()
        .unwrap();
    assert!(made.status.success(), "{made:?}");
    for server in servers() {
        let said = |file| {
            let output = configuration.check(&server, file);
            let said = String::from_utf8(output.stderr).unwrap();
            (output.status.success(), said)
        };
        let old = said("nats-2.9.conf");
        assert!(old.0, "{}: {}", server.display(), old.1);
        for file in ["nats.conf", "nats-tls.conf"] {
            let new = said(file);
            let is_old_server = new.1.contains("unknown field \"sync_interval\"");
            assert!(
                new.0 || is_old_server,
                "{} {file}: {}",
                server.display(),
                new.1
            );
        }
    }
    // Without users nothing starts: there is no default key.
    fs::remove_file(configuration.dir.path().join("users.conf")).unwrap();
    for server in servers() {
        assert!(
            !configuration
                .check(&server, "nats-2.9.conf")
                .status
                .success()
        );
    }
}

#[test]
fn users_are_added_and_keys_stay() {
    let configuration = Configuration::new();
    let users = || fs::read_to_string(configuration.dir.path().join("users.conf")).unwrap();
    let seed = configuration.seed("ci-checkout");
    let (before, key) = (users(), fs::read_to_string(&seed).unwrap());
    assert!(!before.contains(key.trim()), "the broker has no seeds");
    assert_eq!(
        fs::metadata(&seed).unwrap().permissions().mode() & 0o777,
        0o600
    );

    let more = [
        EMITTERS[0],
        EMITTERS[1],
        ("night-build", "//ci.acme.dev/night"),
    ];
    assert!(configuration.make_users(&more).status.success());
    assert_eq!(fs::read_to_string(&seed).unwrap(), key);
    assert!(
        users()
            .lines()
            .filter(|line| before.lines().any(|old| old == *line))
            .count()
            >= before.lines().count()
    );
    assert!(users().contains("waybill.events.v1.*._2f_2fci_2eacme_2edev_2fnight.>"));

    for bad in [("a.b", "//x"), ("a", ""), ("ledger", "//x"), ("a_b", "//x")] {
        let output = configuration.make_users(&[bad]);
        assert_eq!(output.status.code(), Some(2), "{bad:?}");
    }
    fs::write(&seed, "SUAAAAAA\n").unwrap();
    assert_eq!(configuration.make_users(&EMITTERS).status.code(), Some(1));
}
