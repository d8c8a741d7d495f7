//! Writes that rest on what was read: look, decide, propose, as one.
//!
//! A leader decides by its own view without asking anybody whether it still leads. That is safe because of two rules:
//!
//! - The view holds everything that was acknowledged before. It is used only if this manager leads a term of which it has
//!   applied an entry: then all earlier terms are in the view, and this manager acknowledges its own term's writes only after
//!   its view has them.
//! - The write carries that term, and [`apply`](coracle_manager_core::apply) refuses it in any other. So if another manager led
//!   meanwhile, and acknowledged what this view lacks, nothing is written.
//!
//! Whatever is told without a write (a refusal, or that nothing has to change) has no entry of the log to prove it. It is told
//! only if it was decided by a view that a majority confirmed; otherwise the decision is made again by such a view.

use coracle_manager_core::state::View;
use coracle_model::version::Version;
use coracle_proto::status::{ApiError, Reason};

use super::{Store, Write};

/// What is to be done about a request, with what its answer needs.
#[derive(Debug)]
pub enum Decision<T> {
    /// Write this. The term is filled in.
    Write(Write, T),
    /// Nothing has to change: it stands as this version has it.
    Stands(Version, T),
}

/// The state that a decision is made by.
struct Basis {
    view: View,
    /// The term in which the view is everything.
    term: u64,
    /// Whether a majority confirmed it after the request came.
    confirmed: bool,
}

/// What decisions are made on: this manager's store, or a test's.
trait Ground {
    /// What this manager has applied, if that is everything as far as it knows; else what a majority confirms.
    async fn basis(&self) -> Result<Basis, ApiError>;
    /// What a majority confirms to be everything.
    async fn confirmed_basis(&self) -> Result<Basis, ApiError>;
    async fn propose(&self, write: Write) -> Result<Version, ApiError>;
}

impl Ground for Store {
    async fn basis(&self) -> Result<Basis, ApiError> {
        // First the term: the view is at least as new.
        let term = self.replicated.term();
        if term > 0 && self.raft.leading_term() == Some(term) {
            return Ok(Basis { view: self.view(), term, confirmed: false });
        }
        self.confirmed_basis().await
    }

    async fn confirmed_basis(&self) -> Result<Basis, ApiError> {
        self.barrier().await?;
        let term = self.replicated.term();
        Ok(Basis { view: self.view(), term, confirmed: true })
    }

    async fn propose(&self, write: Write) -> Result<Version, ApiError> {
        Self::propose(self, write).await
    }
}

impl Store {
    /// Decides by the newest state and writes what was decided. On the leader.
    ///
    /// Gives the version of the write, or of what stands already, and what the decision gave. `decide` may be called twice.
    ///
    /// # Errors
    /// What `decide` gave; if a rule refuses the write, if this manager does not lead, or if the outcome is unknown.
    pub async fn decide<T>(
        &self,
        decide: impl FnMut(&View) -> Result<Decision<T>, ApiError>,
    ) -> Result<(Version, T), ApiError> {
        decide_on(self, decide).await
    }
}

async fn decide_on<T>(
    ground: &impl Ground,
    mut decide: impl FnMut(&View) -> Result<Decision<T>, ApiError>,
) -> Result<(Version, T), ApiError> {
    let basis = ground.basis().await?;
    let confirmed = basis.confirmed;
    match attempt(ground, basis, &mut decide).await {
        Attempt::Settled(result) => result,
        Attempt::Unproven(result) if confirmed => result,
        Attempt::Unproven(_) => {
            let basis = ground.confirmed_basis().await?;
            attempt(ground, basis, &mut decide).await.into_result()
        }
    }
}

