//! Sealed records in sled, in pieces.

use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use coracle_model::id::TaskId;
use coracle_pki::TicketPublicKey;
use coracle_proto::v1;
use coracle_seal::{KeyRing, SealError};
use prost::Message as _;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{debug, warn};

use super::record::{Contents, KeptLog, StoredKeptLog, StoredRecord, StoredTask, TaskRecord};

/// Bytes of one value. sled puts values above 8 KiB into files that it never syncs.
const PIECE: usize = 7 * 1024;
/// Bytes of sled's cache; what is read is read once.
const CACHE: u64 = 1 << 20;
/// Longest wait for the lock of a journal, and the wait between tries.
const LOCK_PATIENCE: Duration = Duration::from_secs(5);
const LOCK_AGAIN: Duration = Duration::from_millis(20);
/// What sled says of one that is locked.
const LOCKED: &str = "could not acquire lock";
/// Bytes of one record: above the largest entry that managers accept.
const RECORD_LIMIT: usize = 4 << 20;

/// A key without the piece's number, and all pieces together.
type SealedRecord = (Vec<u8>, Vec<u8>);

/// What is stored under an id; the first byte of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
enum Kind {
    Assigned = b'a',
    Record = b'r',
    KeptLog = b'l',
    Managers = b'm',
    TicketKey = b'k',
    Term = b't',
}

/// Why the journal could not be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum JournalError {
    #[error("agent's journal {path:?} cannot be {verb}")]
    Io {
        path: PathBuf,
        verb: &'static str,
        #[source]
        source: std::io::Error,
    },
    #[error("agent's journal fails")]
    Store(#[source] sled::Error),
    #[error(
        "agent's journal {path:?} is in use by another process: is another daemon running on this folder?"
    )]
    Locked { path: PathBuf },
    #[error("agent's journal panicked")]
    Panicked,
    #[error("agent's journal cannot seal a record")]
    Seal(#[source] SealError),
    #[error("record of {bytes} bytes is too large for the agent's journal")]
    TooLarge { bytes: usize },
}

impl JournalError {
    /// sled has no kind of its own for this.
    fn is_locked(&self) -> bool {
        matches!(self, Self::Store(sled::Error::Io(error)) if error.to_string().contains(LOCKED))
    }
}

/// The journal. Writes are in memory until the flusher has synced them; a loss costs a look at reality.
#[derive(Debug)]
pub(crate) struct Journal {
    store: sled::Db,
    directory: PathBuf,
    keyring: Arc<KeyRing>,
    changed: Notify,
    /// A failure was told, and nothing has worked since.
    pub(super) failing: AtomicBool,
    /// It lacks something, and the next start must not take it for the truth.
    stale: AtomicBool,
}

impl Journal {
    /// Opens the journal in `directory` and reads all of it. One that does not open is moved aside.
    pub(crate) fn open(directory: &Path, keyring: Arc<KeyRing>) -> Result<(Self, Contents), JournalError> {
        Self::open_by(directory, || Self::open_as_it_is(directory, Arc::clone(&keyring)))
    }

    /// The same with another way to open what is there, which may panic.
    pub(super) fn open_by(
        directory: &Path,
        attempt: impl Fn() -> Result<(Self, Contents), JournalError>,
    ) -> Result<(Self, Contents), JournalError> {
        match Self::open_unlocked(&attempt) {
            Ok(opened) => Ok(opened),
            Err(error) if error.is_locked() => Err(JournalError::Locked { path: directory.to_owned() }),
            Err(error) => {
                let error = coracle_daemon::ErrorChain(&error).to_string();
                warn!(error, path = %directory.display(), "agent's journal does not open and is begun anew");
                move_aside(directory)?;
                guarded(attempt)
            }
        }
    }

    /// Waits for the lock of a journal that was closed a moment ago: sled lets go of it a little later.
    fn open_unlocked(
        attempt: &impl Fn() -> Result<(Self, Contents), JournalError>,
    ) -> Result<(Self, Contents), JournalError> {
        let begun = Instant::now();
        loop {
            match guarded(attempt) {
                Err(error) if error.is_locked() && begun.elapsed() < LOCK_PATIENCE => {
                    std::thread::sleep(LOCK_AGAIN)
                }
                other => return other,
            }
        }
    }

    fn open_as_it_is(directory: &Path, keyring: Arc<KeyRing>) -> Result<(Self, Contents), JournalError> {
        let parent = directory.parent().unwrap_or(directory);
        fs::create_dir_all(parent).map_err(|source| io_error(parent, "made", source))?;
        let config = sled::Config::new()
            .path(directory)
            .cache_capacity(CACHE)
            .mode(sled::Mode::LowSpace)
            // The flusher syncs when there is something to sync.
            .flush_every_ms(None);
        let store = config.open().map_err(JournalError::Store)?;
        let journal = Self {
            store,
            directory: directory.to_owned(),
            keyring,
            changed: Notify::new(),
            failing: AtomicBool::new(false),
            stale: AtomicBool::new(false),
        };
        let contents = journal.read()?;
        Ok((journal, contents))
    }

