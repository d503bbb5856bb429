//! The trace question and its answer.
use waybill_core::{Code, Refusal};
use waybill_ledger::Basis;
use waybill_proto::pb;
use waybill_views::trace::{
    Answer, Author, Edge, MissingEdge, Node, Question, Relation, Resolution,
};

use super::{asked::check_text, basis, problem, time_if_given, timestamp, view_ref};

/// Nodes of one answer at most, so that it stays below what clients take by default (4 MiB).
const NODES_MAX: usize = 2_000;

/// What is asked; too many nodes are cut down.
pub(crate) fn question(request: &pb::TraceRequest) -> Result<Question, Refusal> {
    if request.r#ref.is_empty() {
        return Err(Refusal::new(Code::Missing, "ref", "", "required")
            .with_hint("give a commit, `#412`, a version, a deployment, or an entity name"));
    }
    check_text("ref", &request.r#ref)?;
    let max_nodes = usize::try_from(request.max_nodes).map_err(|_| {
        Refusal::new(
            Code::OutOfRange,
            "max_nodes",
            request.max_nodes,
            "must not be negative",
        )
    })?;
    Ok(Question {
        reference: request.r#ref.clone(),
        at: time_if_given("at", request.at.as_ref())?,
        max_nodes: max_nodes.min(NODES_MAX),
    })
}

/// The answer and what it stands on.
pub(crate) fn answer(stands_on: &Basis, answer: &Answer) -> pb::TraceResponse {
    let entity = match &answer.resolution {
        Resolution::Found(entity) => entity.clone(),
        // Is answered by `status::unresolved`.
        Resolution::NotFound { .. } | Resolution::Ambiguous { .. } => String::new(),
    };
    pb::TraceResponse {
        basis: Some(basis(stands_on)),
        entity,
        nodes: answer.nodes.iter().map(node).collect(),
        edges: answer.edges.iter().map(edge).collect(),
        missing: answer.missing.iter().map(missing).collect(),
        problems: answer.problems.iter().map(problem).collect(),
        omitted_count: answer.omitted_count,
    }
}

fn node(node: &Node) -> pb::TraceNode {
    pb::TraceNode {
        entity: node.entity.clone(),
        kind: node.kind.to_owned(),
        title: node.title.clone(),
        occur_time: node.occur_time.map(timestamp),
        state: node.state.to_owned(),
        service: node.service.clone(),
        environment: node.environment.clone(),
        inferred: node.inferred,
        events: node.events.iter().map(view_ref).collect(),
        facts: node
            .facts
            .iter()
            .map(|(name, value)| ((*name).to_owned(), value.clone()))
            .collect(),
    }
}

fn edge(edge: &Edge) -> pb::TraceEdge {
    pb::TraceEdge {
        from_entity: edge.from.clone(),
        to_entity: edge.to.clone(),
        relation: relation(edge.relation).into(),
        method: edge.method.to_owned(),
        inferred: edge.inferred,
        events: edge.events.iter().map(view_ref).collect(),
        authors: edge.authors.iter().map(author).collect(),
    }
}

fn author(author: &Author) -> pb::LinkAuthor {
    pb::LinkAuthor {
        event: Some(view_ref(&author.event)),
        verified_sender: author.verified_sender.clone(),
        claimed_actor: author.claimed_actor.clone(),
    }
}

fn relation(relation: Relation) -> pb::TraceRelation {
    match relation {
        Relation::PartOf => pb::TraceRelation::PartOf,
        Relation::MergedAs => pb::TraceRelation::MergedAs,
        Relation::BuiltBy => pb::TraceRelation::BuiltBy,
        Relation::PackagedAs => pb::TraceRelation::PackagedAs,
        Relation::ReleasedIn => pb::TraceRelation::ReleasedIn,
        Relation::DeployedBy => pb::TraceRelation::DeployedBy,
        Relation::RevertedBy => pb::TraceRelation::RevertedBy,
        Relation::FixedBy => pb::TraceRelation::FixedBy,
        Relation::PickedAs => pb::TraceRelation::PickedAs,
        Relation::RolledBackBy => pb::TraceRelation::RolledBackBy,
        Relation::LedTo => pb::TraceRelation::LedTo,
    }
}

fn missing(missing: &MissingEdge) -> pb::MissingEdge {
    pb::MissingEdge {
        entity: missing.entity.clone(),
        wanted: missing.wanted.to_owned(),
        reason: missing.reason.clone(),
        remedy: missing.remedy.clone(),
    }
}
