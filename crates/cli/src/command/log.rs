//! `log`: the ledger itself, as a list, a stream, receipts and checkpoints.
use std::path::Path;

use waybill_proto::pb::{
    AsOf, EventFilter, EventRef, GetCheckpointRequest, GetReceiptRequest, LeafSelection,
    LeafVerdict, ListEventsRequest, ListEventsResponse, ListRefusalsRequest, ListRefusalsResponse,
    RecordedEvent, RefusalRecord, TailEventsRequest, as_of::Moment, tail_events_response::Message,
};

use crate::{
    args::{LogArgs, LogCommand},
    context::{Context, Missing},
    exit::Failure,
    json,
    output::{self, Style, clean},
    source::Source,
    table::{Table, shorten, styled},
    when, words,
};

use super::{identity, status, trace};

/// Rows of a table where nothing is said.
const ROWS: u64 = 50;
/// A person's keyed hash is longer than anybody reads; `event show` has all of it.
const ACTOR_WIDTH: usize = 20;
/// Events asked for at once.
const PAGE: u64 = 500;

/// Shows what was asked.
pub(crate) async fn run(context: &Context, args: LogArgs) -> Result<(), Failure> {
    let mut source = context.source(Missing::Refuse).await?;
    match &args.command {
        Some(LogCommand::Receipt {
            source: emitter,
            id,
            output,
            consistent_from,
            wait,
        }) => {
            let wait = wait.as_deref().map(|text| when::length(text, "--wait"));
            let wait = wait.transpose()?;
            source.wait_longer(wait.unwrap_or_default());
            let request = GetReceiptRequest {
                event: Some(EventRef {
                    source: emitter.clone(),
                    id: id.clone(),
                    position: 0,
                }),
                prove: output.is_some() || context.out.json || consistent_from.is_some(),
                consistent_from_size: consistent_from.unwrap_or(0),
                at_least: None,
                wait: wait.map(when::proto_duration),
            };
            receipt(context, &source, request, output.as_deref()).await?;
        }
        Some(LogCommand::Checkpoint { size, output }) => {
            checkpoint(context, &source, size.unwrap_or(0), output.as_deref()).await?
        }
        None if args.refused => refused(context, &source, &args).await?,
        None if args.follow => follow(context, &source, &args).await?,
        None => list(context, &source, &args).await?,
    }
    source.close().await
}

/// Pages until as many are shown as were asked for; newest first, unless someone reads them in order.
async fn list(context: &Context, source: &Source, args: &LogArgs) -> Result<(), Failure> {
    let ordered = args.jsonl || args.from.is_some();
    let mut left = match args.limit {
        Some(0) => u64::MAX,
        Some(limit) => limit,
        None if ordered => u64::MAX,
        None => ROWS,
    };
    let mut shown = Shown::new(context, source, args).await?;
    let filter = filter(context, args)?;
    let mut token = String::new();
    let applied = loop {
        let request = ListEventsRequest {
            page_size: i32::try_from(left.min(PAGE)).unwrap_or(i32::MAX),
            page_token: token,
            filter: Some(filter.clone()),
            descending: !ordered,
            at_least: None,
        };
        let answer = source
            .answer(source.ledger().list_events(source.request(request)))
            .await?;
        for event in answer.events {
            if left > 0 && shown.event(event)? {
                left -= 1;
            }
        }
        token = answer.next_page_token;
        if left == 0 || token.is_empty() {
            break answer.applied_position;
        }
    };
    shown.finish(applied)?;
    if !token.is_empty() && args.limit.is_none() {
        output::say(format!("the newest {ROWS} are shown; -n 0 shows all"));
    }
    Ok(())
}

