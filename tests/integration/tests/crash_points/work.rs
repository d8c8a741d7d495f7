//! What the operator does while the daemon is killed, and what of it was acknowledged.

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use coracle_integration::archive::{Entry, Tar};
use coracle_integration::image;
use coracle_integration::lab::Lab;
use coracle_integration::name::{M1, Name};
use coracle_integration::view::{View, hostname_of};

/// How long one small write may take.
const WRITE: Duration = Duration::from_secs(5);
/// Labels that are written in turn: an object has room for some thousand.
const LABELS: u64 = 40;
/// The volume that is replaced.
const VOLUME: &str = "replaced";

/// What is known of something whose writing was acknowledged, or may have happened.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Known<T> {
    acknowledged: T,
    perhaps: Option<T>,
}

/// Everything that the operator did.
#[derive(Debug, Default)]
pub(crate) struct Work {
    count: u64,
    labels: BTreeMap<String, Known<Option<u64>>>,
    services: BTreeMap<String, Known<bool>>,
    images: BTreeMap<String, Known<bool>>,
    /// What is in the volume.
    volumes: BTreeMap<String, Known<Option<u64>>>,
    /// The image whose loading was begun last.
    loading: Option<String>,
}

fn begin<T: Clone + Default>(all: &mut BTreeMap<String, Known<T>>, key: &str, value: T) {
    let known =
        all.entry(key.to_owned()).or_insert_with(|| Known { acknowledged: T::default(), perhaps: None });
    known.perhaps = Some(value);
}

fn acknowledge<T>(all: &mut BTreeMap<String, Known<T>>, key: &str) {
    if let Some(known) = all.get_mut(key)
        && let Some(value) = known.perhaps.take()
    {
        known.acknowledged = value;
    }
}

impl<T: PartialEq + Clone> Known<T> {
    /// What is there must be what was acknowledged, or what was begun after; it is then known for good.
    fn settle(&mut self, found: T) -> bool {
        let fits = self.acknowledged == found || self.perhaps.as_ref() == Some(&found);
        *self = Self { acknowledged: found, perhaps: None };
        fits
    }
}

impl Work {
    fn next(&mut self) -> u64 {
        self.count += 1;
        self.count
    }

    /// Sets a label of m1.
    pub(crate) fn write_label(&mut self, lab: &Lab) -> Result<()> {
        let value = self.next();
        let key = format!("crash.{}", value % LABELS);
        begin(&mut self.labels, &key, Some(value));
        lab.api(M1)?.set_label("m1", &key, &value.to_string(), WRITE)?;
        acknowledge(&mut self.labels, &key);
        Ok(())
    }

    /// Creates a service of one task on a node, waits until it runs (or `stop`), and removes it again.
    pub(crate) fn come_and_go(&mut self, lab: &Lab, on: Name, stop: &dyn Fn(&Lab) -> bool) -> Result<()> {
        let name = format!("guest{}", self.next());
        self.create(lab, &name, on)?;
        lab.until("the task runs", |lab| Ok(stop(lab) || lab.view_from(M1)?.settled(&name, 1)))?;
        if stop(lab) {
            return Ok(());
        }
        self.remove(lab, &name)?;
        lab.until("its container is gone", |lab| {
            Ok(stop(lab) || lab.view_from(M1)?.tasks_of(&name).next().is_none())
        })
    }

    /// Creates a service of one task on a node.
    pub(crate) fn create(&mut self, lab: &Lab, name: &str, on: Name) -> Result<()> {
        begin(&mut self.services, name, true);
        let flags = format!("--constraint node.hostname=={on} --restart-delay 50ms --stop-grace-period 2s");
        // A volume that stays, and one that goes with the container.
        let volumes = format!("--mount source={name},target=/tmp --mount target=/home");
        lab.cli(M1, &format!("service create --detach --name {name} {flags} {volumes} {}", image::RESPONDER))
            .ok()?;
        acknowledge(&mut self.services, name);
        Ok(())
    }

    /// Removes a service.
    pub(crate) fn remove(&mut self, lab: &Lab, name: &str) -> Result<()> {
        begin(&mut self.services, name, false);
        lab.cli(M1, &format!("service rm {name}")).ok()?;
        acknowledge(&mut self.services, name);
        Ok(())
    }

    /// Loads an image that was never seen before.
    pub(crate) fn load_image(&mut self, lab: &Lab) -> Result<()> {
        let name = format!("crash:{}", self.next());
        self.load(lab, &name)
    }

