//! The ledger on another address, as a stranger sets it up: tokens, TLS, curl. What must be refused is, and what is secret
//! is seen nowhere.
use std::{
    fs::{self, File, OpenOptions, Permissions},
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::PathBuf,
    process::{Child, Command, Output, Stdio},
    thread,
    time::{Duration, Instant},
};

use rcgen::{CertificateParams, KeyPair};
use tempfile::TempDir;
use waybill_tests::process::{self, Home};

use crate::kit::said;

/// How long something may take that must come by itself.
const PATIENCE: Duration = Duration::from_secs(30);
/// A token counts no more a second after it was revoked; the rest is what curl takes.
const REVOKED_WITHIN: Duration = Duration::from_millis(1500);
const EMIT: &str = "waybill.v1.EmitService/Emit";
const STATUS: &str = "waybill.v1.LedgerService/GetStatus";

/// What stands ready before a server does: certificate, key and tokens in files, a home for the ledger.
struct Place {
    dir: TempDir,
    home: Home,
}

impl Place {
    /// Serving with these is wrong usage: it says so, gives the text, and makes no ledger.
    fn refuses_to_serve(&self, listen: &str, arguments: &[&str], expected: &[&str]) -> String {
        let serve = ["serve", "--listen", listen, "--ledger", "never-made"];
        let output = self.waybill(&[&serve[..], arguments].concat());
        let text = said(&output);
        assert_eq!(output.status.code(), Some(2), "{arguments:?}: {text}");
        for expected in expected {
            assert!(
                text.contains(expected),
                "{arguments:?}: `{expected}` in {text}"
            );
        }
        assert!(!self.file("never-made").exists(), "{arguments:?}");
        text
    }

    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let home = Home {
            root: dir.path().join("home"),
        };
        fs::create_dir(&home.root).unwrap();
        let place = Self { dir, home };
        let key = KeyPair::generate().unwrap();
        let names = vec!["localhost".to_owned(), "127.0.0.1".to_owned()];
        let certificate = CertificateParams::new(names).unwrap().self_signed(&key);
        fs::write(place.file("cert.pem"), certificate.unwrap().pem()).unwrap();
        fs::write(place.file("key.pem"), key.serialize_pem()).unwrap();
        place.allow("key.pem", 0o600);
        place
    }

    fn file(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    fn allow(&self, name: &str, mode: u32) {
        fs::set_permissions(self.file(name), Permissions::from_mode(mode)).unwrap();
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = process::command(&self.home);
        command
            .args(arguments)
            .current_dir(self.dir.path())
            .env("WAYBILL_TOKENS", "tokens.toml");
        command
    }

    fn waybill(&self, arguments: &[&str]) -> Output {
        self.command(arguments).output().unwrap()
    }

    /// Makes a token; it is the only thing on stdout.
    fn token(&self, arguments: &[&str]) -> String {
        let output = self.waybill(&[&["token", "new"], arguments].concat());
        assert!(output.status.success(), "{}", said(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        let token = text.strip_suffix('\n').unwrap().to_owned();
        assert!(
            token.starts_with("wbt_") && !token.contains(['\n', ' ']),
            "{token}"
        );
        token
    }

    /// Serves on every address, with what stands ready.
    fn serve(&self) -> Door {
        let log = self.file("log");
        let child = self
            .command(&["serve", "--listen", "0.0.0.0:0", "--ledger"])
            .arg(self.home.data())
            .args(["--tls-cert", "cert.pem", "--tls-key", "key.pem"])
            .stdout(Stdio::null())
            .stderr(File::create(&log).unwrap())
            .spawn()
            .unwrap();
        let mut door = Door {
            child,
            log,
            port: 0,
        };
        let line = door.line("https://0.0.0.0:");
        let port = line.split("https://0.0.0.0:").nth(1).unwrap();
        let digits: String = port.chars().take_while(char::is_ascii_digit).collect();
        door.port = digits.parse().unwrap();
        door
    }

    /// What curl says: the HTTP status and the body.
    fn curl(&self, door: &Door, path: &str, arguments: &[&str]) -> (u16, String) {
        let output = Command::new("curl")
            .args(["-sS", "--cacert", "cert.pem", "-w", "\n%{http_code}"])
            .args(arguments)
            .arg(format!("https://localhost:{}/{path}", door.port))
            .current_dir(self.dir.path())
            .output()
            .unwrap();
        assert!(output.status.success(), "{}", said(&output));
        let text = String::from_utf8(output.stdout).unwrap();
        let (body, code) = text.rsplit_once('\n').unwrap();
        (code.parse().unwrap(), body.to_owned())
    }

    /// A call in JSON with a token.
    fn call(&self, door: &Door, method: &str, token: &str, body: &str) -> (u16, String) {
        let bearer = format!("authorization: Bearer {token}");
        let json = "content-type: application/json";
        self.curl(door, method, &["-H", &bearer, "-H", json, "-d", body])
    }
}

/// A server in a process, and its log in a file.
struct Door {
    child: Child,
    log: PathBuf,
    port: u16,
}

impl Door {
    fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap()
    }

    /// Waits for a line of the log.
    fn line(&mut self, part: &str) -> String {
        let start = Instant::now();
        loop {
            let log = self.log();
            let whole = log
                .split_inclusive('\n')
                .filter(|line| line.ends_with('\n'));
            if let Some(line) = whole.into_iter().find(|line| line.contains(part)) {
                return line.to_owned();
            }
            let ended = self.child.try_wait().unwrap();
            assert!(
                ended.is_none() && start.elapsed() < PATIENCE,
                "no `{part}` in {log}"
            );
            thread::yield_now();
        }
    }
}

impl Drop for Door {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

fn event(source: &str, id: &str) -> String {
    format!(
        r#"{{"events":[{{"source":"{source}","id":"{id}","occurTime":"2026-11-01T09:00:00Z","commit":{{"recorded":
        {{"repository":"github.com/acme/shop","revision":"4f2a9c1b7d4f2a9c1b7d4f2a9c1b7d4f2a9c1b7d"}}}}}}]}}"#
    )
}

