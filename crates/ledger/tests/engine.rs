//! The engine from outside: real files, real threads, a scripted clock.
#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
use std::{
    fs,
    future::Future,
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    sync::{
        Arc, Mutex,
        atomic::{AtomicI64, AtomicU64, Ordering},
    },
    time::Duration,
};

use bytes::Bytes;
use prost::Message;
use waybill_core::{Code, Identity, Time};
use waybill_ledger::{
    AsOf, AtLeast, Config, Filter, Host, Key, Ledger, ReadFailure, ReadOptions, Rejection, Sender,
    Severity, verify,
};
use waybill_proto::pb::{self, event::Payload};
use waybill_views::trace;

/// A ledger's directories and its scripted clock.
struct Bed {
    _temporary: tempfile::TempDir,
    root: PathBuf,
    clock: Arc<AtomicI64>,
    random: Arc<AtomicU64>,
}

impl Bed {
    fn new() -> Self {
        let temporary = tempfile::tempdir().unwrap();
        let root = temporary.path().to_owned();
        let clock = Arc::new(AtomicI64::new(1_700_000_000_000_000_000));
        Self {
            _temporary: temporary,
            root,
            clock,
            random: Arc::default(),
        }
    }

    fn config(&self) -> Config {
        Config {
            directory: self.root.join("data"),
            state_directory: self.root.join("state"),
            probe: None,
            segment_bytes: 1 << 20,
            cache_bytes: 16 << 20,
            view_checkpoint_events: 20,
            scrub_every: Duration::from_millis(20),
            holder: "a test".to_owned(),
            stream: None,
            new_ledger_id: None,
        }
    }

    fn host(&self) -> Host {
        let (clock, random) = (self.clock.clone(), self.random.clone());
        Host {
            clock: Arc::new(move || {
                Time::from_nanos_clamped(clock.fetch_add(1_000_000, Ordering::Relaxed).into())
            }),
            random: Arc::new(move |out| {
                for byte in out {
                    let next = random
                        .fetch_add(1, Ordering::Relaxed)
                        .wrapping_mul(0x9E37_79B9_7F4A_7C15);
                    *byte = next.to_be_bytes()[0];
                }
            }),
        }
    }

    fn open(&self) -> Ledger {
        Ledger::open(self.config(), self.host(), &mut |_| {}).unwrap()
    }
}

fn run<T>(future: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .unwrap()
        .block_on(future)
}

fn commit(id: &str, revision: char) -> pb::Event {
    let recorded = pb::CommitRecorded {
        repository: "github.com/acme/shop".to_owned(),
        revision: revision.to_string().repeat(40),
        subject_line: format!("step {id}"),
        ..Default::default()
    };
    pb::Event {
        source: "/test".to_owned(),
        id: id.to_owned(),
        occur_time: Some(prost_types::Timestamp {
            seconds: 1_600_000_000,
            nanos: 0,
        }),
        payload: Some(Payload::Commit(pb::CommitEvent {
            event: Some(pb::commit_event::Event::Recorded(recorded)),
        })),
        ..Default::default()
    }
}

fn bytes(event: &pb::Event) -> Bytes {
    event.encode_to_vec().into()
}

fn identity(id: &str) -> Identity {
    Identity {
        source: "/test".into(),
        id: id.into(),
    }
}

fn emit(ledger: &Ledger, events: &[pb::Event]) -> Vec<waybill_ledger::Emitted> {
    run(ledger.emit(events.iter().map(bytes).collect(), &Sender::unverified())).unwrap()
}

fn position(ledger: &Ledger, event: &pb::Event) -> u64 {
    emit(ledger, std::slice::from_ref(event))
        .remove(0)
        .unwrap()
        .position
}

fn applied(ledger: &Ledger) -> u64 {
    let position = ledger.heads().borrow().durable;
    run(ledger.wait_applied(&AtLeast {
        ledger_id: String::new(),
        position,
    }))
    .unwrap();
    position
}

#[test]
fn a_new_ledger_begins_with_its_own_event_and_counts_from_there() {
    let bed = Bed::new();
    let ledger = bed.open();
    assert_eq!(position(&ledger, &commit("a", 'a')), 2);
    let first = run(ledger.entry(&Key::Position(1))).unwrap();
    assert_eq!(&*first.record.kind, "ledger.created");
    assert_eq!(&*first.record.source, ledger.ledger_id());
}