    fn read(&self) -> Result<Contents, JournalError> {
        let mut contents = Contents::default();
        let mut assigned = std::collections::BTreeMap::new();
        let mut records = std::collections::BTreeMap::new();
        let mut left_out = 0_u64;
        for (prefix, sealed) in self.sealed_records()? {
            let Ok(bytes) = self.keyring.open(&associated_data(&prefix), &sealed) else {
                left_out += 1;
                continue;
            };
            let Some((kind, task)) = read_prefix(&prefix) else { continue };
            match kind {
                b'a' => drop(
                    v1::AssignedTask::decode(&bytes[..])
                        .map(|task_message| assigned.insert(task, task_message)),
                ),
                b'r' => drop(
                    StoredRecord::decode(&bytes[..])
                        .map(|record| records.insert(task, TaskRecord::from(record))),
                ),
                b'l' => {
                    let kept = StoredKeptLog::decode(&bytes[..]).ok().and_then(StoredKeptLog::into_kept);
                    contents.kept_logs.extend(kept.map(|kept| (task, kept)));
                }
                b'm' => contents.managers = v1::ManagerList::decode(&bytes[..]).unwrap_or_default().addresses,
                b't' => contents.term = <[u8; 8]>::try_from(bytes).map_or(0, u64::from_be_bytes),
                b'k' => contents.ticket_key = <[u8; 32]>::try_from(bytes).ok().map(TicketPublicKey),
                other => {
                    debug!(kind = other, "the agent's journal has a record of a kind unknown to this version")
                }
            }
        }
        if left_out > 0 {
            warn!(records = left_out, "records of the agent's journal cannot be opened and are left out");
        }
        contents.tasks = assigned
            .into_iter()
            .filter_map(|(task, assigned)| {
                Some((task, StoredTask { assigned, record: records.remove(&task)? }))
            })
            .collect();
        Ok(contents)
    }

    /// All records, each put together from its pieces.
    fn sealed_records(&self) -> Result<Vec<SealedRecord>, JournalError> {
        let mut records: Vec<SealedRecord> = Vec::new();
        for entry in self.store.iter() {
            let (key, value) = entry.map_err(JournalError::Store)?;
            let Some(prefix) = key.len().checked_sub(2).and_then(|end| key.get(..end)) else { continue };
            if prefix.is_empty() {
                continue;
            }
            match records.last_mut().filter(|(last, _)| last == prefix) {
                Some((_, bytes)) => bytes.extend_from_slice(&value),
                None => records.push((prefix.to_vec(), value.to_vec())),
            }
        }
        Ok(records)
    }

    /// A new task.
    pub(crate) fn put_assigned(&self, task: TaskId, assigned: &v1::AssignedTask) {
        self.put(Kind::Assigned, task, &assigned.encode_to_vec());
    }

    /// What changed of a task.
    pub(crate) fn put_record(&self, task: TaskId, record: &TaskRecord) {
        self.put(Kind::Record, task, &StoredRecord::from(record).encode_to_vec());
    }

    /// A task of which only the log is left.
    pub(crate) fn put_kept_log(&self, task: TaskId, kept: &KeptLog) {
        self.put(Kind::KeptLog, task, &StoredKeptLog::from(kept).encode_to_vec());
    }

    /// Forgets a task.
    pub(crate) fn remove_task(&self, task: TaskId) {
        self.remove(Kind::Assigned, task);
        self.remove(Kind::Record, task);
    }

    /// Forgets a log.
    pub(crate) fn remove_kept_log(&self, task: TaskId) {
        self.remove(Kind::KeptLog, task);
    }

    /// Where managers are, `IP:PORT`.
    pub(crate) fn put_managers(&self, addresses: &[String]) {
        let list = v1::ManagerList { addresses: addresses.to_vec() };
        self.put(Kind::Managers, TaskId::from_bits(0), &list.encode_to_vec());
    }

    /// What verifies image tickets.
    pub(crate) fn put_ticket_key(&self, key: &TicketPublicKey) {
        self.put(Kind::TicketKey, TaskId::from_bits(0), &key.0);
    }

    /// The highest term of a leader that this node has been with.
    pub(crate) fn put_term(&self, term: u64) {
        self.put(Kind::Term, TaskId::from_bits(0), &term.to_be_bytes());
    }

    /// Syncs what was written.
    pub(crate) fn flush(&self) -> Result<(), JournalError> {
        guarded(|| self.store.flush().map(drop).map_err(JournalError::Store))?;
        coracle_crash_point::crash_point!("journal.after-sync");
        Ok(())
    }

    /// Syncs whenever something was written, until `stop`; then once more.
    pub(crate) async fn keep_flushed(self: Arc<Self>, stop: CancellationToken) {
        let mut going_on = true;
        while going_on {
            // Cancel-safe: a notification that came is stored.
            going_on = tokio::select! {
                () = self.changed.notified() => true,
                () = stop.cancelled() => false,
            };
            let journal = Arc::clone(&self);
            // A panic of the flush is an error already; the thread's end says nothing more.
            if let Ok(result) = tokio::task::spawn_blocking(move || journal.flush()).await {
                self.tell(result);
            }
        }
    }

