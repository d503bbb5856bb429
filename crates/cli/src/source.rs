//! Where answers come from. A directory is served to this process alone, so that every command speaks to a server and
//! is written once.
use std::{
    future::Future,
    path::PathBuf,
    time::{Duration, Instant},
};

use bytes::Bytes;
use tonic::{
    Request, Response, Status,
    client::Grpc,
    transport::{Channel, Endpoint},
};
use tonic_prost::ProstCodec;
use tonic_types::StatusExt as _;
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Where {
    /// A server, by its address.
    Server(String),
    /// A ledger's own files.
    Directory {
        directory: PathBuf,
        /// Where its keys and head file are.
        state: PathBuf,
    },
}

/// The largest answer that is taken: a full page of the largest events.
const ANSWER_BYTES_MAX: usize = 512 << 20;
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

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

/// A way to the answers.
pub(crate) struct Source {
    channel: Channel,
    address: String,
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
            Where::Server(address) => Self::server(address, timeout),
            Where::Directory { directory, state } => {
                let local = local::Local::open(directory, state, missing, quiet).await?;
                let source = Self::server(local.address(), timeout)?;
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
    /// Refuses what is no address of a server.
    pub(crate) fn server(address: String, timeout: Duration) -> Result<Self, Failure> {
        let url = if address.contains("://") {
            address.clone()
        } else {
            format!("http://{address}")
        };
        let wrong = |why: &str| {
            Failure::usage(format!("the server's address is `{address}`, {why}"))
                .with_hint("write http://HOST:PORT")
        };
        if url.starts_with("https://") {
            return Err(wrong("and this version speaks no TLS"));
        }
        let endpoint = Endpoint::from_shared(url.clone()).map_err(|_| wrong("not a URL"))?;
        if endpoint.uri().scheme_str() != Some("http") || endpoint.uri().host().is_none() {
            return Err(wrong("not a URL of the form http://HOST:PORT"));
        }
        let channel = endpoint.connect_timeout(CONNECT_TIMEOUT).connect_lazy();
        Ok(Self {
            channel,
            address: url,
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

    pub(crate) fn ledger(&self) -> LedgerServiceClient<Channel> {
        LedgerServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn operate(&self) -> OperateServiceClient<Channel> {
        OperateServiceClient::new(self.channel.clone())
    }

    pub(crate) fn trace(&self) -> TraceServiceClient<Channel> {
        TraceServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
    }

    pub(crate) fn delivery(&self) -> DeliveryServiceClient<Channel> {
        DeliveryServiceClient::new(self.channel.clone()).max_decoding_message_size(ANSWER_BYTES_MAX)
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
            Some(source) if status.code() == tonic::Code::Unavailable => {
                let failure = Failure::new(
                    Exit::Unreachable,
                    format!("{} cannot be reached: {}", self.address, chain(source)),
                );
                failure.with_hint(
                    "start a server with `waybill serve`, or name a directory with --ledger DIR",
                )
            }
            // The channel keeps the deadline too, and calls a call that missed it cancelled.
            _ if status.code() == tonic::Code::Cancelled => self.too_late(),
            _ => Failure::from(status),
        }
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
        let mut grpc = Grpc::new(self.channel.clone());
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