#[test]
fn the_same_again_is_a_duplicate_with_the_first_place_and_todays_tree() {
    let bed = Bed::new();
    let ledger = bed.open();
    let first = emit(&ledger, &[commit("a", 'a')]).remove(0).unwrap();
    position(&ledger, &commit("b", 'b'));
    let mut again = commit("a", 'a');
    again.produce_time = Some(prost_types::Timestamp {
        seconds: 1_600_000_100,
        nanos: 0,
    });
    let second = emit(&ledger, &[again]).remove(0).unwrap();
    assert!(second.duplicate && !first.duplicate);
    assert_eq!(
        (second.position, second.record_time, second.leaf_hash),
        (first.position, first.record_time, first.leaf_hash)
    );
    assert_eq!(second.tree_size, 3);
    assert_ne!(second.root, first.root);
}

#[test]
fn other_content_under_one_identity_is_refused_and_on_record_once() {
    let bed = Bed::new();
    let ledger = bed.open();
    let kept = position(&ledger, &commit("a", 'a'));
    for revision in ['b', 'c'] {
        let refused = emit(&ledger, &[commit("a", revision)])
            .remove(0)
            .unwrap_err();
        assert_eq!(refused.refusal.code, Code::Conflict);
        assert_eq!(refused.recorded, Some((identity("a"), kept)));
    }
    let own = run(ledger.list(
        &Filter {
            kinds: vec!["ledger.conflict_detected".into()],
            ..Filter::default()
        },
        10,
        None,
        0,
    ));
    applied(&ledger);
    let own = own.map(|_| {
        run(ledger.list(
            &Filter {
                kinds: vec!["ledger".into()],
                ..Filter::default()
            },
            10,
            None,
            0,
        ))
        .unwrap()
    });
    assert_eq!(
        own.unwrap().entries.len(),
        2,
        "created, and one conflict for the identity"
    );
    assert_eq!(ledger.status().conflict_count, 2);
    assert_eq!(ledger.refusals(None, 10).unwrap().len(), 2);
}

#[test]
fn one_batch_may_repeat_and_contradict_itself() {
    let bed = Bed::new();
    let ledger = bed.open();
    let answers = emit(
        &ledger,
        &[
            commit("a", 'a'),
            commit("a", 'a'),
            commit("a", 'b'),
            commit("b", 'b'),
        ],
    );
    let positions: Vec<_> = answers
        .iter()
        .map(|it| it.as_ref().map(|it| (it.position, it.duplicate)).ok())
        .collect();
    assert_eq!(
        positions,
        [Some((2, false)), Some((2, true)), None, Some((4, false))]
    );
}

#[test]
fn one_bad_event_is_refused_in_its_own_place() {
    let bed = Bed::new();
    let ledger = bed.open();
    let mut bad = commit("b", 'b');
    bad.id = "evil\u{202E}id".to_owned();
    let answers = run(ledger.emit(
        vec![
            bytes(&commit("a", 'a')),
            bytes(&bad),
            Bytes::from_static(b"\xff\xff"),
        ],
        &Sender::unverified(),
    ))
    .unwrap();
    assert!(answers[0].is_ok());
    assert_eq!(answers[1].as_ref().unwrap_err().refusal.field, "id");
    assert_eq!(
        answers[2].as_ref().unwrap_err().refusal.code,
        Code::Undecodable
    );
    assert_eq!(ledger.status().refusal_count, 2);
}

#[test]
fn the_ledgers_own_source_is_the_ledgers() {
    let bed = Bed::new();
    let ledger = bed.open();
    let mut forged = commit("a", 'a');
    forged.source = ledger.ledger_id().to_owned();
    let refused = emit(&ledger, &[forged]).remove(0).unwrap_err();
    assert_eq!(
        (refused.refusal.code, refused.refusal.field.as_str()),
        (Code::NotAllowed, "source")
    );
}

