//! Compiles the protobuf files with a compiler in pure Rust: no `protoc` is needed.

use std::path::PathBuf;

use protox::prost::Message;

const FILES: [&str; 3] = [
    "proto/millstream/v1/job.proto",
    "proto/millstream/v1/client.proto",
    "proto/millstream/v1/worker.proto",
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    println!("cargo::rerun-if-changed=proto");
    let out = PathBuf::from(std::env::var_os("OUT_DIR").ok_or("cargo sets OUT_DIR")?);
    let descriptors = protox::compile(FILES, ["proto"])?;
    // For reflection, and for the test that the spec's list of fields and the messages agree.
    std::fs::write(out.join("descriptor.bin"), descriptors.encode_to_vec())?;
    let mut config = tonic_prost_build::Config::new();
    // By name, a message finds its descriptor.
    config.enable_type_names();
    config.type_name_domain(["."], "type.googleapis.com");
    tonic_prost_build::configure()
        // Option values and variables may be secrets: these have a Debug of their own.
        .skip_debug([
            "millstream.v1.Property",
            "millstream.v1.Pipeline",
            "millstream.v1.ResolvedJob",
        ])
        // Batches travel without being copied.
        .bytes(".millstream.v1.Batch")
        .compile_fds_with_config(descriptors, config)?;
    Ok(())
}
