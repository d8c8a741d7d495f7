use std::time::Duration;

use coracle_model::cluster::{Cluster, ClusterSpec, Secret};
use coracle_model::digest::Digest;
use coracle_model::health::{HealthConfig, HealthResult, HealthTest};
use coracle_model::id::{ClusterId, FileId, NodeId, ServiceId, TaskId};
use coracle_model::image::ImageEntry;
use coracle_model::job::{Concurrency, EarlierRun, JobConfig, JobStatus, Schedule};
use coracle_model::mount::{Mount, MountKind, Propagation, Recursive};
use coracle_model::node::*;
use coracle_model::placement::{HostPort, Protocol};
use coracle_model::rebalance::{Move, RebalanceConfig, RebalancePolicy, RebalanceProgress, RebalanceState};
use coracle_model::resources::{GenericResource, Limits, MemoryBytes, NanoCpus, Resources};
use coracle_model::restart::{DEFAULT_DELAY, RestartCondition, RestartPolicy};
use coracle_model::role::Role;
use coracle_model::rollout::{FailureAction, Order, Ratio};
use coracle_model::secret::{FileKind, FileReference, FileTarget};
use coracle_model::security::{AppArmor, Device, NamespaceMode, Privileges, Seccomp};
use coracle_model::service::*;
use coracle_model::task::*;
use coracle_model::time::Timestamp;
use coracle_model::version::Version;
use proptest::prelude::*;

use super::*;
use crate::v1;

fn resources() -> impl Strategy<Value = Resources> {
    any::<(u64, u64)>()
        .prop_map(|(cpu, memory)| Resources { cpu: NanoCpus(cpu), memory: MemoryBytes(memory) })
}

fn limits() -> impl Strategy<Value = Limits> {
    (resources(), any::<Option<u64>>()).prop_map(|(r, pids)| Limits {
        cpu: r.cpu,
        memory: r.memory,
        pids,
        ..Limits::default()
    })
}

fn time() -> impl Strategy<Value = Timestamp> {
    any::<u64>().prop_map(Timestamp::from_nanos)
}

fn wait() -> impl Strategy<Value = Duration> {
    any::<u64>().prop_map(Duration::from_nanos)
}

fn labels() -> impl Strategy<Value = std::collections::BTreeMap<String, String>> {
    prop::collection::btree_map(".{0,8}", ".{0,8}", 0..4)
}

fn mount() -> impl Strategy<Value = Mount> {
    let kind = prop_oneof![
        (
            ".{0,8}",
            prop::sample::select(Propagation::ALL.to_vec()),
            prop::sample::select(Recursive::ALL.to_vec())
        )
            .prop_map(|(source, propagation, recursive)| MountKind::Bind {
                source,
                propagation,
                recursive,
                create_source: true
            }),
        (".{0,8}", labels(), any::<bool>(), ".{0,8}").prop_map(|(name, labels, no_copy, subpath)| {
            MountKind::Volume { name, labels, no_copy, subpath }
        }),
        (".{1,8}", any::<[u8; 32]>(), ".{0,8}").prop_map(|(reference, digest, subpath)| MountKind::Image {
            image: PinnedImage { reference, digest: Digest::from_bytes(digest) },
            subpath
        }),
        any::<(u64, u32)>().prop_map(|(size, mode)| MountKind::Tmpfs { size, mode }),
    ];
    (".{0,8}", any::<bool>(), kind).prop_map(|(target, read_only, kind)| Mount { target, read_only, kind })
}

