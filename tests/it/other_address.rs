//! The whole way to a ledger on another address: tokens are made, kept in contexts, shown over TLS, verified, recorded
//! with what they emit, and taken back.
use std::{fs, os::unix::fs::PermissionsExt as _, path::PathBuf};

use waybill_tests::process::{Home, Server};

use crate::{
    gate::Authority,
    machine::{Machine, Said, run},
};

struct Place {
    machine: Machine,
    ca: PathBuf,
    tokens: PathBuf,
    server: Server,
}

impl Place {
    fn new() -> Self {
        let machine = Machine::new();
        let home = Home {
            root: machine.path("ledger"),
        };
        let authority = Authority::new("the company's");
        let [certificate, key] = authority.write_certificate(&machine.home());
        let tokens = machine.path("tokens.toml");
        // A server does not start before somebody may call it.
        let made = ["token", "new", "--name", "first", "--role", "operate"];
        run(machine.waybill().args(made).arg("--tokens").arg(&tokens)).well();
        let text = |path: &PathBuf| path.to_str().unwrap().to_owned();
        let (certificate, key, file) = (text(&certificate), text(&key), text(&tokens));
        let secured = [
            "--tls-cert",
            &certificate,
            "--tls-key",
            &key,
            "--tokens",
            &file,
        ];
        Self {
            ca: authority.write(&machine.path("ca.pem")),
            server: Server::start_with(&home, &[], &secured).unwrap(),
            tokens,
            machine,
        }
    }

    fn say(&self, arguments: &[&str]) -> Said {
        run(self.machine.waybill().args(arguments))
    }

    /// Makes a token and keeps it in a context of the same name.
    fn give(&self, name: &str, rights: &[&str]) {
        let new = [
            "token",
            "new",
            "--name",
            name,
            "--tokens",
            self.tokens.to_str().unwrap(),
        ];
        let token = self.say(&[&new[..], rights].concat()).well();
        let path = self.machine.path("token");
        fs::write(&path, token).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let add = ["context", "add", name, "--server", &self.server.url];
        let with = [
            "--ca",
            self.ca.to_str().unwrap(),
            "--token-file",
            path.to_str().unwrap(),
        ];
        self.say(&[add, [with[0], with[1], with[2], with[3], "--quiet"]].concat())
            .well();
    }
}

impl Place {
    /// The server reads its file again by itself, within a second.
    fn wait_for(&self, name: &str) {
        let begin = std::time::Instant::now();
        while self.say(&["status", "--context", name]).code == Some(4) {
            assert!(begin.elapsed().as_secs() < 30, "{name} is not let in");
        }
    }
}

const SOURCE: &str = "//ci.acme.dev/checkout";

#[test]
fn a_token_is_made_shown_verified_recorded_and_taken_back() {
    let place = Place::new();
    let nobody = run(place
        .machine
        .waybill()
        .args(["status", "--server", &place.server.url])
        .env("WAYBILL_CA", &place.ca));
    assert_eq!(nobody.code, Some(4), "{nobody:?}");
    place.give("ci-checkout", &["--role", "emit", "--source", SOURCE]);
    place.give("reader", &["--role", "read"]);
    place.give("operator", &["--role", "operate"]);

    place.wait_for("operator");
    // An emitter may not ask what ran before, and its deployment is recorded all the same.
    let emit = [
        "emit",
        "deploy",
        "checkout",
        "--env",
        "prod",
        "--deployment",
        "d-1",
    ];
    let emit = |context, id| {
        let stamp = ["--source", SOURCE, "--context", context, "--id", id];
        place.say(&[&emit[..], &stamp].concat())
    };
    let said = emit("ci-checkout", "run-1");
    assert!(said.out.starts_with("recorded seq:2"), "{said:?}");
    // Another's source is refused, and is not kept to be refused again.
    let foreign = [
        "emit",
        "incident",
        "INC-1",
        "--source",
        "//other",
        "--context",
        "ci-checkout",
    ];
    let foreign = place.say(&foreign);
    assert_eq!(foreign.code, Some(6), "{foreign:?}");
    let own = [
        "emit",
        "incident",
        "INC-1",
        "--service",
        "checkout",
        "--context",
        "operator",
    ];
    place.say(&own).well();
    let link = [
        "event",
        "link",
        "INC-1",
        "--cause",
        "d-1",
        "--because",
        "graphs",
    ];
    place
        .say(&[&link[..], &["--context", "operator"]].concat())
        .well();

    let shown = place
        .say(&["event", "show", "2", "--context", "reader"])
        .well();
    assert!(shown.contains("ci-checkout (verified)"), "{shown}");
    let listed = place
        .say(&["log", "--source", SOURCE, "--context", "reader"])
        .well();
    let columns: Vec<_> = listed
        .lines()
        .filter_map(|line| line.split_whitespace().next_back())
        .collect();
    assert_eq!(columns, ["SENDER", "ci-checkout"], "{listed}");
    let traced = place.say(&["trace", "INC-1", "--context", "reader"]).well();
    assert!(traced.contains("said by operator (verified)"), "{traced}");
    let refused = place.say(&["status", "--context", "ci-checkout"]);
    assert_eq!(refused.code, Some(4), "{refused:?}");

    let file = place.tokens.to_str().unwrap();
    place
        .say(&["token", "revoke", "ci-checkout", "--tokens", file])
        .well();
    let begin = std::time::Instant::now();
    let waits = loop {
        // The server reads its file again by itself, within a second.
        let said = emit("ci-checkout", "run-2");
        if said.out.is_empty() {
            break said;
        }
        assert!(
            begin.elapsed().as_secs() < 30,
            "the token still counts: {said:?}"
        );
    };
    assert_eq!(waits.code, Some(0), "{waits:?}");
    assert!(
        waits.err.contains("so the event waits on this machine"),
        "{waits:?}"
    );
    place.give("ci-again", &["--role", "emit", "--source", SOURCE]);
    place.give("another", &["--role", "read"]);
    place.wait_for("another");
    let said = emit("ci-again", "run-3");
    assert!(
        said.err.contains("1 event waited and went first"),
        "{said:?}"
    );
}
