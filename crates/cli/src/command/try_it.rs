//! `try`: a repository or a demo story, imported, served and asked, with nothing else running.
use std::{
    fs,
    net::SocketAddr,
    path::{Path, PathBuf},
    time::Instant,
};

use sha2::{Digest as _, Sha256};
use tokio::net::TcpListener;
use waybill_ledger::Ledger;
use waybill_proto::pb::{
    DeliveryRequest, DeploymentEvent, EventFilter, ListEventsRequest, Outcome, ReadOptions,
    TraceRequest, deployment_event::Event as Moved, event::Payload,
};
use waybill_server::Settings;

use crate::{
    Ended,
    args::TryArgs,
    context::Context,
    exit::{Exit, Failure},
    house,
    import_git::{Options, Repository},
    output::{self, Style},
    source::{Source, Where},
    when, words,
};

use super::{
    delivery, demo, import_git,
    record::Recorder,
    serve::{self, Stop},
    status, trace,
};

/// The environment that tags are taken to be deployed to.
const ENVIRONMENT: &str = "prod";
/// Things shown of a trace here; `waybill trace` shows the rest.
const NODES: i32 = 12;
/// Days that the first figures look back over.
const DAYS: i64 = 365;
const SECONDS_PER_DAY: i64 = 86_400;

/// Imports, serves and asks; on a terminal it goes on serving.
pub(crate) async fn run(context: &Context, args: TryArgs) -> Result<(), Ended> {
    let home = Home::of(context, &args.path)?;
    let goes_on = context.out.is_terminal() && !args.exit;
    if args.clean {
        return Ok(home.clean(context)?);
    }
    // The demo is for where there is no repository, not for a path that was mistyped.
    if !args.path.is_dir() {
        let path = args.path.display();
        let failure = Failure::usage(format!("`{path}` is not a directory"));
        return Err(failure
            .with_hint("name a git repository, or leave it out")
            .into());
    }
    let stop = Stop::listen()?;
    let wanted = serve::listen_address(&args.listen, "--listen")?;
    let open = waybill_server::Door::default();
    waybill_server::check_listen(wanted, &open)
        .map_err(|error| Failure::usage(error.to_string()))?;
    let listener = bind(wanted).await?;
    let listen = listener.local_addr().map_err(Failure::from)?;
    let ledger = home
        .open(format!("http://{listen}"), context.global.quiet)
        .await?;
    let key = ledger.actor_key();
    let mut serving = tokio::spawn(serve::serve_until_stopped(
        ledger.clone(),
        listener,
        Settings::new(listen),
        stop.clone(),
    ));
    let told = async {
        let source = Source::server(format!("http://{listen}").into(), context.timeout()?)?;
        // What an earlier try recorded is looked for in lists.
        settle(&ledger).await;
        let subject = load(context, &source, &args.path, key).await?;
        settle(&ledger).await;
        let place = home.place(context, goes_on.then_some(listen));
        tell(context, &source, &subject, &home, &place).await
    };
    let told = tokio::select! {
        told = told => told,
        ended = &mut serving => return interrupted(ended),
    };
    match told {
        // What it asked was gone, because the server had been told to stop.
        Err(_) if stop.is_told() => return interrupted(serving.await),
        told => told?,
    }
    if goes_on {
        output::say(format!("\nserving http://{listen} until Ctrl-C"));
        return joined(serving.await);
    }
    output::say(
        "\nstdout is no terminal (or --exit was given), so this ends here; on a terminal `waybill try` goes on serving",
    );
    stop.tell();
    joined(serving.await)
}

type Served = Result<Result<(), Ended>, tokio::task::JoinError>;

/// Told to stop before the first answer: the import goes on the next time.
fn interrupted(ended: Served) -> Result<(), Ended> {
    joined(ended)?;
    Err(Failure::said(Exit::Interrupted).into())
}

fn joined(ended: Served) -> Result<(), Ended> {
    ended.map_err(|error| Failure::unexpected(error.to_string()))?
}

