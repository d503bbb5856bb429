//! Emit and EmitStream over gRPC.
use prost::Message;
use tokio_stream::StreamExt;
use tonic::Code;
use tonic_types::StatusExt;
use waybill_proto::pb;

use crate::kit::{commit, large, reason, receipt, refusal, served};

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_recorded_in_order_and_again_it_is_a_duplicate() {
    let served = served().await;
    let first = served.emit(vec![commit(1), commit(2), commit(3)]).await;
    let positions: Vec<u64> = first.iter().map(|it| it.position).collect();
    assert_eq!(
        positions,
        [positions[0], positions[0] + 1, positions[0] + 2]
    );
    assert!(
        first
            .iter()
            .all(|it| !it.duplicate && it.leaf_hash.len() == 32 && it.root.len() == 32)
    );
    assert_eq!(first[1].event.as_ref().unwrap().id, "commit-2");

    let again = served.emit(vec![commit(2)]).await;
    assert!(again[0].duplicate);
    assert_eq!(
        (again[0].position, &again[0].leaf_hash),
        (first[1].position, &first[1].leaf_hash)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_in_its_place_and_the_rest_is_recorded() {
    let served = served().await;
    let standing = served.emit(vec![commit(1)]).await;
    let mut conflict = commit(2);
    conflict.id = "commit-1".to_owned();
    let nameless = pb::Event {
        id: String::new(),
        ..commit(3)
    };
    let request = pb::EmitRequest {
        events: vec![commit(4), conflict, nameless, commit(5)],
    };
    let results = served
        .emits()
        .emit(request)
        .await
        .unwrap()
        .into_inner()
        .results;
    assert_eq!(results.len(), 4);
    assert!(receipt(&results[3]).position > receipt(&results[0]).position);
    let conflict = refusal(&results[1]);
    assert_eq!(conflict.code, "CONFLICT");
    assert_eq!(
        conflict.recorded.as_ref().unwrap().position,
        standing[0].position
    );
    assert_eq!(
        (
            refusal(&results[2]).code.as_str(),
            refusal(&results[2]).field.as_str()
        ),
        ("MISSING", "id")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_beyond_the_limit_is_refused_whole() {
    let served = served().await;
    let request = pb::EmitRequest {
        events: (0..1001).map(commit).collect(),
    };
    let status = served.emits().emit(request).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "TOO_LARGE")
    );
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, "events");
    let none = served
        .emits()
        .emit(pb::EmitRequest::default())
        .await
        .unwrap()
        .into_inner();
    assert!(none.results.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_batch_is_as_large_as_the_page_says_and_no_larger() {
    let served = served().await;
    let batch = |bytes: usize| {
        let mut events: Vec<pb::Event> = (0..17).map(|n| large(n, bytes / 17 - 200)).collect();
        let rest = bytes - events.iter().map(Message::encoded_len).sum::<usize>();
        events[0].reason.push_str(&"x".repeat(rest));
        assert_eq!(
            events.iter().map(Message::encoded_len).sum::<usize>(),
            bytes
        );
        events
    };
    let events = batch((4 << 20) + 1);
    let status = served
        .emits()
        .emit(pb::EmitRequest { events })
        .await
        .unwrap_err();
    assert_eq!(reason(&status), "TOO_LARGE", "{status:?}");
    let violations = status.get_details_bad_request().unwrap().field_violations;
    assert_eq!(violations[0].field, "events");
    assert_eq!(served.emit(batch(4 << 20)).await.len(), 17);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_stream_answers_each_request_in_order() {
    let served = served().await;
    let requests = (0..200).map(|n| pb::EmitStreamRequest {
        events: vec![commit(2 * n), commit(2 * n + 1)],
    });
    let answers = served
        .emits()
        .emit_stream(tokio_stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    let answers: Vec<pb::EmitStreamResponse> =
        answers.map(|answer| answer.unwrap()).collect().await;
    assert_eq!(answers.len(), 200);
    let receipts: Vec<&pb::Receipt> = answers
        .iter()
        .flat_map(|answer| answer.results.iter().map(receipt))
        .collect();
    let ids: Vec<String> = receipts
        .iter()
        .map(|it| it.event.as_ref().unwrap().id.clone())
        .collect();
    assert_eq!(
        ids,
        (0..400).map(|n| format!("commit-{n}")).collect::<Vec<_>>()
    );
    assert!(
        receipts
            .windows(2)
            .all(|pair| pair[0].position < pair[1].position)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_request_ends_a_stream_after_the_answers_before_it() {
    let served = served().await;
    let too_many = pb::EmitStreamRequest {
        events: (0..1001).map(commit).collect(),
    };
    let requests = vec![
        pb::EmitStreamRequest {
            events: vec![commit(1)],
        },
        too_many,
    ];
    let mut answers = served
        .emits()
        .emit_stream(tokio_stream::iter(requests))
        .await
        .unwrap()
        .into_inner();
    assert_eq!(answers.message().await.unwrap().unwrap().results.len(), 1);
    let status = answers.message().await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "TOO_LARGE")
    );
}
