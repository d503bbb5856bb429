//! What a reference means.
use waybill_core::{Entity, EntityKind};

use super::{Candidate, Resolution, nodes, walk::Thing};
use crate::{
    facts::{
        subjects::SubjectKind,
        text::{Symbol, digit},
    },
    known::Known,
};

/// Fewer digits of a commit id are too likely to mean something else.
const PREFIX_DIGITS_MIN: usize = 4;
const CANDIDATES_MAX: usize = 10;
/// What a bare word may name, beside a commit.
const BY_NAME: [SubjectKind; 6] = [
    SubjectKind::Deployment,
    SubjectKind::Release,
    SubjectKind::Incident,
    SubjectKind::Build,
    SubjectKind::Artifact,
    SubjectKind::Flag,
];

/// The one thing that is called `reference`.
pub(super) fn resolve(known: &Known<'_>, reference: &str) -> Result<Thing, Resolution> {
    let reference = reference.trim();
    if let Some(rest) = reference.strip_prefix("d:") {
        return deployment_before_now(known, rest);
    }
    if let Some((repository, number)) = reference.split_once('#') {
        let found = changes(known, repository, number);
        return only(known, found, || not_found_change(reference));
    }
    if let Ok(entity) = Entity::parse(reference) {
        let found = thing_named(known, &entity).into_iter().collect();
        return only(known, found, || not_found(reference));
    }
    let mut found = named(known, reference);
    found.extend(commits(known, reference));
    if let (true, Some((scope, name))) = (found.is_empty(), reference.rsplit_once('/')) {
        // As answers print them: a service and its deployment, a product and its release.
        let kinds = [SubjectKind::Deployment, SubjectKind::Release].into_iter();
        let things = kinds.filter_map(|kind| subject(known, kind, scope, name));
        found.extend(things);
    }
    if found.is_empty() {
        // A bare number may be a change's, when nothing else has that name.
        found = changes(known, "", reference);
    }
    only(known, found, || not_found(reference))
}

/// The thing of a full name, if anything was known of it.
pub(super) fn thing_named(known: &Known<'_>, entity: &Entity) -> Option<Thing> {
    let path = entity.path();
    let (scope, name) = path.rsplit_once('/').unwrap_or(("", path));
    let name = decoded(name);
    let subject = |kind, scope: &str| subject(known, kind, scope, &name);
    let within = |kind| subject(kind, &decoded(scope));
    match entity.kind() {
        EntityKind::Commit => commit(known, scope, &name),
        EntityKind::Change => subject(SubjectKind::Change, scope),
        EntityKind::Release => within(SubjectKind::Release),
        EntityKind::Deployment => within(SubjectKind::Deployment),
        EntityKind::Build => named_whole(known, SubjectKind::Build, path),
        EntityKind::Artifact => named_whole(known, SubjectKind::Artifact, path),
        EntityKind::Flag => named_whole(known, SubjectKind::Flag, path),
        EntityKind::Incident => named_whole(known, SubjectKind::Incident, path),
        EntityKind::Repository
        | EntityKind::Branch
        | EntityKind::Run
        | EntityKind::Service
        | EntityKind::Environment
        | EntityKind::Metric
        | EntityKind::Team
        | EntityKind::Ticket
        | EntityKind::Source
        | EntityKind::Other => linked(known, entity.as_str()),
    }
}

/// An entity that only links speak of.
fn linked(known: &Known<'_>, name: &str) -> Option<Thing> {
    let name = known.facts.symbols.find(name)?;
    let found = known
        .facts
        .subjects
        .find(SubjectKind::Entity, Symbol::NONE, name)?;
    known.mentions_of(found).next()?;
    Some(Thing::Subject(found))
}

fn commit(known: &Known<'_>, repository: &str, id: &str) -> Option<Thing> {
    let repository = known.facts.symbols.find(repository)?;
    let id = crate::facts::graph::CommitId::parse(id)?;
    let node = known.facts.graph.find(repository, &id)?;
    is_known_commit(known, node).then_some(Thing::Commit(node))
}

fn is_known_commit(known: &Known<'_>, node: u32) -> bool {
    known.commit(node).is_some()
        || !known.mentions_of_commit(node).is_empty()
        || !known.children(node).is_empty()
}

fn subject(known: &Known<'_>, kind: SubjectKind, scope: &str, name: &str) -> Option<Thing> {
    let scope = known.facts.symbols.find(scope)?;
    let name = known.facts.symbols.find(name)?;
    let found = known.facts.subjects.find(kind, scope, name)?;
    known.mentions_of(found).next()?;
    Some(Thing::Subject(found))
}

fn named_whole(known: &Known<'_>, kind: SubjectKind, path: &str) -> Option<Thing> {
    let name = known.facts.symbols.find(&decoded(path))?;
    let found = known.facts.subjects.find(kind, Symbol::NONE, name)?;
    known.mentions_of(found).next()?;
    Some(Thing::Subject(found))
}

