//! Tasks as `service ps` and `node ps` show them: by slot, the newest first, older ones indented.

use clap::Args;
use coracle_proto::v1;

use crate::opt::filter::{self, Filter, Filters};
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
];
const FILTERS: &[&str] = &["id", "name", "node", "desired-state"];
/// Characters of an error in a table, as in Docker's.
const ERROR_WIDTH: usize = 30;

/// The flags of `service ps` and `node ps`.
#[derive(Debug, Clone, Args)]
pub(crate) struct PsArgs {
    /// Only tasks with: id=, name=, node=, desired-state= (may be repeated)
    #[arg(short, long, value_name = "KEY=VALUE", value_parser = filter::parse)]
    pub filter: Vec<Filter>,
    /// Show ids of services and nodes instead of their names
    #[arg(long)]
    pub no_resolve: bool,
    #[command(flatten)]
    pub list: ListArgs,
}

/// Writes the tasks to the standard output.
///
/// # Errors
/// When a filter or a template does not fit, or the output cannot be written.
pub(crate) fn print(tasks: Vec<v1::TaskListItem>, args: &PsArgs) -> anyhow::Result<()> {
    let filters = Filters::new(&args.filter, FILTERS)?;
    let mut tasks: Vec<Row> = tasks.into_iter().map(Row::new).filter(|row| row.admitted(&filters)).collect();
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
        filters.admit("id", |wanted| self.task.id.starts_with(wanted))
            && filters.admit("name", |wanted| self.name.starts_with(wanted))
            && filters.admit("node", |wanted| node == wanted || self.task.node.starts_with(wanted))
            && filters.admit("desired-state", |wanted| words::desired_state(self.task.desired) == wanted)
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
            words::capital(&words::desired_state(self.task.desired)),
            format!("{state} {}", time::ago(status.since, now)),
            if args.no_trunc { error } else { cut(&error, ERROR_WIDTH) },
        ]
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