    fn load(&mut self, lab: &Lab, name: &str) -> Result<()> {
        let (program, archive) = (lab.folder().join("program"), lab.folder().join("crash.tar"));
        fs::write(&program, name.repeat(5_000))?;
        fs::write(&archive, image::saved_archive(&program, name)?)?;
        self.loading = Some(name.to_owned());
        begin(&mut self.images, name, true);
        lab.cli(M1, &format!("image load -i {}", archive.display())).ok()?;
        acknowledge(&mut self.images, name);
        Ok(())
    }

    /// Loads again what was being loaded last: half a load must not stand in its way.
    pub(crate) fn load_again(&mut self, lab: &Lab) -> Result<()> {
        self.loading.take().map_or(Ok(()), |name| self.load(lab, &name))
    }

    /// Puts something else into the volume. The first file and the last one tell whether it is whole.
    pub(crate) fn replace_volume(&mut self, lab: &Lab) -> Result<()> {
        let value = self.next();
        let archive = lab.folder().join("volume.tar");
        let mut tar = Tar::new(Vec::new());
        // With the mode that all volumes of these tests have.
        tar.add("./", 0o1777, Entry::Folder)?;
        let text = value.to_string();
        tar.add("first", 0o644, Entry::File(text.as_bytes()))?;
        tar.add("middle", 0o644, Entry::File(text.repeat(200_000).as_bytes()))?;
        tar.add("last", 0o644, Entry::File(text.as_bytes()))?;
        fs::write(&archive, tar.finish()?)?;
        begin(&mut self.volumes, VOLUME, Some(value));
        let line = format!(
            "volume restore {VOLUME} --node m1 --replace --label value={value} -i {}",
            archive.display()
        );
        lab.cli(M1, &line).ok()?;
        acknowledge(&mut self.volumes, VOLUME);
        Ok(())
    }

    /// Whether the volume has what was acknowledged last or what was begun after, all of it, and its labels.
    pub(crate) fn check_volume(&mut self, lab: &Lab) -> Result<()> {
        let Some(known) = self.volumes.get_mut(VOLUME) else { return Ok(()) };
        let folder = lab.get(M1)?.folders().data().join("volumes").join(VOLUME);
        let read = |name: &str| fs::read_to_string(folder.join("_data").join(name)).ok();
        let found = read("first").map(|text| text.parse::<u64>()).transpose()?;
        let expected = known.clone();
        ensure!(known.settle(found), "volume: {found:?}, and not {expected:?}");
        let Some(found) = found.map(|value| value.to_string()) else { return Ok(()) };
        ensure!(
            read("last").as_ref() == Some(&found),
            "half a volume: its end is of {:?}, not of {found}",
            read("last")
        );
        ensure!(read("middle") == Some(found.repeat(200_000)), "half a volume: its middle is not of {found}");
        let record = fs::read_to_string(folder.join("volume.json"))?;
        ensure!(record.contains(&format!("\"{found}\"")), "labels of another one than {found}: {record}");
        Ok(())
    }

    /// Whether everything that was acknowledged is there, and nothing that was never written.
    pub(crate) fn check(&mut self, lab: &Lab, view: &View) -> Result<()> {
        self.check_volume(lab)?;
        let node = view.nodes.iter().find(|item| hostname_of(item) == "m1").context("m1 is gone")?;
        let spec = node.node.as_ref().and_then(|node| node.spec.as_ref()).context("m1 has no spec")?;
        for (key, known) in &mut self.labels {
            let found = spec.labels.get(key).and_then(|value| value.parse().ok());
            let expected = known.clone();
            ensure!(known.settle(found), "label {key}: {found:?}, and not {expected:?}");
        }
        for (name, known) in &mut self.services {
            let found = view.services.iter().any(|item| service_name(item) == *name);
            let expected = known.clone();
            ensure!(known.settle(found), "service {name}: there: {found}, and not {expected:?}");
        }
        if !self.images.is_empty() {
            let listed = lab.cli(M1, "image ls --format {{.Repository}}:{{.Tag}}").ok()?;
            for (name, known) in &mut self.images {
                let found = listed.lines().any(|line| line.trim() == name);
                let expected = known.clone();
                ensure!(known.settle(found), "image {name}: there: {found}, and not {expected:?}:\n{listed}");
            }
        }
        Ok(())
    }

    /// The services that are there, by what was found last.
    pub(crate) fn services(&self) -> Vec<String> {
        self.services.iter().filter(|(_, known)| known.acknowledged).map(|(name, _)| name.clone()).collect()
    }
}

fn service_name(item: &coracle_proto::v1::ServiceListItem) -> &str {
    let spec = item.service.as_ref().and_then(|service| service.spec.as_ref());
    spec.map_or("", |spec| spec.name.as_str())
}
