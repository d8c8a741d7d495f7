//! Nodes, the cluster, images and the node itself.

use coracle_proto::status::{ApiError, Reason};
use coracle_proto::v1;
use coracle_proto::v1::load_image_request::Part;
use tonic::{Request, Response, Status, Streaming};

use super::Manager;
use super::state::{ago, node_id};

pub(crate) const TOKEN: &str =
    "CRCTKN-1-00000000000000000000000000000000000000000000000000-0000000000000000000000000";

fn node(number: u32, leader: bool, down: bool) -> v1::NodeListItem {
    let role = if number < 3 { v1::NodeRole::Manager } else { v1::NodeRole::Worker };
    let manager = role == v1::NodeRole::Manager;
    v1::NodeListItem {
        node: Some(v1::Node {
            id: node_id(number),
            version: 5,
            created_at: 1_700_000_000_000_000_000,
            spec: Some(v1::NodeSpec {
                role: role.into(),
                availability: if down { v1::Availability::Drain } else { v1::Availability::Active }.into(),
                labels: [("zone".to_owned(), "a".to_owned())].into(),
            }),
            description: Some(v1::NodeDescription {
                hostname: format!("host-{number}"),
                platform: Some(v1::Platform { os: "linux".to_owned(), architecture: "amd64".to_owned() }),
                resources: Some(v1::Resources { nano_cpus: 2_000_000_000, memory_bytes: 4 << 30 }),
                engine_version: "0.1.0".to_owned(),
                ..Default::default()
            }),
            status: Some(v1::NodeStatus {
                state: if down { v1::NodeState::Down } else { v1::NodeState::Ready }.into(),
                since: 1_700_000_100_000_000_000,
                message: String::new(),
                address: format!("10.0.0.{number}:2377"),
            }),
            manager: manager.then(|| v1::ManagerMember {
                raft_id: number.into(),
                address: format!("10.0.0.{number}:2377"),
            }),
        }),
        leader,
        reachable: manager && !down,
        self_: leader,
        voter: manager,
    }
}

fn nodes() -> Vec<v1::NodeListItem> {
    vec![node(3, false, false), node(1, true, false), node(2, false, true)]
}

fn find(reference: &str) -> Result<v1::NodeListItem, Status> {
    let known = nodes().into_iter().find(|item| {
        let node = item.node.clone().unwrap_or_default();
        let hostname = node.description.unwrap_or_default().hostname;
        node.id == reference || hostname == reference || (reference == "self" && item.self_)
    });
    Ok(known.ok_or_else(|| ApiError::not_found("node", reference))?)
}

#[tonic::async_trait]
impl v1::nodes_server::Nodes for Manager {
    async fn list(
        &self,
        _: Request<v1::ListNodesRequest>,
    ) -> Result<Response<v1::ListNodesResponse>, Status> {
        self.admit()?;
        Ok(Response::new(v1::ListNodesResponse { nodes: nodes(), index: 20, notice: String::new() }))
    }

    async fn get(
        &self,
        request: Request<v1::GetNodeRequest>,
    ) -> Result<Response<v1::GetNodeResponse>, Status> {
        self.admit()?;
        let node = Some(find(&request.into_inner().node)?);
        Ok(Response::new(v1::GetNodeResponse { node, index: 20 }))
    }

    async fn update(
        &self,
        request: Request<v1::UpdateNodeRequest>,
    ) -> Result<Response<v1::UpdateNodeResponse>, Status> {
        self.admit()?;
        let request = request.into_inner();
        let item = find(&request.node)?;
        if let Some(label) = request.labels_removed.iter().find(|label| *label != "zone") {
            return Err(ApiError::new(
                Reason::NotFound,
                format!("node {:?} has no label {label:?}", request.node),
            )
            .into());
        }
        Ok(Response::new(v1::UpdateNodeResponse { node: item.node, version: 6 }))
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveNodeRequest>,
    ) -> Result<Response<v1::RemoveNodeResponse>, Status> {
        self.admit()?;
        let request = request.into_inner();
        let item = find(&request.node)?;
        let ready = item.node.clone().unwrap_or_default().status.unwrap_or_default().state == 1;
        if ready && !request.force {
            let error =
                ApiError::new(Reason::Forbidden, format!("node {:?} is ready, not down", request.node));
            return Err(error.with_hint("stop its daemon first, or remove it with --force").into());
        }
        Ok(Response::new(v1::RemoveNodeResponse { id: item.node.unwrap_or_default().id, version: 7 }))
    }
}

#[tonic::async_trait]
impl v1::swarm_server::Swarm for Manager {
    async fn get_join_token(
        &self,
        _: Request<v1::GetJoinTokenRequest>,
    ) -> Result<Response<v1::GetJoinTokenResponse>, Status> {
        self.admit()?;
        let addresses = vec!["10.0.0.1:2377".to_owned()];
        Ok(Response::new(v1::GetJoinTokenResponse { token: TOKEN.to_owned(), addresses, version: 20 }))
    }

    async fn issue_operator_certificate(
        &self,
        _: Request<v1::IssueOperatorCertificateRequest>,
    ) -> Result<Response<v1::IssueOperatorCertificateResponse>, Status> {
        Err(Status::unimplemented("needs an authority"))
    }

    async fn get_cluster(
        &self,
        _: Request<v1::GetClusterRequest>,
    ) -> Result<Response<v1::GetClusterResponse>, Status> {
        self.admit()?;
        Ok(Response::new(v1::GetClusterResponse::default()))
    }

