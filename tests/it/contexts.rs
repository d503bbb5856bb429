//! A ledger on another address, as its callers meet it: TLS, tokens, and contexts that keep a token with its server.
use std::{
    fs,
    io::Write as _,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    process::{Command, Stdio},
};

use waybill_tests::process::{Home, Server, example};

use crate::{
    gate::{Authority, Certificate, Gate, Lets},
    machine::{Machine, Said, run},
};

const TOKEN: &str = "wbt_canary-of-the-first-server-0123456789";
const OTHER: &str = "wbt_canary-of-the-other-server-0123456789";

/// A machine that trusts one authority, and a ledger behind gates.
struct Place {
    machine: Machine,
    authority: Authority,
    ca: PathBuf,
    server: Server,
}

impl Place {
    fn new() -> Self {
        let machine = Machine::new();
        let home = Home {
            root: machine.path("ledger"),
        };
        let authority = Authority::new("the company's");
        Self {
            ca: authority.write(&machine.path("ca.pem")),
            server: Server::start(&home, &[]).unwrap(),
            authority,
            machine,
        }
    }

    fn gate(&self, lets: Lets) -> Gate {
        let certificate = Some((&self.authority, Certificate::Good));
        Gate::before(&self.server.url, certificate, lets)
    }

    fn token_file(&self, token: &str) -> String {
        let path = self.machine.path("token file");
        fs::write(&path, format!("{token}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    fn add(&self, name: &str, gate: &Gate, token: &str) {
        let (file, url) = (self.token_file(token), gate.url());
        let add = [
            "context",
            "add",
            name,
            "--server",
            &url,
            "--token-file",
            &file,
        ];
        self.say(
            &[&add[..], &["--ca", self.ca.to_str().unwrap()]].concat(),
            &[],
        )
        .well();
        fs::remove_file(file).unwrap();
    }

    fn command(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Command {
        let mut command = self.machine.waybill();
        command.args(arguments).envs(variables.iter().copied());
        command
    }

    /// Runs the command; whatever it says, a token is not in it.
    #[track_caller]
    fn say(&self, arguments: &[&str], variables: &[(&str, &str)]) -> Said {
        without_secrets(run(&mut self.command(arguments, variables)))
    }

    /// Files below a directory that hold a token.
    fn holding_a_token(&self, directory: &Path) -> Vec<PathBuf> {
        let mut found = Vec::new();
        for entry in fs::read_dir(directory).into_iter().flatten() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                found.extend(self.holding_a_token(&path));
            } else if String::from_utf8_lossy(&fs::read(&path).unwrap()).contains("canary") {
                found.push(path);
            }
        }
        found
    }
}

#[track_caller]
fn without_secrets(said: Said) -> Said {
    assert!(!format!("{said:?}").contains("canary"), "{said:?}");
    said
}

/// Arguments, variables, exit code, and what the first and the other server were shown.
type Case<'a> = (
    &'a [&'a str],
    &'a [(&'a str, &'a str)],
    i32,
    Vec<Option<String>>,
    Vec<Option<String>>,
);

fn bearer(token: &str) -> Vec<Option<String>> {
    vec![Some(format!("Bearer {token}"))]
}

const EMIT: [&str; 7] = [
    "emit", "deploy", "checkout", "--env", "prod", "--id", "run-1",
];

