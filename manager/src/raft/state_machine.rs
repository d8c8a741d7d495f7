//! openraft's state machine: applies entries to the [`ReplicatedState`], makes and installs snapshots.

use std::fmt;
use std::io;
use std::marker::PhantomData;
use std::sync::{Arc, Mutex, PoisonError};

use futures::{Stream, StreamExt as _};
use openraft::entry::RaftEntry as _;
use openraft::storage::{ApplyResponder, EntryResponder, RaftSnapshotBuilder, RaftStateMachine};
use openraft::{EntryPayload, OptionalSend};

use super::platform::{Host, Platform};
use super::snapshot::{SnapshotFile, SnapshotStore};
use super::state::{ReplicatedState, SnapshotView};
use super::status::Members;
use super::types::{Applied, Entry, LogId, Snapshot, SnapshotMeta, StoredMembership, TypeConfig, term_of};

/// Entries applied before readers are woken and proposers answered.
const BATCH_ENTRIES: usize = 256;

/// The adapter between openraft and the state.
pub(crate) struct StateMachine<P: Platform = Host> {
    state: Arc<dyn ReplicatedState>,
    snapshots: Arc<SnapshotStore>,
    applied: Option<LogId>,
    membership: StoredMembership,
    _platform: PhantomData<P>,
}

impl<P: Platform> fmt::Debug for StateMachine<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("StateMachine").field("applied", &self.applied).finish_non_exhaustive()
    }
}

impl<P: Platform> StateMachine<P> {
    pub(crate) fn new(state: Arc<dyn ReplicatedState>, snapshots: Arc<SnapshotStore>) -> Self {
        Self {
            state,
            snapshots,
            applied: None,
            membership: StoredMembership::default(),
            _platform: PhantomData,
        }
    }

    fn apply_entry(&mut self, entry: &Entry) -> Applied {
        let (index, term) = (entry.index(), term_of(&entry.log_id));
        self.applied = Some(entry.log_id);
        match &entry.payload {
            EntryPayload::Blank => Applied::default(),
            EntryPayload::Normal(command) => Applied(self.state.apply(index, term, &command.0)),
            EntryPayload::Membership(membership) => {
                self.membership = StoredMembership::new(Some(entry.log_id), membership.clone());
                self.state.membership_changed(index, &Members::from_membership(membership));
                Applied::default()
            }
        }
    }

    fn meta(&self) -> SnapshotMeta {
        SnapshotMeta { last_log_id: self.applied, last_membership: self.membership.clone() }
    }
}

impl<P: Platform> RaftStateMachine<TypeConfig<P>> for StateMachine<P> {
    type SnapshotData = SnapshotFile;
    type SnapshotBuilder = SnapshotBuilder<P>;

    async fn applied_state(&mut self) -> Result<(Option<LogId>, StoredMembership), io::Error> {
        Ok((self.applied, self.membership.clone()))
    }

    async fn apply<Strm>(&mut self, entries: Strm) -> Result<(), io::Error>
    where
        Strm: Stream<Item = Result<EntryResponder<TypeConfig<P>>, io::Error>> + Unpin + OptionalSend,
    {
        let mut batches = entries.ready_chunks(BATCH_ENTRIES);
        while let Some(batch) = batches.next().await {
            let mut answers: Vec<(ApplyResponder<TypeConfig<P>>, Applied)> = Vec::new();
            for item in batch {
                let (entry, responder) = item?;
                coracle_crash_point::crash_point!("raft.apply.before");
                let reply = self.apply_entry(&entry);
                answers.extend(responder.map(|responder| (responder, reply)));
            }
            if let Some(applied) = &self.applied {
                self.state.batch_applied(applied.index, term_of(applied));
            }
            coracle_crash_point::crash_point!("raft.apply.after");
            for (responder, reply) in answers {
                responder.send(reply);
            }
        }
        Ok(())
    }

    async fn try_create_snapshot_builder(&mut self, _force: bool) -> Option<SnapshotBuilder<P>> {
        Some(self.get_snapshot_builder().await)
    }

    async fn get_snapshot_builder(&mut self) -> SnapshotBuilder<P> {
        SnapshotBuilder {
            view: Mutex::new(Some(self.state.snapshot())),
            meta: self.meta(),
            snapshots: self.snapshots.clone(),
            _platform: PhantomData,
        }
    }

    async fn install_snapshot(
        &mut self,
        meta: &SnapshotMeta,
        snapshot: SnapshotFile,
    ) -> Result<(), io::Error> {
        let (state, snapshots, wanted) = (self.state.clone(), self.snapshots.clone(), meta.clone());
        P::blocking(move || {
            // First the file, then the state: a crash in between starts again from the file.
            coracle_crash_point::crash_point!("snapshot.install.before");
            let file = snapshots.adopt(&wanted, snapshot)?;
            coracle_crash_point::crash_point!("snapshot.install.adopted");
            let mut reader = snapshots.reader(&file)?;
            let (index, term) =
                wanted.last_log_id.as_ref().map_or((0, 0), |log_id| (log_id.index, term_of(log_id)));
            state.restore(index, term, &mut reader)?;
            coracle_crash_point::crash_point!("snapshot.install.after");
            reader.finish()?;
            Ok::<_, io::Error>(())
        })
        .await??;
        self.applied = meta.last_log_id;
        self.membership = meta.last_membership.clone();
        tracing::info!(index = self.applied.as_ref().map(|id| id.index), "took over the leader's snapshot");
        let index = meta.last_membership.log_id().map_or(0, |log_id| log_id.index);
        self.state.membership_changed(index, &Members::from_membership(self.membership.membership()));
        if let Some(applied) = &self.applied {
            self.state.batch_applied(applied.index, term_of(applied));
        }
        Ok(())
    }

    async fn get_current_snapshot(&mut self) -> Result<Option<Snapshot>, io::Error> {
        Ok(self.snapshots.current().map(|(meta, snapshot)| Snapshot { meta, snapshot }))
    }
}

/// Writes one captured state to a file.
pub(crate) struct SnapshotBuilder<P: Platform> {
    /// In a mutex only because openraft asks for `Sync`.
    view: Mutex<Option<SnapshotView>>,
    meta: SnapshotMeta,
    snapshots: Arc<SnapshotStore>,
    _platform: PhantomData<P>,
}

impl<P: Platform> fmt::Debug for SnapshotBuilder<P> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.debug_struct("SnapshotBuilder").field("meta", &self.meta).finish_non_exhaustive()
    }
}

impl<P: Platform> RaftSnapshotBuilder<TypeConfig<P>> for SnapshotBuilder<P> {
    type SnapshotData = SnapshotFile;

    async fn build_snapshot(&mut self) -> Result<Snapshot, io::Error> {
        let view = self
            .view
            .get_mut()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
            .ok_or_else(|| io::Error::other("a snapshot builder builds once"))?;
        let (meta, snapshots) = (self.meta.clone(), self.snapshots.clone());
        let snapshot = P::blocking(move || {
            let (name, mut writer) = snapshots.begin(&meta)?;
            coracle_crash_point::crash_point!("snapshot.build.begun");
            let written = view(&mut writer).and_then(|()| writer.finish());
            match written {
                Ok(_) => snapshots.adopt(&meta, snapshots.finished(name)),
                Err(error) => {
                    snapshots.discard(&name);
                    Err(error)
                }
            }
        })
        .await??;
        Ok(Snapshot { meta: self.meta.clone(), snapshot })
    }
}
