//! TLS, credentials and secrets.
use std::{fs, os::unix::fs::PermissionsExt, path::PathBuf};

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, date_time_ymd};
use tempfile::TempDir;
use waybill_fixture::nats::{Options, Server};
use waybill_ledger::stream::{Broker, BrokerFault};
use waybill_nats::{Credentials, Error, Settings, connect};

use crate::kit::{each, publish, settings};

/// A file that only we can read.
pub(crate) fn secret(directory: &TempDir, name: &str, text: &str) -> PathBuf {
    let path = directory.path().join(name);
    fs::write(&path, format!("{text}\n")).unwrap();
    fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
    path
}

/// An authority in a directory, and what it signs.
struct Authority {
    directory: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        let directory = tempfile::tempdir().unwrap();
        fs::write(directory.path().join("ca.pem"), issuer.pem()).unwrap();
        Self { directory, issuer }
    }

    fn file(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Signs a certificate for a name, until a year.
    fn sign(&self, file: &str, name: &str, until: i32) {
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(until, 1, 1);
        let key = KeyPair::generate().unwrap();
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        fs::write(self.file(&format!("{file}.pem")), certificate.pem()).unwrap();
        secret(
            &self.directory,
            &format!("{file}.key"),
            &key.serialize_pem(),
        );
    }

    /// The server's configuration with one of its certificates.
    fn config(&self, file: &str, more: &str) -> String {
        let at = self.directory.path().display();
        format!(
            "tls {{ cert_file: \"{at}/{file}.pem\", key_file: \"{at}/{file}.key\", ca_file: \"{at}/ca.pem\" {more} }}"
        )
    }
}

fn start_again(server: &mut Server, config: &str) {
    server.configure(Options {
        config,
        ..Options::default()
    });
    server.restart();
}

fn over_tls(server: &Server, authority: &Authority) -> Settings {
    let mut settings = settings(server);
    settings.servers = vec![format!("tls://localhost:{}", server.port())];
    settings.tls.authorities = Some(authority.file("ca.pem"));
    settings
}

#[test]
fn only_the_right_certificate_is_spoken_to() {
    each(Options::default(), async |mut server| {
        let (ours, theirs) = (Authority::new(), Authority::new());
        ours.sign("right", "localhost", 2100);
        ours.sign("other", "elsewhere.example", 2100);
        ours.sign("expired", "localhost", 2021);
        let refused = async |settings: &Settings, because: &str| {
            let error = connect(settings).await.unwrap_err();
            let Error::Refused(why) = &error else {
                panic!("{error:?} is not a refusal")
            };
            assert!(why.contains(because), "{why}");
        };
        // The server of before speaks plaintext: there is no falling back to it, whatever asks for TLS.
        for servers in [
            format!("tls://localhost:{}", server.port()),
            format!("localhost:{}", server.port()),
        ] {
            let settings = Settings {
                servers: vec![servers],
                ..over_tls(&server, &ours)
            };
            refused(&settings, "TLS").await;
        }
        start_again(&mut server, &ours.config("right", ""));
        let stream = connect(&over_tls(&server, &ours)).await.unwrap();
        publish(&stream, "one").await;
        refused(&over_tls(&server, &theirs), "invalid peer certificate").await;
        start_again(&mut server, &ours.config("other", ""));
        refused(&over_tls(&server, &ours), "not valid for name").await;
        start_again(&mut server, &ours.config("expired", ""));
        refused(&over_tls(&server, &ours), "expired").await;
        // What was connected does not come back to a server that is not the one.
        let away = stream.state().await.unwrap_err();
        let BrokerFault::Away(why) = &away else {
            panic!("{away} passes")
        };
        assert!(why.contains("expired"), "{why}");
        start_again(&mut server, &ours.config("right", ""));
        publish(&stream, "two").await;
    });
}

