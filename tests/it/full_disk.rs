//! A full disk and a read-only one: no receipt, a reason that names it, reads that go on; and when there is room again,
//! writing goes on by itself (LEDGER J5).
use std::{fs, io::Write as _, path::PathBuf, process::Command, thread};

use tonic::{Code, Status};
use tonic_types::StatusExt as _;
use waybill_proto::pb::ReadState;
use waybill_tests::process::{Home, Server};

use crate::kit::{Wire, is_root, serve};

/// A segment, the ballast, what writing leaves alone, and a little for everything else.
const DISK_BYTES: u64 = 240 << 20;

/// A small file system with a home on it; unmounted when it is dropped.
struct Disk {
    dir: tempfile::TempDir,
    home: Home,
}

impl Disk {
    /// `None`, said, where nothing may be mounted.
    fn mount(kind: &str, options: &str) -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        let (image, point) = (dir.path().join("image"), dir.path().join("mount"));
        fs::create_dir(&point).unwrap();
        let mut mount = Command::new("mount");
        if kind == "tmpfs" {
            mount.args(["-t", "tmpfs", "-o", options, "tmpfs"]);
        } else {
            fs::File::create(&image)
                .unwrap()
                .set_len(DISK_BYTES)
                .unwrap();
            let made = Command::new(format!("mkfs.{kind}"))
                .arg("-q")
                .arg(&image)
                .status();
            assert!(made.unwrap().success());
            mount.args(["-t", kind, "-o", options]).arg(&image);
        }
        let mounted = mount.arg(&point).output().unwrap();
        if !is_root() || !mounted.status.success() {
            println!("not run: nothing can be mounted here");
            return None;
        }
        let home = Home {
            root: point.join("home"),
        };
        fs::create_dir(&home.root).unwrap();
        Some(Self { dir, home })
    }

    fn point(&self) -> PathBuf {
        self.dir.path().join("mount")
    }

    fn filler(&self) -> PathBuf {
        self.point().join("filler")
    }

    /// Somebody else takes all the room that there is.
    fn fill(&self) {
        let mut filler = fs::OpenOptions::new()
            .create(true)
            .append(true)
            .open(self.filler())
            .unwrap();
        for bytes in [1 << 20, 4096, 1] {
            while filler.write_all(&vec![1; bytes]).is_ok() {}
        }
    }

    fn free(&self) {
        fs::remove_file(self.filler()).unwrap();
    }

    /// Tells ext4 that it met an error. `false` where that cannot be told.
    fn turn_read_only(&self) -> bool {
        let source = sh(
            "findmnt",
            &["-no", "SOURCE", &self.point().to_string_lossy()],
        );
        let device = source.trim().trim_start_matches("/dev/");
        fs::write(format!("/sys/fs/ext4/{device}/trigger_fs_error"), "1").is_ok()
    }

    /// As after a restart of the machine: checked, and mounted anew.
    fn mount_again(&self) {
        let (point, image) = (self.point(), self.dir.path().join("image"));
        let (point, image) = (point.to_string_lossy(), image.to_string_lossy());
        sh("umount", &[&point]);
        // It exits with 1 when it mended something, which is why it is called.
        drop(Command::new("e2fsck").args(["-fp", &image]).output());
        sh("mount", &["-o", "loop", &image, &point]);
    }
}

impl Drop for Disk {
    fn drop(&mut self) {
        let unmounted = Command::new("umount").arg(self.point()).status();
        // A test that fails has said why.
        assert!(
            unmounted.unwrap().success() || thread::panicking(),
            "{} is let go of",
            self.point().display()
        );
    }
}

/// Runs a program that must succeed; what it says.
fn sh(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output().unwrap();
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{program} {arguments:?}: {output:?}"
    );
    said
}

/// An emit's refusal says that it may be tried again, when, and why.
fn refused(status: &Status, why: &str) {
    assert_eq!(status.code(), Code::Unavailable, "{status}");
    let details = status.get_error_details();
    let info = details.error_info().unwrap();
    assert_eq!(info.reason, "NOT_WRITING", "{status}");
    assert_eq!(info.metadata["may_recover"], "true", "{status}");
    assert!(details.retry_info().unwrap().retry_delay.is_some());
    assert!(status.message().contains(why), "{status}");
}

