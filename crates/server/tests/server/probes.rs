//! Probes, metrics, the front page, and health per service.
use tonic_health::pb::{
    HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient,
};

use crate::kit::{commit, served};

#[tokio::test(flavor = "multi_thread")]
async fn probes_answer_in_plain_text() {
    let served = served().await;
    assert_eq!(served.get("/livez").await.body, "ok\n");
    let ready = async {
        loop {
            let answer = served.get("/readyz?verbose").await;
            if answer.code == 200 {
                return answer;
            }
        }
    };
    let ready = tokio::time::timeout(crate::kit::PATIENCE, ready)
        .await
        .unwrap();
    assert!(ready.body.contains("[+] emits\n"), "{ready:?}");
    assert!(ready.body.contains("[+] questions: views "), "{ready:?}");
    assert!(ready.body.ends_with("ready\n"));
    let front = served.get("/").await;
    assert!(
        front.body.contains(served.ledger.ledger_id())
            && front.body.contains("waybill.v1.EmitService")
    );
    assert_eq!(served.get("/nothing").await.code, 404);
    let answer = served.http("POST", "/livez", &[], b"").await;
    assert_eq!(answer.code, 405);
}

#[tokio::test(flavor = "multi_thread")]
async fn metrics_count_what_happened() {
    let served = served().await;
    served.emit(vec![commit(1), commit(2)]).await;
    served.emit(vec![commit(1)]).await;
    served.json("EmitService/Emit", "{\"events\": [7]}").await;
    served
        .json("LedgerService/GetEvent", "{\"position\": 999}")
        .await;
    let page = served.get("/metrics").await;
    assert!(page.head.contains("text/plain; version=0.0.4"));
    for line in [
        "waybill_events_appended_total 2",
        "waybill_events_duplicate_total 1",
        "waybill_append_duration_seconds_count 2",
        "waybill_calls_total{method=\"waybill.v1.EmitService/Emit\",code=\"OK\"} 2",
        "waybill_query_duration_seconds_count{method=\"waybill.v1.LedgerService/GetEvent\",code=\"NOT_FOUND\"} 1",
        "waybill_emits_serving 1",
        "waybill_refusals_total 1",
    ] {
        assert!(
            page.body.lines().any(|it| it == line),
            "{line} is not in\n{}",
            page.body
        );
    }
    check_exposition(&page.body);
}

/// Every sample belongs to a metric that was declared with help and type, and has a number.
fn check_exposition(page: &str) {
    let mut declared = Vec::new();
    let mut seen = std::collections::HashSet::new();
    assert!(page.ends_with('\n'));
    for line in page.lines() {
        if let Some(rest) = line.strip_prefix("# TYPE ") {
            let name = rest.split(' ').next().unwrap().to_owned();
            assert!(!declared.contains(&name), "{name} is declared twice");
            declared.push(name);
        } else if !line.starts_with('#') {
            let (name, value) = line.rsplit_once(' ').unwrap();
            value.parse::<f64>().unwrap();
            assert!(seen.insert(name.to_owned()), "{name} has two samples");
            let name = name.split('{').next().unwrap();
            let base = ["_bucket", "_sum", "_count"]
                .iter()
                .find_map(|end| name.strip_suffix(end));
            let known = |name: &str| declared.iter().any(|it| it == name);
            assert!(known(name) || base.is_some_and(known), "{line}");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn health_knows_each_service() {
    let served = served().await;
    let mut health = HealthClient::new(served.channel.clone());
    for service in ["waybill.v1.EmitService", "waybill.v1.LedgerService"] {
        let request = HealthCheckRequest {
            service: service.to_owned(),
        };
        let answer = health.check(request).await.unwrap().into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{service}");
    }
    // Questions follow the views, which a new ledger has at once or soon.
    for service in ["", "waybill.v1.TraceService", "waybill.v1.DeliveryService"] {
        let mut watch = health
            .watch(HealthCheckRequest {
                service: service.to_owned(),
            })
            .await
            .unwrap()
            .into_inner();
        while watch.message().await.unwrap().unwrap().status() != ServingStatus::Serving {}
    }
    let unknown = HealthCheckRequest {
        service: "waybill.v1.Nothing".to_owned(),
    };
    let status = health.check(unknown).await.unwrap_err();
    assert_eq!(status.code(), tonic::Code::NotFound);
}
