//! From commits that stream by to events that leave.
use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use prost::Message as _;
use prost_types::Timestamp;
use waybill_proto::pb::CommitFile;

use super::{
    Progress, ReadError, Repository, Summary,
    change::{self, Mention},
    events::{self, Before, Brought, Totals, Voice},
    graph::Side,
    lineage::{self, Previous},
    message::Message,
    object::ObjectId,
    outbox::Outbox,
    person::Persons,
    text,
    walk::{self, Files, Seen, Want},
};

/// Most bytes of files in one event, far enough below the limit for the rest of a commit.
const FILES_BYTES_MAX: usize = 128 * 1024;
/// Most commits of one change that are listed.
const CHANGE_COMMITS_MAX: usize = 900;
/// Progress is told once in so many commits.
const PROGRESS_EVERY: u64 = 64;

/// Reads the whole of `repository`; see [`Repository::read`].
pub(super) fn read<E>(
    repository: &Repository,
    known: &dyn Fn(&str) -> bool,
    sink: &mut dyn FnMut(Vec<Bytes>) -> Result<(), E>,
    progress: &mut dyn FnMut(Progress),
) -> Result<Summary, ReadError<E>> {
    let mut reader = Reader::new(repository, known, sink);
    let total = reader.repository.graph.len() as u64;
    let wants: Vec<Want> = repository
        .graph
        .numbers()
        .map(|number| reader.want(number))
        .collect();
    progress(Progress { commits: 0, total });
    walk::commits::<ReadError<E>>(
        &repository.git,
        &repository.graph,
        &wants,
        &mut |seen, files| {
            reader.commit(&seen, files)?;
            if reader.summary.commits.is_multiple_of(PROGRESS_EVERY) {
                progress(Progress {
                    commits: reader.summary.commits,
                    total,
                });
            }
            Ok(())
        },
    )?;
    progress(Progress {
        commits: total,
        total,
    });
    reader.tags()?;
    reader.finish()
}

struct Reader<'r, E> {
    repository: &'r Repository,
    known: &'r dyn Fn(&str) -> bool,
    outbox: Outbox<'r, E>,
    voice: Voice,
    summary: Summary,
    mainline: HashSet<u32>,
    /// Times of the commits that tags name.
    tagged: HashMap<ObjectId, Option<Timestamp>>,
}

impl<'r, E> Reader<'r, E> {
    fn new(
        repository: &'r Repository,
        known: &'r dyn Fn(&str) -> bool,
        sink: &'r mut dyn FnMut(Vec<Bytes>) -> Result<(), E>,
    ) -> Self {
        let options = &repository.options;
        let tip = repository
            .refs
            .mainline
            .and_then(|tip| repository.graph.number(tip));
        Self {
            repository,
            known,
            outbox: Outbox::new(sink),
            voice: Voice {
                source: repository.source.clone(),
                repository: repository.entity.clone(),
                service: repository.service.clone(),
                service_is_told: options.service.is_some(),
                environment: options.environment.clone(),
                persons: Persons::new(options.actor_key, options.with_names),
            },
            summary: Summary::default(),
            mainline: tip
                .into_iter()
                .flat_map(|tip| repository.graph.trunk(tip, &repository.refs.updates))
                .collect(),
            tagged: repository
                .refs
                .tags
                .iter()
                .map(|tag| (tag.commit, None))
                .collect(),
        }
    }

    /// Objects are always read, because what they say of changes depends on what the default branch is today.
    fn want(&self, number: u32) -> Want {
        let id = events::commit_id(self.repository.graph.id(number));
        if (self.known)(&id) {
            Want::Object
        } else {
            Want::Files
        }
    }

    /// One commit. What belongs to it goes out before it, so that a commit that is known is known with all of it.
    fn commit(&mut self, seen: &Seen, files: &mut Files) -> Result<(), ReadError<E>> {
        let commit = &seen.commit;
        let message = Message::parse(&text::in_encoding(
            &commit.message,
            commit.encoding.as_deref(),
        ));
        let time = events::moment(&commit.committer);
        self.summary.commits += 1;
        self.summary.reverts += u64::from(message.reverts_something());
        let in_range = time.is_some() && events::moment(&commit.author).is_some();
        self.summary.times_out_of_range += u64::from(!in_range);
        self.tagged.entry(seen.id).and_modify(|known| *known = time);
        let on_trunk = self.mainline.contains(&seen.number);
        let trunk = on_trunk.then_some(&self.repository.refs.trunk[..]);
        if let Some(mention) = change::mention(&message, commit.parents.len(), trunk) {
            self.change(seen, &mention)?;
        }
        match (seen.wanted, seen.boundary) {
            (Want::Object, _) => Ok(()),
            (Want::Files, true) => self.boundary(seen, &message),
            (Want::Files, false) => self.whole(seen, &message, files),
        }
    }

    fn change(&mut self, seen: &Seen, mention: &Mention) -> Result<(), ReadError<E>> {
        self.summary.changes += 1;
        let brought = self.brought(seen);
        if (self.known)(&Voice::change_id(seen, mention, &brought)) {
            return Ok(());
        }
        let event = self.voice.change(seen, mention, brought);
        self.outbox.push(&event).map_err(ReadError::Sink)
    }

    fn brought(&self, seen: &Seen) -> Brought {
        if seen.commit.parents.len() < 2 {
            return Brought::Squashed;
        }
        let graph = &self.repository.graph;
        let [base, merged, ..] = *graph.parents(seen.number) else {
            return Brought::Unknown;
        };
        match graph.side(base, merged) {
            Side::Known(side) => Brought::Commits {
                first: side
                    .iter()
                    .take(CHANGE_COMMITS_MAX)
                    .map(|number| graph.id(*number).to_string())
                    .collect(),
                count: side.len(),
            },
            Side::TooFar | Side::BeyondBoundary => Brought::Unknown,
        }
    }

