//! `run deploy`: a command that deploys, recorded from start to finish. Whatever happens to the record, the command
//! runs and its exit code is passed on.
use std::{
    os::unix::process::ExitStatusExt as _,
    process::ExitStatus,
    time::{Duration, Instant},
};

use tokio::{
    process::Command,
    signal::unix::{Signal, SignalKind, signal},
};
use waybill_proto::pb::{DeploymentInfo, Event, Outcome, Span};

use crate::{
    Ended,
    args::{OnError, RunArgs, RunDeployArgs, RunKind, Step},
    context::Context,
    exit::Failure,
    output, when, words,
};

use super::{
    emit::{self, Delivered, Emitter, Origin, deployment},
    identity,
};

/// Exit codes of a shell for a command that could not be started.
const NOT_EXECUTABLE: u8 = 126;
const NOT_FOUND: u8 = 127;
/// What a shell adds to the number of a signal.
const SIGNAL_BASE: i32 = 128;

/// Runs what was named.
pub(crate) async fn run(context: &Context, args: RunArgs) -> Result<(), Ended> {
    let RunKind::Deploy(args) = args.kind;
    let mut record = Record::new(context, &args)?;
    if args.stamp.dry_run {
        context
            .out
            .message("Event", &record.event(Step::Started, &Ran::started())?)?;
        return Ok(());
    }
    record.tell(Step::Started, &Ran::started()).await;
    let ran = execute(&args.command).await;
    record.tell(Step::Finished, &ran).await;
    output::say(format!(
        "{} → {}: {} in {}",
        output::clean(&record.info.service),
        output::clean(&record.info.environment),
        ran.word(),
        words::length(&when::proto_duration(ran.elapsed))
    ));
    ran.passed_on()
}

/// Runs what was named without a record, because of a failure that is none of the command's.
pub(crate) async fn run_unrecorded(args: &RunArgs, failure: &Failure) -> Result<(), Ended> {
    let RunKind::Deploy(args) = &args.kind;
    output::insist(format!("warning: not recorded: {failure}"));
    if args.stamp.dry_run {
        return Ok(());
    }
    execute(&args.command).await.passed_on()
}

/// What is told of one execution.
struct Record<'a> {
    context: &'a Context,
    args: &'a RunDeployArgs,
    origin: Origin,
    info: DeploymentInfo,
    /// Made before anything is told: run again, it is another operation of the same attempt.
    execution: String,
    /// What ran before has been asked for.
    complete: bool,
}

impl<'a> Record<'a> {
    fn new(context: &'a Context, args: &'a RunDeployArgs) -> Result<Self, Failure> {
        let origin = Origin::detect(&args.stamp);
        let execution = identity::random_hex()?;
        let mut info = deployment::info(&args.deployment, &args.stamp, &origin, context)?;
        if args.deployment.deployment.is_none() {
            info.deployment_id = format!("{}.{execution}", info.deployment_id);
        }
        Ok(Self {
            context,
            args,
            origin,
            info,
            execution,
            complete: false,
        })
    }

    fn event(&self, step: Step, ran: &Ran) -> Result<Event, Failure> {
        let span = Span {
            elapsed: Some(when::proto_duration(ran.elapsed)),
            queued: None,
        };
        let ending = deployment::Ending {
            outcome: ran.outcome(),
            span: Some(span),
            exit_code: i32::from(ran.code),
        };
        let happened = deployment::step(self.info.clone(), step, ending);
        let word = if step == Step::Started {
            "started"
        } else {
            "finished"
        };
        let mut event = emit::envelope(self.context, &self.args.stamp, &self.origin, happened)?;
        let now = when::proto_time(when::now());
        if self.args.stamp.time.is_none() {
            event.occur_time = Some(now);
        }
        event.produce_time = Some(now);
        event.id = match &self.args.stamp.id {
            Some(id) => identity::extend(&format!("{id}:{word}"), &self.execution),
            None => identity::extend(&event.id, &self.execution),
        };
        Ok(event)
    }

    /// Tells one step. Nothing that goes wrong here stops the command.
    async fn tell(&mut self, step: Step, ran: &Ran) {
        let told = async {
            let mut event = self.event(step, ran)?;
            let mut emitter = Emitter::open(self.context).await?;
            if !self.complete {
                emitter
                    .complete(&mut event, self.args.deployment.deepen)
                    .await?;
                self.complete = true;
                if let Some(info) = deployment::info_of(&mut event) {
                    self.info = info.clone();
                }
            }
            let delivered = emitter.send(&event, OnError::Warn).await;
            let closed = emitter.close().await;
            delivered.and_then(|delivered| closed.map(|()| delivered))
        };
        match told.await {
            Ok(Delivered::Recorded(receipt)) => {
                output::say(format!("recorded seq:{}", receipt.position))
            }
            Ok(Delivered::Refused(refusal)) => {
                emit::warn(&identity::rejection(&refusal).to_string())
            }
            Ok(Delivered::Spooled(why)) => emit::warn_spooled(&why),
            Ok(Delivered::Lost(why)) => emit::warn_lost(&why),
            Err(failure) => emit::warn(&format!("not recorded: {failure}")),
        }
    }
}

/// How the command ended.
#[derive(Clone, Debug)]
struct Ran {
    code: u8,
    /// It could not be started.
    absent: bool,
    /// A signal ended it.
    signal: Option<i32>,
    elapsed: Duration,
}

