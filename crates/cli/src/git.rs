//! What the git command says of the working directory. Absence of git, or of a repository, is no failure: it is
//! simply not known.
use std::process::{Command, Stdio};

/// One line of git's answer; `None` where git has none.
pub(crate) fn line(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git")
        .args(arguments)
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .output()
        .ok()?;
    let text = String::from_utf8(output.stdout).ok()?.trim_end().to_owned();
    (output.status.success() && !text.is_empty()).then_some(text)
}

/// The full id of whatever a person calls a commit: `HEAD~3`, a branch, the beginning of an id.
pub(crate) fn revision(name: &str) -> Option<String> {
    // A name that looks like an option is none.
    if name.starts_with('-') {
        return None;
    }
    line(&[
        "rev-parse",
        "--verify",
        "--quiet",
        "--end-of-options",
        &format!("{name}^{{commit}}"),
    ])
}

/// The address of the remote that this repository was cloned from.
pub(crate) fn remote() -> Option<String> {
    line(&["remote", "get-url", "origin"])
}

/// What names a repository that was cloned from nowhere: its first commit, as `root/<id>`.
pub(crate) fn root() -> Option<String> {
    if is_shallow() {
        return None;
    }
    let roots = line(&["rev-list", "--max-parents=0", "HEAD"])?;
    roots.lines().last().map(|id| format!("root/{id}"))
}

/// Whether the history was cut off when this repository was cloned.
pub(crate) fn is_shallow() -> bool {
    line(&["rev-parse", "--is-shallow-repository"]).as_deref() == Some("true")
}

/// Whether `older` is in the history of `newer`; `None` where one of them is not here.
pub(crate) fn is_ancestor(older: &str, newer: &str) -> Option<bool> {
    let older = revision(older)?;
    let newer = revision(newer)?;
    let status = Command::new("git")
        .args(["merge-base", "--is-ancestor", &older, &newer])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    match status.ok()?.code() {
        Some(0) => Some(true),
        Some(1) => Some(false),
        _ => None,
    }
}

/// Fetches this many more commits of history; says whether git did.
pub(crate) fn deepen(commits: u32) -> bool {
    let status = Command::new("git")
        .args(["fetch", "--quiet", &format!("--deepen={commits}"), "origin"])
        .stdin(Stdio::null())
        .stderr(Stdio::null())
        .status();
    status.is_ok_and(|status| status.success())
}