#[test]
fn a_client_certificate_is_shown_where_it_is_asked_for() {
    each(Options::default(), async |mut server| {
        let ours = Authority::new();
        ours.sign("right", "localhost", 2100);
        ours.sign("client", "ledger", 2100);
        start_again(&mut server, &ours.config("right", ", verify: true"));
        let mut settings = over_tls(&server, &ours);
        let without = connect(&settings).await.unwrap_err();
        assert!(!matches!(without, Error::Settings(_)), "{without}");
        settings.tls.identity = Some((ours.file("client.pem"), ours.file("client.key")));
        connect(&settings).await.unwrap();
        fs::set_permissions(ours.file("client.key"), fs::Permissions::from_mode(0o640)).unwrap();
        let error = connect(&settings).await.unwrap_err().to_string();
        assert!(
            error.contains("client.key holds a secret and has mode 0640")
                && error.contains("chmod 600"),
            "{error}"
        );
        if server.is_at_least(2, 10) {
            start_again(
                &mut server,
                &ours.config("right", ", handshake_first: true"),
            );
            let mut first = over_tls(&server, &ours);
            first.tls.first = true;
            connect(&first).await.unwrap();
        }
    });
}

#[test]
fn each_kind_of_credentials_opens_the_door_and_no_other() {
    each(Options::default(), async |mut server| {
        let directory = tempfile::tempdir().unwrap();
        let pair = nkeys::KeyPair::new_user();
        let seed = pair.seed().unwrap();
        let nkey = secret(&directory, "nkey", &seed);
        let stranger = secret(
            &directory,
            "stranger",
            &nkeys::KeyPair::new_user().seed().unwrap(),
        );
        let (right, wrong) = (
            secret(&directory, "right", "canary-7fa3"),
            secret(&directory, "wrong", "canary-99"),
        );
        let (creds, operator) = jwt(&directory);
        let nkey_config = format!(
            "authorization {{ users: [{{nkey: {}}}] }}",
            pair.public_key()
        );
        let user = |file: &PathBuf| Credentials::Password("ledger".to_owned(), file.clone());
        let doors = [
            (
                nkey_config,
                Credentials::Nkey(nkey),
                Credentials::Nkey(stranger),
            ),
            (
                "authorization { user: ledger, password: canary-7fa3 }".to_owned(),
                user(&right),
                user(&wrong),
            ),
            (
                "authorization { token: canary-7fa3 }".to_owned(),
                Credentials::Token(right),
                Credentials::Token(wrong.clone()),
            ),
            (operator, Credentials::Creds(creds), user(&wrong)),
        ];
        for (config, good, bad) in doors {
            start_again(&mut server, &config);
            for credentials in [bad, Credentials::None] {
                let error = connect(&Settings {
                    credentials,
                    ..settings(&server)
                })
                .await
                .unwrap_err();
                assert!(
                    matches!(&error, Error::Refused(why) if why.contains("authorization violation")),
                    "{error}"
                );
                assert!(!error.to_string().contains("canary"), "{error}");
            }
            let settings = Settings {
                credentials: good,
                ..settings(&server)
            };
            let stream = connect(&settings).await.unwrap();
            publish(&stream, "one").await;
            let shown = format!("{stream:?} {settings:?}");
            assert!(
                !shown.contains("canary") && !shown.contains(&seed),
                "{shown}"
            );
        }
    });
}

/// A credentials file, and the configuration of a server that believes its operator.
fn jwt(directory: &TempDir) -> (PathBuf, String) {
    use base64::{Engine, engine::general_purpose::URL_SAFE_NO_PAD};
    use serde_json::{Value, json};
    let sign = |by: &nkeys::KeyPair, of: &nkeys::KeyPair, name: &str, nats: Value| {
        let header = json!({"typ": "JWT", "alg": "ed25519-nkey"});
        let claims = json!({
            "jti": name, "iat": 1_700_000_000, "iss": by.public_key(), "sub": of.public_key(), "name": name, "nats": nats
        });
        let encoded = [header, claims].map(|it| URL_SAFE_NO_PAD.encode(it.to_string()));
        let text = encoded.join(".");
        let signature = URL_SAFE_NO_PAD.encode(by.sign(text.as_bytes()).unwrap());
        format!("{text}.{signature}")
    };
    let (operator, account, system, user) = (
        nkeys::KeyPair::new_operator(),
        nkeys::KeyPair::new_account(),
        nkeys::KeyPair::new_account(),
        nkeys::KeyPair::new_user(),
    );
    let limits = json!({
        "subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1,
        "mem_storage": -1, "disk_storage": -1, "streams": -1, "consumer": -1
    });
    let bare = json!({"subs": -1, "data": -1, "payload": -1, "imports": -1, "exports": -1, "wildcards": true, "conn": -1, "leaf": -1});
    let operator_jwt = sign(
        &operator,
        &operator,
        "O",
        json!({"type": "operator", "version": 2, "system_account": system.public_key()}),
    );
    let account_jwt = sign(
        &operator,
        &account,
        "A",
        json!({"type": "account", "version": 2, "limits": limits}),
    );
    let system_jwt = sign(
        &operator,
        &system,
        "SYS",
        json!({"type": "account", "version": 2, "limits": bare}),
    );
    let user_jwt = sign(
        &account,
        &user,
        "ledger",
        json!({"type": "user", "version": 2, "subs": -1, "data": -1, "payload": -1}),
    );
    let creds = format!(
        "-----BEGIN NATS USER JWT-----\n{user_jwt}\n------END NATS USER JWT------\n\n\
         -----BEGIN USER NKEY SEED-----\n{}\n------END USER NKEY SEED------\n",
        user.seed().unwrap()
    );
    let config = format!(
        "operator: {operator_jwt}\nsystem_account: {}\nresolver: MEMORY\nresolver_preload: {{ {}: {account_jwt}, {}: {system_jwt} }}",
        system.public_key(),
        account.public_key(),
        system.public_key()
    );
    (secret(directory, "user.creds", &creds), config)
}