    /// A commit at the end of a shallow history: what its object says, and a gap below it.
    fn boundary(&mut self, seen: &Seen, message: &Message) -> Result<(), ReadError<E>> {
        self.summary.boundaries += 1;
        if (self.known)(&events::boundary_id(seen.id)) {
            return Ok(());
        }
        self.summary.commits_new += 1;
        let commit = self
            .voice
            .commit(seen, message, Vec::new(), Totals::default());
        for event in [self.voice.gap(seen), commit] {
            self.outbox.push(&event).map_err(ReadError::Sink)?;
        }
        Ok(())
    }

    fn whole(
        &mut self,
        seen: &Seen,
        message: &Message,
        files: &mut Files,
    ) -> Result<(), ReadError<E>> {
        self.summary.commits_new += 1;
        if (self.known)(&events::gap_id(seen.id)) {
            self.outbox
                .push(&self.voice.gap_closed(seen))
                .map_err(ReadError::Sink)?;
        }
        let (first, totals) = self.files(seen, files)?;
        if files.is_cut() {
            // Nothing is said of a commit of which only a part was read; the walk ends with the reason.
            return Ok(());
        }
        let event = self.voice.commit(seen, message, first, totals);
        self.outbox.push(&event).map_err(ReadError::Sink)
    }

    /// Counts all files, gives those that fit into the commit's own event, and sends the others in parts.
    fn files(
        &mut self,
        seen: &Seen,
        files: &mut Files,
    ) -> Result<(Vec<CommitFile>, Totals), ReadError<E>> {
        let mut totals = Totals::default();
        let (mut first, mut page, mut page_bytes, mut parts) = (None, Vec::new(), 0, 0);
        while let Some(file) = files.next_file() {
            totals.files = totals.files.saturating_add(1);
            totals.added += u64::from(file.added);
            totals.removed += u64::from(file.removed);
            let bytes = file.encoded_len() + 4;
            if page_bytes + bytes > FILES_BYTES_MAX {
                self.page(seen, std::mem::take(&mut page), &mut first, &mut parts)?;
                page_bytes = 0;
            }
            page_bytes += bytes;
            page.push(file);
        }
        if first.is_some() && !files.is_cut() {
            self.page(seen, std::mem::take(&mut page), &mut first, &mut parts)?;
        }
        Ok((first.unwrap_or(page), totals))
    }

    /// Keeps the first full page for the commit's own event, and sends any other.
    fn page(
        &mut self,
        seen: &Seen,
        page: Vec<CommitFile>,
        first: &mut Option<Vec<CommitFile>>,
        parts: &mut u32,
    ) -> Result<(), ReadError<E>> {
        if first.is_none() {
            *first = Some(page);
            return Ok(());
        }
        *parts += 1;
        self.outbox
            .push(&self.voice.commit_files(seen, *parts, page))
            .map_err(ReadError::Sink)
    }

    fn tags(&mut self) -> Result<(), ReadError<E>> {
        let tags = &self.repository.refs.tags;
        let previous = lineage::previous(&self.repository.graph, tags);
        for (tag, previous) in tags.iter().zip(previous) {
            let before = match previous {
                Previous::Tag(index) => Before::Tag(&tags[index]),
                Previous::Nothing => Before::Nothing,
                Previous::Unknown => Before::Unknown,
            };
            let time = self.tagged.get(&tag.commit).copied().flatten();
            self.summary.releases += 1;
            if !(self.known)(&self.voice.release_id(tag, &before)) {
                self.outbox
                    .push(&self.voice.release(tag, time, &before))
                    .map_err(ReadError::Sink)?;
            }
            let released = tag
                .version
                .as_ref()
                .is_some_and(|version| !version.prerelease);
            if !self.repository.options.tags_as_deployments || !released {
                continue;
            }
            self.summary.deployments += 1;
            if !(self.known)(&self.voice.deployment_id(tag, &before)) {
                self.outbox
                    .push(&self.voice.deployment(tag, time, &before))
                    .map_err(ReadError::Sink)?;
            }
        }
        Ok(())
    }

    fn finish(self) -> Result<Summary, ReadError<E>> {
        let mut summary = self.summary;
        let (events, too_large) = self.outbox.finish().map_err(ReadError::Sink)?;
        summary.events = events;
        summary.notes = notes(self.repository, &summary, &too_large);
        Ok(summary)
    }
}

/// What a reader of the figures should know, in sentences.
fn notes(repository: &Repository, summary: &Summary, too_large: &[String]) -> Vec<String> {
    let mut notes = Vec::new();
    if summary.commits == 0 {
        notes.push("there are no commits yet".to_owned());
        return notes;
    }
    notes.push("changes are read from merge commits and from squash titles such as `title (#12)`; a change that was rebased leaves no trace and is not counted".to_owned());
    if summary.boundaries > 0 || repository.graph.has_cut() {
        notes.push("this is a shallow clone: history ends early, and what lies before is recorded as a gap; run `git fetch --unshallow`, then import again".to_owned());
    }
    if repository.partial {
        notes.push("this is a partial clone: git fetches file contents while it compares, which needs the remote and takes long".to_owned());
    }
    if summary.releases == 0 {
        notes.push("there are no tags, so no releases".to_owned());
    }
    if summary.times_out_of_range > 0 {
        notes.push(format!(
            "{} commits have a time outside 1970 to 2200; they are recorded without it",
            summary.times_out_of_range
        ));
    }
    if !too_large.is_empty() {
        notes.push(format!(
            "{} events are larger than a ledger takes and were left out: {}",
            too_large.len(),
            text::shortened(&too_large.join(", "), 400)
        ));
    }
    notes
}
