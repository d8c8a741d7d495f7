//! Volumes and images that are mounted: what stays, what goes, what is where, and what no link leads to.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{MetadataExt as _, symlink};
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, ensure};
use coracle_integration::harness;
use coracle_integration::image;
use coracle_integration::lab::Lab;
use coracle_integration::name::{M1, W1};
use coracle_integration::process::Process;

const MOUNT: &str = "--mount source=store,target=/srv/data,volume-label=team=web";

#[test]
fn volumes_outlive_tasks_and_images_are_mounted() {
    harness::test("volumes", 3, 1, |lab| {
        load(lab)?;
        a_new_volume_begins_with_what_the_image_has(lab)?;
        what_was_written_survives_a_replacement(lab)?;
        a_crash_of_the_daemon_and_a_loss_of_power(lab)?;
        parts_of_a_volume(lab)?;
        images(lab)?;
        the_leader_is_killed_meanwhile(lab)?;
        the_end(lab)
    });
}

fn load(lab: &Lab) -> Result<()> {
    let path = lab.folder().join("data.tar");
    fs::write(&path, image::data_archive(&image::responder_binary()?, "data:1", &["/cache"])?)?;
    lab.cli(M1, &format!("image load -i {}", path.display())).ok()?;
    Ok(())
}

fn create(lab: &Lab, name: &str, flags: &str) -> Result<()> {
    let place = "--constraint node.hostname==w1 --restart-delay 50ms --stop-grace-period 1s";
    lab.cli(M1, &format!("service create --detach --name {name} {place} {flags} data:1 sleep")).ok()?;
    Ok(())
}

/// The root of the file system of a service's one container, and its process.
fn container(lab: &Lab, service: &str) -> Result<(PathBuf, Process)> {
    let mut found = None;
    lab.until(&format!("{service} runs"), |lab| {
        let view = lab.view()?;
        let task = view.tasks_of(service).find(|task| task.is_running());
        // After a loss of power the managers may not know yet that the process is gone.
        if let Some(task) = task.filter(|_| view.settled(service, 1)) {
            found = lab.get(W1)?.process(task.pid)?;
        }
        Ok(found.is_some())
    })?;
    let process = found.context("no process")?;
    Ok((PathBuf::from(format!("/proc/{}/root", process.pid)), process))
}

/// What w1 has of volumes, by name.
fn on_disk(lab: &Lab) -> Result<BTreeSet<String>> {
    let folder = lab.get(W1)?.folders().data().join("volumes");
    let names = fs::read_dir(folder)?.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    Ok(names.filter(|name| !name.starts_with('.')).collect())
}

fn data(lab: &Lab, name: &str) -> Result<PathBuf> {
    Ok(lab.get(W1)?.folders().data().join("volumes").join(name).join("_data"))
}

/// The options of the mount at a path, as the container sees it (proc_pid_mountinfo(5)).
fn options(process: Process, target: &str) -> Result<String> {
    let mounts = fs::read_to_string(format!("/proc/{}/mountinfo", process.pid))?;
    let line = mounts.lines().find(|line| line.split(' ').nth(4) == Some(target));
    let line = line.with_context(|| format!("nothing is mounted at {target}:\n{mounts}"))?;
    Ok(line.split(' ').nth(5).unwrap_or_default().to_owned())
}

fn a_new_volume_begins_with_what_the_image_has(lab: &Lab) -> Result<()> {
    create(lab, "web", MOUNT)?;
    let (root, process) = container(lab, "web")?;
    ensure!(fs::read_to_string(root.join("srv/data/greeting"))? == "of the image");
    let mode = fs::metadata(root.join("srv/data"))?.mode() & 0o7777;
    ensure!(mode == 0o2770, "the folder has the mode {mode:o}");
    let options = options(process, "/srv/data")?;
    ensure!(options.starts_with("rw,nosuid,nodev"), "{options}");
    let record = fs::read_to_string(data(lab, "store")?.with_file_name("volume.json"))?;
    ensure!(record.contains("\"team\": \"web\""), "{record}");
    // One that is not to be filled, and one that is read-only.
    create(lab, "bare", "--mount source=bare,target=/srv/data,volume-nocopy,readonly")?;
    let (root, _) = container(lab, "bare")?;
    ensure!(fs::read_dir(root.join("srv/data"))?.next().is_none(), "it was filled");
    let refused = fs::write(root.join("srv/data/file"), "x").expect_err("it is read-only");
    ensure!(refused.raw_os_error() == Some(rustix::io::Errno::ROFS.raw_os_error()), "{refused}");
    lab.cli(M1, "service rm bare").ok()?;
    Ok(())
}

