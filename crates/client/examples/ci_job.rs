//! A CI job: `ci_job [URL] [OUTBOX DIRECTORY] [RUN]`, with the path of its token in WAYBILL_TOKEN_FILE and of the
//! certificate authority in WAYBILL_CA, where the ledger is on another address.
//!
//! It records a commit, its change, a build and a deployment. Ids follow from the run, so that the same run again gives
//! duplicates and no second deployment; events wait in an outbox, so that a ledger that is away breaks no pipeline.
use std::{
    env,
    error::Error,
    time::{Duration, SystemTime},
};

use waybill_client::{
    Build, Change, Commit, Connect, DEFAULT_URL, Deployment, Draft, Id, MergeMethod, Outcome,
    RunRef, Token,
    outbox::{DrainError, Drained, Outbox},
};

const REPOSITORY: &str = "github.com/acme/shop";
const REVISION: &str = "4f1c2d3e4f1c2d3e4f1c2d3e4f1c2d3e4f1c2d3e";

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let mut arguments = env::args().skip(1);
    let mut next = |default: &str| arguments.next().unwrap_or(default.to_owned());
    let (url, directory, run) = (next(DEFAULT_URL), next("outbox"), next("8412"));
    let mut connect = Connect::to(url);
    if let Some(path) = env::var_os("WAYBILL_TOKEN_FILE") {
        connect = connect.with_token(Token::from_file(path)?);
    }
    if let Some(path) = env::var_os("WAYBILL_CA") {
        connect = connect.with_ca(path);
    }
    let client = connect.client()?;
    let emitter = client.emitter("//ci.example.com/shop");

    let outbox = Outbox::open(&directory)?;
    for (subject, draft) in work(&run) {
        let id = Id::from_parts(["example-ci", &run, "1", subject]);
        outbox.put(&emitter.event(draft.id(&id))?)?;
    }
    say(&format!("waiting {}", outbox.waiting()));
    match outbox.drain(&client, Duration::from_secs(20)).await {
        Ok(Drained {
            recorded,
            duplicates,
            refused,
        }) => {
            say(&format!(
                "recorded {recorded} duplicates {duplicates} refused {refused}"
            ));
        }
        Err(DrainError::Ledger { source, .. }) => {
            say(&format!(
                "kept {} for the next run: {source}",
                outbox.waiting()
            ));
        }
        Err(error) => return Err(error.into()),
    }
    Ok(())
}

/// What a run has to tell, with a name for each event that is the same when the run is run again.
fn work(run: &str) -> [(&'static str, Draft); 5] {
    let committed = SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000);
    let run_ref = || RunRef {
        provider: "example-ci".to_owned(),
        run_id: run.to_owned(),
        attempt: 1,
        ..RunRef::default()
    };
    let change = Change::new(REPOSITORY, "412")
        .title("Faster checkout")
        .commits([REVISION]);
    let build = Build::new(run).run(run_ref()).source(REPOSITORY, REVISION);
    let deployment = Deployment::new(format!("d-{run}"), "checkout", "production")
        .revision(REPOSITORY, REVISION)
        .run(run_ref());
    [
        (
            "commit",
            Commit::new(REPOSITORY, REVISION)
                .subject_line("one query less")
                .recorded(committed),
        ),
        ("merge", change.merged(REVISION, MergeMethod::Squash)),
        (
            "build",
            build
                .artifact("pkg:oci/shop@1.4", "")
                .finished(Outcome::Success),
        ),
        ("start", deployment.started()),
        (
            "finish",
            deployment
                .elapsed(Duration::from_secs(90))
                .finished(Outcome::Success),
        ),
    ]
}

#[expect(clippy::print_stdout, reason = "an example's lines are its result")]
fn say(line: &str) {
    println!("{line}");
}
