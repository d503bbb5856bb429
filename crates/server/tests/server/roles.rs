//! The table of access, cell by cell: everything that is served, for everyone who may call.
use std::{collections::BTreeSet, sync::Arc};

use bytes::Bytes;
use http::uri::PathAndQuery;
use prost::Message;
use prost_reflect::DescriptorPool;
use tokio::{sync::watch, time::timeout};
use tokio_stream::StreamExt;
use tonic::{Code, Request, Status, metadata::MetadataValue};
use tonic_types::StatusExt;
use waybill_proto::pb;
use waybill_server::{
    access::{self, Access, Method, Role, Route},
    tokens::{self, RANDOM_BYTES, Secret, Token, Tokens},
};

use crate::{
    kit::{Answer, PATIENCE, Served, commit, commit_json, reason, served_with},
    plain::Plain,
};

/// Of the events of these tests.
const SOURCE: &str = "//ci.acme.dev/shop";

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Who {
    Nobody,
    Wrong,
    Expired,
    Revoked,
    EmitOwn,
    EmitOther,
    Read,
    Operate,
}

const EVERYBODY: [Who; 8] = [
    Who::Nobody,
    Who::Wrong,
    Who::Expired,
    Who::Revoked,
    Who::EmitOwn,
    Who::EmitOther,
    Who::Read,
    Who::Operate,
];

impl Who {
    fn secret(self) -> Option<Secret> {
        let seed = match self {
            Self::Nobody => return None,
            Self::Wrong => 1,
            Self::Expired => 2,
            Self::Revoked => 3,
            Self::EmitOwn => 4,
            Self::EmitOther => 5,
            Self::Read => 6,
            Self::Operate => 7,
        };
        Some(Secret::new(&[seed; RANDOM_BYTES]))
    }

    fn role(self) -> Option<(Role, Vec<String>)> {
        match self {
            Self::Nobody | Self::Wrong => None,
            Self::EmitOwn => Some((Role::Emit, vec![SOURCE.to_owned()])),
            Self::EmitOther => Some((Role::Emit, vec!["//ci.acme.dev/other/*".to_owned()])),
            Self::Read => Some((Role::Read, Vec::new())),
            Self::Operate | Self::Expired | Self::Revoked => Some((Role::Operate, Vec::new())),
        }
    }

    /// Its line in the file of tokens.
    fn token(self) -> Option<Token> {
        let (secret, (role, sources)) = (self.secret()?, self.role()?);
        let long_ago = "2020-01-01T00:00:00Z".parse().unwrap();
        Some(Token {
            name: format!("{self:?}").into(),
            id: secret.id().to_owned(),
            sha256: secret.hash(),
            role,
            sources,
            create_time: long_ago,
            expire_time: (self == Self::Expired).then_some(long_ago),
            revoke_time: None,
        })
    }

    fn bearer(self) -> Option<String> {
        Some(format!("Bearer {}", self.secret()?.reveal()))
    }
}

/// What a cell says.
#[derive(Debug, PartialEq, Eq)]
enum Said {
    In,
    Unknown,
    Forbidden,
}

fn expected(access: Access, who: Who) -> Said {
    let is_in = match who {
        Who::Nobody if access == Access::Open => true,
        Who::Nobody | Who::Wrong | Who::Expired | Who::Revoked => return Said::Unknown,
        // Let in by its role, and then refused for the source that it asks about.
        Who::EmitOther if access == Access::ReadOwn => false,
        Who::EmitOwn | Who::EmitOther => access.allows(Role::Emit),
        Who::Read => access.allows(Role::Read),
        Who::Operate => access.allows(Role::Operate),
    };
    if is_in { Said::In } else { Said::Forbidden }
}

fn said(code: Code) -> Said {
    match code {
        Code::Unauthenticated => Said::Unknown,
        Code::PermissionDenied => Said::Forbidden,
        _ => Said::In,
    }
}

fn everybodys_tokens() -> Tokens {
    let mut text = String::new();
    for token in EVERYBODY.into_iter().filter_map(Who::token) {
        text = tokens::add(&text, &token).unwrap();
    }
    let now = "2020-01-02T00:00:00Z".parse().unwrap();
    let revoked = tokens::revoke(&text, "Revoked", now).unwrap().unwrap();
    tokens::parse(&revoked).unwrap()
}

async fn guarded() -> Served {
    let (_, tokens) = watch::channel(Arc::new(everybodys_tokens()));
    let served = served_with(|settings| {
        settings.door.tokens = Some(tokens);
        settings.limits.failures_per_minute = u32::MAX;
    });
    let served = served.await;
    let mut request = Request::new(pb::EmitRequest {
        events: vec![commit(1)],
    });
    bear(&mut request, Who::Operate);
    served.emits().emit(request).await.unwrap();
    served
}

fn bear<T>(request: &mut Request<T>, who: Who) {
    if let Some(bearer) = who.bearer() {
        let value = MetadataValue::try_from(bearer).unwrap();
        request.metadata_mut().insert("authorization", value);
    }
}

