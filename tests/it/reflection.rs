//! A stranger's client: Python, gRPC's own protocols, an address. What it emits and asks it learns from the server.
use std::{
    path::Path,
    process::{Command, Output},
};

use waybill_tests::process::{Home, Server};

/// Where `tests/run` puts the Python packages that a machine lacks.
const ENVIRONMENT: &str = "../target/test-venv/bin/python";

/// A Python that has grpcio and its reflection.
fn python() -> Option<String> {
    let own = Path::new(env!("CARGO_MANIFEST_DIR")).join(ENVIRONMENT);
    ["python3".to_owned(), own.display().to_string()]
        .into_iter()
        .find(|python| {
            let probe = Command::new(python)
                .args(["-c", "import grpc, grpc_reflection"])
                .output();
            probe.is_ok_and(|output| output.status.success())
        })
}

fn client(python: &str, address: &str) -> Output {
    Command::new(python)
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("reflection_client.py"))
        .arg(address)
        .output()
        .expect("python runs")
}

#[test]
fn a_client_that_knows_nothing_but_reflection_emits_and_asks() {
    let Some(python) = python() else {
        println!("not run: Python lacks grpcio and grpcio-reflection; tests/run installs them");
        return;
    };
    let root = tempfile::tempdir().unwrap();
    let home = Home {
        root: root.path().to_owned(),
    };
    let server = Server::start(&home, &[]).unwrap();
    let output = client(&python, server.url.trim_start_matches("http://"));
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(
        output.status.success(),
        "{said}{}",
        String::from_utf8_lossy(&output.stderr)
    );
    let versions: Vec<&str> = said
        .lines()
        .filter_map(|line| line.split_once(": emitted and asked"))
        .map(|(version, _)| version)
        .collect();
    assert_eq!(versions, ["v1", "v1alpha"], "{said}");
    assert_eq!(server.stop().unwrap(), Some(0));
}
