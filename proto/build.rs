//! Generates the messages and services, and the access table from the `access` option of every method.
//!
//! A method without the option, or with an empty list of callers, fails the build.

mod access_table;

use std::error::Error;
use std::path::{Path, PathBuf};

/// Messages with secrets in them.
const REDACTED: [&str; 7] = [
    ".coracle.v1.StoredCluster",
    ".coracle.v1.StoredContent",
    ".coracle.v1.UpdateFile",
    ".coracle.v1.FileContent",
    ".coracle.v1.CreateFileRequest",
    ".coracle.v1.UpdateFileRequest",
    ".coracle.v1.AssignedFile",
];

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new("proto");
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=build.rs");
    println!("cargo::rerun-if-changed=access_table.rs");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "proto"));
    files.sort();

    let mut compiler = protox::Compiler::new([folder])?;
    compiler.include_source_info(true).include_imports(true).open_files(&files)?;
    let descriptors = compiler.file_descriptor_set();
    let pool = compiler.descriptor_pool();

    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("access_table.rs"), access_table::access_table(&pool)?)?;
    let mut config = tonic_prost_build::Config::new();
    config.bytes(["."]);
    // What these hold is shown nowhere: `redact.rs` says how they are printed instead.
    config.skip_debug(REDACTED);
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;
    Ok(())
}
