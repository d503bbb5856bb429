//! Handing an event over: what waits goes first, then this one; where the ledger is away, it waits too.
use bytes::Bytes;
use prost::Message as _;
use waybill_proto::{
    parse::parse,
    pb::{EmitResponse, Event, Receipt, Refusal, emit_result::Result as Emitted},
};

use crate::{
    args::OnError,
    context::{Context, Missing, var},
    exit::{Exit, Failure},
    output::{self, clean},
    source::Source,
    words,
};

use super::{
    deployment,
    spool::{Item, Spool, Waiting},
};
use crate::command::identity;

/// Events of one batch while the spool is emptied.
const BATCH_EVENTS: usize = 500;
/// Bytes of one batch while the spool is emptied.
const BATCH_BYTES: usize = 2 << 20;

/// A way to a ledger that may be away.
pub(crate) struct Emitter<'a> {
    context: &'a Context,
    /// Why it is away, once that is known.
    source: Result<Source, Failure>,
    /// `None` where this machine has no place for it.
    spool: Option<Spool>,
}

/// What became of an event.
#[derive(Debug)]
pub(crate) enum Delivered {
    Recorded(Box<Receipt>),
    Refused(Box<Refusal>),
    /// It waits on this machine's disk until the ledger is back.
    Spooled(Failure),
    /// The ledger is away, and there is no place to wait.
    Lost(Failure),
}

impl<'a> Emitter<'a> {
    /// Finds the ledger; one that cannot be opened is away, and only a wrong setting is a failure.
    pub(crate) async fn open(context: &'a Context) -> Result<Self, Failure> {
        let place = context.place()?;
        let spool = context
            .state_home()
            .ok()
            .map(|home| Spool::of(&home.join("spool"), &place));
        let source = match context.source(Missing::Create).await {
            Err(failure) if failure.exit() == Exit::Usage => return Err(failure),
            source => source,
        };
        Ok(Self {
            context,
            source,
            spool,
        })
    }

    /// Fills in what only the ledger knows of a deployment.
    pub(crate) async fn complete(
        &mut self,
        event: &mut Event,
        deepen: bool,
    ) -> Result<(), Failure> {
        if parse(&event.encode_to_vec()).is_err() {
            return Ok(()); // The ledger will say what is wrong with it.
        }
        // What waits may be the very deployment that came before.
        let asked = match self.drain().await {
            Ok(()) => deployment::complete(self.source()?, event, deepen).await,
            Err(failure) => Err(failure),
        };
        match asked {
            Err(failure) if is_away(&failure) => {
                // Known to be away: nothing waits for it a second time.
                self.source = Err(failure);
                if let Some(info) = deployment::info_of(event) {
                    deployment::bound(info, deepen);
                }
                Ok(())
            }
            asked => asked,
        }
    }

    /// Hands an event over and tells what became of it.
    pub(crate) async fn hand_over(
        mut self,
        event: Event,
        on_error: OnError,
    ) -> Result<(), Failure> {
        let delivered = self.send(&event, on_error).await;
        let context = self.context;
        let closed = match self.source {
            Ok(source) => source.close().await,
            Err(_) => Ok(()),
        };
        match delivered? {
            Delivered::Recorded(receipt) => show(context, *receipt, &event)?,
            Delivered::Refused(refusal) => {
                if context.out.json {
                    let result = waybill_proto::pb::EmitResult {
                        result: Some(Emitted::Refusal((*refusal).clone())),
                    };
                    context.out.message(
                        "EmitResponse",
                        &EmitResponse {
                            results: vec![result],
                        },
                    )?;
                }
                let name = format!("{} {}", clean(&event.source), clean(&event.id));
                // It may be refused because it has neither.
                let name = match name.trim() {
                    "" => "the event",
                    name => name,
                };
                return Err(identity::rejection(&refusal).while_(name));
            }
            Delivered::Spooled(why) => warn_spooled(&why),
            Delivered::Lost(why) => warn_lost(&why),
        }
        closed
    }

    /// Hands an event over, or lets it wait.
    ///
    /// # Errors
    /// Where the ledger answers and does not take it for a reason that waiting will not mend, or where it is away and
    /// that is to fail.
    pub(crate) async fn send(
        &mut self,
        event: &Event,
        on_error: OnError,
    ) -> Result<Delivered, Failure> {
        let bytes = event.encode_to_vec();
        let sent = match self.drain().await {
            Ok(()) => self.try_send(bytes.clone()).await,
            Err(failure) => Err(failure),
        };
        match sent {
            Err(failure) if is_away(&failure) && on_error == OnError::Fail => Err(away(&failure)),
            Err(failure) if is_away(&failure) => Ok(self.keep(&bytes, failure)),
            other => other,
        }
    }

    /// Lets an event wait on this machine, if it is one that a ledger would take.
    fn keep(&self, event: &[u8], away: Failure) -> Delivered {
        if let Err(refusal) = parse(event) {
            return Delivered::Refused(Box::new(Refusal {
                code: refusal.code.as_str().to_owned(),
                field: refusal.field,
                value: refusal.value,
                rule: refusal.rule,
                hint: refusal.hint,
                recorded: None,
            }));
        }
        match self.spool.as_ref().map(|spool| spool.push(event)) {
            Some(Ok(())) => Delivered::Spooled(away),
            Some(Err(full)) => Delivered::Lost(full.while_(away)),
            None => Delivered::Lost(away),
        }
    }

