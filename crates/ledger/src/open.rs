//! Start-up: what is on disk, what can be believed, what is rebuilt (LEDGER J3 to J6, S2).
use std::sync::Arc;

use waybill_store::{
    Damage, Fault, Keys, Record, Tip,
    database::{self, Database, Meta, Step},
    journal::{self, Frame, Journal, Recovery},
    place::{self, Head, Place},
    seen::{self, Seen},
};
use waybill_tlog::Frontier;

use crate::{
    leaf, limits,
    shared::Writing,
    stream::{self, Line},
    words::{Config, Finding, Progress, Severity},
    writer::chain,
};

/// What start-up found: everything a ledger runs on.
pub(crate) struct Found {
    pub(crate) place: Place,
    pub(crate) database: Database,
    pub(crate) tree: Frontier,
    pub(crate) seen: Seen,
    /// `None` when the journal is damaged: then nothing is written.
    pub(crate) journal: Option<Journal>,
    /// The end of what is durable and whole.
    pub(crate) tip: Option<Tip>,
    pub(crate) writing: Writing,
    pub(crate) findings: Vec<Finding>,
    /// Positions behind the tip that were recorded and cannot be read (LEDGER J3, J4).
    pub(crate) missing: Option<Damage>,
    /// The head of the tree that this one goes on from after a loss that was accepted (LEDGER J4).
    pub(crate) lost: Option<Head>,
    /// A head that the journal does not reach yet and that the stream has: it is read from there again.
    pub(crate) due: Option<Head>,
}

/// Reads what is on disk, brings the database up to the journal, and says what can be believed.
pub(crate) fn find(
    config: &Config,
    place: Place,
    progress: &mut dyn FnMut(Progress),
) -> Result<Found, Fault> {
    let head = place.read_head()?;
    // A head of another id is from before a loss that was accepted: it knows of positions that are gone for good.
    let (head, lost) = match head {
        Some(head) if head.ledger_id != place.ledger_id() => (None, Some(head)),
        head => (head, None),
    };
    find_from(config, place, head, lost, progress)
}

