//! A client that knows nothing but reflection, in both versions.
use prost::Message;
use prost_types::FileDescriptorProto;
use tonic_reflection::pb::{v1, v1alpha};

use crate::kit::served;

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
