//! Where the broker is, who we are there, and what we insist on.
use std::{net::IpAddr, path::PathBuf, time::Duration};

use async_nats::{ConnectOptions, ServerAddr};

use crate::secrets::{self, Secret};

/// How to reach a broker and which of its streams to follow.
#[derive(Clone, Debug)]
pub struct Settings {
    /// `nats://host:port` or `tls://host:port`, of one cluster. Servers that these name are not used: what an
    /// operator did not name gets no credentials.
    pub servers: Vec<String>,
    /// The stream's name.
    pub stream: String,
    /// The name of our consumer: one per ledger, `[A-Za-z0-9_-]+`. Two ledgers of one name take it from each other.
    pub consumer: String,
    /// Copies that the stream is created with.
    pub replicas: u8,
    /// Where the server says how it syncs: `http://host:8222`.
    pub monitor: Option<String>,
    /// How the connection is protected.
    pub tls: Tls,
    /// Who we are.
    pub credentials: Credentials,
    /// Sends credentials also over plaintext to another host.
    pub allow_plaintext: bool,
    /// Follows a stream whose messages may be deleted and purged, by anybody who may publish.
    pub allow_purge: bool,
    /// Subjects that answers come to begin with this, `_INBOX` where there is none: so that nobody else's permissions
    /// reach them.
    pub inbox_prefix: Option<String>,
    /// How long the broker has to answer.
    pub request_timeout: Duration,
    /// How often a feed without messages hears from the broker. After two and a half of these it is away.
    pub heartbeat: Duration,
}

/// TLS of the connection; any of these makes it compulsory, as does a `tls://` address.
#[derive(Clone, Debug, Default)]
pub struct Tls {
    /// TLS even though nothing else here says so; certificates are checked against the system's authorities.
    pub required: bool,
    /// The handshake comes before the server's first word (the server's `handshake_first`).
    pub first: bool,
    /// PEM of the authorities that we trust, in place of the system's.
    pub authorities: Option<PathBuf>,
    /// PEM of our certificate and of its key.
    pub identity: Option<(PathBuf, PathBuf)>,
}

/// Who we are; secrets are in files.
#[derive(Clone, Debug, Default)]
pub enum Credentials {
    /// Nobody: the server asks for nothing, or for our certificate only.
    #[default]
    None,
    /// A file with the seed of a user nkey (`SU…`).
    Nkey(PathBuf),
    /// A `.creds` file: a JWT and the seed of its nkey.
    Creds(PathBuf),
    /// A user, and a file with its password.
    Password(String, PathBuf),
    /// A file with a token.
    Token(PathBuf),
}

impl Settings {
    /// The settings of most: the stream `WAYBILL_EVENTS`, no TLS, nobody in particular.
    pub fn new(servers: Vec<String>, consumer: &str) -> Self {
        Self {
            servers,
            stream: "WAYBILL_EVENTS".to_owned(),
            consumer: consumer.to_owned(),
            replicas: 1,
            monitor: None,
            tls: Tls::default(),
            credentials: Credentials::None,
            allow_plaintext: false,
            allow_purge: false,
            inbox_prefix: None,
            request_timeout: Duration::from_secs(5),
            heartbeat: Duration::from_secs(2),
        }
    }
}

/// Settings that were checked, with the secrets read.
#[derive(Clone, Debug)]
pub(crate) struct Checked {
    pub(crate) settings: Settings,
    pub(crate) servers: Vec<ServerAddr>,
    identity: Identity,
    tls: bool,
}

#[derive(Clone, Debug)]
enum Identity {
    None,
    Nkey(Secret),
    Creds(Secret),
    Password(String, Secret),
    Token(Secret),
}

impl Checked {
    /// Reads the secrets and refuses what would not be safe; says which setting and what to do.
    pub(crate) fn try_new(settings: &Settings) -> Result<Self, String> {
        name("stream", &settings.stream)?;
        name("consumer", &settings.consumer)?;
        if let Some(prefix) = &settings.inbox_prefix {
            prefix
                .split('.')
                .try_for_each(|token| name("inbox prefix", token))?;
        }
        if settings.servers.is_empty() {
            return Err("no address of a NATS server was given".to_owned());
        }
        let servers: Vec<ServerAddr> = settings
            .servers
            .iter()
            .map(|it| address(it))
            .collect::<Result<_, _>>()?;
        let tls = &settings.tls;
        let insists =
            tls.required || tls.first || tls.authorities.is_some() || tls.identity.is_some();
        let checked = Self {
            tls: insists || servers.iter().any(ServerAddr::tls_required),
            identity: identity(&settings.credentials)?,
            servers,
            settings: settings.clone(),
        };
        checked.files()?;
        checked.plaintext()?;
        Ok(checked)
    }

