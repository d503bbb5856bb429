//! Compiles `proto/` without protoc: messages and clients once, and server traits that hand over raw event bytes.
use std::{env, error::Error, fs, path::PathBuf};

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
