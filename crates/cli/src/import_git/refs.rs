//! What a repository is called, and the commits that have names: its branches and tags.
use std::collections::HashSet;

use waybill_core::Entity;

use super::{
    change,
    command::{Error, Git},
    graph::Graph,
    object::{ObjectId, Signature},
    version::Version,
};

/// The fields of one ref; a name holds no space.
const FIELDS: &str = "--format=%(objectname) %(objecttype) %(*objectname) %(*objecttype) %(taggerdate:unix) %(refname)";

/// Where reading begins.
#[derive(Debug, Default)]
pub(super) struct Refs {
    /// The commit that is checked out.
    pub(super) head: Option<ObjectId>,
    /// The tip of the default branch: what the remote says it is, else what is checked out.
    pub(super) mainline: Option<ObjectId>,
    /// The default branch's name; empty where no branch is checked out and no remote says it.
    pub(super) trunk: String,
    /// Merges of the default branch into another: where that went on as the default, it came by the second parent.
    pub(super) updates: HashSet<ObjectId>,
    /// By name.
    pub(super) tags: Vec<Tag>,
    /// Everything whose history is read.
    pub(super) tips: Vec<ObjectId>,
}

/// One tag of a commit.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Tag {
    /// Without `refs/tags/`. Bytes that are not UTF-8 are percent-encoded.
    pub(super) name: String,
    /// The tag's own object, or the commit where it has none.
    pub(super) object: ObjectId,
    pub(super) commit: ObjectId,
    pub(super) annotated: bool,
    /// Its time only; nobody where the tag has no object.
    pub(super) tagger: Signature,
    pub(super) version: Option<Version>,
}

impl Refs {
    /// Reads the refs. Tags count where their name matches `pattern`; other branches than the one that is checked out
    /// and the default one, when `all` is set.
    pub(super) fn read(git: &Git, pattern: Option<&str>, all: bool) -> Result<Self, Error> {
        let commit = |name: &str| -> Result<Option<ObjectId>, Error> {
            let line =
                git.line_if_any(&["rev-parse", "-q", "--verify", &format!("{name}^{{commit}}")])?;
            Ok(line.and_then(|line| ObjectId::parse(line.as_bytes())))
        };
        let head = commit("HEAD")?;
        let mainline = commit("refs/remotes/origin/HEAD")?.or(head);
        let trunk = match branch(git, "refs/remotes/origin/HEAD", "refs/remotes/origin/")? {
            None => branch(git, "HEAD", "refs/heads/")?,
            named => named,
        };
        let mut tags = Vec::new();
        for line in lines(&git.output(&["for-each-ref", FIELDS, "refs/tags"])?) {
            tags.extend(
                tag(git, &line)?
                    .filter(|tag| pattern.is_none_or(|pattern| matches(pattern, &tag.name))),
            );
        }
        let mut tips: Vec<ObjectId> = head
            .into_iter()
            .chain(mainline)
            .chain(tags.iter().map(|tag| tag.commit))
            .collect();
        if all {
            let names = git.output(&[
                "for-each-ref",
                "--format=%(objecttype) %(objectname)",
                "refs/heads",
                "refs/remotes",
            ])?;
            let commits = lines(&names)
                .into_iter()
                .filter_map(|line| ObjectId::parse(line.strip_prefix("commit ")?.as_bytes()));
            tips.extend(commits);
        }
        let mut seen = HashSet::new();
        tips.retain(|tip| seen.insert(*tip));
        Ok(Self {
            head,
            mainline,
            updates: match (mainline, &trunk) {
                (Some(tip), Some(trunk)) => updates(git, tip, trunk)?,
                _ => HashSet::new(),
            },
            trunk: trunk.unwrap_or_default(),
            tags,
            tips,
        })
    }
}

/// The branch that a symbolic reference names; none where it names a commit, or is not there.
fn branch(git: &Git, reference: &str, prefix: &str) -> Result<Option<String>, Error> {
    let named = git.line_if_any(&["symbolic-ref", "-q", reference])?;
    Ok(named.and_then(|name| Some(name.strip_prefix(prefix)?.to_owned())))
}

/// Merges in the history of `tip` that say that they merge `trunk`.
fn updates(git: &Git, tip: ObjectId, trunk: &str) -> Result<HashSet<ObjectId>, Error> {
    let merges = git.output(&["rev-list", "--merges", "--format=%H %s", &tip.to_string()])?;
    let update = |line: String| {
        let (id, subject) = line.split_once(' ')?;
        let id = ObjectId::parse(id.as_bytes())?;
        (change::merged_branch(subject) == Some(trunk)).then_some(id)
    };
    Ok(lines(&merges).into_iter().filter_map(update).collect())
}

/// The commits whose parents a shallow repository has not; empty for any other.
pub(super) fn shallow(git: &Git) -> Result<HashSet<ObjectId>, Error> {
    let Some(path) = git.line_if_any(&["rev-parse", "--git-path", "shallow"])? else {
        return Ok(HashSet::new());
    };
    // An absent file is the usual case, and means that nothing is cut off.
    let text = std::fs::read_to_string(git.directory().join(path)).unwrap_or_default();
    Ok(text
        .lines()
        .filter_map(|line| ObjectId::parse(line.trim().as_bytes()))
        .collect())
}

