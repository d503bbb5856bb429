//! What a commit message says, under the conventions that people and tools use.
//!
//! Sources: git-interpret-trailers(1); Conventional Commits 1.0; `git revert`, `git cherry-pick -x`; the kernel's
//! stable rules (`commit <id> upstream.`); GitHub's `Reverts owner/repository#n`.
use waybill_proto::pb::{ConventionalCommit, Trailer};

use super::{person::Persons, text};

/// Longest subject line that is kept.
const SUBJECT_BYTES_MAX: usize = 4 * 1024;
/// Longest trailer value that is kept.
const TRAILER_BYTES_MAX: usize = 2 * 1024;
/// Longest key that counts as a trailer's.
const KEY_BYTES_MAX: usize = 64;
/// Most trailers, and most revisions of one kind, that are kept.
const ITEMS_MAX: usize = 32;

/// Types that a subject may begin with and be a Conventional Commit without scope or `!`. The standard allows any
/// word, but then `net: fix leak` would be one.
const COMMON_TYPES: [&str; 16] = [
    "build", "chore", "ci", "deps", "docs", "feat", "feature", "fix", "hotfix", "perf", "refactor",
    "release", "revert", "security", "style", "test",
];

/// The parts of a message that are recorded.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Message {
    /// The first line that is not blank.
    pub(super) subject: String,
    /// Non-blank lines after the subject, trimmed. Not recorded; changes are read from it.
    pub(super) body: Vec<String>,
    /// As written, persons included.
    trailers: Vec<Trailer>,
    pub(super) conventional: Option<ConventionalCommit>,
    pub(super) reverts: Vec<String>,
    pub(super) fixes: Vec<String>,
    pub(super) picked_from: Vec<String>,
    pub(super) change_ids: Vec<String>,
}

impl Message {
    /// Reads a message, already text.
    pub(super) fn parse(message: &str) -> Self {
        let lines: Vec<&str> = message
            .lines()
            .map(str::trim_end)
            .skip_while(|line| line.is_empty())
            .collect();
        let Some((first, rest)) = lines.split_first() else {
            return Self::default();
        };
        let subject = text::shortened(&without_controls(first.trim()), SUBJECT_BYTES_MAX);
        let trailers = trailers(rest);
        let values = |key: &str| -> Vec<&str> {
            trailers
                .iter()
                .filter(|t| t.key.eq_ignore_ascii_case(key))
                .map(|t| &t.value[..])
                .collect()
        };
        let picked = picked_from(rest).chain(
            values("Cherry-picked-from")
                .into_iter()
                .filter_map(first_revision),
        );
        let breaking = rest.iter().any(|line| {
            line.starts_with("BREAKING CHANGE: ") || line.starts_with("BREAKING-CHANGE: ")
        });
        Self {
            conventional: conventional(&subject, breaking),
            reverts: distinct(reverts(message)),
            fixes: distinct(rest.iter().filter_map(|line| fixes(line))),
            picked_from: distinct(picked),
            change_ids: distinct(
                values("Change-Id")
                    .into_iter()
                    .filter(|id| is_change_id(id))
                    .map(str::to_owned),
            ),
            body: rest
                .iter()
                .map(|line| line.trim().to_owned())
                .filter(|line| !line.is_empty())
                .collect(),
            trailers: reverted_change(rest).into_iter().chain(trailers).collect(),
            subject,
        }
    }

    /// Whether it says that it takes back an earlier commit or change.
    pub(super) fn reverts_something(&self) -> bool {
        !self.reverts.is_empty() || self.trailers.iter().any(|trailer| trailer.key == "Reverts")
    }

    /// The trailers, with hashes instead of persons.
    pub(super) fn trailers(&self, persons: &mut Persons) -> Vec<Trailer> {
        let mut recorded = |trailer: &Trailer| {
            let value = match names_a_person(trailer) {
                true => persons.trailer_value(&trailer.value),
                false => trailer.value.clone(),
            };
            Trailer {
                key: trailer.key.clone(),
                value: text::shortened(&value, TRAILER_BYTES_MAX),
            }
        };
        self.trailers
            .iter()
            .take(ITEMS_MAX)
            .map(&mut recorded)
            .collect()
    }
}