/// A container whose later fields all say something.
fn everything() -> ContainerSpec {
    let image = PinnedImage { reference: "web:1".to_owned(), digest: Digest::from_bytes([7; 32]) };
    let reference = |target| FileReference {
        kind: FileKind::Secret,
        name: "key.pem".parse().unwrap(),
        file: FileId::from_bits(9),
        content: 3,
        pinned: true,
        target,
    };
    ContainerSpec {
        entrypoint: vec!["/bin/sh".to_owned()],
        groups: vec!["audio".to_owned()],
        files: vec![
            reference(FileTarget::File { path: "a".to_owned(), uid: 1, gid: 2, mode: 0 }),
            reference(FileTarget::Environment { variable: "A".to_owned() }),
        ],
        pre_stop_delay: Duration::from_secs(2),
        init: true,
        tty: true,
        health: HealthConfig {
            test: HealthTest::Shell("true".to_owned()),
            interval: Some(Duration::ZERO),
            timeout: None,
            retries: Some(0),
            start_period: Some(Duration::from_secs(1)),
            start_interval: None,
        },
        privileges: Privileges {
            privileged: true,
            capabilities_added: ["ALL".to_owned()].into(),
            capabilities_dropped: ["CAP_CHOWN".to_owned()].into(),
            new_privileges: true,
            seccomp: Seccomp::Custom("{}".to_owned()),
            apparmor: AppArmor::Unconfined,
            selinux: vec!["type:a".to_owned()],
        },
        devices: vec![
            Device::Path { host: "/dev/a".into(), container: "/dev/b".into(), permissions: "rw".into() },
            Device::Cdi("vendor.com/gpu=0".to_owned()),
        ],
        ulimits: [("nofile".to_owned(), Ulimit { soft: 1, hard: u64::MAX })].into(),
        sysctls: [("net.core.somaxconn".to_owned(), "1".to_owned())].into(),
        dns: Dns {
            servers: vec!["1.1.1.1".into()],
            options: vec!["ndots:1".into()],
            search: vec!["a".into()],
        },
        hosts: vec!["10.0.0.1 db".to_owned()],
        shm_size: 5,
        pid: NamespaceMode::Host,
        ipc: NamespaceMode::Host,
        uts: NamespaceMode::Host,
        oom_score_adj: -5,
        log: LogConfig {
            driver: "none".to_owned(),
            options: [("max-size".to_owned(), "1m".to_owned())].into(),
        },
        ..ContainerSpec::of(image)
    }
}

fn container() -> impl Strategy<Value = ContainerSpec> {
    let texts = || prop::collection::vec(".{0,8}", 0..3);
    let image = (".{1,8}", any::<[u8; 32]>())
        .prop_map(|(reference, digest)| PinnedImage { reference, digest: Digest::from_bytes(digest) });
    let words = (".{0,8}", ".{0,8}", ".{0,8}", ".{0,8}");
    (image, texts(), texts(), words, labels(), prop::collection::vec(mount(), 0..3), any::<bool>(), wait())
        .prop_map(
            |(
                image,
                args,
                env,
                (workdir, user, hostname, stop_signal),
                labels,
                mounts,
                read_only,
                stop_grace,
            )| {
                ContainerSpec {
                    image,
                    args,
                    env,
                    workdir,
                    user,
                    hostname,
                    labels,
                    mounts,
                    read_only,
                    stop_grace,
                    stop_signal,
                    ..everything()
                }
            },
        )
}

fn restart() -> impl Strategy<Value = RestartPolicy> {
    let condition = prop::sample::select(vec![
        RestartCondition::None,
        RestartCondition::OnFailure,
        RestartCondition::Any,
    ]);
    (condition, wait(), any::<u64>(), wait()).prop_map(|(condition, delay, max_attempts, window)| {
        RestartPolicy { condition, delay, max_attempts, window }
    })
}

fn placement() -> impl Strategy<Value = Placement> {
    let constraint =
        prop::sample::select(vec!["node.role==manager", "node.labels.zone!=a", "node.ip==10.0.0.0/8"]);
    (prop::collection::vec(constraint, 0..3), any::<u64>()).prop_map(|(texts, max_replicas_per_node)| {
        Placement {
            constraints: texts.into_iter().map(|text| text.parse().unwrap()).collect(),
            preferences: vec!["spread=node.labels.zone".parse().unwrap()],
            max_replicas_per_node,
            strategy: coracle_model::placement::Strategy::Binpack,
            away_from: ["tier=web".parse().unwrap()].into(),
            host_ports: [HostPort { port: 53, protocol: Protocol::Udp }].into(),
        }
    })
}

fn rollout() -> impl Strategy<Value = UpdateConfig> {
    (any::<u64>(), wait(), wait(), 0u32..=1_000_000, any::<bool>(), wait()).prop_map(
        |(parallelism, delay, monitor, ratio, start_first, timeout)| UpdateConfig {
            parallelism,
            delay,
            monitor,
            failure_action: if start_first { FailureAction::Rollback } else { FailureAction::Continue },
            max_failure_ratio: Ratio::from_millionths(ratio).unwrap(),
            order: if start_first { Order::StartFirst } else { Order::StopFirst },
            timeout,
        },
    )
}