fn named(known: &Known<'_>, name: &str) -> Vec<Thing> {
    let Some(name) = known.facts.symbols.find(name) else {
        return Vec::new();
    };
    let subjects = &known.facts.subjects;
    BY_NAME
        .into_iter()
        .flat_map(|kind| subjects.named(kind, name))
        .filter(|subject| known.mentions_of(*subject).next().is_some())
        .map(Thing::Subject)
        .collect()
}

fn commits(known: &Known<'_>, digits: &str) -> Vec<Thing> {
    let digits = digits.to_ascii_lowercase();
    let hex = (PREFIX_DIGITS_MIN..=64).contains(&digits.len())
        && digits.bytes().all(|c| digit(c).is_some());
    if !hex {
        return Vec::new();
    }
    let recorded: Vec<Thing> = known
        .beginning_with(&digits, None)
        .map(Thing::Commit)
        .collect();
    if !recorded.is_empty() {
        return recorded;
    }
    // Perhaps it is only named: by a deployment that came before its commit, say.
    let graph = &known.facts.graph;
    let named = graph.beginning_with(&digits);
    named
        .filter(|node| is_known_commit(known, *node))
        .map(Thing::Commit)
        .collect()
}

/// Changes of a number, in repositories whose name ends with `repository`.
fn changes(known: &Known<'_>, repository: &str, number: &str) -> Vec<Thing> {
    let Some(name) = known.facts.symbols.find(number) else {
        return Vec::new();
    };
    let subjects = &known.facts.subjects;
    subjects
        .named(SubjectKind::Change, name)
        .filter(|change| {
            let full = known.text(subjects.at(*change).scope);
            let rest = full.strip_suffix(repository);
            rest.is_some_and(|rest| repository.is_empty() || rest.is_empty() || rest.ends_with('/'))
        })
        .filter(|change| known.mentions_of(*change).next().is_some())
        .map(Thing::Subject)
        .collect()
}

/// `SERVICE@ENVIRONMENT` or `SERVICE@ENVIRONMENT~N`.
fn deployment_before_now(known: &Known<'_>, rest: &str) -> Result<Thing, Resolution> {
    let (place, back) = rest.rsplit_once('~').unwrap_or((rest, "0"));
    let parsed = place.split_once('@').zip(back.parse::<usize>().ok());
    let Some(((service, environment), back)) = parsed else {
        return Err(Resolution::NotFound {
            text: format!(
                "`d:{rest}` does not read `d:SERVICE@ENVIRONMENT` or `d:SERVICE@ENVIRONMENT~N`"
            ),
            remedy: "name the service and the environment: d:checkout@prod~1".to_owned(),
        });
    };
    let symbols = &known.facts.symbols;
    let lane = symbols
        .find(service)
        .zip(symbols.find(environment))
        .and_then(|(service, environment)| known.facts.lanes.find(service, environment));
    let run = lane.and_then(|lane| known.runs_before(lane, None).nth(back));
    run.map(|run| Thing::Subject(run.deployment))
        .ok_or_else(|| Resolution::NotFound {
            text: match back {
                0 => format!("no successful deployment of `{service}` to `{environment}` was known"),
                back => format!(
                    "fewer than {} successful deployments of `{service}` to `{environment}` were known",
                    back + 1
                ),
            },
            remedy: "emit deployment.finished with outcome SUCCESS, or ask about a later moment".to_owned(),
        })
}

fn only(
    known: &Known<'_>,
    mut found: Vec<Thing>,
    not_found: impl FnOnce() -> Resolution,
) -> Result<Thing, Resolution> {
    found.sort_unstable();
    found.dedup();
    match found.as_slice() {
        [] => Err(not_found()),
        [thing] => Ok(*thing),
        _ => {
            let count = found.len() as u64;
            let mut candidates: Vec<Candidate> = found
                .into_iter()
                .map(|thing| {
                    let node = nodes::node(known, thing);
                    Candidate {
                        entity: node.entity,
                        title: node.title,
                    }
                })
                .collect();
            candidates.sort();
            candidates.truncate(CANDIDATES_MAX);
            Err(Resolution::Ambiguous { candidates, count })
        }
    }
}

fn not_found(reference: &str) -> Resolution {
    Resolution::NotFound {
        text: format!("nothing that was known is called `{reference}`"),
        remedy:
            "give a commit id of 4 digits or more, #412, a version, a deployment or incident id, \
                 d:SERVICE@ENVIRONMENT, or a full name such as deployment:checkout/d-881"
                .to_owned(),
    }
}

fn not_found_change(reference: &str) -> Resolution {
    Resolution::NotFound {
        text: format!("no change that was known is called `{reference}`"),
        remedy: "emit change.created or change.merged for it, or import the repository".to_owned(),
    }
}

/// Undoes the percent-encoding of one segment of a name.
fn decoded(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, after @ ..] = rest {
        let escaped = match (first, after) {
            (b'%', [high, low, ..]) => {
                digit(high.to_ascii_lowercase()).zip(digit(low.to_ascii_lowercase()))
            }
            _ => None,
        };
        match escaped {
            Some((high, low)) => {
                out.push(high << 4 | low);
                rest = &after[2..];
            }
            None => {
                out.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
