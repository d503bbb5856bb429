//! TLS 1.3 on the port, with a certificate and a key that the caller has read.
use std::{fmt, io, sync::Arc};

use rustls::{
    ServerConfig,
    crypto::ring,
    pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject},
    version::TLS13,
};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio_rustls::{TlsAcceptor, server::TlsStream};

/// A certificate with its key, ready to be served. Clones share it.
#[derive(Clone)]
pub struct Tls(Arc<ServerConfig>);

/// Why a certificate and a key cannot be served.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The certificate's file.
    #[error("the certificate cannot be read as PEM")]
    Certificate(#[source] rustls::pki_types::pem::Error),
    /// The certificate's file holds none.
    #[error(
        "there is no certificate in the file; it holds `-----BEGIN CERTIFICATE-----`, the server's own first"
    )]
    NoCertificate,
    /// The key's file.
    #[error("the key cannot be read as PEM")]
    Key(#[source] rustls::pki_types::pem::Error),
    /// The two do not fit together, or are of a kind that nobody offers.
    #[error("the certificate and the key cannot be served")]
    Unusable(#[from] rustls::Error),
}

impl Tls {
    /// Takes a chain of certificates, the server's own first, and its key, both as PEM.
    ///
    /// # Errors
    /// When they are not that, or do not fit together.
    pub fn from_pem(certificates: &[u8], key: &[u8]) -> Result<Self, Error> {
        let chain = CertificateDer::pem_slice_iter(certificates)
            .collect::<Result<Vec<_>, _>>()
            .map_err(Error::Certificate)?;
        if chain.is_empty() {
            return Err(Error::NoCertificate);
        }
        let key = PrivateKeyDer::from_pem_slice(key).map_err(Error::Key)?;
        let provider = Arc::new(ring::default_provider());
        let mut config = ServerConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&TLS13])?
            .with_no_client_auth()
            .with_single_cert(chain, key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self(Arc::new(config)))
    }

    /// The server's side of a handshake.
    pub(crate) async fn accept<IO>(&self, stream: IO) -> io::Result<TlsStream<IO>>
    where
        IO: AsyncRead + AsyncWrite + Unpin,
    {
        TlsAcceptor::from(self.0.clone()).accept(stream).await
    }
}

impl fmt::Debug for Tls {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tls")
    }
}
