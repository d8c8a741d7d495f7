//! Snapshots: records one after the other, each with its length in front (protobuf varint).

use std::io::{self, Read, Write};
use std::sync::Arc;

use coracle_manager_core::State;
use coracle_manager_core::state::Record;
use coracle_model::time::Timestamp;
use coracle_model::version::Version;
use coracle_proto::convert::{DecodeError, parse, required};
use coracle_proto::v1;
use coracle_proto::v1::snapshot_record::Record as Stored;
use prost::Message;

use super::CodecError;

/// The format that this version writes and reads.
pub const FORMAT: u32 = 1;
/// Longest record, in bytes: no object can be larger than the entry that made it, with room to spare.
pub const RECORD_LIMIT: usize = 8 << 20;

/// Writes all records of the state.
///
/// # Errors
/// What the writer says.
pub fn write_snapshot(state: &State, writer: &mut dyn Write) -> io::Result<()> {
    let mut buffer = Vec::new();
    for record in state.records() {
        buffer.clear();
        encode_record(&record).encode_length_delimited(&mut buffer).map_err(io::Error::other)?;
        writer.write_all(&buffer)?;
    }
    Ok(())
}

/// Reads a state.
///
/// # Errors
/// What the reader says, and when the bytes are no whole snapshot of a format that this version knows.
pub fn read_snapshot(reader: &mut dyn Read) -> io::Result<State> {
    let mut failure = None;
    let records = std::iter::from_fn(|| match read_record(reader) {
        Ok(record) => record,
        Err(error) => {
            failure = Some(error);
            None
        }
    });
    let state = State::from_records(records);
    match failure {
        Some(error) => Err(error),
        None => state.map_err(|error| io::Error::new(io::ErrorKind::InvalidData, error)),
    }
}

fn read_record(reader: &mut dyn Read) -> io::Result<Option<Record>> {
    let Some(length) = read_length(reader)? else { return Ok(None) };
    if length > RECORD_LIMIT as u64 {
        return Err(invalid(format!("a record of {length} bytes; at most {RECORD_LIMIT} are possible")));
    }
    let mut bytes = vec![0; usize::try_from(length).map_err(io::Error::other)?];
    reader.read_exact(&mut bytes)?;
    let message = v1::SnapshotRecord::decode(bytes.as_slice()).map_err(|error| invalid(error.to_string()))?;
    decode_record(message).map(Some).map_err(|error| invalid(error.to_string()))
}

/// The length in front of a record; none at the end of the snapshot.
fn read_length(reader: &mut dyn Read) -> io::Result<Option<u64>> {
    let mut length = 0u64;
    for place in 0..10 {
        let mut byte = [0];
        match reader.read_exact(&mut byte) {
            Ok(()) => {}
            Err(error) if place == 0 && error.kind() == io::ErrorKind::UnexpectedEof => return Ok(None),
            Err(error) => return Err(error),
        }
        length |= u64::from(byte[0] & 0x7f) << (7 * place);
        if byte[0] < 0x80 {
            return Ok(Some(length));
        }
    }
    Err(invalid("the length of a record has more than ten bytes".to_owned()))
}

fn invalid(problem: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("snapshot: {problem}"))
}

/// A record as it is stored.
#[must_use]
pub fn encode_record(record: &Record) -> v1::SnapshotRecord {
    let stored = match record {
        Record::Header { index, time } => {
            Stored::Header(v1::SnapshotHeader { format: FORMAT, time: time.as_nanos(), index: *index })
        }
        Record::Cluster(cluster) => Stored::Cluster((&**cluster).into()),
        Record::Node(node) => Stored::Node((&**node).into()),
        Record::Departed { node, at } => {
            Stored::DepartedNode(v1::DepartedNode { node: node.to_string(), at: at.as_nanos() })
        }
        Record::Service(service) => Stored::Service((&**service).into()),
        Record::TaskSpec { service, version, spec } => Stored::TaskSpec(v1::StoredTaskSpec {
            service: service.to_string(),
            version: version.index(),
            spec: Some((&**spec).into()),
        }),
        Record::Task(task) => Stored::Task((&**task).into()),
        Record::Image(image) => Stored::Image((&**image).into()),
        Record::File(file) => Stored::File((&**file).into()),
        Record::Content { file, number, content } => {
            Stored::Content(coracle_proto::convert::file::content(*file, *number, content))
        }
        Record::AppliedKey { key, index } => {
            Stored::AppliedKey(v1::AppliedKey { key: key.to_string(), index: *index })
        }
    };
    v1::SnapshotRecord { record: Some(stored) }
}

/// Reads a record.
///
/// # Errors
/// When it is not understood.
pub fn decode_record(message: v1::SnapshotRecord) -> Result<Record, CodecError> {
    let Some(stored) = message.record else { return Err(CodecError::Unknown("record")) };
    Ok(match stored {
        Stored::Header(header) if header.format != FORMAT => {
            let problem = format!("this version reads format {FORMAT}");
            return Err(DecodeError::invalid("snapshot format", header.format, problem).into());
        }
        Stored::Header(header) => {
            Record::Header { index: header.index, time: Timestamp::from_nanos(header.time) }
        }
        Stored::Cluster(cluster) => Record::Cluster(Arc::new(cluster.try_into()?)),
        Stored::Node(node) => Record::Node(Arc::new(node.try_into()?)),
        Stored::DepartedNode(departed) => {
            Record::Departed { node: parse("node", &departed.node)?, at: Timestamp::from_nanos(departed.at) }
        }
        Stored::Service(service) => Record::Service(Arc::new(service.try_into()?)),
        Stored::TaskSpec(row) => Record::TaskSpec {
            service: parse("service", &row.service)?,
            version: Version::new(row.version),
            spec: Arc::new(required("task spec", row.spec)?.try_into()?),
        },
        Stored::Task(task) => Record::Task(Arc::new(task.try_into()?)),
        Stored::Image(image) => Record::Image(Arc::new(image.try_into()?)),
        Stored::File(file) => Record::File(Arc::new(file.try_into()?)),
        Stored::Content(content) => Record::Content {
            file: parse("file", &content.file)?,
            number: content.number,
            content: content.into(),
        },
        Stored::AppliedKey(applied) => {
            Record::AppliedKey { key: parse("idempotency key", &applied.key)?, index: applied.index }
        }
    })
}
