//! A place for containers of one test, which leaves nothing behind.

pub mod dead;

use coracle_agent_runtime::log::{LogOptions, LogReader, LogStream};
use coracle_agent_runtime::{ContainerId, ContainerSpec, Exit, ExitReason, Runtime, RuntimeConfig, Status};
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

static COUNTER: AtomicU32 = AtomicU32::new(0);

/// A deadline for conditions, generous because test machines are shared.
pub const PATIENCE: Duration = Duration::from_secs(60);

pub struct Lab {
    runtime: Option<Runtime>,
    pub directory: tempfile::TempDir,
    pub config: RuntimeConfig,
}

/// What a finished container left.
pub struct Finished {
    pub exit: Exit,
    pub stdout: String,
    pub stderr: String,
}

impl Finished {
    pub fn code(&self) -> i32 {
        match &self.exit.reason {
            ExitReason::Code(code) => *code,
            other => panic!("ended by {other:?}; stderr: {}", self.stderr),
        }
    }
}

impl Lab {
    /// `None`, with a printed reason, where containers cannot be run.
    pub fn new() -> Option<Self> {
        if !rustix::process::geteuid().is_root() {
            println!("skipped: running containers needs root");
            return None;
        }
        if !Path::new("/bin/busybox").exists() {
            println!("skipped: the tests need a static /bin/busybox");
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let mut config = RuntimeConfig::new(
            directory.path().join("state"),
            directory.path().join("run"),
            format!("coracle-test-{}-{number}", std::process::id()),
        );
        config.cdi_folders = vec![directory.path().join("cdi")];
        make_rootfs(&directory.path().join("layer"));
        let runtime = Some(Runtime::open(config.clone()).unwrap());
        Some(Self { runtime, directory, config })
    }

    pub fn runtime(&self) -> &Runtime {
        self.runtime.as_ref().unwrap()
    }

    /// Closes the runtime, as a daemon that ends.
    pub fn close(&mut self) {
        self.runtime = None;
    }

    pub fn reopen(&mut self) {
        self.runtime = Some(Runtime::open(self.config.clone()).unwrap());
    }

    pub fn layer(&self) -> PathBuf {
        self.directory.path().join("layer")
    }

    /// A path outside of all containers.
    pub fn host(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub fn spec(&self, args: &[&str]) -> ContainerSpec {
        ContainerSpec::new(vec![self.layer()], args.iter().map(|&arg| arg.to_owned()).collect())
    }

    pub fn shell(&self, script: &str) -> ContainerSpec {
        self.spec(&["sh", "-c", script])
    }

    /// Runs to the end and deletes.
    pub fn finish(&self, spec: &ContainerSpec) -> Finished {
        let id = unique("run");
        self.runtime().run(&id, spec).unwrap_or_else(|error| panic!("{error}"));
        let finished = self.finished(&id);
        self.runtime().delete(&id).unwrap();
        finished
    }

    pub fn finished(&self, id: &ContainerId) -> Finished {
        let exit = self.runtime().wait(id, Some(PATIENCE)).unwrap().expect("the container should have ended");
        let (stdout, stderr) = self.output(id);
        Finished { exit, stdout, stderr }
    }

    /// What the container wrote so far.
    pub fn output(&self, id: &ContainerId) -> (String, String) {
        let summary = self.runtime().inspect(id).unwrap();
        let mut reader = LogReader::open(&summary.log_directory, &LogOptions::default()).unwrap();
        let (mut stdout, mut stderr) = (String::new(), String::new());
        while let Some(entry) = reader.next_entry().unwrap() {
            match entry.stream {
                LogStream::Stdout => stdout.push_str(&entry.text),
                LogStream::Stderr => stderr.push_str(&entry.text),
            }
        }
        (stdout, stderr)
    }

    /// Stdout of a script that succeeds.
    pub fn stdout(&self, spec: &ContainerSpec) -> String {
        let finished = self.finish(spec);
        assert_eq!(finished.code(), 0, "stdout: {} stderr: {}", finished.stdout, finished.stderr);
        finished.stdout
    }

    pub fn pid(&self, id: &ContainerId) -> i32 {
        match self.runtime().status(id).unwrap() {
            Status::Running { pid, .. } => pid,
            other => panic!("{id} is {other:?}"),
        }
    }
}

impl Drop for Lab {
    /// Also after a failed test.
    fn drop(&mut self) {
        let runtime = self.runtime.take().or_else(|| Runtime::open(self.config.clone()).ok());
        let Some(runtime) = runtime else { return };
        let mut problems = Vec::new();
        for summary in runtime.list() {
            if let Err(error) = runtime.delete(&summary.id) {
                problems.push(error.to_string());
            }
        }
        runtime.remove_shared_cgroups();
        let mounts = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
        if mounts.contains(self.directory.path().to_str().unwrap_or("?")) {
            problems.push("mounts are left".to_owned());
        }
        for controller in ["memory", "pids", "cpu", "devices", "systemd", "unified"] {
            let cgroup = Path::new("/sys/fs/cgroup").join(controller).join(&self.config.cgroup_parent);
            if cgroup.exists() {
                problems.push(format!("{} is left", cgroup.display()));
            }
        }
        if !std::thread::panicking() {
            assert!(problems.is_empty(), "{problems:?}");
        }
    }
}

pub fn unique(name: &str) -> ContainerId {
    let number = COUNTER.fetch_add(1, Ordering::Relaxed);
    format!("{name}-{}-{number}", std::process::id()).parse().unwrap()
}

/// Polls a condition until it holds.
pub fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !condition() {
        assert!(Instant::now() < deadline, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(5));
    }
}

fn make_rootfs(layer: &Path) {
    for directory in ["bin", "etc", "tmp", "root", "var", "home"] {
        fs::create_dir_all(layer.join(directory)).unwrap();
    }
    fs::set_permissions(layer.join("tmp"), fs::Permissions::from_mode(0o1777)).unwrap();
    fs::copy("/bin/busybox", layer.join("bin/busybox")).unwrap();
    let applets = std::process::Command::new("/bin/busybox").arg("--list").output().unwrap();
    for applet in String::from_utf8(applets.stdout).unwrap().lines().filter(|name| *name != "busybox") {
        symlink("busybox", layer.join("bin").join(applet)).unwrap();
    }
    let passwd = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:44:web:/home/web:/bin/sh\n";
    fs::write(layer.join("etc/passwd"), passwd).unwrap();
    fs::write(layer.join("etc/group"), "root:x:0:\nweb:x:44:\nlog:x:50:web\nextra:x:60:\n").unwrap();
}
