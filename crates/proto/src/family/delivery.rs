//! `build.*`, `artifact.*`, `release.*`
use waybill_core::{
    EntityKind, Refusal,
    event::{Artifact, ArtifactStep, Build, BuildStep, Outcome, Payload, Release, ReleaseStep},
};

use super::{About, part};
use crate::{
    field,
    pb::{self, artifact_event, build_event, release_event},
};

pub(crate) fn build(event: &build_event::Event, about: &mut About) -> Result<Payload, Refusal> {
    use build_event::Event;
    let (id, run, sources) = match event {
        Event::Queued(e) => (&e.build_id, &e.run, &e.source_revisions),
        Event::Started(e) => (&e.build_id, &e.run, &e.source_revisions),
        Event::Finished(e) => (&e.build_id, &e.run, &e.source_revisions),
    };
    let id = field::name(id, "build_id")?;
    let run = field::run(run.as_ref())?;
    about
        .key()
        .text(run.provider)
        .text(id)
        .number(run.attempt.into());
    about.entities.named(EntityKind::Build, id, "build_id")?;
    let source_revisions = about.entities.revisions(sources, "source_revisions")?;
    let (step, artifacts) = match event {
        Event::Queued(_) => (BuildStep::Queued, vec![]),
        Event::Started(_) => (BuildStep::Started, vec![]),
        Event::Finished(e) => {
            field::said(e.outcome, "outcome")?;
            field::span(e.span.as_ref())?;
            (
                BuildStep::Finished(outcome(e.outcome)),
                about.entities.artifacts(&e.artifacts, "artifacts")?,
            )
        }
    };
    Ok(Payload::Build(Box::new(Build {
        build_id: id.into(),
        source_revisions,
        artifacts,
        step,
    })))
}

pub(crate) fn artifact(
    event: &artifact_event::Event,
    about: &mut About,
) -> Result<Payload, Refusal> {
    use artifact_event::Event;
    let none = &[][..];
    let (artifact, registry, sources, step) = match event {
        Event::Packaged(e) => (
            &e.artifact,
            "",
            &e.source_revisions[..],
            ArtifactStep::Packaged,
        ),
        Event::Signed(e) => (&e.artifact, "", none, ArtifactStep::Signed),
        Event::Attested(e) => (
            &e.artifact,
            "",
            &e.source_revisions[..],
            ArtifactStep::Attested,
        ),
        Event::Published(e) => (&e.artifact, &e.registry[..], none, ArtifactStep::Published),
        Event::Downloaded(e) => (&e.artifact, &e.registry[..], none, ArtifactStep::Downloaded),
        Event::Deleted(e) => (&e.artifact, &e.registry[..], none, ArtifactStep::Deleted),
    };
    let artifact = field::artifact(artifact.as_ref(), "artifact")?;
    about.entities.artifact(&artifact, "artifact")?;
    let registry = field::reference_if_any(registry, "registry")?.unwrap_or_default();
    let name = artifact
        .digest
        .as_deref()
        .or(artifact.id.as_deref())
        .unwrap_or_default();
    about.key().text(name).text(registry);
    let build_id = artifact_details(event, about)?;
    let source_revisions = about.entities.revisions(sources, "source_revisions")?;
    Ok(Payload::Artifact(Box::new(Artifact {
        artifact,
        source_revisions,
        build_id: build_id.map(Into::into),
        step,
    })))
}

/// Checks what only one predicate has, completes the natural key, and gives the build that made the artifact.
fn artifact_details<'e>(
    event: &'e artifact_event::Event,
    about: &mut About,
) -> Result<Option<&'e str>, Refusal> {
    use artifact_event::Event;
    let occur_time = about.occur_time;
    match event {
        Event::Packaged(e) => {
            field::reference_if_any(&e.sbom_uri, "sbom_uri")?;
            about
                .entities
                .named_if_any(EntityKind::Build, &e.build_id, "build_id")?;
            return field::name_if_any(&e.build_id, "build_id");
        }
        Event::Signed(e) if e.signature.is_empty() => return Err(field::missing("signature")),
        Event::Signed(e) => {
            about.extend_key(|key| key.text(&e.signature));
        }
        Event::Attested(e) => {
            field::reference_if_any(&e.predicate_type, "predicate_type")?;
            field::digest_if_any(&e.statement_digest, "statement_digest")?;
            about.extend_key(|key| key.text(&e.predicate_type).bytes(&e.statement_digest));
        }
        Event::Published(e) => {
            field::reference_if_any(&e.sbom_uri, "sbom_uri")?;
            field::actor(e.user.as_ref(), "user")?;
        }
        Event::Downloaded(e) => {
            field::actor(e.user.as_ref(), "user")?;
            about.extend_key(|key| key.moment(occur_time));
        }
        Event::Deleted(e) => {
            field::actor(e.user.as_ref(), "user")?;
            about.extend_key(|key| key.moment(occur_time));
        }
    }
    Ok(None)
}

pub(crate) fn release(event: &release_event::Event, about: &mut About) -> Result<Payload, Refusal> {
    use release_event::Event;
    let (info, tag, step) = match event {
        Event::Created(e) => (&e.release, "", ReleaseStep::Created),
        Event::Published(e) => (&e.release, "", ReleaseStep::Published),
        Event::Withdrawn(e) => (&e.release, "", ReleaseStep::Withdrawn),
        Event::Tagged(e) => (&e.release, &e.tag[..], ReleaseStep::Tagged),
    };
    let info = part(info.as_ref(), "release")?;
    field::reference_if_any(tag, "tag")?;
    let release = release_info(info, step, about).map_err(|refusal| refusal.within("release"))?;
    let key = about.key();
    key.text(&release.service).text(&release.version);
    if step == ReleaseStep::Tagged {
        // A tag that moves is another fact.
        key.text(tag);
        for revision in &release.revisions {
            key.text(revision.repository.as_str()).text(&revision.id);
        }
    }
    Ok(Payload::Release(Box::new(release)))
}

fn release_info(
    info: &pb::ReleaseInfo,
    step: ReleaseStep,
    about: &mut About,
) -> Result<Release, Refusal> {
    let service = field::name(&info.service, "service")?;
    let version = field::name(&info.version, "version")?;
    about
        .entities
        .within(EntityKind::Release, service, version, "version")?;
    about
        .entities
        .named(EntityKind::Service, service, "service")?;
    field::reference_if_any(&info.uri, "uri")?;
    field::each(&info.intents, "intents", super::described::intent)?;
    Ok(Release {
        service: service.into(),
        version: version.into(),
        revisions: about.entities.revisions(&info.revisions, "revisions")?,
        changes: field::names(&info.changes, "changes")?,
        previous_version: field::shared_if_any(&info.previous_version, "previous_version")?,
        step,
    })
}

/// How something ended; numbers newer than this version are unknown.
pub(crate) fn outcome(number: i32) -> Outcome {
    match pb::Outcome::try_from(number) {
        Ok(pb::Outcome::Success) => Outcome::Success,
        Ok(pb::Outcome::Failure) => Outcome::Failure,
        Ok(pb::Outcome::Error) => Outcome::Error,
        Ok(pb::Outcome::Timeout) => Outcome::Timeout,
        Ok(pb::Outcome::Cancelled) => Outcome::Cancelled,
        Ok(pb::Outcome::Skipped) => Outcome::Skipped,
        Ok(pb::Outcome::Aborted) => Outcome::Aborted,
        Ok(pb::Outcome::Unspecified) | Err(_) => Outcome::Unknown,
    }
}