    /// A journal that cannot be written is not worth stopping for: reality and the managers know better.
    fn put(&self, kind: Kind, task: TaskId, bytes: &[u8]) {
        self.tell(self.try_put(kind, task, bytes));
        self.changed.notify_one();
    }

    /// Tells of the first failure in a row: sled fails every time once it has failed.
    pub(super) fn tell(&self, result: Result<(), JournalError>) {
        let Err(error) = result else { return self.failing.store(false, Ordering::Relaxed) };
        if !self.failing.swap(true, Ordering::Relaxed) {
            let error = coracle_daemon::ErrorChain(&error).to_string();
            warn!(error, "agent's journal cannot be written; it is made anew at the next start");
        }
        if matches!(error, JournalError::Store(_) | JournalError::Panicked) {
            self.give_up();
        }
    }

    /// What is on the disk stays as it was when writing failed. Weeks later it would have tasks started that are long gone, so
    /// the next start must not find it: it goes by the containers that there are, and by what the managers say.
    fn give_up(&self) {
        if !self.stale.swap(true, Ordering::Relaxed)
            && let Err(error) = move_aside(&self.directory)
        {
            let error = coracle_daemon::ErrorChain(&error).to_string();
            warn!(
                error,
                "agent's stale journal is still there: delete it before the daemon is started again"
            );
        }
    }

    fn try_put(&self, kind: Kind, task: TaskId, bytes: &[u8]) -> Result<(), JournalError> {
        if bytes.len() > RECORD_LIMIT {
            return Err(JournalError::TooLarge { bytes: bytes.len() });
        }
        let prefix = prefix(kind, task);
        let sealed = self.keyring.seal(&associated_data(&prefix), bytes).map_err(JournalError::Seal)?;
        let mut batch = sled::Batch::default();
        let mut pieces: u16 = 0;
        for piece in sealed.chunks(PIECE) {
            batch.insert(piece_key(&prefix, pieces), piece);
            pieces += 1;
        }
        coracle_crash_point::crash_point!("journal.before-write");
        guarded(|| {
            // A shorter record leaves no pieces of a longer one behind.
            for key in self.store.range(piece_key(&prefix, pieces)..=piece_key(&prefix, u16::MAX)).keys() {
                batch.remove(key.map_err(JournalError::Store)?);
            }
            self.store.apply_batch(std::mem::take(&mut batch)).map_err(JournalError::Store)
        })?;
        coracle_crash_point::crash_point!("journal.after-write");
        Ok(())
    }

    fn remove(&self, kind: Kind, task: TaskId) {
        let prefix = prefix(kind, task);
        let removed = guarded(|| {
            let mut batch = sled::Batch::default();
            for key in self.store.scan_prefix(&prefix).keys() {
                batch.remove(key.map_err(JournalError::Store)?);
            }
            self.store.apply_batch(batch).map_err(JournalError::Store)
        });
        self.tell(removed);
        self.changed.notify_one();
    }
}

/// sled may panic on damaged files; nothing of ours is left half changed by that.
fn guarded<T>(work: impl FnOnce() -> Result<T, JournalError>) -> Result<T, JournalError> {
    catch_unwind(AssertUnwindSafe(work)).unwrap_or(Err(JournalError::Panicked))
}

fn prefix(kind: Kind, task: TaskId) -> Vec<u8> {
    let mut prefix = vec![kind as u8];
    prefix.extend_from_slice(&task.bits().to_be_bytes());
    prefix
}

fn read_prefix(prefix: &[u8]) -> Option<(u8, TaskId)> {
    let (kind, id) = prefix.split_first()?;
    Some((*kind, TaskId::from_bits(u128::from_be_bytes(id.try_into().ok()?))))
}

fn piece_key(prefix: &[u8], number: u16) -> Vec<u8> {
    [prefix, &number.to_be_bytes()].concat()
}

fn associated_data(prefix: &[u8]) -> Vec<u8> {
    [b"coracle agent journal\0", prefix].concat()
}

/// Keeps the last damaged journal for whoever wants to look at it.
fn move_aside(directory: &Path) -> Result<(), JournalError> {
    let mut name = directory.file_name().unwrap_or_default().to_owned();
    name.push(".damaged");
    let aside = directory.with_file_name(name);
    match fs::remove_dir_all(&aside) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            fs::remove_file(&aside).map_err(|_| io_error(&aside, "removed", source))?
        }
        _ => {}
    }
    match fs::rename(directory, &aside) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(io_error(directory, "moved aside", source))
        }
        _ => Ok(()),
    }
}

fn io_error(path: &Path, verb: &'static str, source: std::io::Error) -> JournalError {
    JournalError::Io { path: path.to_owned(), verb, source }
}