fn find_from(
    config: &Config,
    place: Place,
    head: Option<Head>,
    lost: Option<Head>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Found, Fault> {
    let mut findings = Vec::new();
    let (database, meta) = open_database(config, &place, &mut findings)?;
    // What a stream still has is no damage where it is missing here: it is read again.
    let known = match config.stream {
        Some(_) => 0,
        None => head.as_ref().map_or(0, |head| head.position),
    };
    let mut catch_up = CatchUp::new(config, &place, database, meta.as_ref(), known)?;
    let mut recovered = catch_up.run(meta.as_ref().map(|meta| &meta.tip), progress);
    if let (Err(Fault::Suspect { why }), Some(_)) = (&recovered, &meta) {
        findings.push(rebuilt(why));
        let database = fresh_database(config, &place)?;
        catch_up = CatchUp::new(config, &place, database, None, known)?;
        recovered = catch_up.run(None, progress);
    }
    let (mut writing, mut missing) = (Writing::Open, None);
    let journal = match recovered {
        Ok((journal, recovery)) => {
            findings.extend(recovery.torn.as_ref().map(torn));
            Some(journal)
        }
        Err(Fault::Damage(damage)) => {
            findings.push(damaged(&damage));
            writing = Writing::Closed(damage.to_string());
            let reaches = catch_up.read_what_is_whole(progress)?;
            missing = behind(catch_up.tip.as_ref(), damage, known.max(reaches));
            None
        }
        Err(fault) => return Err(fault),
    };
    let CatchUp {
        database,
        tree,
        seen,
        tip,
        ..
    } = catch_up;
    let found = Found {
        place,
        database,
        tree,
        seen,
        journal,
        tip,
        writing,
        findings,
        missing,
        lost,
        due: None,
    };
    check_head(found, head.as_ref(), config.stream.is_some())
}

/// What is missing behind the tip, when damage reaches that far or `known` positions were recorded.
fn behind(tip: Option<&Tip>, damage: Damage, known: u64) -> Option<Damage> {
    let reached = tip.map_or(0, |tip| tip.position);
    let open = damage.last_position.is_none() && damage.first_position > reached;
    (open || known > reached).then(|| Damage {
        first_position: damage.first_position.max(reached + 1),
        last_position: (!open).then_some(known),
        ..damage
    })
}

/// The epoch of a stream that the journal ends in. Without a stream to follow, such a ledger is for reading only (LEDGER Q5).
pub(crate) fn line(found: &mut Found, has_stream: bool) -> Result<Option<Line>, Fault> {
    let Some(tip) = &found.tip else {
        return Ok(None);
    };
    let Some(last) = found.database.record_checked(tip.position, &leaf::PURE)? else {
        return Ok(None);
    };
    if last.epoch == 0 {
        return Ok(None);
    }
    let Some(leaf) = epoch_leaf(found, &last)? else {
        let why = format!("the leaf that opened epoch {} is not found", last.epoch);
        found.writing = Writing::Closed(why);
        return Ok(None);
    };
    if !has_stream && found.writing == Writing::Open {
        let stream = stream::stream_of(&leaf).unwrap_or_default();
        let why = format!("its positions come from stream `{stream}`");
        found.findings.push(Finding {
            severity: Severity::Warn,
            code: "stream_not_followed",
            text: format!("this ledger is open for reading only: {why}"),
            remedy: format!("serve it with `--nats URL --stream {stream}`"),
        });
        found.writing = Writing::Closed(format!(
            "{why}; serve it with `--nats URL --stream {stream}`"
        ));
    }
    let line = stream::line_of(&leaf);
    Ok(line.map(|line| Line {
        last_sequence: last.stream_sequence.max(line.last_sequence),
        ..line
    }))
}

/// The leaf that opened the epoch of a record.
fn epoch_leaf(found: &Found, last: &Record) -> Result<Option<Record>, Fault> {
    let ledger_id: Arc<str> = Arc::from(found.place.ledger_id());
    let identity = stream::leaf_identity(&ledger_id, last.epoch);
    let fingerprint = seen::fingerprint(&identity.source, &identity.id);
    for position in found.seen.candidates(fingerprint) {
        let record = found.database.record_checked(position, &leaf::PURE)?;
        let is_it = |record: &Record| record.source == identity.source && record.id == identity.id;
        if let Some(record) = record.filter(is_it) {
            return Ok(Some(record));
        }
    }
    Ok(None)
}

/// Compares the journal with the head file, which may know of more (LEDGER J4).
fn check_head(mut found: Found, head: Option<&Head>, has_stream: bool) -> Result<Found, Fault> {
    let reached = found.tip.as_ref().map_or(0, |tip| tip.position);
    let Some(head) = head else {
        if reached > 0 && found.lost.is_none() {
            found.findings.push(Finding {
                severity: Severity::Warn,
                code: "rollback_unchecked",
                text: "there is no head file, so it could not be checked whether this is an older copy".to_owned(),
                remedy: "keep the state directory with the ledger; a new head file is written now".to_owned(),
            });
        }
        return Ok(found);
    };
    let follows = match reached {
        0 => false,
        reached => {
            let last = found.database.record_checked(reached, &leaf::PURE)?;
            last.is_some_and(|record| record.epoch > 0)
        }
    };
    if reached < head.position && follows && has_stream && found.writing == Writing::Open {
        found.findings.push(Finding {
            severity: Severity::Warn,
            code: "journal_behind_head",
            text: format!(
                "the journal ends at position {reached} and the head file knows position {}: the rest is read from the stream again",
                head.position
            ),
            remedy: "nothing to do where the stream has it; the root is compared when it is reached".to_owned(),
        });
        found.due = Some(head.clone());
        return Ok(found);
    }
    let why = if reached < head.position {
        Some(format!(
            "the journal ends at position {reached} and the head file knows position {}",
            head.position
        ))
    } else {
        differs(&found, head)
    };
    if let Some(why) = why {
        found.findings.push(Finding {
            severity: Severity::Fail,
            code: "journal_behind_head",
            text: why.clone(),
            remedy: match follows {
                true => "serve it with `--nats URL`: what is missing is read from the stream again".to_owned(),
                false => format!(
                    "put the missing tail back (a copy or an export), or accept the loss: `waybill ledger accept-loss --yes {} --ledger DIR`",
                    hex(&head.root)
                ),
            },
        });
        found.writing = Writing::Closed(why);
    }
    Ok(found)
}

/// Why the journal is not the one that the head file saw, if it is not.
fn differs(found: &Found, head: &Head) -> Option<String> {
    if head.position == 0 {
        return None;
    }
    let node = |level, index| found.database.node(level, index, waybill_tlog::node_hash);
    match waybill_tlog::root_at(head.position, node) {
        Ok(root) if root == head.root => None,
        Ok(root) => Some(format!(
            "at position {} the journal has root {} and the head file {}",
            head.position,
            hex(&root),
            hex(&head.root)
        )),
        Err(fault) => Some(format!(
            "the root at position {} cannot be worked out: {}",
            head.position,
            chain(&fault)
        )),
    }
}

fn open_database(
    config: &Config,
    place: &Place,
    findings: &mut Vec<Finding>,
) -> Result<(Database, Option<Meta>), Fault> {
    let options = database_options(config);
    match Database::open(&place.database_dir(), &options, place::boot_id().as_deref()) {
        Ok(opened) => match opened.meta {
            Some(meta) if meta.ledger_id != place.ledger_id() => {
                findings.push(rebuilt("it belongs to another ledger"));
                drop(opened.database);
                Ok((fresh_database(config, place)?, None))
            }
            meta => Ok((opened.database, meta)),
        },
        Err(Fault::Suspect { why }) => {
            findings.push(rebuilt(&why));
            Ok((fresh_database(config, place)?, None))
        }
        Err(fault) => Err(fault),
    }
}

/// Moves a database that cannot be believed aside and starts an empty one.
fn fresh_database(config: &Config, place: &Place) -> Result<Database, Fault> {
    Database::move_aside(&place.database_dir())?;
    Ok(Database::open(
        &place.database_dir(),
        &database_options(config),
        place::boot_id().as_deref(),
    )?
    .database)
}

pub(crate) fn database_options(config: &Config) -> database::Options {
    database::Options {
        cache_bytes: config.cache_bytes,
        probe: config.probe.clone(),
        ..database::Options::default()
    }
}

/// Brings sled, the tree and the identities up to the end of the journal.
struct CatchUp<'a> {
    config: &'a Config,
    place: &'a Place,
    known: u64,
    database: Database,
    tree: Frontier,
    seen: Seen,
    tip: Option<Tip>,
    pending: Pending,
}

