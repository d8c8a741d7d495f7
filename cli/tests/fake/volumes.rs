//! Volumes: `data` on two nodes, `cache` on one, an anonymous one; host-3 is not heard.

use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::backup_volume_response::Part as Out;
use coracle_proto::v1::restore_volume_request::Part as In;
use tokio_stream::{Stream, StreamExt as _};
use tonic::{Request, Response, Status, Streaming};

use super::Manager;
use super::state::{State, ago, node_id};

/// What every archive has in it.
pub(crate) const ARCHIVE: [&str; 2] = ["first half, ", "second half"];

fn volumes() -> Vec<v1::NodeVolume> {
    let anonymous = "0f".repeat(32);
    vec![
        volume(2, "data", 2, 90_000),
        volume(1, "data", 0, 7300),
        volume(1, "cache", 1, 300),
        volume(2, &anonymous, 0, 60),
    ]
}

fn volume(node: u32, name: &str, used_by: u32, age: u64) -> v1::NodeVolume {
    let labels =
        if name == "data" { [("team".to_owned(), "web".to_owned())].into() } else { Default::default() };
    let volume = v1::Volume {
        name: name.to_owned(),
        node: node_id(node),
        labels,
        created_at: ago(age),
        used_by,
        anonymous: name.len() == 64,
        ..Default::default()
    };
    v1::NodeVolume { node_id: node_id(node), node_hostname: format!("host-{node}"), volume: Some(volume) }
}

fn silent() -> Vec<v1::SilentNode> {
    let (node_hostname, message) = ("host-3".to_owned(), "it is down".to_owned());
    vec![v1::SilentNode { node_id: node_id(3), node_hostname, message }]
}

/// Those of this name, on the nodes that are named or on all.
fn find(name: &str, nodes: &[String]) -> Vec<v1::NodeVolume> {
    let mut found = volumes();
    found.retain(|item| {
        item.volume.as_ref().is_some_and(|volume| volume.name == name)
            && (nodes.is_empty() || nodes.contains(&item.node_hostname))
    });
    found
}

fn several(name: &str) -> Status {
    let message = format!("volume {name} is on 2 nodes: host-1, host-2; which one is meant?");
    ApiError::new(Reason::Invalid, message).with_hint("name the node with --node").into()
}

fn in_use(name: &str) -> ApiError {
    let message = format!("node host-2: volume {name} is in use by 1 task: web.1 (3taskaaaaaaa)");
    ApiError::new(Reason::Forbidden, message).with_hint("remove, scale down or move what uses it first")
}

fn failure(node: &v1::NodeVolume, error: ApiError) -> v1::VolumeFailure {
    v1::VolumeFailure {
        node_id: node.node_id.clone(),
        node_hostname: node.node_hostname.clone(),
        volume: node.volume.clone().unwrap_or_default().name,
        reason: error.reason.as_str().to_owned(),
        message: error.message,
        hint: error.hint.unwrap_or_default(),
    }
}

#[tonic::async_trait]
impl v1::volumes_server::Volumes for Manager {
    type BackupStream =
        std::pin::Pin<Box<dyn Stream<Item = Result<v1::BackupVolumeResponse, Status>> + Send>>;

    async fn create(
        &self,
        request: Request<v1::CreateVolumeRequest>,
    ) -> Result<Response<v1::CreateVolumeResponse>, Status> {
        self.admit()?;
        let request = request.into_inner();
        let mut answer = v1::CreateVolumeResponse::default();
        let name = if request.name.is_empty() { "ab".repeat(32) } else { request.name };
        let nodes = if request.nodes.is_empty() { vec!["host-1".to_owned()] } else { request.nodes };
        for node in nodes {
            let number = node.trim_start_matches("host-").parse().unwrap();
            let volume = volume(number, &name, 0, 0);
            if number == 3 {
                let error = ApiError::new(Reason::Unavailable, "node host-3 is not connected to the leader");
                answer.failures.push(failure(&volume, error.with_hint("see `coracle node ls`")));
            } else {
                let existed = !find(&name, &[node]).is_empty();
                answer.volumes.push(v1::CreatedVolume { volume: Some(volume), existed });
            }
        }
        Ok(Response::new(answer))
    }