fn job() -> impl Strategy<Value = JobConfig> {
    let rules = vec![Concurrency::Allow, Concurrency::Forbid, Concurrency::Replace];
    let schedule = ("[0-9 *]{0,9}", "[a-z]{0,5}", prop::sample::select(rules), any::<u32>())
        .prop_map(|(cron, timezone, concurrency, history)| Schedule { cron, timezone, concurrency, history });
    (prop::option::of(schedule), wait(), prop::option::of(wait()))
        .prop_map(|(schedule, time_limit, time_to_live)| JobConfig { schedule, time_limit, time_to_live })
}

fn service_spec() -> impl Strategy<Value = ServiceSpec> {
    let mode = prop_oneof![
        Just(ServiceMode::Global),
        Just(ServiceMode::GlobalJob),
        any::<u64>().prop_map(|replicas| ServiceMode::Replicated { replicas }),
        any::<(u64, u64)>()
            .prop_map(|(completions, concurrent)| ServiceMode::ReplicatedJob { completions, concurrent })
    ];
    let network = prop::sample::select(vec![NetworkMode::None, NetworkMode::Host]);
    let task = (container(), resources(), limits(), restart(), placement(), network, any::<u64>()).prop_map(
        |(container, reservations, limits, restart, placement, network, force_update)| TaskSpec {
            container,
            reservations,
            limits,
            restart,
            placement,
            network,
            force_update,
            generic: [("gpu".to_owned(), 2)].into(),
        },
    );
    ("[a-z]{1,9}", labels(), mode, task, (rollout(), rollout()), job(), prop::option::of(wait())).prop_map(
        |(name, labels, mode, task, (update, rollback), job, node_down_delay)| ServiceSpec {
            name: name.parse().unwrap(),
            labels,
            mode,
            task,
            update,
            rollback,
            job,
            rebalance: RebalanceConfig {
                policy: RebalancePolicy::Auto,
                max_skew: 3,
                delay: update.delay,
                order: update.order,
            },
            node_down_delay,
        },
    )
}

fn update() -> impl Strategy<Value = UpdateProgress> {
    let state = prop::sample::select(UpdateState::ALL.to_vec());
    let failed = prop::collection::btree_set(any::<u128>().prop_map(TaskId::from_bits), 0..3);
    (state, time(), prop::option::of(time()), ".{0,9}", any::<u64>(), failed).prop_map(
        |(state, started_at, completed_at, message, slots, failed)| UpdateProgress {
            state,
            started_at,
            completed_at,
            message,
            slots,
            failed,
        },
    )
}

fn job_status() -> impl Strategy<Value = JobStatus> {
    let earlier = (any::<u64>(), time(), prop::option::of(time()));
    let earlier = earlier.prop_map(|(run, started_at, ended_at)| EarlierRun { run, started_at, ended_at });
    let earlier = prop::collection::vec(earlier, 0..3);
    (any::<u64>(), time(), prop::option::of(time()), time(), earlier).prop_map(
        |(run, started_at, ended_at, scheduled_until, earlier)| JobStatus {
            run,
            started_at,
            ended_at,
            scheduled_until,
            earlier,
        },
    )
}

fn rebalance() -> impl Strategy<Value = RebalanceProgress> {
    let state = prop::sample::select(RebalanceState::ALL.to_vec());
    let moving = prop::option::of(any::<(u128, u128)>());
    (
        state,
        any::<bool>(),
        time(),
        prop::option::of(time()),
        ".{0,9}",
        any::<(u64, Option<u64>)>(),
        time(),
        moving,
    )
        .prop_map(|(state, automatic, started_at, ended_at, message, (moves, limit), since, moving)| {
            let bits = TaskId::from_bits;
            let moving = moving.map(|(from, to)| Move { from: bits(from), to: bits(to) });
            RebalanceProgress { state, automatic, started_at, ended_at, message, moves, limit, since, moving }
        })
}

fn service() -> impl Strategy<Value = Service> {
    let numbers = any::<(u128, u64, u64)>();
    let progress =
        (prop::option::of(update()), prop::option::of(job_status()), prop::option::of(rebalance()));
    (numbers, time(), time(), service_spec(), prop::option::of(service_spec()), progress).prop_map(
        |((id, version, spec_version), created_at, updated_at, spec, previous, (update, job, rebalance))| {
            Service {
                id: ServiceId::from_bits(id),
                version: Version::new(version),
                spec_version: Version::new(spec_version),
                created_at,
                updated_at,
                spec,
                previous_spec: previous.map(Box::new),
                update,
                job,
                rebalance: rebalance.map(Box::new),
            }
        },
    )
}

fn platform() -> impl Strategy<Value = Platform> {
    (".{0,5}", ".{0,5}").prop_map(|(os, architecture)| Platform { os, architecture })
}

