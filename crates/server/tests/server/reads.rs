//! GetEvent, GetReceipt, ListEvents, proofs, refusals and status over gRPC.
use std::time::Duration;

use prost::Message;
use tokio::time::timeout;
use tonic::{Code, Request};
use tonic_types::StatusExt;
use waybill_proto::pb;
use waybill_tlog::proof::{verify_consistency, verify_inclusion};

use crate::kit::{PATIENCE, Served, commit, large, reason, served};

fn by_position(position: u64) -> pb::GetEventRequest {
    pb::GetEventRequest {
        key: Some(pb::get_event_request::Key::Position(position)),
        at_least: None,
    }
}

fn reference(id: &str) -> pb::EventRef {
    pb::EventRef {
        source: "//ci.acme.dev/shop".to_owned(),
        id: id.to_owned(),
        position: 0,
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_is_found_by_position_and_by_identity() {
    let served = served().await;
    let receipts = served.emit(vec![commit(1)]).await;
    let mut reads = served.reads();
    let found = reads
        .get_event(by_position(receipts[0].position))
        .await
        .unwrap()
        .into_inner();
    let event = found.event.unwrap();
    assert_eq!(event.event.unwrap(), commit(1));
    assert_eq!(
        (event.kind.as_str(), &event.leaf_hash),
        ("commit.recorded", &receipts[0].leaf_hash)
    );
    assert!(found.applied_position >= receipts[0].position);

    let key = Some(pb::get_event_request::Key::Event(reference("commit-1")));
    let found = reads
        .get_event(pb::GetEventRequest {
            key,
            at_least: None,
        })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(found.event.unwrap().position, receipts[0].position);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_there_or_not_asked_properly_is_said() {
    let served = served().await;
    let mut reads = served.reads();
    let status = reads.get_event(by_position(99)).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::NotFound, "NOT_FOUND")
    );
    let status = reads.get_event(by_position(0)).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "OUT_OF_RANGE")
    );
    let status = reads
        .get_event(pb::GetEventRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "MISSING")
    );
    let status = reads
        .get_receipt(pb::GetReceiptRequest::default())
        .await
        .unwrap_err();
    assert_eq!(
        status.get_details_bad_request().unwrap().field_violations[0].field,
        "event.source"
    );
    let checkpoint = pb::GetCheckpointRequest {
        tree_size: 1_000_000,
    };
    let status = reads.get_checkpoint(checkpoint).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::OutOfRange, "OUT_OF_RANGE")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn unknown_fields_come_back_byte_for_byte() {
    let served = served().await;
    // Field 900, a varint, which no version knows.
    let bytes = [&commit(1).encode_to_vec()[..], &[0xa0, 0x38, 0x2a]].concat();
    let emitted = served
        .ledger
        .emit(
            vec![bytes.clone().into()],
            &waybill_ledger::Sender::unverified(),
        )
        .await
        .unwrap();
    let position = emitted[0].as_ref().unwrap().position;
    let response = raw_get_event(&served, position).await;
    assert!(
        response.windows(bytes.len()).any(|window| window == bytes),
        "the stored bytes are not in the answer"
    );
}