    async fn try_send(&self, bytes: Vec<u8>) -> Result<Delivered, Failure> {
        let answer = self.source()?.emit(vec![Bytes::from(bytes)]).await?;
        match answer
            .results
            .into_iter()
            .next()
            .and_then(|result| result.result)
        {
            Some(Emitted::Receipt(receipt)) => Ok(Delivered::Recorded(Box::new(receipt))),
            Some(Emitted::Refusal(refusal)) => Ok(Delivered::Refused(Box::new(refusal))),
            None => Err(Failure::unexpected(
                "the server did not say what became of the event",
            )),
        }
    }

    fn source(&self) -> Result<&Source, Failure> {
        self.source.as_ref().map_err(away)
    }

    /// Sends what waits, oldest first. What is refused is set aside, so that it does not hold up the rest for ever; a
    /// spool that cannot be read does not hold up this event.
    async fn drain(&mut self) -> Result<(), Failure> {
        // While another emit empties the spool, it does our work.
        let waiting = match self.spool.as_ref().map(Spool::lock) {
            None | Some(Ok(None)) => return Ok(()),
            Some(Ok(Some(waiting))) => waiting,
            Some(Err(failure)) => {
                warn(&format!("what waits cannot be sent: {failure}"));
                return Ok(());
            }
        };
        let mut done = 0;
        loop {
            let batch = match waiting.next(BATCH_EVENTS, BATCH_BYTES) {
                Ok(batch) if batch.is_empty() => break,
                Ok(batch) => batch,
                Err(failure) => {
                    warn(&format!("what waits cannot be sent: {failure}"));
                    break;
                }
            };
            self.send_batch(&waiting, &batch).await?;
            done += batch.len() as u64;
        }
        if done > 0 {
            output::say(format!(
                "{} waited and went first",
                words::plural(done, "event", "events")
            ));
        }
        Ok(())
    }

    async fn send_batch(&self, waiting: &Waiting, batch: &[Item]) -> Result<(), Failure> {
        let source = self.source()?;
        let mut events = Vec::with_capacity(batch.len());
        for item in batch {
            events.push(as_recorded(source, &item.bytes).await?);
        }
        let answer = source.emit(events).await?;
        if answer.results.len() != batch.len() {
            return Err(Failure::unexpected(
                "the server did not say what became of every event",
            ));
        }
        for (item, result) in batch.iter().zip(answer.results) {
            match result.result {
                Some(Emitted::Receipt(_)) => waiting.remove(item)?,
                Some(Emitted::Refusal(refusal)) => {
                    let kept = waiting.set_aside(item)?;
                    warn(&format!(
                        "an event that waited is kept in {}: {}",
                        kept.display(),
                        identity::rejection(&refusal)
                    ));
                }
                None => {
                    return Err(Failure::unexpected(
                        "the server did not say what became of an event",
                    ));
                }
            }
        }
        Ok(())
    }

    /// Lets go of a directory.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        match self.source {
            Ok(source) => source.close().await,
            Err(_) => Ok(()),
        }
    }
}

/// An event that waited. A deployment that was recorded before it was told again, while the ledger was away, could not
/// ask what ran before; it says what it said the first time.
async fn as_recorded(source: &Source, bytes: &[u8]) -> Result<Bytes, Failure> {
    let known = Event::decode(bytes).ok().filter(|_| parse(bytes).is_ok());
    if let Some(mut event) = known {
        match deployment::say_as_recorded(source, &mut event, 0).await {
            Ok(true) => return Ok(Bytes::from(event.encode_to_vec())),
            Ok(false) => {}
            // Who may emit may not be allowed to ask.
            Err(failure) if failure.exit() == Exit::Auth => {}
            Err(failure) => return Err(failure),
        }
    }
    Ok(Bytes::copy_from_slice(bytes))
}

/// Why a ledger is away, once more.
fn away(failure: &Failure) -> Failure {
    let exit = match failure.exit() {
        Exit::Auth => Exit::Auth,
        _ => Exit::Unreachable,
    };
    Failure::new(exit, failure.to_string()).with_hint(failure.hint())
}

/// Whether waiting may mend it: a ledger that builds its answers again is away too, and so is one that stopped while it
/// was asked. One that turns this caller away has not looked at the event: a token that expired must neither lose it nor
/// stop a deployment.
fn is_away(failure: &Failure) -> bool {
    match failure.exit() {
        Exit::Unreachable | Exit::Unexpected | Exit::Pending | Exit::Interrupted | Exit::Auth => {
            true
        }
        Exit::Usage | Exit::NotFound | Exit::Rejected | Exit::FoundFail => false,
    }
}

