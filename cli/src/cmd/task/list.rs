//! Tasks as `service ps` and `node ps` show them: by slot, the newest first, older ones indented.

use clap::Args;
use coracle_proto::v1;

use crate::context::Context;
use crate::opt::filter::{self, Filter, Filters};
use crate::opt::port;
use crate::output::list::{Column, List, ListArgs, short_id};
use crate::output::table::cut;
use crate::output::{json, time, words};

const COLUMNS: &[Column] = &[
    Column::new("ID", "ID"),
    Column::new("Name", "NAME"),
    Column::new("Image", "IMAGE"),
    Column::new("Node", "NODE"),
    Column::new("DesiredState", "DESIRED STATE"),
    Column::new("CurrentState", "CURRENT STATE"),
    Column::new("Error", "ERROR"),
    Column::new("Ports", "PORTS"),
];
const FILTERS: &[&str] =
    &["id", "name", "node", "desired-state", "label", "up-to-date", "runtime", "_up-to-date"];
/// Keys of `--filter` that are asked for what is only sent when it is needed.
const LABEL: &str = "label";
/// Characters of an error in a table, as in Docker's.
const ERROR_WIDTH: usize = 30;

/// The flags of `service ps` and `node ps`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PsArgs {
    /// Only tasks with: id=, name=, node= (self is the node that answers), desired-state=, label= (of the container or the
    /// service), up-to-date=true (runs what its service wants at present), runtime=container (may be repeated)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter::parse)]
    pub filter: Vec<Filter>,
    /// Show ids of services and nodes instead of their names
    #[arg(long)]
    pub no_resolve: bool,
    #[command(flatten)]
    pub list: ListArgs,
}

/// Asks for the tasks and writes them to the standard output.
///
/// # Errors
/// When a filter or a template does not fit, there are no such tasks, or the output cannot be written.
pub(crate) async fn print(
    context: &Context,
    request: v1::ListTasksRequest,
    args: &PsArgs,
) -> anyhow::Result<()> {
    let filters = filters(context, args).await?;
    let request = v1::ListTasksRequest { with_spec: filters.has(LABEL), ..request };
    let answer = context.call(request, async |request| context.tasks().list(request).await).await?;
    write(answer.tasks, &filters, args)
}

async fn filters(context: &Context, args: &PsArgs) -> anyhow::Result<Filters> {
    let mut filters = Filters::new(&args.filter, FILTERS)?;
    // Every state of a task can be asked for, as in Swarm, although managers want few of them.
    filters.check_words("desired-state", &words::wanted_states(), &words::task_states())?;
    filters.check_words("runtime", &["container"], &[])?;
    for key in ["up-to-date", "_up-to-date"] {
        filters.check_words(key, &["true", "false"], &["1", "0"])?;
    }
    if filters.admits_word("node", "self") {
        let request = v1::GetNodeRequest { node: "self".to_owned() };
        let answer = context.call(request, async |request| context.nodes().get(request).await).await?;
        let own = answer.node.and_then(|item| item.node).unwrap_or_default().id;
        filters.replace("node", "self", &own);
    }
    Ok(filters)
}

fn write(tasks: Vec<v1::TaskListItem>, filters: &Filters, args: &PsArgs) -> anyhow::Result<()> {
    let mut tasks: Vec<Row> = tasks.into_iter().map(Row::new).filter(|row| row.admitted(filters)).collect();
    if args.no_resolve {
        tasks.iter_mut().for_each(Row::unresolve);
    }
    tasks.sort_by(|a, b| a.order().cmp(&b.order()));
    let now = time::now();
    let mut list = List::new(COLUMNS);
    let mut previous: Option<String> = None;
    for row in tasks {
        let history = previous.as_ref() == Some(&row.name);
        list.push(short_id(&row.task.id, &args.list), row.cells(history, now, &args.list), &row.json());
        previous = Some(row.name);
    }
    list.print(&args.list)
}

