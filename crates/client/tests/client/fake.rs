//! A ledger of a few lines, on a port of its own: it keeps what it is sent, once, and fails as it is told.
use std::{
    collections::VecDeque,
    pin::Pin,
    sync::{Arc, Mutex},
    time::Duration,
};

use bytes::Bytes;
use tokio::{net::TcpListener, sync::mpsc};
use tokio_stream::{
    Stream, StreamExt,
    wrappers::{ReceiverStream, TcpListenerStream},
};
use tonic::{Request, Response, Status, Streaming, metadata::MetadataMap};
use tonic_types::{ErrorDetails, StatusExt};
use waybill_client::{Client, Retry};
use waybill_proto::{
    pb, raw,
    server::{
        emit_service_server::{EmitService, EmitServiceServer},
        ledger_service_server::{LedgerService, LedgerServiceServer},
    },
};

/// What the ledger does with its next request instead of answering it.
#[derive(Clone, Debug)]
pub(crate) enum Trouble {
    /// It says that it is busy, and when to come again.
    Busy(Duration),
    /// It answers with this status and records nothing.
    Say(Status),
    /// It records what came, and breaks off before it answers.
    BreakOff,
    /// It never answers.
    Hang,
}

#[derive(Default)]
struct Kept {
    url: String,
    /// Events in order, each once.
    events: Vec<Bytes>,
    /// Requests in order, also those that were not answered.
    requests: Vec<Vec<Bytes>>,
    /// What requests showed to be let in.
    shown: Vec<Option<String>>,
    troubles: VecDeque<Trouble>,
    /// Messages that each tail sends before it breaks off.
    tails: VecDeque<Vec<raw::TailMessage>>,
    tails_from: Vec<u64>,
}

#[derive(Clone, Default)]
pub(crate) struct Fake(Arc<Mutex<Kept>>);

/// Events whose id is this are refused.
pub(crate) const REFUSED: &str = "refused";

impl Fake {
    /// Starts a ledger that meets these troubles, one for each request, and then none; gives a client of it.
    pub(crate) async fn start(troubles: impl IntoIterator<Item = Trouble>) -> (Self, Client) {
        let fake = Self::default();
        fake.kept(|kept| kept.troubles = troubles.into_iter().collect());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let serving = tonic::transport::Server::builder()
            .add_service(EmitServiceServer::new(fake.clone()))
            .add_service(LedgerServiceServer::new(fake.clone()))
            .serve_with_incoming(TcpListenerStream::new(listener));
        tokio::spawn(serving);
        fake.kept(|kept| kept.url.clone_from(&url));
        let quick = Retry {
            first: Duration::from_millis(2),
            most: Duration::from_millis(20),
            each: Duration::from_millis(500),
        };
        (fake, Client::connect(&url).unwrap().with_retry(quick))
    }

    pub(crate) fn events(&self) -> Vec<Bytes> {
        self.kept(|kept| kept.events.clone())
    }

    pub(crate) fn requests(&self) -> Vec<Vec<Bytes>> {
        self.kept(|kept| kept.requests.clone())
    }

    pub(crate) fn shown(&self) -> Vec<Option<String>> {
        self.kept(|kept| kept.shown.clone())
    }

    pub(crate) fn url(&self) -> String {
        self.kept(|kept| kept.url.clone())
    }

    pub(crate) fn plan_tails(&self, tails: impl IntoIterator<Item = Vec<raw::TailMessage>>) {
        self.kept(|kept| kept.tails = tails.into_iter().collect());
    }

    /// Positions that tails asked to begin with.
    pub(crate) fn tails_from(&self) -> Vec<u64> {
        self.kept(|kept| kept.tails_from.clone())
    }

    fn look(&self, about: &MetadataMap) {
        let shown = about.get("authorization");
        let shown = shown.map(|shown| shown.to_str().unwrap().to_owned());
        self.kept(|kept| kept.shown.push(shown));
    }

    fn kept<T>(&self, work: impl FnOnce(&mut Kept) -> T) -> T {
        work(&mut self.0.lock().unwrap())
    }

    /// Takes a request, as the next trouble says.
    async fn take(&self, events: Vec<Bytes>) -> Result<Vec<pb::EmitResult>, Status> {
        let trouble = self.kept(|kept| {
            kept.requests.push(events.clone());
            kept.troubles.pop_front()
        });
        match trouble {
            Some(Trouble::Busy(delay)) => {
                let details = ErrorDetails::with_retry_info(Some(delay));
                return Err(Status::with_error_details(
                    tonic::Code::ResourceExhausted,
                    "busy",
                    details,
                ));
            }
            Some(Trouble::Say(status)) => return Err(status),
            Some(Trouble::Hang) => std::future::pending().await,
            Some(Trouble::BreakOff) | None => {}
        }
        let results = events.into_iter().map(|event| self.record(event)).collect();
        match trouble {
            Some(_) => Err(Status::unknown("connection broken")),
            None => Ok(results),
        }
    }