/// The bytes of GetEvent's answer, which a typed client would not show.
async fn raw_get_event(served: &Served, position: u64) -> Vec<u8> {
    let mut client = tonic::client::Grpc::new(served.channel.clone());
    client.ready().await.unwrap();
    let path = http::uri::PathAndQuery::from_static("/waybill.v1.LedgerService/GetEvent");
    let codec = tonic_prost::ProstCodec::<_, waybill_proto::raw::GetEventResponse>::default();
    let answer = client
        .unary(Request::new(by_position(position)), path, codec)
        .await
        .unwrap()
        .into_inner();
    answer.encode_to_vec()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_read_at_one_position_page_by_page() {
    let served = served().await;
    let receipts = served.emit((0..25).map(commit).collect()).await;
    let applied = receipts.last().unwrap().position;
    for descending in [false, true] {
        let filter = Some(pb::EventFilter {
            kinds: vec!["commit".to_owned()],
            ..Default::default()
        });
        let at_least = Some(pb::AtLeast {
            ledger_id: receipts[0].ledger_id.clone(),
            position: applied,
        });
        let mut request = pb::ListEventsRequest {
            page_size: 10,
            filter,
            descending,
            at_least,
            ..Default::default()
        };
        let mut ids = Vec::new();
        loop {
            let page = served
                .reads()
                .list_events(request.clone())
                .await
                .unwrap()
                .into_inner();
            ids.extend(page.events.into_iter().map(|event| event.event.unwrap().id));
            assert!(page.applied_position >= applied);
            if page.next_page_token.is_empty() {
                break;
            }
            // What is recorded meanwhile is not part of this list.
            served.emit(vec![commit(1000 + ids.len() as u64)]).await;
            request.page_token = page.next_page_token;
            request.page_size = 7;
        }
        let known = ids
            .iter()
            .filter(|id| id.len() <= "commit-24".len())
            .count();
        assert_eq!(known, 25, "{ids:?}");
        let mut sorted = ids.clone();
        sorted.dedup();
        assert_eq!(sorted.len(), ids.len());
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_token_belongs_to_its_query() {
    let served = served().await;
    served.emit((0..5).map(commit).collect()).await;
    let request = pb::ListEventsRequest {
        page_size: 2,
        ..Default::default()
    };
    let page = served
        .reads()
        .list_events(request.clone())
        .await
        .unwrap()
        .into_inner();
    let other = pb::ListEventsRequest {
        page_token: page.next_page_token,
        descending: true,
        ..request
    };
    let status = served.reads().list_events(other).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "CONTRADICTION")
    );
    let forged = pb::ListEventsRequest {
        page_token: "nonsense".to_owned(),
        ..Default::default()
    };
    let status = served.reads().list_events(forged).await.unwrap_err();
    assert_eq!(
        status.get_details_bad_request().unwrap().field_violations[0].field,
        "page_token"
    );
    let negative = pb::ListEventsRequest {
        page_size: -1,
        ..Default::default()
    };
    assert_eq!(
        served
            .reads()
            .list_events(negative)
            .await
            .unwrap_err()
            .code(),
        Code::InvalidArgument
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_page_of_large_events_stays_below_what_clients_take() {
    let served = served().await;
    for part in 0..4 {
        served
            .emit((0..10).map(|n| large(part * 10 + n, 200 << 10)).collect())
            .await;
    }
    let filter = Some(pb::EventFilter {
        kinds: vec!["commit".to_owned()],
        ..Default::default()
    });
    let mut request = pb::ListEventsRequest {
        page_size: 1000,
        filter,
        ..Default::default()
    };
    let mut count = 0;
    loop {
        let page = served
            .reads()
            .list_events(request.clone())
            .await
            .unwrap()
            .into_inner();
        assert!(page.encoded_len() < 4 << 20);
        count += page.events.len();
        if page.next_page_token.is_empty() {
            break;
        }
        request.page_token = page.next_page_token;
    }
    assert_eq!(count, 40);
}

#[tokio::test(flavor = "multi_thread")]
async fn at_least_waits_and_says_where_it_stood() {
    let served = served().await;
    let receipts = served.emit(vec![commit(1)]).await;
    let wanted = receipts[0].position + 1;
    let at_least = |ledger_id: &str| {
        Some(pb::AtLeast {
            ledger_id: ledger_id.to_owned(),
            position: wanted,
        })
    };
    let request = pb::GetEventRequest {
        at_least: at_least(&receipts[0].ledger_id),
        ..by_position(1)
    };

    // The client keeps the deadline too, and on a busy machine may be first; then it is asked again.
    let answered = async {
        loop {
            let mut late = Request::new(request.clone());
            late.set_timeout(Duration::from_secs(1));
            let status = served.reads().get_event(late).await.unwrap_err();
            if status.code() != Code::Cancelled {
                return status;
            }
        }
    };
    let status = timeout(PATIENCE, answered).await.unwrap();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::Unavailable, "NOT_YET")
    );
    let info = status.get_details_error_info().unwrap();
    assert_eq!(info.metadata["wanted_position"], wanted.to_string());
    assert_eq!(
        info.metadata["reached_position"],
        receipts[0].position.to_string()
    );
    assert!(status.get_details_retry_info().is_some());

    let waiting = tokio::spawn({
        let mut reads = served.reads();
        async move { reads.get_event(request).await }
    });
    served.emit(vec![commit(2)]).await;
    assert!(
        waiting
            .await
            .unwrap()
            .unwrap()
            .into_inner()
            .applied_position
            >= wanted
    );

    let foreign = pb::GetEventRequest {
        at_least: at_least("elsewhere.example/ledger"),
        ..by_position(1)
    };
    let status = served.reads().get_event(foreign).await.unwrap_err();
    assert_eq!(
        status.get_details_bad_request().unwrap().field_violations[0].field,
        "at_least.ledger_id"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_receipt_is_proven_to_a_checkpoint() {
    let served = served().await;
    let receipts = served.emit((0..9).map(commit).collect()).await;
    let mut reads = served.reads();
    let old = reads
        .get_checkpoint(pb::GetCheckpointRequest { tree_size: 3 })
        .await
        .unwrap()
        .into_inner();
    assert_eq!(old.tree_size, 3);
    let request = pb::GetReceiptRequest {
        wait: None,
        event: Some(reference("commit-4")),
        prove: true,
        consistent_from_size: 3,
        at_least: None,
    };
    let answer = reads.get_receipt(request).await.unwrap().into_inner();
    let proven = answer.proven.unwrap();
    assert_eq!(proven.receipt, answer.receipt);
    assert_eq!(proven.event_bytes, commit(4).encode_to_vec());
    assert_eq!(answer.receipt.unwrap().leaf_hash, receipts[4].leaf_hash);
    check_offline(&proven, &old);

    let position = receipts[4].position;
    let request = pb::GetInclusionProofRequest {
        position,
        tree_size: 0,
    };
    let inclusion = reads
        .get_inclusion_proof(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (inclusion.position, &inclusion.leaf_hash),
        (position, &receipts[4].leaf_hash)
    );
    let request = pb::GetConsistencyProofRequest {
        old_size: 3,
        new_size: inclusion.tree_size,
    };
    let consistency = reads
        .get_consistency_proof(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (&consistency.old_root, &consistency.new_root),
        (&old.root, &inclusion.root)
    );
    check_proofs(&inclusion, &consistency);
}

/// Checks both proofs as anyone can, and that a changed one is none.
fn check_proofs(
    inclusion: &pb::GetInclusionProofResponse,
    consistency: &pb::GetConsistencyProofResponse,
) {
    let hash = |bytes: &bytes::Bytes| <[u8; 32]>::try_from(&bytes[..]).unwrap();
    let path = |path: &[bytes::Bytes]| path.iter().map(hash).collect::<Vec<_>>();
    let included = |path: &[[u8; 32]]| {
        let (leaf, root) = (hash(&inclusion.leaf_hash), hash(&inclusion.root));
        let (index, size) = (inclusion.position - 1, inclusion.tree_size);
        verify_inclusion(index, size, &leaf, path, &root).is_ok()
    };
    let consistent = |path: &[[u8; 32]]| {
        let roots = (hash(&consistency.old_root), hash(&consistency.new_root));
        let (old, new) = (consistency.old_size, consistency.new_size);
        verify_consistency(old, new, &roots.0, &roots.1, path).is_ok()
    };
    let mut inclusion_path = path(&inclusion.path);
    let mut consistency_path = path(&consistency.path);
    assert!(included(&inclusion_path) && consistent(&consistency_path));
    inclusion_path[0][7] ^= 1;
    consistency_path[0][7] ^= 1;
    assert!(!included(&inclusion_path) && !consistent(&consistency_path));
}

/// Checks a proven receipt with nothing but the public key and a checkpoint kept from earlier.
fn check_offline(proven: &pb::ProvenReceipt, old: &pb::GetCheckpointResponse) {
    let hash = |bytes: &bytes::Bytes| <[u8; 32]>::try_from(&bytes[..]).unwrap();
    let path = |path: &[bytes::Bytes]| path.iter().map(hash).collect::<Vec<_>>();
    let receipt = proven.receipt.as_ref().unwrap();
    let time = receipt.record_time.unwrap();
    let nanos = time.seconds * 1_000_000_000 + i64::from(time.nanos);
    let inclusion_path = path(&proven.inclusion_path);
    let checked = waybill_tlog::receipt::Proven {
        ledger_id: &receipt.ledger_id,
        position: receipt.position,
        record_time_nanos: u64::try_from(nanos).unwrap(),
        leaf_hash: hash(&receipt.leaf_hash),
        leaf: &proven.leaf,
        event: &proven.event_bytes,
        salt: &receipt.salt,
        inclusion_path: &inclusion_path,
        checkpoint: &proven.checkpoint,
    };
    let consistency_path = path(&proven.consistency_path);
    let kept = waybill_tlog::receipt::Kept {
        checkpoint: &old.checkpoint,
        consistency_path: &consistency_path,
    };
    let key = waybill_tlog::checkpoint::VerifierKey::parse(&old.verifier_key).unwrap();
    waybill_tlog::receipt::verify(&checked, &[key], Some(&kept)).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn refusals_are_listed_newest_first() {
    let served = served().await;
    for number in 0..3 {
        let nameless = pb::Event {
            id: String::new(),
            ..commit(number)
        };
        served
            .emits()
            .emit(pb::EmitRequest {
                events: vec![nameless],
            })
            .await
            .unwrap();
    }
    let request = pb::ListRefusalsRequest {
        page_size: 2,
        page_token: String::new(),
    };
    let first = served
        .reads()
        .list_refusals(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!((first.refusals.len(), first.total_count), (2, 3));
    assert_eq!(first.refusals[0].refusal.as_ref().unwrap().field, "id");
    assert!(first.refusals[0].number > first.refusals[1].number);
    let newest = &first.refusals[0];
    assert_eq!(
        (newest.source.as_str(), newest.kind.as_str()),
        ("//ci.acme.dev/shop", "commit.recorded")
    );
    assert!(first.refusals[0].body_size > 0);
    let request = pb::ListRefusalsRequest {
        page_size: 2,
        page_token: first.next_page_token,
    };
    let second = served
        .reads()
        .list_refusals(request)
        .await
        .unwrap()
        .into_inner();
    assert_eq!(
        (second.refusals.len(), second.next_page_token.as_str()),
        (1, "")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn status_says_where_the_ledger_stands() {
    let served = served().await;
    let receipts = served.emit(vec![commit(1)]).await;
    let status = served
        .reads()
        .get_status(pb::GetStatusRequest {})
        .await
        .unwrap()
        .into_inner();
    assert_eq!(status.ledger_id, receipts[0].ledger_id);
    assert_eq!(status.durable_position, receipts[0].position);
    assert_eq!(status.emits(), pb::ReadState::Serving);
    assert_eq!(status.version, env!("CARGO_PKG_VERSION"));
}
