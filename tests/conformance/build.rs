//! Compiles the suite's protos as `libs/proto` compiles ours.

use anyhow::Context as _;
use prost::Message as _;
use std::path::PathBuf;

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=proto");
    let files = ["service", "server_compat"];
    let files = files.map(|name| format!("proto/connectrpc/conformance/v1/{name}.proto"));
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_files(&files)?;
    let bytes = compiler.encode_file_descriptor_set();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), &bytes)?;
    let set = prost_types::FileDescriptorSet::decode(bytes.as_slice())?;
    tonic_prost_build::configure()
        .build_client(false)
        .build_server(false)
        .include_file("all.rs")
        .compile_fds(set)?;
    Ok(())
}