    async fn list(
        &self,
        _: Request<v1::ListVolumesRequest>,
    ) -> Result<Response<v1::ListVolumesResponse>, Status> {
        self.admit()?;
        Ok(Response::new(v1::ListVolumesResponse { volumes: volumes(), silent: silent(), index: 20 }))
    }

    async fn inspect(
        &self,
        request: Request<v1::InspectVolumeRequest>,
    ) -> Result<Response<v1::InspectVolumeResponse>, Status> {
        self.admit()?;
        let v1::InspectVolumeRequest { name, nodes } = request.into_inner();
        let found = find(&name, &nodes);
        if found.is_empty() {
            let error =
                ApiError::new(Reason::NotFound, format!("no node that is heard has a volume {name:?}"));
            return Err(error.with_hint("not heard: host-3; see `coracle node ls`").into());
        }
        let detail = |item: v1::NodeVolume| {
            let mut volume = item.volume.clone().unwrap_or_default();
            volume.created_at = 1_700_000_000_000_000_000;
            let users = ["web.1", "web.2"].map(|name| v1::VolumeUser {
                task: format!("3task{}{}", &name[4..], "a".repeat(19)),
                name: name.to_owned(),
            });
            let used = volume.used_by as usize;
            let known = item.node_hostname == "host-2";
            v1::InspectedVolume {
                detail: Some(v1::VolumeDetail {
                    mountpoint: format!("/var/lib/coracle/volumes/{name}/_data"),
                    size: known.then_some(12_345),
                    inodes: known.then_some(7),
                    size_unknown: if known {
                        String::new()
                    } else {
                        "measuring it takes longer than 10 s".to_owned()
                    },
                    volume: Some(volume),
                    tasks: Vec::new(),
                }),
                node_id: item.node_id,
                node_hostname: item.node_hostname,
                users: users.into_iter().take(used).collect(),
            }
        };
        let silent = if nodes.is_empty() { silent() } else { Vec::new() };
        let volumes = found.into_iter().map(detail).collect();
        Ok(Response::new(v1::InspectVolumeResponse { volumes, failures: Vec::new(), silent }))
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveVolumeRequest>,
    ) -> Result<Response<v1::RemoveVolumeResponse>, Status> {
        self.admit()?;
        let request = request.into_inner();
        let found = find(&request.name, &request.nodes);
        let mut answer = v1::RemoveVolumeResponse::default();
        match found.as_slice() {
            [] if request.force => {}
            [] => {
                let message = format!("no node that is heard has a volume {:?}", request.name);
                return Err(ApiError::new(Reason::NotFound, message).into());
            }
            [_, _] if !request.all_nodes => return Err(several(&request.name)),
            some => {
                for item in some {
                    if item.volume.as_ref().is_some_and(|volume| volume.used_by > 0) {
                        answer.failures.push(failure(item, in_use(&request.name)));
                    } else {
                        let (node_id, node_hostname) = (item.node_id.clone(), item.node_hostname.clone());
                        answer.removed.push(v1::RemovedVolume { node_id, node_hostname });
                    }
                }
            }
        }
        if request.nodes.is_empty() {
            answer.silent = silent();
        }
        Ok(Response::new(answer))
    }

    async fn prune(
        &self,
        request: Request<v1::PruneVolumesRequest>,
    ) -> Result<Response<v1::PruneVolumesResponse>, Status> {
        self.admit()?;
        let request = request.into_inner();
        let mut found = volumes();
        found.retain(|item| {
            let volume = item.volume.clone().unwrap_or_default();
            let fits =
                request.labels.iter().all(|filter| volume.labels.contains_key(&filter.key) != filter.absent);
            let named = request.nodes.is_empty() || request.nodes.contains(&item.node_hostname);
            volume.used_by == 0 && (request.all || volume.anonymous) && fits && named
        });
        let node = |item: v1::NodeVolume| v1::PrunedNode {
            node_id: item.node_id,
            node_hostname: item.node_hostname,
            volumes: vec![item.volume.unwrap_or_default().name],
            freed: 3 << 20,
        };
        let silent = if request.nodes.is_empty() { silent() } else { Vec::new() };
        // Of a disk that refuses after the first.
        let broken = found.iter().filter(|_| request.nodes == ["host-2"]).map(|item| {
            let message = "node host-2: removing /var/lib/coracle/volumes/data: Read-only file system";
            failure(item, ApiError::new(Reason::Internal, message))
        });
        let failures = broken.collect();
        let nodes = found.into_iter().map(node).collect();
        Ok(Response::new(v1::PruneVolumesResponse { nodes, failures, silent }))
    }