/// Names the repository: as told, by its remote, or by its first commit (LEDGER E9).
pub(super) fn repository(
    git: &Git,
    told: Option<&str>,
    refs: &Refs,
    graph: &Graph,
) -> Result<Entity, Error> {
    if let Some(name) = told {
        return Ok(Entity::repository(name).map_err(|refusal| refusal.within("repository"))?);
    }
    if let Some(url) = remote(git)? {
        return Ok(Entity::repository(&url).map_err(|refusal| refusal.within("remote.origin.url"))?);
    }
    let tip = refs
        .head
        .or_else(|| refs.tips.first().copied())
        .and_then(|tip| graph.number(tip));
    let root = tip.and_then(|tip| graph.first_parents(tip).last());
    let root = root.filter(|root| !graph.is_cut(*root));
    let root = root.ok_or_else(|| Error::Unnamed {
        path: git.directory().to_owned(),
    })?;
    Ok(Entity::repository(&format!("root/{}", graph.id(root)))?)
}

/// The service of a repository: its name's last part, or its directory's where its name says nothing to people.
pub(super) fn service(git: &Git, repository: &Entity) -> Result<String, Error> {
    if !repository.path().starts_with("root/") {
        return Ok(repository.last().to_owned());
    }
    let directory = git
        .line_if_any(&["rev-parse", "--path-format=absolute", "--git-common-dir"])?
        .unwrap_or_default();
    let directory = directory.strip_suffix("/.git").unwrap_or(&directory);
    let name = directory.rsplit('/').next().unwrap_or_default();
    let name = name.strip_suffix(".git").unwrap_or(name);
    Ok(if name.is_empty() {
        repository.last().to_owned()
    } else {
        super::text::safe(name)
    })
}

/// True where git fetches contents only when they are looked at.
pub(super) fn is_partial(git: &Git) -> Result<bool, Error> {
    let settings = git.line_if_any(&[
        "config",
        "--get-regexp",
        r"^(extensions\.partialclone|remote\..*\.promisor)$",
    ])?;
    Ok(settings.is_some())
}

/// The URL of `origin`, or of the only remote, as it is written: other settings may rewrite it on each machine.
fn remote(git: &Git) -> Result<Option<String>, Error> {
    let names = git.line(&["remote"])?;
    let mut names = names.lines();
    let name = match (
        names.clone().any(|name| name == "origin"),
        names.next(),
        names.next(),
    ) {
        (true, ..) => "origin",
        (false, Some(only), None) => only,
        _ => return Ok(None),
    };
    git.line_if_any(&["config", "--get", &format!("remote.{name}.url")])
}

/// Reads a line of [`FIELDS`]; none for a tag of something other than a commit.
fn tag(git: &Git, line: &str) -> Result<Option<Tag>, Error> {
    let unexpected = || Error::Unexpected {
        command: "for-each-ref",
        said: waybill_core::refusal::shown(line),
    };
    let fields: Vec<&str> = line.splitn(6, ' ').collect();
    let [object, kind, peeled, peeled_kind, time, name] = fields[..] else {
        return Err(unexpected());
    };
    let object = ObjectId::parse(object.as_bytes()).ok_or_else(unexpected)?;
    let name = name.strip_prefix("refs/tags/").ok_or_else(unexpected)?;
    let annotated = kind == "tag";
    let commit = match (kind, peeled_kind) {
        ("commit", _) => Some(object),
        ("tag", "commit") => ObjectId::parse(peeled.as_bytes()),
        // A tag of a tag.
        ("tag", "tag") => git
            .line_if_any(&[
                "rev-parse",
                "-q",
                "--verify",
                &format!("{object}^{{commit}}"),
            ])?
            .and_then(|line| ObjectId::parse(line.as_bytes())),
        _ => None,
    };
    Ok(commit.map(|commit| Tag {
        version: Version::parse(name),
        name: name.to_owned(),
        object,
        commit,
        annotated,
        tagger: Signature {
            seconds: time.parse().ok(),
            ..Signature::default()
        },
    }))
}

fn lines(output: &[u8]) -> Vec<String> {
    output
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(super::text::or_percent)
        .collect()
}

/// Matches a glob of `*` and `?`, which also match `/`.
fn matches(pattern: &str, name: &str) -> bool {
    let (pattern, name): (Vec<char>, Vec<char>) =
        (pattern.chars().collect(), name.chars().collect());
    let (mut p, mut n) = (0, 0);
    // Where to go on if what follows the last `*` does not fit.
    let mut retry: Option<(usize, usize)> = None;
    while n < name.len() {
        match pattern.get(p) {
            Some('*') => {
                retry = Some((p + 1, n));
                p += 1;
            }
            Some(c) if *c == '?' || *c == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((after, from)) = retry else {
                    return false;
                };
                retry = Some((after, from + 1));
                (p, n) = (after, from + 1);
            }
        }
    }
    pattern[p..].iter().all(|c| *c == '*')
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn globs_match_whole_names() {
        let cases = [
            ("v*", "v1.0", true),
            ("v*", "rev1", false),
            ("*-rc?", "v1-rc2", true),
            ("*-rc?", "v1-rc", false),
            ("v1.*.0", "v1.2.3.0", true),
            ("*", "", true),
            ("", "x", false),
            ("a*b*c", "aXbYbZc", true),
        ];
        for (pattern, name, expected) in cases {
            assert_eq!(matches(pattern, name), expected, "{pattern} {name}");
        }
    }
}
