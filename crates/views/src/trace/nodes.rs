//! What is shown of each thing, and the words for what is missing.
use std::collections::{BTreeMap, BTreeSet};

use waybill_core::{
    Entity, EntityKind,
    event::{ArtifactStep, BuildStep, FlagStep, MergeMethod, Outcome, ReleaseStep},
};

use super::{
    Answer, Author, Edge, MissingEdge, Node, Resolution,
    walk::{Missing, Thing, Walked},
};
use crate::{
    facts::{
        claims::{Family, Slot},
        families::{ChangeMove, DeploymentMove, IncidentMove},
        subjects::{Role, Subject, SubjectKind},
        text::Symbol,
    },
    known::{Known, time_of},
    reading::EventRef,
};

/// Puts what was walked into words, orders it, and cuts it to size.
pub(super) fn answer(known: &Known<'_>, start: Thing, walked: Walked, max_nodes: usize) -> Answer {
    let mut nodes: Vec<(Thing, Node)> = walked
        .things
        .iter()
        .map(|thing| (*thing, node(known, *thing)))
        .collect();
    // What is cut first: commits, the oldest first. The thing asked about is never cut.
    nodes.sort_by(|(a, x), (b, y)| {
        let keep = |thing: &Thing, node: &Node| (*thing != start, family(node.kind) == 0);
        keep(a, x)
            .cmp(&keep(b, y))
            .then_with(|| y.occur_time.cmp(&x.occur_time))
            .then_with(|| x.entity.cmp(&y.entity))
    });
    let omitted = nodes.len().saturating_sub(max_nodes);
    nodes.truncate(max_nodes);
    let names: BTreeMap<Thing, String> = nodes
        .iter()
        .map(|(thing, node)| (*thing, node.entity.clone()))
        .collect();
    let inferred: BTreeSet<Thing> = nodes
        .iter()
        .filter(|(_, node)| node.inferred)
        .map(|(thing, _)| *thing)
        .collect();
    let mut missing: Vec<MissingEdge> = walked
        .missing
        .iter()
        .filter_map(|missing| put(known, missing, &names))
        .collect();
    missing.sort();
    let mut nodes: Vec<Node> = nodes.into_iter().map(|(_, node)| node).collect();
    nodes.sort_by(|a, b| {
        let key = |node: &Node| (family(node.kind), node.occur_time);
        key(a).cmp(&key(b)).then_with(|| a.entity.cmp(&b.entity))
    });
    Answer {
        resolution: Resolution::Found(names.get(&start).cloned().unwrap_or_default()),
        edges: edges(known, &walked, &names, &inferred),
        nodes,
        missing,
        problems: known.problems(),
        omitted_count: walked.omitted_count + omitted as u64,
    }
}

fn edges(
    known: &Known<'_>,
    walked: &Walked,
    names: &BTreeMap<Thing, String>,
    inferred: &BTreeSet<Thing>,
) -> Vec<Edge> {
    let mut edges: Vec<Edge> = walked
        .edges
        .iter()
        .filter_map(|((from, to, relation), (method, slots))| {
            let mut events: Vec<EventRef> = slots.iter().map(|slot| known.event(*slot)).collect();
            events.sort_by(|a, b| a.identity.cmp(&b.identity));
            let mut authors: Vec<Author> = slots
                .iter()
                .filter_map(|slot| author(known, *slot))
                .collect();
            authors.sort_by(|a, b| a.event.identity.cmp(&b.event.identity));
            Some(Edge {
                from: names.get(from)?.clone(),
                to: names.get(to)?.clone(),
                relation: *relation,
                method,
                inferred: inferred.contains(from) || inferred.contains(to),
                events,
                authors,
            })
        })
        .collect();
    edges.sort();
    edges
}

/// Who said the link of a slot; of what is no link nobody is kept.
fn author(known: &Known<'_>, slot: Slot) -> Option<Author> {
    let facts = known.facts;
    let row = facts.claims.row(slot);
    if row.family != Family::Link {
        return None;
    }
    let link = facts.links.get(row.content as usize)?;
    Some(Author {
        event: known.event(slot),
        verified_sender: facts.symbols.text(link.sender),
        claimed_actor: facts.symbols.text(link.actor),
    })
}

/// The place of a kind along the way.
fn family(kind: &str) -> usize {
    let order = [
        "commit",
        "change",
        "build",
        "artifact",
        "release",
        "deployment",
        "flag",
        "incident",
    ];
    order
        .iter()
        .position(|word| *word == kind)
        .unwrap_or(order.len())
}

