//! Another language, with the page and the descriptors alone, computes what we compute.
use std::{
    io::Write,
    path::Path,
    process::{Command, Output, Stdio},
};

use waybill_proto::FILE_DESCRIPTOR_SET;

fn computed(page: &Path) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/contract_vectors.py");
    let mut child = Command::new("python3")
        .arg(script)
        .arg(page)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("python3 is installed");
    let mut stdin = child.stdin.take().unwrap();
    stdin.write_all(FILE_DESCRIPTOR_SET).unwrap();
    drop(stdin);
    child.wait_with_output().unwrap()
}

#[test]
fn python_computes_the_golden_vectors() {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/README.md");
    let output = computed(&page);
    assert!(output.status.success(), "{output:?}");
    assert!(output.stdout.starts_with(b"8 vectors, "), "{output:?}");
}

/// A checker that accepts anything would prove nothing.
#[test]
fn python_notices_a_page_that_says_otherwise() {
    let page = std::fs::read_to_string(
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../proto/README.md"),
    )
    .unwrap();
    let other = Path::new(env!("CARGO_TARGET_TMPDIR")).join("other-vectors.md");
    for (said, instead) in [
        ("\ndigest: ", "\ndigest: 0"),
        ("\ncanonical: 0a", "\ncanonical: 0b"),
        ("\nnatural_key: ", "\nnatural_key: f"),
        ("deployment:cart/d-9", "deployment:cart/d-8"),
        ("d-881 0x0000000000000002", "d-881 0x0000000000000003"),
        ("\nsubject: ", "\nsubject: _"),
        ("\nmessage_id: ", "\nmessage_id: 0"),
        ("\nkept: ce-id", "\nkept: CE-ID"),
    ] {
        let changed = page.replacen(said, instead, 1);
        assert_ne!(changed, page, "the page has {said:?}");
        std::fs::write(&other, changed).unwrap();
        let output = computed(&other);
        assert_eq!(output.status.code(), Some(1), "{said:?}: {output:?}");
    }
}
