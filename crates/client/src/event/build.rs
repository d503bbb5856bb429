//! Builds.
use std::time::Duration;

use waybill_proto::pb::{self, build_event, event::Payload};

use super::{Draft, artifact, duration, revision};

/// A build: queued, started, finished.
///
/// ```
/// use waybill_client::{Build, Outcome};
///
/// let build = Build::new("4711").source("github.com/acme/shop", "4f1c2d3");
/// let draft = build.artifact("pkg:oci/shop@1.4", "").finished(Outcome::Success);
/// ```
#[derive(Clone, Debug)]
pub struct Build {
    all: pb::BuildFinished,
}

impl Build {
    /// Names the build, the same from queue to finish.
    #[must_use]
    pub fn new(build_id: impl Into<String>) -> Self {
        Self {
            all: pb::BuildFinished {
                build_id: build_id.into(),
                ..Default::default()
            },
        }
    }

    /// Where it ran.
    #[must_use]
    pub fn run(mut self, run: pb::RunRef) -> Self {
        self.all.run = Some(run);
        self
    }

    /// Adds a revision that it is built from.
    #[must_use]
    pub fn source(mut self, repository: impl Into<String>, id: impl Into<String>) -> Self {
        self.all.source_revisions.push(revision(repository, id));
        self
    }

    /// Adds an artifact that it made; said when it finishes. The digest reads `sha256:<64 hex digits>` and may be empty.
    #[must_use]
    pub fn artifact(mut self, id: impl Into<String>, digest: impl Into<String>) -> Self {
        self.all.artifacts.push(artifact(id, digest));
        self
    }

    /// How long it ran; said when it finishes.
    #[must_use]
    pub fn elapsed(mut self, elapsed: Duration) -> Self {
        self.all.span.get_or_insert_default().elapsed = Some(duration(elapsed));
        self
    }

    /// How long it waited before; said when it finishes.
    #[must_use]
    pub fn queued_for(mut self, queued: Duration) -> Self {
        self.all.span.get_or_insert_default().queued = Some(duration(queued));
        self
    }

    /// It waits.
    #[must_use]
    pub fn queued(&self) -> Draft {
        let pb::BuildFinished {
            build_id,
            run,
            source_revisions,
            ..
        } = self.all.clone();
        draft(build_event::Event::Queued(pb::BuildQueued {
            build_id,
            run,
            source_revisions,
        }))
    }

    /// It runs.
    #[must_use]
    pub fn started(&self) -> Draft {
        let pb::BuildFinished {
            build_id,
            run,
            source_revisions,
            ..
        } = self.all.clone();
        draft(build_event::Event::Started(pb::BuildStarted {
            build_id,
            run,
            source_revisions,
        }))
    }

    /// It ended.
    #[must_use]
    pub fn finished(&self, outcome: pb::Outcome) -> Draft {
        let finished = pb::BuildFinished {
            outcome: outcome.into(),
            ..self.all.clone()
        };
        draft(build_event::Event::Finished(finished))
    }
}

fn draft(event: build_event::Event) -> Draft {
    Draft::of(Payload::Build(pb::BuildEvent { event: Some(event) }))
}
