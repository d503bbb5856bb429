//! Where answers come from. A directory is served to this process alone, so that every command speaks to a server and
//! is written once.
use std::{
    fmt,
    future::Future,
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tonic::{Request, Response, Status, client::Grpc};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;
use waybill_client::{Carrier, Connect, ConnectError, Token};
use waybill_proto::{
    pb::{
        EmitResponse, delivery_service_client::DeliveryServiceClient,
        ledger_service_client::LedgerServiceClient, operate_service_client::OperateServiceClient,
        trace_service_client::TraceServiceClient,
    },
    raw,
};

use crate::{
    context::Missing,
    exit::{Exit, Failure, chain},
};

mod local;

/// What answers.
#[derive(Clone, Debug)]
pub(crate) enum Where {
    /// A server, by its address.
    Server(Server),
    /// A ledger's own files.
    Directory {
        directory: PathBuf,
        /// Where its keys and head file are.
        state: PathBuf,
    },
}

/// A server, and what it alone is shown.
#[derive(Clone, Debug, Default)]
pub(crate) struct Server {
    /// As it was given; events that wait for it are filed under it.
    pub(crate) address: String,
    pub(crate) token: Option<Token>,
    /// Certificate authorities to trust instead of this machine's.
    pub(crate) ca: Option<PathBuf>,
    /// A variable holds a token, which is meant for another server than this.
    pub(crate) unsent: bool,
}

impl From<String> for Server {
    /// A server that is shown no token.
    fn from(address: String) -> Self {
        Self {
            address,
            ..Self::default()
        }
    }
}

impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)
    }
}

/// An address as a URL: without a scheme it is a plain one.
pub(crate) fn url(address: &str) -> String {
    match address.contains("://") {
        true => address.to_owned(),
        false => format!("http://{address}"),
    }
}

/// Why a server cannot be called, with what to do about it.
pub(crate) fn cannot_connect(error: ConnectError) -> Failure {
    let hint = match &error {
        ConnectError::Address { .. } => "write https://HOST:PORT or http://HOST:PORT",
        ConnectError::TokenInClear { .. } => {
            "call it over https, or from its own machine, or without a token"
        }
        ConnectError::CaInClear { .. } => "call it over https",
        ConnectError::Trust(_) => "name a PEM file of certificate authorities that you trust",
        ConnectError::NoRuntime => return Failure::unexpected(error.to_string()),
    };
    Failure::usage(error.to_string()).with_hint(hint)
}

/// The largest answer that is taken: a full page of the largest events.
const ANSWER_BYTES_MAX: usize = 512 << 20;

/// How long an import waits for a ledger that is busy.
const PATIENCE: Duration = Duration::from_secs(60);

/// When the server says that it may be tried again.
fn retry_delay(status: &Status) -> Option<Duration> {
    let again = matches!(
        status.code(),
        tonic::Code::ResourceExhausted | tonic::Code::Unavailable
    );
    status
        .get_details_retry_info()
        .and_then(|info| info.retry_delay)
        .filter(|_| again)
}

