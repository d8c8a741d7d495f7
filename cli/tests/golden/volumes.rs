//! Commands on volumes.

use std::process::Stdio;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use super::fake::{Behaviour, Fake};
use super::{command, golden, golden_with};

#[test]
fn volumes() {
    golden(
        "volume",
        &[
            "volume ls",
            "volume ls -q",
            "volume ls --filter dangling=true --filter name=dat --format '{{.Node}} {{.Name}} {{.InUse}} {{.Labels}}'",
            "volume ls --filter label=team=web --filter node=host-2 --filter driver=local",
            "volume ls --filter dangling=perhaps",
            "volume ls --filter size=1",
            "volume ls --format json --filter name=nothing",
            "volume create new",
            "volume create --label team=web -d local --node host-1 --node host-2 data",
            "volume create --node host-1 --node host-3 new",
            "volume create",
            "volume inspect data nope",
            "volume inspect --node host-2 data --format '{{.Mountpoint}} {{.SizeBytes}} {{json .Tasks}}'",
            "volume rm cache data nope",
            "volume rm --node host-1 data",
            "volume rm --all-nodes data",
            "volume rm -f nope",
            "volume rm --all-nodes --node host-1 data",
            "volume prune",
            "volume prune --force",
            "volume prune -a -f --node host-1 --filter label=team",
            "volume prune -f --node host-2",
            "volume prune -f --filter until=1h",
            "volume ls --format '{{.Name}} {{.Label \"team\"}}' --filter node=host-1",
        ],
    );
}

#[test]
fn archives_of_volumes() {
    let fake = Fake::start(Behaviour::Manager);
    let archive = vec![9; 700_000];
    std::fs::write(fake.folder().join("in.tar"), &archive).unwrap();
    golden_with(
        &fake,
        "volume_archive",
        &[
            "volume backup data",
            "volume backup data --node host-1",
            "volume backup data --node host-2 -o out.tar",
            "volume backup cache -o lost.tar",
            "volume backup nope --node host-1 -o nope.tar",
            "volume backup data --node host-1 -o missing/out.tar",
            "volume backup data --node host-1 -o /dev/null",
            "volume restore new --node host-1 -i in.tar",
            "volume restore -q data --node host-1 -i in.tar",
            "volume restore -q data --node host-1 -i in.tar --replace --label team=web",
            "volume restore plain --node host-1 -i in.tar",
            "volume restore new --node host-1 -i missing.tar",
            "volume restore new --node host-1 -i .",
            "volume restore new",
        ],
    );
    let text = |name: &str| std::fs::read_to_string(fake.folder().join(name)).ok();
    assert_eq!(text("out.tar").as_deref(), Some("first half, second half"));
    let mut left: Vec<_> =
        std::fs::read_dir(fake.folder()).unwrap().map(|entry| entry.unwrap().file_name()).collect();
    left.sort();
    assert_eq!(left, ["coracle.sock", "in.tar", "out.tar"], "nothing of what broke off is left");
    let archives = fake.state.archives.lock().unwrap();
    assert_eq!(archives.len(), 3);
    assert!(archives.iter().all(|(_, bytes)| *bytes == archive));
}

#[test]
fn what_is_asked_of_nodes_waits_for_a_leader() {
    let fake = Fake::start(Behaviour::Manager);
    std::fs::write(fake.folder().join("in.tar"), b"archive").unwrap();
    for line in [
        "volume prune --force",
        "volume backup data --node host-2 -o out.tar",
        "volume restore -q new --node host-1 -i in.tar",
        "service logs web",
    ] {
        fake.state.refusals.store(3, Ordering::SeqCst);
        let output = command(&fake, line).output().unwrap();
        assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
        assert_eq!(fake.state.refusals.load(Ordering::SeqCst), 0, "{line}");
    }
    assert_eq!(fake.state.archives.lock().unwrap().len(), 1);
}

#[test]
fn an_archive_in_a_file_is_sent_again_when_the_leader_changes() {
    let fake = Fake::start(Behaviour::Manager);
    let archive = vec![7; 700_000];
    std::fs::write(fake.folder().join("in.tar"), &archive).unwrap();
    fake.state.broken_restores.store(2, Ordering::SeqCst);
    let output = command(&fake, "volume restore -q new --node host-1 -i in.tar").output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert_eq!(*fake.state.archives.lock().unwrap(), [("new".to_owned(), archive)]);
    fake.state.broken_restores.store(1, Ordering::SeqCst);
    let piped = std::fs::File::open("/dev/null").unwrap();
    let output = command(&fake, "volume restore -q new --node host-1").stdin(piped).output().unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("no manager leads at the moment"), "{told}");
}

#[test]
fn an_interrupted_restoration_may_be_done_only_once_all_was_sent() {
    use std::io::Write as _;
    let fake = Fake::start(Behaviour::Manager);
    let interrupted = |everything: bool| {
        let mut restore = command(&fake, "volume restore -q slow --node host-1");
        let restore = restore.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut restore = restore.spawn().unwrap();
        let mut input = restore.stdin.take().unwrap();
        input.write_all(b"archive").unwrap();
        let input = (!everything).then_some(input);
        let awaited = if everything { "slow" } else { "begun" };
        let deadline = Instant::now() + Duration::from_secs(60);
        while !fake.state.archives.lock().unwrap().iter().any(|(what, _)| what == awaited) {
            assert!(Instant::now() < deadline, "the manager did not see {awaited:?}");
            std::thread::sleep(Duration::from_millis(5));
        }
        let process = rustix::process::Pid::from_child(&restore);
        rustix::process::kill_process(process, rustix::process::Signal::INT).unwrap();
        let output = restore.wait_with_output().unwrap();
        drop(input);
        assert_eq!(output.status.code(), Some(130));
        String::from_utf8_lossy(&output.stderr).into_owned()
    };
    assert_eq!(interrupted(false), "error: interrupted: nothing of the archive is kept\n");
    assert_eq!(
        interrupted(true),
        "error: interrupted: it may have been done or not\nhint: look with `coracle volume ls`\n"
    );
}
