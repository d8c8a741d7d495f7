//! A running machine: the emulator's process, and the serial console that it writes to.

use std::fs::{self, File};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver, RecvTimeoutError, Sender};
use std::thread;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail, ensure};

use super::console::{Line, Results, Verdict};

/// The emulator.
pub const PROGRAM: &str = "qemu-system-x86_64";

/// `panic=-1` restarts at once, which `-no-reboot` makes the end. Level 1 of messages is panics and little else.
const COMMAND_LINE: &str = "console=ttyS0 panic=-1 loglevel=1 random.trust_cpu=on net.ifnames=0";
/// Names an accelerator of QEMU, such as `kvm`, to use instead of emulation, which behaves the same everywhere.
const ACCELERATOR: &str = "CORACLE_VM_ACCEL";
/// How much of the console an error shows.
const SHOWN_LINES: usize = 120;

/// A machine that was switched on. Dropping it switches it off, as pulling the plug does.
#[derive(Debug)]
pub struct Emulator {
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
    results: Results,
}

impl Emulator {
    /// Starts the emulator; the console is also written to `log`. `parameters` are further ones of the kernel.
    ///
    /// # Errors
    /// When it cannot be started.
    pub fn start(
        kernel: &Path,
        parameters: &str,
        initramfs: &Path,
        disk: Option<&Path>,
        log: &Path,
    ) -> Result<Self> {
        let file = File::create(log).with_context(|| format!("create {}", log.display()))?;
        let messages = file.try_clone().with_context(|| format!("open {} again", log.display()))?;
        // A test that is killed takes its machine with it.
        let mut command = Command::new("setpriv");
        command
            .args(["--pdeathsig", "KILL", "--", PROGRAM])
            .args(arguments(kernel, parameters, initramfs, disk));
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(messages)
            .spawn()
            .with_context(|| format!("start {PROGRAM}"))?;
        let output = child.stdout.take().context("the emulator's output")?;
        let (sender, lines) = mpsc::channel();
        thread::Builder::new()
            .name("console".to_owned())
            .spawn(move || copy(output, file, &sender))
            .context("start a thread for the console")?;
        Ok(Self { child, lines, log: log.to_owned(), results: Results::default() })
    }

    /// Waits until the scenario has ended and nothing failed.
    ///
    /// # Errors
    /// When something failed, the machine ended without saying so, or the time is over; with the end of the console.
    pub fn finish(mut self, patience: Duration) -> Result<Results> {
        self.read_until(patience, |line| *line == Line::Done)
            .context("waiting for the end of the scenario")?;
        let failures: Vec<String> = self.results.failures().collect();
        ensure!(failures.is_empty(), "{}\n{}", failures.join("\n"), self.shown());
        ensure!(self.results.passed().next().is_some(), "the scenario looked at nothing\n{}", self.shown());
        Ok(std::mem::take(&mut self.results))
    }

    /// Waits until the scenario says that something is as it should be.
    ///
    /// # Errors
    /// As for [`finish`](Self::finish), also when the scenario ends before it says so.
    pub fn wait_for(&mut self, name: &str, patience: Duration) -> Result<()> {
        let is_it =
            |line: &Line| *line == Line::Done || matches!(line, Line::Result(told, _) if told == name);
        self.read_until(patience, is_it).with_context(|| format!("waiting for {name}"))?;
        match self.results.get(name) {
            Some(Verdict::Ok) => Ok(()),
            Some(Verdict::Failed(why)) => bail!("{name}: {why}\n{}", self.shown()),
            None => bail!("the scenario ended without {name}\n{}", self.shown()),
        }
    }

    /// Switches it off at once: what the guest has not written to its disk is lost.
    ///
    /// # Errors
    /// When the emulator cannot be killed.
    pub fn lose_power(mut self) -> Result<()> {
        self.child.kill().context("kill the emulator")?;
        self.child.wait().context("wait for the emulator")?;
        Ok(())
    }

