//! Kills and power cuts, at the size that every run can afford; `torture` runs the large ones.
use std::process::{Command, Output};

fn torture(arguments: &[&str]) -> Output {
    // Streams have tests of their own.
    let streams = [
        "--broker-kills",
        "--stream-kills",
        "--rollbacks",
        "--changed",
    ];
    let output = Command::new(env!("CARGO_BIN_EXE_torture"))
        .args(arguments)
        .args(streams.into_iter().flat_map(|it| [it, "0"]))
        .output()
        .expect("torture runs");
    println!("{}", String::from_utf8_lossy(&output.stderr));
    output
}

fn is_root() -> bool {
    Command::new("id")
        .arg("-u")
        .output()
        .is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}

/// Whether a loop device can be had here at all, which containers often forbid.
fn can_mount() -> bool {
    is_root()
        && Command::new("losetup")
            .arg("--find")
            .output()
            .is_ok_and(|output| output.status.success())
}

#[test]
fn sixty_kills_under_load_lose_double_and_invent_nothing() {
    let output = torture(&[
        "--kills",
        "60",
        "--losses",
        "0",
        "--cuts",
        "0",
        "--renew-every",
        "30",
    ]);
    assert!(output.status.success());
}

#[test]
fn thirty_losses_of_everything_unsynced_lose_no_receipt() {
    let output = torture(&[
        "--kills",
        "0",
        "--losses",
        "30",
        "--cuts",
        "0",
        "--renew-every",
        "30",
    ]);
    assert!(output.status.success());
}

#[test]
fn five_power_cuts_each_on_ext4_and_xfs_lose_no_receipt() {
    if !can_mount() {
        println!("not run: loop mounts need root and a loop device");
        return;
    }
    let output = torture(&[
        "--kills",
        "0",
        "--losses",
        "0",
        "--cuts",
        "5",
        "--check-every",
        "2",
    ]);
    assert!(output.status.success());
}

/// A model that no missing sync can fail would prove nothing: take one away, and receipts must be lost.
#[test]
fn without_the_journals_syncs_receipts_are_lost_and_found_missing() {
    for word in ["journal/", "=journal"] {
        let output = torture(&[
            "--kills",
            "0",
            "--losses",
            "6",
            "--cuts",
            "0",
            "--check-every",
            "1",
            "--skip-sync",
            word,
        ]);
        assert!(
            !output.status.success(),
            "the loss model does not notice that syncs of `{word}` are missing"
        );
    }
}