/// Shows events as they are recorded, until somebody stops it.
async fn follow(context: &Context, source: &Source, args: &LogArgs) -> Result<(), Failure> {
    let mut shown = Shown::new(context, source, args).await?;
    let request = TailEventsRequest {
        first_position: args.from.unwrap_or(0),
        from_head: args.from.is_none(),
        filter: Some(filter(context, args)?),
        heartbeat_interval: None,
    };
    let mut stream = source.answer(source.ledger().tail_events(request)).await?;
    while let Some(answer) = stream
        .message()
        .await
        .map_err(|status| source.explain(status))?
    {
        match answer.message {
            Some(Message::Event(event)) => {
                shown.event(event)?;
                shown.flush()?;
            }
            Some(Message::CaughtUp(_)) => shown.flush()?,
            Some(Message::Heartbeat(_)) | None => {}
        }
        if args.to.is_some_and(|to| shown.position >= to) {
            break;
        }
    }
    shown.flush()
}

fn filter(context: &Context, args: &LogArgs) -> Result<EventFilter, Failure> {
    let mut filter = EventFilter {
        kinds: args.kind.clone(),
        entity: args.entity.clone().unwrap_or_default(),
        source: args.source.clone().unwrap_or_default(),
        occur_start_time: context.moment(args.since.as_deref(), "--since")?,
        occur_end_time: context.moment(args.until.as_deref(), "--until")?,
        first_position: args.from.unwrap_or(0),
        last_position: args.to.unwrap_or(0),
        ..EventFilter::default()
    };
    if args.all {
        filter.set_leaves(LeafSelection::All);
    }
    if let Some(text) = &args.as_of {
        match when::knowledge(text, "--as-of", context.now)? {
            AsOf {
                moment: Some(Moment::Position(position)),
            } => {
                filter.last_position = if filter.last_position == 0 {
                    position
                } else {
                    filter.last_position.min(position)
                };
            }
            AsOf {
                moment: Some(Moment::RecordTime(time)),
            } => {
                // Knowledge includes its moment, the filter's end does not.
                let end = when::from_proto(&time).map(|time| when::proto_time(time.plus_nanos(1)));
                filter.record_end_time = end;
            }
            _ => {
                return Err(Failure::usage(
                    "--as-of names an event; `log` wants seq:POSITION or a moment",
                ));
            }
        }
    }
    Ok(filter)
}

/// Events on their way out.
struct Shown<'a> {
    context: &'a Context,
    form: Form,
    /// The ledger's own events are left out; empty shows them too.
    hidden_source: String,
    /// The last position seen.
    position: u64,
}

/// How events are shown.
enum Form {
    /// For people: drawn in one piece, so that columns line up.
    Table(Table),
    /// One event a line, as they come.
    Lines,
    /// The answer as the server gives it, all pages in one.
    Answer(ListEventsResponse),
}

impl<'a> Shown<'a> {
    async fn new(context: &'a Context, source: &Source, args: &LogArgs) -> Result<Self, Failure> {
        let named = args.all
            || args.source.is_some()
            || args.kind.iter().any(|kind| kind.starts_with("ledger"));
        let hidden_source = if named {
            String::new()
        } else {
            status::ask(source).await?.ledger_id
        };
        let form = match (
            args.jsonl || (context.out.json && args.follow),
            context.out.json,
        ) {
            (true, _) => Form::Lines,
            (false, true) => Form::Answer(ListEventsResponse::default()),
            (false, false) => Form::Table(columns(true, args.follow)),
        };
        Ok(Self {
            context,
            form,
            hidden_source,
            position: 0,
        })
    }

    /// Takes one event in; says whether it is shown.
    fn event(&mut self, recorded: RecordedEvent) -> Result<bool, Failure> {
        self.position = recorded.position;
        let emitter = recorded.event.as_ref().map(|event| event.source.as_str());
        if !self.hidden_source.is_empty() && emitter == Some(self.hidden_source.as_str()) {
            return Ok(false);
        }
        match &mut self.form {
            Form::Table(table) => table.row(row(&recorded)),
            Form::Lines => self
                .context
                .out
                .line(json::line("RecordedEvent", &recorded)?)?,
            Form::Answer(answer) => answer.events.push(recorded),
        }
        Ok(true)
    }

