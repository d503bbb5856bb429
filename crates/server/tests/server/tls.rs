//! TLS on the port: what is served through it, and what is not.
use std::sync::Arc;

use rcgen::{CertificateParams, Issuer, KeyPair, date_time_ymd};
use rustls::{
    CertificateError, ClientConfig, Error, RootCertStore, SupportedProtocolVersion,
    crypto::ring,
    pki_types::{CertificateDer, ServerName},
    version::{TLS12, TLS13},
};
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
    sync::watch,
    time::timeout,
};
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::transport::Endpoint;
use waybill_proto::pb::{GetStatusRequest, ledger_service_client::LedgerServiceClient as Ledger};
use waybill_server::tls::Tls;

use crate::kit::{PATIENCE, Served, served_with};

/// Signs certificates, and is what clients trust.
struct Authority {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
}

impl Authority {
    fn new() -> Self {
        Self::named("the authority of the tests")
    }

    fn named(name: &str) -> Self {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(Vec::new()).unwrap();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, name);
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        let certificate = params.self_signed(&key).unwrap().der().clone();
        Self {
            issuer: Issuer::new(params, key),
            certificate,
        }
    }

    /// A certificate for a name with its key, both as PEM.
    fn signs(&self, name: &str, last_year: i32) -> Tls {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
        params.not_before = date_time_ymd(2020, 1, 1);
        params.not_after = date_time_ymd(last_year, 12, 31);
        let certificate = params.signed_by(&key, &self.issuer).unwrap();
        let chain = certificate.pem();
        Tls::from_pem(chain.as_bytes(), key.serialize_pem().as_bytes()).unwrap()
    }

    /// Connects as a client that trusts this authority and wants `localhost`.
    async fn connect(
        &self,
        served: &Served,
        versions: &[&'static SupportedProtocolVersion],
        protocol: &[u8],
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.clone()).unwrap();
        let provider = Arc::new(ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(versions)
            .unwrap()
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![protocol.to_vec()];
        let stream = TcpStream::connect(served.address).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let connected = TlsConnector::from(Arc::new(config)).connect(name, stream);
        timeout(PATIENCE, connected).await.expect("an end in time")
    }
}

async fn served_through(tls: Tls) -> (Served, watch::Sender<Tls>) {
    let (send, receive) = watch::channel(tls);
    let served = served_with(|settings| settings.door.tls = Some(receive));
    (served.await, send)
}

fn why(error: &std::io::Error) -> &Error {
    let inner = error.get_ref().unwrap_or_else(|| panic!("{error:?}"));
    inner.downcast_ref().unwrap_or_else(|| panic!("{error:?}"))
}