#[test]
fn a_stranger_opens_the_door_and_closes_it_to_one() {
    let place = Place::new();
    let emit = [
        "--name",
        "ci-checkout",
        "--role",
        "emit",
        "--expires",
        "90d",
    ];
    let own = ["--source", "//ci.acme.dev/checkout"];
    let emits = place.token(&[&emit[..], &own].concat());
    let reads = place.token(&["--name", "dashboard", "--role", "read"]);
    let mode = fs::metadata(place.file("tokens.toml"))
        .unwrap()
        .permissions()
        .mode();
    assert_eq!(mode & 0o777, 0o600);

    let mut door = place.serve();
    let (code, body) = place.call(&door, EMIT, &emits, &event("//ci.acme.dev/checkout", "1"));
    assert!(code == 200 && body.contains("\"receipt\""), "{code} {body}");
    let (code, body) = place.call(&door, EMIT, &emits, &event("//ci.acme.dev/other", "1"));
    assert!(
        code == 200 && body.contains("\"NOT_ALLOWED\""),
        "{code} {body}"
    );
    assert_eq!(place.call(&door, EMIT, &reads, "{}").0, 403);
    assert_eq!(place.call(&door, STATUS, &emits, "{}").0, 403);
    let get =
        r#"{"event":{"source":"//ci.acme.dev/checkout","id":"1"},"atLeast":{"position":"2"}}"#;
    let (code, body) = place.call(&door, "waybill.v1.LedgerService/GetEvent", &reads, get);
    assert!(
        code == 200 && body.contains("\"sender\":\"ci-checkout\""),
        "{code} {body}"
    );
    assert_eq!(place.curl(&door, "metrics", &[]).0, 401);
    assert_eq!(
        place.curl(&door, "readyz?verbose", &[]),
        (200, "ready\n".to_owned())
    );

    let output = place.waybill(&["token", "revoke", "ci-checkout"]);
    assert!(output.status.success(), "{}", said(&output));
    let revoked = Instant::now();
    while place.call(&door, EMIT, &emits, "{}").0 != 401 {
        assert!(revoked.elapsed() < REVOKED_WITHIN, "{}", door.log());
    }
    assert_eq!(place.call(&door, STATUS, &reads, "{}").0, 200);
    door.line("revoked_token");
    let listed = said(&place.waybill(&["token", "ls"]));
    let states: Vec<_> = listed
        .lines()
        .skip(1)
        .filter_map(|line| line.split(' ').next_back())
        .collect();
    assert_eq!(states, ["revoked", "active"], "{listed}");
}