#[test]
fn a_batch_over_the_limit_is_refused_whole() {
    let bed = Bed::new();
    let ledger = bed.open();
    let events: Vec<_> = (0..1001)
        .map(|number| bytes(&commit(&number.to_string(), 'a')))
        .collect();
    let rejected = run(ledger.emit(events, &Sender::unverified())).unwrap_err();
    assert!(matches!(rejected, Rejection::Refused(refusal) if refusal.code == Code::TooLarge));
    assert_eq!(ledger.heads().borrow().durable, 1);
}

#[test]
fn everything_is_there_after_a_restart_and_a_repeat_is_still_a_duplicate() {
    let bed = Bed::new();
    let ledger = bed.open();
    let events: Vec<_> = (0..500)
        .map(|number| commit(&number.to_string(), 'a'))
        .collect();
    let before: Vec<_> = emit(&ledger, &events)
        .into_iter()
        .map(Result::unwrap)
        .collect();
    let root = ledger.status().root;
    ledger.close().unwrap();
    drop(ledger);
    let ledger = bed.open();
    assert_eq!(ledger.status().root, root);
    assert!(
        ledger
            .status()
            .findings
            .iter()
            .all(|it| it.severity == Severity::Ok),
        "{:?}",
        ledger.status().findings
    );
    for (event, receipt) in events.iter().zip(&before) {
        let again = emit(&ledger, std::slice::from_ref(event))
            .remove(0)
            .unwrap();
        assert_eq!((again.position, again.duplicate), (receipt.position, true));
        let entry = run(ledger.entry(&Key::Identity(receipt.identity.clone()))).unwrap();
        assert_eq!(entry.record.bytes, bytes(event));
    }
}

#[test]
fn no_question_opens_a_journal_segment() {
    let bed = Bed::new();
    let ledger = bed.open();
    let events: Vec<_> = (0..3000)
        .map(|number| commit(&number.to_string(), 'a'))
        .collect();
    events
        .chunks(100)
        .for_each(|some| drop(emit(&ledger, some)));
    applied(&ledger);
    let segments = segments(&bed.root.join("data/journal"));
    for segment in &segments {
        // Taken away altogether: root may read what it has no permission for.
        fs::rename(segment, segment.with_extension("hidden")).unwrap();
        fs::set_permissions(
            segment.with_extension("hidden"),
            fs::Permissions::from_mode(0o000),
        )
        .unwrap();
    }
    assert_eq!(
        run(ledger.entry(&Key::Position(17)))
            .unwrap()
            .record
            .position,
        17
    );
    let page = run(ledger.list(
        &Filter {
            entity: Some("aaaaaaa".into()),
            ..Filter::default()
        },
        50,
        None,
        0,
    ))
    .unwrap();
    assert_eq!(page.entries.len(), 50);
    let question = trace::Question {
        reference: "a".repeat(40),
        ..trace::Question::default()
    };
    assert!(run(ledger.trace(&ReadOptions::default(), question)).is_ok());
    assert!(run(ledger.inclusion(5, 0)).is_ok());
    assert!(emit(&ledger, &events[7..8]).remove(0).unwrap().duplicate);
}

/// Closes a ledger once the views have taken in everything.
fn close_folded(ledger: Ledger) {
    let read = ReadOptions {
        at_least: Some(AtLeast {
            ledger_id: String::new(),
            position: applied(&ledger),
        }),
        ..ReadOptions::default()
    };
    let question = trace::Question {
        reference: "a".repeat(40),
        ..trace::Question::default()
    };
    run(ledger.trace(&read, question)).unwrap();
    ledger.close().unwrap();
}

