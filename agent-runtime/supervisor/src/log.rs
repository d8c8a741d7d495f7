//! The container's log: one JSON object per line of output, in a few files of bounded size.
//!
//! `{"log":"text\n","stream":"stdout","time":"2026-01-02T03:04:05.000000006Z"}`. A line longer than
//! [`LOG_RECORD_BYTES`] is split; the records of its first parts have no newline in `log`.

use crate::time;
use coracle_runtime_protocol::{LOG_FILE, LOG_RECORD_BYTES, LogPlan};
use std::fmt::Write as _;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::PathBuf;

/// Bytes of records that are gathered before they are written.
const BATCH_BYTES: usize = 64 * 1024;

/// Cuts a stream into lines.
#[derive(Debug)]
pub(crate) struct Lines {
    stream: &'static str,
    pending: Vec<u8>,
}

impl Lines {
    pub(crate) fn new(stream: &'static str) -> Self {
        Self { stream, pending: Vec::new() }
    }

    /// Logs the complete lines in `pending` and `bytes`, and keeps the rest.
    pub(crate) fn push(&mut self, mut bytes: &[u8], log: &mut Log) {
        let now = time::now();
        while !bytes.is_empty() {
            let room = LOG_RECORD_BYTES - self.pending.len();
            let window = &bytes[..bytes.len().min(room)];
            let (taken, complete) = match window.iter().position(|&byte| byte == b'\n') {
                Some(newline) => (newline + 1, true),
                None => (window.len(), window.len() == room),
            };
            let (part, rest) = bytes.split_at(taken);
            bytes = rest;
            if complete && self.pending.is_empty() {
                log.record(self.stream, part, now);
            } else {
                self.pending.extend_from_slice(part);
                if complete {
                    log.record(self.stream, &self.pending, now);
                    self.pending.clear();
                }
            }
        }
    }

    /// Logs what is left when the stream ends.
    pub(crate) fn finish(&mut self, log: &mut Log) {
        if !self.pending.is_empty() {
            log.record(self.stream, &self.pending, time::now());
            self.pending.clear();
        }
    }
}

/// Writes records and rotates files. Errors are not fatal: a full disk must not stop the program, so records are
/// dropped until writing works again.
#[derive(Debug)]
pub(crate) struct Log {
    plan: LogPlan,
    file: Option<File>,
    size: u64,
    batch: String,
}

impl Log {
    pub(crate) fn open(plan: &LogPlan) -> io::Result<Self> {
        let mut log = Self { plan: plan.clone(), file: None, size: 0, batch: String::new() };
        if !plan.discard {
            log.reopen()?;
        }
        Ok(log)
    }

    fn reopen(&mut self) -> io::Result<()> {
        let file = File::options().create(true).append(true).open(self.path(0))?;
        self.size = file.metadata()?.len();
        self.file = Some(file);
        Ok(())
    }

    /// Path of the file that was rotated `age` times.
    fn path(&self, age: u32) -> PathBuf {
        let name = if age == 0 { LOG_FILE.to_owned() } else { format!("{LOG_FILE}.{age}") };
        self.plan.directory.join(name)
    }

    fn record(&mut self, stream: &str, line: &[u8], now: u64) {
        if self.plan.discard {
            return;
        }
        self.batch.push_str("{\"log\":\"");
        escape(&mut self.batch, line);
        self.batch.push_str("\",\"stream\":\"");
        self.batch.push_str(stream);
        self.batch.push_str("\",\"time\":\"");
        time::write_rfc3339(&mut self.batch, now);
        self.batch.push_str("\"}\n");
        if self.batch.len() >= BATCH_BYTES || self.size + self.batch.len() as u64 >= self.plan.max_size {
            self.flush();
        }
    }

    /// Hands all gathered records to the kernel, and rotates when the file is full.
    pub(crate) fn flush(&mut self) {
        if self.batch.is_empty() {
            return;
        }
        if self.file.is_none() {
            let _ = self.reopen();
        }
        let written = self.file.as_mut().map(|file| file.write_all(self.batch.as_bytes()));
        if let Some(Ok(())) = written {
            self.size += self.batch.len() as u64;
        }
        self.batch.clear();
        self.batch.shrink_to(BATCH_BYTES);
        if self.size >= self.plan.max_size {
            self.rotate();
        }
    }