/// What is shown of one thing.
pub(super) fn node(known: &Known<'_>, thing: Thing) -> Node {
    match thing {
        Thing::Commit(node) => commit(known, node),
        Thing::Subject(at) => subject(known, at),
    }
}

fn blank(entity: String, kind: &'static str) -> Node {
    Node {
        entity,
        kind,
        title: String::new(),
        occur_time: None,
        state: "",
        service: String::new(),
        environment: String::new(),
        inferred: false,
        events: Vec::new(),
        facts: BTreeMap::new(),
    }
}

fn commit(known: &Known<'_>, at: u32) -> Node {
    let mut node = blank(known.commit_name(at), "commit");
    let Some(row) = known.commit(at) else {
        return node;
    };
    let graph = &known.facts.graph;
    let (author, commit) = (row.author, graph.commit_time(row));
    node.title = graph.subjects_text(row);
    node.occur_time = known.occur_time(row.slot);
    node.state = if graph.parents_of(row).len() > 1 {
        "merge"
    } else {
        "recorded"
    };
    node.events = known.witnesses(row.slot);
    for (name, nanos) in [("author time", author), ("commit time", commit)] {
        if let Some(time) = time_of(nanos) {
            node.facts.insert(name, time.to_string());
        }
    }
    node
}

fn subject(known: &Known<'_>, at: u32) -> Node {
    let Subject {
        kind, scope, name, ..
    } = *known.facts.subjects.at(at);
    let mut node = blank(known.subject_name(at), word(known, kind, at));
    // The latest first.
    let mut about: Vec<Slot> = known
        .mentions_of(at)
        .filter(|mention| mention.role == Role::About)
        .map(|mention| mention.slot)
        .collect();
    about.sort_by(|a, b| known.later(*a, *b));
    node.events = about
        .iter()
        .flat_map(|slot| known.witnesses(*slot))
        .collect();
    node.title = known.text(name);
    match kind {
        SubjectKind::Release | SubjectKind::Deployment => node.service = known.text(scope),
        _ => {}
    }
    for slot in about.into_iter().rev() {
        tell(known, slot, &mut node);
    }
    if kind == SubjectKind::Deployment {
        outcome(known, at, &mut node);
    }
    node
}

/// Adds what one event says, from the earliest to the latest.
fn tell(known: &Known<'_>, slot: Slot, node: &mut Node) {
    let facts = known.facts;
    let row = facts.claims.row(slot);
    let at = row.content as usize;
    let state = match row.family {
        Family::Change => {
            let row = &facts.changes[at];
            set_unless_empty(&mut node.title, facts.texts.text(row.title));
            if row.moved == ChangeMove::Merged {
                node.facts
                    .insert("merge method", merge_method(row.method).to_owned());
            }
            change_state(row.moved)
        }
        Family::Build => Some(build_state(facts.builds[at].step)),
        Family::Artifact => {
            let row = &facts.artifacts[at];
            set_unless_empty(&mut node.title, known.text(row.name));
            Some(artifact_state(row.step))
        }
        Family::Release => Some(release_state(facts.releases[at].step)),
        Family::Deployment => {
            let row = &facts.deployments[at];
            let lane = facts.lanes.at(row.lane);
            node.environment = known.text(lane.environment());
            node.inferred = row.inferred;
            if row.version != Symbol::NONE {
                node.facts.insert("version", known.text(row.version));
            }
            if row.allowed_to_fail {
                node.facts.insert("allowed to fail", "yes".to_owned());
            }
            Some(deployment_state(row.moved))
        }
        Family::Flag => {
            let row = &facts.flags[at];
            node.environment = known.text(row.environment);
            node.service = known.text(row.service);
            exposure(row.before_ppm, row.after_ppm, node);
            Some(flag_state(row.step))
        }
        Family::Incident => {
            let row = &facts.incidents[at];
            set_unless_empty(&mut node.title, facts.texts.text(row.title));
            node.environment = known.text(row.environment);
            set_unless_empty(&mut node.service, known.text(row.service));
            for (name, text) in [("severity", row.severity), ("merged into", row.into)] {
                if text != Symbol::NONE {
                    node.facts.insert(name, known.text(text));
                }
            }
            incident_state(row.moved)
        }
        Family::Commit | Family::Link | Family::Gap | Family::SourceRank | Family::Other => None,
    };
    if let Some(state) = state {
        node.state = state;
        node.occur_time = known.occur_time(slot);
    }
}

