//! Reading a container's log, also while it is written and rotated.

use coracle_runtime_protocol::LOG_FILE;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::fs::inotify;
use serde::Deserialize;
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader, Seek, SeekFrom};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Bytes read at once when looking for the last lines.
const BLOCK: u64 = 64 * 1024;
/// How often the files are looked at again when they are renamed meanwhile.
const ATTEMPTS: usize = 16;

/// Which of the two output streams.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum LogStream {
    /// Standard output.
    Stdout,
    /// Standard error.
    Stderr,
}

/// One line of output, or a part of a very long one, which then has no newline at its end.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct LogEntry {
    /// The text with its newline.
    #[serde(rename = "log")]
    pub text: String,
    /// Where it was written to.
    pub stream: LogStream,
    /// When it was read from the program: RFC 3339 in UTC with nine digits, so times order like their texts.
    pub time: String,
}

/// Where to begin.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LogOptions {
    /// Only the last so many entries of what is there now; `None` is all.
    pub tail: Option<usize>,
    /// Only entries of this time or later, in the format of [`LogEntry::time`] (a shorter text, such as a date,
    /// works too).
    pub since: Option<String>,
}

/// Reads entries in order, oldest file first, and can go on with what is written later.
#[derive(Debug)]
pub struct LogReader {
    directory: PathBuf,
    since: Option<String>,
    /// Being read; `None` before the log exists.
    current: Option<Position>,
    /// The beginning of a line whose end is not written yet.
    partial: Vec<u8>,
    notify: Option<OwnedFd>,
}

#[derive(Debug)]
struct Position {
    reader: BufReader<File>,
    inode: u64,
}

impl LogReader {
    /// Opens the log in a directory (see [`crate::ContainerSummary::log_directory`]). A log that does not exist yet
    /// is empty.
    ///
    /// # Errors
    /// The files cannot be read.
    pub fn open(directory: &Path, options: &LogOptions) -> io::Result<Self> {
        let mut reader = Self {
            directory: directory.to_owned(),
            since: options.since.clone(),
            current: None,
            partial: Vec::new(),
            notify: None,
        };
        match options.tail {
            None => reader.current = reader.oldest()?,
            Some(count) => reader.seek_tail(count)?,
        }
        Ok(reader)
    }

    /// The next entry; `None` if there is none yet. Lines that are no records are passed over.
    ///
    /// # Errors
    /// A file cannot be read.
    pub fn next_entry(&mut self) -> io::Result<Option<LogEntry>> {
        loop {
            let Some(line) = self.next_line()? else { return Ok(None) };
            let Ok(entry) = serde_json::from_slice::<LogEntry>(&line) else { continue };
            if self.since.as_ref().is_none_or(|since| entry.time >= *since) {
                return Ok(Some(entry));
            }
        }
    }

    /// Waits until something may have been written, at most for `timeout`. It may return early for no reason.
    ///
    /// # Errors
    /// The directory cannot be watched.
    pub fn wait(&mut self, timeout: Duration) -> io::Result<()> {
        if self.notify.is_none() {
            let notify = inotify::init(inotify::CreateFlags::CLOEXEC | inotify::CreateFlags::NONBLOCK)?;
            let events =
                inotify::WatchFlags::MODIFY | inotify::WatchFlags::CREATE | inotify::WatchFlags::MOVED_TO;
            inotify::add_watch(&notify, &self.directory, events)?;
            self.notify = Some(notify);
            // What was written before the watch began is not reported by it.
            return Ok(());
        }
        let Some(notify) = &self.notify else { return Ok(()) };
        let timeout = Timespec {
            tv_sec: i64::try_from(timeout.as_secs()).unwrap_or(i64::MAX),
            tv_nsec: i64::from(timeout.subsec_nanos()),
        };
        match poll(&mut [PollFd::new(notify, PollFlags::IN)], Some(&timeout)) {
            Err(rustix::io::Errno::INTR) | Ok(_) => {}
            Err(error) => return Err(error.into()),
        }
        let mut events = [0_u8; 4096];
        while rustix::io::read(notify, &mut events).is_ok_and(|length| length > 0) {}
        Ok(())
    }