#[test]
fn what_the_views_kept_answers_as_if_everything_were_folded_again() {
    let bed = Bed::new();
    let kept = bed
        .config()
        .directory
        .join("views")
        .join("facts.checkpoint");
    let question = |digit: char| trace::Question {
        reference: digit.to_string().repeat(40),
        ..trace::Question::default()
    };
    let ask = || {
        let ledger = bed.open();
        let read = ReadOptions {
            at_least: Some(AtLeast {
                ledger_id: String::new(),
                position: applied(&ledger),
            }),
            evaluated_time: Some(Time::from_nanos_clamped(1_800_000_000_000_000_000)),
            ..ReadOptions::default()
        };
        "0123456789abcdef"
            .chars()
            .map(|digit| run(ledger.trace(&read, question(digit))).unwrap())
            .collect::<Vec<_>>()
    };
    let ledger = bed.open();
    for (number, digit) in "0123456789abcdef".repeat(3).chars().enumerate() {
        emit(&ledger, &[commit(&number.to_string(), digit)]);
    }
    close_folded(ledger);
    assert!(kept.exists());
    let with = ask();
    let whole = fs::read(&kept).unwrap();
    fs::remove_file(&kept).unwrap();
    assert_eq!(ask(), with, "folded again");
    fs::write(&kept, &whole[..whole.len() / 2]).unwrap();
    assert_eq!(ask(), with, "half a checkpoint is none");
    let other = Bed::new();
    let ledger = other.open();
    emit(
        &ledger,
        &(0..60)
            .map(|n| commit(&format!("other-{n}"), 'a'))
            .collect::<Vec<_>>(),
    );
    close_folded(ledger);
    fs::copy(
        other
            .config()
            .directory
            .join("views")
            .join("facts.checkpoint"),
        &kept,
    )
    .unwrap();
    assert_eq!(ask(), with, "another ledger's checkpoint is not believed");
}

#[test]
fn the_database_is_read_against_its_hashes_now_and_then() {
    let bed = Bed::new();
    let ledger = bed.open();
    let events: Vec<_> = (0..40)
        .map(|number| commit(&number.to_string(), 'a'))
        .collect();
    emit(&ledger, &events);
    let scrubbed = |ledger: &Ledger| ledger.status().scrub_time;
    let first = until(|| scrubbed(&ledger));
    until(|| scrubbed(&ledger).filter(|next| *next > first));
    assert_eq!(ledger.status().findings, []);
}

/// Looks again until there is something to see; whoever runs the test sees it hang otherwise.
fn until<T>(mut look: impl FnMut() -> Option<T>) -> T {
    loop {
        if let Some(seen) = look() {
            return seen;
        }
        std::thread::yield_now();
    }
}

fn segments(dir: &Path) -> Vec<PathBuf> {
    let mut all: Vec<_> = fs::read_dir(dir)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.is_file())
        .collect();
    all.sort();
    all
}

#[test]
fn a_missing_or_foreign_database_is_rebuilt_with_the_same_root() {
    let bed = Bed::new();
    let ledger = bed.open();
    let events: Vec<_> = (0..300)
        .map(|number| commit(&number.to_string(), 'a'))
        .collect();
    emit(&ledger, &events);
    let root = ledger.status().root;
    ledger.close().unwrap();
    drop(ledger);
    fs::remove_dir_all(bed.root.join("data/sled")).unwrap();
    let ledger = bed.open();
    assert_eq!(ledger.status().root, root);
    assert_eq!(
        run(ledger.entry(&Key::Position(200)))
            .unwrap()
            .record
            .position,
        200
    );
}

#[test]
fn an_old_copy_is_noticed_and_takes_no_events() {
    let bed = Bed::new();
    let ledger = bed.open();
    position(&ledger, &commit("a", 'a'));
    ledger.close().unwrap();
    drop(ledger);
    let copy = bed.root.join("copy");
    copy_dir(&bed.root.join("data"), &copy);
    let ledger = bed.open();
    position(&ledger, &commit("b", 'b'));
    ledger.close().unwrap();
    drop(ledger);
    fs::remove_dir_all(bed.root.join("data")).unwrap();
    fs::rename(&copy, bed.root.join("data")).unwrap();
    let ledger = bed.open();
    let rejected =
        run(ledger.emit(vec![bytes(&commit("c", 'c'))], &Sender::unverified())).unwrap_err();
    assert!(
        matches!(
            rejected,
            Rejection::NotWriting {
                may_recover: false,
                ..
            }
        ),
        "{rejected}"
    );
    assert!(
        ledger
            .status()
            .findings
            .iter()
            .any(|it| it.severity == Severity::Fail)
    );
    assert_eq!(
        run(ledger.entry(&Key::Identity(identity("a"))))
            .unwrap()
            .record
            .position,
        2
    );
}

fn copy_dir(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy_dir(&path, &target)
        } else {
            fs::copy(&path, &target).map(drop).unwrap()
        }
    }
}