/// Reads the block of trailers that ends a message: its last paragraph, where all lines are trailers, or one in four
/// and among them one that git itself writes.
fn trailers(body: &[&str]) -> Vec<Trailer> {
    let end = body
        .iter()
        .rposition(|line| !line.is_empty())
        .map_or(0, |last| last + 1);
    let Some(blank) = body[..end].iter().rposition(|line| line.is_empty()) else {
        return Vec::new();
    };
    let (mut found, mut others, mut by_git) = (Vec::<Trailer>::new(), 0_usize, false);
    for line in &body[blank + 1..end] {
        if line.starts_with([' ', '\t']) {
            match found.last_mut() {
                Some(trailer) => trailer.value = format!("{} {}", trailer.value, line.trim()),
                None => others += 1,
            }
        } else if line.starts_with("(cherry picked from commit ") {
            by_git = true;
        } else if let Some(trailer) = trailer(line) {
            by_git |= trailer.key.eq_ignore_ascii_case("Signed-off-by");
            found.push(trailer);
        } else {
            others += 1;
        }
    }
    let is_block = others == 0 || (by_git && found.len() * 3 >= others);
    if is_block { found } else { Vec::new() }
}

fn trailer(line: &str) -> Option<Trailer> {
    let (key, value) = line.split_once(':')?;
    let key = key.trim_end();
    let good = (1..=KEY_BYTES_MAX).contains(&key.len())
        && key
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !value.starts_with("//");
    good.then(|| Trailer {
        key: key.to_owned(),
        value: without_controls(value.trim()),
    })
}

/// Every `…-by` and `Cc` names persons, and so does whatever holds an e-mail address.
fn names_a_person(trailer: &Trailer) -> bool {
    let key = trailer.key.to_ascii_lowercase();
    key.ends_with("-by")
        || key == "cc"
        || key == "author"
        || trailer.value.split_whitespace().any(is_email)
}

fn is_email(word: &str) -> bool {
    let word = word.trim_matches(['<', '>', ',', ';', '(', ')']);
    word.split_once('@').is_some_and(|(account, host)| {
        !account.is_empty()
            && !host.is_empty()
            && !account.contains(['/', ':'])
            && !host.contains('/')
    })
}

/// `This reverts commit <id>`, however it is wrapped, also of several, and GitHub's `…, reversing changes made to`.
fn reverts(message: &str) -> impl Iterator<Item = String> + '_ {
    let words: Vec<&str> = message.split_whitespace().collect();
    let starts = |at: usize, sentence: [&str; 2]| {
        let said = words.get(at..at + 2).unwrap_or_default();
        said.len() == 2
            && said
                .iter()
                .zip(sentence)
                .all(|(said, word)| said.eq_ignore_ascii_case(word))
    };
    let mut found = Vec::new();
    for at in 0..words.len() {
        let Some(noun) = words
            .get(at + 2)
            .filter(|_| starts(at, ["this", "reverts"]))
        else {
            continue;
        };
        let from = match noun.trim_end_matches(':').to_ascii_lowercase().as_str() {
            "commit" | "commits" => at + 3,
            _ => at + 2,
        };
        let listed = words[from..]
            .iter()
            .filter(|word| !matches!(**word, "and" | "&"));
        found.extend(listed.map_while(|word| revision(word)));
    }
    found.into_iter()
}

/// GitHub's `Reverts owner/repository#12` names a change, not a revision; it is kept as if it were a trailer.
fn reverted_change(body: &[&str]) -> Option<Trailer> {
    let change = body
        .iter()
        .find_map(|line| line.trim().strip_prefix("Reverts "))?
        .trim_end_matches('.');
    let (repository, number) = change.split_once('#')?;
    let good = !number.is_empty()
        && number.bytes().all(|byte| byte.is_ascii_digit())
        && (repository.is_empty() || repository.split('/').count() == 2)
        && !repository.contains(char::is_whitespace);
    good.then(|| Trailer {
        key: "Reverts".to_owned(),
        value: change.to_owned(),
    })
}

/// `Fixes: <id> ("subject")`. Issues (`Fixes: #12`) stay what they are, a trailer.
fn fixes(line: &str) -> Option<String> {
    let (key, value) = line.trim().split_once(':')?;
    if key.eq_ignore_ascii_case("fixes") {
        first_revision(value)
    } else {
        None
    }
}