/// Frames on their way into one step of sled.
#[derive(Default)]
struct Pending {
    records: Vec<Arc<waybill_store::Record>>,
    leaves: Vec<waybill_store::Hash>,
    nodes: Vec<(u8, u64, waybill_store::Hash)>,
    keys: Vec<Keys>,
}

impl<'a> CatchUp<'a> {
    fn new(
        config: &'a Config,
        place: &'a Place,
        database: Database,
        meta: Option<&Meta>,
        known: u64,
    ) -> Result<Self, Fault> {
        let tree = match meta {
            None => Frontier::new(),
            Some(meta) => {
                Frontier::try_from_bytes(&meta.frontier).map_err(|error| Fault::Suspect {
                    why: format!("its tree cannot be read: {error}"),
                })?
            }
        };
        let seen = database.load_seen()?;
        let tip = meta.map(|meta| meta.tip.clone());
        Ok(Self {
            config,
            place,
            known,
            database,
            tree,
            seen,
            tip,
            pending: Pending::default(),
        })
    }

    fn run(
        &mut self,
        from: Option<&Tip>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<(Journal, Recovery), Fault> {
        let options = journal::Options {
            segment_bytes: self.config.segment_bytes,
        };
        let (dir, ledger_id, known) = (
            self.place.journal_dir(),
            self.place.ledger_id().to_owned(),
            self.known,
        );
        let result = Journal::recover(
            &dir,
            &ledger_id,
            &options,
            &leaf::PURE,
            from,
            known,
            &mut |frame| {
                self.take(frame)?;
                let done = self.tip.as_ref().map_or(0, |tip| tip.position);
                progress(Progress {
                    what: "bringing the database up to the journal",
                    done,
                    total: (known > 0).then_some(known),
                });
                Ok(())
            },
        );
        self.flush()?;
        result
    }

    /// Takes in what can still be read of a damaged journal, so that reads go on (LEDGER J3). Gives the last position that
    /// is whole, behind the damage or before it.
    fn read_what_is_whole(&mut self, progress: &mut dyn FnMut(Progress)) -> Result<u64, Fault> {
        let summary = journal::read(&self.place.journal_dir(), None, &leaf::PURE, &mut |frame| {
            let next = self.tip.as_ref().map_or(1, |tip| tip.position + 1);
            if frame
                .records
                .first()
                .is_some_and(|record| record.position == next)
            {
                self.take(frame)?;
                progress(Progress {
                    what: "reading what is whole of the journal",
                    done: next,
                    total: None,
                });
            }
            Ok(())
        })?;
        self.flush()?;
        Ok(summary.tip.position)
    }

    fn take(&mut self, frame: Frame) -> Result<(), Fault> {
        for (record, leaf) in frame.records.into_iter().zip(frame.leaves) {
            let nodes = &mut self.pending.nodes;
            self.tree.push(leaf, &mut |level, index, hash| {
                nodes.push((level, index, hash))
            });
            self.seen.insert(record.fingerprint(), record.position);
            self.pending.keys.push(leaf::index(&record));
            self.pending.leaves.push(leaf);
            self.pending.records.push(Arc::new(record));
        }
        self.tip = Some(frame.tip);
        if self.pending.records.len() >= limits::STEP_EVENTS_MAX {
            self.flush()
        } else {
            Ok(())
        }
    }

    fn flush(&mut self) -> Result<(), Fault> {
        let pending = std::mem::take(&mut self.pending);
        let Some(tip) = self.tip.clone().filter(|_| !pending.records.is_empty()) else {
            return Ok(());
        };
        let meta = Meta {
            ledger_id: self.place.ledger_id().to_owned(),
            tip,
            frontier: self.tree.to_bytes(),
            root: self.tree.root(),
            counters: Vec::new(),
        };
        let Pending {
            records,
            leaves,
            nodes,
            keys,
        } = pending;
        self.database.apply(&Step {
            records: &records,
            leaves: &leaves,
            nodes: &nodes,
            keys: &keys,
            meta,
        })
    }
}

fn rebuilt(why: &str) -> Finding {
    Finding {
        severity: Severity::Warn,
        code: "database_rebuilt",
        text: format!("the database was moved aside and rebuilt from the journal: {why}"),
        remedy: "nothing to do; the old one may be deleted".to_owned(),
    }
}

fn torn(torn: &journal::TornTail) -> Finding {
    Finding {
        severity: Severity::Warn,
        code: "torn_tail",
        text: format!(
            "segment {} ended in a torn write at offset {}; the last whole position is {}",
            torn.segment, torn.offset, torn.last_position
        ),
        remedy: format!(
            "nothing to do: it had no receipt; its bytes are kept in {}",
            torn.kept_aside.display()
        ),
    }
}

fn damaged(damage: &Damage) -> Finding {
    Finding {
        severity: Severity::Fail,
        code: "journal_damaged",
        text: damage.to_string(),
        remedy:
            "restore the ledger from an export or a copy of the journal; until then it is read only"
                .to_owned(),
    }
}

pub(crate) fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
