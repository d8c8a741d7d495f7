//! Changes, one message each.

use coracle_manager_core::Change;
use coracle_model::cluster::Secret;
use coracle_model::version::Version;
use coracle_proto::convert::task::desired_state;
use coracle_proto::convert::{DecodeError, parse, required};
use coracle_proto::v1;
use coracle_proto::v1::change::Change as Stored;

use super::CodecError;

/// A change as it is stored.
pub(super) fn encode(change: &Change) -> v1::Change {
    v1::Change { change: Some(encode_kind(change)) }
}

/// Reads a change.
pub(super) fn decode(message: v1::Change) -> Result<Change, CodecError> {
    let Some(stored) = message.change else { return Err(CodecError::Unknown("change")) };
    Ok(decode_kind(stored)?)
}

#[rustfmt::skip]
fn encode_kind(change: &Change) -> Stored {
    match change {
        Change::CreateCluster(cluster) => Stored::CreateCluster(v1::CreateCluster { cluster: Some(cluster.into()) }),
        Change::UpdateCluster { cluster, expected } => Stored::UpdateCluster(v1::UpdateCluster {
            cluster: Some(cluster.into()),
            expected: expected.index(),
        }),
        Change::CreateNode(node) => Stored::CreateNode(v1::CreateNode { node: Some(node.into()) }),
        Change::UpdateNodeSpec { node, expected, spec } => Stored::UpdateNodeSpec(v1::UpdateNodeSpec {
            node: node.to_string(),
            expected: expected.index(),
            spec: Some(spec.into()),
        }),
        Change::DescribeNode { node, description, address } => Stored::DescribeNode(v1::DescribeNode {
            node: node.to_string(),
            description: Some(description.into()),
            address: address.clone(),
        }),
        Change::SetNodeStatus { node, state, message } => Stored::SetNodeStatus(v1::SetNodeStatus {
            node: node.to_string(),
            state: v1::NodeState::from(*state).into(),
            message: message.clone(),
        }),
        Change::SetManagerMember { node, member } => Stored::SetManagerMember(v1::SetManagerMember {
            node: node.to_string(),
            member: member.as_ref().map(Into::into),
        }),
        Change::RemoveNode { node, expected } => Stored::RemoveNode(v1::RemoveNode {
            node: node.to_string(),
            expected: expected.index(),
        }),
        Change::CreateService(service) => Stored::CreateService(v1::CreateService { service: Some(service.as_ref().into()) }),
        Change::UpdateService { service, expected, spec } => Stored::UpdateService(v1::UpdateService {
            service: service.to_string(),
            expected: expected.index(),
            spec: Some(spec.as_ref().into()),
        }),
        Change::RollBackService { service, expected, message, automatic } => Stored::RollBackService(v1::RollBackService {
            service: service.to_string(),
            expected: expected.index(),
            message: message.clone(),
            automatic: *automatic,
        }),
        Change::SetJobStatus { service, expected, job } => Stored::SetJobStatus(v1::SetJobStatus {
            service: service.to_string(),
            expected: expected.index(),
            job: Some(job.into()),
        }),
        Change::SetUpdateProgress { service, expected, progress } => Stored::SetUpdateProgress(v1::SetUpdateProgress {
            service: service.to_string(),
            expected: expected.index(),
            progress: Some(progress.into()),
        }),
        Change::SetRebalance { service, expected, progress } => Stored::SetRebalance(v1::SetRebalance {
            service: service.to_string(),
            expected: expected.index(),
            progress: Some(progress.into()),
        }),
        Change::RemoveService { service, expected } => Stored::RemoveService(v1::RemoveService {
            service: service.to_string(),
            expected: expected.index(),
        }),
        Change::CreateTask { task, service_version, beside } => Stored::CreateTask(v1::CreateTask {
            task: Some(task.into()),
            service_version: service_version.index(),
            beside: beside.map(|task| task.to_string()).unwrap_or_default(),
        }),
        Change::AssignTask { task, expected, node, node_version, generic } => Stored::AssignTask(v1::AssignTask {
            task: task.to_string(),
            expected: expected.index(),
            node: node.to_string(),
            node_version: node_version.index(),
            generic: coracle_proto::convert::task::names(generic),
        }),
        Change::RaiseDesired { task, desired, service_version } => Stored::RaiseDesired(v1::RaiseDesired {
            task: task.to_string(),
            desired: desired.number().into(),
            service_version: service_version.index(),
        }),
        Change::ReportTask { task, node, status } => Stored::ReportTask(v1::ReportTask {
            task: task.to_string(),
            node: node.map(|node| node.to_string()).unwrap_or_default(),
            status: Some(status.into()),
        }),
        Change::RemoveTask { task } => Stored::RemoveTask(v1::RemoveTask { task: task.to_string() }),
        Change::PutImage(image) => Stored::PutImage(v1::PutImage { image: Some(image.into()) }),
        Change::RemoveImage { name } => Stored::RemoveImage(v1::RemoveImage { name: name.clone() }),
        Change::CreateFile(file) => Stored::CreateFile(v1::CreateFile { file: Some(file.into()) }),
        Change::UpdateFile { file, expected, labels, data } => Stored::UpdateFile(v1::UpdateFile {
            file: file.to_string(),
            expected: expected.index(),
            labels: labels.as_ref().map(|labels| v1::FileLabels { labels: labels.clone().into_iter().collect() }),
            data: data.as_ref().map(|data| data.reveal().to_vec().into()),
        }),
        Change::RemoveFile { file, expected } => Stored::RemoveFile(v1::RemoveFile {
            file: file.to_string(),
            expected: expected.index(),
        }),
        Change::CollectFile { file, content } => Stored::CollectFile(v1::CollectFile {
            file: file.to_string(),
            content: *content,
        }),
        Change::FollowFile { service, file, content } => Stored::FollowFile(v1::FollowFile {
            service: service.to_string(),
            file: file.to_string(),
            content: *content,
        }),
    }
}

