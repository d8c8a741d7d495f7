//! Docker's names for fields that ours have other names for, so that templates written for it do. Described for operators in
//! `docs/operate/templates.md`.

/// Beginnings of paths as Docker has them, and what they are here; the first that fits counts.
pub(crate) type Names = &'static [(&'static str, &'static str)];

/// Of `service inspect`.
pub(crate) const SERVICE: Names = &[
    ("Version.Index", "version"),
    ("Spec.Mode.Replicated.Replicas", "spec.replicas"),
    ("Spec.Mode.ReplicatedJob.TotalCompletions", "spec.replicas"),
    ("Spec.Mode.ReplicatedJob.MaxConcurrent", "spec.max_concurrent"),
    ("Spec.TaskTemplate.ContainerSpec.Dir", "spec.task.container.workdir"),
    ("Spec.TaskTemplate.ContainerSpec.Command", "spec.task.container.entrypoint"),
    ("Spec.TaskTemplate.ContainerSpec.Healthcheck", "spec.task.container.health"),
    ("Spec.TaskTemplate.ContainerSpec.DNSConfig.Nameservers", "spec.task.container.dns.servers"),
    ("Spec.TaskTemplate.ContainerSpec", "spec.task.container"),
    ("Spec.TaskTemplate.LogDriver.Name", "spec.task.container.log.driver"),
    ("Spec.TaskTemplate.LogDriver", "spec.task.container.log"),
    ("Spec.TaskTemplate.Resources", "spec.task"),
    ("Spec.TaskTemplate.RestartPolicy", "spec.task.restart"),
    ("Spec.TaskTemplate.Placement.MaxReplicas", "spec.task.placement.max_replicas_per_node"),
    ("Spec.TaskTemplate", "spec.task"),
    ("Spec.UpdateConfig", "spec.update"),
    ("Spec.RollbackConfig", "spec.rollback"),
    ("Spec.EndpointSpec.Ports", "spec.task.placement.host_ports"),
    ("Endpoint.Ports", "spec.task.placement.host_ports"),
    ("PreviousSpec.Mode.Replicated.Replicas", "previous_spec.replicas"),
    ("PreviousSpec.TaskTemplate.ContainerSpec", "previous_spec.task.container"),
    ("PreviousSpec.TaskTemplate", "previous_spec.task"),
    ("UpdateStatus", "update"),
    ("ServiceStatus.RunningTasks", "tasks.running"),
    ("ServiceStatus.DesiredTasks", "tasks.desired"),
    ("ServiceStatus.CompletedTasks", "tasks.completed"),
];

/// Of `node inspect`.
pub(crate) const NODE: Names = &[
    ("Version.Index", "version"),
    ("Spec.Labels", "labels"),
    ("Spec.Role", "role"),
    ("Spec.Availability", "availability"),
    ("Description.Hostname", "hostname"),
    ("Description.Platform", "platform"),
    ("Description.Resources.GenericResources", "generic_resources"),
    ("Description.Resources", "resources"),
    ("Description.Engine.EngineVersion", "engine_version"),
    ("Description.Engine.Labels", "engine_labels"),
    ("Status.Addr", "status.address"),
    ("ManagerStatus.Leader", "manager.leader"),
    ("ManagerStatus.Addr", "manager.address"),
];

/// Of `task inspect`.
pub(crate) const TASK: Names = &[
    ("Version.Index", "version"),
    ("Spec.ContainerSpec", "spec.container"),
    ("Spec.Resources", "spec"),
    ("Spec.RestartPolicy", "spec.restart"),
    ("Status.Timestamp", "status.since"),
    ("Status.Err", "status.error"),
    ("Status.ContainerStatus.PID", "status.pid"),
    ("Status.ContainerStatus.ExitCode", "status.exit.code"),
    ("Status.PortStatus.Ports", "ports"),
];

/// Of `secret inspect` and `config inspect`.
pub(crate) const FILE: Names =
    &[("Version.Index", "version"), ("Spec.Name", "name"), ("Spec.Labels", "labels")];

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn operators_can_read_of_all_of_them() {
        let page = include_str!("../../../../docs/operate/templates.md");
        for (theirs, ours) in [SERVICE, NODE, TASK, FILE].concat() {
            let row = format!("| `.{theirs}` | `.{ours}` |");
            assert!(page.contains(&row), "{row} is not in docs/operate/templates.md");
        }
    }
}
