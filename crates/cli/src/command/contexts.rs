//! `context`: servers with names, each with its token.
use std::io::{self, IsTerminal as _, Read as _};

use waybill_client::{Connect, Token};
use zeroize::Zeroizing;

use crate::{
    args::{AddContextArgs, ContextCommand},
    context::{Context, var},
    contexts::{Contexts, Entry},
    exit::Failure,
    output::{self, Style, clean},
    source,
    table::{Table, styled},
};

/// More than this on standard input is no token.
const STDIN_BYTES_MAX: u16 = 4096;

/// Changes or shows what is kept.
pub(crate) fn run(context: &Context, command: &ContextCommand) -> Result<(), Failure> {
    let mut contexts = Contexts::load(&var)?;
    match command {
        ContextCommand::Add(args) => add(context, &mut contexts, args),
        ContextCommand::Use { name } => {
            contexts.use_(name)?;
            output::say(format!(
                "commands go to {} now",
                clean(&contexts.server(name)?.address)
            ));
            Ok(())
        }
        ContextCommand::Ls => list(context, &contexts),
        ContextCommand::Rm { name } => {
            contexts.remove(name)?;
            output::say(format!("context {} and its token are gone", clean(name)));
            Ok(())
        }
    }
}

fn add(context: &Context, contexts: &mut Contexts, args: &AddContextArgs) -> Result<(), Failure> {
    let Some(server) = &context.global.server else {
        return Err(Failure::usage("a context needs the address of its server")
            .with_hint(format!("waybill context add {} --server URL", args.name)));
    };
    let server = source::url(server);
    let token = token(args)?;
    let ca = match &args.ca {
        Some(path) => Some(std::path::absolute(path)?),
        None => None,
    };
    check(&server, token.as_ref(), ca.as_deref())?;
    let with = match token {
        Some(_) => "with its token",
        None => "without a token",
    };
    contexts.add(&args.name, Entry { server, ca }, token.as_ref())?;
    output::say(format!(
        "context {} is kept {with}; `waybill context use {}` sends commands there",
        args.name, args.name
    ));
    Ok(())
}

/// Says now what every later command would say.
fn check(server: &str, token: Option<&Token>, ca: Option<&std::path::Path>) -> Result<(), Failure> {
    let mut connect = Connect::to(server);
    if let Some(token) = token {
        connect = connect.with_token(token.clone());
    }
    if let Some(ca) = ca {
        connect = connect.with_ca(ca);
    }
    connect.carrier().map(drop).map_err(source::cannot_connect)
}

fn token(args: &AddContextArgs) -> Result<Option<Token>, Failure> {
    let wrong = |error: waybill_client::TokenError| Failure::usage(error.to_string());
    if let Some(path) = &args.token_file {
        return Token::from_file(path).map(Some).map_err(wrong);
    }
    if !args.token_stdin {
        return Ok(None);
    }
    if io::stdin().is_terminal() {
        return Err(
            Failure::usage("standard input is a terminal, which would show the token")
                .with_hint("waybill context add … --token-stdin < FILE"),
        );
    }
    // Large enough from the start: a growing buffer would leave its beginnings behind in memory.
    let mut text = Zeroizing::new(String::with_capacity(STDIN_BYTES_MAX.into()));
    io::stdin()
        .take(STDIN_BYTES_MAX.into())
        .read_to_string(&mut text)?;
    Token::new(&text, "standard input").map(Some).map_err(wrong)
}

fn list(context: &Context, contexts: &Contexts) -> Result<(), Failure> {
    if context.out.json {
        let contexts: Vec<_> = contexts
            .iter()
            .map(|(name, entry)| {
                serde_json::json!({
                    "name": name,
                    "server": entry.server,
                    "ca": entry.ca,
                    "current": contexts.current() == Some(name),
                    "hasToken": contexts.has_token(name).unwrap_or(false),
                })
            })
            .collect();
        let text = serde_json::json!({ "contexts": contexts });
        return context.out.line(format!("{text:#}"));
    }
    let mut table = Table::new(&["", "CONTEXT", "SERVER…", "TOKEN"]);
    for (name, entry) in contexts.iter() {
        let current = contexts.current() == Some(name);
        let token = match contexts.has_token(name) {
            Ok(true) => styled(Style::Plain, "kept"),
            Ok(false) => styled(Style::Faint, "none"),
            Err(failure) => styled(Style::Bad, format!("not usable: {failure}")),
        };
        let mark = if current { "*" } else { "" };
        table.row(vec![
            mark.into(),
            name.into(),
            clean(&entry.server).into(),
            token,
        ]);
    }
    context.out.table(&table)
}
