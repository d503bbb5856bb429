//! Compiles `proto/` without protoc: messages and clients once, and server traits that hand over raw event bytes.
use std::{env, error::Error, fmt::Write, fs, path::PathBuf};

use prost_types::{DescriptorProto, FileDescriptorSet};

/// Messages that the server reads and writes with events left as bytes (LEDGER E3).
const RAW: &[&str] = &[
    "EmitRequest",
    "EmitStreamRequest",
    "RecordedEvent",
    "GetEventResponse",
    "ListEventsResponse",
    "TailEventsResponse",
];

fn main() -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env::var("CARGO_MANIFEST_DIR")?).join("../../proto");
    println!("cargo::rerun-if-changed={}", root.display());
    let out = PathBuf::from(env::var("OUT_DIR")?);
    let mut files: Vec<_> = fs::read_dir(root.join("waybill/v1"))?
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<_, _>>()?;
    files.sort();

    let mut compiler = protox::Compiler::new([&root])?;
    compiler
        .include_source_info(true)
        .include_imports(true)
        .open_files(files)?;
    let descriptors = compiler.file_descriptor_set();
    fs::write(
        out.join("waybill.bin"),
        compiler.encode_file_descriptor_set(),
    )?;

    fs::write(out.join("kinds.rs"), kinds(&descriptors))?;
    fs::write(out.join("methods.rs"), methods(&descriptors))?;

    let messages = out.join("messages");
    fs::create_dir_all(&messages)?;
    tonic_prost_build::configure()
        .build_server(false)
        .bytes(".")
        .out_dir(&messages)
        .compile_fds(descriptors.clone())?;

    let servers = out.join("servers");
    fs::create_dir_all(&servers)?;
    let mut server = tonic_prost_build::configure()
        .build_client(false)
        .extern_path(".waybill.v1", "crate::pb")
        .out_dir(&servers);
    for name in RAW {
        server = server.extern_path(format!(".waybill.v1.{name}"), format!("crate::raw::{name}"));
    }
    server.compile_fds(descriptors)?;
    Ok(())
}

/// Writes the names of all kinds of event as code, so that a kind is never spelled by hand.
fn kinds(descriptors: &FileDescriptorSet) -> String {
    let (mut list, mut arms, mut families) = (String::new(), String::new(), String::new());
    for family in message(descriptors, "Event")
        .field
        .iter()
        .filter(|f| f.oneof_index.is_some())
    {
        let name = family.name();
        let message_name = family.type_name().rsplit('.').next().unwrap_or_default();
        let snake_name = snake(message_name);
        let kind_family = snake_name.strip_suffix("_event").unwrap_or(&snake_name);
        let mut inner = String::new();
        for predicate in &message(descriptors, message_name).field {
            let kind = format!("{kind_family}.{}", predicate.name());
            writeln!(list, "    {kind:?},").expect("a String takes all");
            write!(inner, "E::{}(_) => {kind:?}, ", camel(predicate.name()))
                .expect("a String takes all");
        }
        writeln!(families, "        P::{}(_) => {name:?},", camel(name))
            .expect("a String takes all");
        writeln!(
            arms,
            "        P::{}(family) => {{ use crate::pb::{}::Event as E; family.event.as_ref().map(|e| match e {{ {inner}}}) }}",
            camel(name),
            snake_name,
        )
        .expect("a String takes all");
    }
    format!(
        "/// Every kind of event of this version, in the order of `event.proto`.\n\
         pub const KINDS: &[&str] = &[\n{list}];\n\n\
         /// The kind of a payload, `<family>.<predicate>`; none where this version does not know the predicate.\n\
         #[must_use]\n\
         pub fn kind_of(payload: &crate::pb::event::Payload) -> Option<&'static str> {{\n    \
         use crate::pb::event::Payload as P;\n    match payload {{\n{arms}    }}\n}}\n\n\
         /// The field of `Event` that a payload stands in: its family, but `environment_event`.\n\
         #[must_use]\n\
         pub fn field_of(payload: &crate::pb::event::Payload) -> &'static str {{\n    \
         use crate::pb::event::Payload as P;\n    match payload {{\n{families}    }}\n}}\n"
    )
}

/// Writes every method of the contract as one closed list, so that whoever decides about methods decides about all.
fn methods(descriptors: &FileDescriptorSet) -> String {
    let (mut variants, mut list, mut paths) = (String::new(), String::new(), String::new());
    let ours = descriptors
        .file
        .iter()
        .filter(|f| f.package() == "waybill.v1");
    for service in ours.flat_map(|file| &file.service) {
        let prefix = service.name().trim_end_matches("Service");
        for method in &service.method {
            // `EmitService/EmitStream` is `EmitEmitStream`: two services may have methods of one name.
            let variant = format!("{prefix}{}", method.name());
            let path = format!("/waybill.v1.{}/{}", service.name(), method.name());
            writeln!(variants, "    /// `{path}`.\n    {variant},").expect("a String takes all");
            writeln!(list, "        Self::{variant},").expect("a String takes all");
            writeln!(paths, "            Self::{variant} => {path:?},")
                .expect("a String takes all");
        }
    }
    format!(
        "/// Every method of the contract.\n\
         #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]\n\
         pub enum Method {{\n{variants}}}\n\n\
         impl Method {{\n    /// All of them, in the order of the contract's files.\n    \
         pub const ALL: &[Self] = &[\n{list}    ];\n\n    \
         /// The path that names it: `/waybill.v1.EmitService/Emit`.\n    \
         #[must_use]\n    pub fn path(self) -> &'static str {{\n        \
         match self {{\n{paths}        }}\n    }}\n}}\n"
    )
}

fn message<'d>(descriptors: &'d FileDescriptorSet, name: &str) -> &'d DescriptorProto {
    descriptors
        .file
        .iter()
        .filter(|file| file.package() == "waybill.v1")
        .flat_map(|file| &file.message_type)
        .find(|message| message.name() == name)
        .unwrap_or_else(|| panic!("proto/ has a message waybill.v1.{name}"))
}

fn camel(snake: &str) -> String {
    let capitalised = |word: &str| word[..1].to_uppercase() + &word[1..];
    snake.split('_').map(capitalised).collect()
}

fn snake(camel: &str) -> String {
    let mut out = String::new();
    for c in camel.chars() {
        if c.is_uppercase() && !out.is_empty() {
            out.push('_');
        }
        out.extend(c.to_lowercase());
    }
    out
}
