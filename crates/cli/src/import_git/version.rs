//! Tags that name versions: which line of releases they belong to, and which comes after which.
//!
//! Understands semantic versions (<https://semver.org>), dates, and the usual decorations: `v1.2.0`, `release-1.2`,
//! `checkout/v1.2.0`, `checkout@1.2.0`, `curl-8_4_0`, `2026-11-03`, `go1.21.3`.
use std::cmp::Ordering;

/// Words before a version that name no component.
const GENERIC_PREFIXES: [&str; 14] = [
    "deploy",
    "deployment",
    "prod",
    "production",
    "r",
    "rel",
    "release",
    "releases",
    "stable",
    "tag",
    "tags",
    "v",
    "ver",
    "version",
];
/// Words after a version that mark something meant for trial.
const TRIAL_WORDS: [&str; 21] = [
    "a",
    "alpha",
    "b",
    "beta",
    "canary",
    "cr",
    "dev",
    "ea",
    "eap",
    "experimental",
    "insiders",
    "m",
    "milestone",
    "next",
    "nightly",
    "pre",
    "preview",
    "prerelease",
    "rc",
    "snapshot",
    "test",
];
/// Words after a version that say no more than that it is one.
const FINAL_WORDS: [&str; 8] = [
    "final", "ga", "lts", "post", "rel", "release", "sp", "stable",
];

/// Most numbers of a version, and digits of a number.
const NUMBERS_MAX: usize = 8;
const DIGITS_MAX: usize = 18;

/// What a tag's name says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Version {
    /// The component that is named before the version, in lower case; empty where there is none.
    pub(super) series: String,
    numbers: Vec<u64>,
    /// What follows the numbers: empty for a plain release.
    suffix: String,
    /// Meant for trial, such as `-rc.1`.
    pub(super) prerelease: bool,
}

impl Version {
    /// Reads a tag's name; none where it names no version.
    pub(super) fn parse(tag: &str) -> Option<Self> {
        let start = start_of_numbers(tag)?;
        let (prefix, rest) = tag.split_at(start);
        let (numbers, suffix) = numbers(rest)?;
        let bare = prefix.trim_end_matches(['v', 'V']);
        let marked = bare.len() < prefix.len();
        let prefix = bare.trim_matches(['-', '_', '/', '.', '@']).to_lowercase();
        let generic = GENERIC_PREFIXES.contains(&&prefix[..]);
        let is_version = numbers.len() > 1 || marked || generic || is_compact_date(rest, &numbers);
        is_version.then(|| Self {
            series: if generic { String::new() } else { prefix },
            prerelease: is_trial(suffix),
            suffix: suffix
                .trim_start_matches(['-', '.', '_', '~'])
                .to_lowercase(),
            numbers,
        })
    }
}

impl Ord for Version {
    /// By number, missing ones being zero; a version for trial comes before its release.
    fn cmp(&self, other: &Self) -> Ordering {
        let length = self.numbers.len().max(other.numbers.len());
        let number = |version: &Self, at: usize| version.numbers.get(at).copied().unwrap_or(0);
        (0..length)
            .map(|at| number(self, at).cmp(&number(other, at)))
            .find(|order| order.is_ne())
            .unwrap_or(Ordering::Equal)
            .then(other.prerelease.cmp(&self.prerelease))
            .then_with(|| natural(&self.suffix, &other.suffix))
            .then_with(|| self.numbers.len().cmp(&other.numbers.len()))
            .then_with(|| self.suffix.cmp(&other.suffix))
            .then_with(|| self.series.cmp(&other.series))
    }
}

