//! Deployments.
use std::time::Duration;

use waybill_proto::pb::{self, deployment_event, event::Payload};

use super::{Draft, artifact, duration, revision};

/// A deployment of a service to an environment, from request to finish.
///
/// ```
/// use std::time::Duration;
/// use waybill_client::{Deployment, Outcome};
///
/// let deployment = Deployment::new("d-881", "checkout", "production")
///     .revision("github.com/acme/shop", "4f1c2d3");
/// let started = deployment.started();
/// let finished = deployment.elapsed(Duration::from_secs(90)).finished(Outcome::Success);
/// ```
#[derive(Clone, Debug)]
pub struct Deployment {
    info: pb::DeploymentInfo,
    end: pb::DeploymentFinished,
}

impl Deployment {
    /// Names the deployment, the same from request to finish, and says what is deployed where.
    #[must_use]
    pub fn new(
        deployment_id: impl Into<String>,
        service: impl Into<String>,
        environment: impl Into<String>,
    ) -> Self {
        let info = pb::DeploymentInfo {
            deployment_id: deployment_id.into(),
            service: service.into(),
            environment: environment.into(),
            ..Default::default()
        };
        Self {
            info,
            end: pb::DeploymentFinished::default(),
        }
    }

    texts! { info:
        /// The deployment that ran there before.
        previous_deployment_id,
        /// The deployment that this one takes back.
        rollback_of,
        /// What set it off.
        trigger,
        /// The version that runs afterwards.
        version,
        /// A page for people.
        uri,
    }

    /// What is done; a plain deploy where nothing is said.
    #[must_use]
    pub fn operation(mut self, operation: pb::DeploymentOperation) -> Self {
        self.info.operation = operation.into();
        self
    }

    /// How it is rolled out.
    #[must_use]
    pub fn strategy(mut self, strategy: pb::DeploymentStrategy) -> Self {
        self.info.strategy = strategy.into();
        self
    }

    /// Adds a revision that the environment runs afterwards, one for each repository.
    #[must_use]
    pub fn revision(mut self, repository: impl Into<String>, id: impl Into<String>) -> Self {
        self.info.revisions.push(revision(repository, id));
        self
    }

    /// Adds a revision that the environment ran before, as far as you know it.
    #[must_use]
    pub fn previous_revision(
        mut self,
        repository: impl Into<String>,
        id: impl Into<String>,
    ) -> Self {
        self.info.previous_revisions.push(revision(repository, id));
        self
    }

    /// The revision of the configuration, where that has a repository of its own.
    #[must_use]
    pub fn config_revision(mut self, repository: impl Into<String>, id: impl Into<String>) -> Self {
        self.info.config_revision = Some(revision(repository, id));
        self
    }

    /// Adds an artifact that is deployed. The digest reads `sha256:<64 hex digits>` and may be empty.
    #[must_use]
    pub fn artifact(mut self, id: impl Into<String>, digest: impl Into<String>) -> Self {
        self.info.artifacts.push(artifact(id, digest));
        self
    }

    /// Where it ran.
    #[must_use]
    pub fn run(mut self, run: pb::RunRef) -> Self {
        self.info.run = Some(run);
        self
    }

    /// How long it took; said when it finishes.
    #[must_use]
    pub fn elapsed(mut self, elapsed: Duration) -> Self {
        self.end.span.get_or_insert_default().elapsed = Some(duration(elapsed));
        self
    }

    /// Exit code of the command that deployed; said when it finishes.
    #[must_use]
    pub fn exit_code(mut self, exit_code: i32) -> Self {
        self.end.exit_code = exit_code;
        self
    }

    /// The pipeline goes on although it may fail; said when it finishes.
    #[must_use]
    pub fn allowed_to_fail(mut self) -> Self {
        self.end.allowed_to_fail = true;
        self
    }

    /// Somebody wants it.
    #[must_use]
    pub fn requested(&self) -> Draft {
        let deployment = Some(self.info.clone());
        draft(deployment_event::Event::Requested(
            pb::DeploymentRequested { deployment },
        ))
    }

    /// It runs.
    #[must_use]
    pub fn started(&self) -> Draft {
        let deployment = Some(self.info.clone());
        draft(deployment_event::Event::Started(pb::DeploymentStarted {
            deployment,
        }))
    }

    /// It has come this far: step `index` of `count`, and the share of traffic that the new version has, 0 to 1.
    #[must_use]
    pub fn progressed(&self, index: u32, count: u32, traffic_ratio: f64) -> Draft {
        draft(deployment_event::Event::Progressed(
            pb::DeploymentProgressed {
                deployment: Some(self.info.clone()),
                step_index: index,
                step_count: count,
                traffic_ratio,
            },
        ))
    }

    /// It ended.
    #[must_use]
    pub fn finished(&self, outcome: pb::Outcome) -> Draft {
        draft(deployment_event::Event::Finished(pb::DeploymentFinished {
            deployment: Some(self.info.clone()),
            outcome: outcome.into(),
            ..self.end.clone()
        }))
    }

    /// Another deployment took its place before it ended.
    #[must_use]
    pub fn superseded(&self, superseded_by: impl Into<String>) -> Draft {
        draft(deployment_event::Event::Superseded(
            pb::DeploymentSuperseded {
                deployment: Some(self.info.clone()),
                superseded_by: superseded_by.into(),
            },
        ))
    }
}

fn draft(event: deployment_event::Event) -> Draft {
    Draft::of(Payload::Deployment(pb::DeploymentEvent {
        event: Some(event),
    }))
}