fn what_was_written_survives_a_replacement(lab: &Lab) -> Result<()> {
    let (root, before) = container(lab, "web")?;
    fs::write(root.join("srv/data/written"), "kept")?;
    // The image wants /cache kept apart: a volume of the task's own.
    fs::write(root.join("cache/written"), "goes")?;
    let own: BTreeSet<String> = on_disk(lab)?.into_iter().filter(|name| name.len() > 20).collect();
    ensure!(
        own.iter().any(|name| data(lab, name).is_ok_and(|data| data.join("written").exists())),
        "{own:?}"
    );
    lab.cli(M1, "service update --detach --force web").ok()?;
    lab.until("another task runs", |lab| Ok(container(lab, "web")?.1 != before))?;
    let (root, _) = container(lab, "web")?;
    ensure!(fs::read_to_string(root.join("srv/data/written"))? == "kept");
    ensure!(!root.join("cache/written").exists(), "the other task's own volume");
    lab.until("the volumes of tasks that are gone are gone", |lab| {
        Ok(on_disk(lab)?.len() == 3 && on_disk(lab)?.is_disjoint(&own))
    })
}

fn a_crash_of_the_daemon_and_a_loss_of_power(lab: &mut Lab) -> Result<()> {
    let before = container(lab, "web")?.1;
    let volumes = on_disk(lab)?;
    lab.node(W1).kill_daemon()?;
    lab.start_daemon(W1)?;
    lab.eventually("it is back", |view| view.is_ready("w1"))?;
    ensure!(container(lab, "web")?.1 == before, "it was started again");
    ensure!(on_disk(lab)? == volumes);
    lab.power_off(W1)?;
    lab.power_on(W1)?;
    lab.eventually("it is back", |view| view.is_ready("w1"))?;
    let (root, _) = container(lab, "web")?;
    ensure!(fs::read_to_string(root.join("srv/data/written"))? == "kept");
    Ok(())
}

fn parts_of_a_volume(lab: &Lab) -> Result<()> {
    let store = data(lab, "store")?;
    let outside = lab.folder().join("outside");
    fs::create_dir_all(&outside)?;
    fs::write(outside.join("secret"), "secret")?;
    fs::create_dir_all(store.join("part/deep"))?;
    fs::write(store.join("part/deep/file"), "a part")?;
    symlink(&outside, store.join("absolute"))?;
    symlink("../../../../outside", store.join("climbing"))?;
    create(lab, "part", "--mount source=store,target=/part,volume-subpath=part/deep")?;
    let (root, _) = container(lab, "part")?;
    ensure!(fs::read_to_string(root.join("part/file"))? == "a part");
    ensure!(!root.join("part/greeting").exists());
    for subpath in ["absolute", "climbing/secret", "missing"] {
        create(lab, "hostile", &format!("--mount source=store,target=/part,volume-subpath={subpath}"))?;
        let reason = format!("subpath \"{subpath}\" does not exist in what is mounted");
        lab.eventually(&format!("{subpath} is refused"), |view| {
            view.tasks_of("hostile").any(|task| task.is_terminal() && task.error.contains(&reason))
        })?;
        lab.cli(M1, "service rm hostile").ok()?;
    }
    lab.cli(M1, "service create --name no --mount source=store,target=/x,volume-subpath=../x data:1")
        .refused(&["volume-subpath", "without '..'"])?;
    ensure!(fs::read_dir(&outside)?.count() == 1);
    lab.cli(M1, "service rm part").ok()?;
    Ok(())
}