    /// Shows what has come so far.
    fn flush(&mut self) -> Result<(), Failure> {
        if let Form::Table(table) = &mut self.form
            && !table.is_empty()
        {
            self.context
                .out
                .table(&std::mem::replace(table, columns(false, true)))?;
        }
        Ok(())
    }

    fn finish(mut self, applied_position: u64) -> Result<(), Failure> {
        match &mut self.form {
            Form::Table(table) if table.is_empty() => output::say("nothing is recorded that fits"),
            Form::Table(table) => {
                self.form = Form::Table(table.clone().without_empty_last());
            }
            Form::Lines => {}
            Form::Answer(answer) => {
                answer.applied_position = applied_position;
                return self.context.out.message("ListEventsResponse", answer);
            }
        }
        self.flush()
    }
}

/// Columns of the table; where events follow as they come, every piece lines up with the one before.
fn columns(header: bool, follow: bool) -> Table {
    let names = if header {
        ["SEQ>", "HAPPENED", "KIND", "WHAT…", "SOURCE", "SENDER"]
    } else {
        [">", "", "", "…", "", ""]
    };
    let table = Table::new(&names);
    if follow {
        table.at_least(&[7, 17, 20, 40, 24])
    } else {
        table
    }
}

fn row(recorded: &RecordedEvent) -> Vec<crate::table::Cell> {
    let event = recorded.event.clone().unwrap_or_default();
    if let Some(refused) = not_a_fact(recorded) {
        return refused;
    }
    let about: Vec<String> = recorded
        .entities
        .iter()
        .take(3)
        .map(|entity| trace::name(entity))
        .collect();
    let mut what = if about.is_empty() {
        clean(&event.id)
    } else {
        about.join(" ")
    };
    if recorded.entities.len() > 3 {
        what.push_str(&format!(" +{}", recorded.entities.len() - 3));
    }
    vec![
        recorded.position.to_string().into(),
        words::minute(event.occur_time.as_ref()).into(),
        clean(&recorded.kind).into(),
        what.into(),
        styled(Style::Faint, clean(&event.source)),
        styled(Style::Faint, sender(recorded)),
    ]
}

/// Who sent it: a name that the ledger verified, else whom the event names, which anybody can write.
fn sender(recorded: &RecordedEvent) -> String {
    let event = recorded.event.as_ref();
    let actor = event.and_then(|event| event.actor.as_ref());
    match (recorded.sender.as_str(), actor) {
        ("", None) => String::new(),
        ("", Some(actor)) => format!("{} (claimed)", shorten(&clean(&actor.id), ACTOR_WIDTH)),
        (sender, _) => clean(sender),
    }
}

/// What a leaf is instead of a fact, and why; empty for a fact.
pub(crate) fn why_no_fact(recorded: &RecordedEvent) -> String {
    let word = match recorded.verdict() {
        LeafVerdict::Unspecified | LeafVerdict::Admitted | LeafVerdict::Ledger => {
            return String::new();
        }
        LeafVerdict::Duplicate => "a repeat of what was recorded before",
        LeafVerdict::Conflict => "a conflict",
        LeafVerdict::Undecodable => "unreadable",
        LeafVerdict::Refused => "refused",
    };
    match &recorded.refusal {
        Some(refusal) => format!(
            "{word}: {} {}",
            clean(&refusal.field),
            identity::sentence("", &refusal.value, &refusal.rule)
        ),
        None => word.to_owned(),
    }
}

/// A name that a refused message claims, short enough for a table.
fn claimed(text: &str) -> String {
    const CHARS_MAX: usize = 80;
    match text.char_indices().nth(CHARS_MAX) {
        Some((end, _)) => format!("{}…", clean(&text[..end])),
        None => clean(text),
    }
}

