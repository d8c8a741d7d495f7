//! Tasks.

use std::collections::BTreeSet;
use std::sync::Arc;

use coracle_manager_core::orchestrate::is_up_to_date;
use coracle_manager_core::schedule::Explanations;
use coracle_manager_core::state::State;
use coracle_model::id::{NodeId, ServiceId, TaskId};
use coracle_model::task::{DesiredState, Task};
use coracle_proto::status::ApiError;
use coracle_proto::v1;
use coracle_proto::v1::tasks_server::Tasks;
use tonic::{Request, Response, Status};

use super::resolve;
use crate::store::Store;

/// The API over tasks.
#[derive(Debug, Clone)]
pub struct TasksApi(pub Store);

struct Selection {
    services: BTreeSet<ServiceId>,
    nodes: BTreeSet<NodeId>,
    tasks: BTreeSet<TaskId>,
    only_wanted: bool,
    with_spec: bool,
}

impl Selection {
    fn parse(state: &State, request: &v1::ListTasksRequest) -> Result<Self, ApiError> {
        Ok(Self {
            services: request
                .services
                .iter()
                .map(|r| Ok(resolve::service(state, r)?.id))
                .collect::<Result<_, ApiError>>()?,
            nodes: request
                .nodes
                .iter()
                .map(|r| Ok(resolve::node(state, r)?.id))
                .collect::<Result<_, ApiError>>()?,
            tasks: request
                .tasks
                .iter()
                .map(|r| Ok(resolve::task(state, r)?.id))
                .collect::<Result<_, ApiError>>()?,
            only_wanted: request.only_wanted,
            with_spec: request.with_spec,
        })
    }

    /// Tasks among which all are that it takes.
    fn candidates<'a>(&self, state: &'a State) -> Vec<&'a Arc<Task>> {
        if !self.services.is_empty() {
            self.services.iter().flat_map(|service| state.tasks_of_service(*service)).collect()
        } else if !self.nodes.is_empty() {
            let mut tasks: Vec<_> = self.nodes.iter().flat_map(|node| state.tasks_on_node(*node)).collect();
            tasks.sort_by_key(|task| task.id);
            tasks
        } else {
            state.tasks().collect()
        }
    }

    fn takes(&self, task: &Task) -> bool {
        (self.services.is_empty() || self.services.contains(&task.service))
            && (self.nodes.is_empty() || task.node.is_some_and(|node| self.nodes.contains(&node)))
            && (self.tasks.is_empty() || self.tasks.contains(&task.id))
            && (!self.only_wanted || task.desired <= DesiredState::Running)
    }
}

fn render(
    state: &State,
    task: &Arc<Task>,
    explanations: &mut Explanations<'_>,
    with_spec: bool,
) -> v1::TaskListItem {
    let service = state.service(task.service);
    let spec = state.task_spec(task.service, task.spec_version);
    let image = spec.map(|spec| spec.container.image.reference.clone());
    let labels = service.filter(|_| with_spec).map(|service| service.spec.labels.clone());
    v1::TaskListItem {
        task: Some((&**task).into()),
        service_name: service
            .map_or_else(|| task.service.to_string(), |service| service.spec.name.to_string()),
        node_hostname: task
            .node
            .and_then(|n| state.node(n))
            .map(|n| n.description.hostname.clone())
            .unwrap_or_default(),
        image: image.unwrap_or_default(),
        waiting: explanations.why(task.id).unwrap_or_default(),
        spec: spec.filter(|_| with_spec).map(|spec| (&**spec).into()),
        service_labels: labels.unwrap_or_default().into_iter().collect(),
        host_ports: spec
            .map(|spec| spec.placement.host_ports.iter().map(Into::into).collect())
            .unwrap_or_default(),
        up_to_date: service.is_some_and(|service| is_up_to_date(state, service, task)),
    }
}

#[tonic::async_trait]
impl Tasks for TasksApi {
    async fn list(
        &self,
        request: Request<v1::ListTasksRequest>,
    ) -> Result<Response<v1::ListTasksResponse>, Status> {
        let view = self.0.barrier().await?;
        let selection = Selection::parse(&view, request.get_ref())?;
        let mut explanations = Explanations::of(&view);
        let tasks = selection
            .candidates(&view)
            .into_iter()
            .filter(|task| selection.takes(task))
            .map(|task| render(&view, task, &mut explanations, selection.with_spec))
            .collect();
        Ok(Response::new(v1::ListTasksResponse { tasks, index: view.index() }))
    }
}