async fn attempt<T>(
    ground: &impl Ground,
    basis: Basis,
    decide: &mut impl FnMut(&View) -> Result<Decision<T>, ApiError>,
) -> Attempt<T> {
    let (write, value) = match decide(&basis.view) {
        Ok(Decision::Write(write, value)) => (write, value),
        Ok(Decision::Stands(version, value)) => return Attempt::Unproven(Ok((version, value))),
        Err(error) => return Attempt::Unproven(Err(error)),
    };
    match ground.propose(Write { term: basis.term, ..write }).await {
        Ok(version) => Attempt::Settled(Ok((version, value))),
        // Nothing was written, and a newer view may lead to another decision.
        Err(error) if rests_on_the_view(error.reason) => Attempt::Unproven(Err(error)),
        Err(error) => Attempt::Settled(Err(error)),
    }
}

/// How a try to decide and write went.
enum Attempt<T> {
    /// The log says so, or it was tried and nobody knows.
    Settled(Result<(Version, T), ApiError>),
    /// Only the view says so; nothing was written.
    Unproven(Result<(Version, T), ApiError>),
}

impl<T> Attempt<T> {
    fn into_result(self) -> Result<(Version, T), ApiError> {
        match self {
            Self::Settled(result) | Self::Unproven(result) => result,
        }
    }
}

/// Whether a refusal by the log says that what was read is not so (any more).
const fn rests_on_the_view(reason: Reason) -> bool {
    matches!(reason, Reason::Stale | Reason::NotFound | Reason::NotLeader)
}

#[cfg(test)]
mod tests {
    use std::cell::RefCell;
    use std::sync::Arc;

    use coracle_manager_core::change::Change;
    use coracle_manager_core::state::State;
    use coracle_manager_core::{Outcome, Proposal, RefusalKind, apply};
    use coracle_model::digest::Digest;
    use coracle_model::image::ImageEntry;
    use coracle_model::node::Platform;
    use coracle_model::time::Timestamp;

    use super::*;

    /// A manager that believes to lead `believed`, and the log that in truth is in `term`.
    struct Fake {
        /// What this manager has applied.
        own: RefCell<State>,
        /// What the log has.
        log: RefCell<State>,
        believed: u64,
        term: u64,
        confirmations: RefCell<u32>,
    }

    impl Fake {
        fn new(believed: u64, term: u64) -> Self {
            Self {
                own: RefCell::default(),
                log: RefCell::default(),
                believed,
                term,
                confirmations: RefCell::default(),
            }
        }

        /// Writes behind this manager's back.
        fn elsewhere(&self, changes: Vec<Change>) {
            self.append(self.term, 0, changes).unwrap();
        }

        fn append(&self, term: u64, fence: u64, changes: Vec<Change>) -> Result<Version, RefusalKind> {
            let mut log = self.log.borrow_mut();
            let index = log.index() + 1;
            let proposal = Proposal {
                changes,
                actor: String::new(),
                reason: String::new(),
                time: Timestamp::from_secs(index),
                idempotency: None,
                term: fence,
            };
            match apply(&mut log, index, term, &proposal).0 {
                Outcome::Applied(version) => Ok(version),
                Outcome::Refused(refusal) => Err(refusal.kind),
            }
        }
    }

    impl Ground for Fake {
        async fn basis(&self) -> Result<Basis, ApiError> {
            let view = Arc::new(self.own.borrow().clone());
            Ok(Basis { view, term: self.believed, confirmed: false })
        }

        async fn confirmed_basis(&self) -> Result<Basis, ApiError> {
            *self.confirmations.borrow_mut() += 1;
            let view = Arc::new(self.log.borrow().clone());
            Ok(Basis { view, term: self.term, confirmed: true })
        }

        async fn propose(&self, write: Write) -> Result<Version, ApiError> {
            self.append(self.term, write.term, write.changes).map_err(|kind| {
                let reason = match kind {
                    RefusalKind::NotFound => Reason::NotFound,
                    RefusalKind::Stale => Reason::Stale,
                    RefusalKind::NotLeader => Reason::NotLeader,
                    _ => Reason::Exists,
                };
                ApiError::new(reason, "refused by the log")
            })
        }
    }

    fn image(name: &str, digest: Digest) -> Change {
        Change::PutImage(ImageEntry {
            name: name.to_owned(),
            version: Version::default(),
            digest,
            size: 0,
            platform: Platform { os: "linux".to_owned(), architecture: "amd64".to_owned() },
            created_at: Timestamp::EPOCH,
        })
    }

