//! A client that knows nothing but reflection, in both versions.
use prost::Message;
use prost_reflect::{DescriptorPool, DynamicMessage};
use prost_types::{FileDescriptorProto, FileDescriptorSet};
use tonic_reflection::pb::{v1, v1alpha};

use crate::{
    kit::{Served, commit_json, revision, served},
    plain::send,
};

const OURS: [&str; 4] = [
    "waybill.v1.DeliveryService",
    "waybill.v1.EmitService",
    "waybill.v1.LedgerService",
    "waybill.v1.TraceService",
];

/// Asks both questions of one version; the two differ in nothing but their package.
macro_rules! ask {
    ($version:ident, $channel:expr) => {{
        use $version::{
            ServerReflectionRequest as Ask,
            server_reflection_client::ServerReflectionClient as Client,
            server_reflection_request::MessageRequest as Asked,
            server_reflection_response::MessageResponse as Told,
        };
        let ask = |asked| Ask {
            host: String::new(),
            message_request: Some(asked),
        };
        let questions = vec![
            ask(Asked::ListServices(String::new())),
            ask(Asked::FileContainingSymbol(
                "waybill.v1.EmitRequest".to_owned(),
            )),
        ];
        let mut client = Client::new($channel);
        let mut answers = client
            .server_reflection_info(tokio_stream::iter(questions))
            .await
            .unwrap()
            .into_inner();
        let Some(Told::ListServicesResponse(list)) =
            answers.message().await.unwrap().unwrap().message_response
        else {
            panic!("a list of services is expected");
        };
        let Some(Told::FileDescriptorResponse(file)) =
            answers.message().await.unwrap().unwrap().message_response
        else {
            panic!("a file is expected");
        };
        let names: Vec<String> = list
            .service
            .into_iter()
            .map(|service| service.name)
            .collect();
        (names, file.file_descriptor_proto)
    }};
}

#[tokio::test(flavor = "multi_thread")]
async fn both_versions_show_the_contract_with_typed_events() {
    let served = served().await;
    let answers = [
        ask!(v1, served.channel.clone()),
        ask!(v1alpha, served.channel.clone()),
    ];
    for (names, files) in answers {
        for name in OURS.into_iter().chain(["grpc.health.v1.Health"]) {
            assert!(
                names.iter().any(|it| it == name),
                "{name} is not in {names:?}"
            );
        }
        let file = FileDescriptorProto::decode(&*files[0]).unwrap();
        let request = file
            .message_type
            .iter()
            .find(|message| message.name() == "EmitRequest")
            .unwrap();
        assert_eq!(request.field[0].type_name(), ".waybill.v1.Event");
    }
}

/// Everything that a symbol needs, learnt from the server file by file.
async fn learnt(served: &Served, symbol: &str) -> DescriptorPool {
    use v1::{
        ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
        server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
    };
    let mut files = FileDescriptorSet::default();
    let mut wanted = vec![MessageRequest::FileContainingSymbol(symbol.to_owned())];
    let mut client = ServerReflectionClient::new(served.channel.clone());
    while let Some(asked) = wanted.pop() {
        let ask = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(asked),
        };
        let answers = client.server_reflection_info(tokio_stream::once(ask)).await;
        let answer = answers
            .unwrap()
            .into_inner()
            .message()
            .await
            .unwrap()
            .unwrap();
        let Some(MessageResponse::FileDescriptorResponse(told)) = answer.message_response else {
            panic!("a file is expected: {answer:?}")
        };
        for file in told.file_descriptor_proto {
            let file = FileDescriptorProto::decode(&*file).unwrap();
            if files.file.iter().all(|known| known.name != file.name) {
                wanted.extend(
                    file.dependency
                        .iter()
                        .cloned()
                        .map(MessageRequest::FileByFilename),
                );
                files.file.push(file);
            }
        }
    }
    DescriptorPool::from_file_descriptor_set(files).unwrap()
}

async fn call(
    served: &Served,
    pool: &DescriptorPool,
    path: &'static str,
    json: &str,
) -> serde_json::Value {
    let (service, method) = path[1..].split_once('/').unwrap();
    let service = pool.get_service_by_name(service).unwrap();
    let method = service.methods().find(|it| it.name() == method).unwrap();
    let mut text = serde_json::Deserializer::from_str(json);
    let request = DynamicMessage::deserialize(method.input(), &mut text).unwrap();
    let answer = send(served, path, request.encode_to_vec()).await.unwrap();
    serde_json::to_value(DynamicMessage::decode(method.output(), answer).unwrap()).unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_client_that_knows_nothing_else_can_emit_and_ask() {
    let served = served().await;
    let pool = learnt(&served, "waybill.v1.EmitService").await;
    let emit = format!("{{\"events\": [{}]}}", commit_json(1));
    let answer = call(&served, &pool, "/waybill.v1.EmitService/Emit", &emit).await;
    let position = answer["results"][0]["receipt"]["position"].clone();
    let pool = learnt(&served, "waybill.v1.TraceService").await;
    let ask = format!(
        "{{\"read\": {{\"atLeast\": {{\"position\": {position}}}}}, \"ref\": \"{}\"}}",
        revision(1)
    );
    let answer = call(&served, &pool, "/waybill.v1.TraceService/Trace", &ask).await;
    assert_eq!(answer["basis"]["position"], position);
    assert_eq!(answer["nodes"][0]["title"], "change 1");
}