/// Whether a call ended because its time was over.
fn is_timeout(error: &(dyn std::error::Error + 'static)) -> bool {
    error.is::<tonic::TimeoutExpired>() || error.source().is_some_and(is_timeout)
}

/// A way to the answers.
pub(crate) struct Source {
    carrier: Carrier,
    address: String,
    /// A token was held back: the server is not the one that it is meant for.
    unsent: bool,
    timeout: Duration,
    local: Option<local::Local>,
}

impl Source {
    pub(crate) async fn open(
        place: Where,
        missing: Missing,
        timeout: Duration,
        quiet: bool,
    ) -> Result<Self, Failure> {
        match place {
            Where::Server(server) => Self::server(server, timeout),
            Where::Directory { directory, state } => {
                let local = local::Local::open(directory, state, missing, quiet).await?;
                let source = Self::server(local.address().into(), timeout)?;
                Ok(Self {
                    local: Some(local),
                    ..source
                })
            }
        }
    }

    /// A server's address is checked here; it is called with the first question.
    ///
    /// # Errors
    /// Refuses what is no address of a server, and a token that would go there in clear.
    pub(crate) fn server(server: Server, timeout: Duration) -> Result<Self, Failure> {
        let address = url(&server.address);
        let mut connect = Connect::to(address.clone());
        if let Some(token) = server.token {
            connect = connect.with_token(token);
        }
        if let Some(ca) = server.ca {
            connect = connect.with_ca(ca);
        }
        Ok(Self {
            carrier: connect.carrier().map_err(cannot_connect)?,
            address,
            unsent: server.unsent,
            timeout,
            local: None,
        })
    }

    /// How people call it: a server's address, or this directory.
    pub(crate) fn name(&self) -> &str {
        if self.local.is_some() {
            "the directory"
        } else {
            &self.address
        }
    }

    /// The key that makes actors, where this process has the ledger open itself (LEDGER E10).
    pub(crate) fn actor_key(&self) -> Option<[u8; 32]> {
        self.local.as_ref().map(local::Local::actor_key)
    }

    pub(crate) fn ledger(&self) -> LedgerServiceClient<Carrier> {
        LedgerServiceClient::new(self.carrier.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn operate(&self) -> OperateServiceClient<Carrier> {
        OperateServiceClient::new(self.carrier.clone())
    }

    pub(crate) fn trace(&self) -> TraceServiceClient<Carrier> {
        TraceServiceClient::new(self.carrier.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn delivery(&self) -> DeliveryServiceClient<Carrier> {
        DeliveryServiceClient::new(self.carrier.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    /// Answers may take so much longer: the server was asked to wait.
    pub(crate) fn wait_longer(&mut self, by: Duration) {
        self.timeout += by;
    }

    /// A request with the deadline that was asked for.
    pub(crate) fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    /// Waits for an answer, no longer than the deadline.
    ///
    /// # Errors
    /// What the server says, or that it cannot be reached and at which address.
    pub(crate) async fn answer<T>(
        &self,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.timeout, call).await {
            Ok(Ok(response)) => Ok(response.into_inner()),
            Ok(Err(status)) => Err(self.explain(status)),
            Err(_) => Err(self.too_late()),
        }
    }

    fn too_late(&self) -> Failure {
        Failure::new(
            Exit::Unreachable,
            format!("no answer from {} within {:?}", self.address, self.timeout),
        )
        .with_hint("give it longer with --timeout LENGTH")
    }

    /// A status as a failure; one that never came from a server names the address.
    pub(crate) fn explain(&self, status: Status) -> Failure {
        match std::error::Error::source(&status) {
            // The channel keeps the deadline too.
            Some(source) if is_timeout(source) => self.too_late(),
            // What never came from a server; a connection that breaks under a call has any of several codes.
            Some(source) => {
                let why = chain(source);
                let broke = status.code() != tonic::Code::Unavailable;
                let what = format!("{} cannot be reached: {why}", self.address);
                Failure::new(Exit::Unreachable, what).with_hint(self.hint(&why, broke))
            }
            None if status.code() == tonic::Code::Cancelled => self.too_late(),
            None => self.with_token_hint(Failure::from(status)),
        }
    }

    /// What to do about a server that cannot be reached.
    fn hint(&self, why: &str, broke: bool) -> &'static str {
        let secured = self.address.starts_with("https://");
        match (secured, broke) {
            (true, _) if why.contains("UnknownIssuer") => {
                "nobody whom this machine trusts vouches for it: name its certificate authority with WAYBILL_CA=FILE or `waybill context add … --ca FILE`, if it is the right server"
            }
            (true, _) if why.contains("certificate") => {
                "is its certificate valid, and made for this name?"
            }
            (true, _) => "is a server running there, and does it speak TLS?",
            (false, true) => "does it speak TLS? Then its address begins with https://",
            (false, false) => {
                "start a server with `waybill serve`, or name a directory with --ledger DIR"
            }
        }
    }

    /// Where the server turns the caller away and does not say what to do.
    fn with_token_hint(&self, failure: Failure) -> Failure {
        if failure.exit() != Exit::Auth || !failure.hint().is_empty() {
            return failure;
        }
        failure.with_hint(match (self.carrier.shows_token(), self.unsent) {
            (true, _) => "the token may have expired, or lack the role: ask the ledger's operator for another",
            (false, true) => "WAYBILL_TOKEN and WAYBILL_TOKEN_FILE go to WAYBILL_SERVER or --server only, so no token was sent",
            (false, false) => "give it a token: `waybill context add NAME --server URL --token-file FILE`, or WAYBILL_TOKEN_FILE beside WAYBILL_SERVER",
        })
    }

    /// Records encoded events; the bytes are sent as they are.
    ///
    /// # Errors
    /// As [`Source::answer`]; what became of each event is in the answer.
    pub(crate) async fn emit(&self, events: Vec<Bytes>) -> Result<EmitResponse, Failure> {
        self.answer(self.try_emit(events)).await
    }

    /// Records encoded events, and tries again where the ledger says that it is busy.
    ///
    /// # Errors
    /// As [`Source::emit`], and when it stays busy for a minute.
    pub(crate) async fn emit_patiently(&self, events: Vec<Bytes>) -> Result<EmitResponse, Failure> {
        let end = Instant::now() + PATIENCE;
        loop {
            match self.try_emit(events.clone()).await {
                Ok(response) => return Ok(response.into_inner()),
                Err(status) => match retry_delay(&status) {
                    Some(delay) if Instant::now() + delay < end => tokio::time::sleep(delay).await,
                    _ => return Err(self.explain(status)),
                },
            }
        }
    }

    async fn try_emit(&self, events: Vec<Bytes>) -> Result<Response<EmitResponse>, Status> {
        let mut grpc = Grpc::new(self.carrier.clone());
        grpc.ready()
            .await
            .map_err(|error| Status::from_error(Box::new(error)))?;
        let path = http::uri::PathAndQuery::from_static("/waybill.v1.EmitService/Emit");
        let codec = ProstCodec::<raw::EmitRequest, EmitResponse>::default();
        grpc.unary(self.request(raw::EmitRequest { events }), path, codec)
            .await
    }

    /// Lets go of a directory: what is under way ends, and the head is written.
    ///
    /// # Errors
    /// What could not be written.
    pub(crate) async fn close(self) -> Result<(), Failure> {
        match self.local {
            Some(local) => local.close().await,
            None => Ok(()),
        }
    }
}