fn show(context: &Context, receipt: Receipt, event: &Event) -> Result<(), Failure> {
    if context.out.json {
        let result = waybill_proto::pb::EmitResult {
            result: Some(Emitted::Receipt(receipt)),
        };
        return context.out.message(
            "EmitResponse",
            &EmitResponse {
                results: vec![result],
            },
        );
    }
    let word = if receipt.duplicate {
        "recorded before"
    } else {
        "recorded"
    };
    context.out.line(format!(
        "{word} seq:{}  {} {}",
        receipt.position,
        clean(&event.source),
        clean(&event.id)
    ))
}

/// Tells that an event waits, and why.
pub(crate) fn warn_spooled(why: &Failure) {
    let how = how_away(why);
    warn(&format!(
        "{how}, so the event waits on this machine and goes with the next emit: {}",
        with_hint(why)
    ));
}

/// Tells that an event is lost, and why.
pub(crate) fn warn_lost(why: &Failure) {
    let how = how_away(why);
    warn(&format!(
        "{how} and there is no place to wait, so the event is lost: {}",
        with_hint(why)
    ));
}

fn how_away(why: &Failure) -> &'static str {
    match why.exit() {
        Exit::Auth => "the ledger does not let this caller in",
        _ => "the ledger is away",
    }
}

/// Whoever is turned away has something to do; who finds nobody there will see by itself.
fn with_hint(why: &Failure) -> String {
    match why.exit() {
        Exit::Auth if !why.hint().is_empty() => format!("{why}; {}", why.hint()),
        _ => why.to_string(),
    }
}

/// A warning, in the form that a CI system shows beside its log.
pub(crate) fn warn(text: &str) {
    let github = var("GITHUB_ACTIONS").as_deref() == Some("true");
    output::insist(if github {
        format!("::warning::waybill: {text}")
    } else {
        format!("warning: {text}")
    });
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::{args::Cli, config::Settings, json, output::Color, source::Where};

    /// Nobody listens there: the port is reserved and never given out.
    const NOBODY: &str = "http://127.0.0.1:1";

    fn context() -> Context {
        let cli = <Cli as clap::Parser>::try_parse_from(["waybill", "--timeout", "2s", "version"])
            .unwrap();
        let out = output::Output::new(false, true, Color::Never, &|_| None);
        Context {
            global: cli.global,
            settings: Settings::default(),
            out,
            now: crate::when::now(),
        }
    }

    fn emitter<'a>(context: &'a Context, base: &Path) -> Emitter<'a> {
        let place = Where::Server(NOBODY.to_owned().into());
        let source = Source::server(NOBODY.to_owned().into(), context.timeout().unwrap());
        Emitter {
            context,
            source,
            spool: Some(Spool::of(base, &place)),
        }
    }

    fn deployment() -> Event {
        json::event(
            r#"{"source":"//ci","id":"1","occurTime":"2026-11-03T14:02:00Z","deployment":{"finished":{"outcome":"OUTCOME_SUCCESS",
                "deployment":{"deploymentId":"d","service":"checkout","environment":"prod"}}}}"#,
        )
        .unwrap()
    }

    #[tokio::test]
    async fn a_ledger_that_is_away_never_fails_an_emit_however_often() {
        let (base, context) = (tempfile::tempdir().unwrap(), context());
        for waiting in 1..=3 {
            let mut emitter = emitter(&context, base.path());
            let mut event = deployment();
            event.id = waiting.to_string();
            emitter.complete(&mut event, false).await.unwrap();
            let delivered = emitter.send(&event, OnError::Warn).await.unwrap();
            assert!(matches!(delivered, Delivered::Spooled(_)), "{delivered:?}");
            assert_eq!(super::super::spool::count(base.path()), (waiting, 0));
        }
    }

    #[test]
    fn a_ledger_that_rebuilds_or_stops_while_it_is_asked_is_away_and_a_mistake_is_none() {
        let away = |exit| is_away(&Failure::new(exit, ""));
        for exit in [
            Exit::Unreachable,
            Exit::Pending,
            Exit::Interrupted,
            Exit::Auth,
        ] {
            assert!(away(exit), "{exit:?}");
        }
        for exit in [Exit::Usage, Exit::Rejected] {
            assert!(!away(exit), "{exit:?}");
        }
    }

    #[tokio::test]
    async fn where_it_is_to_fail_it_fails_and_nothing_waits() {
        let (base, context) = (tempfile::tempdir().unwrap(), context());
        let failure = emitter(&context, base.path())
            .send(&deployment(), OnError::Fail)
            .await
            .unwrap_err();
        assert_eq!(failure.exit(), Exit::Unreachable);
        assert_eq!(super::super::spool::count(base.path()), (0, 0));
    }

    #[tokio::test]
    async fn an_event_that_no_ledger_would_take_does_not_wait() {
        let (base, context) = (tempfile::tempdir().unwrap(), context());
        let event = Event {
            id: String::new(),
            ..deployment()
        };
        let delivered = emitter(&context, base.path())
            .send(&event, OnError::Warn)
            .await
            .unwrap();
        assert!(
            matches!(&delivered, Delivered::Refused(refusal) if refusal.field == "id"),
            "{delivered:?}"
        );
        assert_eq!(super::super::spool::count(base.path()), (0, 0));
    }
}