#[test]
fn a_token_goes_to_its_own_server_and_to_no_other() {
    let place = Place::new();
    let (first, other) = (
        place.gate(Lets::Token(TOKEN)),
        place.gate(Lets::Token(OTHER)),
    );
    place.add("first", &first, TOKEN);
    place.add("other", &other, OTHER);
    assert!(first.seen().is_empty(), "adding a context calls nobody");
    place.say(&["context", "use", "first"], &[]).well();

    let ca = ("WAYBILL_CA", place.ca.to_str().unwrap());
    let (to_first, to_other) = (first.url(), other.url());
    let token = ("WAYBILL_TOKEN", OTHER);
    let file = place.token_file(OTHER);
    let token_file = ("WAYBILL_TOKEN_FILE", file.as_str());
    let server = ("WAYBILL_SERVER", to_other.as_str());
    let nothing = || vec![None];
    // What is typed and set, how it ends, and what each of the two servers was shown.
    let cases: [Case<'_>; 11] = [
        (&[], &[], 0, bearer(TOKEN), vec![]),
        (&["--context", "other"], &[], 0, vec![], bearer(OTHER)),
        (
            &[],
            &[("WAYBILL_CONTEXT", "other")],
            0,
            vec![],
            bearer(OTHER),
        ),
        // A variable's token is not for a context's server.
        (&[], &[token], 0, bearer(TOKEN), vec![]),
        // A context's token is not for a server that is named otherwise, whichever it is.
        (&["--server", &to_other], &[ca], 4, vec![], nothing()),
        (&["--server", &to_first], &[ca], 4, nothing(), vec![]),
        (&[], &[server, ca], 4, vec![], nothing()),
        // A variable's token goes with the variable's server, or with the flag where no variable says otherwise.
        (&[], &[server, token, ca], 0, vec![], bearer(OTHER)),
        (
            &["--server", &to_other],
            &[token_file, ca],
            0,
            vec![],
            bearer(OTHER),
        ),
        (
            &["--server", &to_other],
            &[server, token, ca],
            0,
            vec![],
            bearer(OTHER),
        ),
        (
            &["--server", &to_first],
            &[server, token, ca],
            4,
            nothing(),
            vec![],
        ),
    ];
    for (arguments, variables, code, at_first, at_other) in cases {
        let said = place.say(&[&["status"], arguments].concat(), variables);
        assert_eq!(
            said.code,
            Some(code),
            "{arguments:?} {variables:?}: {said:?}"
        );
        let seen = (first.seen(), other.seen());
        assert_eq!(seen, (at_first, at_other), "{arguments:?} {variables:?}");
    }
    let held_back = place.say(&["status", "--server", &to_first], &[server, token, ca]);
    assert!(
        held_back.err.contains("so no token was sent"),
        "{held_back:?}"
    );

    let listed = place.say(&["context", "ls"], &[]).well();
    assert!(
        listed
            .lines()
            .any(|line| line.starts_with('*') && line.contains(&to_first)),
        "{listed}"
    );
    // Secrets are where they belong, and nowhere else that this machine keeps.
    fs::remove_file(file).unwrap();
    let tokens = place.machine.home().join("config/waybill/tokens");
    let mut kept = place.holding_a_token(place.machine.home().as_path());
    kept.sort();
    assert_eq!(kept, [tokens.join("first"), tokens.join("other")]);
    place.say(&["context", "rm", "first"], &[]).well();
    let after = place.say(&["status", "--context", "first"], &[]);
    assert_eq!(after.code, Some(3), "{after:?}");
    assert!(!tokens.join("first").exists());
}

#[test]
fn a_redirect_takes_no_token_anywhere() {
    let place = Place::new();
    let other = place.gate(Lets::Token(TOKEN));
    let first = place.gate(Lets::Elsewhere(other.url()));
    place.add("first", &first, TOKEN);
    let said = place.say(&["status", "--context", "first"], &[]);
    assert_ne!(said.code, Some(0), "{said:?}");
    assert_eq!((first.seen(), other.seen()), (bearer(TOKEN), vec![]));
}

#[test]
fn a_server_that_cannot_prove_who_it_is_is_shown_nothing() {
    let place = Place::new();
    let stranger = Authority::new("a stranger's");
    let gate = |authority: &Authority, certificate| {
        let lets = Lets::Token(TOKEN);
        Gate::before(&place.server.url, Some((authority, certificate)), lets)
    };
    let cases = [
        (gate(&stranger, Certificate::Good), "UnknownIssuer"),
        (gate(&place.authority, Certificate::Expired), "expired"),
        (
            gate(&place.authority, Certificate::OtherName),
            "not valid for name",
        ),
    ];
    for (number, (gate, why)) in cases.iter().enumerate() {
        let name = format!("c{number}");
        place.add(&name, gate, TOKEN);
        let said = place.say(&["status", "--context", &name], &[]);
        assert_eq!(said.code, Some(5), "{said:?}");
        assert!(said.err.contains(why), "{why}: {said:?}");
        assert!(gate.seen().is_empty(), "{why}");
    }
    let no_ca = place.gate(Lets::Token(TOKEN));
    let said = place.say(
        &["status", "--server", &no_ca.url()],
        &[("WAYBILL_TOKEN", TOKEN)],
    );
    assert_ne!(
        said.code,
        Some(0),
        "an authority that nobody named is not trusted: {said:?}"
    );
    assert!(no_ca.seen().is_empty());
}

#[test]
fn plain_and_secured_do_not_mix() {
    let place = Place::new();
    let ca = ("WAYBILL_CA", place.ca.to_str().unwrap());
    let secured = place.gate(Lets::Token(TOKEN));
    let plain = Gate::before(&place.server.url, None, Lets::Token(TOKEN));
    let swapped = |url: String, from: &str, to: &str| url.replacen(from, to, 1);
    for url in [
        swapped(secured.url(), "https", "http"),
        swapped(plain.url(), "http", "https"),
    ] {
        let said = place.say(
            &["status", "--server", &url],
            &[ca, ("WAYBILL_TOKEN", TOKEN)],
        );
        assert_eq!(said.code, Some(5), "{url}: {said:?}");
        assert!(said.err.contains("speak TLS?"), "{url}: {said:?}");
    }
    assert_eq!((secured.seen(), plain.seen()), (vec![], vec![]));
    // On its own machine a plain ledger may be shown a token; beyond it, none leaves.
    let token = [("WAYBILL_TOKEN", TOKEN)];
    place
        .say(&["status", "--server", &plain.url()], &token)
        .well();
    assert_eq!(plain.seen(), bearer(TOKEN));
    let said = place.say(
        &["status", "--server", "http://ledger.acme.example:8420"],
        &token,
    );
    assert_eq!(said.code, Some(2), "{said:?}");
    assert!(
        said.err
            .contains("token is set and url is `http://ledger.acme.example:8420`"),
        "{said:?}"
    );
}

