//! Question: trace
//!
//! Where did this change go, and where did this come from?
//!
//! Unit: things (commits, changes, builds, artifacts, releases, deployments, flags, incidents) and the edges between
//! them. Clock: occur times; what happened after the moment asked about is left out. Population: everything that can
//! be reached from the reference downstream only, and upstream only: not the neighbours of neighbours. Source: the
//! edges that events state, and change sets, which are worked out: a commit runs in an environment from the first
//! successful deployment whose head reaches it. Ours differs from tools that join on one commit id in that a squash is
//! followed through the change that made it, and that an edge that should be there and is not known is said, with what
//! would supply it.
//!
//! ```story
//! 09:00 commit shop a1
//! 09:10 deploy shop a1 -> prod ok d-1
//! 09:20 commit shop b2 parent a1 "cart: batch lookups"
//! 09:30 merge shop #7 as b2
//! 09:40 deploy shop b2 -> prod ok d-2
//! ```
//! ->
//! ```answer
//! b2 merged as of #7, deployed by d-2
//! ```
use std::collections::BTreeMap;

use waybill_core::Time;

use crate::{
    facts::Facts,
    known::Known,
    reading::{EventRef, Problem, Reading},
};

mod carriers;
mod nodes;
mod resolve;
mod walk;

/// Nodes where the question does not say how many.
const NODES_DEFAULT: usize = 200;

/// What is asked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Question {
    /// A commit id or prefix (4 digits or more), `#412`, `acme/shop#412`, a version, a deployment id,
    /// `d:SERVICE@ENVIRONMENT` (what the last successful deployment put there), `d:SERVICE@ENVIRONMENT~N` (the N-th
    /// before it), an incident, build, flag or artifact by its id, or a full entity name.
    pub reference: String,
    /// The moment asked about. None: the evaluated time.
    pub at: Option<Time>,
    /// At most this many nodes; zero is 200.
    pub max_nodes: usize,
}

/// What was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// What the reference means.
    pub resolution: Resolution,
    /// By family along the way, then occur time, then name. Empty unless the reference was found.
    pub nodes: Vec<Node>,
    /// By the names of both ends, then relation. Both ends are among the nodes.
    pub edges: Vec<Edge>,
    /// By name, then what is wanted.
    pub missing: Vec<MissingEdge>,
    /// What the answer had to step around.
    pub problems: Vec<Problem>,
    /// Nodes that `max_nodes` cut off.
    pub omitted_count: u64,
}

/// What a reference means.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// The full name of the one thing.
    Found(String),
    /// Nothing that was known is called that.
    NotFound {
        /// For people.
        text: String,
        /// What to try.
        remedy: String,
    },
    /// Several things are called that.
    Ambiguous {
        /// By full name, the first few.
        candidates: Vec<Candidate>,
        /// All of them.
        count: u64,
    },
}

/// One thing that a reference may mean.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Candidate {
    /// Its full name: asks for it and nothing else.
    pub entity: String,
    /// For people; may be empty.
    pub title: String,
}

/// One thing on the way.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Node {
    /// Its full name.
    pub entity: String,
    /// `commit`, `change`, `build`, `artifact`, `release`, `deployment`, `flag`, `incident`, or the kind of another
    /// entity that a link names.
    pub kind: &'static str,
    /// For people; may be empty.
    pub title: String,
    /// When what its state says happened.
    pub occur_time: Option<Time>,
    /// In the field's own words: `merged`, `success`, `resolved`; empty when nothing is recorded of it.
    pub state: &'static str,
    /// Name of the service; may be empty.
    pub service: String,
    /// Name of the environment; may be empty.
    pub environment: String,
    /// Nobody reported it; a tool inferred it.
    pub inferred: bool,
    /// The events that it is known from: the latest first, each followed by its witnesses.
    pub events: Vec<EventRef>,
    /// Further facts for people, by name.
    pub facts: BTreeMap<&'static str, String>,
}

/// One thing led to another.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Edge {
    /// Full name.
    pub from: String,
    /// Full name.
    pub to: String,
    /// How they hang together.
    pub relation: Relation,
    /// How that is known: `recorded`, `change set`, `merge revision`, `trailer`, `artifact`, `release`, …
    pub method: &'static str,
    /// A tool inferred it.
    pub inferred: bool,
    /// The events that say so.
    pub events: Vec<EventRef>,
    /// Who says so, for what somebody linked: one for each of the events, in their order.
    pub authors: Vec<Author>,
}

/// Who said a link.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Author {
    /// The event that says it.
    pub event: EventRef,
    /// Verified name of who handed the event in; empty where nobody was asked, and everything is only claimed.
    pub verified_sender: String,
    /// Who did it, as the event claims; may be empty.
    pub claimed_actor: String,
}

