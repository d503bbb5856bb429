//! TLS 1.3 to a server whose certificate names it and comes from an authority that is trusted.
//!
//! Trusted are this machine's own authorities, because a company's ledger has its certificate from the company's
//! authority, which is installed on its machines and replaced there, and not compiled into programs; or, where a file is
//! named, the authorities in it and no others. There is no way to leave the check out.
use std::{
    future::Future,
    io,
    path::{Path, PathBuf},
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use rustls::{ClientConfig, RootCertStore, crypto::ring, version::TLS13};
use rustls_pki_types::{CertificateDer, ServerName, pem::PemObject as _};
use tokio::net::TcpStream;
use tokio_rustls::{TlsConnector, client::TlsStream};
use tonic::codegen::Service;

/// HTTP/2, as ALPN calls it.
const H2: &[u8] = b"h2";
const PORT: u16 = 443;

/// Why no server's certificate could be checked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TrustError {
    /// The file cannot be used.
    #[error("the file of certificate authorities {} {why}", path.display())]
    File {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// None are installed.
    #[error(
        "this machine has no certificate authorities installed: install them, or name a file of them"
    )]
    None,
}

/// Makes secured connections to one server.
#[derive(Clone)]
pub(crate) struct Secured {
    config: Arc<ClientConfig>,
    name: ServerName<'static>,
}

impl Secured {
    /// To a host, trusting the authorities of a file, or else this machine's.
    ///
    /// # Errors
    /// [`TrustError`]; `None` in place of the whole where the host can be nobody's name.
    pub(crate) fn to(host: &str, ca: Option<&Path>) -> Option<Result<Self, TrustError>> {
        let name = ServerName::try_from(host.to_owned()).ok()?;
        let roots = match ca {
            Some(path) => roots_of(path),
            None => roots_of_machine(),
        };
        Some(roots.map(|roots| Self {
            config: Arc::new(config(roots)),
            name,
        }))
    }
}

fn config(roots: RootCertStore) -> ClientConfig {
    let builder = ClientConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_protocol_versions(&[&TLS13])
        .expect("ring's provider has cipher suites of TLS 1.3");
    let mut config = builder.with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![H2.to_vec()];
    config
}

fn roots_of(path: &Path) -> Result<RootCertStore, TrustError> {
    let wrong = |why: String| TrustError::File {
        path: path.to_owned(),
        why,
    };
    let bytes = std::fs::read(path).map_err(|error| wrong(format!("cannot be read: {error}")))?;
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(&bytes) {
        let certificate = certificate.map_err(|error| wrong(format!("is not PEM: {error}")))?;
        roots
            .add(certificate)
            .map_err(|error| wrong(format!("holds what is no certificate: {error}")))?;
    }
    if roots.is_empty() {
        return Err(wrong("holds no certificate in PEM".to_owned()));
    }
    Ok(roots)
}

/// An authority that cannot be read is not trusted, and does not stand in the way of the others.
fn roots_of_machine() -> Result<RootCertStore, TrustError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() {
        return Err(TrustError::None);
    }
    Ok(roots)
}

impl Service<Uri> for Secured {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, uri: Uri) -> Self::Future {
        let Self { config, name } = self.clone();
        Box::pin(async move {
            let host = bare(uri.host().unwrap_or_default());
            let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(PORT))).await?;
            stream.set_nodelay(true)?;
            let stream = TlsConnector::from(config).connect(name, stream).await?;
            if stream.get_ref().1.alpn_protocol() != Some(H2) {
                return Err(io::Error::other("what answers there speaks no HTTP/2"));
            }
            Ok(TokioIo::new(stream))
        })
    }
}

/// A host without the brackets of an IPv6 address.
pub(crate) fn bare(host: &str) -> &str {
    host.strip_prefix('[')
        .and_then(|host| host.strip_suffix(']'))
        .unwrap_or(host)
}