/// The row of a leaf that is no fact: what it is instead, and why.
fn not_a_fact(recorded: &RecordedEvent) -> Option<Vec<crate::table::Cell>> {
    let word = match recorded.verdict() {
        LeafVerdict::Unspecified | LeafVerdict::Admitted | LeafVerdict::Ledger => return None,
        LeafVerdict::Duplicate => "(repeat)",
        LeafVerdict::Conflict => "(conflict)",
        LeafVerdict::Undecodable => "(unreadable)",
        LeafVerdict::Refused => "(refused)",
    };
    let event = recorded.event.clone().unwrap_or_default();
    let what = match &recorded.refusal {
        Some(refusal) => format!(
            "{} {}",
            clean(&refusal.field),
            identity::sentence("", &refusal.value, &refusal.rule)
        ),
        None => claimed(&event.id),
    };
    let source = match event.source.is_empty() {
        true => claimed(&recorded.subject),
        false => claimed(&event.source),
    };
    Some(vec![
        recorded.position.to_string().into(),
        words::minute(event.occur_time.as_ref()).into(),
        styled(Style::Faint, word.to_owned()),
        what.trim().to_owned().into(),
        styled(Style::Faint, source),
        styled(Style::Faint, sender(recorded)),
    ])
}

/// Messages of the stream that are leaves and no facts, newest first.
async fn refused_leaves(
    context: &Context,
    source: &Source,
    args: &LogArgs,
) -> Result<Vec<RecordedEvent>, Failure> {
    let mut filter = filter(context, args)?;
    filter.set_leaves(LeafSelection::Refused);
    let mut left = match args.limit {
        Some(0) => u64::MAX,
        Some(limit) => limit,
        None if args.jsonl => u64::MAX,
        None => ROWS,
    };
    let (mut found, mut token) = (Vec::new(), String::new());
    while left > 0 {
        let request = ListEventsRequest {
            page_size: i32::try_from(left.min(PAGE)).unwrap_or(i32::MAX),
            page_token: token,
            filter: Some(filter.clone()),
            descending: true,
            at_least: None,
        };
        let answer = source
            .answer(source.ledger().list_events(source.request(request)))
            .await?;
        left = left.saturating_sub(answer.events.len() as u64);
        found.extend(answer.events);
        token = answer.next_page_token;
        if token.is_empty() {
            break;
        }
    }
    Ok(found)
}

async fn refused(context: &Context, source: &Source, args: &LogArgs) -> Result<(), Failure> {
    let mut left = match args.limit {
        Some(0) => u64::MAX,
        Some(limit) => limit,
        None if args.jsonl => u64::MAX,
        None => ROWS,
    };
    let leaves = refused_leaves(context, source, args).await?;
    let mut whole = ListRefusalsResponse::default();
    loop {
        let page_size = i32::try_from(left.min(PAGE)).unwrap_or(i32::MAX);
        let request = ListRefusalsRequest {
            page_size,
            page_token: whole.next_page_token,
        };
        let answer = source
            .answer(source.ledger().list_refusals(source.request(request)))
            .await?;
        left = left.saturating_sub(answer.refusals.len() as u64);
        whole.refusals.extend(answer.refusals);
        whole.next_page_token = answer.next_page_token;
        whole.total_count = answer.total_count;
        if left == 0 || whole.next_page_token.is_empty() {
            break;
        }
    }
    whole.refusals.splice(0..0, leaves.iter().map(as_refusal));
    if args.jsonl {
        let lines = whole
            .refusals
            .iter()
            .map(|record| context.out.line(json::line("RefusalRecord", record)?));
        return lines.collect();
    }
    if context.out.json {
        return context.out.message("ListRefusalsResponse", &whole);
    }
    let mut table = Table::new(&["NO>", "WHEN", "CODE", "FIELD", "WHY…", "SOURCE", "ID"]);
    whole
        .refusals
        .iter()
        .for_each(|record| table.row(refusal_row(record)));
    if table.is_empty() {
        output::say(format!(
            "no details of refusals are kept; {} ever",
            words::count(whole.total_count)
        ));
        return Ok(());
    }
    context.out.table(&table)
}

