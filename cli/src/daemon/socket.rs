//! The local socket: for root and the group `coracle`.

use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use coracle_rpc::caller::LocalUser;
use tokio::net::UnixListener;
use tracing::info;

use super::node::Node;

/// Name of the socket in the run directory.
pub(super) const NAME: &str = "coracle.sock";
/// The group whose members are operators on a manager's socket.
const GROUP: &str = "coracle";

/// Makes the socket. It belongs to nobody but root until its group is set: the daemon's umask is 077.
///
/// # Errors
/// If another daemon answers on it, or the directory refuses.
pub(super) fn bind(run_dir: &Path) -> anyhow::Result<UnixListener> {
    let path = run_dir.join(NAME);
    // The lock on the data directory is held: nobody can be listening here any more.
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            return Err(error).with_context(|| format!("removing the old {}", path.display()));
        }
        _ => {}
    }
    let listener = UnixListener::bind(&path).with_context(|| format!("listening on {}", path.display()))?;
    if let Some(group) = group_id(&std::fs::read_to_string("/etc/group").unwrap_or_default()) {
        for (path, mode) in [(run_dir, 0o750), (path.as_path(), 0o660)] {
            std::os::unix::fs::chown(path, None, Some(group))
                .and_then(|()| std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)))
                .with_context(|| format!("giving {} to the group {GROUP}", path.display()))?;
        }
    } else {
        info!("there is no group {GROUP}: only root may use the local socket");
    }
    Ok(listener)
}

/// The group's number, read from the file: a static binary has no other way (group(5)).
fn group_id(groups: &str) -> Option<u32> {
    let line = groups.lines().find(|line| line.split(':').next() == Some(GROUP))?;
    line.split(':').nth(2)?.parse().ok()
}

/// Who may use the socket: whoever the kernel let open it, that is root and the group. On a manager they speak for an operator.
pub(super) fn permitted(node: Arc<Node>) -> impl Fn(u32, u32) -> Option<LocalUser> + Send + Sync + 'static {
    move |uid, _| Some(LocalUser { uid, pid: None, operator: node.is_manager() })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_group_is_found_by_its_whole_name() {
        let file = "root:x:0:\ncoracles:x:5:\ncoracle:x:997:ann,bob\n";
        assert_eq!(group_id(file), Some(997));
        assert_eq!(group_id("root:x:0:\n"), None);
    }
}
