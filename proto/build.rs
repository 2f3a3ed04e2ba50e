//! Compiles the protobuf files with a compiler in pure Rust: no `protoc` is needed.

use std::path::PathBuf;

use protox::prost::Message;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let descriptors = protox::compile(["proto/millstream/v1/job.proto"], ["proto"])?;
    // For the test that the spec's list of fields and the messages agree.
    std::fs::write(out.join("descriptor.bin"), descriptors.encode_to_vec())?;
    prost_build::Config::new()
        // Option values may be secrets: `Property` has a Debug of its own.
        .skip_debug(["millstream.v1.Property"])
        .compile_fds(descriptors)?;
    Ok(())
}
