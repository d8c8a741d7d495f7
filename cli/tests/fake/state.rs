//! What the fake manager holds.

use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

use coracle_proto::v1;

#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Behaviour {
    Manager,
    Worker,
}

pub(crate) struct State {
    pub behaviour: Behaviour,
    pub services: Mutex<Vec<v1::Service>>,
    /// Idempotency keys of all creations that arrived.
    pub keys: Mutex<Vec<String>>,
    /// Calls that are still refused for want of a leader.
    pub refusals: AtomicU32,
    /// Archives that are still refused for want of a leader.
    pub broken_restores: AtomicU32,
    /// Watches that were opened.
    pub watches: AtomicUsize,
    /// Archives that arrived whole: their name and bytes.
    pub archives: Mutex<Vec<(String, Vec<u8>)>>,
    /// Tokens that nodes joined with.
    pub tokens: Mutex<Vec<String>>,
}

pub(crate) const WEB: &str = "1webaaaaaaaaaaaaaaaaaaaaa";
pub(crate) const STUCK: &str = "2stuckaaaaaaaaaaaaaaaaaaa";
pub(crate) const BUSY: &str = "3busyaaaaaaaaaaaaaaaaaaaa";
pub(crate) const IMPORT: &str = "4importaaaaaaaaaaaaaaaaaa";
pub(crate) const NEW: &str = "9newaaaaaaaaaaaaaaaaaaaaa";
const SECOND: u64 = 1_000_000_000;

pub(crate) fn ago(seconds: u64) -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    (now - seconds) * SECOND
}

pub(crate) fn node_id(number: u32) -> String {
    format!("{number}{}", "n".repeat(24))
}

pub(crate) fn number_slot(number: u64) -> Option<v1::Slot> {
    Some(v1::Slot { slot: Some(v1::slot::Slot::Number(number)) })
}

impl State {
    pub(crate) fn new(behaviour: Behaviour) -> Self {
        let services = vec![
            service(WEB, "web", replicated(3)),
            service(STUCK, "stuck", replicated(2)),
            service(BUSY, "busy", v1::service_spec::Mode::Global(v1::Global {})),
            job(),
        ];
        Self {
            behaviour,
            services: Mutex::new(services),
            keys: Mutex::default(),
            refusals: AtomicU32::new(0),
            broken_restores: AtomicU32::new(0),
            watches: AtomicUsize::new(0),
            archives: Mutex::default(),
            tokens: Mutex::default(),
        }
    }

    pub(crate) fn take_refusal(&self) -> bool {
        Self::take(&self.refusals)
    }

    pub(crate) fn take(left: &AtomicU32) -> bool {
        left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1)).is_ok()
    }

    pub(crate) fn find(&self, reference: &str) -> Option<v1::Service> {
        let services = self.services.lock().unwrap();
        let named = |service: &&v1::Service| {
            service.id == reference || service.spec.as_ref().is_some_and(|spec| spec.name == reference)
        };
        services.iter().find(named).cloned()
    }
}

fn replicated(replicas: u64) -> v1::service_spec::Mode {
    v1::service_spec::Mode::Replicated(v1::Replicated { replicas })
}

fn job() -> v1::Service {
    let mode = v1::service_spec::Mode::ReplicatedJob(v1::ReplicatedJob { completions: 6, concurrent: 2 });
    let mut job = service(IMPORT, "import", mode);
    if let Some(spec) = &mut job.spec {
        spec.update = None;
        let schedule = v1::JobSchedule {
            cron: "30 2 * * *".to_owned(),
            timezone: "Europe/Berlin".to_owned(),
            ..Default::default()
        };
        spec.job = Some(v1::JobConfig { schedule: Some(schedule), ..Default::default() });
    }
    let earlier = vec![
        v1::EarlierRun { run: 2, started_at: 1_699_900_000 * SECOND, ended_at: Some(1_699_900_600 * SECOND) },
        v1::EarlierRun { run: 3, started_at: 1_699_950_000 * SECOND, ended_at: None },
    ];
    let status = v1::JobStatus { run: 4, started_at: 1_700_000_000 * SECOND, earlier, ..Default::default() };
    v1::Service { job: Some(status), ..job }
}

fn busy_ports() -> Vec<v1::HostPort> {
    let port = |port, protocol: v1::PortProtocol| v1::HostPort { port, protocol: protocol.into() };
    vec![
        port(9100, v1::PortProtocol::Tcp),
        port(53, v1::PortProtocol::Udp),
        port(9101, v1::PortProtocol::Tcp),
    ]
}

fn service(id: &str, name: &str, mode: v1::service_spec::Mode) -> v1::Service {
    let container = v1::ContainerSpec {
        image: Some(v1::PinnedImage {
            reference: format!("{name}:1"),
            digest: format!("sha256:{}", "0".repeat(64)),
        }),
        env: vec!["LEVEL=info".to_owned()],
        mounts: vec![v1::Mount {
            target: "/data".to_owned(),
            read_only: true,
            kind: Some(v1::mount::Kind::Bind(v1::BindMount {
                source: "/srv".to_owned(),
                ..Default::default()
            })),
        }],
        stop_grace: Some(10 * SECOND),
        ..Default::default()
    };
    let task = v1::TaskSpec {
        container: Some(container),
        limits: Some(v1::Limits { nano_cpus: 500_000_000, memory_bytes: 64 << 20, ..Default::default() }),
        restart: Some(v1::RestartPolicy { delay: Some(5 * SECOND), ..Default::default() }),
        placement: Some(v1::Placement {
            constraints: vec!["node.role==worker".to_owned()],
            max_replicas_per_node: if name == "stuck" { 1 } else { 0 },
            host_ports: if name == "busy" { busy_ports() } else { Vec::new() },
            ..Default::default()
        }),
        ..Default::default()
    };
    v1::Service {
        id: id.to_owned(),
        version: 17,
        spec_version: 12,
        created_at: 1_700_000_000 * SECOND,
        updated_at: 1_700_000_060 * SECOND,
        spec: Some(v1::ServiceSpec {
            name: name.to_owned(),
            labels: [("team".to_owned(), name.to_owned())].into(),
            mode: Some(mode),
            task: Some(task),
            update: Some(v1::UpdateConfig { parallelism: 1, ..Default::default() }),
            ..Default::default()
        }),
        previous_spec: None,
        update: None,
        job: None,
        rebalance: None,
    }
}
