//! Getting root's rights for the parts that need them, whoever started the program.

use std::process::Command;

/// Whether the program runs as root.
pub(crate) fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}

/// A command with root's rights: as it is, or through `sudo`.
pub(crate) fn command(program: &str, arguments: &[&str]) -> Command {
    if is_root() {
        let mut command = Command::new(program);
        command.args(arguments);
        return command;
    }
    let mut command = Command::new("sudo");
    // The environment names files and switches that the program looks at.
    command.arg("--preserve-env").arg(program).args(arguments);
    command
}

/// Lets cargo start test programs with root's rights.
pub(crate) fn run_tests_as_root(command: &mut Command) {
    if !is_root() {
        let target = format!("{}_UNKNOWN_LINUX_GNU", std::env::consts::ARCH.to_uppercase());
        command.env(format!("CARGO_TARGET_{target}_RUNNER"), "sudo --preserve-env");
    }
}