/// How two things hang together.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Relation {
    /// A commit belongs to a change.
    PartOf,
    /// A change became a commit.
    MergedAs,
    /// A build built a commit.
    BuiltBy,
    /// A commit or build became an artifact.
    PackagedAs,
    /// A commit or change is in a release.
    ReleasedIn,
    /// A deployment put it there.
    DeployedBy,
    /// A commit was reverted by another.
    RevertedBy,
    /// A commit was repaired by another.
    FixedBy,
    /// A commit was picked as another.
    PickedAs,
    /// A deployment was taken back by another.
    RolledBackBy,
    /// Somebody linked them.
    LedTo,
}

/// An edge that should be there and is not known.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct MissingEdge {
    /// Where it is missing: a full name.
    pub entity: String,
    /// `commit`, `change`, `deployment`, `parents`, `change set`, `revision`, …
    pub wanted: &'static str,
    /// Why it is not known.
    pub reason: String,
    /// What would supply it.
    pub remedy: String,
}

/// Answers from what was known at the reading's position.
#[must_use]
pub fn ask(facts: &Facts, reading: &Reading, question: &Question) -> Answer {
    let known = Known::new(facts, reading);
    let known = question.at.map_or(known, |at| known.at(at));
    let found = match resolve::resolve(&known, &question.reference) {
        Ok(found) => found,
        Err(resolution) => {
            return Answer {
                resolution,
                nodes: Vec::new(),
                edges: Vec::new(),
                missing: Vec::new(),
                problems: known.problems(),
                omitted_count: 0,
            };
        }
    };
    let max_nodes = match question.max_nodes {
        0 => NODES_DEFAULT,
        max => max,
    };
    let walked = walk::walk(&known, found, max_nodes);
    nodes::answer(&known, found, walked, max_nodes)
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use waybill_fixture::{moment, story};

    use super::*;
    use crate::reading::Knowledge;

    /// Tells the story, traces a reference, and shows the edges and what is missing.
    fn check(text: &str, reference: &str, expected: &str) {
        let shown = shown(&asked(text, reference, None));
        let expected: Vec<&str> = expected.lines().map(str::trim).collect();
        assert_eq!(shown.trim(), expected.join("\n").trim(), "\n{shown}");
    }

    fn asked(text: &str, reference: &str, at: Option<&str>) -> Answer {
        let mut facts = Facts::new();
        for recorded in story(text) {
            facts.apply(&recorded);
        }
        let reading = Reading {
            as_of: facts.head().0,
            evaluated_time: moment("2026-02-01 00:00"),
            knowledge: Knowledge::Recorded,
        };
        let question = Question {
            reference: reference.to_owned(),
            at: at.map(moment),
            max_nodes: 0,
        };
        ask(&facts, &reading, &question)
    }

    fn shown(answer: &Answer) -> String {
        let mut out = String::new();
        match &answer.resolution {
            Resolution::Found(_) => {}
            Resolution::NotFound { text, .. } => out += text,
            Resolution::Ambiguous { candidates, count } => {
                let names: Vec<&str> = candidates.iter().map(|c| c.entity.as_str()).collect();
                out += &format!("{count}: {}", names.join(" "));
            }
        }
        for edge in &answer.edges {
            let (from, to) = (short(&edge.from), short(&edge.to));
            out += &format!("{from} {:?} {to}, {}\n", edge.relation, edge.method);
        }
        for missing in &answer.missing {
            out += &format!("? {} {}\n", short(&missing.entity), missing.wanted);
        }
        out
    }

    /// The first two digits of a commit, `#7` for a change, else the last part.
    fn short(entity: &str) -> String {
        let last = entity.rsplit(['/', ':']).next().unwrap_or(entity);
        match entity.split(':').next() {
            Some("commit") => last[..2].to_owned(),
            Some("change") => format!("#{last}"),
            _ => last.to_owned(),
        }
    }

    const SHOP: &str = "
        08:00 commit shop a1
        08:10 deploy shop a1 -> prod ok d-1
        09:00 commit shop b1 parent a1 \"cart: batch lookups\"
        09:05 open shop #7 head b1 \"batch lookups\"
        09:10 commit shop c3 parent a1
        09:10 merge shop #7 as c3 squash commits b1
        09:20 build b-20 of shop c3 makes img
        09:25 artifact img build b-20
        09:30 deploy shop c3 -> staging ok d-2 artifacts img
        09:40 commit shop d4 parent c3
        09:50 deploy shop d4 -> prod ok d-3
        10:00 incident INC-1 reported service shop \"slow\"
        10:10 link l-1 deployment:shop/d-3 -> incident:INC-1 \"graphs\"";

    #[test]
    fn a_squashed_commit_is_followed_through_its_change() {
        check(
            SHOP,
            "b1b1b1b",
            "img DeployedBy d-2, recorded
             b-20 PackagedAs img, recorded
             #7 MergedAs c3, merge revision
             b1 PartOf #7, recorded
             c3 BuiltBy b-20, recorded
             c3 DeployedBy d-2, recorded
             c3 DeployedBy d-3, change set
             d-3 LedTo INC-1, explicit",
        );
    }

    #[test]
    fn a_link_says_who_said_it_and_whether_that_is_verified() {
        let mut events = story(SHOP);
        for recorded in &mut events {
            // Every event has them; links keep them.
            recorded.sender = Some("ci-checkout".into());
            Arc::make_mut(&mut recorded.event).actor = Some("hmac-sha256:ab".into());
        }
        let mut claimed = story(
            "10:20 link l-2 deployment:shop/d-2 -> incident:INC-1 \"a guess\"
             10:30 link l-3 deployment:shop/d-3 -> incident:INC-1 \"too\"",
        );
        for recorded in &mut claimed {
            recorded.position += events.len() as u64;
            Arc::make_mut(&mut recorded.event).identity.id =
                format!("late-{}", recorded.position).into();
        }
        events.extend(claimed);
        let mut facts = Facts::new();
        events.iter().for_each(|recorded| facts.apply(recorded));
        let mut bytes = Vec::new();
        facts.checkpoint(&mut |piece| bytes.extend_from_slice(piece));
        // What a checkpoint brings back says the same.
        for facts in [facts, Facts::restore(&bytes).unwrap()] {
            let authors = authors(&facts, "INC-1");
            let expected = [
                ("d-2", vec![("", "")]),
                ("d-3", vec![("", ""), ("ci-checkout", "hmac-sha256:ab")]),
            ];
            let expected = expected.map(|(from, said)| {
                let said = said.iter().map(|(a, b)| ((*a).to_owned(), (*b).to_owned()));
                (from.to_owned(), said.collect::<Vec<_>>())
            });
            assert_eq!(authors, expected);
        }
    }

    /// Of every edge that somebody linked: where it begins, and who said it, verified and claimed, in order.
    fn authors(facts: &Facts, reference: &str) -> Vec<(String, Vec<(String, String)>)> {
        let reading = Reading {
            as_of: facts.head().0,
            evaluated_time: moment("2026-02-01 00:00"),
            knowledge: Knowledge::Recorded,
        };
        let question = Question {
            reference: reference.to_owned(),
            ..Question::default()
        };
        let edges = ask(facts, &reading, &question).edges.into_iter();
        let linked = edges.filter(|edge| !edge.authors.is_empty()).map(|edge| {
            assert_eq!(edge.relation, Relation::LedTo);
            let said = edge
                .events
                .iter()
                .zip(&edge.authors)
                .map(|(event, author)| {
                    assert_eq!(*event, author.event);
                    (author.verified_sender.clone(), author.claimed_actor.clone())
                });
            let mut said: Vec<_> = said.collect();
            said.sort();
            (short(&edge.from), said)
        });
        linked.collect()
    }

    #[test]
    fn an_incident_leads_back_to_the_changes() {
        check(
            SHOP,
            "INC-1",
            "#7 MergedAs c3, merge revision
             b1 PartOf #7, recorded
             c3 DeployedBy d-3, change set
             d4 DeployedBy d-3, recorded
             d-3 LedTo INC-1, explicit",
        );
    }

    #[test]
    fn what_is_missing_is_said_with_its_remedy() {
        check(
            "08:00 commit shop b2 parent a1 boundary
             08:10 deploy shop -> prod ok d-1
             08:20 gap repository:acme/shop \"shallow clone\" \"git fetch --unshallow\"",
            "b2b2",
            "? b2 change
             ? b2 deployment
             ? b2 parents",
        );
        check("08:10 deploy shop -> prod ok d-1", "d-1", "? d-1 revision");
        let answer = asked("08:10 deploy shop c3 -> prod ok d-1", "c3c3c3c", None);
        let missing: Vec<(&str, &str)> = answer
            .missing
            .iter()
            .map(|edge| (edge.wanted, edge.remedy.as_str()))
            .collect();
        assert_eq!(missing[0].0, "change");
        assert_eq!(
            missing[0].1,
            "emit change.merged with merge_revision and commits"
        );
        assert_eq!(missing[1].0, "commit");
    }

    #[test]
    fn a_rollback_takes_a_commit_out_and_a_later_deployment_brings_it_back() {
        check(
            "08:00 commit shop a1
             08:10 deploy shop a1 -> prod ok d-1
             08:20 commit shop b2 parent a1
             08:20 merge shop #1 as b2
             08:30 deploy shop b2 -> prod ok d-2
             08:40 deploy shop a1 -> prod ok d-3 op rollback rollback-of d-2
             08:50 deploy shop b2 -> prod ok d-4",
            "b2b2",
            "#1 MergedAs b2, merge revision
             b2 DeployedBy d-2, recorded
             b2 DeployedBy d-4, recorded
             d-2 RolledBackBy d-3, recorded",
        );
    }

    #[test]
    fn reverts_fixes_and_picks_are_siblings() {
        check(
            "08:00 commit shop a1
             08:05 merge shop #1 as a1
             08:10 commit shop b2 parent a1 reverts a1
             08:20 commit shop c3 parent b2 fixes a1
             08:30 commit shop d4 picks a1
             08:40 deploy shop d4 -> prod ok d-9",
            "a1a1",
            "#1 MergedAs a1, merge revision
             a1 RevertedBy b2, trailer
             a1 FixedBy c3, trailer
             a1 PickedAs d4, trailer
             d4 DeployedBy d-9, recorded
             ? d4 change",
        );
    }

    #[test]
    fn references_mean_one_thing_or_say_why_not() {
        let found = |reference: &str, expected: &str| {
            let answer = asked(SHOP, reference, None);
            assert_eq!(
                answer.resolution,
                Resolution::Found(expected.to_owned()),
                "{reference}"
            );
        };
        found("#7", "change:acme/shop/7");
        found("shop#7", "change:acme/shop/7");
        found("acme/shop#7", "change:acme/shop/7");
        found("7", "change:acme/shop/7");
        found("d-3", "deployment:shop/d-3");
        found("d:shop@prod", "deployment:shop/d-3");
        found("d:shop@prod~1", "deployment:shop/d-1");
        found("deployment:shop/d-2", "deployment:shop/d-2");
        found("incident:INC-1", "incident:INC-1");
        found("img", "artifact:img");
        found(
            &"b1".repeat(20),
            &format!("commit:acme/shop/{}", "b1".repeat(20)),
        );
        check(SHOP, "op#7", "no change that was known is called `op#7`");
        check(SHOP, "fffff", "nothing that was known is called `fffff`");
        check(
            SHOP,
            "d:shop@prod~2",
            "fewer than 3 successful deployments of `shop` to `prod` were known",
        );
        check(
            "08:00 release shop v1\n08:10 release cart v1",
            "v1",
            "2: release:cart/v1 release:shop/v1",
        );
    }

    #[test]
    fn what_happens_after_the_moment_is_left_out() {
        let at = |moment| asked(SHOP, "c3c3c3c", Some(moment));
        let deployments = |answer: Answer| -> Vec<String> {
            let nodes = answer.nodes.into_iter();
            nodes
                .filter(|node| node.kind == "deployment")
                .map(|node| short(&node.entity))
                .collect()
        };
        assert_eq!(deployments(at("2026-01-05 09:15")), [""; 0]);
        assert_eq!(deployments(at("2026-01-05 09:45")), ["d-2"]);
        assert_eq!(deployments(at("2026-01-05 23:00")), ["d-2", "d-3"]);
    }

    #[test]
    fn states_are_in_the_words_of_the_field() {
        let answer = asked(
            "08:00 deploy shop -> prod failed d-1 attempt 1
             08:05 deploy shop -> prod ok d-1 attempt 2
             08:06 deploy shop -> prod failed d-1 attempt 3
             08:10 deploy shop -> prod ok d-2 rollback-of d-1
             08:20 incident INC-1 reported \"first\"
             08:30 incident INC-1 resolved
             08:40 link l-1 deployment:shop/d-1 -> incident:INC-1
             08:41 link l-2 deployment:shop/d-1 -> service:cart
             08:42 link l-3 deployment:shop/d-1 -> team:payments
             08:43 unlink l-3",
            "d-1",
            None,
        );
        let states: Vec<(String, &str, &str)> = answer
            .nodes
            .iter()
            .map(|node| (short(&node.entity), node.title.as_str(), node.state))
            .collect();
        let expected = [
            ("d-1", "d-1", "rolled back"),
            ("d-2", "d-2", "success"),
            ("INC-1", "first", "resolved"),
            ("cart", "service:cart", ""),
        ];
        assert_eq!(
            states,
            expected.map(|(name, title, state)| (name.to_owned(), title, state))
        );
        assert_eq!(answer.nodes[2].events.len(), 2);
    }
}