    fn next_line(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            if self.current.is_none() {
                self.current = self.oldest()?;
            }
            let Some(position) = &mut self.current else { return Ok(None) };
            position.reader.read_until(b'\n', &mut self.partial)?;
            if self.partial.ends_with(b"\n") {
                return Ok(Some(std::mem::take(&mut self.partial)));
            }
            // Only a file that was rotated away is complete, so look for its successor before giving up on it.
            let Some(next) = self.successor()? else { return Ok(None) };
            let Some(position) = &mut self.current else { return Ok(None) };
            position.reader.read_until(b'\n', &mut self.partial)?;
            if self.partial.ends_with(b"\n") {
                return Ok(Some(std::mem::take(&mut self.partial)));
            }
            // A record that was cut by a crash has no end.
            self.partial.clear();
            self.current = Some(next);
        }
    }

    /// Files from oldest to newest.
    fn files(&self) -> io::Result<Vec<PathBuf>> {
        Ok(self.aged_files()?.into_iter().map(|(_, path)| path).collect())
    }

    /// Files with how often they were rotated, from oldest to newest.
    fn aged_files(&self) -> io::Result<Vec<(u32, PathBuf)>> {
        let mut aged = Vec::new();
        let entries = match fs::read_dir(&self.directory) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
            result => result?,
        };
        for entry in entries {
            let entry = entry?;
            let name = entry.file_name();
            let Some(rest) = name.to_str().and_then(|name| name.strip_prefix(LOG_FILE)) else { continue };
            let age = if rest.is_empty() {
                Some(0)
            } else {
                rest.strip_prefix('.').and_then(|age| age.parse().ok())
            };
            if let Some(age) = age {
                aged.push((age, entry.path()));
            }
        }
        aged.sort_by_key(|(age, _): &(u32, PathBuf)| std::cmp::Reverse(*age));
        Ok(aged)
    }

    fn oldest(&self) -> io::Result<Option<Position>> {
        let files = self.files()?;
        // One may be rotated away between listing and opening.
        Ok(files.iter().find_map(|path| Position::open(path).ok()))
    }

    /// The file that follows the current one, if the current one was rotated.
    fn successor(&self) -> io::Result<Option<Position>> {
        let Some(current) = &self.current else { return Ok(None) };
        let newest = self.directory.join(LOG_FILE);
        match fs::metadata(&newest) {
            Ok(metadata) if metadata.ino() == current.inode => return Ok(None),
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
            Ok(_) => {}
        }
        for _ in 0..ATTEMPTS {
            let files = self.files()?;
            let at = files.iter().position(|path| has_inode(path, current.inode));
            let next = match at {
                Some(at) => files.get(at + 1),
                // So much was written that our file is gone: entries are missing, the oldest ones left come next.
                None => files.first(),
            };
            let Some(path) = next else { return Ok(None) };
            match Position::open(path) {
                Ok(next) if at.is_none() || self.follows(current.inode, next.inode)? => {
                    return Ok(Some(next));
                }
                // Files were renamed while we looked.
                Ok(_) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
            }
        }
        // It is rotated faster than we look; the next call tries again.
        Ok(None)
    }

    /// Whether the file `second` is the one written right after `first`: their ages differ by one, so that no file in between
    /// is passed over in the middle of a rotation.
    fn follows(&self, first: u64, second: u64) -> io::Result<bool> {
        let aged = self.aged_files()?;
        let age = |inode| aged.iter().find(|(_, path)| has_inode(path, inode)).map(|(age, _)| *age);
        Ok(age(first).zip(age(second)).is_some_and(|(first, second)| first == second + 1))
    }

    /// Finds where the last `count` entries begin by walking backwards, so that the cost follows `count`. They are read
    /// forward from there as they are asked for: however many are wanted, only one is in memory.
    fn seek_tail(&mut self, count: usize) -> io::Result<()> {
        let mut wanted = count;
        let mut seen = Vec::new();
        for path in self.files()?.iter().rev() {
            let Ok(mut position) = Position::open(path) else { continue };
            // One that was renamed while we looked shows twice.
            if seen.contains(&position.inode) {
                continue;
            }
            seen.push(position.inode);
            let (start, found) = last_lines(position.reader.get_mut(), wanted)?;
            position.reader.seek(SeekFrom::Start(start))?;
            wanted -= found;
            self.current = Some(position);
            if wanted == 0 {
                break;
            }
        }
        Ok(())
    }
}

fn has_inode(path: &Path, inode: u64) -> bool {
    fs::metadata(path).is_ok_and(|file| file.ino() == inode)
}

impl Position {
    fn open(path: &Path) -> io::Result<Self> {
        let file = File::open(path)?;
        let inode = file.metadata()?.ino();
        Ok(Self { reader: BufReader::new(file), inode })
    }
}

