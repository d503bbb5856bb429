//! The client's examples, each a process of its own against a real server: a service, a CI job, an internal tool and a
//! reader, over restarts and away ledgers.
use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use tokio::net::TcpSocket;
use waybill_tests::process::{Home, Server, example};

use crate::machine::{Machine, Said, run};

/// A machine, and the ledger that its programs talk to.
struct Place {
    machine: Machine,
    home: Home,
    address: String,
    /// Bound and never listening: while the ledger is away nobody else is given the port.
    _reserved: TcpSocket,
}

impl Place {
    fn new() -> Self {
        let machine = Machine::new();
        let home = Home {
            root: machine.path("ledger"),
        };
        let reserved = TcpSocket::new_v4().unwrap();
        reserved.set_reuseaddr(true).unwrap();
        reserved.bind(([127, 0, 0, 1], 0).into()).unwrap();
        Self {
            address: reserved.local_addr().unwrap().to_string(),
            machine,
            home,
            _reserved: reserved,
        }
    }

    fn serve(&self) -> Server {
        Server::start_at(&self.address, &self.home, &[], &[]).unwrap()
    }

    fn command(&self, name: &str, arguments: &[&str]) -> Command {
        let mut command = self.machine.command(example(name));
        command
            .arg(format!("http://{}", self.address))
            .args(arguments);
        command
    }

    fn run(&self, name: &str, arguments: &[&str]) -> Said {
        run(&mut self.command(name, arguments))
    }
}

/// What a service's three events print, recorded from a position on.
fn service_lines(first: u64) -> String {
    let kinds = ["flag.changed", "flag.changed", "metric.window_summarized"];
    kinds
        .iter()
        .zip(first..)
        .map(|(kind, position)| format!("recorded {kind} position={position} duplicate=false\n"))
        .collect()
}

#[test]
fn a_service_gets_its_receipts_in_the_order_it_emitted() {
    let place = Place::new();
    let _server = place.serve();
    // The first position is the ledger's own.
    assert_eq!(place.run("service", &[]).well(), service_lines(2));
    assert_eq!(place.run("service", &[]).well(), service_lines(5));
}

#[test]
fn a_ci_job_keeps_its_events_over_its_own_death_and_sends_them_once() {
    let place = Place::new();
    let away = place.run("ci_job", &["outbox", "8412"]).well();
    assert!(
        away.starts_with("waiting 5\nkept 5 for the next run:"),
        "{away}"
    );
    let _server = place.serve();
    // The same run again says everything again, behind what waited.
    let back = place.run("ci_job", &["outbox", "8412"]).well();
    assert_eq!(back, "waiting 10\nrecorded 10 duplicates 5 refused 0\n");
    let again = place.run("ci_job", &["outbox", "8412"]).well();
    assert_eq!(again, "waiting 5\nrecorded 5 duplicates 5 refused 0\n");
    let next = place.run("ci_job", &["outbox", "8413"]).well();
    assert!(next.starts_with("waiting 5\nrecorded "), "{next}");

    let tailed = place.run("reader", &["--from", "2", "--count", "5"]).well();
    let kinds: Vec<&str> = tailed
        .lines()
        .filter_map(|line| line.split(' ').nth(1))
        .collect();
    let emitted = [
        "commit.recorded",
        "change.merged",
        "build.finished",
        "deployment.started",
        "deployment.finished",
    ];
    assert_eq!(kinds[..5], emitted);
}

#[test]
fn an_internal_tool_reads_what_it_wrote_and_checks_it_against_what_it_kept() {
    let place = Place::new();
    let server = place.serve();
    let said = place.run("internal_tool", &[]).well();
    assert_eq!(
        said,
        "recorded position=2\ntrace read_my_write=true found=true\ndelivery services=1\nverified size=2 grown=1\n"
    );
    // A restart in between changes neither the key nor what was kept.
    server.kill();
    let _server = place.serve();
    let said = place.run("internal_tool", &[]).well();
    assert_eq!(
        said,
        "recorded position=3\ntrace read_my_write=true found=true\ndelivery services=1\nverified size=3 grown=1\n"
    );
}

#[test]
fn a_reader_goes_on_from_a_position_and_over_a_killed_server() {
    let place = Place::new();
    let server = place.serve();
    place.run("service", &[]).well();
    let first = place.run("reader", &["--from", "2", "--count", "2"]).well();
    assert!(first.ends_with("next 4\n"), "{first}");

    let mut reader = place
        .command("reader", &["--from", "4", "--count", "4"])
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(reader.stdout.take().unwrap())
        .lines()
        .map(|line| line.unwrap().split(' ').next().unwrap().to_owned());
    assert_eq!(lines.next().unwrap(), "4");
    server.kill();
    let _server = place.serve();
    place.run("service", &[]).well();
    assert_eq!(lines.collect::<Vec<_>>(), ["5", "6", "7", "next"]);
    assert!(reader.wait().unwrap().success());
}
