//! Commits that are merged and not yet deployed.
use super::{Counted, gather::Gathering};
use crate::{
    facts::{claims::Family, text::Symbol},
    known::{Space, time_of},
};

/// Finds them for every repository that runs in the lane, from the changes that were merged in the window.
pub(super) fn pending(gathering: &mut Gathering<'_>) {
    let known = gathering.known;
    let mut repositories: Vec<Symbol> = gathering.sets.repositories().collect();
    repositories.sort_by_cached_key(|repository| known.text(*repository));
    if repositories.is_empty() {
        gathering.out.pending_unknown =
            Some("no deployment says what it runs, so pending commits are not known");
        return;
    }
    let mut any_merge = false;
    for repository in repositories {
        let merged = merged(gathering, repository);
        any_merge |= !merged.is_empty();
        count(gathering, repository, &merged);
    }
    if !any_merge {
        gathering.out.pending_unknown = Some(
            "no change was merged in the window with a merge revision, so pending commits are not known; \
             emit change.merged with merge_revision",
        );
    }
}

/// Merge commits of the window's changes.
fn merged(gathering: &Gathering<'_>, repository: Symbol) -> Vec<u32> {
    let known = gathering.known;
    let facts = known.facts;
    let window = gathering.window;
    let merges = facts.lanes.merges(repository, window.start, window.end);
    let rows = merges.filter(|slot| known.past(*slot)).filter_map(|slot| {
        let row = facts.claims.row(slot);
        let change = row.family == Family::Change;
        change.then(|| facts.changes[row.content as usize].merge)
    });
    rows.filter_map(|merge| known.resolve(merge)).collect()
}

fn count(gathering: &mut Gathering<'_>, repository: Symbol, merged: &[u32]) {
    let known = gathering.known;
    let carried = &gathering.carried;
    let open: Vec<u32> = merged
        .iter()
        .copied()
        .filter(|node| !carried.contains_key(node) && known.commit(*node).is_some())
        .collect();
    if open.is_empty() {
        return;
    }
    let Some(ever) = gathering.sets.ever(repository) else {
        gathering.out.pending_unknown =
            Some("no deployed commit is recorded, so pending commits are not known");
        return;
    };
    let range = known.range(&mut Space::default(), &open, &[], ever);
    if !range.complete {
        gathering.out.pending_unknown = Some(
            "a commit behind a merged change is not recorded, so pending commits are not known",
        );
        return;
    }
    for node in range.commits {
        let Some(row) = known.commit(node) else {
            continue;
        };
        if known.facts.graph.parents_of(row).len() > 1 {
            continue;
        }
        gathering.out.pending_count += 1;
        if gathering.explain {
            let start = gathering.begun(row);
            gathering.out.lead_time.pending.push(Counted {
                event: known.event(row.slot),
                entity: known.commit_name(node),
                occur_time: start.and_then(time_of),
                elapsed: start.map(|start| known.now.saturating_sub(start)),
                deployment: String::new(),
            });
        }
    }
}
