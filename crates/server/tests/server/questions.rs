//! Trace and Delivery over gRPC and as JSON.
use prost_types::Timestamp;
use tonic::Code;
use tonic_types::StatusExt;
use waybill_proto::pb;

use crate::kit::{START_SECONDS, Served, commit, reason, revision, served};

const HOUR: i64 = 3600;

/// A successful deployment of one commit to production, some hours before the clock starts.
fn deployment(number: u64, hours_before: i64) -> pb::Event {
    let info = pb::DeploymentInfo {
        deployment_id: format!("d-{number}"),
        service: "shop".to_owned(),
        environment: "prod".to_owned(),
        revisions: vec![pb::Revision {
            repository: "github.com/acme/shop".to_owned(),
            revision: revision(number),
        }],
        ..Default::default()
    };
    let finished = pb::DeploymentFinished {
        deployment: Some(info),
        outcome: pb::Outcome::Success.into(),
        ..Default::default()
    };
    let deployment = pb::DeploymentEvent {
        event: Some(pb::deployment_event::Event::Finished(finished)),
    };
    pb::Event {
        source: "//ci.acme.dev/shop".to_owned(),
        id: format!("deployment-{number}"),
        occur_time: Some(Timestamp {
            seconds: START_SECONDS - hours_before * HOUR,
            nanos: 0,
        }),
        payload: Some(pb::event::Payload::Deployment(deployment)),
        ..Default::default()
    }
}

