use std::{
    fs,
    io::{BufRead as _, BufReader},
    os::unix::fs::PermissionsExt,
    path::{Path, PathBuf},
    process::{Command, Stdio},
    thread,
};

use super::{directory::Place, *};
use crate::fault::Fault;

struct World {
    dir: tempfile::TempDir,
    next: u8,
}

impl World {
    fn new() -> Self {
        Self {
            dir: tempfile::tempdir().unwrap(),
            next: 0,
        }
    }

    fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    fn state(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    fn open(&mut self) -> Result<Place, Fault> {
        let data = self.data();
        self.open_at(&data)
    }

    fn open_at(&mut self, data: &Path) -> Result<Place, Fault> {
        let state = self.state();
        Place::open(data, &state, "serves 127.0.0.1:8420", None, &mut |bytes| {
            self.next += 1;
            bytes.fill(self.next);
        })
    }

    fn instance(&self, place: &Place) -> PathBuf {
        self.state().join(place.instance_id())
    }
}

fn head(place: &Place, position: u64) -> Head {
    Head {
        ledger_id: place.ledger_id().to_owned(),
        instance_id: place.instance_id().to_owned(),
        position,
        root: [0xab; 32],
        chain: [7; 32],
    }
}

#[test]
fn ids_and_keys_are_made_once() {
    let mut world = World::new();
    let place = world.open().unwrap();
    let made = (
        place.ledger_id().to_owned(),
        place.instance_id().to_owned(),
        place.key_seed(),
        place.actor_key(),
    );
    assert_ne!(place.key_seed(), place.actor_key());
    drop(place);
    let place = world.open().unwrap();
    assert_eq!(
        (
            place.ledger_id().to_owned(),
            place.instance_id().to_owned(),
            place.key_seed(),
            place.actor_key()
        ),
        made
    );
    for name in ["key", "actor.key"] {
        let mode = fs::metadata(world.instance(&place).join(name))
            .unwrap()
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    assert_eq!(identity(&world.data()).unwrap().unwrap().ledger_id, made.0);
}

#[test]
fn a_second_process_is_told_whom_to_ask() {
    let mut world = World::new();
    let place = world.open().unwrap();
    place.set_holder("serves http://127.0.0.1:9000").unwrap();
    let Err(fault) = world.open() else {
        panic!("one at a time")
    };
    let expected = format!(
        "{} is in use by process {}: serves http://127.0.0.1:9000",
        world.data().display(),
        std::process::id()
    );
    assert_eq!(fault.to_string(), expected);
    drop(place);
    world.open().unwrap();
}

/// A child that was being started when its parent was killed has the parent's lock for a moment.
#[test]
fn the_lock_of_a_process_that_is_gone_is_waited_for() {
    let mut world = World::new();
    drop(world.open().unwrap());
    let mut gone = Command::new("true").spawn().unwrap();
    gone.wait().unwrap();
    let lock = world.data().join("lock");
    fs::write(&lock, format!("process {}: a test\n", gone.id())).unwrap();
    let script = "flock -x 9 && echo held && read -r line";
    let mut heir = Command::new("sh")
        .args(["-c", &format!("exec 9<>\"$1\"; {script}"), "sh"])
        .arg(&lock)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    let mut said = BufReader::new(heir.stdout.take().unwrap());
    said.read_line(&mut line).unwrap();
    assert_eq!(line, "held\n");
    let opening = thread::spawn(move || world.open().map(drop));
    drop(heir.stdin.take());
    heir.wait().unwrap();
    opening.join().unwrap().unwrap();
}

#[test]
fn a_copy_cannot_work_under_the_same_instance_at_the_same_time() {
    let mut world = World::new();
    let place = world.open().unwrap();
    let copy = world.dir.path().join("copy");
    fs::create_dir(&copy).unwrap();
    fs::copy(world.data().join("ledger"), copy.join("ledger")).unwrap();
    assert!(matches!(world.open_at(&copy), Err(Fault::Locked { .. })));
    drop(place);
    world.open_at(&copy).unwrap();
}

#[test]
fn without_its_keys_it_is_a_new_instance_of_the_same_ledger() {
    let mut world = World::new();
    let place = world.open().unwrap();
    let (ledger_id, instance_id) = (place.ledger_id().to_owned(), place.instance_id().to_owned());
    drop(place);
    fs::remove_dir_all(world.state()).unwrap();
    let place = world.open().unwrap();
    assert_eq!(place.ledger_id(), ledger_id);
    assert_ne!(place.instance_id(), instance_id);
    assert_eq!(place.read_head().unwrap(), None);
}

#[test]
fn a_key_that_others_may_read_is_refused_with_the_mending() {
    let mut world = World::new();
    let place = world.open().unwrap();
    let key = world.instance(&place).join("key");
    drop(place);
    for mode in [0o640, 0o604, 0o644, 0o660] {
        fs::set_permissions(&key, fs::Permissions::from_mode(mode)).unwrap();
        let Err(fault) = world.open() else {
            panic!("{mode:o}")
        };
        assert!(
            fault.to_string().ends_with(&format!(
                "(mode {mode:o}): run `chmod 600 {}`",
                key.display()
            )),
            "{fault}"
        );
    }
    fs::set_permissions(&key, fs::Permissions::from_mode(0o400)).unwrap();
    world.open().unwrap();
}

#[test]
fn the_head_comes_back_and_any_changed_byte_of_it_is_damage() {
    let mut world = World::new();
    let place = world.open().unwrap();
    assert_eq!(place.read_head().unwrap(), None);
    for position in [1, 12_345] {
        place.write_head(&head(&place, position)).unwrap();
        assert_eq!(place.read_head().unwrap(), Some(head(&place, position)));
    }
    let path = world.instance(&place).join("head");
    let whole = fs::read(&path).unwrap();
    for at in 0..whole.len() {
        for bit in 0..8 {
            let mut flipped = whole.clone();
            flipped[at] ^= 1 << bit;
            fs::write(&path, &flipped).unwrap();
            assert!(
                matches!(place.read_head(), Err(Fault::Damage(_))),
                "byte {at}, bit {bit}"
            );
        }
        fs::write(&path, &whole[..at]).unwrap();
        assert!(
            matches!(place.read_head(), Err(Fault::Damage(_))),
            "cut to {at}"
        );
    }
    let other = Head {
        instance_id: "instance-2".to_owned(),
        ..head(&place, 1)
    };
    place.write_head(&other).unwrap();
    assert!(
        matches!(place.read_head(), Err(Fault::Damage(_))),
        "the head of another instance"
    );
}

#[test]
fn ids_that_could_lead_elsewhere_are_refused() {
    let mut world = World::new();
    let mut place = world.open().unwrap();
    for id in ["", "a b", "a\n", "a+b", &"x".repeat(257)] {
        assert!(
            matches!(place.rename(id), Err(Fault::Foreign { .. })),
            "{id:?}"
        );
    }
    place.rename("example.com/second").unwrap();
    drop(place);
    assert_eq!(world.open().unwrap().ledger_id(), "example.com/second");
    let line = r#"{"version":1,"ledger_id":"a","instance_id":"../../etc"}"#;
    fs::write(
        world.data().join("ledger"),
        format!("{line}\ncrc32c {:08x}\n", crc32c::crc32c(line.as_bytes())),
    )
    .unwrap();
    assert!(matches!(world.open(), Err(Fault::Foreign { .. })));
}

#[test]
fn when_the_disk_is_full_the_ballast_is_given_up_and_taken_again() {
    let mut world = World::new();
    let place = world.open().unwrap();
    let ballast = world.data().join("ballast");
    let space = place.check_space(0).unwrap();
    assert!(space.available >= BALLAST_BYTES && ballast.exists());
    let Err(Fault::DiskFull {
        available, needed, ..
    }) = place.check_space(u64::MAX)
    else {
        panic!("it is too much")
    };
    assert!(available < needed);
    let left = fs::metadata(&ballast).unwrap().len();
    assert!(
        left > 0 && left < BALLAST_BYTES,
        "{left} are kept for a start"
    );
    assert!(matches!(
        place.check_space(u64::MAX),
        Err(Fault::DiskFull { .. })
    ));
    assert_eq!(fs::metadata(&ballast).unwrap().len(), left);
    place.check_space(0).unwrap();
    assert_eq!(fs::metadata(ballast).unwrap().len(), BALLAST_BYTES);
}

#[test]
fn a_boot_has_a_name() {
    if Path::new("/proc/sys/kernel/random/boot_id").exists() {
        assert_eq!(boot_id().unwrap().len(), 36);
    }
}
