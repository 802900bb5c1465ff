//! What the transcoder is compared with needs code of its own for each message: made here, of the same protos.

use anyhow::Context as _;
use prost::Message as _;
use std::path::PathBuf;

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=proto");
    let mut compiler = protox::Compiler::new(["proto"])?;
    compiler.include_imports(true).open_file("sample.proto")?;
    let bytes = compiler.encode_file_descriptor_set();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), &bytes)?;

    let set = prost_types::FileDescriptorSet::decode(bytes.as_slice())?;
    prost_build::Config::new()
        .compile_well_known_types()
        .extern_path(".google.protobuf", "::pbjson_types")
        .compile_fds(set)?;
    pbjson_build::Builder::new().register_descriptors(&bytes)?.build(&[".linkmesh.bench.v1"])?;
    Ok(())
}