/// A deployment that succeeded did, whatever later attempts or late words say; and may have been taken back since.
fn outcome(known: &Known<'_>, deployment: u32, node: &mut Node) {
    let about = known.mentions_of(deployment);
    let rows = about.filter_map(|mention| known.deployment_row(mention.slot));
    let lanes: BTreeSet<u32> = rows
        .filter(|row| row.deployment == deployment)
        .map(|row| row.lane)
        .collect();
    let ends = lanes
        .iter()
        .filter_map(|lane| known.first_success(deployment, *lane));
    let first = ends
        .filter(|slot| known.past(*slot))
        .max_by(|a, b| known.later(*a, *b));
    let Some(slot) = first else {
        return;
    };
    node.state = deployment_state(DeploymentMove::Finished(Outcome::Success));
    node.occur_time = known.occur_time(slot);
    let undone = known.mentions_of(deployment).any(|mention| {
        let row = known.deployment_row(mention.slot);
        let succeeded = |row: &crate::facts::families::DeploymentRow| {
            row.moved == DeploymentMove::Finished(Outcome::Success)
        };
        mention.role == Role::RollsBack && row.is_some_and(succeeded)
    });
    if undone {
        node.state = "rolled back";
    }
}

fn exposure(before_ppm: Option<u32>, after_ppm: Option<u32>, node: &mut Node) {
    for (name, ppm) in [
        ("exposure before", before_ppm),
        ("exposure after", after_ppm),
    ] {
        if let Some(ppm) = ppm {
            node.facts
                .insert(name, format!("{}.{:04} %", ppm / 10_000, ppm % 10_000));
        }
    }
}

fn set_unless_empty(to: &mut String, text: String) {
    if !text.is_empty() {
        *to = text;
    }
}

fn put(
    known: &Known<'_>,
    missing: &Missing,
    names: &BTreeMap<Thing, String>,
) -> Option<MissingEdge> {
    let edge = |thing: &Thing, wanted, reason: &str, remedy: &str| {
        Some(MissingEdge {
            entity: names.get(thing)?.clone(),
            wanted,
            reason: reason.to_owned(),
            remedy: remedy.to_owned(),
        })
    };
    match missing {
        Missing::Commit(thing) => edge(
            thing,
            "commit",
            "the commit is named and not recorded",
            "emit commit.recorded for it, or import the repository: waybill import git",
        ),
        Missing::Change(thing) => edge(
            thing,
            "change",
            "no merged change names this commit",
            "emit change.merged with merge_revision and commits",
        ),
        Missing::Parents(thing, boundary) => parents(known, *thing, *boundary, names),
        Missing::Deployment(thing) => edge(
            thing,
            "deployment",
            "no successful deployment has this commit",
            "deploy it, or emit deployment.finished with revisions or artifacts",
        ),
        Missing::MergeRevision(thing) => edge(
            thing,
            "merge revision",
            "the change is merged and does not say as which commit",
            "emit change.merged with merge_revision, or correct the event",
        ),
        Missing::Revision(thing) => edge(
            thing,
            "revision",
            "no event of the deployment says what it runs",
            "emit deployment.finished with revisions or artifacts",
        ),
        Missing::ChangeSet(thing, unknown) => {
            edge(thing, "change set", unknown.reason(), unknown.remedy())
        }
        Missing::Cause(thing) => edge(
            thing,
            "cause",
            "nothing is linked to this incident",
            "link what led to it: waybill event link INCIDENT --cause REF --because TEXT",
        ),
        Missing::Source(thing) => edge(
            thing,
            "source",
            "nothing says which commit this was made from",
            "emit it with source_revisions (a release: revisions)",
        ),
    }
}

/// Unknown parents, with the reason and the remedy of a recorded gap where there is one.
fn parents(
    known: &Known<'_>,
    thing: Thing,
    boundary: bool,
    names: &BTreeMap<Thing, String>,
) -> Option<MissingEdge> {
    let entity = names.get(&thing)?.clone();
    let Thing::Commit(node) = thing else {
        return None;
    };
    let facts = known.facts;
    let repository = known.text(facts.graph.at(node).repository);
    let gaps = [entity.clone(), format!("repository:{repository}")]
        .into_iter()
        .filter_map(|name| facts.symbols.find(&name))
        .filter_map(|name| facts.subjects.find(SubjectKind::Entity, Symbol::NONE, name))
        .flat_map(|entity| known.mentions_of(entity).collect::<Vec<_>>())
        .filter(|mention| facts.claims.row(mention.slot).family == Family::Gap)
        .map(|mention| mention.slot);
    let gap = gaps.min_by(|a, b| known.later(*a, *b));
    let (reason, remedy) = match gap {
        Some(slot) => {
            let row = &facts.gaps[facts.claims.row(slot).content as usize];
            (facts.texts.text(row.reason), facts.texts.text(row.remedy))
        }
        None => {
            let reason = match boundary {
                true => "the import ended here: its history was cut off (a shallow clone)",
                false => "a parent of this commit is not recorded",
            };
            let remedy = "fetch the whole history (git fetch --unshallow) and import again: waybill import git";
            (reason.to_owned(), remedy.to_owned())
        }
    };
    Some(MissingEdge {
        entity,
        wanted: "parents",
        reason,
        remedy,
    })
}