    fn record(&self, event: Bytes) -> pb::EmitResult {
        let id = <pb::Event as prost::Message>::decode(event.clone())
            .unwrap()
            .id;
        let result = if id == REFUSED {
            let refusal = pb::Refusal {
                code: "MALFORMED".into(),
                rule: "not this one".into(),
                ..Default::default()
            };
            pb::emit_result::Result::Refusal(refusal)
        } else {
            let (position, duplicate) =
                self.kept(
                    |kept| match kept.events.iter().position(|it| *it == event) {
                        Some(at) => (at + 1, true),
                        None => {
                            kept.events.push(event);
                            (kept.events.len(), false)
                        }
                    },
                );
            let position = u64::try_from(position).unwrap();
            pb::emit_result::Result::Receipt(pb::Receipt {
                position,
                duplicate,
                ..Default::default()
            })
        };
        pb::EmitResult {
            result: Some(result),
        }
    }
}

type Answers<T> = Pin<Box<dyn Stream<Item = Result<T, Status>> + Send>>;

#[tonic::async_trait]
impl EmitService for Fake {
    async fn emit(
        &self,
        request: Request<raw::EmitRequest>,
    ) -> Result<Response<pb::EmitResponse>, Status> {
        self.look(request.metadata());
        let results = self.take(request.into_inner().events).await?;
        Ok(Response::new(pb::EmitResponse { results }))
    }

    type EmitStreamStream = Answers<pb::EmitStreamResponse>;

    async fn emit_stream(
        &self,
        request: Request<Streaming<raw::EmitStreamRequest>>,
    ) -> Result<Response<Self::EmitStreamStream>, Status> {
        self.look(request.metadata());
        let (fake, mut requests) = (self.clone(), request.into_inner());
        let (answers, stream) = mpsc::channel(1);
        tokio::spawn(async move {
            while let Some(Ok(request)) = requests.next().await {
                let answer = fake.take(request.events).await;
                let broken = answer.is_err();
                let answer = answer.map(|results| pb::EmitStreamResponse { results });
                if answers.send(answer).await.is_err() || broken {
                    return;
                }
            }
        });
        Ok(Response::new(Box::pin(ReceiverStream::new(stream))))
    }
}

#[tonic::async_trait]
impl LedgerService for Fake {
    type TailEventsStream = Answers<raw::TailEventsResponse>;

    async fn tail_events(
        &self,
        request: Request<pb::TailEventsRequest>,
    ) -> Result<Response<Self::TailEventsStream>, Status> {
        let messages = self.kept(|kept| {
            kept.tails_from.push(request.into_inner().first_position);
            kept.tails.pop_front().unwrap_or_default()
        });
        let messages = messages.into_iter().map(|message| {
            Ok(raw::TailEventsResponse {
                message: Some(message),
            })
        });
        let broken = [Err(Status::unavailable("stopping"))];
        Ok(Response::new(Box::pin(tokio_stream::iter(
            messages.chain(broken).collect::<Vec<_>>(),
        ))))
    }

    async fn get_status(
        &self,
        _: Request<pb::GetStatusRequest>,
    ) -> Result<Response<pb::GetStatusResponse>, Status> {
        Ok(Response::new(pb::GetStatusResponse {
            durable_position: 40,
            ..Default::default()
        }))
    }

    async fn get_event(
        &self,
        _: Request<pb::GetEventRequest>,
    ) -> Result<Response<raw::GetEventResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_receipt(
        &self,
        _: Request<pb::GetReceiptRequest>,
    ) -> Result<Response<pb::GetReceiptResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_events(
        &self,
        _: Request<pb::ListEventsRequest>,
    ) -> Result<Response<raw::ListEventsResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_checkpoint(
        &self,
        _: Request<pb::GetCheckpointRequest>,
    ) -> Result<Response<pb::GetCheckpointResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_inclusion_proof(
        &self,
        _: Request<pb::GetInclusionProofRequest>,
    ) -> Result<Response<pb::GetInclusionProofResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn get_consistency_proof(
        &self,
        _: Request<pb::GetConsistencyProofRequest>,
    ) -> Result<Response<pb::GetConsistencyProofResponse>, Status> {
        Err(Status::unimplemented(""))
    }

    async fn list_refusals(
        &self,
        _: Request<pb::ListRefusalsRequest>,
    ) -> Result<Response<pb::ListRefusalsResponse>, Status> {
        Err(Status::unimplemented(""))
    }
}
