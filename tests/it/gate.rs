//! A server in front of a real ledger that does what a ledger on another address does: it speaks TLS 1.3, and lets in
//! whoever shows the right token. It writes down what every call showed it.
use std::{
    convert::Infallible,
    fs::Permissions,
    future::{Future, poll_fn},
    net::SocketAddr,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    pin::Pin,
    sync::{Arc, Mutex},
    task::{Context, Poll},
};

use http::{Request, Response, header};
use hyper_util::{
    rt::{TokioExecutor, TokioIo},
    server::conn::auto::Builder,
    service::TowerToHyperService,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, DnType, IsCa, KeyPair};
use rustls::pki_types::{PrivateKeyDer, PrivatePkcs8KeyDer};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    runtime::Runtime,
};
use tokio_rustls::TlsAcceptor;
use tonic::{
    Status,
    body::Body,
    codegen::Service,
    transport::{Channel, Endpoint},
};

/// Whom a gate lets in.
#[derive(Clone, Debug)]
pub(crate) enum Lets {
    /// Who shows this token.
    Token(&'static str),
    Nobody,
    /// It sends everybody there.
    Elsewhere(String),
}

/// Who vouches for servers.
pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// What a server's certificate says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Certificate {
    Good,
    Expired,
    /// It is another server's.
    OtherName,
}

impl Authority {
    pub(crate) fn new(name: &str) -> Self {
        let mut params = CertificateParams::new([]).unwrap();
        params.distinguished_name.push(DnType::CommonName, name);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let issuer = CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap();
        Self { issuer }
    }

    /// Writes the file that people are given to trust it.
    pub(crate) fn write(&self, path: &Path) -> PathBuf {
        std::fs::write(path, self.issuer.pem()).unwrap();
        path.to_owned()
    }

    /// Writes a certificate for this machine and its key, as a server is given them.
    pub(crate) fn write_certificate(&self, directory: &Path) -> [PathBuf; 2] {
        let key = KeyPair::generate().unwrap();
        let params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]);
        let signed = params.unwrap().signed_by(&key, &self.issuer).unwrap();
        let files = [("cert.pem", signed.pem()), ("key.pem", key.serialize_pem())];
        files.map(|(name, text)| {
            let path = directory.join(name);
            std::fs::write(&path, text).unwrap();
            std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
            path
        })
    }

    fn acceptor(&self, certificate: Certificate) -> TlsAcceptor {
        let name = match certificate {
            Certificate::Good | Certificate::Expired => "localhost",
            Certificate::OtherName => "ledger.acme.example",
        };
        let mut params = CertificateParams::new([name.to_owned()]).unwrap();
        if certificate == Certificate::Expired {
            params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        }
        let key = KeyPair::generate().unwrap();
        let signed = params.signed_by(&key, &self.issuer).unwrap();
        let key = PrivateKeyDer::from(PrivatePkcs8KeyDer::from(key.serialize_der()));
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .unwrap()
            .with_no_client_auth();
        let mut config = config
            .with_single_cert(vec![signed.der().clone()], key)
            .unwrap();
        config.alpn_protocols = vec![b"h2".to_vec()];
        TlsAcceptor::from(Arc::new(config))
    }
}

/// A gate that stands while this is held.
pub(crate) struct Gate {
    address: SocketAddr,
    door: Door,
    secured: bool,
    _runtime: Runtime,
}

/// What calls go through.
#[derive(Clone)]
struct Door {
    lets: Arc<Mutex<Lets>>,
    seen: Arc<Mutex<Vec<Option<String>>>>,
    ledger: Channel,
}

impl Gate {
    /// Before the ledger at an address; with a certificate it speaks TLS, and without one anybody on the way can read.
    pub(crate) fn before(
        ledger: &str,
        certificate: Option<(&Authority, Certificate)>,
        lets: Lets,
    ) -> Self {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let acceptor = certificate.map(|(authority, which)| authority.acceptor(which));
        let secured = acceptor.is_some();
        let endpoint = Endpoint::from_shared(ledger.to_owned()).unwrap();
        let (address, door) = runtime.block_on(async {
            let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
            let address = listener.local_addr().unwrap();
            let door = Door {
                lets: Arc::new(Mutex::new(lets)),
                seen: Arc::default(),
                ledger: endpoint.connect_lazy(),
            };
            tokio::spawn(serve(listener, acceptor, door.clone()));
            (address, door)
        });
        Self {
            address,
            door,
            secured,
            _runtime: runtime,
        }
    }

    pub(crate) fn url(&self) -> String {
        let scheme = if self.secured { "https" } else { "http" };
        format!("{scheme}://localhost:{}", self.address.port())
    }

    pub(crate) fn let_in(&self, lets: Lets) {
        *self.door.lets.lock().unwrap() = lets;
    }

    /// What the calls since the last time showed, each once.
    pub(crate) fn seen(&self) -> Vec<Option<String>> {
        let mut seen = std::mem::take(&mut *self.door.seen.lock().unwrap());
        seen.dedup();
        seen
    }
}

async fn serve(listener: TcpListener, acceptor: Option<TlsAcceptor>, door: Door) {
    while let Ok((stream, _)) = listener.accept().await {
        let (acceptor, door) = (acceptor.clone(), door.clone());
        tokio::spawn(async move {
            match acceptor {
                // Who does not speak TLS is not answered, as a ledger does it.
                Some(acceptor) => {
                    if let Ok(stream) = acceptor.accept(stream).await {
                        converse(stream, door).await;
                    }
                }
                None => converse(stream, door).await,
            }
        });
    }
}

async fn converse(stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static, door: Door) {
    let service = TowerToHyperService::new(door);
    let connection = Builder::new(TokioExecutor::new());
    // How a client goes away is no concern of these tests.
    drop(
        connection
            .serve_connection(TokioIo::new(stream), service)
            .await,
    );
}

impl<B> Service<Request<B>> for Door
where
    B: http_body::Body<Data = bytes::Bytes> + Send + 'static,
    B::Error: Into<Box<dyn std::error::Error + Send + Sync>>,
{
    type Response = Response<Body>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let shown = request.headers().get(header::AUTHORIZATION);
        let shown = shown.map(|value| value.to_str().unwrap().to_owned());
        self.seen.lock().unwrap().push(shown.clone());
        let (lets, mut ledger) = (self.lets.lock().unwrap().clone(), self.ledger.clone());
        Box::pin(async move {
            let answer = match lets {
                Lets::Token(token) if shown == Some(format!("Bearer {token}")) => {
                    poll_fn(|context| ledger.poll_ready(context)).await.unwrap();
                    ledger.call(request.map(Body::new)).await.unwrap()
                }
                Lets::Token(_) | Lets::Nobody => {
                    Status::unauthenticated("the token is not known").into_http()
                }
                Lets::Elsewhere(url) => Response::builder()
                    .status(307)
                    .header(header::LOCATION, url + request.uri().path())
                    .body(Body::empty())
                    .unwrap(),
            };
            Ok(answer)
        })
    }
}
