//! The methods of the contract by their path, and their messages as JSON.
use std::{collections::HashMap, sync::Arc};

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor};
use tonic::Status;
use waybill_proto::FILE_DESCRIPTOR_SET;

/// The contract as data: ours, and `google.rpc` for the details of errors.
pub(crate) struct Contract {
    pool: DescriptorPool,
    methods: HashMap<String, Method>,
}

/// One method. Clones share it.
#[derive(Clone)]
pub(crate) struct Method {
    name: Arc<str>,
    descriptor: MethodDescriptor,
}

impl Contract {
    /// Reads the descriptors that the binary carries.
    ///
    /// # Errors
    /// Only when the binary was built from descriptors that do not fit together.
    pub(crate) fn load() -> Result<Self, prost_reflect::DescriptorError> {
        let mut pool = DescriptorPool::decode(FILE_DESCRIPTOR_SET)?;
        let ours: Vec<_> = pool
            .services()
            .filter(|it| it.package_name() == "waybill.v1")
            .collect();
        pool.decode_file_descriptor_set(tonic_types::pb::FILE_DESCRIPTOR_SET)?;
        let methods = ours
            .iter()
            .flat_map(|service| service.methods())
            .map(|descriptor| {
                let name = format!(
                    "{}/{}",
                    descriptor.parent_service().full_name(),
                    descriptor.name()
                );
                (
                    format!("/{name}"),
                    Method {
                        name: name.into(),
                        descriptor,
                    },
                )
            });
        Ok(Self {
            methods: methods.collect(),
            pool,
        })
    }

    /// The method that a path names.
    pub(crate) fn method(&self, path: &str) -> Option<Method> {
        self.methods.get(path).cloned()
    }

    /// Full names of our services, in order.
    pub(crate) fn services(&self) -> Vec<String> {
        let ours = self
            .pool
            .services()
            .filter(|it| it.package_name() == "waybill.v1");
        let mut names: Vec<String> = ours.map(|it| it.full_name().to_owned()).collect();
        names.sort();
        names
    }

    /// A failure as `google.rpc.Status` in JSON: `{"code", "message", "details"}`.
    pub(crate) fn failure_json(&self, status: &Status) -> String {
        let details = self
            .pool
            .get_message_by_name("google.rpc.Status")
            .and_then(|descriptor| {
                let message = DynamicMessage::decode(descriptor, status.details()).ok()?;
                serde_json::to_string(&message).ok()
            });
        let bare = || {
            serde_json::json!({"code": status.code() as i32, "message": status.message()})
                .to_string()
        };
        details
            .filter(|_| !status.details().is_empty())
            .unwrap_or_else(bare)
    }
}

impl Method {
    /// `waybill.v1.LedgerService/GetEvent`.
    pub(crate) fn name(&self) -> Arc<str> {
        self.name.clone()
    }

    /// Whether requests or answers come in numbers.
    pub(crate) fn is_streaming(&self) -> bool {
        self.descriptor.is_client_streaming() || self.descriptor.is_server_streaming()
    }

    /// Whether requests come in numbers.
    pub(crate) fn is_client_streaming(&self) -> bool {
        self.descriptor.is_client_streaming()
    }

    /// Full name of the request's message.
    pub(crate) fn input(&self) -> String {
        self.descriptor.input().full_name().to_owned()
    }

    /// Full name of the answer's message.
    pub(crate) fn output(&self) -> String {
        self.descriptor.output().full_name().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_contract_is_known_by_its_paths() {
        let contract = Contract::load().unwrap();
        let method = contract
            .method("/waybill.v1.LedgerService/TailEvents")
            .unwrap();
        assert!(method.is_streaming() && !method.is_client_streaming());
        assert_eq!(method.input(), "waybill.v1.TailEventsRequest");
        assert!(contract.method("/google.rpc.Nothing/Here").is_none());
        assert!(
            contract
                .services()
                .contains(&"waybill.v1.EmitService".to_owned())
        );
    }

    #[test]
    fn a_failure_keeps_its_details_in_json() {
        let contract = Contract::load().unwrap();
        let json = contract.failure_json(&crate::status::too_many("tails", 3));
        let value: serde_json::Value = serde_json::from_str(&json).unwrap();
        assert_eq!(value["code"], 8);
        let of_type = |name: &str| {
            let details = value["details"].as_array().unwrap();
            details
                .iter()
                .find(|it| it["@type"].as_str().unwrap().ends_with(name))
                .cloned()
                .unwrap()
        };
        assert_eq!(of_type("ErrorInfo")["domain"], "waybill.dev");
        assert_eq!(of_type("RetryInfo")["retryDelay"], "0.200s");
    }
}