fn images(lab: &Lab) -> Result<()> {
    lab.cli(M1, "service create --name no --mount type=image,source=nowhere:1,target=/x data:1")
        .refused(&["mount /x", "unknown image \"nowhere:1\""])?;
    // The node has never seen it: it fetches it for the mount alone.
    let mount = "--mount type=image,source=responder:1,target=/other";
    create(lab, "files", &format!("{mount} {}", mount.replace("/other", "/etc2,image-subpath=etc")))?;
    let (root, process) = container(lab, "files")?;
    ensure!(root.join("other/responder").is_file());
    ensure!(fs::read_to_string(root.join("etc2/passwd"))?.contains("guest"));
    for target in ["/other", "/etc2"] {
        let options = options(process, target)?;
        ensure!(options.starts_with("ro,nosuid,nodev"), "{target}: {options}");
    }
    lab.cli(M1, "image rm responder:1").refused(&["files"])?;
    let shown = lab.cli(M1, "service inspect files").ok()?;
    ensure!(shown.contains("image-subpath") || shown.contains("etc"), "{shown}");
    // Another change of the service leaves what is mounted as it is.
    lab.cli(M1, "service update --detach --env-add A=b files").ok()?;
    lab.until("another task runs", |lab| Ok(container(lab, "files")?.1 != process))?;
    ensure!(container(lab, "files")?.0.join("other/responder").is_file());
    lab.cli(M1, "service rm files").ok()?;
    Ok(())
}

fn the_leader_is_killed_meanwhile(lab: &mut Lab) -> Result<()> {
    let leader = lab.leader()?;
    let asked = lab.names().into_iter().find(|name| *name != leader && *name != W1).context("no other")?;
    let line = "service create --detach --name late --constraint node.hostname==w1 --mount source=late,target=/srv/data data:1 sleep";
    let mut creating = lab.spawn_cli(asked, line)?;
    lab.node(leader).kill_daemon()?;
    let _ = creating.wait()?;
    lab.start_daemon(leader)?;
    lab.eventually("whole again", |view| view.ready() == 4 && view.voters() == 3)?;
    if lab.view()?.services.iter().all(|item| service_name(item) != "late") {
        lab.cli(asked, line).ok()?;
    }
    let (root, _) = container(lab, "late")?;
    ensure!(fs::read_to_string(root.join("srv/data/greeting"))? == "of the image");
    ensure!(left_over(lab)?.is_empty(), "{:?}", left_over(lab)?);
    Ok(())
}

fn service_name(item: &coracle_proto::v1::ServiceListItem) -> &str {
    let spec = item.service.as_ref().and_then(|service| service.spec.as_ref());
    spec.map_or("", |spec| spec.name.as_str())
}

fn left_over(lab: &Lab) -> Result<Vec<PathBuf>> {
    let list = |folder: &Path| -> Vec<PathBuf> {
        fs::read_dir(folder).into_iter().flatten().filter_map(|entry| Some(entry.ok()?.path())).collect()
    };
    let folders = lab.get(W1)?.folders();
    Ok([folders.data().join("volumes/.tmp"), folders.run().join("views")]
        .iter()
        .flat_map(|f| list(f))
        .collect())
}

/// Draining a node, and removing services, leaves the named volumes.
fn the_end(lab: &Lab) -> Result<()> {
    lab.cli(M1, "node update --availability drain w1").ok()?;
    lab.eventually("nothing runs there", |view| view.running_on("web", "w1") == 0)?;
    lab.cli(M1, "service rm web late").ok()?;
    lab.eventually("all is removed", |view| view.tasks.is_empty())?;
    let named = ["bare", "late", "store"].map(str::to_owned);
    lab.until("only named volumes are left", |lab| Ok(on_disk(lab)? == BTreeSet::from(named.clone())))?;
    ensure!(fs::read_to_string(data(lab, "store")?.join("written"))? == "kept");
    Ok(())
}
