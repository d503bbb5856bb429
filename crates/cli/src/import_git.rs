//! Reads real history, through the git command, into events: commits with their files, changes, releases, and
//! deployments where tags stand for them.
//!
//! Refuses to know: ledgers, networks, clocks. Events leave encoded, in batches, in an order in which parents come
//! before children; the same repository gives the same bytes, so that reading it again gives duplicates only, and a
//! repository that grew, or was deepened, gives new events and never a conflict.
//!
//! Reading order: [`command`] (git, under fixed settings), [`object`] and [`numstat`] (what it writes), [`graph`] (who
//! is whose parent), [`refs`] (names), [`walk`] (commits as they stream by), [`message`], [`change`], [`version`] and
//! [`lineage`] (what history means), [`events`] and [`person`] (our words for it), [`outbox`].

mod change;
mod command;
mod events;
mod graph;
mod lineage;
mod message;
mod numstat;
mod object;
mod outbox;
mod person;
mod reader;
mod refs;
mod text;
mod version;
mod walk;

#[cfg(test)]
mod tests;

use std::path::PathBuf;

use bytes::Bytes;
use waybill_core::Entity;

pub(crate) use command::Error;
use command::Git;
use graph::Graph;
use refs::Refs;

/// What to read, and under which names.
#[derive(Clone, Debug)]
pub(crate) struct Options {
    /// A directory in a repository, or a bare one.
    pub(crate) repository: PathBuf,
    /// The repository's name, where it is not the one that its remote gives it.
    pub(crate) name: Option<String>,
    /// The service that tags are releases of, whatever component they name. Else that component, or the last part of
    /// the repository's name.
    pub(crate) service: Option<String>,
    /// Also record each tag of a released version as a deployment, marked inferred.
    pub(crate) tags_as_deployments: bool,
    /// The environment of those deployments.
    pub(crate) environment: String,
    /// Which tags count, as a glob of `*` and `?`; all where none is given.
    pub(crate) tag_pattern: Option<String>,
    /// Keep the names of persons beside the keyed hashes of their e-mail addresses.
    pub(crate) with_names: bool,
    /// The ledger's key for those hashes (LEDGER E10).
    pub(crate) actor_key: [u8; 32],
    /// Read every branch, and not only the one that is checked out, the default one and what is tagged.
    pub(crate) all_refs: bool,
}

/// How far reading has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Progress {
    /// Commits that were looked at.
    pub(crate) commits: u64,
    /// Commits that there are.
    pub(crate) total: u64,
}

/// What was found. Counts are of the history, known before or not; `events` of what went out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Summary {
    pub(crate) commits: u64,
    /// Commits that were not known before.
    pub(crate) commits_new: u64,
    pub(crate) changes: u64,
    pub(crate) reverts: u64,
    /// Tags, each a release.
    pub(crate) releases: u64,
    pub(crate) deployments: u64,
    /// Commits below which a shallow clone has nothing.
    pub(crate) boundaries: u64,
    /// Commits with a time outside 1970 to 2200.
    pub(crate) times_out_of_range: u64,
    pub(crate) events: u64,
    /// What could not be read, and what would mend it: sentences for people.
    pub(crate) notes: Vec<String>,
}

/// Why reading stopped.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ReadError<E> {
    /// The repository cannot be read.
    #[error(transparent)]
    Git(#[from] Error),
    /// Whoever takes the events wants no more.
    #[error("the events were not taken")]
    Sink(E),
}

/// A repository whose names and shape are known, ready to be read.
#[derive(Debug)]
pub(crate) struct Repository {
    options: Options,
    git: Git,
    refs: Refs,
    graph: Graph,
    entity: Entity,
    service: String,
    source: String,
    partial: bool,
}

impl Repository {
    /// Opens the repository that [`Options::repository`] is in, and reads its refs and who is whose parent.
    ///
    /// # Errors
    /// No git, no repository there, one that git will not read, or one that has no name.
    pub(crate) fn open(options: Options) -> Result<Self, Error> {
        let git = Git::open(&options.repository)?;
        let refs = Refs::read(&git, options.tag_pattern.as_deref(), options.all_refs)?;
        let graph = Graph::read(&git, &refs.tips, &refs::shallow(&git)?)?;
        let entity = refs::repository(&git, options.name.as_deref(), &refs, &graph)?;
        let service = match &options.service {
            Some(service) => service.clone(),
            None => refs::service(&git, &entity)?,
        };
        let partial = refs::is_partial(&git)?;
        let source = source(&entity, options.with_names);
        Ok(Self {
            options,
            git,
            refs,
            graph,
            entity,
            service,
            source,
            partial,
        })
    }

    /// The repository's name.
    pub(crate) fn entity(&self) -> &Entity {
        &self.entity
    }

    /// The service that tags without a component are releases of.
    pub(crate) fn service(&self) -> &str {
        &self.service
    }

    /// The source of every event that comes from here.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// The commit that is checked out; none where nothing is.
    pub(crate) fn head(&self) -> Option<String> {
        self.refs.head.map(|head| head.to_string())
    }

    /// Reads it all into encoded events, in batches of at most 1,000 events and 4 MiB.
    ///
    /// `known` tells of an event id under [`Repository::source`] whether it is recorded already; those are left out,
    /// and `|_| false` is always right. A gap that was recorded is taken back only if `known` knows it.
    ///
    /// # Errors
    /// What `sink` returns, or what went wrong with git. What went out before stands, and reading again goes on.
    pub(crate) fn read<E>(
        &self,
        known: &dyn Fn(&str) -> bool,
        sink: &mut dyn FnMut(Vec<Bytes>) -> Result<(), E>,
        progress: &mut dyn FnMut(Progress),
    ) -> Result<Summary, ReadError<E>> {
        reader::read(self, known, sink, progress)
    }
}

/// Who says so: git, of one repository. Events with names are other witnesses of the same facts, and win over those
/// without because their source sorts after.
fn source(repository: &Entity, with_names: bool) -> String {
    let names = if with_names { "?names" } else { "" };
    events::bounded(&format!("git:{}{names}", repository.path()))
}