/// Where the last `count` complete lines begin, and how many of them there are.
fn last_lines(file: &mut File, count: usize) -> io::Result<(u64, usize)> {
    use std::os::unix::fs::FileExt;
    let mut end = file.metadata()?.len();
    let mut newlines = 0;
    while end > 0 {
        let start = end.saturating_sub(BLOCK);
        let mut block = vec![0; usize::try_from(end - start).unwrap_or(0)];
        file.read_exact_at(&mut block, start)?;
        for (index, _) in block.iter().enumerate().rev().filter(|(_, byte)| **byte == b'\n') {
            if newlines == count {
                return Ok((start + index as u64 + 1, count));
            }
            newlines += 1;
        }
        end = start;
    }
    Ok((0, newlines))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;

    fn line(number: u32) -> String {
        format!(
            "{{\"log\":\"line {number}\\n\",\"stream\":\"stdout\",\"time\":\"2026-01-01T00:00:{number:02}.000000000Z\"}}\n"
        )
    }

    fn append(directory: &Path, numbers: std::ops::Range<u32>) {
        let mut file = File::options().create(true).append(true).open(directory.join(LOG_FILE)).unwrap();
        for number in numbers {
            file.write_all(line(number).as_bytes()).unwrap();
        }
    }

    fn rotate(directory: &Path) {
        let name = |age: u32| directory.join(format!("{LOG_FILE}.{age}"));
        let _ = fs::rename(name(1), name(2));
        fs::rename(directory.join(LOG_FILE), name(1)).unwrap();
    }

    fn drain(reader: &mut LogReader) -> Vec<u32> {
        let mut numbers = Vec::new();
        while let Some(entry) = reader.next_entry().unwrap() {
            numbers.push(entry.text.trim_start_matches("line ").trim().parse().unwrap());
        }
        numbers
    }

    #[test]
    fn all_files_then_what_follows() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        let mut reader = LogReader::open(path, &LogOptions::default()).unwrap();
        assert!(drain(&mut reader).is_empty());
        append(path, 0..3);
        rotate(path);
        append(path, 3..5);
        assert_eq!(drain(&mut reader), [0, 1, 2, 3, 4]);
        append(path, 5..6);
        rotate(path);
        append(path, 6..8);
        assert_eq!(drain(&mut reader), [5, 6, 7]);
        assert!(drain(&mut reader).is_empty());
    }

    #[test]
    fn half_written_lines_wait_for_their_end() {
        let directory = tempfile::tempdir().unwrap();
        let mut file = File::create(directory.path().join(LOG_FILE)).unwrap();
        let mut reader = LogReader::open(directory.path(), &LogOptions::default()).unwrap();
        let text = line(7);
        file.write_all(&text.as_bytes()[..20]).unwrap();
        assert!(drain(&mut reader).is_empty());
        file.write_all(&text.as_bytes()[20..]).unwrap();
        assert_eq!(drain(&mut reader), [7]);
    }

    #[test]
    fn tail_and_since() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path();
        append(path, 0..5);
        rotate(path);
        append(path, 5..8);
        for (tail, expected) in [(0, 8..8), (2, 6..8), (3, 5..8), (4, 4..8), (8, 0..8), (99, 0..8)] {
            let options = LogOptions { tail: Some(tail), since: None };
            let mut reader = LogReader::open(path, &options).unwrap();
            assert_eq!(drain(&mut reader), expected.collect::<Vec<_>>(), "tail {tail}");
        }
        let both = LogOptions { tail: Some(6), since: Some("2026-01-01T00:00:06".into()) };
        assert_eq!(drain(&mut LogReader::open(path, &both).unwrap()), [6, 7]);
        // What is there when it is opened counts, also when it is rotated before it is read.
        let mut before = LogReader::open(path, &LogOptions { tail: Some(4), since: None }).unwrap();
        rotate(path);
        append(path, 8..8);
        assert_eq!(drain(&mut before), [4, 5, 6, 7]);
        let mut reader = LogReader::open(path, &LogOptions { tail: Some(1), since: None }).unwrap();
        append(path, 8..10);
        assert_eq!(drain(&mut reader), [7, 8, 9]);
        let since = LogOptions { tail: None, since: Some("2026-01-01T00:00:06".into()) };
        assert_eq!(drain(&mut LogReader::open(path, &since).unwrap()), [6, 7, 8, 9]);
    }
}
