//! `trace`: where a change went, and where it came from, as a tree that starts at what was asked.
use std::collections::{HashMap, HashSet};

use waybill_proto::pb::{
    LinkAuthor, TraceEdge, TraceNode, TraceRelation, TraceRequest, TraceResponse,
};

use crate::{
    args::TraceArgs,
    context::{Context, Missing},
    exit::{Exit, Failure},
    git,
    output::{Output, Style, clean},
    source::Source,
    table::shorten,
    words,
};

use super::basis;

/// A keyed hash of an actor is told apart by its beginning.
const AUTHOR_WIDTH: usize = 32;

/// Asks and shows.
pub(crate) async fn run(context: &Context, args: TraceArgs) -> Result<(), Failure> {
    let request = TraceRequest {
        read: Some(context.read_options(&args.read)?),
        r#ref: args.reference,
        at: context.moment(args.at.as_deref(), "--at")?,
        max_nodes: args.max_nodes.unwrap_or(0),
    };
    let source = context.source(Missing::Refuse).await?;
    let answer = ask(&source, request).await?;
    if context.out.json {
        context.out.message("TraceResponse", &answer)?;
    } else {
        context
            .out
            .bytes(render(&answer, &context.out).as_bytes())?;
    }
    source.close().await
}

/// Asks by the name as it was typed, and where that means nothing to the ledger, by what git says it is.
pub(crate) async fn ask(source: &Source, request: TraceRequest) -> Result<TraceResponse, Failure> {
    let failure = match source
        .answer(source.trace().trace(source.request(request.clone())))
        .await
    {
        Ok(answer) => return Ok(answer),
        Err(failure) => failure,
    };
    let unknown = matches!(failure.exit(), Exit::NotFound | Exit::Usage);
    let named = if unknown {
        git::revision(&request.r#ref)
    } else {
        None
    };
    match named.filter(|revision| *revision != request.r#ref) {
        Some(revision) => {
            let request = TraceRequest { r#ref: revision, ..request };
            source.answer(source.trace().trace(source.request(request))).await
        }
        None if failure.exit() == Exit::NotFound && failure.hint().is_empty() => {
            Err(failure.with_hint("`waybill log` shows what is recorded; `waybill import git` records this repository"))
        }
        None => Err(failure),
    }
}

/// The answer for people.
pub(crate) fn render(answer: &TraceResponse, out: &Output) -> String {
    let mut tree = Tree::new(answer, out);
    tree.draw();
    let mut text = tree.text;
    for missing in &answer.missing {
        text.push_str(&format!(
            "not known: {} of {}: {}\n",
            clean(&missing.wanted),
            name(&missing.entity),
            clean(&missing.reason)
        ));
        if !missing.remedy.is_empty() {
            text.push_str(&format!(
                "           to know it: {}\n",
                clean(&missing.remedy)
            ));
        }
    }
    text.push_str(&basis::problems(&answer.problems));
    if answer.omitted_count > 0 {
        let more = words::count(answer.omitted_count);
        text.push_str(&format!("{more} more are not shown: --max-nodes COUNT\n"));
    }
    text.push_str(&out.paint(Style::Faint, &basis::line(answer.basis.as_ref())));
    text.push('\n');
    text
}

/// Draws each thing once, below the one that it was reached from first.
struct Tree<'a> {
    answer: &'a TraceResponse,
    out: &'a Output,
    /// Things next to each other: (the other's name, the words for the way there, the edge).
    neighbours: HashMap<&'a str, Vec<(&'a str, &'static str, &'a TraceEdge)>>,
    order: HashMap<&'a str, usize>,
    drawn: HashSet<&'a str>,
    text: String,
}

impl<'a> Tree<'a> {
    fn new(answer: &'a TraceResponse, out: &'a Output) -> Self {
        let order: HashMap<&str, usize> = answer
            .nodes
            .iter()
            .enumerate()
            .map(|(index, node)| (node.entity.as_str(), index))
            .collect();
        let mut neighbours: HashMap<&str, Vec<_>> = HashMap::new();
        for edge in &answer.edges {
            let (from, to) = (edge.from_entity.as_str(), edge.to_entity.as_str());
            let (onward, back) = ways(edge.relation());
            neighbours.entry(from).or_default().push((to, onward, edge));
            neighbours.entry(to).or_default().push((from, back, edge));
        }
        for list in neighbours.values_mut() {
            list.sort_by_key(|(other, _, _)| order.get(other).copied().unwrap_or(usize::MAX));
        }
        Self {
            answer,
            out,
            neighbours,
            order,
            drawn: HashSet::new(),
            text: String::new(),
        }
    }