    fn rotate(&mut self) {
        self.file = None;
        if self.plan.max_files <= 1 {
            let _ = fs::remove_file(self.path(0));
        }
        for age in (1..self.plan.max_files).rev() {
            let _ = fs::rename(self.path(age - 1), self.path(age));
        }
        let _ = self.reopen();
    }
}

/// Appends bytes as the inside of a JSON string; what is not UTF-8 becomes U+FFFD.
fn escape(text: &mut String, bytes: &[u8]) {
    for chunk in bytes.utf8_chunks() {
        let valid = chunk.valid();
        let mut start = 0;
        for (index, byte) in valid.bytes().enumerate() {
            if byte >= 0x20 && byte != b'"' && byte != b'\\' {
                continue;
            }
            text.push_str(&valid[start..index]);
            start = index + 1;
            match byte {
                b'\n' => text.push_str("\\n"),
                b'\r' => text.push_str("\\r"),
                b'\t' => text.push_str("\\t"),
                b'"' => text.push_str("\\\""),
                b'\\' => text.push_str("\\\\"),
                // Writing to a string cannot fail.
                _ => drop(write!(text, "\\u{byte:04x}")),
            }
        }
        text.push_str(&valid[start..]);
        if !chunk.invalid().is_empty() {
            text.push('\u{fffd}');
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn log(max_size: u64, max_files: u32) -> (tempfile::TempDir, Log) {
        let directory = tempfile::tempdir().unwrap();
        let plan = LogPlan { directory: directory.path().to_owned(), max_size, max_files, discard: false };
        let log = Log::open(&plan).unwrap();
        (directory, log)
    }

    fn texts(directory: &std::path::Path, file: &str) -> Vec<String> {
        fs::read_to_string(directory.join(file))
            .unwrap()
            .lines()
            .map(|line| {
                let value: serde_json::Value = serde_json::from_str(line).unwrap();
                value["log"].as_str().unwrap().to_owned()
            })
            .collect()
    }

    #[test]
    fn lines_come_whole_whatever_the_reads() {
        let (directory, mut log) = log(1 << 20, 2);
        let mut lines = Lines::new("stdout");
        for piece in [&b"one\ntw"[..], b"o\n", b"\n", b"q\"\\\t\x01\xff\n", b"rest"] {
            lines.push(piece, &mut log);
        }
        lines.finish(&mut log);
        log.flush();
        let expected = ["one\n", "two\n", "\n", "q\"\\\t\u{1}\u{fffd}\n", "rest"];
        assert_eq!(texts(directory.path(), LOG_FILE), expected);
    }

    #[test]
    fn long_lines_are_split() {
        let (directory, mut log) = log(1 << 20, 2);
        let mut lines = Lines::new("stderr");
        let long = vec![b'x'; LOG_RECORD_BYTES * 2 + 10];
        lines.push(&long[..100], &mut log);
        lines.push(&long[100..], &mut log);
        lines.push(b"\n", &mut log);
        log.flush();
        let lengths: Vec<usize> = texts(directory.path(), LOG_FILE).iter().map(String::len).collect();
        assert_eq!(lengths, [LOG_RECORD_BYTES, LOG_RECORD_BYTES, 11]);
    }

    #[test]
    fn old_files_go() {
        let (directory, mut log) = log(2_000, 3);
        let mut lines = Lines::new("stdout");
        for number in 0..200 {
            lines.push(format!("line {number}\n").as_bytes(), &mut log);
            log.flush();
        }
        let mut names: Vec<_> = fs::read_dir(directory.path())
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        assert_eq!(names, [LOG_FILE.to_owned(), format!("{LOG_FILE}.1"), format!("{LOG_FILE}.2")]);
        for name in &names {
            assert!(fs::metadata(directory.path().join(name)).unwrap().len() < 2_200);
        }
        let all: Vec<String> = names.iter().rev().flat_map(|name| texts(directory.path(), name)).collect();
        assert_eq!(all.last().unwrap(), "line 199\n");
        let first: usize = all[0].trim_start_matches("line ").trim().parse().unwrap();
        assert_eq!(all.len(), 200 - first);
    }
}
