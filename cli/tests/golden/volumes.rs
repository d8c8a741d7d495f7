//! Commands on volumes.

use super::fake::{Behaviour, Fake};
use super::{golden, golden_with};

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
            "volume prune -f --filter until=1h",
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
    assert_eq!(archives.len(), 2);
    assert!(archives.iter().all(|(_, bytes)| *bytes == archive));
}
