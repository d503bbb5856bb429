//! Where an event comes from: the CI run, the repository and the revision, as far as somebody knows.
use waybill_proto::pb::{Revision, RunRef, TraceContext};

use crate::{
    args::Stamp,
    context::{Context, var},
    exit::Failure,
    git,
};

use super::super::identity;

/// What is known without being typed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Origin {
    /// The CI run; `None` outside of CI.
    pub(super) run: Option<RunRef>,
    pub(super) repository: Option<String>,
    /// A full commit id, or what was typed.
    pub(super) revision: Option<String>,
    /// What CI calls the revision, where that is no commit id and nobody knows better.
    pub(super) no_revision: Option<String>,
    pub(super) trace_context: Option<TraceContext>,
}

impl Origin {
    /// Flags first, then CI, then git.
    pub(crate) fn detect(stamp: &Stamp) -> Self {
        let ci = crate::ci_env::detect(&var);
        let (run, ci_repository, ci_revision) = match ci {
            Some(ci) => (
                Some(RunRef {
                    provider: ci.provider,
                    run_id: ci.run_id,
                    attempt: ci.attempt,
                    job: ci.job,
                    uri: ci.uri,
                }),
                ci.repository,
                ci.revision,
            ),
            None => (None, None, None),
        };
        let typed = stamp
            .revision
            .as_deref()
            .map(|text| git::revision(text).unwrap_or_else(|| text.to_ascii_lowercase()));
        let (ci_revision, no_revision) = match ci_revision {
            Some(Ok(id)) => (Some(id), None),
            Some(Err(said)) => (None, Some(said)),
            None => (None, None),
        };
        let revision = typed.or(ci_revision).or_else(|| git::revision("HEAD"));
        Self {
            run,
            repository: stamp
                .repository
                .clone()
                .or(ci_repository)
                .or_else(git::remote)
                .or_else(git::root)
                .map(|name| normal(&name)),
            no_revision: no_revision.filter(|_| revision.is_none()),
            revision,
            trace_context: trace_context(&var),
        }
    }

    /// Repository and revision together; `None` where one of them is not known.
    pub(super) fn head(&self) -> Option<Revision> {
        Some(Revision {
            repository: self.repository.clone()?,
            revision: self.revision.clone()?,
        })
    }

    /// A revision that was typed says nothing without its repository, and is not dropped.
    pub(super) fn check(&self, flag: &str, typed: Option<&str>) -> Result<(), Failure> {
        if typed.is_none() || self.repository.is_some() {
            return Ok(());
        }
        Err(Failure::usage(format!("{flag} needs --repository"))
            .with_hint("neither CI nor git knows a repository here: --repository HOST/OWNER/NAME"))
    }

    /// Who says so.
    pub(super) fn source(&self, stamp: &Stamp, context: &Context) -> String {
        if let Some(source) = context.setting(stamp.source.as_deref(), "source") {
            return source;
        }
        match &self.run {
            Some(run) => {
                let repository = self.repository.as_deref().unwrap_or("unknown");
                format!(
                    "/ci/{}/{}",
                    run.provider,
                    repository.strip_prefix("repository:").unwrap_or(repository)
                )
            }
            None => identity::source(context),
        }
    }

    /// What they call it: the same when a CI step runs again, new every time elsewhere.
    pub(super) fn id(&self, stamp: &Stamp, kind: &str, subject: &str) -> Result<String, Failure> {
        match (&stamp.id, self.run_parts()) {
            (Some(id), _) => Ok(id.clone()),
            (None, Some([provider, run, attempt, job])) => Ok(identity::join(&[
                &provider, &run, &attempt, &job, kind, subject,
            ])),
            (None, None) => Ok(identity::join(&[
                "cli",
                kind,
                subject,
                &identity::random_hex()?,
            ])),
        }
    }

    /// A name for a piece of work: as given, or made from the CI run, or from the event's own id, so that what is said
    /// again is said the same.
    pub(super) fn work_id(
        &self,
        stamp: &Stamp,
        given: Option<&str>,
        part: &str,
    ) -> Result<String, Failure> {
        if let Some(given) = given {
            return Ok(given.to_owned());
        }
        let Some([provider, run, attempt, job]) = self.run_parts() else {
            return stamp
                .id
                .as_ref()
                .map_or_else(identity::random_hex, |id| Ok(identity::name(&[id, part])));
        };
        let parts = [provider.as_str(), &run, &attempt, &job, part];
        Ok(identity::name(if part.is_empty() {
            &parts[..4]
        } else {
            &parts
        }))
    }