#[test]
fn what_would_let_everybody_in_is_refused_with_what_to_do() {
    let place = Place::new();
    let refused = |arguments: &[&str], expected: &[&str]| {
        place.refuses_to_serve("0.0.0.0:0", arguments, expected);
    };
    let tls = ["--tls-cert", "cert.pem", "--tls-key", "key.pem"];
    place.token(&["--name", "ops", "--role", "operate"]);
    refused(&[], &["without TLS", "--tls-cert", "--behind-proxy"]);
    refused(&tls[..2], &["--tls-key FILE"]);
    place.allow("key.pem", 0o644);
    refused(&tls, &["key.pem has mode 0644", "chmod 600"]);
    place.allow("key.pem", 0o600);
    place.allow("tokens.toml", 0o620);
    refused(&tls, &["tokens.toml has mode 0620", "chmod 600"]);
    place.allow("tokens.toml", 0o600);
    fs::write(place.file("other.pem"), "no key").unwrap();
    place.allow("other.pem", 0o600);
    refused(
        &[tls[0], tls[1], tls[2], "other.pem"],
        &["other.pem", "the key cannot be read"],
    );
    let text = fs::read_to_string(place.file("tokens.toml")).unwrap();
    fs::write(place.file("tokens.toml"), text.replace("operate", "admin")).unwrap();
    refused(&tls, &["tokens.toml:8:8: not a role"]);

    let output = place
        .command(&[
            "serve",
            "--listen",
            "0.0.0.0:0",
            "--ledger",
            "never-made",
            "--behind-proxy",
        ])
        .env_remove("WAYBILL_TOKENS")
        .output()
        .unwrap();
    let text = said(&output);
    assert_eq!(output.status.code(), Some(2), "{text}");
    assert!(
        text.contains("without tokens") && text.contains("waybill token new"),
        "{text}"
    );
}

