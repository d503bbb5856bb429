//! What the open door costs: the append row over TLS and with a token, beside plain connections in the same run.
use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Instant,
};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use waybill_client::{Connect, Token};

use super::{Row, append, per_second, quantile, say, text};
use crate::process::{self, Home, Server};

/// Each figure is the median of so many rounds, the doors in turn.
const ROUNDS: u64 = 5;

/// A ledger, how it is reached, and how fast it was in each round.
struct Door {
    server: Server,
    connect: Connect,
    rates: Vec<f64>,
}

impl Door {
    fn open(directory: &Path, name: &str, arguments: &[&str]) -> Result<Self, String> {
        let root = directory.join(format!("door-{name}"));
        fs::create_dir_all(&root).map_err(text)?;
        let server = Server::start_with(&Home { root }, &[], arguments).map_err(text)?;
        let connect = Connect::to(&server.url);
        Ok(Self {
            server,
            connect,
            rates: Vec::new(),
        })
    }

    async fn round(&mut self, first: u64, events: u64) -> Result<(), String> {
        let begun = Instant::now();
        append::emit(&self.connect, first, events, 100).await?;
        let seconds = begun.elapsed().as_secs_f64();
        self.rates.push(per_second(events, seconds));
        Ok(())
    }
}

/// Batches of 100 over TLS, and over TLS with a token.
pub(crate) async fn doors(directory: &Path, events: u64) -> Result<[Row; 2], String> {
    say("door: batches of 100, plain, over TLS, and with a token");
    let [authority, certificate, key] = certificates(directory)?;
    let (tokens, token) = token(directory)?;
    let secured = ["--tls-cert", &certificate, "--tls-key", &key];
    let mut plain = Door::open(directory, "plain", &[])?;
    let mut tls = Door::open(directory, "tls", &secured)?;
    tls.connect = tls.connect.with_ca(&authority);
    let guarded = [&secured[..], &["--tokens", &tokens]].concat();
    let mut guarded = Door::open(directory, "token", &guarded)?;
    guarded.connect = guarded.connect.with_ca(&authority).with_token(token);
    let each = events / ROUNDS;
    for round in 0..ROUNDS {
        for door in [&mut plain, &mut tls, &mut guarded] {
            door.round(round * each, each).await?;
        }
    }
    let beside = quantile(&mut plain.rates, 0.5);
    plain.server.kill();
    let row = |what, door: &mut Door| {
        let ours = quantile(&mut door.rates, 0.5);
        Row {
            what,
            ours: format!("{:.1} k/s", ours / 1e3),
            peer: format!("plain {:.1} k/s", beside / 1e3),
            ratio: format!("{:.2}x", ours / beside),
            reach: "",
        }
    };
    Ok([
        row("append over TLS", &mut tls),
        row("append over TLS with a token", &mut guarded),
    ])
}

/// Paths of an authority, of a certificate of this machine and of its key.
fn certificates(directory: &Path) -> Result<[String; 3], String> {
    let mut params = CertificateParams::new([]).map_err(text)?;
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = KeyPair::generate().map_err(text)?;
    let issuer = CertifiedIssuer::self_signed(params, issuer).map_err(text)?;
    let key = KeyPair::generate().map_err(text)?;
    let params = CertificateParams::new(["127.0.0.1".to_owned()]).map_err(text)?;
    let signed = params.signed_by(&key, &issuer).map_err(text)?;
    Ok([
        private(directory.join("ca.pem"), &issuer.pem())?,
        private(directory.join("cert.pem"), &signed.pem())?,
        private(directory.join("key.pem"), &key.serialize_pem())?,
    ])
}

/// The file of tokens, and a token of it that may emit the mix.
fn token(directory: &Path) -> Result<(String, Token), String> {
    let home = Home {
        root: directory.to_owned(),
    };
    let tokens = directory.join("tokens.toml").display().to_string();
    let rights = ["--role", "emit", "--source", "/bench/ci/*"];
    let made = process::command(&home)
        .args(["token", "new", "--name", "bench", "--tokens", &tokens])
        .args(rights)
        .output()
        .map_err(text)?;
    let said = String::from_utf8_lossy(&made.stdout);
    let token = Token::new(said.trim(), "waybill token new").map_err(text)?;
    Ok((tokens, token))
}

/// Writes a file that only its owner may read, and gives its path.
fn private(path: PathBuf, content: &str) -> Result<String, String> {
    fs::write(&path, content).map_err(text)?;
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).map_err(text)?;
    Ok(path.display().to_string())
}