fn node() -> impl Strategy<Value = Node> {
    let spec = (
        prop::sample::select(vec![Role::Worker, Role::Manager]),
        prop::sample::select(vec![Availability::Active, Availability::Pause, Availability::Drain]),
        labels(),
    )
        .prop_map(|(role, availability, labels)| NodeSpec { role, availability, labels });
    let description = (".{0,9}", platform(), resources(), ".{0,5}", labels()).prop_map(
        |(hostname, platform, resources, engine_version, labels)| NodeDescription {
            hostname,
            platform,
            resources,
            engine_version,
            labels,
            generic: [
                ("gpu".to_owned(), GenericResource::Named(["a".to_owned()].into())),
                ("ssd".to_owned(), GenericResource::Count(4)),
            ]
            .into(),
        },
    );
    let states = vec![NodeState::Unknown, NodeState::Ready, NodeState::Down];
    let status = (prop::sample::select(states), time(), ".{0,9}", ".{0,9}")
        .prop_map(|(state, since, message, address)| NodeStatus { state, since, message, address });
    let member = (any::<u64>(), ".{0,9}").prop_map(|(raft_id, address)| ManagerMember { raft_id, address });
    (any::<(u128, u64)>(), time(), spec, description, status, prop::option::of(member)).prop_map(
        |((id, version), created_at, spec, description, status, manager)| Node {
            id: NodeId::from_bits(id),
            version: Version::new(version),
            created_at,
            spec,
            description,
            status,
            manager,
        },
    )
}

