//! From what start-up found to a running ledger.
use std::{
    io,
    sync::{
        Arc, Condvar, Mutex, RwLock,
        atomic::{AtomicBool, AtomicU64, Ordering},
        mpsc,
    },
    thread::{self, JoinHandle},
};

use tokio::sync::watch;
use waybill_store::{
    Fault, Hash,
    place::{Head, Place},
    seen,
    side_log::SideLog,
};
use waybill_tlog::{EMPTY_ROOT, checkpoint::SigningKey};
use waybill_views::Facts;

use crate::{
    applier, folder, keeper,
    ledger::{Ledger, Threads},
    open::{self, Found},
    own_event, scrubber,
    shared::{Counts, Durable, Shared, Writing, read},
    stream::Side,
    words::{Config, Heads, Host, Progress},
    writer::Writer,
};

/// Calls that may wait for the writer; each holds at most one batch.
const ORDERS_MAX: usize = 4096;

impl Ledger {
    /// Opens the ledger in a directory, or creates one, checks it and starts its threads. Blocks until emits can be
    /// taken; views may still be folding, and questions say so.
    ///
    /// # Errors
    /// [`Fault::Locked`] when another process has it, [`Fault::Foreign`] when the files do not belong together. Damage
    /// of the journal is no error here: the ledger opens for reading and says so.
    pub fn open(
        config: Config,
        host: Host,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Self, Fault> {
        let mut random = |out: &mut [u8]| (host.random)(out);
        let place = Place::open(
            &config.directory,
            &config.state_directory,
            &config.holder,
            config.new_ledger_id.as_deref(),
            &mut random,
        )?;
        let mut found = open::find(&config, place, progress)?;
        let (journal, tree, lost) = (found.journal.take(), found.tree.clone(), found.lost.take());
        let (orders, receiver) = mpsc::sync_channel(ORDERS_MAX);
        let shared = Arc::new(share(config, host, found)?);
        let writer = match journal {
            None => None,
            Some(journal) => {
                shared
                    .journal_bytes
                    .store(journal.bytes(), Ordering::Relaxed);
                let mut writer = Writer {
                    shared: shared.clone(),
                    journal,
                    tree,
                    orders: receiver,
                    held: None,
                };
                write_own(&mut writer, lost.as_ref())?;
                Some(spawn("waybill-writer", move || writer.run())?)
            }
        };
        let others = vec![
            spawn_with("waybill-applier", &shared, applier::run)?,
            spawn_with("waybill-folder", &shared, folder::run)?,
            spawn_with("waybill-keeper", &shared, keeper::run)?,
            spawn_with("waybill-scrubber", &shared, scrubber::run)?,
        ];
        shared.place.take_back_ballast()?;
        let threads = Threads {
            shared: shared.clone(),
            orders,
            writer: Mutex::new(writer),
            others: Mutex::new(others),
        };
        let threads = Arc::new(threads);
        Ok(Self {
            shared,
            assumed: Arc::default(),
            threads,
        })
    }
}

/// A new ledger's first leaf is its own, and so is the first one after an accepted loss.
fn write_own(writer: &mut Writer, lost: Option<&Head>) -> Result<(), Fault> {
    let shared = &writer.shared;
    // With a stream, what the ledger says itself is a message too, and the first leaf is its epoch's.
    if *read(&shared.writing) != Writing::Open || shared.stream.is_some() {
        return Ok(());
    }
    let (durable, now) = (read(&shared.durable).clone(), (shared.host.clock)());
    let own = match lost {
        _ if durable.position == 0 => own_event::created(&shared.ledger_id, now),
        Some(lost) => own_event::loss_accepted(
            &shared.ledger_id,
            lost,
            durable.position,
            &durable.root,
            now,
        ),
        None => return Ok(()),
    };
    let fingerprint = seen::fingerprint(&own.event.identity.source, &own.event.identity.id);
    if shared.stored(&own.event.identity, fingerprint)?.is_none() {
        writer.append_own(own)?;
    }
    Ok(())
}

fn share(mut config: Config, host: Host, mut found: Found) -> Result<Shared, Fault> {
    let line = open::line(&mut found, config.stream.is_some())?;
    let stream = config
        .stream
        .take()
        .map(|stream| Arc::new(Side::new(stream, line)));
    let Found {
        place,
        database,
        tree,
        seen,
        tip,
        writing,
        findings,
        missing,
        due,
        ..
    } = found;
    let position = tip.as_ref().map_or(0, |tip| tip.position);
    let chain: Hash = tip.as_ref().map_or([0; 32], |tip| tip.chain);
    let root = if position == 0 {
        EMPTY_ROOT
    } else {
        tree.root()
    };
    let instance_id: Arc<str> = Arc::from(place.instance_id());
    let heads = Heads {
        durable: position,
        applied: position,
        folded: 0,
    };
    Ok(Shared {
        ledger_id: Arc::from(place.ledger_id()),
        signing_key: signing_key(&instance_id, place.key_seed())?,
        instance_id,
        side_log: Mutex::new(SideLog::open(&place.refusals_dir())?),
        place,
        config,
        host,
        database: RwLock::new(database),
        seen: RwLock::new(seen),
        recent: RwLock::default(),
        recent_grew: Condvar::new(),
        recent_lock: Mutex::new(()),
        keeper_wake: Condvar::new(),
        keeper_lock: Mutex::new(()),
        facts: RwLock::new(Facts::default()),
        views_kept: AtomicU64::new(0),
        durable: RwLock::new(Durable {
            position,
            record_time: tip.map(|tip| tip.record_time),
            root,
            chain,
        }),
        heads: watch::Sender::new(heads),
        read_only: writing != Writing::Open,
        writing: RwLock::new(writing),
        findings: Mutex::new(findings),
        missing,
        counts: Counts::default(),
        scrub_time: Mutex::new(None),
        folded_from: position,
        stopping: AtomicBool::new(false),
        journal_bytes: AtomicU64::new(0),
        stream,
        due: Mutex::new(due),
        conflicts_on_record: Mutex::default(),
    })
}

fn signing_key(instance_id: &str, seed: [u8; 32]) -> Result<SigningKey, Fault> {
    SigningKey::from_seed(instance_id, seed).map_err(|error| Fault::Foreign {
        what: format!("the instance id: {error}"),
    })
}

fn spawn_with(
    name: &str,
    shared: &Arc<Shared>,
    run: fn(&Arc<Shared>),
) -> Result<JoinHandle<()>, Fault> {
    let shared = shared.clone();
    spawn(name, move || run(&shared))
}

fn spawn(name: &str, run: impl FnOnce() + Send + 'static) -> Result<JoinHandle<()>, Fault> {
    let started = thread::Builder::new().name(name.to_owned()).spawn(run);
    started.map_err(|source: io::Error| Fault::Io {
        action: "start thread",
        path: name.into(),
        source,
    })
}