/// What a method is asked, so that it would answer whoever may ask.
fn message(path: &str) -> Vec<u8> {
    let event = pb::EventRef {
        source: SOURCE.to_owned(),
        id: "commit-1".to_owned(),
        position: 0,
    };
    if path == Method::EmitEmit.path() || path == Method::EmitEmitStream.path() {
        let events = vec![commit(1)];
        return pb::EmitRequest { events }.encode_to_vec();
    }
    if path == Method::LedgerGetReceipt.path() {
        let event = Some(event);
        return pb::GetReceiptRequest {
            event,
            ..Default::default()
        }
        .encode_to_vec();
    }
    Vec::new()
}

fn json(path: &str) -> String {
    if path == Method::EmitEmit.path() {
        format!("{{\"events\":[{}]}}", commit_json(1))
    } else if path == Method::LedgerGetReceipt.path() {
        format!("{{\"event\":{{\"source\":\"{SOURCE}\",\"id\":\"commit-1\"}}}}")
    } else if path == Method::LedgerTailEvents.path() {
        "{\"filter\":{\"lastPosition\":\"1\"}}".to_owned()
    } else {
        "{}".to_owned()
    }
}

/// Calls any method over gRPC; what comes first of an answer, or how it failed.
async fn grpc(served: &Served, path: &'static str, who: Who) -> Result<Option<Bytes>, Status> {
    let mut client = tonic::client::Grpc::new(served.channel.clone());
    client.ready().await.unwrap();
    let mut request = Request::new(tokio_stream::iter([Bytes::from(message(path))]));
    bear(&mut request, who);
    let call = client.streaming(request, PathAndQuery::from_static(path), Plain);
    let answer = timeout(PATIENCE, call).await.expect("an answer in time")?;
    let first = timeout(PATIENCE, answer.into_inner().next()).await;
    first.expect("a message in time").transpose()
}

async fn http(served: &Served, method: &str, path: &str, who: Who, body: &str) -> Answer {
    let bearer = who.bearer();
    let mut headers = vec![("content-type", "application/json")];
    headers.extend(bearer.as_deref().map(|it| ("authorization", it)));
    served.http(method, path, &headers, body.as_bytes()).await
}