    fn files(&self) -> Result<(), String> {
        if let Some((_, key)) = &self.settings.tls.identity {
            secrets::private(key)?;
        }
        let certificate = self.settings.tls.identity.as_ref().map(|(it, _)| it);
        for path in self.settings.tls.authorities.iter().chain(certificate) {
            let text = std::fs::read_to_string(path)
                .map_err(|error| format!("{} cannot be read: {error}", path.display()))?;
            // The library takes a file without certificates for an empty list.
            if !text.contains("-----BEGIN CERTIFICATE-----") {
                return Err(format!("{} holds no PEM certificate", path.display()));
            }
        }
        Ok(())
    }

    fn plaintext(&self) -> Result<(), String> {
        // A nkey signs a nonce and a certificate never leaves; but over plaintext what is read and published is
        // anybody's who sits between, so they are not let off.
        let nobody = matches!(self.identity, Identity::None);
        if self.tls || nobody || self.settings.allow_plaintext {
            return Ok(());
        }
        match self.servers.iter().find(|it| !loopback(it.host())) {
            None => Ok(()),
            Some(server) => Err(format!(
                "credentials would go to {} without TLS: use tls://, or allow plaintext (`--nats-allow-plaintext`) where the network is yours alone",
                server.host()
            )),
        }
    }

    /// The library's options, without those that listen to events.
    pub(crate) fn options(&self) -> Result<ConnectOptions, String> {
        let settings = &self.settings;
        let mut options = ConnectOptions::new()
            .name(format!("waybill {}", settings.consumer))
            .require_tls(self.tls)
            .connection_timeout(settings.request_timeout)
            .request_timeout(Some(settings.request_timeout))
            .ping_interval(settings.heartbeat)
            .ignore_discovered_servers();
        if let Some(prefix) = &settings.inbox_prefix {
            options = options.custom_inbox_prefix(prefix);
        }
        if settings.tls.first {
            options = options.tls_first();
        }
        if let Some(path) = &settings.tls.authorities {
            options = options.add_root_certificates(path.clone());
        }
        if let Some((certificate, key)) = &settings.tls.identity {
            options = options.add_client_certificate(certificate.clone(), key.clone());
        }
        Ok(match &self.identity {
            Identity::None => options,
            Identity::Nkey(seed) => options.nkey(seed.expose().to_owned()),
            Identity::Creds(creds) => options
                .credentials(&lines(creds))
                .map_err(|error| error.to_string())?,
            Identity::Password(user, password) => {
                options.user_and_password(user.clone(), password.expose().to_owned())
            }
            Identity::Token(token) => options.token(token.expose().to_owned()),
        })
    }
}

/// A name that is a token of a subject.
fn name(what: &str, name: &str) -> Result<(), String> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '-';
    if !name.is_empty() && name.chars().all(fits) {
        return Ok(());
    }
    Err(format!(
        "the name of the {what} is {name:?}, not letters, digits, `_` and `-`"
    ))
}

fn address(text: &str) -> Result<ServerAddr, String> {
    // The text may hold a password, so no message repeats it.
    if text.rsplit_once('@').is_some() {
        return Err("an address of the broker holds a user or a secret: put them in a file, which `ps` and logs do not show".to_owned());
    }
    let rule = "not nats://HOST:PORT or tls://HOST:PORT";
    let address: ServerAddr = text
        .parse()
        .map_err(|error| format!("an address of the broker is `{text}`, {rule}: {error}"))?;
    match address.scheme() {
        "nats" | "tls" if !address.host().is_empty() => Ok(address),
        _ => Err(format!("an address of the broker is `{text}`, {rule}")),
    }
}

fn identity(credentials: &Credentials) -> Result<Identity, String> {
    Ok(match credentials {
        Credentials::None => Identity::None,
        Credentials::Nkey(path) => {
            let seed = Secret::read(path)?;
            let pair = nkeys::KeyPair::from_seed(seed.expose());
            if !pair.is_ok_and(|pair| pair.public_key().starts_with('U')) {
                return Err(format!(
                    "{} holds no seed of a user nkey (SU…)",
                    path.display()
                ));
            }
            Identity::Nkey(seed)
        }
        Credentials::Creds(path) => {
            let creds = Secret::read(path)?;
            // So that what is wrong with it is said with the file's name.
            if ConnectOptions::new().credentials(&lines(&creds)).is_err() {
                return Err(format!(
                    "{} holds no JWT and nkey seed of a user",
                    path.display()
                ));
            }
            Identity::Creds(creds)
        }
        Credentials::Password(user, path) => Identity::Password(user.clone(), Secret::read(path)?),
        Credentials::Token(path) => Identity::Token(Secret::read(path)?),
    })
}

/// The library finds nothing in a file whose last line has no end.
fn lines(creds: &Secret) -> String {
    format!("{}\n", creds.expose())
}

fn loopback(host: &str) -> bool {
    host == "localhost" || host.parse::<IpAddr>().is_ok_and(|it| it.is_loopback())
}