/// `(cherry picked from commit <id>)`, and the stable kernels' `commit <id> upstream.` and `[ Upstream commit <id> ]`.
fn picked_from<'b>(body: &'b [&str]) -> impl Iterator<Item = String> + 'b {
    let origin = |line: &&str| {
        let line = line.trim();
        let named = [
            "(cherry picked from commit ",
            "(cherry-picked from commit ",
            "(backported from commit ",
            "[ Upstream commit ",
        ]
        .iter()
        .find_map(|start| line.strip_prefix(start))
        .or_else(|| {
            line.strip_prefix("commit ")
                .filter(|rest| rest.trim_end_matches('.').ends_with(" upstream"))
        })?;
        first_revision(named)
    };
    body.iter().filter_map(origin)
}

fn first_revision(words: &str) -> Option<String> {
    revision(words.split_whitespace().next()?)
}

/// A commit id of 7 to 64 hex digits, in lower case, with the punctuation around it taken off.
fn revision(word: &str) -> Option<String> {
    let id = word.trim_matches(|c: char| !c.is_ascii_alphanumeric());
    let good = (7..=64).contains(&id.len()) && id.bytes().all(|byte| byte.is_ascii_hexdigit());
    good.then(|| id.to_ascii_lowercase())
}

fn is_change_id(id: &str) -> bool {
    id.len() == 41 && id.starts_with('I') && id[1..].bytes().all(|byte| byte.is_ascii_hexdigit())
}

/// Reads `type(scope)!: description`.
fn conventional(subject: &str, breaking_footer: bool) -> Option<ConventionalCommit> {
    let (head, description) = subject.split_once(": ")?;
    let (head, marked) = head
        .strip_suffix('!')
        .map_or((head, false), |head| (head, true));
    let (kind, scope) = match head.strip_suffix(')').and_then(|head| head.split_once('(')) {
        Some((kind, scope)) => (kind, scope),
        None => (head, ""),
    };
    let kind = kind.to_ascii_lowercase();
    let is_word = kind.starts_with(|c: char| c.is_ascii_alphabetic())
        && kind
            .bytes()
            .all(|byte| byte.is_ascii_alphanumeric() || byte == b'-')
        && !scope.contains(['(', ')']);
    let is_type = COMMON_TYPES.contains(&&kind[..]) || marked || !scope.is_empty();
    (is_word && is_type && !description.trim().is_empty()).then(|| ConventionalCommit {
        r#type: kind,
        scope: scope.to_owned(),
        breaking: marked || breaking_footer,
    })
}

fn without_controls(text: &str) -> String {
    text.chars()
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}

