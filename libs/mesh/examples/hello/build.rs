//! Compiles hello.proto as any tonic program does, and keeps its descriptors.

use prost::Message as _;
use std::path::PathBuf;

fn main() -> anyhow::Result<()> {
    println!("cargo:rerun-if-changed=hello.proto");
    let descriptors = protox::compile(["hello.proto"], ["."])?;
    let folder = PathBuf::from(std::env::var_os("OUT_DIR").expect("cargo sets it"));
    std::fs::write(folder.join("hello.bin"), descriptors.encode_to_vec())?;
    tonic_prost_build::compile_fds(descriptors)?;
    Ok(())
}