fn refusing(wire: &Wire, why: &str) {
    let status = wire.status();
    assert_eq!(status.emits(), ReadState::Refusing);
    assert!(status.emits_reason.contains(why), "{}", status.emits_reason);
}

/// Emits in ever new batches until it is refused; how many events have receipts.
fn emit_until_refused(wire: &Wire, why: &str) -> u64 {
    for first in (0..).step_by(100) {
        match wire.emit(first..first + 100) {
            Ok(positions) => assert_eq!(positions[99], first + 101),
            Err(status) => {
                refused(&status, why);
                return first;
            }
        }
    }
    unreachable!("it never ends by itself")
}

/// Fills the disk under a server that is at work, asks it and its successors everything, and frees the disk again.
fn fill_and_free(disk: &Disk) {
    let server = serve(&disk.home);
    let wire = Wire::to(&server);
    wire.emit(0..100).unwrap();
    let count = thread::scope(|scope| {
        scope.spawn(|| disk.fill());
        emit_until_refused(&wire, "the disk is full")
    });
    let answers = wire.answers(0..count).unwrap();
    // What was given up for this moment is taken as well.
    disk.fill();
    refusing(&wire, "the disk is full");
    assert_eq!(wire.answers(0..count).unwrap(), answers);
    assert_eq!(answers.listed.len() as u64, count + 1);
    server.kill();

    // Twice, for the first start must leave what the second one needs.
    serve(&disk.home).kill();
    disk.fill();
    let server = serve(&disk.home);
    let wire = Wire::to(&server);
    assert_eq!(wire.answers(0..count).unwrap(), answers);
    refused(
        &wire.emit(count..count + 1).unwrap_err(),
        "the disk is full",
    );
    disk.free();
    assert_eq!(wire.emit_at_last(count..count + 2), [count + 2, count + 3]);
    assert_eq!(wire.emit(0..2).unwrap(), [2, 3]);
    assert_eq!(wire.status().emits(), ReadState::Serving);
    assert_eq!(server.stop().unwrap(), Some(0));
    whole(&disk.home, count + 2);
}

/// After one more start all receipts are there.
fn whole(home: &Home, count: u64) {
    let server = serve(home);
    let wire = Wire::to(&server);
    let listed = wire.answers(0..count).unwrap().listed;
    assert_eq!(listed.len() as u64, count + 1);
    assert_eq!(wire.findings(), Vec::<String>::new());
    server.kill();
}

#[test]
fn a_full_memory_disk_refuses_writes_and_keeps_reads() {
    if let Some(disk) = Disk::mount("tmpfs", &format!("size={DISK_BYTES}")) {
        fill_and_free(&disk);
    }
}

#[test]
fn a_full_ext4_refuses_writes_and_keeps_reads() {
    if let Some(disk) = Disk::mount("ext4", "loop") {
        fill_and_free(&disk);
    }
}

/// A file system that went read-only because its device failed, which is what systems do then.
#[test]
fn a_read_only_file_system_refuses_writes_and_keeps_reads() {
    let Some(disk) = Disk::mount("ext4", "loop,errors=remount-ro") else {
        return;
    };
    let server = serve(&disk.home);
    let wire = Wire::to(&server);
    wire.emit(0..200).unwrap();
    let answers = wire.answers(0..200).unwrap();
    if !disk.turn_read_only() {
        println!("not run: this kernel lets nobody break a file system");
        return;
    }
    let why = "Read-only file system";
    refused(&wire.emit(200..201).unwrap_err(), why);
    refused(&wire.emit(200..201).unwrap_err(), why);
    refusing(&wire, why);
    assert_eq!(wire.answers(0..200).unwrap(), answers);
    server.kill();
    let started = Server::start(&disk.home, &[]).unwrap_err().to_string();
    assert!(started.contains(why), "{started}");

    disk.mount_again();
    let server = serve(&disk.home);
    let wire = Wire::to(&server);
    assert_eq!(wire.answers(0..200).unwrap(), answers);
    assert_eq!(wire.emit(200..201).unwrap(), [202]);
    server.kill();
}
