//! A method that does not say who may call it does not build.
#![allow(clippy::unwrap_used, reason = "tests")]

#[path = "../access_table.rs"]
mod access_table;

use prost_reflect::DescriptorPool;

/// The descriptors of one more service besides the option itself.
fn pool(method: &str) -> DescriptorPool {
    let folder = tempfile::tempdir().unwrap();
    let option = include_str!("../proto/access.proto");
    std::fs::write(folder.path().join("access.proto"), option).unwrap();
    let text = format!(
        "syntax = \"proto3\"; package coracle.v1; import \"access.proto\"; message Empty {{}}\n\
         service New {{ rpc Make(Empty) returns (Empty) {{ {method} }} }}"
    );
    std::fs::write(folder.path().join("new.proto"), text).unwrap();
    let mut compiler = protox::Compiler::new([folder.path()]).unwrap();
    compiler.include_imports(true).open_files(["access.proto", "new.proto"]).unwrap();
    compiler.descriptor_pool()
}

#[test]
fn a_method_says_who_may_call_it() {
    let table = access_table::access_table(&pool("option (access) = { callers: [WORKER], leader: true };"));
    let row = r#"Method { path: "/coracle.v1.New/Make", callers: &[Caller::Worker, ], leader: true }"#;
    assert!(table.unwrap().contains(row));
}

#[test]
fn a_method_that_does_not_say_so_fails_the_build() {
    for forgotten in [
        "",
        "option (access) = { leader: true };",
        "option (access) = { callers: [CALLER_UNSPECIFIED] };",
        "option (access) = { callers: [WORKER, CALLER_UNSPECIFIED] };",
    ] {
        let error = access_table::access_table(&pool(forgotten)).unwrap_err();
        assert!(error.to_string().contains("/coracle.v1.New/Make has no entry"), "{forgotten}: {error}");
    }
}