    fn read_until(&mut self, patience: Duration, is_it: impl Fn(&Line) -> bool) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let text = match self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())) {
                Ok(text) => text,
                Err(RecvTimeoutError::Timeout) => bail!("nothing after {patience:?}\n{}", self.shown()),
                Err(RecvTimeoutError::Disconnected) => bail!("the machine has stopped\n{}", self.shown()),
            };
            let line = Line::parse(&text);
            if let Line::Result(name, verdict) = &line {
                self.results.add(name.clone(), verdict.clone());
            }
            if line == Line::Panic {
                // The last words follow; the end of the console tells that they are all there.
                while self.lines.recv_timeout(deadline.saturating_duration_since(Instant::now())).is_ok() {}
                bail!("the guest's kernel gave up\n{}", self.shown());
            }
            if is_it(&line) {
                return Ok(());
            }
        }
    }

    /// The end of the console. Its lines are marked, so that what test programs in there say is not taken for what
    /// those out here do.
    fn shown(&self) -> String {
        let text = fs::read(&self.log).unwrap_or_default();
        let text = String::from_utf8_lossy(&text);
        let lines: Vec<&str> = text.lines().collect();
        let shown = lines[lines.len().saturating_sub(SHOWN_LINES)..].join("\n| ");
        format!("--- end of the console ({}):\n| {shown}", self.log.display())
    }
}

impl Drop for Emulator {
    fn drop(&mut self) {
        // It may have ended by itself; nothing else can be done about a failure.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn arguments(kernel: &Path, parameters: &str, initramfs: &Path, disk: Option<&Path>) -> Vec<String> {
    let mut all: Vec<String> = [
        "-nodefaults",
        "-no-user-config",
        "-no-reboot",
        "-display",
        "none",
        "-monitor",
        "none",
        "-serial",
        "stdio",
        "-machine",
        "q35",
        "-cpu",
        "max",
        "-smp",
        "2",
        "-m",
        "1536",
    ]
    .map(str::to_owned)
    .to_vec();
    let accelerator = std::env::var(ACCELERATOR).unwrap_or_else(|_| "tcg".to_owned());
    all.extend(["-accel".to_owned(), accelerator]);
    all.extend(["-kernel".to_owned(), kernel.display().to_string()]);
    all.extend(["-initrd".to_owned(), initramfs.display().to_string()]);
    all.extend(["-append".to_owned(), format!("{COMMAND_LINE} {parameters}").trim_end().to_owned()]);
    if let Some(disk) = disk {
        // NVMe is built into the kernel. Kept in the host's memory, a flush costs little, and the guest's own cache,
        // which is what a loss of power takes, is the same.
        all.extend(["-drive".to_owned(), format!("file={},format=raw,if=none,id=disk", disk.display())]);
        all.extend(["-device", "nvme,drive=disk,serial=coracle"].map(str::to_owned));
    }
    all
}

/// Passes the console on, line by line, to the log and to whoever waits.
fn copy(output: ChildStdout, mut log: File, lines: &Sender<String>) {
    let mut reader = BufReader::new(output);
    let mut line = Vec::new();
    while reader.read_until(b'\n', &mut line).is_ok_and(|length| length > 0) {
        // A log that cannot be written shows in what an error quotes.
        let _ = log.write_all(&line);
        let text = String::from_utf8_lossy(&line).trim_end().to_owned();
        // Nobody waits any more when the machine is switched off.
        let _ = lines.send(text);
        line.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_disk_is_attached_only_if_there_is_one() {
        let [kernel, initramfs] = ["k", "i"].map(Path::new);
        let none = arguments(kernel, "", initramfs, None).join(" ");
        assert!(
            none.contains("-kernel k -initrd i -append console=ttyS0") && !none.contains("nvme"),
            "{none}"
        );
        let some = arguments(kernel, "security=selinux", initramfs, Some(Path::new("/d"))).join(" ");
        assert!(
            some.contains("file=/d,format=raw")
                && some.contains("ifnames=0 security=selinux -drive")
                && some.contains("nvme,drive=disk"),
            "{some}"
        );
    }
}
