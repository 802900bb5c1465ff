//! Compiles `proto/` without protoc: one descriptor set with everything in it, and the Rust code from the same set.

use anyhow::Context as _;
use prost::Message as _;
use std::path::Path;
use std::path::PathBuf;

fn main() -> anyhow::Result<()> {
    let root = Path::new("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());

    let mut sources = Vec::new();
    collect(&root.join("linkmesh"), &mut sources)?;
    // No file of ours imports it, but the details of errors are of its types, and JSON needs to know them.
    sources.push(root.join("third_party/google/rpc/error_details.proto"));
    sources.sort();

    let mut compiler = protox::Compiler::new([root, &root.join("third_party")])?;
    compiler.include_imports(true).include_source_info(true).open_files(&sources)?;
    // Encoded by protox itself: a set decoded into prost's types loses options such as google.api.http.
    let bytes = compiler.encode_file_descriptor_set();
    let out = PathBuf::from(std::env::var_os("OUT_DIR").context("cargo sets OUT_DIR")?);
    std::fs::write(out.join("descriptors.bin"), &bytes)?;

    let mut set = prost_types::FileDescriptorSet::decode(bytes.as_slice())?;
    let is_of_options =
        |package: &str| package.starts_with("google.api") || package == "buf.validate";
    set.file.retain(|file| !is_of_options(file.package()));
    tonic_prost_build::configure()
        .bytes(".linkmesh.events.v1.ClickBatch")
        .include_file("all.rs")
        .compile_fds(set)?;
    Ok(())
}

fn collect(folder: &Path, into: &mut Vec<PathBuf>) -> anyhow::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        if path.is_dir() {
            collect(&path, into)?;
        } else if path.extension().is_some_and(|extension| extension == "proto") {
            into.push(path);
        }
    }
    Ok(())
}
