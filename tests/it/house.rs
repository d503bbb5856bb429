//! The house itself: who may use whom, and that nothing is left behind.
use std::{collections::BTreeMap, path::Path, process::Command};

use serde_json::Value;

/// Which of our crates each crate may use (`crates/README.md`). Arrows point down only.
const MAY_USE: &[(&str, &[&str])] = &[
    ("core", &[]),
    ("tlog", &[]),
    ("views", &["core"]),
    ("proto", &["core"]),
    ("store", &["core"]),
    ("ledger", &["core", "proto", "store", "views", "tlog"]),
    ("client", &["core", "proto", "tlog"]),
    ("server", &["core", "proto", "views", "tlog", "ledger"]),
    ("nats", &["core", "proto", "ledger"]),
    (
        "cli",
        &[
            "core", "proto", "views", "tlog", "ledger", "client", "server", "nats",
        ],
    ),
    ("fixture", &["core", "store"]),
];

/// Crates of others that only some of ours may know.
const ONLY_IN: &[(&str, &[&str])] = &[
    ("sled", &["store"]),
    ("bincode", &["store"]),
    ("prost", &["proto", "client", "server", "ledger", "cli"]),
    ("tonic", &["proto", "client", "server", "cli"]),
    ("tokio", &["ledger", "client", "server", "cli", "nats"]),
    ("async-nats", &["nats"]),
    ("clap", &["cli"]),
];

fn metadata() -> Value {
    let output = Command::new(env!("CARGO"))
        .args([
            "metadata",
            "--format-version=1",
            "--no-deps",
            "--locked",
            "--offline",
        ])
        .current_dir(root())
        .output()
        .expect("cargo runs");
    assert!(
        output.status.success(),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    serde_json::from_slice(&output.stdout).expect("cargo metadata is JSON")
}

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .expect("tests/ has a parent")
}

/// Normal dependencies by crate, without the `waybill-` of ours.
fn dependencies() -> BTreeMap<String, Vec<String>> {
    let metadata = metadata();
    let packages = metadata["packages"].as_array().expect("packages");
    packages
        .iter()
        .map(|package| (short(&package["name"]), normal(package)))
        .collect()
}

fn normal(package: &Value) -> Vec<String> {
    let all = package["dependencies"].as_array().expect("dependencies");
    all.iter()
        .filter(|it| it["kind"].is_null())
        .map(|it| it["name"].as_str().unwrap().to_owned())
        .collect()
}

fn short(name: &Value) -> String {
    name.as_str()
        .unwrap()
        .trim_start_matches("waybill-")
        .to_owned()
}

#[test]
fn arrows_point_down_only() {
    let table: BTreeMap<_, _> = MAY_USE.iter().copied().collect();
    for (name, used) in dependencies() {
        if name == "tests" {
            continue;
        }
        let allowed = table.get(name.as_str()).unwrap_or_else(|| {
            panic!("{name} is not in the table: add it there and in crates/README.md")
        });
        for other in used.iter().filter_map(|it| it.strip_prefix("waybill-")) {
            assert!(
                allowed.contains(&other),
                "{name} may not use {other}: see the table in crates/README.md"
            );
        }
    }
}

#[test]
fn sled_bincode_and_the_wires_stay_where_they_belong() {
    let dependencies = dependencies();
    for (foreign, homes) in ONLY_IN {
        for (name, used) in &dependencies {
            let at_home = homes.contains(&name.as_str()) || name == "tests";
            assert!(
                at_home || !used.iter().any(|it| it == foreign),
                "{name} may not use {foreign}: only {homes:?} may"
            );
        }
    }
}

#[test]
fn one_file_knows_sled_and_one_knows_bincode_beside_their_tests() {
    for (word, home) in [
        ("sled::", "crates/store/src/database.rs"),
        ("bincode::", "crates/store/src/codec.rs"),
    ] {
        for file in files("rs")
            .into_iter()
            .filter(|file| !file.ends_with(file!()) && !file.contains("/tests/"))
        {
            let text = std::fs::read_to_string(root().join(&file)).unwrap();
            let code = text
                .lines()
                .filter(|line| !line.trim_start().starts_with("//"));
            assert!(
                file == home || !code.clone().any(|line| line.contains(word)),
                "{file} knows {word}, only {home} may"
            );
        }
    }
}

/// Files that git tracks, by ending.
fn files(ending: &str) -> Vec<String> {
    let output = Command::new("git")
        .args(["ls-files", &format!("*.{ending}")])
        .current_dir(root())
        .output()
        .unwrap();
    assert!(
        output.status.success(),
        "git ls-files works in the checkout"
    );
    String::from_utf8(output.stdout)
        .unwrap()
        .lines()
        .map(str::to_owned)
        .collect()
}

#[test]
fn every_link_between_pages_leads_somewhere() {
    for page in files("md") {
        let text = std::fs::read_to_string(root().join(&page)).unwrap();
        let here = Path::new(&page).parent().unwrap();
        for target in links(&text) {
            let path = root().join(here).join(target.split('#').next().unwrap());
            assert!(
                path.exists(),
                "{page} links to {target}, which is not there"
            );
        }
    }
}

/// Targets of Markdown links that are paths.
fn links(text: &str) -> Vec<&str> {
    let targets = text
        .split("](")
        .skip(1)
        .filter_map(|rest| rest.split(')').next());
    targets
        .filter(|it| !it.contains("://") && !it.starts_with('#') && !it.is_empty())
        .collect()
}

#[test]
fn nothing_unfinished_is_left_in_the_code() {
    for file in files("rs")
        .into_iter()
        .filter(|file| !file.ends_with(file!()))
    {
        let text = std::fs::read_to_string(root().join(&file)).unwrap();
        for word in ["todo!(", "unimplemented!(", "#[ignore", "FIXME", "XXX"] {
            assert!(!text.contains(word), "{file} holds {word}");
        }
    }
}
