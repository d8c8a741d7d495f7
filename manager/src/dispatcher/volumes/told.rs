//! What one agent has told of its volumes, within bounds: it may be anybody's.

use std::collections::BTreeMap;

use coracle_model::id::NodeId;
use coracle_model::volume::Volume;
use coracle_proto::convert::volume::of_node;
use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;

/// Volumes of one node that are listed.
const VOLUMES: usize = 10_000;
/// Bytes of their names and labels, all together.
const BYTES: usize = 8 << 20;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Told {
    volumes: BTreeMap<String, Volume>,
    bytes: usize,
    omitted: u64,
    complete: bool,
}

impl Told {
    /// Takes one message.
    pub(super) fn take(&mut self, node: NodeId, report: v1::VolumeReport) -> Result<(), ApiError> {
        if report.first {
            *self = Self::default();
        }
        for name in &report.removed {
            self.remove(name);
        }
        for volume in report.set {
            let volume = of_node(volume, node)?;
            self.remove(&volume.name);
            self.bytes += size(&volume);
            self.volumes.insert(volume.name.clone(), volume);
            if self.volumes.len() > VOLUMES || self.bytes > BYTES {
                let message =
                    format!("more than {VOLUMES} volumes, or {BYTES} bytes of their labels, are told");
                return Err(ApiError::new(Reason::TooLarge, message));
            }
        }
        self.omitted = report.omitted;
        self.complete |= report.last;
        Ok(())
    }

    fn remove(&mut self, name: &str) {
        if let Some(old) = self.volumes.remove(name) {
            self.bytes -= size(&old);
        }
    }

    /// The volumes and how many more there are, once all were told.
    pub(super) fn complete(&self) -> Option<(&BTreeMap<String, Volume>, u64)> {
        self.complete.then_some((&self.volumes, self.omitted))
    }
}

fn size(volume: &Volume) -> usize {
    // What an entry of the map needs besides its texts, roughly.
    const ENTRY: usize = 128;
    ENTRY
        + volume.name.len()
        + volume.labels.iter().map(|(key, value)| key.len() + value.len()).sum::<usize>()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn volume(name: &str, label: &str) -> v1::Volume {
        let labels = [("l".to_owned(), label.to_owned())].into();
        v1::Volume { name: name.to_owned(), labels, ..Default::default() }
    }

    fn names(told: &Told) -> Option<Vec<&str>> {
        told.complete().map(|(volumes, _)| volumes.keys().map(String::as_str).collect())
    }

    #[test]
    fn a_list_counts_when_it_is_whole_and_changes_after_it() {
        let (mut told, node) = (Told::default(), NodeId::from_bits(1));
        let mut take = |report| told.take(node, report).map(|()| names(&told).map(|names| names.join(" ")));
        let part = |first, names: &[&str], last| v1::VolumeReport {
            first,
            set: names.iter().map(|name| volume(name, "")).collect(),
            last,
            ..Default::default()
        };
        assert_eq!(take(part(true, &["a", "b"], false)), Ok(None));
        assert_eq!(take(part(false, &["c"], true)), Ok(Some("a b c".to_owned())));
        let change =
            v1::VolumeReport { removed: vec!["a".to_owned(), "x".to_owned()], ..part(false, &["d"], false) };
        assert_eq!(take(change), Ok(Some("b c d".to_owned())));
        assert_eq!(take(part(true, &["z"], true)), Ok(Some("z".to_owned())));
    }

    #[test]
    fn nobody_tells_more_than_fits() {
        let node = NodeId::from_bits(1);
        let tell = |told: &mut Told, volumes: Vec<v1::Volume>| {
            told.take(node, v1::VolumeReport { set: volumes, ..Default::default() })
                .map_err(|error| error.reason)
        };
        let mut told = Told::default();
        let many = (0..VOLUMES).map(|number| volume(&format!("v{number}"), "")).collect();
        assert_eq!(tell(&mut told, many), Ok(()));
        assert_eq!(tell(&mut told, vec![volume("v0", "again")]), Ok(()), "the same one again is no more");
        assert_eq!(tell(&mut told, vec![volume("another", "")]), Err(Reason::TooLarge));
        let mut told = Told::default();
        let large = "x".repeat(BYTES / 4);
        for _ in 0..10 {
            assert_eq!(tell(&mut told, vec![volume("a", &large)]), Ok(()));
        }
        let several = ["b", "c", "d"].map(|name| volume(name, &large)).into();
        assert_eq!(tell(&mut told, several), Err(Reason::TooLarge));
        assert_eq!(tell(&mut told, vec![volume("../x", "")]), Err(Reason::Invalid));
    }
}
