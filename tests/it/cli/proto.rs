//! The generated code of `proto/` is committed, so that a build needs no protobuf compiler and no
//! build script; this keeps it equal to what its source says.

use std::fs;
use std::path::Path;

use prost::Message as _;

/// Where the binary keeps what is generated from the echo's proto.
const ECHO: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/bin/meshwork/echo");

/// Writes or compares one generated file.
fn settle(path: &Path, generated: &[u8]) {
    if std::env::var_os("MESHWORK_BLESS").is_some() {
        fs::write(path, generated).expect("the worktree can be written");
    }
    let committed = fs::read(path).unwrap_or_default();
    assert!(
        committed == generated,
        "{} is not what proto/ says; run this test with MESHWORK_BLESS=1 and commit the result",
        path.display()
    );
}

#[test]
fn committed_echo_code_is_what_its_proto_says() {
    let source = concat!(env!("CARGO_MANIFEST_DIR"), "/proto");
    let compile = |source_info| {
        let mut compiler = protox::Compiler::new([source]).expect("proto/ exists");
        compiler
            .include_imports(true)
            .include_source_info(source_info)
            .open_file("meshwork/echo/v1/echo.proto")
            .expect("the proto is valid")
            .file_descriptor_set()
    };

    // Reflection needs no comments, rustdoc does.
    settle(
        &Path::new(ECHO).join("descriptor.bin"),
        &compile(false).encode_to_vec(),
    );

    let out = tempfile::tempdir().expect("a temporary directory");
    tonic_prost_build::configure()
        .build_transport(false)
        .out_dir(out.path())
        .compile_fds(compile(true))
        .expect("the descriptors are complete");
    let name = "meshwork.echo.v1.rs";
    let generated = fs::read(out.path().join(name)).expect("the package is generated");
    settle(&Path::new(ECHO).join(name), &generated);
}
