//! `flag.*`
use waybill_core::{
    EntityKind, Refusal,
    event::{Flag, FlagStep, Payload},
};

use super::{About, part};
use crate::{
    field,
    pb::{self, flag_event::Event},
};

pub(crate) fn read(event: &Event, about: &mut About) -> Result<Payload, Refusal> {
    let info = match event {
        Event::Created(e) => &e.flag,
        Event::Changed(e) => &e.flag,
        Event::Archived(e) => &e.flag,
        Event::ExposureSummarized(e) => &e.flag,
    };
    let info = part(info.as_ref(), "flag")?;
    known(info, about).map_err(|refusal| refusal.within("flag"))?;
    let (step, before, after) = match event {
        Event::Created(_) => (FlagStep::Created, None, None),
        Event::Changed(e) => {
            field::digest_if_any(&e.document_digest_before, "document_digest_before")?;
            let before =
                field::parts_per_million(e.exposure_ratio_before, "exposure_ratio_before")?;
            let after = field::parts_per_million(e.exposure_ratio_after, "exposure_ratio_after")?;
            (FlagStep::Changed, before, after)
        }
        Event::Archived(_) => (FlagStep::Archived, None, None),
        Event::ExposureSummarized(e) => return summarized(e, info, about).map(|()| Payload::Other),
    };
    key(info, about);
    Ok(Payload::Flag(Box::new(Flag {
        flag_key: info.flag_key.as_str().into(),
        environment: info.environment.as_str().into(),
        service: field::text_if_any(&info.service),
        step,
        exposure_before_ppm: before,
        exposure_after_ppm: after,
    })))
}

fn known(info: &pb::FlagInfo, about: &mut About) -> Result<(), Refusal> {
    let flag_key = field::name(&info.flag_key, "flag_key")?;
    let environment = field::name(&info.environment, "environment")?;
    about
        .entities
        .within(EntityKind::Flag, environment, flag_key, "flag_key")?;
    about
        .entities
        .named(EntityKind::Environment, environment, "environment")?;
    field::name_if_any(&info.service, "service")?;
    about
        .entities
        .named_if_any(EntityKind::Service, &info.service, "service")?;
    for (value, field) in [
        (&info.set_id, "set_id"),
        (&info.provider, "provider"),
        (&info.version, "version"),
        (&info.audit_id, "audit_id"),
    ] {
        field::name_if_any(value, field)?;
    }
    field::digest_if_any(&info.document_digest, "document_digest")
}

/// The provider's audit entry is the fact; else the document that it led to; else the time.
fn key(info: &pb::FlagInfo, about: &mut About) {
    let occur_time = about.occur_time;
    let key = about.key();
    key.text(&info.provider)
        .text(&info.set_id)
        .text(&info.environment)
        .text(&info.flag_key);
    if !info.audit_id.is_empty() {
        key.text("audit").text(&info.audit_id);
    } else if !info.document_digest.is_empty() {
        key.text("document").bytes(&info.document_digest);
    } else {
        key.text("time").moment(occur_time);
    }
}

fn summarized(
    e: &pb::FlagExposureSummarized,
    info: &pb::FlagInfo,
    about: &mut About,
) -> Result<(), Refusal> {
    let (start, end) = field::window(e.start_time.as_ref(), e.end_time.as_ref())?;
    about
        .key()
        .text(&info.provider)
        .text(&info.set_id)
        .text(&info.environment)
        .text(&info.flag_key)
        .moment(Some(start))
        .moment(Some(end));
    Ok(())
}