/// Emits a small history and waits with `at_least` until questions see it.
async fn with_history(served: &Served) -> Option<pb::ReadOptions> {
    let receipts = served
        .emit(vec![
            commit(1),
            deployment(1, 30),
            commit(2),
            deployment(2, 3),
        ])
        .await;
    let last = receipts.last().unwrap();
    let at_least = Some(pb::AtLeast {
        ledger_id: last.ledger_id.clone(),
        position: last.position,
    });
    Some(pb::ReadOptions {
        at_least,
        ..Default::default()
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn delivery_answers_with_what_it_stands_on() {
    let served = served().await;
    let read = with_history(&served).await;
    let request = pb::DeliveryRequest {
        read,
        explain: true,
        ..Default::default()
    };
    let answer = served
        .deliveries()
        .delivery(request.clone())
        .await
        .unwrap()
        .into_inner();
    let basis = answer.basis.unwrap();
    assert_eq!(basis.ledger_id, served.ledger.ledger_id());
    assert_eq!(
        basis.position,
        request
            .read
            .as_ref()
            .unwrap()
            .at_least
            .as_ref()
            .unwrap()
            .position
    );
    assert!(basis.root.len() == 32 && basis.evaluated_time.is_some());
    let definition = answer.definition.unwrap();
    assert_eq!(
        (definition.id.as_str(), definition.digest.len()),
        ("dora/2025", 32)
    );
    let shop = &answer.services[0];
    assert_eq!(
        (shop.service.as_str(), shop.environment.as_str()),
        ("shop", "prod")
    );
    let frequency = shop.deployment_frequency.as_ref().unwrap();
    assert_eq!(frequency.numerator_count, 2);
    assert_eq!(frequency.explanation.as_ref().unwrap().counted.len(), 2);
    assert_eq!(answer.time_zone, "UTC");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_trend_follows_the_zone_that_is_named() {
    let served = served().await;
    let read = with_history(&served).await;
    let mut request = pb::DeliveryRequest {
        read,
        trend_bucket: pb::TrendBucket::Day.into(),
        start_time: Some(Timestamp {
            seconds: START_SECONDS - 48 * HOUR,
            nanos: 0,
        }),
        end_time: Some(Timestamp {
            seconds: START_SECONDS,
            nanos: 0,
        }),
        ..Default::default()
    };
    let by_day = served
        .deliveries()
        .delivery(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(by_day.services[0].trend.len(), 3);
    // The same zone under a name that goes the long way.
    request.time_zone = "Etc/UTC".to_owned();
    let in_zone = served
        .deliveries()
        .delivery(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert_eq!(in_zone.services[0].trend, by_day.services[0].trend);
    assert_eq!(in_zone.time_zone, "Etc/UTC");

    request.time_zone = "Nowhere/Here".to_owned();
    let status = served.deliveries().delivery(request).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "MALFORMED")
    );
    assert_eq!(
        status.get_details_bad_request().unwrap().field_violations[0].field,
        "time_zone"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_traced_to_its_deployment() {
    let served = served().await;
    let read = with_history(&served).await;
    let request = pb::TraceRequest {
        read,
        r#ref: revision(2),
        ..Default::default()
    };
    let answer = served
        .traces()
        .trace(request.clone())
        .await
        .unwrap()
        .into_inner();
    assert!(answer.entity.ends_with(&revision(2)), "{}", answer.entity);
    assert!(answer.basis.is_some());
    let deployed = pb::TraceRelation::DeployedBy;
    let edge = answer.edges.iter().find(|edge| edge.relation() == deployed);
    assert_eq!(edge.unwrap().from_entity, answer.entity);

    let unknown = pb::TraceRequest {
        r#ref: "f".repeat(40),
        ..request.clone()
    };
    let status = served.traces().trace(unknown).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::NotFound, "NOT_FOUND")
    );
    // Both commits begin with zeros.
    let short = pb::TraceRequest {
        r#ref: "0000000".to_owned(),
        ..request.clone()
    };
    let status = served.traces().trace(short).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "AMBIGUOUS")
    );
    assert!(
        status.message().contains(&revision(2)),
        "{}",
        status.message()
    );
    let nothing = pb::TraceRequest {
        r#ref: String::new(),
        ..request.clone()
    };
    let status = served.traces().trace(nothing).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "MISSING")
    );
    let negative = pb::TraceRequest {
        max_nodes: -1,
        ..request
    };
    let status = served.traces().trace(negative).await.unwrap_err();
    assert_eq!(
        (status.code(), reason(&status).as_str()),
        (Code::InvalidArgument, "OUT_OF_RANGE")
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_questions_are_refused_by_field() {
    let served = served().await;
    let at = |seconds| Some(Timestamp { seconds, nanos: 0 });
    let cases = [
        (
            pb::DeliveryRequest {
                definition: "dora/1999".to_owned(),
                ..Default::default()
            },
            "definition",
        ),
        (
            pb::DeliveryRequest {
                trend_bucket: 99,
                ..Default::default()
            },
            "trend_bucket",
        ),
        (
            pb::DeliveryRequest {
                start_time: at(5),
                end_time: at(4),
                ..Default::default()
            },
            "start_time",
        ),
        (
            pb::DeliveryRequest {
                end_time: at(-1),
                ..Default::default()
            },
            "end_time",
        ),
        (
            pb::DeliveryRequest {
                service: "x".repeat(5000),
                ..Default::default()
            },
            "service",
        ),
    ];
    for (request, field) in cases {
        let status = served.deliveries().delivery(request).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument, "{field}");
        assert_eq!(
            status.get_details_bad_request().unwrap().field_violations[0].field,
            field
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn impossible_knowledge_is_refused_by_field() {
    let served = served().await;
    let knowledge = pb::Knowledge {
        order: Some(pb::knowledge::Order::Assumed(pb::AssumedKnowledge {
            lag: Some(prost_types::Duration {
                seconds: -1,
                nanos: 0,
            }),
        })),
    };
    let read = Some(pb::ReadOptions {
        knowledge: Some(knowledge),
        ..Default::default()
    });
    let status = served
        .deliveries()
        .delivery(pb::DeliveryRequest {
            read,
            ..Default::default()
        })
        .await
        .unwrap_err();
    assert_eq!(
        status.get_details_bad_request().unwrap().field_violations[0].field,
        "read.knowledge.assumed.lag"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn the_json_answer_is_the_same_answer() {
    let served = served().await;
    with_history(&served).await;
    let answer = served
        .json(
            "DeliveryService/Delivery",
            r#"{"read": {"atLeast": {"position": "5"}}}"#,
        )
        .await;
    assert_eq!(answer.code, 200, "{answer:?}");
    let value = answer.value();
    assert_eq!(
        value["services"][0]["deploymentFrequency"]["numeratorCount"],
        "2"
    );
    assert_eq!(value["definition"]["id"], "dora/2025");
}
