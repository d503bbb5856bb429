//! The peer: PostgreSQL with synchronous commit, its own directory, and a socket in it.
use std::{
    path::{Path, PathBuf},
    process::{Command, Output},
};

use futures_util::{StreamExt, stream::FuturesUnordered};
use tokio_postgres::{Client, NoTls, types::ToSql};

use super::{events, text};

/// Where Debian puts the server's programs.
const PROGRAMS: &str = "/usr/lib/postgresql/15/bin";

const TABLE: &str = "create table event (
    position bigserial primary key, record_time timestamptz not null default now(),
    source text not null, id text not null, kind text not null, occur_time timestamptz, body bytea not null,
    unique (source, id))";

const INSERT: &str = "insert into event (source, id, kind, body) values ";

/// A running PostgreSQL.
pub(crate) struct Postgres {
    directory: PathBuf,
}

impl Postgres {
    /// Makes and starts one; as root it runs as `postgres`, which Debian's package makes.
    pub(crate) fn start(directory: &Path) -> Result<Self, String> {
        std::fs::create_dir_all(directory).map_err(text)?;
        let this = Self {
            directory: directory.to_owned(),
        };
        for parent in directory.ancestors().take(2) {
            shell("chmod", &["a+x", &parent.to_string_lossy()])?;
        }
        if rustix_is_root() {
            shell("chown", &["postgres:", &directory.to_string_lossy()])?;
        }
        let data = this.data();
        this.program(
            "initdb",
            &[
                "-D",
                &data,
                "-A",
                "trust",
                "-U",
                "postgres",
                "--no-instructions",
                "-E",
                "UTF8",
                "--locale=C",
            ],
        )?;
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories={} -c fsync=on -c synchronous_commit=on -c max_wal_size=8GB",
            directory.display()
        );
        let log = directory.join("log").to_string_lossy().into_owned();
        this.program(
            "pg_ctl",
            &["-D", &data, "-w", "-l", &log, "-o", &options, "start"],
        )?;
        Ok(this)
    }

    fn data(&self) -> String {
        self.directory.join("data").to_string_lossy().into_owned()
    }

    fn program(&self, name: &str, arguments: &[&str]) -> Result<Output, String> {
        let program = format!("{PROGRAMS}/{name}");
        if !rustix_is_root() {
            return shell(&program, arguments);
        }
        let mut all = vec![
            "--reuid=postgres",
            "--regid=postgres",
            "--clear-groups",
            "--inh-caps=-all",
            &program,
        ];
        all.extend(arguments);
        shell("setpriv", &all)
    }

    pub(crate) async fn connect(&self) -> Result<Client, String> {
        let target = format!(
            "host={} user=postgres dbname=postgres",
            self.directory.display()
        );
        let (client, connection) = tokio_postgres::connect(&target, NoTls)
            .await
            .map_err(text)?;
        tokio::spawn(connection);
        Ok(client)
    }

    /// Makes the table and fills it.
    pub(crate) async fn fill(&self, rows: u64) -> Result<(), String> {
        let client = self.connect().await?;
        client.batch_execute(TABLE).await.map_err(text)?;
        for first in (0..rows).step_by(1000) {
            insert(&client, first, 1000.min(rows - first)).await?;
        }
        client.batch_execute("checkpoint").await.map_err(text)
    }
}

impl Drop for Postgres {
    fn drop(&mut self) {
        drop(self.program(
            "pg_ctl",
            &["-D", &self.data(), "-m", "immediate", "-w", "stop"],
        ));
    }
}

/// One statement of many rows.
pub(crate) async fn insert(client: &Client, first: u64, count: u64) -> Result<(), String> {
    let rows: Vec<_> = (first..first + count).map(row).collect();
    let mut statement = String::from(INSERT);
    let mut parameters: Vec<&(dyn ToSql + Sync)> = Vec::with_capacity(rows.len() * 4);
    for (index, row) in rows.iter().enumerate() {
        let at = index * 4;
        let comma = if index == 0 { "" } else { "," };
        statement.push_str(&format!(
            "{comma}(${},${},${},${})",
            at + 1,
            at + 2,
            at + 3,
            at + 4
        ));
        parameters.extend([&row.0 as &(dyn ToSql + Sync), &row.1, &row.2, &row.3]);
    }
    client
        .execute(&statement, &parameters)
        .await
        .map(|_| ())
        .map_err(text)
}

/// One row for one statement, many statements on their way at once.
pub(crate) async fn insert_singly(
    client: &Client,
    first: u64,
    count: u64,
    in_flight: usize,
) -> Result<(), String> {
    let statement = client
        .prepare(&format!("{INSERT} ($1,$2,$3,$4)"))
        .await
        .map_err(text)?;
    let mut under_way = FuturesUnordered::new();
    for number in first..first + count {
        if under_way.len() == in_flight {
            under_way.next().await.transpose()?;
        }
        let statement = &statement;
        under_way.push(async move {
            let (source, id, kind, body) = row(number);
            client
                .execute(statement, &[&source, &id, &kind, &body])
                .await
                .map_err(text)
        });
    }
    while let Some(done) = under_way.next().await {
        done?;
    }
    Ok(())
}

fn row(number: u64) -> (String, String, &'static str, Vec<u8>) {
    let event = events::event(number);
    (
        event.source,
        event.id,
        "commit.recorded",
        events::encoded(number).to_vec(),
    )
}

fn rustix_is_root() -> bool {
    shell("id", &["-u"]).is_ok_and(|output| output.stdout.starts_with(b"0\n"))
}

fn shell(program: &str, arguments: &[&str]) -> Result<Output, String> {
    let output = Command::new(program)
        .args(arguments)
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        return Ok(output);
    }
    Err(format!(
        "{program} {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr).trim()
    ))
}