#[test]
fn a_token_that_is_refused_loses_no_event_and_stops_no_deployment() {
    let place = Place::new();
    let gate = place.gate(Lets::Nobody);
    place.add("ci", &gate, TOKEN);
    place.say(&["context", "use", "ci"], &[]).well();

    let failed = place.say(&[&EMIT[..], &["--on-error", "fail"]].concat(), &[]);
    assert_eq!(failed.code, Some(4), "{failed:?}");
    let said = place.say(&EMIT, &[]);
    assert_eq!(said.code, Some(0), "{said:?}");
    let warned = "does not let this caller in, so the event waits on this machine";
    assert!(
        said.err.contains(warned) && said.err.contains("expired"),
        "{said:?}"
    );
    let run = ["run", "deploy", "checkout", "--env", "prod", "--", "true"];
    place.say(&run, &[]).well();
    assert_eq!(gate.seen(), bearer(TOKEN));
    assert!(
        place.holding_a_token(&place.machine.kept()).is_empty(),
        "the spool holds no token"
    );

    // Somebody renews the token; what waited goes first, in order.
    gate.let_in(Lets::Token(OTHER));
    place.add("ci", &gate, OTHER);
    let said = place.say(
        &[
            "emit", "deploy", "checkout", "--env", "prod", "--id", "run-2",
        ],
        &[],
    );
    assert!(
        said.err.contains("3 events waited and went first"),
        "{said:?}"
    );
    let recorded = place.machine.recorded(["--context", "ci"]);
    let kinds: Vec<_> = recorded
        .iter()
        .map(|event| event["kind"].as_str().unwrap())
        .collect();
    let deployed = "deployment.finished";
    assert_eq!(
        kinds,
        [
            "ledger.created",
            deployed,
            "deployment.started",
            deployed,
            deployed
        ]
    );
}

#[test]
fn secrets_are_taken_from_private_places_only() {
    let place = Place::new();
    let gate = place.gate(Lets::Token(TOKEN));
    let url = gate.url();
    let file = place.token_file(TOKEN);
    fs::set_permissions(&file, fs::Permissions::from_mode(0o644)).unwrap();
    let add = [
        "context",
        "add",
        "ci",
        "--server",
        &url,
        "--token-file",
        &file,
    ];
    for said in [
        place.say(&add, &[]),
        place.say(
            &["status", "--server", &url],
            &[("WAYBILL_TOKEN_FILE", &file)],
        ),
    ] {
        assert_eq!(said.code, Some(2), "{said:?}");
        assert!(said.err.contains(&format!("chmod 600 {file}")), "{said:?}");
    }
    // A repository cannot say where to send, nor what.
    for line in [
        "server = \"https://evil.example\"",
        "context = \"ci\"",
        "token_file = \"t\"",
    ] {
        fs::write(place.machine.work().join(".waybill.toml"), line).unwrap();
        let said = place.say(&["status", "--server", &url], &[("WAYBILL_TOKEN", TOKEN)]);
        assert_eq!(said.code, Some(2), "{said:?}");
    }
    fs::remove_file(place.machine.work().join(".waybill.toml")).unwrap();
    assert!(gate.seen().is_empty());
    // A pipe is private.
    let add = [
        "context",
        "add",
        "ci",
        "--server",
        &url,
        "--token-stdin",
        "--ca",
    ];
    let mut command = place.command(&[&add[..], &[place.ca.to_str().unwrap()]].concat(), &[]);
    let mut child = command.stdin(Stdio::piped()).spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(TOKEN.as_bytes())
        .unwrap();
    assert!(child.wait().unwrap().success());
    place.say(&["status", "--context", "ci"], &[]).well();
    assert_eq!(gate.seen(), bearer(TOKEN));
}

#[test]
fn a_ci_job_that_links_the_client_keeps_its_events_until_its_token_is_renewed() {
    let place = Place::new();
    let gate = place.gate(Lets::Token(OTHER));
    let job = |token: &str| {
        let file = place.token_file(token);
        let mut command = place.machine.command(example("ci_job"));
        command
            .args([&gate.url(), "outbox", "8412"])
            .env("WAYBILL_TOKEN_FILE", file)
            .env("WAYBILL_CA", &place.ca);
        without_secrets(run(&mut command))
    };
    let kept = job(TOKEN).well();
    let expected =
        "kept 5 for the next run: the ledger does not let this caller in: the token is not known";
    assert!(kept.contains(expected), "{kept}");
    assert!(
        place.holding_a_token(&place.machine.work()).is_empty(),
        "the outbox holds no token"
    );
    let sent = job(OTHER).well();
    assert_eq!(sent, "waiting 10\nrecorded 10 duplicates 5 refused 0\n");
    assert_eq!(gate.seen(), [bearer(TOKEN), bearer(OTHER)].concat());
}
