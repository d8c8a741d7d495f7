//! A small disk under a node's data, to be filled.

use std::fmt::Write as _;

use anyhow::{Context as _, Result};

use crate::lab::Lab;
use crate::name::Name;
use crate::node::Node;

/// Names of the files that fill it.
const FILLING: &str = "filling";

/// Puts the data of a node, whose daemon has nothing of value yet, on a file system of so many bytes; the daemon is started
/// anew. It ends with the host.
///
/// # Errors
/// When it cannot be mounted or the daemon does not come up.
pub fn limit(lab: &mut Lab, name: Name, bytes: u64) -> Result<()> {
    lab.node(name).stop_daemon()?;
    let data = lab.get(name)?.folders().data().display().to_string();
    let options = format!("size={bytes},mode=0700");
    // Inside the host, so that it goes with it. A tmpfs needs neither a loop device nor a program that makes file systems,
    // and says ENOSPC as any other does.
    lab.get(name)?.host()?.run(["mount", "-t", "tmpfs", "-o", &options, "small-disk", &data])?;
    lab.start_daemon(name)
}

/// Bytes that can still be written to the disk of a node's data.
///
/// # Errors
/// When the host is off.
pub fn free(node: &Node) -> Result<u64> {
    let data = node.folders().data().display().to_string();
    let said = node.host()?.run(["stat", "--file-system", "--format", "%a %S", &data])?;
    let (blocks, size) = said.trim().split_once(' ').with_context(|| format!("stat said {said:?}"))?;
    Ok(blocks.parse::<u64>()? * size.parse::<u64>()?)
}

/// Fills the disk until so many bytes are left; to the last one for 0.
///
/// # Errors
/// When the host is off.
pub fn fill(node: &Node, leave: u64) -> Result<()> {
    let path = node.folders().data().join(FILLING).display().to_string();
    let mut script = String::new();
    if leave == 0 {
        // Ends with an error, which is the point.
        write!(script, "cat /dev/zero >>'{path}' 2>/dev/null; true")?;
    } else {
        let more = free(node)?.saturating_sub(leave);
        write!(script, "head -c {more} /dev/zero >>'{path}'")?;
    }
    node.host()?.run(["sh", "-c", &script]).map(drop)
}

/// Frees what was filled.
///
/// # Errors
/// When the host is off.
pub fn make_room(node: &Node) -> Result<()> {
    let path = node.folders().data().join(FILLING).display().to_string();
    node.host()?.run(["rm", "-f", &path]).map(drop)
}