fn said_over_http(answer: &Answer) -> Said {
    match answer.code {
        401 => Said::Unknown,
        403 => Said::Forbidden,
        _ => Said::In,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn every_method_over_grpc_answers_as_declared() {
    let served = guarded().await;
    let mut texts = BTreeSet::new();
    for route in Route::all().filter(|route| !matches!(route, Route::Page(_))) {
        for who in EVERYBODY {
            let answer = grpc(&served, route.path(), who).await;
            let status = answer.err().unwrap_or_else(|| Status::ok(""));
            let expected = expected(route.access(), who);
            assert_eq!(
                said(status.code()),
                expected,
                "{route:?} {who:?} {status:?}"
            );
            if expected == Said::Unknown {
                texts.insert(format!("{} {:?}", status.message(), status.details()));
            }
        }
    }
    assert_eq!(texts.len(), 1, "one answer, whatever is wrong: {texts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_path_over_http_answers_as_declared() {
    let served = guarded().await;
    let mut texts = BTreeSet::new();
    for route in Route::all() {
        for who in EVERYBODY {
            let answer = match route {
                Route::Page(page) => http(&served, "GET", page.path(), who, "").await,
                _ => http(&served, "POST", route.path(), who, &json(route.path())).await,
            };
            let expected = expected(route.access(), who);
            assert_eq!(
                said_over_http(&answer),
                expected,
                "{route:?} {who:?} {answer:?}"
            );
            if expected == Said::Unknown {
                assert!(
                    answer.head.contains("www-authenticate: bearer\r\n"),
                    "{answer:?}"
                );
                if matches!(route, Route::Method(_)) {
                    texts.insert(answer.body);
                }
            }
        }
    }
    assert_eq!(texts.len(), 1, "one answer, whatever is wrong: {texts:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_in_the_table_is_not_there_for_anybody() {
    let served = guarded().await;
    for path in [
        "/nope",
        "/metrics/",
        "//metrics",
        "/%6detrics",
        "/waybill.v1.LedgerService/Nope",
        "/waybill.v1.LedgerService/GetStatus/",
        "/grpc.health.v1.Health/List",
    ] {
        let mut answers = BTreeSet::new();
        for who in EVERYBODY {
            let answer = http(&served, "GET", path, who, "").await;
            answers.insert((answer.code, answer.body));
            let status = grpc(&served, path, who).await.unwrap_err();
            assert_eq!(status.code(), Code::Unimplemented, "{path} {who:?}");
        }
        assert_eq!(answers.len(), 1, "{path}: {answers:?}");
        assert_eq!(answers.first().unwrap().0, 404, "{path}");
    }
}

#[test]
fn every_method_that_is_served_is_in_the_table() {
    let mut served = BTreeSet::new();
    for descriptors in [
        waybill_proto::FILE_DESCRIPTOR_SET,
        tonic_health::pb::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
        tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
    ] {
        let pool = DescriptorPool::decode(descriptors).unwrap();
        for method in pool
            .services()
            .flat_map(|it| it.methods().collect::<Vec<_>>())
        {
            let service = method.parent_service().full_name().to_owned();
            served.insert(format!("/{service}/{}", method.name()));
        }
    }
    let methods = Route::all().filter(|route| !matches!(route, Route::Page(_)));
    let table: BTreeSet<String> = methods.map(|route| route.path().to_owned()).collect();
    assert_eq!(table, served);
}

#[test]
fn the_table_of_the_documents_is_the_table() {
    let document = include_str!("../../../../deploy/README.md");
    assert!(
        document.contains(&access::table()),
        "deploy/README.md has another table than:\n{}",
        access::table()
    );
}

/// An emitter's events are its own sources' only, and what they amend too.
#[tokio::test(flavor = "multi_thread")]
async fn an_emitter_speaks_for_its_own_sources() {
    let served = guarded().await;
    let amending = pb::Event {
        source: "//ci.acme.dev/other/a".to_owned(),
        id: "retraction-1".to_owned(),
        record_kind: pb::RecordKind::Retraction.into(),
        amends: Some(pb::EventRef {
            source: SOURCE.to_owned(),
            id: "commit-1".to_owned(),
            position: 0,
        }),
        ..commit(1)
    };
    let theirs = pb::Event {
        source: "//ci.acme.dev/other/a".to_owned(),
        ..commit(2)
    };
    let mut request = Request::new(pb::EmitRequest {
        events: vec![theirs, commit(3), amending],
    });
    bear(&mut request, Who::EmitOther);
    let answer = served.emits().emit(request).await.unwrap().into_inner();
    let codes: Vec<_> = answer
        .results
        .iter()
        .map(|it| match it.result.as_ref().unwrap() {
            pb::emit_result::Result::Receipt(_) => "recorded",
            pb::emit_result::Result::Refusal(refusal) => &refusal.code,
        })
        .collect();
    assert_eq!(codes, ["recorded", "NOT_ALLOWED", "NOT_ALLOWED"]);

    let position = match answer.results[0].result.as_ref().unwrap() {
        pb::emit_result::Result::Receipt(receipt) => receipt.position,
        pb::emit_result::Result::Refusal(refusal) => panic!("{refusal:?}"),
    };
    let mut request = Request::new(pb::GetEventRequest {
        key: Some(pb::get_event_request::Key::Position(position)),
        at_least: Some(pb::AtLeast {
            ledger_id: String::new(),
            position,
        }),
    });
    bear(&mut request, Who::Read);
    let event = served
        .reads()
        .get_event(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        event.event.unwrap().sender,
        "EmitOther",
        "the verified name"
    );
}

/// Whether another's event exists is not told.
#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_of_others_is_refused_whether_it_exists_or_not() {
    let served = guarded().await;
    let mut statuses = Vec::new();
    for id in ["commit-1", "no-such-event"] {
        let event = pb::EventRef {
            source: SOURCE.to_owned(),
            id: id.to_owned(),
            position: 0,
        };
        let mut request = Request::new(pb::GetReceiptRequest {
            event: Some(event),
            ..Default::default()
        });
        bear(&mut request, Who::EmitOther);
        let status = served.reads().get_receipt(request).await.unwrap_err();
        assert_eq!(reason(&status), "NOT_ALLOWED");
        let info = status.get_details_error_info().unwrap();
        statuses.push((status.message().to_owned(), info.metadata));
    }
    assert_eq!(statuses[0], statuses[1]);
}

/// Reasons of a bad state name files; they are for those who may read.
#[tokio::test(flavor = "multi_thread")]
async fn readiness_is_told_to_all_and_its_reasons_to_readers() {
    let served = guarded().await;
    for (who, told) in [
        (Who::Nobody, false),
        (Who::EmitOwn, false),
        (Who::Read, true),
    ] {
        let answer = http(&served, "GET", "/readyz?verbose", who, "").await;
        assert_eq!(answer.code, 200, "{who:?}");
        assert_eq!(
            answer.body.contains("questions: views"),
            told,
            "{who:?} {answer:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_the_same_address_may_call_with_a_token() {
    let served = guarded().await;
    let bearer = Who::Read.bearer().unwrap();
    let path = Method::LedgerGetStatus.path();
    for (origin, code) in [
        ("https://localhost", 200),
        ("https://ledger.acme.dev", 403),
        ("null", 403),
    ] {
        let headers = [
            ("content-type", "application/json"),
            ("authorization", bearer.as_str()),
            ("origin", origin),
        ];
        let answer = served.http("POST", path, &headers, b"{}").await;
        assert_eq!(answer.code, code, "{origin} {answer:?}");
    }
}