fn decode_kind(stored: Stored) -> Result<Change, DecodeError> {
    Ok(match stored {
        Stored::CreateCluster(m) => Change::CreateCluster(required("cluster", m.cluster)?.try_into()?),
        Stored::UpdateCluster(m) => Change::UpdateCluster {
            cluster: required("cluster", m.cluster)?.try_into()?,
            expected: Version::new(m.expected),
        },
        Stored::CreateNode(m) => Change::CreateNode(required("node", m.node)?.try_into()?),
        Stored::UpdateNodeSpec(m) => Change::UpdateNodeSpec {
            node: parse("node", &m.node)?,
            expected: Version::new(m.expected),
            spec: required("node spec", m.spec)?.try_into()?,
        },
        Stored::DescribeNode(m) => Change::DescribeNode {
            node: parse("node", &m.node)?,
            description: required("node description", m.description)?.into(),
            address: m.address,
        },
        Stored::SetNodeStatus(m) => {
            let state = v1::NodeState::try_from(m.state)
                .map_err(|_| DecodeError::invalid("node state", m.state, "unknown to this version"))?;
            Change::SetNodeStatus { node: parse("node", &m.node)?, state: state.into(), message: m.message }
        }
        Stored::SetManagerMember(m) => {
            Change::SetManagerMember { node: parse("node", &m.node)?, member: m.member.map(Into::into) }
        }
        Stored::RemoveNode(m) => {
            Change::RemoveNode { node: parse("node", &m.node)?, expected: Version::new(m.expected) }
        }
        other => return decode_work(other),
    })
}

/// Changes of services, tasks and images.
fn decode_work(stored: Stored) -> Result<Change, DecodeError> {
    Ok(match stored {
        Stored::CreateService(m) => {
            Change::CreateService(Box::new(required("service", m.service)?.try_into()?))
        }
        Stored::UpdateService(m) => Change::UpdateService {
            service: parse("service", &m.service)?,
            expected: Version::new(m.expected),
            spec: Box::new(required("service spec", m.spec)?.try_into()?),
        },
        Stored::RollBackService(m) => Change::RollBackService {
            service: parse("service", &m.service)?,
            expected: Version::new(m.expected),
            message: m.message,
            automatic: m.automatic,
        },
        Stored::SetJobStatus(m) => Change::SetJobStatus {
            service: parse("service", &m.service)?,
            expected: Version::new(m.expected),
            job: required("job", m.job)?.into(),
        },
        Stored::SetUpdateProgress(m) => Change::SetUpdateProgress {
            service: parse("service", &m.service)?,
            expected: Version::new(m.expected),
            progress: required("update progress", m.progress)?.try_into()?,
        },
        Stored::SetRebalance(m) => Change::SetRebalance {
            service: parse("service", &m.service)?,
            expected: Version::new(m.expected),
            progress: required("rebalance progress", m.progress)?.try_into()?,
        },
        Stored::RemoveService(m) => Change::RemoveService {
            service: parse("service", &m.service)?,
            expected: Version::new(m.expected),
        },
        Stored::CreateTask(m) => Change::CreateTask {
            task: required("task", m.task)?.try_into()?,
            service_version: Version::new(m.service_version),
            beside: if m.beside.is_empty() { None } else { Some(parse("task", &m.beside)?) },
        },
        Stored::AssignTask(m) => Change::AssignTask {
            task: parse("task", &m.task)?,
            expected: Version::new(m.expected),
            node: parse("node", &m.node)?,
            node_version: Version::new(m.node_version),
            generic: m.generic.into_iter().map(|(kind, names)| (kind, names.names)).collect(),
        },
        Stored::RaiseDesired(m) => Change::RaiseDesired {
            task: parse("task", &m.task)?,
            desired: desired_state(m.desired)?,
            service_version: Version::new(m.service_version),
        },
        Stored::ReportTask(m) => Change::ReportTask {
            task: parse("task", &m.task)?,
            node: if m.node.is_empty() { None } else { Some(parse("node", &m.node)?) },
            status: required("task status", m.status)?.try_into()?,
        },
        Stored::RemoveTask(m) => Change::RemoveTask { task: parse("task", &m.task)? },
        Stored::PutImage(m) => Change::PutImage(required("image", m.image)?.try_into()?),
        Stored::RemoveImage(m) => Change::RemoveImage { name: m.name },
        other => return decode_file(other),
    })
}

/// Changes of secrets and configs.
fn decode_file(stored: Stored) -> Result<Change, DecodeError> {
    Ok(match stored {
        Stored::CreateFile(m) => Change::CreateFile(required("file", m.file)?.try_into()?),
        Stored::UpdateFile(m) => Change::UpdateFile {
            file: parse("file", &m.file)?,
            expected: Version::new(m.expected),
            labels: m.labels.map(|labels| labels.labels.into_iter().collect()),
            data: m.data.map(|data| Secret::new(data.into())),
        },
        Stored::RemoveFile(m) => {
            Change::RemoveFile { file: parse("file", &m.file)?, expected: Version::new(m.expected) }
        }
        Stored::CollectFile(m) => Change::CollectFile { file: parse("file", &m.file)?, content: m.content },
        Stored::FollowFile(m) => Change::FollowFile {
            service: parse("service", &m.service)?,
            file: parse("file", &m.file)?,
            content: m.content,
        },
        // The other parts of `decode_kind`.
        _ => return Err(DecodeError::Missing { field: "change" }),
    })
}