    async fn backup(
        &self,
        request: Request<v1::BackupVolumeRequest>,
    ) -> Result<Response<Self::BackupStream>, Status> {
        self.admit()?;
        let v1::BackupVolumeRequest { name, node } = request.into_inner();
        let found = find(&name, &if node.is_empty() { Vec::new() } else { vec![node] });
        let volume = match found.as_slice() {
            [only] => only.clone(),
            [] => {
                let error = ApiError::new(Reason::NotFound, format!("node host-1: no volume {name:?}"));
                return Err(error.into());
            }
            _ => return Err(several(&name)),
        };
        let bytes = ARCHIVE.iter().map(|part| part.len() as u64).sum();
        let busy = volume.volume.as_ref().is_some_and(|volume| volume.used_by > 1);
        let (changed, left_out) = if busy { (3, 1) } else { (0, 0) };
        let part = |part| Ok(v1::BackupVolumeResponse { part: Some(part) });
        let data = |text: &'static str| part(Out::Data(text.as_bytes().into()));
        let end = if name == "cache" {
            Err(ApiError::new(Reason::Unavailable, "the connection to node host-1 was lost").into())
        } else {
            part(Out::End(v1::VolumeEnd { bytes, changed, left_out }))
        };
        let all = vec![part(Out::Start(volume)), data(ARCHIVE[0]), data(ARCHIVE[1]), end];
        Ok(Response::new(Box::pin(tokio_stream::iter(all))))
    }

    async fn restore(
        &self,
        request: Request<Streaming<v1::RestoreVolumeRequest>>,
    ) -> Result<Response<v1::RestoreVolumeResponse>, Status> {
        self.admit()?;
        let mut parts = request.into_inner();
        let (mut start, mut bytes, mut whole) = (v1::RestoreVolumeStart::default(), Vec::new(), false);
        while let Some(message) = parts.next().await {
            match message?.part {
                Some(In::Start(first)) => {
                    if first.name == "slow" {
                        self.0.archives.lock().unwrap().push(("begun".to_owned(), Vec::new()));
                    }
                    start = first;
                }
                Some(In::Data(data)) => bytes.extend_from_slice(&data),
                Some(In::End(end)) => whole = end.bytes == bytes.len() as u64,
                None => {}
            }
        }
        if State::take(&self.0.broken_restores) {
            return Err(ApiError::new(Reason::NotLeader, "no manager leads at the moment").into());
        }
        if !whole {
            return Err(ApiError::new(Reason::Invalid, "the archive breaks off before its end").into());
        }
        if !start.replace && !find(&start.name, std::slice::from_ref(&start.node)).is_empty() {
            let message = format!("node {}: a volume {:?} is there already", start.node, start.name);
            return Err(ApiError::new(Reason::Exists, message)
                .with_hint("choose another name, or --replace it")
                .into());
        }
        let volume = v1::Volume { name: start.name.clone(), labels: start.labels, ..Default::default() };
        let (node_id, node_hostname) = (node_id(1), start.node);
        let size = bytes.len() as u64;
        // Of a file system that keeps none.
        let attributes_left_out = if start.name == "plain" { 2 } else { 0 };
        self.0.archives.lock().unwrap().push((start.name.clone(), bytes));
        if start.name == "slow" {
            // Its disk takes for ever.
            std::future::pending::<()>().await;
        }
        let volume = Some(v1::NodeVolume { node_id, node_hostname, volume: Some(volume) });
        Ok(Response::new(v1::RestoreVolumeResponse { volume, bytes: size, left_out: 0, attributes_left_out }))
    }
}
