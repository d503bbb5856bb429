//! The emitters of `deploy/examples` in other languages, as a stranger runs them.
use std::{
    fs,
    io::{BufRead, BufReader, Read, Write},
    net::TcpListener,
    path::{Path, PathBuf},
    process::{Command, Output, Stdio},
    thread,
};

use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde_json::{Value, json};
use tempfile::TempDir;
use waybill_proto::{
    json::event_to_json,
    message::{Read as Meant, kept, read, salt},
};
use waybill_tests::process::{Home, Server};

use crate::broker::{Broker, servers};

const EVENT: &str = r#"{"source": "//ci.acme.dev/checkout", "id": "run-1", "occurTime": "2026-11-03T09:00:00Z",
    "deployment": {"finished": {"deployment": {"deploymentId": "d-1", "service": "checkout", "environment": "production"},
    "outcome": "OUTCOME_SUCCESS"}}}"#;

pub(crate) fn example(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../deploy/examples")
        .join(name)
}

fn home() -> (TempDir, Home) {
    let dir = tempfile::tempdir().unwrap();
    let root = dir.path().to_owned();
    (dir, Home { root })
}

/// Runs the curl example on one event.
fn emit_sh(server: &str, environment: &[(&str, &Path)], event: &str) -> Output {
    let mut child = Command::new(example("emit.sh"))
        .env("WAYBILL_SERVER", server)
        .envs(environment.iter().copied())
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(event.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn receipt(output: &Output) -> Value {
    assert!(output.status.success(), "{output:?}");
    let answer: Value = serde_json::from_slice(&output.stdout).unwrap();
    answer["results"][0]["receipt"].clone()
}

#[test]
fn curl_gets_a_receipt_once_and_again() {
    let (_dir, home) = home();
    let server = Server::start(&home, &[]).unwrap();
    let first = receipt(&emit_sh(&server.url, &[], EVENT));
    let again = receipt(&emit_sh(&server.url, &[], EVENT));
    assert_eq!(again["position"], first["position"]);
    assert_eq!(again["duplicate"], true);

    let refused = emit_sh(
        &server.url,
        &[],
        &EVENT.replace("checkout\", \"environment", "\", \"environment"),
    );
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(
        String::from_utf8_lossy(&refused.stdout).contains("MISSING"),
        "{refused:?}"
    );
    let no_event = emit_sh(&server.url, &[], "{");
    assert_eq!(
        no_event.status.code(),
        Some(22),
        "curl's own code for an HTTP status: {no_event:?}"
    );
    assert_eq!(server.stop().unwrap(), Some(0));
}

/// The token goes from its file to the server, and is no argument of curl.
#[test]
fn curl_takes_its_token_from_a_file() {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let server = thread::spawn(move || {
        let (mut stream, _) = listener.accept().unwrap();
        let arguments = arguments_of_curl();
        let mut reader = BufReader::new(stream.try_clone().unwrap());
        let head: Vec<String> = reader
            .by_ref()
            .lines()
            .map_while(Result::ok)
            .take_while(|line| !line.is_empty())
            .collect();
        let body = "{\"results\": [{\"receipt\": {\"position\": \"1\"}}]}";
        write!(
            stream,
            "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        (head, arguments)
    });
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("token");
    fs::write(&file, "wbt_canary\n").unwrap();
    let output = emit_sh(&url, &[("WAYBILL_TOKEN_FILE", &file)], EVENT);
    assert_eq!(receipt(&output)["position"], "1");
    let (head, arguments) = server.join().unwrap();
    assert!(
        head.iter()
            .any(|line| line == "authorization: Bearer wbt_canary"),
        "{head:?}"
    );
    assert!(
        arguments
            .iter()
            .any(|line| line.contains("/waybill.v1.EmitService/Emit")),
        "{arguments:?}"
    );
    assert!(
        !arguments.iter().any(|line| line.contains("wbt_canary")),
        "{arguments:?}"
    );
}

/// The command lines of every curl that runs now.
fn arguments_of_curl() -> Vec<String> {
    let entries = fs::read_dir("/proc").unwrap().map_while(Result::ok);
    let command_lines = entries.filter_map(|entry| fs::read(entry.path().join("cmdline")).ok());
    let texts = command_lines.map(|bytes| String::from_utf8_lossy(&bytes).replace('\0', " "));
    texts.filter(|text| text.starts_with("curl ")).collect()
}

/// A Python that has nats-py with its keys.
pub(crate) fn python() -> Option<String> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join("../target/test-venv/bin/python");
    let found = ["python3".to_owned(), own.display().to_string()]
        .into_iter()
        .find(|python| {
            let probe = Command::new(python)
                .args(["-c", "import nats, nkeys"])
                .output();
            probe.is_ok_and(|output| output.status.success())
        });
    if found.is_none() {
        println!("not run: Python lacks nats-py and nkeys; tests/run installs them");
    }
    found
}

/// A message of a stream as a ledger would read it.
fn meant(stored: &Value) -> Meant {
    let text = |field: &str| STANDARD.decode(stored[field].as_str().unwrap()).unwrap();
    let headers = String::from_utf8(text("hdrs")).unwrap();
    let headers: Vec<(String, String)> = headers
        .strip_prefix("NATS/1.0\r\n")
        .unwrap()
        .lines()
        .filter_map(|line| line.split_once(':'))
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect();
    assert!(salt(&headers).is_some(), "{headers:?}");
    let subject = stored["subject"].as_str().unwrap();
    read(
        subject,
        &kept(subject, &headers),
        &Bytes::from(text("data")),
    )
    .unwrap()
}

#[test]
fn python_publishes_what_a_ledger_reads_and_keeps_it_until_the_receipt() {
    let Some(python) = python() else { return };
    for path in servers() {
        let broker = Broker::start(&path);
        let mut ledger = broker.connect("ledger");
        let stream = json!({"name": "WAYBILL_EVENTS", "subjects": ["waybill.events.v1.>"], "storage": "file", "retention": "limits",
            "discard": "new", "num_replicas": 1, "max_consumers": -1, "max_msgs": -1, "max_bytes": -1, "max_age": 0});
        ledger.request(
            "$JS.API.STREAM.CREATE.WAYBILL_EVENTS",
            "_INBOX_ledger.1",
            &stream.to_string(),
        );
        let outbox = broker.configuration.dir.path().join("outbox");
        let emit = |arguments: &[&str]| {
            Command::new(&python)
                .arg(example("emit.py"))
                .args(["--nats", &format!("nats://127.0.0.1:{}", broker.port)])
                .args([
                    "--source",
                    "//ci.acme.dev/checkout",
                    "--run",
                    "881",
                    "--service",
                    "checkout",
                ])
                .args(["--environment", "production", "--wait", "2"])
                .arg("--seed")
                .arg(broker.configuration.seed("ci-checkout"))
                .arg("--outbox")
                .arg(&outbox)
                .args(arguments)
                .output()
                .unwrap()
        };
        let output = emit(&[]);
        assert!(output.status.success(), "{output:?}");
        let mut stored = |sequence: u32| {
            let ask = json!({"seq": sequence}).to_string();
            let answer = ledger.request(
                "$JS.API.STREAM.MSG.GET.WAYBILL_EVENTS",
                &format!("_INBOX_ledger.get{sequence}"),
                &ask,
            );
            serde_json::from_str::<Value>(&answer.payload).unwrap()["message"].clone()
        };
        let events = [meant(&stored(1)), meant(&stored(2))];
        let told = events
            .each_ref()
            .map(|it| format!("{} {}", it.event.identity, it.event.kind));
        assert_eq!(
            told,
            [
                "//ci.acme.dev/checkout run-881-finished deployment.finished",
                "//ci.acme.dev/checkout run-881-started deployment.started",
            ]
        );

        // The broker's word is no receipt: all is kept, and published again as it was.
        let (_dir, home) = home();
        let server = Server::start(&home, &[]).unwrap();
        let output = emit(&["--ledger", &server.url]);
        assert_eq!(
            output.status.code(),
            Some(1),
            "nothing is recorded: {output:?}"
        );
        assert_eq!(fs::read_dir(&outbox).unwrap().count(), 2);
        assert_eq!([meant(&stored(3)), meant(&stored(4))], events);

        for event in &events {
            receipt(&emit_sh(&server.url, &[], &event_to_json(&event.wire)));
        }
        let output = emit(&["--ledger", &server.url]);
        assert!(output.status.success(), "{output:?}");
        assert_eq!(fs::read_dir(&outbox).unwrap().count(), 0);

        // A job that runs again says the same, later: the ledger has it already.
        assert!(emit(&[]).status.success());
        for (sequence, first) in [(7, &events[0]), (8, &events[1])] {
            let again = meant(&stored(sequence));
            assert_ne!(again.wire, first.wire);
            let receipt = receipt(&emit_sh(&server.url, &[], &event_to_json(&again.wire)));
            assert_eq!(receipt["duplicate"], true, "{receipt}");
        }
        assert_eq!(server.stop().unwrap(), Some(0));
    }
}