fn word(known: &Known<'_>, kind: SubjectKind, at: u32) -> &'static str {
    match kind {
        SubjectKind::Change => "change",
        SubjectKind::Build => "build",
        SubjectKind::Artifact => "artifact",
        SubjectKind::Release => "release",
        SubjectKind::Deployment => "deployment",
        SubjectKind::Flag => "flag",
        SubjectKind::Incident => "incident",
        SubjectKind::Link => "link",
        SubjectKind::Entity => Entity::parse(&known.subject_name(at))
            .map_or(EntityKind::Other, |entity| entity.kind())
            .as_str(),
    }
}

fn merge_method(method: MergeMethod) -> &'static str {
    match method {
        MergeMethod::Merge => "merge",
        MergeMethod::Squash => "squash",
        MergeMethod::Rebase => "rebase",
        MergeMethod::FastForward => "fast-forward",
        MergeMethod::Unknown => "not known",
    }
}

/// Reviews and edits do not move a change.
fn change_state(moved: ChangeMove) -> Option<&'static str> {
    match moved {
        ChangeMove::Created | ChangeMove::Reopened => Some("open"),
        ChangeMove::Ready => Some("ready"),
        ChangeMove::Drafted => Some("draft"),
        ChangeMove::Queued => Some("queued"),
        ChangeMove::Dequeued => Some("dequeued"),
        ChangeMove::Merged => Some("merged"),
        ChangeMove::Abandoned => Some("abandoned"),
        ChangeMove::Updated | ChangeMove::Reviewed | ChangeMove::ReviewDismissed => None,
    }
}

fn build_state(step: BuildStep) -> &'static str {
    match step {
        BuildStep::Queued => "queued",
        BuildStep::Started => "started",
        BuildStep::Finished(outcome) => outcome_word(outcome),
    }
}

fn artifact_state(step: ArtifactStep) -> &'static str {
    match step {
        ArtifactStep::Packaged => "packaged",
        ArtifactStep::Signed => "signed",
        ArtifactStep::Attested => "attested",
        ArtifactStep::Published => "published",
        ArtifactStep::Downloaded => "downloaded",
        ArtifactStep::Deleted => "deleted",
    }
}

fn release_state(step: ReleaseStep) -> &'static str {
    match step {
        ReleaseStep::Created => "drafted",
        ReleaseStep::Published => "published",
        ReleaseStep::Withdrawn => "withdrawn",
        ReleaseStep::Tagged => "tagged",
    }
}

fn deployment_state(moved: DeploymentMove) -> &'static str {
    match moved {
        DeploymentMove::Requested => "requested",
        DeploymentMove::Started | DeploymentMove::Progressed => "started",
        DeploymentMove::Finished(outcome) => outcome_word(outcome),
        DeploymentMove::Superseded => "superseded",
    }
}

fn outcome_word(outcome: Outcome) -> &'static str {
    match outcome {
        Outcome::Success => "success",
        Outcome::Failure => "failed",
        Outcome::Error => "error",
        Outcome::Timeout => "timed out",
        Outcome::Cancelled => "cancelled",
        Outcome::Skipped => "skipped",
        Outcome::Aborted => "aborted",
        Outcome::Unknown => "finished",
    }
}

fn flag_state(step: FlagStep) -> &'static str {
    match step {
        FlagStep::Created => "created",
        FlagStep::Changed => "changed",
        FlagStep::Archived => "archived",
    }
}

fn incident_state(moved: IncidentMove) -> Option<&'static str> {
    match moved {
        IncidentMove::Detected => Some("detected"),
        IncidentMove::Reported => Some("reported"),
        IncidentMove::Acknowledged => Some("acknowledged"),
        IncidentMove::Mitigated => Some("mitigated"),
        IncidentMove::Resolved => Some("resolved"),
        IncidentMove::Reopened => Some("reopened"),
        IncidentMove::Merged => Some("merged"),
        IncidentMove::Cancelled => Some("cancelled"),
        IncidentMove::Updated => None,
    }
}