/// What was loaded, and what to ask of it first.
struct Subject {
    /// The commit to look at, where one is better than what was deployed last.
    commit: Option<String>,
    /// The commit to look at where nothing was deployed.
    head: Option<String>,
    service: String,
}

/// A repository where there is one, else the demo story.
async fn load(
    context: &Context,
    source: &Source,
    path: &Path,
    actor_key: [u8; 32],
) -> Result<Subject, Failure> {
    let options = Options {
        repository: path.to_owned(),
        name: None,
        service: context.settings.value("service"),
        tags_as_deployments: true,
        environment: ENVIRONMENT.to_owned(),
        tag_pattern: context.settings.value("tag_pattern"),
        with_names: false,
        actor_key,
        all_refs: false,
    };
    match import_git::open(options).await {
        Ok(repository) => load_repository(context, source, repository).await,
        Err(failure) if failure.exit() == Exit::Usage => {
            output::say(format!("{failure}"));
            load_demo(context, source).await
        }
        Err(failure) => Err(failure),
    }
}

async fn load_repository(
    context: &Context,
    source: &Source,
    repository: Repository,
) -> Result<Subject, Failure> {
    let started = Instant::now();
    let (head, service) = (repository.head(), repository.service().to_owned());
    let imported = import_git::import(source, repository, context.global.quiet).await?;
    output::say(import_git::sentence(&imported, started));
    output::say(format!(
        "{}; tags count as releases and as deployments to {ENVIRONMENT}, marked inferred",
        imported.tally.say()
    ));
    for note in &imported.summary.notes {
        output::say(format!("note: {}", output::clean(note)));
    }
    Ok(Subject {
        commit: None,
        head,
        service,
    })
}

async fn load_demo(context: &Context, source: &Source) -> Result<Subject, Failure> {
    let loaded = newest(
        source,
        EventFilter {
            source: demo::SOURCE.to_owned(),
            ..EventFilter::default()
        },
    )
    .await?
    .is_some();
    if !loaded {
        let mut recorder = Recorder::new(source);
        let mut refused = |_: u64, refusal: &waybill_proto::pb::Refusal| {
            output::insist(super::identity::rejection(refusal).to_string())
        };
        for event in demo::events(context.now) {
            recorder.push(0, event, &mut refused).await?;
        }
        recorder.flush(&mut refused).await?;
    }
    output::say(
        "loaded a demo story instead: source //demo, label origin=demo; none of it happened",
    );
    Ok(Subject {
        commit: Some(demo::commit()),
        head: None,
        service: demo::SERVICE.to_owned(),
    })
}

/// Waits until questions and lists see everything that is recorded.
async fn settle(ledger: &Ledger) {
    let mut heads = ledger.heads();
    let durable = heads.borrow().durable;
    let settled = heads.wait_for(|heads| heads.folded.min(heads.applied) >= durable);
    // An error says that the ledger has stopped, which the next question will tell better.
    drop(settled.await);
}

/// A trace, the figures, and what to type next.
async fn tell(
    context: &Context,
    source: &Source,
    subject: &Subject,
    home: &Home,
    place: &str,
) -> Result<(), Failure> {
    let out = &context.out;
    let deployed = last_deployed(source, &subject.service).await?;
    let revision = deployed.as_ref().and_then(|it| it.revision.clone());
    let commit = subject.commit.clone().or(revision);
    let commit = commit.or_else(|| subject.head.clone());
    if let Some(commit) = &commit {
        out.line(heading(
            context,
            &format!("waybill trace {}", words::short(commit)),
        ))?;
        let request = TraceRequest {
            read: Some(ReadOptions::default()),
            r#ref: commit.clone(),
            at: None,
            max_nodes: NODES,
        };
        out.bytes(trace::render(&trace::ask(source, request).await?, out).as_bytes())?;
    }
    let window = Window::around(context, deployed.as_ref());
    let command = format!(
        "waybill delivery --service {} {}",
        words::quoted(&subject.service),
        window.flags
    );
    out.line(heading(context, &command))?;
    let request = DeliveryRequest {
        read: Some(ReadOptions::default()),
        service: subject.service.clone(),
        start_time: Some(window.start),
        end_time: window.end,
        ..DeliveryRequest::default()
    };
    out.bytes(delivery::render(&delivery::ask(source, request).await?, false, out).as_bytes())?;
    let status = status::ask(source).await?;
    output::say(format!(
        "\nledger {} holds {}; remove it: {}",
        home.ledger.display(),
        words::plural(status.durable_position, "event", "events"),
        home.clean_command()
    ));
    next(&command, commit.as_deref(), place);
    Ok(())
}

