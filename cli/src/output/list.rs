//! Lists of objects in every format.

use clap::Args;
use serde::Serialize;
use serde_json::{Map, Value};

use super::format::Format;
use super::{table, template, write, write_json};

/// The flags of every list.
#[derive(Debug, Clone, Args)]
pub(crate) struct ListArgs {
    /// Only ids (names, where there are no ids)
    #[arg(short, long)]
    pub quiet: bool,
    /// table, json, or a template such as '{{.ID}} {{.Name}}'
    #[arg(long, value_name = "FORMAT", conflicts_with = "quiet")]
    pub format: Option<Format>,
    /// Do not shorten ids and texts
    #[arg(long)]
    pub no_trunc: bool,
}

/// One column: its name in templates and its header.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Column {
    name: &'static str,
    header: &'static str,
    in_table: bool,
}

impl Column {
    /// A column that tables show.
    pub(crate) const fn new(name: &'static str, header: &'static str) -> Self {
        Self { name, header, in_table: true }
    }

    /// A field for templates only.
    pub(crate) const fn hidden(name: &'static str, header: &'static str) -> Self {
        Self { name, header, in_table: false }
    }
}

/// A list that is ready to be written.
#[derive(Debug)]
pub(crate) struct List {
    columns: &'static [Column],
    rows: Vec<Vec<String>>,
    quiet: Vec<String>,
    objects: Vec<Value>,
}

impl List {
    /// An empty list with these columns.
    pub(crate) const fn new(columns: &'static [Column]) -> Self {
        Self { columns, rows: Vec::new(), quiet: Vec::new(), objects: Vec::new() }
    }

    /// Adds an object: what `--quiet` shows of it, its cells and its JSON form.
    pub(crate) fn push(&mut self, quiet: String, cells: Vec<String>, object: &impl Serialize) {
        debug_assert_eq!(cells.len(), self.columns.len(), "a cell for each column");
        self.quiet.push(quiet);
        self.rows.push(cells.iter().map(|cell| super::printable(cell)).collect());
        self.objects.push(serde_json::to_value(object).unwrap_or(Value::Null));
    }

    /// Writes it to the standard output.
    ///
    /// # Errors
    /// When a template does not fit, or the output cannot be written.
    pub(crate) fn print(&self, args: &ListArgs) -> anyhow::Result<()> {
        if args.quiet {
            let lines: String = self.quiet.iter().map(|id| format!("{id}\n")).collect();
            return Ok(write(&lines)?);
        }
        match args.format.as_ref().unwrap_or(&Format::Table) {
            Format::Json => write_json(&self.objects),
            Format::Table => Ok(write(&self.table())?),
            Format::Lines(template) => {
                let mut text = String::new();
                for fields in self.fields() {
                    text.push_str(&template.render(&fields)?);
                    text.push('\n');
                }
                Ok(write(&text)?)
            }
            Format::TableOf(template) => Ok(write(&self.table_of(template)?)?),
        }
    }

    fn table(&self) -> String {
        let shown: Vec<usize> = (0..self.columns.len()).filter(|at| self.columns[*at].in_table).collect();
        let headers: Vec<&str> = shown.iter().map(|at| self.columns[*at].header).collect();
        table::render(
            &headers,
            self.rows.iter().map(|row| shown.iter().map(|at| row[*at].as_str()).collect()),
        )
    }

    fn table_of(&self, columns: &template::Template) -> anyhow::Result<String> {
        let header = columns.headers(|name| {
            let known =
                self.columns.iter().find(|column| template::normal(column.name) == template::normal(name));
            known.map_or_else(|| name.to_uppercase(), |column| column.header.to_owned())
        });
        let rows: Vec<String> =
            self.fields().map(|fields| columns.render(&fields)).collect::<Result<_, _>>()?;
        let headers: Vec<&str> = header.split('\t').collect();
        let count = headers.len();
        let cells =
            rows.iter().map(|row| row.splitn(count, '\t').chain(std::iter::repeat("")).take(count).collect());
        Ok(table::render(&headers, cells))
    }

    /// What templates see of each object: its cells, and its labels by themselves.
    fn fields(&self) -> impl Iterator<Item = Value> + '_ {
        self.rows.iter().zip(&self.objects).map(|(row, object)| {
            let cells = self.columns.iter().zip(row);
            let mut fields: Map<String, Value> =
                cells.map(|(column, cell)| (column.name.to_owned(), Value::String(cell.clone()))).collect();
            if let Some(labels) = object.get("labels") {
                fields.insert("Label".to_owned(), labels.clone());
            }
            Value::Object(fields)
        })
    }
}

/// The id for tables: twelve characters unless all are wanted.
pub(crate) fn short_id(id: &str, args: &ListArgs) -> String {
    if args.no_trunc { id.to_owned() } else { id.chars().take(12).collect() }
}
