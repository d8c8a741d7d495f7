//! What the manager was told of the volumes, and what it is to be told now: changes only, in messages that are not too large.

use std::collections::BTreeMap;

use coracle_proto::v1;

use super::message;
use crate::volume::VolumeInfo;

/// Volumes that are listed.
const VOLUMES: usize = 10_000;
/// Bytes of the labels of one volume, and of all, that are listed; who inspects a volume sees all.
const LABELS: usize = 8 << 10;
const ALL_LABELS: usize = 2 << 20;
/// Bytes of one message, roughly.
const MESSAGE: usize = 128 << 10;

/// What the manager was told in this session.
#[derive(Debug, Default)]
pub(super) struct Report {
    /// Nothing before the first time.
    told: Option<BTreeMap<String, v1::Volume>>,
    omitted: u64,
}

impl Report {
    /// The messages that tell of `volumes`, after those that went before.
    pub(super) fn difference(&mut self, volumes: Vec<VolumeInfo>) -> Vec<v1::VolumeReport> {
        let omitted = volumes.len().saturating_sub(VOLUMES) as u64;
        let now = listed(&volumes);
        let first = self.told.is_none();
        let before = self.told.take().unwrap_or_default();
        let removed: Vec<String> = before.keys().filter(|name| !now.contains_key(*name)).cloned().collect();
        let set: Vec<v1::Volume> = now
            .iter()
            .filter(|(name, volume)| before.get(*name) != Some(volume))
            .map(|(_, volume)| volume.clone())
            .collect();
        let is_news = first || omitted != self.omitted || !removed.is_empty() || !set.is_empty();
        (self.told, self.omitted) = (Some(now), omitted);
        if is_news { messages(first, set, removed, omitted) } else { Vec::new() }
    }
}

fn listed(volumes: &[VolumeInfo]) -> BTreeMap<String, v1::Volume> {
    let mut left = ALL_LABELS;
    let mut listed = BTreeMap::new();
    for volume in volumes.iter().take(VOLUMES) {
        let mut entry = message(volume);
        let size = labels(&entry);
        if size > LABELS.min(left) {
            entry.labels.clear();
            entry.labels_omitted = true;
        } else {
            left -= size;
        }
        listed.insert(entry.name.clone(), entry);
    }
    listed
}

fn labels(volume: &v1::Volume) -> usize {
    volume.labels.iter().map(|(key, value)| key.len() + value.len()).sum()
}

fn messages(first: bool, set: Vec<v1::Volume>, removed: Vec<String>, omitted: u64) -> Vec<v1::VolumeReport> {
    let mut messages = vec![v1::VolumeReport { first, omitted, ..Default::default() }];
    let mut size = 0;
    let mut room = |messages: &mut Vec<v1::VolumeReport>, more: usize| {
        if size > 0 && size + more > MESSAGE {
            messages.push(v1::VolumeReport { omitted, ..Default::default() });
            size = 0;
        }
        size += more;
    };
    for name in removed {
        room(&mut messages, name.len());
        messages.last_mut().into_iter().for_each(|message| message.removed.push(name.clone()));
    }
    for volume in set {
        room(&mut messages, volume.name.len() + labels(&volume) + 32);
        messages.last_mut().into_iter().for_each(|message| message.set.push(volume.clone()));
    }
    if first {
        messages.last_mut().into_iter().for_each(|message| message.last = true);
    }
    messages
}

#[cfg(test)]
mod tests {
    use coracle_model::id::TaskId;
    use coracle_model::time::Timestamp;
    use prost::Message as _;

    use super::*;
    use crate::volume::VolumeUser;

    fn volume(name: &str, label: &str, users: usize) -> VolumeInfo {
        let user = |bits: usize| VolumeUser { task: TaskId::from_bits(bits as u128), service: String::new() };
        VolumeInfo {
            name: name.to_owned(),
            labels: BTreeMap::from([("label".to_owned(), label.to_owned())]),
            created_at: Timestamp::from_secs(1),
            anonymous: false,
            owner: None,
            users: (0..users).map(user).collect(),
        }
    }

    fn names(report: &v1::VolumeReport) -> (Vec<&str>, Vec<&str>) {
        let set = report.set.iter().map(|volume| volume.name.as_str()).collect();
        (set, report.removed.iter().map(String::as_str).collect())
    }

    #[test]
    fn all_is_told_first_and_then_changes() {
        let mut report = Report::default();
        let first = report.difference(vec![volume("a", "", 0), volume("b", "", 0)]);
        assert_eq!(first.len(), 1);
        assert!(first[0].first && first[0].last);
        assert_eq!(names(&first[0]), (vec!["a", "b"], vec![]));
        assert_eq!(report.difference(vec![volume("a", "", 0), volume("b", "", 0)]), []);
        let change = report.difference(vec![volume("b", "", 1), volume("c", "", 0)]);
        assert!(!change[0].first && !change[0].last);
        assert_eq!(names(&change[0]), (vec!["b", "c"], vec!["a"]));
        assert_eq!(change[0].set[0].used_by, 1);
    }

    #[test]
    fn a_node_without_volumes_says_so() {
        let first = Report::default().difference(Vec::new());
        assert_eq!(first, [v1::VolumeReport { first: true, last: true, ..Default::default() }]);
    }

    #[test]
    fn messages_are_not_too_large_and_what_does_not_fit_is_marked() {
        let mut volumes: Vec<VolumeInfo> =
            (0..VOLUMES + 3).map(|number| volume(&format!("v{number:06}"), &"x".repeat(500), 0)).collect();
        volumes[0].labels.insert("huge".to_owned(), "x".repeat(LABELS));
        let told = Report::default().difference(volumes);
        assert!(told.len() > 10);
        assert!(told.iter().all(|message| message.encoded_len() < 2 * MESSAGE && message.omitted == 3));
        assert_eq!(told.iter().filter(|message| message.first).count(), 1);
        assert!(told[0].first && told[told.len() - 1].last);
        let all: Vec<&v1::Volume> = told.iter().flat_map(|message| &message.set).collect();
        assert_eq!(all.len(), VOLUMES);
        assert!(all[0].labels_omitted && all[0].labels.is_empty());
        assert!(!all[1].labels_omitted && all[1].labels.len() == 1);
        assert!(all.iter().map(|volume| labels(volume)).sum::<usize>() <= ALL_LABELS);
        assert!(all[VOLUMES - 1].labels_omitted, "all labels together are bounded");
    }
}