#[test]
fn settings_that_are_not_safe_are_refused_before_anything_is_sent() {
    let directory = tempfile::tempdir().unwrap();
    let token = secret(&directory, "token", "canary-7fa3");
    let runtime = crate::kit::runtime();
    let refused = |settings: Settings, because: &str| {
        let error = runtime.block_on(connect(&settings)).unwrap_err();
        let Error::Settings(why) = &error else {
            panic!("{error:?}")
        };
        assert!(why.contains(because) && !why.contains("canary"), "{why}");
    };
    let at = |servers: &[&str]| {
        Settings::new(
            servers.iter().map(|it| (*it).to_owned()).collect(),
            "ledger-1",
        )
    };
    refused(at(&[]), "no address");
    refused(at(&["nats://me:canary@localhost"]), "put them in a file");
    refused(at(&["canary@localhost:4222"]), "put them in a file");
    refused(at(&["http://localhost"]), "invalid scheme");
    refused(at(&["ws://localhost"]), "not nats://HOST:PORT");
    refused(
        Settings {
            stream: "a.b".to_owned(),
            ..at(&["localhost"])
        },
        "the name of the stream is \"a.b\"",
    );
    refused(
        Settings {
            inbox_prefix: Some("_INBOX.a b".to_owned()),
            ..at(&["localhost"])
        },
        "the name of the inbox prefix is \"a b\"",
    );
    refused(
        Settings::new(vec!["localhost".to_owned()], "a b"),
        "the name of the consumer is \"a b\"",
    );

    let with = |servers: &[&str], credentials| Settings {
        credentials,
        ..at(servers)
    };
    let remote = with(
        &["127.0.0.1", "nats://broker.example"],
        Credentials::Token(token.clone()),
    );
    let allowed = Settings {
        servers: vec!["nats://broker.invalid".to_owned()],
        allow_plaintext: true,
        ..remote.clone()
    };
    refused(remote, "credentials would go to broker.example without TLS");
    // Nothing is in the way then but that there is no such host.
    let error = runtime.block_on(connect(&allowed)).unwrap_err();
    assert!(matches!(error, Error::Away(_)), "{error}");
    refused(
        with(&["localhost"], Credentials::Nkey(token.clone())),
        "holds no seed of a user nkey",
    );
    refused(
        with(&["localhost"], Credentials::Creds(token.clone())),
        "holds no JWT",
    );
    refused(
        with(
            &["localhost"],
            Credentials::Token(directory.path().join("none")),
        ),
        "none cannot be read",
    );
    let empty = secret(&directory, "empty", "");
    refused(
        with(&["localhost"], Credentials::Token(empty)),
        "holds no secret",
    );
    for mode in [0o644, 0o640, 0o604, 0o660] {
        fs::set_permissions(&token, fs::Permissions::from_mode(mode)).unwrap();
        let because = format!(
            "token holds a secret and has mode {mode:04o}, so others can use it: run `chmod 600 "
        );
        refused(
            with(&["localhost"], Credentials::Token(token.clone())),
            &because,
        );
    }
    let mut settings = at(&["localhost"]);
    settings.tls.authorities = Some(token);
    refused(settings, "holds no PEM certificate");
}