/// A leaf that is no fact, as the list of refusals shows it.
fn as_refusal(recorded: &RecordedEvent) -> RefusalRecord {
    let event = recorded.event.clone().unwrap_or_default();
    RefusalRecord {
        refuse_time: recorded.record_time,
        refusal: recorded.refusal.clone(),
        source: event.source,
        id: event.id,
        kind: recorded.kind.clone(),
        sender: recorded.sender.clone(),
        position: recorded.position,
        body: recorded.undecodable_bytes.clone(),
        body_size: u32::try_from(recorded.undecodable_bytes.len()).unwrap_or(u32::MAX),
        ..RefusalRecord::default()
    }
}

fn refusal_row(record: &RefusalRecord) -> Vec<crate::table::Cell> {
    let refusal = record.refusal.clone().unwrap_or_default();
    vec![
        match record.position {
            0 => record.number.to_string().into(),
            position => format!("@{position}").into(),
        },
        words::minute(record.refuse_time.as_ref()).into(),
        refusal.code.into(),
        clean(&refusal.field).into(),
        identity::sentence("", &refusal.value, &refusal.rule).into(),
        claimed(&record.source).into(),
        claimed(&record.id).into(),
    ]
}

async fn receipt(
    context: &Context,
    source: &Source,
    request: GetReceiptRequest,
    output: Option<&Path>,
) -> Result<(), Failure> {
    let answer = source
        .answer(source.ledger().get_receipt(source.request(request)))
        .await?;
    if let Some(path) = output {
        let proven = answer
            .proven
            .ok_or_else(|| Failure::unexpected("the server gave a receipt without its proof"))?;
        write(
            path,
            &format!("{}\n", json::pretty("ProvenReceipt", &proven)?),
        )?;
        output::say(format!(
            "wrote {}; check it anywhere: waybill verify {}",
            path.display(),
            path.display()
        ));
        return Ok(());
    }
    if context.out.json {
        return context.out.message("GetReceiptResponse", &answer);
    }
    let receipt = answer.receipt.unwrap_or_default();
    let mut table = Table::new(&["", ""]);
    for (name, value) in [
        ("ledger", clean(&receipt.ledger_id)),
        ("position", words::count(receipt.position)),
        ("recorded", words::moment(receipt.record_time.as_ref())),
        ("leaf hash", hex::encode(&receipt.leaf_hash)),
        ("tree size", words::count(receipt.tree_size)),
        ("root", hex::encode(&receipt.root)),
        (
            "erasable",
            if receipt.erasable {
                "yes"
            } else {
                "no: its leaf is not salted"
            }
            .to_owned(),
        ),
    ] {
        table.row(vec![styled(Style::Faint, name), value.into()]);
    }
    context.out.table(&table)
}

async fn checkpoint(
    context: &Context,
    source: &Source,
    tree_size: u64,
    output: Option<&Path>,
) -> Result<(), Failure> {
    let request = GetCheckpointRequest { tree_size };
    let answer = source
        .answer(source.ledger().get_checkpoint(source.request(request)))
        .await?;
    if let Some(path) = output {
        write(path, &answer.checkpoint)?;
        output::say(format!(
            "wrote {} for {}; keep it where the ledger's operator cannot reach it",
            path.display(),
            words::plural(answer.tree_size, "event", "events")
        ));
        output::say(format!("public key {}", clean(&answer.verifier_key)));
        return Ok(());
    }
    if context.out.json {
        return context.out.message("GetCheckpointResponse", &answer);
    }
    context.out.bytes(answer.checkpoint.as_bytes())
}

fn write(path: &Path, text: &str) -> Result<(), Failure> {
    std::fs::write(path, text).map_err(|error| {
        Failure::unexpected(format!("{} cannot be written: {error}", path.display()))
    })
}