fn heading(context: &Context, command: &str) -> String {
    format!(
        "\n{}",
        context.out.paint(Style::Strong, &format!("$ {command}"))
    )
}

fn next(delivery: &str, commit: Option<&str>, place: &str) {
    output::say("next");
    output::say(format!("  {delivery} --explain{place}"));
    output::say(format!(
        "  waybill trace {}{place}",
        commit.map_or("HEAD~3", words::short)
    ));
    output::say(format!("  waybill log --kind deployment{place}"));
}

/// The newest deployment of a service that succeeded.
struct Deployed {
    revision: Option<String>,
    seconds: i64,
}

async fn last_deployed(source: &Source, service: &str) -> Result<Option<Deployed>, Failure> {
    let filter = EventFilter {
        kinds: vec!["deployment.finished".to_owned()],
        entity: waybill_core::Entity::named(waybill_core::EntityKind::Service, service)?
            .as_str()
            .to_owned(),
        ..EventFilter::default()
    };
    // The newest by what happened, which need not be what was recorded last.
    let request = ListEventsRequest {
        page_size: 1_000,
        filter: Some(filter),
        descending: true,
        ..ListEventsRequest::default()
    };
    let answer = source
        .answer(source.ledger().list_events(source.request(request)))
        .await?;
    let deployed = answer.events.into_iter().filter_map(|recorded| {
        let event = recorded.event?;
        let Some(Payload::Deployment(DeploymentEvent {
            event: Some(Moved::Finished(finished)),
        })) = event.payload
        else {
            return None;
        };
        if finished.outcome() != Outcome::Success {
            return None;
        }
        let revision = finished
            .deployment?
            .revisions
            .into_iter()
            .next()
            .map(|revision| revision.revision);
        Some(Deployed {
            revision,
            seconds: event.occur_time?.seconds,
        })
    });
    Ok(deployed.max_by_key(|deployed| deployed.seconds))
}

async fn newest(source: &Source, filter: EventFilter) -> Result<Option<u64>, Failure> {
    let request = ListEventsRequest {
        page_size: 1,
        filter: Some(filter),
        descending: true,
        ..ListEventsRequest::default()
    };
    let answer = source
        .answer(source.ledger().list_events(source.request(request)))
        .await?;
    Ok(answer.events.first().map(|recorded| recorded.position))
}

/// A year that ends now, or with the last deployment where that is long ago: an old repository has figures too.
struct Window {
    start: prost_types::Timestamp,
    end: Option<prost_types::Timestamp>,
    flags: String,
}

impl Window {
    fn around(context: &Context, deployed: Option<&Deployed>) -> Self {
        let now = context.now.seconds();
        let year = DAYS * SECONDS_PER_DAY;
        let at = |seconds: i64| prost_types::Timestamp {
            seconds: seconds.max(0),
            nanos: 0,
        };
        match deployed {
            Some(deployed) if now - deployed.seconds > year => {
                let end = (deployed.seconds / SECONDS_PER_DAY + 1) * SECONDS_PER_DAY;
                let day = |seconds: i64| {
                    words::moment(Some(&at(seconds)))
                        .chars()
                        .take(10)
                        .collect::<String>()
                };
                let flags = format!("--since {} --until {}", day(end - year), day(end));
                Self {
                    start: at(end - year),
                    end: Some(at(end)),
                    flags,
                }
            }
            _ => Self {
                start: when::proto_time(context.now.plus_nanos(-year * 1_000_000_000)),
                end: None,
                flags: format!("--since {DAYS}d"),
            },
        }
    }
}

