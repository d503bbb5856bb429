//! `token`: who may call a server. A token is shown once; the file keeps its hash.
use std::{path::PathBuf, sync::Arc};

use jiff::Timestamp;
use waybill_server::tokens::{self, RANDOM_BYTES, Role, Secret, Token, Tokens, Wrong};

use crate::{
    args::{NewTokenArgs, TokenCommand, TokenFileArgs, TokenRole},
    context::Context,
    exit::{Exit, Failure},
    output::{self, Style, clean},
    private,
    table::{Table, styled},
    when,
};

/// Does one of them.
pub(crate) fn run(context: &Context, command: TokenCommand) -> Result<(), Failure> {
    match command {
        TokenCommand::New(args) => new(context, args),
        TokenCommand::Ls { file } => list(context, &file),
        TokenCommand::Revoke { name, file } => revoke(context, &name, &file),
    }
}

fn new(context: &Context, args: NewTokenArgs) -> Result<(), Failure> {
    let path = path(context, &args.file)?;
    let mut random = [0; RANDOM_BYTES];
    getrandom::fill(&mut random)
        .map_err(|error| Failure::unexpected(format!("no random bytes: {error}")))?;
    let secret = Secret::new(&random);
    let now = now();
    let expire_time = args
        .expires
        .map(|text| expire_time(&text, now))
        .transpose()?;
    let token = Token {
        name: Arc::from(args.name.as_str()),
        id: secret.id().to_owned(),
        sha256: secret.hash(),
        role: role(args.role),
        sources: args.source,
        create_time: now,
        expire_time,
        revoke_time: None,
    };
    // On disk before it is seen: whoever holds a token can rely on its being known.
    private::rewrite(&path, |text| {
        check(&path, text)?;
        let text = tokens::add(text, &token).map_err(|wrong| unfit(&token, &wrong))?;
        Ok((text, ()))
    })?;
    if context.out.json {
        let json = serde_json::json!({"token": secret.reveal(), "info": shown(&token, now)});
        return context.out.line(json.to_string());
    }
    context.out.line(secret.reveal())?;
    let until = expire_time.map_or("until it is revoked".to_owned(), |end| {
        format!("until {end}")
    });
    output::say(format!(
        "`{}` may {} {until}; {} keeps its hash only, so keep the token now: it is not shown again",
        token.name,
        token.role.as_str(),
        path.display()
    ));
    Ok(())
}

fn list(context: &Context, file: &TokenFileArgs) -> Result<(), Failure> {
    let path = path(context, file)?;
    let text = private::read(&path).map_err(|failure| match failure.exit() {
        Exit::NotFound => failure.with_hint("`waybill token new` makes it"),
        _ => failure,
    })?;
    let (tokens, now) = (check(&path, &String::from_utf8_lossy(&text))?, now());
    if context.out.json {
        let tokens: Vec<_> = tokens.iter().map(|token| shown(token, now)).collect();
        let json = serde_json::json!({"tokens": tokens});
        return context.out.line(format!("{json:#}"));
    }
    let mut table = Table::new(&[
        "name", "id", "role", "sources", "created", "expires", "state",
    ]);
    for token in tokens.iter() {
        let state = state(token, now);
        let style = match state {
            "active" => Style::Good,
            _ => Style::Faint,
        };
        let expires = token
            .expire_time
            .map_or("never".to_owned(), |end| end.to_string());
        table.row(vec![
            clean(&token.name).into(),
            token.id.clone().into(),
            token.role.as_str().to_owned().into(),
            clean(&token.sources.join(" ")).into(),
            token.create_time.to_string().into(),
            expires.into(),
            styled(style, state),
        ]);
    }
    context.out.table(&table)
}

fn revoke(context: &Context, name: &str, file: &TokenFileArgs) -> Result<(), Failure> {
    let path = path(context, file)?;
    private::rewrite(&path, |text| {
        check(&path, text)?;
        let revoked = tokens::revoke(text, name, now()).map_err(|wrong| misread(&path, &wrong))?;
        let text = revoked.ok_or_else(|| {
            let path = path.display();
            Failure::new(
                Exit::NotFound,
                format!("no token `{name}` counts in {path}"),
            )
            .with_hint("`waybill token ls` lists them")
        })?;
        Ok((text, ()))
    })?;
    output::say(format!(
        "`{name}` is revoked; a server that has {} open lets it in no more within a second",
        path.display()
    ));
    Ok(())
}

fn path(context: &Context, file: &TokenFileArgs) -> Result<PathBuf, Failure> {
    let set = || context.settings.value("tokens").map(PathBuf::from);
    file.path.clone().or_else(set).ok_or_else(|| {
        Failure::usage("no file of tokens is named")
            .with_hint("say --tokens FILE, or set WAYBILL_TOKENS; `waybill serve` takes the same")
    })
}

/// The tokens that stand in a file, or where it is wrong.
fn check(path: &std::path::Path, text: &str) -> Result<Tokens, Failure> {
    tokens::parse(text).map_err(|wrong| misread(path, &wrong))
}

fn misread(path: &std::path::Path, wrong: &Wrong) -> Failure {
    Failure::usage(format!("{}:{wrong}", path.display()))
}

/// A new token that breaks a rule: of the file's text, only its own lines can be wrong.
fn unfit(token: &Token, wrong: &Wrong) -> Failure {
    Failure::usage(format!(
        "the token `{}` cannot be made: {}",
        token.name, wrong.rule
    ))
}

fn expire_time(text: &str, now: Timestamp) -> Result<Timestamp, Failure> {
    let length = when::length(text, "--expires")?;
    now.checked_add(length).map_err(|_| {
        Failure::usage(format!(
            "--expires is `{text}`, which ends after all calendars"
        ))
    })
}

/// To the second: a file that people read needs no more.
fn now() -> Timestamp {
    let now = Timestamp::now();
    Timestamp::from_second(now.as_second()).unwrap_or(now)
}

fn role(role: TokenRole) -> Role {
    match role {
        TokenRole::Emit => Role::Emit,
        TokenRole::Read => Role::Read,
        TokenRole::Operate => Role::Operate,
    }
}

fn state(token: &Token, now: Timestamp) -> &'static str {
    if token.revoke_time.is_some() {
        "revoked"
    } else if token.expire_time.is_some_and(|end| end <= now) {
        "expired"
    } else {
        "active"
    }
}

fn shown(token: &Token, now: Timestamp) -> serde_json::Value {
    serde_json::json!({
        "name": &*token.name,
        "id": token.id,
        "role": token.role.as_str(),
        "sources": token.sources,
        "createTime": token.create_time.to_string(),
        "expireTime": token.expire_time.map(|time| time.to_string()),
        "revokeTime": token.revoke_time.map(|time| time.to_string()),
        "state": state(token, now),
    })
}
