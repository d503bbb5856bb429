//! The same methods as proto3 JSON.
use base64::{Engine, engine::general_purpose::STANDARD};
use prost::Message;
use serde_json::json;

use crate::kit::{PATIENCE, commit, commit_json, large, served, served_with};

#[tokio::test(flavor = "multi_thread")]
async fn an_event_in_json_and_in_protobuf_is_the_same_event() {
    let served = served().await;
    let answer = served
        .json(
            "EmitService/Emit",
            &format!("{{\"events\": [{}]}}", commit_json(1)),
        )
        .await;
    assert_eq!(answer.code, 200, "{answer:?}");
    let receipt = answer.value()["results"][0]["receipt"].clone();
    assert_eq!(receipt["event"]["id"], "commit-1");
    let position: u64 = receipt["position"].as_str().unwrap().parse().unwrap();
    let again = served.emit(vec![commit(1)]).await;
    assert!(again[0].duplicate);
    assert_eq!(again[0].position, position);

    let answer = served
        .json(
            "LedgerService/GetEvent",
            &format!("{{\"position\": \"{position}\"}}"),
        )
        .await;
    let event = &answer.value()["event"];
    assert_eq!(event["kind"], "commit.recorded");
    assert_eq!(
        event["event"]["commit"]["recorded"]["subjectLine"],
        "change 1"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_newer_than_this_version_comes_back_in_json_too() {
    let served = served().await;
    // An enum's number, and a kind that only its type names.
    let events = commit_json(1).replacen('{', "{\"occurTimeBasis\": 77,", 1)
        + r#",{"source": "//ci", "id": "v", "type": "dev.waybill.voyage.ended.v1", "occurTime": "2026-11-01T09:00:00Z"}"#;
    let body = format!("{{\"events\": [{events}]}}");
    let answer = served.json("EmitService/Emit", &body).await.value();
    let read = |index: usize| {
        let position = answer["results"][index]["receipt"]["position"].clone();
        let ask = json!({ "position": position }).to_string();
        let served = &served;
        async move { served.json("LedgerService/GetEvent", &ask).await.value()["event"].clone() }
    };
    assert_eq!(read(0).await["event"]["occurTimeBasis"], 77);
    assert_eq!(read(1).await["kind"], "voyage.ended");

    // Fields and families by number have no JSON; the bytes do.
    let bytes = [
        &commit(2).encode_to_vec()[..],
        &[0xA0, 0x38, 0x2A, 0xBA, 0x0C, 2, 10, 0],
    ]
    .concat();
    served
        .ledger
        .emit(
            vec![bytes.clone().into()],
            &waybill_ledger::Sender::unverified(),
        )
        .await
        .unwrap();
    let ask = r#"{"event": {"source": "//ci.acme.dev/shop", "id": "commit-2"}, "prove": true}"#;
    let answer = served.json("LedgerService/GetReceipt", ask).await.value();
    let text = answer["proven"]["eventBytes"].as_str().unwrap();
    assert_eq!(STANDARD.decode(text).unwrap(), bytes);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_wrong_is_refused_in_its_place_and_put_on_record() {
    let served = served().await;
    let misspelled = r#"{"source": "/a", "id": "1", "commit": {"recorded": {"revison": "x"}}}"#;
    let body = format!(
        "{{\"events\": [{}, {misspelled}, 7, {}]}}",
        commit_json(1),
        commit_json(2)
    );
    let answer = served.json("EmitService/Emit", &body).await;
    assert_eq!(answer.code, 200, "{answer:?}");
    let results = answer.value()["results"].as_array().unwrap().clone();
    assert_eq!(results.len(), 4);
    assert_eq!(results[0]["receipt"]["event"]["id"], "commit-1");
    assert_eq!(results[3]["receipt"]["event"]["id"], "commit-2");
    let field = results[1]["refusal"]["field"].as_str().unwrap();
    assert!(field.contains("commit.recorded.revison"), "{results:?}");
    let listed = served
        .json("LedgerService/ListRefusals", "{}")
        .await
        .value();
    assert_eq!(listed["totalCount"], "2");
    assert_eq!(listed["refusals"][1]["refusal"]["field"], field);
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_request_at_all_is_on_record_too() {
    let served = served().await;
    let bodies = [
        "{\"events\": [{]}",
        "{\"event\": []}",
        "\u{1b}[2J",
        "[]",
        "{\"events\": [], \"events\": []}",
    ];
    for body in bodies {
        let answer = served.json("EmitService/Emit", body).await;
        assert_eq!(
            (answer.code, answer.reason().as_str()),
            (400, "UNDECODABLE")
        );
    }
    let listed = served
        .json("LedgerService/ListRefusals", "{}")
        .await
        .value();
    assert_eq!(listed["totalCount"], "5");
    let newest = listed["refusals"][0].clone();
    assert_eq!(newest["refusal"]["field"], "body");
    let kept = STANDARD.decode(newest["body"].as_str().unwrap()).unwrap();
    assert_eq!(kept, bodies[4].as_bytes());
}

#[tokio::test(flavor = "multi_thread")]
async fn failures_are_google_rpc_statuses_with_the_code_of_http() {
    let served = served().await;
    let answer = served
        .json("LedgerService/GetEvent", "{\"position\": 99}")
        .await;
    assert_eq!((answer.code, answer.reason().as_str()), (404, "NOT_FOUND"));
    assert_eq!(answer.value()["code"], 5);
    let answer = served
        .json("LedgerService/GetEvent", "{\"postion\": 99}")
        .await;
    assert_eq!(answer.code, 400, "{answer:?}");
    assert!(answer.body.contains("postion"), "{answer:?}");
    let answer = served
        .json("LedgerService/GetEvent", "{\"position\": 1")
        .await;
    assert_eq!(answer.code, 400, "{answer:?}");
    let answer = served
        .json("LedgerService/GetCheckpoint", "{\"treeSize\": \"999\"}")
        .await;
    assert_eq!(
        (answer.code, answer.reason().as_str()),
        (400, "OUT_OF_RANGE")
    );
    let answer = served.json("EmitService/Emit", "{\"event\": []}").await;
    assert_eq!(
        (answer.code, answer.reason().as_str()),
        (400, "UNDECODABLE")
    );
    let many = format!("{{\"events\": [{}{}]}}", "{},".repeat(1000), "{}");
    let answer = served.json("EmitService/Emit", &many).await;
    assert_eq!((answer.code, answer.reason().as_str()), (400, "TOO_LARGE"));
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_body_is_an_empty_message() {
    let served = served().await;
    let answer = served.json("LedgerService/GetStatus", "").await;
    assert_eq!(answer.code, 200, "{answer:?}");
    assert_eq!(answer.value()["ledgerId"], served.ledger.ledger_id());
    assert!(answer.head.contains("content-type: application/json"));
    assert_eq!(served.json("EmitService/Emit", "").await.value(), json!({}));
}

#[tokio::test(flavor = "multi_thread")]
async fn other_forms_and_verbs_are_turned_away() {
    let served = served().await;
    let path = "/waybill.v1.EmitService/Emit";
    for (content_type, code) in [
        ("text/plain", 415),
        ("application/x-www-form-urlencoded", 415),
        ("", 415),
        ("application/json; charset=utf-8", 200),
        ("APPLICATION/JSON", 200),
    ] {
        let answer = served
            .http("POST", path, &[("content-type", content_type)], b"{}")
            .await;
        assert_eq!(answer.code, code, "{content_type}: {answer:?}");
    }
    let answer = served
        .http(
            "POST",
            path,
            &[
                ("content-type", "application/json"),
                ("content-encoding", "gzip"),
            ],
            b"",
        )
        .await;
    assert_eq!(answer.code, 415);
    let foreign = [
        ("content-type", "application/json"),
        ("origin", "http://rebound.example:8420"),
    ];
    assert_eq!(served.http("POST", path, &foreign, b"{}").await.code, 403);
    let answer = served.get(path).await;
    assert_eq!(answer.code, 405);
    assert!(answer.head.contains("allow: post"), "{answer:?}");
    assert_eq!(served.json("EmitService/EmitStream", "{}").await.code, 501);
    let answer = served.json("EmitService/Nothing", "{}").await;
    assert_eq!(answer.code, 404, "{answer:?}");
    let answer = served.json("LedgerService/GetEvent", "{").await;
    assert_eq!(answer.code, 400, "{answer:?}");
    let told = answer.value();
    let (message, violation) = (
        &told["message"],
        &told["details"][1]["fieldViolations"][0]["description"],
    );
    for text in [message, violation] {
        let text = text.as_str().unwrap();
        assert!(text.starts_with("the message cannot be read: "), "{told}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_beyond_the_limit_is_turned_away() {
    let served = served_with(|settings| settings.limits.json_bytes = 64 << 10).await;
    let body = format!("{{\"events\": [\"{}\"]}}", "x".repeat(100 << 10));
    let answer = served.json("EmitService/Emit", &body).await;
    assert_eq!(answer.code, 413, "{answer:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tail_comes_as_lines() {
    let served = served().await;
    let receipts = served
        .emit(vec![commit(1), large(2, 100 << 10), commit(3)])
        .await;
    let last = receipts[2].position;
    let body = format!(
        "{{\"firstPosition\": \"{}\", \"filter\": {{\"lastPosition\": \"{last}\"}}}}",
        receipts[0].position
    );
    let answer = served.json("LedgerService/TailEvents", &body).await;
    assert_eq!(answer.code, 200);
    assert!(answer.head.contains("application/x-ndjson"));
    let lines: Vec<serde_json::Value> = answer
        .body
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let ids: Vec<&str> = lines
        .iter()
        .filter_map(|line| line["event"]["event"]["id"].as_str())
        .collect();
    assert_eq!(ids, ["commit-1", "commit-2", "commit-3"]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_deadline_holds_in_json_too() {
    let served = served().await;
    let body = r#"{"position": "1", "atLeast": {"position": "999"}}"#;
    let headers = [
        ("content-type", "application/json"),
        ("grpc-timeout", "200m"),
    ];
    let answer = tokio::time::timeout(
        PATIENCE,
        served.http(
            "POST",
            "/waybill.v1.LedgerService/GetEvent",
            &headers,
            body.as_bytes(),
        ),
    );
    let answer = answer.await.unwrap();
    assert_eq!(
        (answer.code, answer.reason().as_str()),
        (503, "NOT_YET"),
        "{answer:?}"
    );
}