    const OLD: Digest = Digest::from_bytes([1; 32]);
    const NEW: Digest = Digest::from_bytes([2; 32]);

    /// Copies the digest that a name stands for to another name: a decision that rests on what was read.
    fn copy(view: &View) -> Result<Decision<Digest>, ApiError> {
        let digest = view
            .image("from")
            .map(|image| image.digest)
            .ok_or_else(|| ApiError::new(Reason::NotFound, "no image from"))?;
        Ok(Decision::Write(Write::internal("test", vec![image("to", digest)]), digest))
    }
    #[tokio::test]
    async fn what_the_own_view_allows_is_written_without_asking_anybody() {
        let fake = Fake::new(3, 3);
        fake.elsewhere(vec![image("from", OLD)]);
        fake.own.replace(fake.log.borrow().clone());
        let (version, digest) = decide_on(&fake, copy).await.unwrap();
        assert_eq!((version.index(), digest), (2, OLD));
        assert_eq!(*fake.confirmations.borrow(), 0);
    }

    #[tokio::test]
    async fn a_refusal_is_told_only_by_a_confirmed_view() {
        let fake = Fake::new(3, 3);
        fake.elsewhere(vec![image("from", NEW)]);
        // The own view is empty.
        let (_, digest) = decide_on(&fake, copy).await.unwrap();
        assert_eq!((digest, *fake.confirmations.borrow()), (NEW, 1));

        let empty = Fake::new(3, 3);
        let refused = decide_on(&empty, copy).await.unwrap_err();
        assert_eq!((refused.reason, *empty.confirmations.borrow()), (Reason::NotFound, 1));
    }

    #[tokio::test]
    async fn that_nothing_has_to_change_is_told_only_by_a_confirmed_view() {
        let fake = Fake::new(3, 3);
        fake.elsewhere(vec![image("to", OLD)]);
        fake.own.replace(fake.log.borrow().clone());
        fake.elsewhere(vec![image("to", NEW)]);
        let stands = |view: &View| {
            let image = view.image("to").ok_or_else(|| ApiError::new(Reason::NotFound, "no image to"))?;
            Ok(Decision::Stands(image.version, image.digest))
        };
        let (version, digest) = decide_on(&fake, stands).await.unwrap();
        assert_eq!((version.index(), digest), (2, NEW));
    }

    #[tokio::test]
    async fn what_a_deposed_leader_decided_by_an_old_view_is_not_written() {
        // It led term 3; another manager has led term 4 and changed what it decides by; now it leads term 5 and does not know.
        let fake = Fake::new(3, 5);
        fake.elsewhere(vec![image("from", OLD)]);
        fake.own.replace(fake.log.borrow().clone());
        fake.elsewhere(vec![image("from", NEW)]);
        let (_, digest) = decide_on(&fake, copy).await.unwrap();
        assert_eq!(digest, NEW);
        assert_eq!(fake.log.borrow().image("to").map(|image| image.digest), Some(NEW));
    }

    #[tokio::test]
    async fn what_may_have_been_done_is_not_tried_again() {
        struct Lost(RefCell<u32>);
        impl Ground for Lost {
            async fn basis(&self) -> Result<Basis, ApiError> {
                Ok(Basis { view: View::default(), term: 1, confirmed: false })
            }
            async fn confirmed_basis(&self) -> Result<Basis, ApiError> {
                panic!("tried again")
            }
            async fn propose(&self, _: Write) -> Result<Version, ApiError> {
                *self.0.borrow_mut() += 1;
                Err(ApiError::new(Reason::OutcomeUnknown, "no answer"))
            }
        }
        let lost = Lost(RefCell::default());
        let write = |_: &View| Ok(Decision::Write(Write::internal("test", vec![image("to", OLD)]), ()));
        assert_eq!(decide_on(&lost, write).await.unwrap_err().reason, Reason::OutcomeUnknown);
        assert_eq!(*lost.0.borrow(), 1);
    }
}