    async fn update_cluster(
        &self,
        request: Request<v1::UpdateClusterRequest>,
    ) -> Result<Response<v1::UpdateClusterResponse>, Status> {
        self.admit()?;
        let allow_privileged = request.into_inner().allow_privileged.unwrap_or_default();
        let spec = Some(v1::ClusterSpec { allow_privileged, ..Default::default() });
        Ok(Response::new(v1::UpdateClusterResponse { spec, version: 20 }))
    }

    async fn list_loops(
        &self,
        _: Request<v1::ListLoopsRequest>,
    ) -> Result<Response<v1::ListLoopsResponse>, Status> {
        self.admit()?;
        let status = |name: &str, runs, last_run| v1::LoopStatus {
            name: name.to_owned(),
            runs,
            changes: 4,
            refused: 1,
            last_run,
            queued: 0,
        };
        Ok(Response::new(v1::ListLoopsResponse {
            loops: vec![status("service", 12, ago(90)), status("reap", 0, 0)],
        }))
    }
}

#[tonic::async_trait]
impl v1::images_server::Images for Manager {
    async fn load(
        &self,
        request: Request<Streaming<v1::LoadImageRequest>>,
    ) -> Result<Response<v1::LoadImageResponse>, Status> {
        self.admit()?;
        let mut parts = request.into_inner();
        let (mut name, mut bytes) = (String::new(), Vec::new());
        while let Some(message) = parts.message().await? {
            match message.part {
                Some(Part::Header(header)) => name = header.import_as,
                Some(Part::Data(data)) => bytes.extend_from_slice(&data),
                None => {}
            }
        }
        if bytes.starts_with(b"bad") {
            return Err(ApiError::new(Reason::Invalid, "the archive is damaged: it has no manifest").into());
        }
        let shown = if name.is_empty() {
            "docker.io/library/web:1".to_owned()
        } else {
            format!("docker.io/library/{name}")
        };
        self.0.archives.lock().unwrap().push((name, bytes));
        let image = v1::ImageEntry { name: shown, ..Default::default() };
        Ok(Response::new(v1::LoadImageResponse { images: vec![image], version: 20 }))
    }

    async fn register(
        &self,
        _: Request<v1::RegisterImagesRequest>,
    ) -> Result<Response<v1::RegisterImagesResponse>, Status> {
        Err(Status::unimplemented("for managers only"))
    }

    async fn list(
        &self,
        _: Request<v1::ListImagesRequest>,
    ) -> Result<Response<v1::ListImagesResponse>, Status> {
        self.admit()?;
        let image = |name: &str, size, holders, in_use| v1::ImageListItem {
            image: Some(v1::ImageEntry {
                name: name.to_owned(),
                version: 3,
                digest: format!("sha256:{}", "ab".repeat(32)),
                size,
                platform: Some(v1::Platform { os: "linux".to_owned(), architecture: "amd64".to_owned() }),
                created_at: ago(7300),
            }),
            holders,
            in_use,
        };
        let images = vec![
            image("registry.example:5000/team/api:2", 12_345_678, 1, false),
            image("docker.io/library/web:1", 4 << 20, 3, true),
        ];
        Ok(Response::new(v1::ListImagesResponse { images, index: 20 }))
    }

    async fn remove(
        &self,
        request: Request<v1::RemoveImageRequest>,
    ) -> Result<Response<v1::RemoveImageResponse>, Status> {
        self.admit()?;
        let name = format!("docker.io/library/{}", request.into_inner().name);
        Ok(Response::new(v1::RemoveImageResponse { name, digest: "sha256:00".to_owned(), version: 20 }))
    }
}

#[tonic::async_trait]
impl v1::local_node_server::LocalNode for Manager {
    async fn init(&self, _: Request<v1::InitRequest>) -> Result<Response<v1::InitResponse>, Status> {
        Ok(Response::new(v1::InitResponse {
            node_id: node_id(1),
            cluster_id: "cluster".to_owned(),
            address: "10.0.0.1:2377".to_owned(),
            worker_token: TOKEN.to_owned(),
            manager_token: TOKEN.to_owned(),
            warnings: Vec::new(),
        }))
    }

    async fn join(&self, request: Request<v1::JoinRequest>) -> Result<Response<v1::JoinResponse>, Status> {
        self.0.tokens.lock().unwrap().push(request.into_inner().token);
        Ok(Response::new(v1::JoinResponse { role: v1::NodeRole::Worker.into(), ..Default::default() }))
    }

    async fn leave(&self, request: Request<v1::LeaveRequest>) -> Result<Response<v1::LeaveResponse>, Status> {
        if request.into_inner().force {
            return Ok(Response::new(v1::LeaveResponse {}));
        }
        Err(ApiError::new(Reason::Forbidden, "this node is a manager").with_hint("leave with --force").into())
    }

    async fn info(&self, _: Request<v1::InfoRequest>) -> Result<Response<v1::InfoResponse>, Status> {
        Ok(Response::new(v1::InfoResponse {
            version: "0.1.0".to_owned(),
            state: "active".to_owned(),
            node_id: node_id(1),
            cluster_id: "cluster".to_owned(),
            role: v1::NodeRole::Manager.into(),
            hostname: "host-1".to_owned(),
            platform: Some(v1::Platform { os: "linux".to_owned(), architecture: "amd64".to_owned() }),
            resources: Some(v1::Resources { nano_cpus: 1_500_000_000, memory_bytes: 2 << 30 }),
            managers: vec!["10.0.0.1:2377".to_owned()],
            certificate_expires_at: 1_700_000_000_000_000_000,
            raft: Some(v1::RaftInfo {
                raft_id: 1,
                term: 3,
                is_leader: true,
                voters: 3,
                ..Default::default()
            }),
            warnings: vec!["the clock is not synchronised".to_owned()],
            ..Default::default()
        }))
    }
}