/// Where a try keeps its ledger: a place of its own for every repository.
struct Home {
    /// What is tried, as it was typed.
    path: PathBuf,
    ledger: PathBuf,
    state: PathBuf,
}

impl Home {
    fn of(context: &Context, path: &Path) -> Result<Self, Failure> {
        let whole = import_git::whole(path);
        let top = whole
            .ancestors()
            .find(|path| path.join(".git").exists())
            .unwrap_or(&whole);
        let name: String = top
            .file_name()
            .map(|name| name.to_string_lossy().into_owned())
            .unwrap_or_default();
        let plain: String = name
            .chars()
            .map(|c| {
                if c.is_ascii_alphanumeric() || "-_.".contains(c) {
                    c
                } else {
                    '-'
                }
            })
            .take(40)
            .collect();
        let digest = hex::encode(Sha256::digest(top.as_os_str().as_encoded_bytes()));
        let ledger = context
            .state_home()?
            .join("try")
            .join(format!("{plain}-{}", &digest[..8]));
        Ok(Self {
            path: path.to_owned(),
            ledger,
            state: context.state_directory()?,
        })
    }

    async fn open(&self, holder: String, quiet: bool) -> Result<Ledger, Failure> {
        let (directory, state) = (self.ledger.clone(), self.state.clone());
        let opened =
            tokio::task::spawn_blocking(move || house::open(directory, state, &holder, quiet))
                .await;
        opened.map_err(|error| Failure::unexpected(error.to_string()))?
    }

    /// Where a command that is typed next finds the ledger, as the end of its line.
    fn place(&self, context: &Context, serving: Option<SocketAddr>) -> String {
        if let Some(listen) = serving {
            let address = format!("http://{listen}");
            return match context.place() {
                Ok(Where::Server(usual)) if usual.address == address => String::new(),
                _ => format!(" --server {address}"),
            };
        }
        let state = context.global.state.as_deref();
        let state = state.map_or_else(String::new, |path| format!(" --state {}", quoted(path)));
        format!(" --ledger {}{state}", quoted(&self.ledger))
    }

    fn clean_command(&self) -> String {
        match self.path.as_os_str() == "." {
            true => "waybill try --clean".to_owned(),
            false => format!("waybill try {} --clean", quoted(&self.path)),
        }
    }

    /// Removes ledger, keys and head file. One that is being served is left alone.
    fn clean(&self, context: &Context) -> Result<(), Failure> {
        if !self.ledger.exists() {
            output::say(format!(
                "nothing to remove: {} does not exist",
                self.ledger.display()
            ));
            return Ok(());
        }
        let ledger = house::open(
            self.ledger.clone(),
            self.state.clone(),
            "waybill try --clean",
            context.global.quiet,
        )?;
        let instance = ledger.instance_id().to_owned();
        ledger.close().map_err(|fault| house::failure(&fault))?;
        for directory in [self.ledger.clone(), self.state.join(instance)] {
            fs::remove_dir_all(&directory).map_err(|error| {
                Failure::unexpected(format!(
                    "{} cannot be removed: {error}",
                    directory.display()
                ))
            })?;
            output::say(format!("removed {}", directory.display()));
        }
        Ok(())
    }
}

fn quoted(path: &Path) -> String {
    words::quoted(&path.to_string_lossy())
}

/// The port that was wanted, or a free one.
async fn bind(wanted: SocketAddr) -> Result<TcpListener, Failure> {
    match TcpListener::bind(wanted).await {
        Ok(listener) => Ok(listener),
        Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
            let listener = TcpListener::bind((wanted.ip(), 0)).await?;
            output::say(format!(
                "port {} is taken, so this is served at http://{}",
                wanted.port(),
                listener.local_addr()?
            ));
            Ok(listener)
        }
        Err(error) => Err(Failure::unexpected(format!(
            "cannot listen on {wanted}: {error}"
        ))),
    }
}