/// One request in plain HTTP/1.1 through a connection, and the answer's first line.
async fn livez(mut stream: TlsStream<TcpStream>) -> String {
    let request = b"GET /livez HTTP/1.1\r\nhost: localhost\r\nconnection: close\r\n\r\n";
    stream.write_all(request).await.unwrap();
    let mut answer = Vec::new();
    timeout(PATIENCE, stream.read_to_end(&mut answer))
        .await
        .unwrap()
        .unwrap();
    let answer = String::from_utf8(answer).unwrap();
    answer.lines().next().unwrap_or_default().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn both_forms_of_http_are_served_through_tls_1_3() {
    let authority = Authority::new();
    let (served, _tls) = served_through(authority.signs("localhost", 2100)).await;
    let stream = authority
        .connect(&served, &[&TLS13], b"http/1.1")
        .await
        .unwrap();
    let session = stream.get_ref().1;
    assert_eq!(
        session.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
    assert_eq!(session.alpn_protocol(), Some(&b"http/1.1"[..]));
    assert_eq!(livez(stream).await, "HTTP/1.1 200 OK");

    let stream = authority.connect(&served, &[&TLS13], b"h2").await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"h2"[..]));
    let mut stream = Some(hyper_util::rt::TokioIo::new(stream));
    let connector = tower::service_fn(move |_| {
        let stream = stream.take().ok_or("connected twice");
        async move { stream }
    });
    // The scheme is the connector's business: it has spoken TLS already.
    let endpoint = Endpoint::from_static("http://localhost");
    let channel = endpoint.connect_with_connector(connector).await.unwrap();
    let status = Ledger::new(channel).get_status(GetStatusRequest {}).await;
    assert_eq!(status.unwrap().into_inner().durable_position, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_that_does_not_fit_is_refused_by_clients() {
    let (authority, other) = (Authority::new(), Authority::named("another"));
    for (tls, expected) in [
        (authority.signs("localhost", 2021), "expired"),
        (authority.signs("ledger.acme.dev", 2100), "another name"),
        (other.signs("localhost", 2100), "another authority"),
    ] {
        let (served, _tls) = served_through(tls).await;
        let error = authority
            .connect(&served, &[&TLS13], b"h2")
            .await
            .unwrap_err();
        let Error::InvalidCertificate(why) = why(&error) else {
            panic!("{expected}: {error:?}");
        };
        let found = match why {
            CertificateError::ExpiredContext { .. } => "expired",
            CertificateError::NotValidForNameContext { .. } => "another name",
            CertificateError::UnknownIssuer => "another authority",
            other => panic!("{expected}: {other:?}"),
        };
        assert_eq!(found, expected);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_older_tls_is_refused() {
    let authority = Authority::new();
    let (served, _tls) = served_through(authority.signs("localhost", 2100)).await;
    let error = authority
        .connect(&served, &[&TLS12], b"h2")
        .await
        .unwrap_err();
    let alert = rustls::AlertDescription::ProtocolVersion;
    assert_eq!(why(&error), &Error::AlertReceived(alert));
    assert!(
        authority
            .connect(&served, &[&TLS12, &TLS13], b"h2")
            .await
            .is_ok()
    );
}

/// Plain HTTP on this port is no handshake: nothing is served, and nothing of HTTP is said.
#[tokio::test(flavor = "multi_thread")]
async fn plain_http_gets_nothing() {
    let authority = Authority::new();
    let (served, _tls) = served_through(authority.signs("localhost", 2100)).await;
    let answer = served.get("/livez").await;
    assert_eq!((answer.code, answer.body.as_str()), (0, ""), "{answer:?}");
    assert!(!answer.head.contains("http"), "{answer:?}");
}

/// A client that connects and says nothing, or stops in the middle, holds its place for the time of a handshake.
#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_that_stalls_is_cut() {
    let authority = Authority::new();
    let (_keep, tls) = watch::channel(authority.signs("localhost", 2100));
    let served = served_with(|settings| {
        settings.door.tls = Some(tls);
        settings.limits.connections = 2;
        settings.limits.send_max = std::time::Duration::from_millis(300);
    });
    let served = served.await;
    // A record of a handshake, 512 bytes long, of which only the first ones come.
    for begun in [&b""[..], &[0x16, 3, 1, 2, 0, 1]] {
        let mut stream = TcpStream::connect(served.address).await.unwrap();
        stream.write_all(begun).await.unwrap();
        let ended = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
        drop(ended.expect("the server closes the connection"));
    }
    // After the handshake, silence again.
    let mut stream = authority.connect(&served, &[&TLS13], b"h2").await.unwrap();
    let ended = timeout(PATIENCE, stream.read_to_end(&mut Vec::new())).await;
    drop(ended.expect("the server closes the connection"));
    let stream = authority
        .connect(&served, &[&TLS13], b"http/1.1")
        .await
        .unwrap();
    assert_eq!(livez(stream).await, "HTTP/1.1 200 OK");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_for_new_connections() {
    let authority = Authority::new();
    let (served, tls) = served_through(authority.signs("localhost", 2021)).await;
    let old = authority.connect(&served, &[&TLS13], b"h2").await;
    assert!(matches!(
        why(&old.unwrap_err()),
        Error::InvalidCertificate(_)
    ));
    tls.send_replace(authority.signs("localhost", 2100));
    let stream = authority
        .connect(&served, &[&TLS13], b"http/1.1")
        .await
        .unwrap();
    assert_eq!(livez(stream).await, "HTTP/1.1 200 OK");
}

#[test]
fn what_cannot_be_served_is_refused_at_once() {
    let (key, other) = (KeyPair::generate().unwrap(), KeyPair::generate().unwrap());
    let params = CertificateParams::new(vec!["localhost".to_owned()]).unwrap();
    let chain = params.self_signed(&key).unwrap().pem();
    let from = |chain: &str, key: &str| Tls::from_pem(chain.as_bytes(), key.as_bytes());
    assert!(from(&chain, &key.serialize_pem()).is_ok());
    for (chain, key, expected) in [
        (chain.as_str(), other.serialize_pem(), "cannot be served"),
        ("", key.serialize_pem(), "no certificate"),
        (chain.as_str(), String::new(), "the key cannot be read"),
    ] {
        let error = from(chain, &key).unwrap_err();
        assert!(error.to_string().contains(expected), "{error}");
    }
}