fn distinct(items: impl Iterator<Item = String>) -> Vec<String> {
    let mut kept = Vec::new();
    for item in items {
        if kept.len() < ITEMS_MAX && !kept.contains(&item) {
            kept.push(item);
        }
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    const A: &str = "1f2e3d4c5b6a79880112233445566778899aabbc";
    const B: &str = "aaaabbbbccccddddeeeeffff0000111122223333";

    fn keys(message: &str) -> Vec<String> {
        Message::parse(message)
            .trailers
            .into_iter()
            .map(|trailer| trailer.key)
            .collect()
    }

    #[test]
    fn trailers_are_the_last_block_only() {
        let cases: [(&str, &[&str]); 9] = [
            (
                "subject\n\nbody\n\nRefs: #12\nReviewed-by: A <a@b>\n\n",
                &["Refs", "Reviewed-by"],
            ),
            ("subject\n\nRefs: #12\n", &["Refs"]),
            ("subject\nRefs: #12\n", &[]),
            ("Refs: subject\n", &[]),
            ("subject\n\nRefs: #12\n\nlast words\n", &[]),
            ("subject\n\nnote: see below\nand more text\n", &[]),
            (
                "subject\n\na\nb\nc\nSigned-off-by: A <a@b>\n",
                &["Signed-off-by"],
            ),
            ("subject\n\na\nb\nc\nd\nSigned-off-by: A <a@b>\n", &[]),
            ("subject\n\nhttps://example.org\n", &[]),
        ];
        for (message, expected) in cases {
            assert_eq!(keys(message), expected, "{message:?}");
        }
    }

    #[test]
    fn a_trailer_may_go_on_in_the_next_line() {
        let message = Message::parse("s\n\nNotes: one\n  two\nRefs: 1\n");
        assert_eq!(message.trailers[0].value, "one two");
    }

    #[test]
    fn persons_are_hashed_and_the_rest_is_kept() {
        let message = Message::parse(
            "s\n\nReviewed-by: Ann <ann@example.org>\nReviewed-on: https://u@host/c/1\nMail: x@example.org\nTicket: A-1\n",
        );
        let trailers = message.trailers(&mut Persons::new([1; 32], false));
        let shown: Vec<&str> = trailers
            .iter()
            .map(|t| t.value.split(':').next().unwrap())
            .collect();
        assert_eq!(shown, ["hmac-sha256", "https", "hmac-sha256", "A-1"]);
        assert!(!format!("{trailers:?}").contains("example.org"));
    }

    #[test]
    fn reverts_are_found_as_they_are_written() {
        let cases: [(String, &[&str]); 7] = [
            (format!("Revert \"x\"\n\nThis reverts commit {A}.\n"), &[A]),
            (
                format!(
                    "Revert \"x\"\n\nThis reverts commit\n{A}, reversing\nchanges made to {B}.\n"
                ),
                &[A],
            ),
            (
                format!("x\n\nThis reverts commits {A}, {B} and abcdef1.\n"),
                &[A, B, "abcdef1"],
            ),
            (
                "x\n\nThis reverts commit ABCDEF12 (\"y\")\n".to_owned(),
                &["abcdef12"],
            ),
            ("x\n\nThis reverts r1234\n".to_owned(), &[]),
            ("x\n\nThis reverts commit".to_owned(), &[]),
            (
                format!("Reapply\n\nThis reverts commit {A}.\n\nThis reverts commit {A}.\n"),
                &[A],
            ),
        ];
        for (message, expected) in cases {
            assert_eq!(Message::parse(&message).reverts, expected, "{message:?}");
        }
        let squashed = Message::parse("Revert \"x (#12)\" (#13)\n\nReverts acme/shop#12\n");
        assert_eq!(
            squashed.trailers,
            [Trailer {
                key: "Reverts".into(),
                value: "acme/shop#12".into()
            }]
        );
    }

    #[test]
    fn fixes_picks_and_change_ids() {
        let message = Message::parse(&format!(
            "s\n\ncommit {B} upstream.\n\nFixes: 1f2e3d4 (\"that\")\n\nmore\n\nFixes: #12\nChange-Id: I{A}\n\
             Cherry-picked-from: {A}\n(cherry picked from commit {B})\n"
        ));
        assert_eq!(message.fixes, ["1f2e3d4"]);
        assert_eq!(message.picked_from, [B, A]);
        assert_eq!(message.change_ids, [format!("I{A}")]);
    }

    #[test]
    fn conventional_subjects() {
        let cases = [
            ("feat: x", Some(("feat", "", false))),
            ("Fix(parser)!: x", Some(("fix", "parser", true))),
            ("weird(scope): x", Some(("weird", "scope", false))),
            ("net: x", None),
            ("feat:x", None),
            ("feat: ", None),
            ("Revert \"feat: x\"", None),
            ("a b(c): d", None),
        ];
        for (subject, expected) in cases {
            let found = conventional(subject, false);
            let parts = found
                .as_ref()
                .map(|c| (&c.r#type[..], &c.scope[..], c.breaking));
            assert_eq!(parts, expected, "{subject}");
        }
        assert!(
            Message::parse("feat: x\n\nBREAKING CHANGE: y\n")
                .conventional
                .unwrap()
                .breaking
        );
    }

    #[test]
    fn strange_messages_do_no_harm() {
        assert_eq!(Message::parse(""), Message::default());
        assert_eq!(Message::parse("\n \n\n"), Message::default());
        assert_eq!(Message::parse("\n\na\tb\u{7}\n").subject, "a b ");
        let long = Message::parse(&"x".repeat(1 << 20));
        assert!(long.subject.len() <= SUBJECT_BYTES_MAX);
    }
}
