//! The access table, from the `access` option of every method. Part of the build, and of a test of it.

use std::error::Error;
use std::fmt::Write as _;

use prost_reflect::{DescriptorPool, DynamicMessage, MethodDescriptor, Value};

/// The table as an expression of Rust.
///
/// # Errors
/// If a method has no `access` option, or one without callers: nobody may forget to say who may call it.
pub(crate) fn access_table(pool: &DescriptorPool) -> Result<String, Box<dyn Error>> {
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
