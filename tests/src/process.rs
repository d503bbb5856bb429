//! The real command as a process: start it, wait until it serves, kill it.
use std::{
    env, io,
    io::{BufRead, BufReader},
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::mpsc,
    thread,
    time::{Duration, Instant},
};

/// How long a server may take until it serves; a rebuild on a slow machine fits.
const START_LIMIT: Duration = Duration::from_secs(120);
const ANY_PORT: &str = "127.0.0.1:0";

/// How long a killed process may take to be gone.
const ORPHANS_LIMIT: Duration = Duration::from_secs(5);

/// Where the `waybill` command of this build is: beside the running test or program.
///
/// # Panics
/// When it was not built: `cargo build -p waybill-cli` builds it.
#[must_use]
pub fn waybill() -> PathBuf {
    built("waybill", "cargo build -p waybill-cli")
}

/// Where an example of the client is.
///
/// # Panics
/// When it was not built: `cargo build -p waybill-client --examples` builds it.
#[must_use]
pub fn example(name: &str) -> PathBuf {
    built(
        &format!("examples/{name}"),
        "cargo build -p waybill-client --examples",
    )
}

fn built(name: &str, how: &str) -> PathBuf {
    let here = env::current_exe().expect("a running program has a path");
    let found = here
        .ancestors()
        .skip(1)
        .map(|dir| dir.join(name))
        .find(|path| path.is_file());
    found.unwrap_or_else(|| panic!("no `{name}` beside {}: run `{how}` first", here.display()))
}

/// A directory with a ledger's data and its state beside it.
#[derive(Clone, Debug)]
pub struct Home {
    /// Holds both.
    pub root: PathBuf,
}

impl Home {
    /// The data directory.
    #[must_use]
    pub fn data(&self) -> PathBuf {
        self.root.join("data")
    }

    /// Keys and head file.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("state")
    }
}

/// A running `waybill serve`.
#[derive(Debug)]
pub struct Server {
    child: Child,
    /// `http://127.0.0.1:<port>`.
    pub url: String,
}

impl Server {
    /// Starts `waybill serve` on a home and waits until it says where it listens.
    ///
    /// # Errors
    /// What the process said on stderr, when it ended instead.
    pub fn start(home: &Home, environment: &[(String, String)]) -> io::Result<Self> {
        Self::start_with(home, environment, &[])
    }

    /// As [`Server::start`], with further arguments.
    ///
    /// # Errors
    /// What the process said on stderr, when it ended instead.
    pub fn start_with(
        home: &Home,
        environment: &[(String, String)],
        arguments: &[&str],
    ) -> io::Result<Self> {
        Self::start_at(ANY_PORT, home, environment, arguments)
    }

    /// As [`Server::start_with`], at an address that others know already.
    ///
    /// # Errors
    /// What the process said on stderr, when it ended instead.
    pub fn start_at(
        address: &str,
        home: &Home,
        environment: &[(String, String)],
        arguments: &[&str],
    ) -> io::Result<Self> {
        let mut child = command(home)
            .args(["serve", "--listen", address])
            .arg("--ledger")
            .arg(home.data())
            .args(arguments)
            .envs(environment.iter().cloned())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .spawn()?;
        let stderr = child.stderr.take().expect("stderr is piped");
        match listen(stderr).recv_timeout(START_LIMIT) {
            Ok(Ok(url)) => Ok(Self { child, url }),
            answer => {
                drop(child.kill());
                let status = child.wait()?;
                let said = answer.map_or_else(|_| "nothing in time".to_owned(), Result::unwrap_err);
                Err(io::Error::other(format!(
                    "waybill serve ended with {status}: {said}"
                )))
            }
        }
    }

    /// Its process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Ends it at once, as `kill -9` does.
    pub fn kill(self) {
        drop(self);
    }

    /// Asks it to stop and waits; gives its exit code.
    ///
    /// # Errors
    /// When it cannot be asked or waited for.
    pub fn stop(mut self) -> io::Result<Option<i32>> {
        let pid = self.child.id().to_string();
        Command::new("kill").args(["-TERM", &pid]).status()?;
        Ok(self.child.wait()?.code())
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    /// When it cannot be waited for.
    pub fn wait(mut self) -> io::Result<Option<i32>> {
        Ok(self.child.wait()?.code())
    }
}

impl Drop for Server {
    /// A test that fails leaves nothing running.
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// Ends a process that leads a group, and all of the group, at once, and waits until they are gone.
///
/// # Errors
/// When they cannot be told or waited for.
pub fn kill_group(mut leader: Child) -> io::Result<()> {
    let group = format!("-{}", leader.id());
    let tell = |signal: &str| {
        Command::new("kill")
            .args([signal, "--", &group])
            .stderr(Stdio::null())
            .status()
    };
    tell("-KILL")?;
    leader.wait()?;
    // Where nobody buries orphans, they stay in the list for ever, and do nothing.
    let start = Instant::now();
    while start.elapsed() < ORPHANS_LIMIT && tell("-0")?.success() {
        thread::yield_now();
    }
    Ok(())
}

/// The command with a home's state directory and nothing of this machine's configuration.
#[must_use]
pub fn command(home: &Home) -> Command {
    let mut command = Command::new(waybill());
    let state: &Path = &home.state();
    command
        .env_remove("WAYBILL_SERVER")
        .env("XDG_STATE_HOME", state)
        .env("XDG_CONFIG_HOME", home.root.join("config"))
        .env("NO_COLOR", "1")
        .stdin(Stdio::null());
    command
}

/// Reads the log in a thread to its end, so that the process never waits for us. Gives the address that it names first,
/// or everything that was said when it ends without one.
fn listen(log: impl io::Read + Send + 'static) -> mpsc::Receiver<Result<String, String>> {
    let (send, receive) = mpsc::channel();
    thread::spawn(move || {
        let mut said = String::new();
        for line in BufReader::new(log).lines().map_while(Result::ok) {
            let at = line.find("http://").or_else(|| line.find("https://"));
            if let Some(at) = at.filter(|_| line.contains("serving")) {
                let url = line[at..].split_whitespace().next().unwrap_or_default();
                let url = url.trim_end_matches('"');
                drop(send.send(Ok(url.to_owned())));
            }
            said.push_str(&line);
            said.push('\n');
        }
        drop(send.send(Err(said)));
    });
    receive
}