impl PartialOrd for Version {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// The first digit that begins the tag, or follows a separator, or `v` after one; else, in `go1.21`, the first digit.
fn start_of_numbers(tag: &str) -> Option<usize> {
    let bytes = tag.as_bytes();
    let separates = |at: usize| at == 0 || matches!(bytes[at - 1], b'-' | b'_' | b'/' | b'@');
    let begins = |at: &usize| {
        let at = *at;
        bytes[at].is_ascii_digit()
            && (separates(at) || (matches!(bytes[at - 1], b'v' | b'V') && separates(at - 1)))
    };
    // After the last `/` or `@`: `k8s-1/v2.0` is version 2.0 of something.
    let from = tag.rfind(['/', '@']).map_or(0, |at| at + 1);
    let glued = || {
        let at = tag[from..].find(|c: char| c.is_ascii_digit())? + from;
        tag[from..at]
            .bytes()
            .all(|byte| byte.is_ascii_alphabetic())
            .then_some(at)
    };
    (from..bytes.len()).find(begins).or_else(glued)
}

/// Splits `1.2.3-rc.1` into its numbers and the rest. A dash joins numbers where the first is a year.
fn numbers(text: &str) -> Option<(Vec<u64>, &str)> {
    let mut numbers = Vec::new();
    let mut rest = text;
    loop {
        let end = rest
            .find(|c: char| !c.is_ascii_digit())
            .unwrap_or(rest.len());
        if end == 0 || end > DIGITS_MAX || numbers.len() == NUMBERS_MAX {
            return None;
        }
        numbers.push(rest[..end].parse().ok()?);
        rest = &rest[end..];
        let year = (1970..2200).contains(&numbers[0]);
        let joined = rest
            .strip_prefix(['.', '_'])
            .or_else(|| rest.strip_prefix('-').filter(|_| year));
        match joined.filter(|next| next.starts_with(|c: char| c.is_ascii_digit())) {
            Some(next) => rest = next,
            None => return Some((numbers, rest)),
        }
    }
}

/// `20261103`, and nothing longer or shorter.
fn is_compact_date(text: &str, numbers: &[u64]) -> bool {
    let digits = text.bytes().take_while(u8::is_ascii_digit).count();
    let [number] = *numbers else { return false };
    digits == 8
        && (1970..2200).contains(&(number / 10_000))
        && (1..=12).contains(&(number / 100 % 100))
        && (1..=31).contains(&(number % 100))
}

/// Semantic versions say that whatever follows a dash is for trial; words that are known to mean otherwise do not.
fn is_trial(suffix: &str) -> bool {
    if suffix.is_empty() || suffix.starts_with('+') {
        return false;
    }
    let dashed = suffix.starts_with('-');
    let lower = suffix
        .trim_start_matches(['-', '.', '_', '~'])
        .to_lowercase();
    let word = &lower[..lower
        .find(|c: char| !c.is_ascii_alphabetic())
        .unwrap_or(lower.len())];
    if FINAL_WORDS.contains(&word) {
        return false;
    }
    // OpenSSL's `1.0.2a` is a release, Python's `3.13.0a1` is not.
    let lone_letter = word.len() == 1 && lower.len() == 1;
    (TRIAL_WORDS.contains(&word) && !lone_letter) || dashed
}

/// Compares text in which numbers count as numbers: `rc.9` before `rc.10`.
fn natural(a: &str, b: &str) -> Ordering {
    let (mut a, mut b) = (a, b);
    loop {
        match (a.is_empty(), b.is_empty()) {
            (true, true) => return Ordering::Equal,
            (true, false) => return Ordering::Less,
            (false, true) => return Ordering::Greater,
            (false, false) => {}
        }
        let ((x, rest_a), (y, rest_b)) = (piece(a), piece(b));
        let digits = |piece: &str| piece.starts_with(|c: char| c.is_ascii_digit());
        let order = if digits(x) && digits(y) {
            let (x, y) = (x.trim_start_matches('0'), y.trim_start_matches('0'));
            x.len().cmp(&y.len()).then_with(|| x.cmp(y))
        } else {
            x.cmp(y)
        };
        if order.is_ne() {
            return order;
        }
        (a, b) = (rest_a, rest_b);
    }
}

/// Splits off the first run of digits or of other characters.
fn piece(text: &str) -> (&str, &str) {
    let digits = text.starts_with(|c: char| c.is_ascii_digit());
    text.split_at(
        text.find(|c: char| c.is_ascii_digit() != digits)
            .unwrap_or(text.len()),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_in_the_order_of_their_versions() {
        let lines: [&[&str]; 6] = [
            &[
                "v0.9",
                "v1.0.0-alpha",
                "v1.0.0-rc.9",
                "v1.0.0-rc.10",
                "v1.0.0",
                "v1.0.1",
                "v1.2.0",
                "v1.10.0",
                "v2",
            ],
            &["2026-01-31", "2026-02-01", "2026-02-01.2", "2026-11-03"],
            &["20251231", "20260101"],
            &[
                "3.12.0a1",
                "3.12.0b1",
                "3.12.0rc1",
                "3.12.0",
                "3.12.0.post1",
                "3.12.1",
            ],
            &["OpenSSL_1_0_2", "OpenSSL_1_0_2a", "OpenSSL_1_0_2k"],
            &["release-1.9", "release/1.10", "v1.11"],
        ];
        for line in lines {
            let versions: Vec<Version> = line
                .iter()
                .map(|tag| Version::parse(tag).expect(tag))
                .collect();
            for pair in versions.windows(2) {
                assert!(pair[0] < pair[1], "{pair:?}");
            }
        }
    }

    #[test]
    fn trial_versions_are_told_from_releases() {
        let trial = [
            "v1.0.0-rc1",
            "1.0rc2",
            "v2.0.0-0.3.7",
            "1.2.3-SNAPSHOT",
            "v1.0-beta",
            "3.0.0.M1",
            "1.0.0-x.y",
        ];
        for tag in trial {
            assert!(Version::parse(tag).expect(tag).prerelease, "{tag}");
        }
        let releases = [
            "v1.0.0",
            "1.2.3+build.5",
            "4.1.0.Final",
            "5.0.0-RELEASE",
            "1.0.2k",
            "curl-8_4_0",
            "v1.2.3-lts",
        ];
        for tag in releases {
            assert!(!Version::parse(tag).expect(tag).prerelease, "{tag}");
        }
    }

    #[test]
    fn components_have_lines_of_their_own() {
        let cases = [
            ("v1.2.0", ""),
            ("release-2026.11", ""),
            ("checkout/v1.2.0", "checkout"),
            ("Checkout@1.2.0", "checkout"),
            ("@acme/checkout@1.2.0", "acme/checkout"),
            ("checkout-v1.2.0", "checkout"),
            ("go1.21.3", "go"),
            ("k8s-1/v2.0", "k8s-1"),
        ];
        for (tag, series) in cases {
            assert_eq!(Version::parse(tag).expect(tag).series, series, "{tag}");
        }
    }

    #[test]
    fn other_tags_are_no_versions() {
        let others = [
            "nightly",
            "before-merge",
            "12",
            "build-77",
            "1f2e3d4c",
            "",
            "v",
            "x/",
            "20261399",
            "1.99999999999999999999",
        ];
        for tag in others {
            assert_eq!(Version::parse(tag), None, "{tag}");
        }
    }
}