#[test]
fn what_is_wrong_with_a_broker_is_said_before_anything_is_made() {
    let place = Place::new();
    place.token(&["--name", "ops", "--role", "operate"]);
    let refused = |arguments: &[&str], expected: &[&str]| {
        let text = place.refuses_to_serve("127.0.0.1:0", arguments, expected);
        assert!(!text.contains("canary"), "{arguments:?}: {text}");
    };
    let nats = ["--nats", "nats://127.0.0.1:1"];
    let also = |more: [&'static str; 2]| [nats, more].concat();
    let wanted = "not nats://HOST:PORT or tls://HOST:PORT";
    refused(&["--nats", "http://b:4222"], &["`http://b:4222`", wanted]);
    refused(&["--nats", "nats://b:99999"], &["`nats://b:99999`", wanted]);
    refused(
        &["--nats", "nats://ann:canary@b:4222"],
        &["put them in a file", "--help"],
    );
    for flag in ["--stream", "--nats-monitor", "--nats-nkey"] {
        refused(&[flag, "x"], &[flag, "--nats nats://HOST:4222"]);
    }
    refused(
        &also(["--stream", "a b"]),
        &["stream", "\"a b\"", "letters"],
    );
    refused(
        &also(["--nats-inbox-prefix", "a b"]),
        &["inbox prefix", "\"a b\"", "letters"],
    );
    refused(
        &also(["--nats-replicas", "9"]),
        &["--nats-replicas", "1..=5"],
    );
    refused(
        &also(["--nats-nkey", "none.nk"]),
        &["none.nk cannot be read"],
    );
    fs::write(place.file("user.nk"), "SUcanary\n").unwrap();
    place.allow("user.nk", 0o644);
    refused(
        &also(["--nats-nkey", "user.nk"]),
        &["user.nk", "mode 0644", "chmod 600"],
    );
    place.allow("user.nk", 0o600);
    refused(
        &also(["--nats-nkey", "user.nk"]),
        &["user.nk holds no seed"],
    );
    fs::write(place.file("password"), "canary\n").unwrap();
    place.allow("password", 0o600);
    refused(
        &[
            "--nats",
            "nats://192.0.2.1:4222",
            "--nats-user",
            "ann",
            "--nats-password-file",
            "password",
        ],
        &["192.0.2.1 without TLS", "tls://", "--nats-allow-plaintext"],
    );
}

#[test]
fn a_slip_in_the_file_of_tokens_locks_nobody_out() {
    let place = Place::new();
    let first = place.token(&["--name", "first", "--role", "read"]);
    let mut door = place.serve();
    let good = fs::read(place.file("tokens.toml")).unwrap();
    let mut file = OpenOptions::new()
        .append(true)
        .open(place.file("tokens.toml"))
        .unwrap();
    file.write_all(b"\n[[token]\n").unwrap();
    let line = door.line("a file changed and cannot be used");
    assert!(
        line.contains("ERROR") && line.contains("tokens.toml:"),
        "{line}"
    );
    assert_eq!(place.call(&door, STATUS, &first, "{}").0, 200);
    let output = place.waybill(&["token", "new", "--name", "second", "--role", "read"]);
    assert_eq!(output.status.code(), Some(2), "{}", said(&output));

    fs::write(place.file("tokens.toml"), good).unwrap();
    let second = place.token(&["--name", "second", "--role", "read"]);
    let start = Instant::now();
    while place.call(&door, STATUS, &second, "{}").0 != 200 {
        assert!(start.elapsed() < PATIENCE, "{}", door.log());
    }
    assert_eq!(place.call(&door, STATUS, &first, "{}").0, 200);
}

/// A token is used in every wrong way that people find, and then looked for in everything that the server leaves.
#[test]
fn a_token_is_seen_nowhere_but_where_it_was_made() {
    let place = Place::new();
    let emits = [
        "--name",
        "ci",
        "--role",
        "emit",
        "--source",
        "//ci.acme.dev/*",
    ];
    let (emits, reads) = (
        place.token(&emits),
        place.token(&["--name", "dashboard", "--role", "read"]),
    );
    let gone = place.token(&["--name", "gone", "--role", "operate"]);
    said(&place.waybill(&["token", "revoke", "gone"]));
    // Nobody's, of the right form: the id of another, and another secret.
    let wrong = format!("{}{}", &emits[..17], &reads[17..]);
    let door = place.serve();
    let mut answers = String::new();
    for token in [&emits, &reads, &gone, &wrong] {
        for method in [EMIT, STATUS] {
            answers += &place
                .call(&door, method, token, &event("//ci.acme.dev/a", "1"))
                .1;
            answers += &place.call(&door, method, token, "{\"tokn\":1}").1;
        }
        for header in [
            format!("authorization: {token}"),
            format!("authorization: Basic {token}"),
            format!("authorization: Bearer {token} {token}"),
        ] {
            answers += &place.curl(&door, "metrics", &["-H", &header]).1;
            let grpc = [
                "-H",
                &header,
                "-H",
                "content-type: application/grpc",
                "-X",
                "POST",
            ];
            answers += &place.curl(&door, STATUS, &grpc).1;
        }
        // In the query it is no token, and no log has it.
        answers += &place
            .curl(&door, &format!("metrics?access_token={token}"), &[])
            .1;
        answers += &place
            .curl(&door, &format!("{STATUS}?token={token}"), &["-d", "{}"])
            .1;
    }
    let bearer = format!("authorization: Bearer {reads}");
    answers += &place.curl(&door, "metrics", &["-H", &bearer]).1;
    answers += &place.call(&door, STATUS, &reads, "{}").1;
    let refusals = "waybill.v1.LedgerService/ListRefusals";
    answers += &place.call(&door, refusals, &reads, "{}").1;
    answers += &said(&place.waybill(&["token", "ls"]));
    answers += &said(&place.waybill(&["token", "ls", "--json"]));

    let log = door.log();
    assert!(
        log.contains("wrong_token") && log.contains("revoked_token"),
        "{log}"
    );
    assert!(answers.contains("waybill_denied_calls_total{reason=\"wrong_token\"}"));
    // What was said, what the process was started with, every file that it wrote; and one that holds a token, to be found.
    fs::write(place.file("answers"), answers).unwrap();
    fs::write(place.file("control"), &emits).unwrap();
    let process = format!("/proc/{}", door.child.id());
    let mut grep = Command::new("grep");
    grep.args(["-rlaF", "--devices=skip"]);
    for token in [&emits, &reads, &gone, &wrong] {
        grep.args(["-e", &token[17..]]);
    }
    grep.arg(place.dir.path());
    grep.args([format!("{process}/cmdline"), format!("{process}/environ")]);
    let found = String::from_utf8(grep.output().unwrap().stdout).unwrap();
    assert_eq!(
        found.trim_end(),
        place.file("control").display().to_string()
    );
}