    fn run_parts(&self) -> Option<[String; 4]> {
        let run = self.run.as_ref()?;
        Some([
            run.provider.clone(),
            run.run_id.clone(),
            run.attempt.to_string(),
            run.job.clone(),
        ])
    }
}

/// A repository's name as the ledger knows it; a clone URL's user and password never leave this machine.
pub(super) fn normal(name: &str) -> String {
    match waybill_core::Entity::repository(name) {
        Ok(entity) if entity.path().contains('%') => entity.as_str().to_owned(),
        Ok(entity) => entity.path().to_owned(),
        // The ledger will say what is wrong with it.
        Err(_) => name.to_owned(),
    }
}

/// W3C trace context, as tools hand it on through the environment.
fn trace_context(var: &dyn Fn(&str) -> Option<String>) -> Option<TraceContext> {
    let traceparent = var("TRACEPARENT").filter(|text| !text.is_empty())?;
    Some(TraceContext {
        traceparent,
        tracestate: var("TRACESTATE").unwrap_or_default(),
        baggage: var("BAGGAGE").unwrap_or_default(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn in_ci() -> Origin {
        let run = RunRef {
            provider: "github-actions".to_owned(),
            run_id: "17".to_owned(),
            attempt: 2,
            job: "deploy".to_owned(),
            uri: String::new(),
        };
        Origin {
            run: Some(run),
            ..Origin::default()
        }
    }

    #[test]
    fn a_step_that_runs_again_says_the_same_id() {
        let id = |kind| {
            in_ci()
                .id(&Stamp::default(), kind, "checkout@prod")
                .unwrap()
        };
        assert_eq!(
            id("deployment.finished"),
            "github-actions:17:2:deploy:deployment.finished:checkout@prod"
        );
        assert_eq!(id("deployment.finished"), id("deployment.finished"));
        assert_ne!(id("deployment.finished"), id("deployment.started"));
    }

    #[test]
    fn outside_of_ci_every_event_is_a_new_one() {
        let id = || {
            Origin::default()
                .id(&Stamp::default(), "incident.detected", "INC-1")
                .unwrap()
        };
        assert_ne!(id(), id());
        assert!(id().starts_with("cli:incident.detected:INC-1:"));
    }

    #[test]
    fn one_job_may_deploy_to_two_environments() {
        let id = |given, part| in_ci().work_id(&Stamp::default(), given, part).unwrap();
        assert_eq!(id(None, "prod"), "github-actions.17.2.deploy.prod");
        assert_ne!(id(None, "staging"), id(None, "prod"));
        assert_eq!(id(Some("d-1"), "prod"), "d-1");
    }

    #[test]
    fn what_is_said_again_under_one_id_is_the_same_work() {
        let stamp = Stamp {
            id: Some("release-7".to_owned()),
            ..Stamp::default()
        };
        let id = |stamp: &Stamp| Origin::default().work_id(stamp, None, "prod").unwrap();
        assert_eq!(id(&stamp), "release-7.prod");
        assert_ne!(id(&Stamp::default()), id(&Stamp::default()));
    }

    #[test]
    fn a_clone_urls_password_stays_here() {
        assert_eq!(
            normal("https://x-access-token:secret@github.com/acme/shop.git"),
            "github.com/acme/shop"
        );
        assert_eq!(
            normal("git@github.com:acme/shop.git"),
            "github.com/acme/shop"
        );
        assert_eq!(
            normal("github.com/acme/a shop"),
            "repository:github.com/acme/a%20shop"
        );
    }

    #[test]
    fn trace_context_comes_from_the_environment() {
        let var = |name: &str| (name == "TRACEPARENT").then(|| "00-aa-bb-01".to_owned());
        assert_eq!(trace_context(&var).unwrap().traceparent, "00-aa-bb-01");
        assert!(trace_context(&|_| None).is_none());
    }
}