impl Ran {
    /// Ends as the command ended.
    fn passed_on(&self) -> Result<(), Ended> {
        match self.code {
            0 => Ok(()),
            code => Err(Ended::Code(code)),
        }
    }

    fn started() -> Self {
        Self {
            code: 0,
            absent: false,
            signal: None,
            elapsed: Duration::ZERO,
        }
    }

    fn outcome(&self) -> Outcome {
        match (self.code, self.absent, self.signal) {
            (_, true, _) => Outcome::Error,
            (0, _, None) => Outcome::Success,
            (_, _, Some(signal)) if is_stop(signal) => Outcome::Cancelled,
            _ => Outcome::Failure,
        }
    }

    fn word(&self) -> String {
        match self.outcome() {
            Outcome::Success => "succeeded".to_owned(),
            Outcome::Cancelled => "was stopped".to_owned(),
            Outcome::Error => "could not be started".to_owned(),
            _ => format!("failed with exit code {}", self.code),
        }
    }
}

fn is_stop(signal: i32) -> bool {
    [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ]
    .iter()
    .any(|kind| kind.as_raw_value() == signal)
}

/// Runs the command in the foreground. What a person or a CI system sends us to stop is the command's to answer; we
/// wait for it, because its end is what we are here to record.
async fn execute(command: &[String]) -> Ran {
    let (program, arguments) = command
        .split_first()
        .map_or(("", &[][..]), |(program, rest)| (program.as_str(), rest));
    // Before the command runs: a signal that comes with its first breath would end us, and its end would not be told.
    let mut stops = Stops::listen();
    let started = Instant::now();
    let mut child = match Command::new(program).args(arguments).spawn() {
        Ok(child) => child,
        Err(error) => {
            output::insist(format!("error: {program} cannot be started: {error}"));
            let code = if error.kind() == std::io::ErrorKind::NotFound {
                NOT_FOUND
            } else {
                NOT_EXECUTABLE
            };
            return Ran {
                code,
                absent: true,
                signal: None,
                elapsed: started.elapsed(),
            };
        }
    };
    let status = loop {
        tokio::select! {
            status = child.wait() => break status,
            stop = stops.next() => if let Some(signal) = stop {
                hand_on(&child, signal);
            },
        }
    };
    let elapsed = started.elapsed();
    match status {
        Ok(status) => Ran {
            code: code(status),
            absent: false,
            signal: status.signal(),
            elapsed,
        },
        Err(error) => {
            output::insist(format!("error: {program} cannot be waited for: {error}"));
            Ran {
                code: 1,
                absent: false,
                signal: None,
                elapsed,
            }
        }
    }
}

/// What is sent to us to stop.
struct Stops {
    interrupt: Option<Signal>,
    terminate: Option<Signal>,
    hang_up: Option<Signal>,
}

impl Stops {
    /// Listens from here on; where the system does not tell of a signal, it does what it always does.
    fn listen() -> Self {
        let listen = |kind| signal(kind).ok();
        Self {
            interrupt: listen(SignalKind::interrupt()),
            terminate: listen(SignalKind::terminate()),
            hang_up: listen(SignalKind::hangup()),
        }
    }

    /// Waits for the next one; gives what the command is to be sent.
    async fn next(&mut self) -> Option<rustix::process::Signal> {
        tokio::select! {
            // A terminal sends Ctrl-C to the command as well as to us.
            () = wait(&mut self.interrupt) => None,
            // A CI system sends this to us alone.
            () = wait(&mut self.terminate) => Some(rustix::process::Signal::TERM),
            // A terminal that goes away tells us, and the command only where it still is in the foreground.
            () = wait(&mut self.hang_up) => Some(rustix::process::Signal::HUP),
        }
    }
}

async fn wait(signal: &mut Option<Signal>) {
    let told = match signal {
        Some(signal) => signal.recv().await,
        None => None,
    };
    if told.is_none() {
        std::future::pending().await
    }
}

fn hand_on(child: &tokio::process::Child, signal: rustix::process::Signal) {
    let id = child
        .id()
        .and_then(|id| i32::try_from(id).ok())
        .and_then(rustix::process::Pid::from_raw);
    if let Some(id) = id {
        // It may have ended at this very moment, which is as good.
        let _ = rustix::process::kill_process(id, signal);
    }
}

/// The code that a shell would give.
fn code(status: ExitStatus) -> u8 {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| SIGNAL_BASE + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ran(script: &str) -> Ran {
        execute(&["sh".to_owned(), "-c".to_owned(), script.to_owned()]).await
    }

    #[tokio::test]
    async fn the_exit_code_is_passed_on_and_says_how_it_ended() {
        let cases = [
            ("exit 0", 0, Outcome::Success),
            ("exit 7", 7, Outcome::Failure),
            ("kill -TERM $$", 143, Outcome::Cancelled),
            ("kill -KILL $$", 137, Outcome::Failure),
        ];
        for (script, code, outcome) in cases {
            let ran = ran(script).await;
            assert_eq!((ran.code, ran.outcome()), (code, outcome), "{script}");
        }
    }

    #[tokio::test]
    async fn a_command_that_cannot_start_is_an_error_and_exits_as_a_shell_would() {
        let ran = execute(&["/no/such/program".to_owned()]).await;
        assert_eq!((ran.code, ran.outcome()), (127, Outcome::Error));
        let ran = execute(&["/".to_owned()]).await;
        assert_eq!((ran.code, ran.outcome()), (126, Outcome::Error));
    }
}