fn task() -> impl Strategy<Value = Task> {
    let slot = prop_oneof![
        any::<u64>().prop_map(Slot::Number),
        any::<u128>().prop_map(|bits| Slot::Node(NodeId::from_bits(bits)))
    ];
    let exit = prop_oneof![
        any::<i32>().prop_map(Exit::Code),
        any::<i32>().prop_map(Exit::Signal),
        Just(Exit::OutOfMemory),
        Just(Exit::Unknown)
    ];
    let states = prop::sample::select(TaskState::ALL.to_vec());
    let status = (states, time(), ".{0,9}", ".{0,9}", prop::option::of(exit), any::<(u32, u32)>()).prop_map(
        |(state, since, message, error, exit, (pid, local_restarts))| TaskStatus {
            state,
            since,
            message,
            error,
            exit,
            pid,
            local_restarts,
            health: (pid % 2 == 0).then(|| Health {
                state: HealthState::Unhealthy,
                failures: pid,
                results: vec![HealthResult {
                    code: Some(-1),
                    output: "no".to_owned(),
                    ..HealthResult::default()
                }],
            }),
        },
    );
    let desired = prop::sample::select(vec![
        DesiredState::Ready,
        DesiredState::Running,
        DesiredState::Shutdown,
        DesiredState::Remove,
    ]);
    let node = prop::option::of(any::<u128>().prop_map(NodeId::from_bits));
    (any::<(u128, u64, u128, u64)>(), time(), slot, node, desired, prop::option::of(time()), status).prop_map(
        |((id, version, service, spec_version), created_at, slot, node, desired, start_after, status)| Task {
            id: TaskId::from_bits(id),
            version: Version::new(version),
            created_at,
            service: ServiceId::from_bits(service),
            spec_version: Version::new(spec_version),
            slot,
            node,
            desired,
            start_after,
            status,
            running_since: start_after,
            run: version,
            crashes: 3,
            generic: [("gpu".to_owned(), vec!["a".to_owned()])].into(),
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn services_survive_the_way(service in service()) {
        prop_assert_eq!(Service::try_from(v1::Service::from(&service)).unwrap(), service);
    }

    #[test]
    fn nodes_survive_the_way(node in node()) {
        prop_assert_eq!(Node::try_from(v1::Node::from(&node)).unwrap(), node);
    }

    #[test]
    fn tasks_survive_the_way(task in task()) {
        prop_assert_eq!(Task::try_from(v1::Task::from(&task)).unwrap(), task);
    }

    #[test]
    fn images_survive_the_way(
        name in ".{0,9}", numbers in any::<(u64, u64, u64)>(), digest in any::<[u8; 32]>(), platform in platform(),
    ) {
        let entry = ImageEntry {
            name,
            version: Version::new(numbers.0),
            digest: Digest::from_bytes(digest),
            size: numbers.1,
            platform,
            created_at: Timestamp::from_nanos(numbers.2),
        };
        prop_assert_eq!(ImageEntry::try_from(v1::ImageEntry::from(&entry)).unwrap(), entry);
    }

    #[test]
    fn a_draft_becomes_what_was_sent(spec in service_spec(), digest in any::<[u8; 32]>()) {
        let mut message = v1::ServiceSpec::from(&spec);
        message.name.clear();
        image_of(&mut message).digest.clear();
        let draft = service::draft(message).unwrap();
        prop_assert_eq!(draft.name(), None);
        prop_assert_eq!(draft.digest(), None);
        prop_assert_eq!(draft.image_reference(), &spec.task.container.image.reference);
        let mut expected = spec;
        expected.task.container.image.digest = Digest::from_bytes(digest);
        let pinned = draft.with_name(expected.name.clone()).pin(Digest::from_bytes(digest)).unwrap();
        prop_assert_eq!(pinned, expected);
    }
}

fn image_of(spec: &mut v1::ServiceSpec) -> &mut v1::PinnedImage {
    spec.task.as_mut().unwrap().container.as_mut().unwrap().image.as_mut().unwrap()
}

#[test]
fn the_cluster_survives_the_way() {
    let cluster = Cluster {
        id: ClusterId::from_bits(7),
        version: Version::new(2),
        created_at: Timestamp::from_secs(3),
        feature_level: 1,
        root_certificate: "PEM".to_owned(),
        root_key: Secret::new(vec![1]),
        worker_token: Secret::new(vec![2; 16]),
        manager_token: Secret::new(vec![3; 16]),
        ticket_key: Secret::new(vec![4]),
        next_raft_id: 5,
        spec: ClusterSpec::default(),
    };
    assert_eq!(Cluster::try_from(v1::StoredCluster::from(&cluster)).unwrap(), cluster);
}

fn smallest_request() -> v1::ServiceSpec {
    let image = v1::PinnedImage { reference: "web".to_owned(), digest: String::new() };
    let container = v1::ContainerSpec { image: Some(image), ..Default::default() };
    v1::ServiceSpec {
        mode: Some(v1::service_spec::Mode::Global(v1::Global {})),
        task: Some(v1::TaskSpec { container: Some(container), ..Default::default() }),
        ..Default::default()
    }
}

#[test]
fn what_is_left_out_takes_the_defaults() {
    let draft = service::draft(smallest_request()).unwrap();
    let spec = draft.with_name("web".parse().unwrap()).pin(Digest::from_bytes([1; 32])).unwrap();
    assert_eq!(spec.task.restart, RestartPolicy::default());
    assert_eq!(spec.task.restart.delay, DEFAULT_DELAY);
    assert_eq!(spec.task.container.stop_grace, DEFAULT_STOP_GRACE);
    assert_eq!(spec.update, UpdateConfig::default());
    assert_eq!(spec.task.placement, Placement::default());
}

#[test]
fn refusals_name_field_and_value() {
    let refusal = |change: fn(&mut v1::ServiceSpec)| {
        let mut message = smallest_request();
        change(&mut message);
        service::draft(message).unwrap_err().to_string()
    };
    assert_eq!(refusal(|spec| spec.mode = None), "mode: missing: it must be given");
    assert_eq!(refusal(|spec| image_of(spec).reference.clear()), "image: missing: it must be given");
    assert!(
        refusal(|spec| spec.name = "-x".into()).starts_with("name: invalid value \"-x\": a service name has")
    );
    assert!(
        refusal(|spec| image_of(spec).digest = "md5:0".into())
            .starts_with("image digest: invalid value \"md5:0\"")
    );
    let network = refusal(|spec| spec.task.as_mut().unwrap().network = 9);
    assert!(network.starts_with("network: invalid value \"9\": unknown to this version"), "{network}");
    let constraint = refusal(|spec| {
        spec.task.as_mut().unwrap().placement =
            Some(v1::Placement { constraints: vec!["x".into()], ..v1::Placement::default() });
    });
    assert_eq!(constraint, "constraint: invalid value \"x\": use key==value or key!=value");
}

#[test]
fn an_unnamed_draft_cannot_be_pinned() {
    let error = service::draft(smallest_request()).unwrap().pin(Digest::from_bytes([0; 32])).unwrap_err();
    assert_eq!(error.field(), "name");
}

#[test]
fn unknown_numbers_of_states_are_refused() {
    assert!(task::task_state(513).is_err());
    assert!(task::task_state(u32::MAX).is_err());
    assert!(task::desired_state(0).is_err());
    assert!(node::role(0).is_err());
    assert!(node::availability(7).is_err());
}