struct Row {
    name: String,
    task: v1::Task,
    item: v1::TaskListItem,
}

impl Row {
    fn new(mut item: v1::TaskListItem) -> Self {
        let task = item.task.take().unwrap_or_default();
        Self { name: format!("{}.{}", item.service_name, words::slot(task.slot.as_ref())), task, item }
    }

    /// Ids in place of names; filters are of names all the same.
    fn unresolve(&mut self) {
        self.name = format!("{}.{}", self.task.service, words::slot(self.task.slot.as_ref()));
        self.item.node_hostname.clone_from(&self.task.node);
    }

    fn admitted(&self, filters: &Filters) -> bool {
        let node = &self.item.node_hostname;
        let up_to_date = if self.item.up_to_date { ["true", "1"] } else { ["false", "0"] };
        filters.admit("id", |wanted| self.task.id.starts_with(wanted))
            && filters.admit("name", |wanted| self.is_named(wanted))
            && filters.admit("node", |wanted| node == wanted || self.task.node.starts_with(wanted))
            && filters.admit("desired-state", |wanted| words::wanted_state(&self.task) == wanted)
            && filters.admit_labels(LABEL, |key| self.label(key))
            && filters.admit("up-to-date", |wanted| up_to_date.contains(&wanted))
            && filters.admit("_up-to-date", |wanted| up_to_date.contains(&wanted))
    }

    /// With the task's id as well, as logs and Docker have it.
    fn is_named(&self, wanted: &str) -> bool {
        self.name.starts_with(wanted) || format!("{}.{}", self.name, self.task.id).starts_with(wanted)
    }

    /// Of the container, else of the service.
    fn label(&self, key: &str) -> Option<&String> {
        let container = self.item.spec.as_ref().and_then(|spec| spec.container.as_ref());
        container
            .and_then(|container| container.labels.get(key))
            .or_else(|| self.item.service_labels.get(key))
    }

    /// By service, then slot, then the newest first.
    fn order(&self) -> (&str, u64, &str, std::cmp::Reverse<u64>, &str) {
        let (number, node) = match self.task.slot.as_ref().and_then(|slot| slot.slot.as_ref()) {
            Some(v1::slot::Slot::Number(number)) => (*number, ""),
            Some(v1::slot::Slot::Node(node)) => (0, node.as_str()),
            None => (u64::MAX, ""),
        };
        (&self.item.service_name, number, node, std::cmp::Reverse(self.task.created_at), &self.task.id)
    }

    fn cells(&self, history: bool, now: u64, args: &ListArgs) -> Vec<String> {
        let status = self.task.status.clone().unwrap_or_default();
        let error = self.error(&status);
        let state = words::capital(&words::task_state(status.state));
        let name = if history { format!(" \\_ {}", self.name) } else { self.name.clone() };
        vec![
            short_id(&self.task.id, args),
            name,
            self.item.image.clone(),
            self.item.node_hostname.clone(),
            words::capital(&words::wanted_state(&self.task)),
            format!("{state} {}", time::ago(status.since, now)),
            if args.no_trunc { error } else { cut(&error, ERROR_WIDTH) },
            self.ports(&status),
        ]
    }

    /// Ports of its node, while it has them.
    fn ports(&self, status: &v1::TaskStatus) -> String {
        if words::holds_ports(status.state) { port::list(&self.item.host_ports) } else { String::new() }
    }

    /// Why it waits, else what went wrong.
    fn error(&self, status: &v1::TaskStatus) -> String {
        if !self.item.waiting.is_empty() {
            return self.item.waiting.clone();
        }
        match &status.exit {
            Some(exit) if status.error.is_empty() && exit.how != Some(v1::exit::How::Code(0)) => {
                words::exit(exit)
            }
            _ => status.error.clone(),
        }
    }

    fn json(&self) -> json::Task {
        v1::TaskListItem { task: Some(self.task.clone()), ..self.item.clone() }.into()
    }
}
