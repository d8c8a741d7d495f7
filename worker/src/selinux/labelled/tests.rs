use coracle_model::digest::Digest;
use coracle_model::service::{ContainerSpec, PinnedImage, TaskSpec};
use coracle_model::template::NodeFacts;

use super::*;
use crate::adapters::fake::FakeContainers;
use crate::assignments::Assignment;
use crate::selinux::usual_defaults;

/// As a daemon that begins, on a node with or without SELinux.
fn begin(fake: &Arc<FakeContainers>, active: bool, labels_all: bool) -> WithLabels {
    let node = Node {
        defaults: Box::new(move || active.then(usual_defaults)),
        labels_all,
        hostname: "node-1".into(),
    };
    let containers = WithLabels::new(Arc::clone(fake) as _, node);
    containers.recover().unwrap();
    containers
}

fn launch(task: u128, options: &[&str]) -> Launch {
    launch_with(task, options, |_| ())
}

fn launch_with(task: u128, options: &[&str], change: impl FnOnce(&mut ContainerSpec)) -> Launch {
    let image = PinnedImage { reference: "web:1".into(), digest: Digest::from_bytes([1; 32]) };
    let mut spec = TaskSpec::of(ContainerSpec::of(image));
    spec.container.privileges.selinux = options.iter().map(|&option| option.to_owned()).collect();
    change(&mut spec.container);
    let assignment =
        Assignment { spec: Ok(Arc::new(spec.clone())), ..Assignment::unknown(TaskId::from_bits(task)) };
    let image = coracle_image::ImageConfig { command: vec!["run".into()], ..Default::default() };
    let values = crate::launch::values(&assignment, &NodeFacts::default());
    crate::launch::launch(&assignment, &spec, &values, &image, vec![], "/logs".into()).unwrap()
}

/// What the containers have, as the next daemon finds it.
fn found(fake: &FakeContainers) -> Vec<Option<String>> {
    let mut found = fake.recover().unwrap();
    found.sort_by_key(|found| found.task);
    found.into_iter().map(|found| found.labels.get(LABEL_SELINUX).cloned()).collect()
}

#[test]
fn levels_stay_unique_over_a_restart() {
    let fake = FakeContainers::new();
    begin(&fake, true, false).create(&launch(1, &["type:web_t"])).unwrap();
    let first = found(&fake)[0].clone().unwrap();
    assert!(first.starts_with("system_u:system_r:web_t:s0:c"), "{first}");

    // Made again, the same task would get the same; so it is another's that must differ, whatever it asks for.
    let containers = begin(&fake, true, false);
    let level = super::super::label::level(&first).unwrap();
    containers.create(&launch(2, &[&format!("level:{level}")])).unwrap();
    fake.delete(TaskId::from_bits(1)).unwrap();
    let containers = begin(&fake, true, false);
    containers.create(&launch(1, &["type:web_t"])).unwrap();
    let labels = found(&fake);
    assert_ne!(labels[0], Some(first.clone()), "task 2 has that level");
    // With the other one gone it is free again.
    for task in [1, 2] {
        containers.delete(TaskId::from_bits(task)).unwrap();
    }
    containers.create(&launch(1, &["type:web_t"])).unwrap();
    assert_eq!(found(&fake), [Some(first)]);
}

#[test]
fn a_label_is_for_those_who_ask_unless_the_daemon_says_everybody() {
    let fake = FakeContainers::new();
    let asks = begin(&fake, true, false);
    asks.create(&launch(1, &[])).unwrap();
    asks.create(&launch(2, &["disable"])).unwrap();
    let all = begin(&fake, true, true);
    all.create(&launch(3, &["disable"])).unwrap();
    all.create(&launch_with(4, &[], |spec| spec.privileges.privileged = true)).unwrap();
    assert_eq!(found(&fake), [None, None, None, None]);
    all.create(&launch(5, &[])).unwrap();
    assert!(found(&fake)[4].is_some());
    // What somebody else wrote there does not count.
    let lie = |spec: &mut ContainerSpec| {
        spec.labels.insert(LABEL_SELINUX.to_owned(), "u:r:t:s0:c1,c2".to_owned());
    };
    asks.create(&launch_with(6, &[], lie)).unwrap();
    assert_eq!(found(&fake)[5], None);
}

#[test]
fn a_node_without_selinux_says_so() {
    let fake = FakeContainers::new();
    let containers = begin(&fake, false, false);
    let error = containers.create(&launch(1, &["type:web_t"])).unwrap_err().to_string();
    assert_eq!(
        error,
        "security-opt: label=type:web_t: SELinux is not active on node node-1; leave the label out, or have the service run \
         where it is (--constraint)"
    );
    containers.create(&launch(1, &["disable"])).unwrap();
}
