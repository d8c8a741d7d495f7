//! Generates the messages and services, and the access table from the `access` option of every method.
//!
//! A method without the option, or with an empty list of callers, fails the build.

use std::error::Error;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};

fn main() -> Result<(), Box<dyn Error>> {
    let folder = Path::new("proto");
    println!("cargo::rerun-if-changed=proto");
    println!("cargo::rerun-if-changed=build.rs");
    let mut files: Vec<PathBuf> =
        std::fs::read_dir(folder)?.map(|entry| entry.map(|e| e.path())).collect::<Result<_, _>>()?;
    files.retain(|path| path.extension().is_some_and(|extension| extension == "proto"));
    files.sort();

    let mut compiler = protox::Compiler::new([folder])?;
    compiler.include_source_info(true).include_imports(true).open_files(&files)?;
    let descriptors = compiler.file_descriptor_set();
    let pool = compiler.descriptor_pool();

    let out = PathBuf::from(std::env::var("OUT_DIR")?);
    std::fs::write(out.join("access_table.rs"), access_table(&pool)?)?;
    let mut config = tonic_prost_build::Config::new();
    config.bytes(["."]);
    tonic_prost_build::configure().compile_fds_with_config(descriptors, config)?;
    Ok(())
}

fn access_table(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
    let mut table = String::from("&[\n");
    let mut rows = Vec::new();
    for service in pool.services().filter(|service| service.package_name() == "coracle.v1") {
        for method in service.methods() {
            rows.push(row(pool, &format!("/{}/{}", service.full_name(), method.name()), &method)?);
        }
    }
    rows.sort();
    table.extend(rows);
    table.push(']');
    Ok(table)
}

fn row(pool: &DescriptorPool, path: &str, method: &MethodDescriptor) -> Result<String, Box<dyn Error>> {
    let extension =
        pool.get_extension_by_name("coracle.v1.access").ok_or("access.proto does not define the option")?;
    let options = method.options();
    let value = options.get_extension(&extension);
    let access: &DynamicMessage = value.as_message().ok_or("the access option is not a message")?;
    let callers = access.get_field_by_name("callers").ok_or("the access option has no callers")?;
    let numbers: Vec<i32> =
        callers.as_list().unwrap_or_default().iter().filter_map(Value::as_enum_number).collect();
    if numbers.is_empty() || numbers.contains(&0) {
        return Err(format!("{path} has no entry in the access table: give it `option (access)`").into());
    }
    let leader = access.get_field_by_name("leader").and_then(|value| value.as_bool()).unwrap_or(false);
    let mut names = String::new();
    for number in numbers {
        let name = ["", "Anyone", "Worker", "Manager", "Operator", "Local"]
            .get(usize::try_from(number)?)
            .ok_or_else(|| format!("{path}: unknown caller {number}"))?;
        write!(names, "Caller::{name}, ")?;
    }
    Ok(format!("    Method {{ path: {path:?}, callers: &[{names}], leader: {leader} }},\n"))
}
