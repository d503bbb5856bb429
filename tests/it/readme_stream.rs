//! "More than one machine" of README.md, as a stranger goes through it: its own lines, in a terminal each. What is changed is
//! what a stranger changes too (the address), and ports, so that tests do not meet.
use std::{
    fs,
    io::{BufRead as _, BufReader},
    net::{TcpListener, UdpSocket},
    os::unix::{fs::symlink, process::CommandExt as _},
    path::Path,
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

use waybill_tests::process;

use crate::{
    broker::{Configuration, servers},
    emitters::python,
    machine::{Machine, Said, run},
};

/// How long a server may take to say what it must say by itself.
const PATIENCE: Duration = Duration::from_secs(60);

/// The section's blocks of shell: broker, ledger, publish and ask, put back.
fn blocks() -> [String; 4] {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../README.md");
    let text = fs::read_to_string(path).unwrap();
    let section = text
        .split("\n### ")
        .find(|it| it.starts_with("More than one machine"));
    let fenced = section.unwrap().split("```sh\n").skip(1);
    let blocks: Vec<String> = fenced
        .map(|it| it.split("```").next().unwrap().to_owned())
        .collect();
    blocks.try_into().unwrap()
}

/// An address of this machine that others reach; loopback where it has none.
fn host() -> String {
    let socket = UdpSocket::bind("0.0.0.0:0").unwrap();
    // Nothing is sent: this only asks for the way there.
    match socket
        .connect("192.0.2.1:9")
        .and_then(|()| socket.local_addr())
    {
        Ok(address) => address.ip().to_string(),
        Err(_) => "127.0.0.1".to_owned(),
    }
}

fn free_port() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port().to_string()
}

/// The commands of README.md on this machine: what they are called and where.
struct Stranger {
    machine: Machine,
    changes: Vec<(&'static str, String)>,
}

impl Stranger {
    fn new(server: &Path, python: &str) -> Self {
        let machine = Machine::new();
        let bin = machine.path("bin");
        fs::create_dir(&bin).unwrap();
        symlink(server, bin.join("nats-server")).unwrap();
        symlink(process::waybill(), bin.join("waybill")).unwrap();
        let examples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../deploy/examples");
        let mut changes = vec![
            ("192.0.2.7", host()),
            ("4222", free_port()),
            ("8222", free_port()),
            ("8420", free_port()),
            (
                "python3 deploy/examples",
                format!("{python} {}", examples.display()),
            ),
            // `tests/run` has done that.
            ("pip install", ": pip install".to_owned()),
        ];
        if Configuration::new().meant_for(server) == "nats-2.9.conf" {
            changes.push((", sync_interval: always", String::new()));
        }
        Self { machine, changes }
    }

    fn shell(&self, lines: &str) -> Command {
        let lines = self
            .changes
            .iter()
            .fold(lines.to_owned(), |lines, (from, to)| {
                lines.replace(from, to)
            });
        let mut bash = self.machine.command("bash");
        let path = format!(
            "{}:{}",
            self.machine.path("bin").display(),
            std::env::var("PATH").unwrap()
        );
        bash.args(["-e", "-o", "pipefail", "-c", &lines])
            .env("PATH", path);
        bash
    }

    fn run(&self, lines: &str) -> Said {
        run(&mut self.shell(lines))
    }

    /// Runs it again until it says that, as somebody does who waits.
    fn until(&self, lines: &str, wanted: &str) {
        let begin = Instant::now();
        loop {
            let said = self.run(lines).well();
            if said.contains(wanted) {
                return;
            }
            assert!(
                begin.elapsed() < PATIENCE,
                "{lines} never says {wanted:?}: {said}"
            );
        }
    }

    /// Starts what goes on running, and waits until it says so.
    fn start(&self, lines: &str, ready: &str) -> Terminal {
        let mut shell = self.shell(lines);
        let mut child = shell
            .process_group(0)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let stderr = BufReader::new(child.stderr.take().unwrap());
        let (send, said) = mpsc::channel();
        thread::spawn(move || {
            // Read to its end also when nobody listens any more, so that the process never waits for us.
            stderr
                .lines()
                .map_while(Result::ok)
                .for_each(|line| drop(send.send(line)));
        });
        let terminal = Terminal {
            leader: Some(child),
            said,
        };
        terminal.wait_for(ready);
        terminal
    }
}

/// A terminal in which something goes on running.
struct Terminal {
    leader: Option<Child>,
    said: mpsc::Receiver<String>,
}

impl Terminal {
    /// Reads on until a line says that.
    fn wait_for(&self, wanted: &str) -> String {
        let mut before = Vec::new();
        loop {
            match self.said.recv_timeout(PATIENCE) {
                Ok(line) if line.contains(wanted) => return line,
                Ok(line) => before.push(line),
                Err(_) => panic!("nothing says {wanted:?}:\n{}", before.join("\n")),
            }
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        process::kill_group(self.leader.take().unwrap()).unwrap();
    }
}

/// The root that a printed decision agrees to.
fn root_in(doctor: &str) -> String {
    let (_, rest) = doctor
        .split_once("`waybill ledger republish --yes ")
        .unwrap();
    rest.split(' ').next().unwrap().to_owned()
}

#[test]
fn a_stranger_is_told_that_the_broker_forgot_and_puts_it_back() {
    let Some(python) = python() else { return };
    for server in servers() {
        let stranger = Stranger::new(&server, &python);
        let [broker_lines, ledger_lines, ask_lines, mend_lines] = blocks();
        let broker = stranger.start(&broker_lines, "Server is ready");
        let ledger = stranger.start(&ledger_lines, "following the stream");

        let said = stranger.run(&ask_lines).well();
        assert_eq!(said.matches(": recorded at ").count(), 2, "{said}");
        assert!(
            said.contains("deployment.finished") && said.contains("checkout → prod"),
            "{said}"
        );
        let before = stranger.run("waybill log").well();

        drop(broker);
        stranger.run("rm -r broker").well();
        let _broker = stranger.start(&broker_lines, "Server is ready");
        let frozen = ledger.wait_for("ingest is frozen");
        assert!(
            frozen.contains("lost_tail") && frozen.contains("ledger_leaf"),
            "{frozen}"
        );

        let mut root = String::new();
        for line in mend_lines.lines() {
            let said = stranger.run(&line.replace("ROOT", &root));
            let told = format!("{line}: {said:?}");
            match line.split(' ').nth(1).unwrap() {
                "doctor" => {
                    assert_eq!(said.code, Some(12), "{told}");
                    assert!(
                        said.out
                            .contains("the broker lost what it had acknowledged"),
                        "{told}"
                    );
                    root = root_in(&said.out);
                    assert_eq!(stranger.run("waybill log").well(), before, "reads go on");
                }
                "ledger" => {
                    assert!(
                        said.well().contains("2 events are published again"),
                        "{told}"
                    );
                    ledger.wait_for("following the stream");
                }
                _ => stranger.until(line, "followed to sequence 3 of 3"),
            }
        }
        assert_eq!(
            stranger.run("waybill log").well(),
            before,
            "nothing is lost or doubled"
        );
    }
}