#[test]
fn a_second_process_is_kept_out_and_told_whom_to_ask() {
    let bed = Bed::new();
    let _ledger = bed.open();
    let error = Ledger::open(bed.config(), bed.host(), &mut |_| {})
        .err()
        .unwrap()
        .to_string();
    assert!(error.contains("a test"), "{error}");
}

#[test]
fn proofs_hold_and_the_journal_agrees_offline() {
    let bed = Bed::new();
    let ledger = bed.open();
    let events: Vec<_> = (0..260)
        .map(|number| commit(&number.to_string(), 'a'))
        .collect();
    emit(&ledger, &events);
    let size = applied(&ledger);
    let root = ledger.status().root;
    for position in [1, 2, 128, 129, 200, size] {
        let proof = run(ledger.inclusion(position, 0)).unwrap();
        waybill_tlog::verify_inclusion(position - 1, size, &proof.leaf_hash, &proof.path, &root)
            .unwrap();
    }
    for old in [1, 100, 128, 255, size] {
        let proof = run(ledger.consistency(old, 0)).unwrap();
        waybill_tlog::verify_consistency(old, size, &proof.old_root, &proof.new_root, &proof.path)
            .unwrap();
        assert_eq!(proof.new_root, root);
    }
    let proven = run(ledger.prove(&identity("7"), 100)).unwrap();
    assert_eq!(proven.event, bytes(&events[7]));
    ledger.close().unwrap();
    let report = verify::directory(&bed.root.join("data"), &[100], &mut |_| {}).unwrap();
    assert_eq!(
        (report.position, report.root, report.damages.len()),
        (size, root, 0)
    );
    assert_eq!(
        report.roots,
        [(100, Some(proven.consistency.unwrap().old_root))]
    );
}

#[test]
fn as_of_and_at_least_say_what_they_stand_on() {
    let bed = Bed::new();
    let ledger = bed.open();
    let first = position(&ledger, &commit("a", 'a'));
    let second = position(&ledger, &commit("b", 'b'));
    let ask = |read: ReadOptions, digit: char| {
        let question = trace::Question {
            reference: digit.to_string().repeat(40),
            ..trace::Question::default()
        };
        run(ledger.trace(&read, question))
    };
    let now = ReadOptions {
        at_least: Some(AtLeast {
            ledger_id: ledger.ledger_id().into(),
            position: second,
        }),
        ..ReadOptions::default()
    };
    let (basis, _) = ask(now, 'b').unwrap();
    assert_eq!((basis.position, basis.root), (second, ledger.status().root));
    let (basis, _) = ask(
        ReadOptions {
            as_of: Some(AsOf::Position(first)),
            ..ReadOptions::default()
        },
        'b',
    )
    .unwrap();
    assert_eq!(basis.position, first);
    assert_eq!(
        Some(basis.evaluated_time),
        basis.record_time,
        "with as_of, now is then"
    );
    let foreign = AtLeast {
        ledger_id: "another".into(),
        position: 1,
    };
    let refused = ask(
        ReadOptions {
            at_least: Some(foreign),
            ..ReadOptions::default()
        },
        'b',
    )
    .unwrap_err();
    assert!(
        matches!(refused, ReadFailure::Refused(refusal) if refusal.field == "at_least.ledger_id")
    );
    let beyond = ReadOptions {
        as_of: Some(AsOf::Position(99)),
        ..ReadOptions::default()
    };
    assert!(
        matches!(ask(beyond, 'b'), Err(ReadFailure::Refused(refusal)) if refusal.code == Code::OutOfRange)
    );
}

#[test]
fn a_clock_that_runs_backwards_never_turns_record_time_back() {
    let bed = Bed::new();
    let ledger = bed.open();
    let times = Mutex::new(Vec::new());
    for (number, jump) in [0, -5_000_000_000_i64, 3_000_000_000, -1]
        .into_iter()
        .enumerate()
    {
        bed.clock.fetch_add(jump, Ordering::Relaxed);
        let receipt = emit(&ledger, &[commit(&number.to_string(), 'a')])
            .remove(0)
            .unwrap();
        times.lock().unwrap().push(receipt.record_time);
    }
    assert!(times.lock().unwrap().is_sorted());
}