    fn draw(&mut self) {
        self.root(self.answer.entity.as_str());
        // What no edge leads to stands by itself: it is part of the answer all the same.
        for node in &self.answer.nodes {
            if !self.drawn.contains(node.entity.as_str()) {
                self.root(&node.entity);
            }
        }
    }

    fn root(&mut self, entity: &'a str) {
        self.drawn.insert(entity);
        let line = match self.node(entity) {
            Some(node) => self.headline(node),
            None => self.out.paint(Style::Strong, &name(entity)),
        };
        self.text.push_str(&line);
        self.text.push('\n');
        self.children(entity);
    }

    /// Depth first without recursion: a chain of a thousand deployments must not exhaust the stack.
    fn children(&mut self, entity: &'a str) {
        let mut stack: Vec<(&'a str, &'static str, &'a TraceEdge, String, bool)> = Vec::new();
        self.push_children(&mut stack, entity, "");
        while let Some((entity, way, edge, indent, last)) = stack.pop() {
            let (branch, below) = if last {
                ("└─ ", "   ")
            } else {
                ("├─ ", "│  ")
            };
            let line = self.line(entity, way, edge);
            self.text.push_str(&format!("{indent}{branch}{line}\n"));
            self.push_children(&mut stack, entity, &format!("{indent}{below}"));
        }
    }

    fn push_children(
        &mut self,
        stack: &mut Vec<(&'a str, &'static str, &'a TraceEdge, String, bool)>,
        entity: &'a str,
        indent: &str,
    ) {
        let neighbours = self.neighbours.get(entity).cloned().unwrap_or_default();
        let fresh: Vec<_> = neighbours
            .into_iter()
            .filter(|(other, _, _)| self.drawn.insert(other))
            .collect();
        let count = fresh.len();
        for (index, (other, way, edge)) in fresh.into_iter().enumerate().rev() {
            stack.push((other, way, edge, indent.to_owned(), index + 1 == count));
        }
    }

    fn headline(&self, node: &TraceNode) -> String {
        let title = format!("{} {}", node.kind.to_uppercase(), name(&node.entity));
        let mut line = self.out.paint(Style::Strong, &title);
        line.push_str(&details(node));
        line
    }

    fn line(&self, entity: &str, way: &str, edge: &TraceEdge) -> String {
        let inferred = if edge.inferred { " (inferred)" } else { "" };
        let Some(node) = self.node(entity) else {
            return format!("{way} {}{inferred}", name(entity));
        };
        let mut how = if edge.method.is_empty() {
            String::new()
        } else {
            format!("   by {}", clean(&edge.method))
        };
        how.extend(
            edge.authors
                .iter()
                .map(|author| format!("   {}", said_by(author))),
        );
        format!(
            "{way} {} {}{}{}{inferred}",
            node.kind,
            name(entity),
            details(node),
            self.out.paint(Style::Faint, &how)
        )
    }

    fn node(&self, entity: &str) -> Option<&'a TraceNode> {
        self.order
            .get(entity)
            .and_then(|index| self.answer.nodes.get(*index))
    }
}

/// Who said a link: a name that the ledger verified, or what the event claims.
fn said_by(author: &LinkAuthor) -> String {
    let source = author.event.as_ref().map_or("", |event| &event.source);
    let (name, how) = match (
        author.verified_sender.as_str(),
        author.claimed_actor.as_str(),
    ) {
        ("", "") => (source, "claimed"),
        ("", actor) => (actor, "claimed"),
        (sender, _) => (sender, "verified"),
    };
    format!("said by {} ({how})", shorten(&clean(name), AUTHOR_WIDTH))
}

/// What is known of a thing, in the order in which people ask.
fn details(node: &TraceNode) -> String {
    let mut parts = Vec::new();
    // Some things have no title but their own name.
    if !node.title.is_empty() && !decoded(&node.entity).ends_with(&node.title) {
        parts.push(format!("\"{}\"", clean(&node.title)));
    }
    match (node.service.as_str(), node.environment.as_str()) {
        ("", "") => {}
        (service, "") => parts.push(clean(service)),
        ("", environment) => parts.push(clean(environment)),
        (service, environment) => {
            parts.push(format!("{} → {}", clean(service), clean(environment)))
        }
    }
    // Every commit is recorded: only what is out of the ordinary is a state worth a word.
    if !node.state.is_empty() && node.state != "recorded" {
        parts.push(clean(&node.state));
    }
    if node.occur_time.is_some() {
        parts.push(words::minute(node.occur_time.as_ref()));
    }
    let mut facts: Vec<_> = node.facts.iter().collect();
    facts.sort();
    parts.extend(
        facts
            .into_iter()
            .filter_map(|(key, value)| fact(node, key, value)),
    );
    if node.inferred {
        parts.push("inferred".to_owned());
    }
    parts.iter().map(|part| format!("   {part}")).collect()
}

/// One further fact; a time that says again what has been said is left out.
fn fact(node: &TraceNode, key: &str, value: &str) -> Option<String> {
    let Ok(time) = value.parse::<jiff::Timestamp>() else {
        return Some(format!("{} {}", clean(key), clean(value)));
    };
    let time = prost_types::Timestamp {
        seconds: time.as_second(),
        nanos: time.subsec_nanosecond(),
    };
    let minute = words::minute(Some(&time));
    (minute != words::minute(node.occur_time.as_ref())).then(|| format!("{} {minute}", clean(key)))
}

/// What is left of an entity's name when its kind is said beside it: the last part of a commit's or change's name, the
/// whole path of others, as people write it.
pub(super) fn name(entity: &str) -> String {
    let (kind, path) = entity.split_once(':').unwrap_or(("", entity));
    let last = decoded(path.rsplit('/').next().unwrap_or(path));
    let path = decoded(path);
    match kind {
        "commit" => words::short(&last).to_owned(),
        "change" => format!("#{}", clean(&last)),
        _ => clean(&path),
    }
}

/// A name without its percent-encoding; as it is where that gives no text.
fn decoded(name: &str) -> String {
    let mut bytes = Vec::with_capacity(name.len());
    let mut rest = name.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let pair = after
            .get(..2)
            .and_then(|pair| std::str::from_utf8(pair).ok());
        match pair
            .and_then(|pair| u8::from_str_radix(pair, 16).ok())
            .filter(|_| *first == b'%')
        {
            Some(byte) => {
                bytes.push(byte);
                rest = &after[2..];
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8(bytes).unwrap_or_else(|_| name.to_owned())
}

/// The words for an edge, forwards and backwards.
fn ways(relation: TraceRelation) -> (&'static str, &'static str) {
    match relation {
        TraceRelation::PartOf => ("part of", "holds"),
        TraceRelation::MergedAs => ("merged as", "merge of"),
        TraceRelation::BuiltBy => ("built by", "built from"),
        TraceRelation::PackagedAs => ("packaged as", "made from"),
        TraceRelation::ReleasedIn => ("released in", "releases"),
        TraceRelation::DeployedBy => ("deployed by", "deployed"),
        TraceRelation::RevertedBy => ("reverted by", "reverts"),
        TraceRelation::FixedBy => ("fixed by", "fixes"),
        TraceRelation::PickedAs => ("picked as", "picked from"),
        TraceRelation::RolledBackBy => ("rolled back by", "rolls back"),
        TraceRelation::LedTo => ("led to", "came from"),
        TraceRelation::Unspecified => ("related to", "related to"),
    }
}

#[cfg(test)]
mod tests {
    use waybill_proto::pb::{Basis, MissingEdge};

    use super::*;
    use crate::output::Color;

    fn node(entity: &str, kind: &str, title: &str) -> TraceNode {
        TraceNode {
            entity: entity.to_owned(),
            kind: kind.to_owned(),
            title: title.to_owned(),
            ..TraceNode::default()
        }
    }

    fn edge(from: &str, to: &str, relation: TraceRelation) -> TraceEdge {
        TraceEdge {
            from_entity: from.to_owned(),
            to_entity: to.to_owned(),
            relation: relation.into(),
            ..TraceEdge::default()
        }
    }

    fn answer() -> TraceResponse {
        let commit = "commit:github.com/acme/shop/4f2a9c1b7d4f2a9c1b7d4f2a9c1b7d4f2a9c1b7d";
        let mut deployment = node("deployment:checkout/d-881", "deployment", "");
        deployment.service = "checkout".to_owned();
        deployment.environment = "prod".to_owned();
        deployment.state = "success".to_owned();
        TraceResponse {
            basis: Some(Basis {
                position: 184_223,
                ..Basis::default()
            }),
            entity: commit.to_owned(),
            nodes: vec![
                node(commit, "commit", "cart: batch \x1b[2Jlookups"),
                node("build:b-20117", "build", ""),
                deployment,
                node("incident:INC-212", "incident", "5xx"),
            ],
            edges: vec![
                edge(commit, "build:b-20117", TraceRelation::BuiltBy),
                edge(
                    commit,
                    "deployment:checkout/d-881",
                    TraceRelation::DeployedBy,
                ),
                edge(
                    "deployment:checkout/d-881",
                    "incident:INC-212",
                    TraceRelation::LedTo,
                ),
            ],
            missing: vec![MissingEdge {
                entity: commit.to_owned(),
                wanted: "change".to_owned(),
                reason: "no change names it".to_owned(),
                remedy: "waybill emit change".to_owned(),
            }],
            ..TraceResponse::default()
        }
    }

    fn plain() -> Output {
        Output::new(false, false, Color::Never, &|_| None)
    }

    #[test]
    fn draws_a_tree_from_what_was_asked_and_says_what_is_not_known() {
        let expected = "\
COMMIT 4f2a9c1b7d   \"cart: batch \\u{1b}[2Jlookups\"
├─ built by build b-20117
└─ deployed by deployment checkout/d-881   checkout → prod   success
   └─ led to incident INC-212   \"5xx\"
not known: change of 4f2a9c1b7d: no change names it
           to know it: waybill emit change
as of seq 184,223
";
        assert_eq!(render(&answer(), &plain()), expected);
    }

    #[test]
    fn a_link_names_who_said_it_verified_or_claimed() {
        let event = waybill_proto::pb::EventRef {
            source: "//ci.acme.dev/checkout".to_owned(),
            ..Default::default()
        };
        let author = |verified: &str, claimed: &str| LinkAuthor {
            event: Some(event.clone()),
            verified_sender: verified.to_owned(),
            claimed_actor: claimed.to_owned(),
        };
        let mut answer = answer();
        let link = &mut answer.edges[2];
        link.method = "explicit".to_owned();
        link.authors = vec![
            author("ci-checkout", "alice"),
            author("", "bo\x1b[2Jb"),
            author("", ""),
        ];
        let expected = "└─ led to incident INC-212   \"5xx\"   by explicit   said by ci-checkout (verified)   said by bo\\u{1b}[2Jb (claimed)   said by //ci.acme.dev/checkout (claimed)\n";
        let text = render(&answer, &plain());
        assert!(text.contains(expected), "{text}");
    }

    #[test]
    fn the_same_edges_read_backwards_from_the_other_end() {
        let mut answer = answer();
        answer.entity = "incident:INC-212".to_owned();
        let text = render(&answer, &plain());
        assert!(text.starts_with("INCIDENT INC-212"), "{text}");
        assert!(
            text.contains("└─ came from deployment checkout/d-881"),
            "{text}"
        );
        assert!(text.contains("   └─ deployed commit 4f2a9c1b7d"), "{text}");
    }

    #[test]
    fn names_read_as_people_write_them() {
        assert_eq!(name("deployment:checkout/run%3A17"), "checkout/run:17");
        assert_eq!(name("change:github.com/acme/shop/412"), "#412");
        assert_eq!(name("branch:x/%FF%zz%1b"), "x/%FF%zz%1b");
        assert_eq!(name("branch:x/%1b%5B"), "x/\\u{1b}[");
    }

    #[test]
    fn a_cycle_is_drawn_once() {
        let mut answer = answer();
        answer.edges.push(edge(
            "incident:INC-212",
            "build:b-20117",
            TraceRelation::LedTo,
        ));
        assert_eq!(render(&answer, &plain()).matches("b-20117").count(), 1);
    }

    #[test]
    fn a_long_chain_does_not_exhaust_the_stack() {
        let names: Vec<String> = (0..20_000).map(|n| format!("build:b-{n}")).collect();
        let answer = TraceResponse {
            entity: names[0].clone(),
            nodes: names.iter().map(|name| node(name, "build", "")).collect(),
            edges: names
                .windows(2)
                .take(2_000)
                .map(|pair| edge(&pair[0], &pair[1], TraceRelation::LedTo))
                .collect(),
            ..TraceResponse::default()
        };
        assert_eq!(render(&answer, &plain()).lines().count(), 20_001);
    }
}
