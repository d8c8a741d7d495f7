//! Keeps others from a volume while somebody works on it or reads it.

use std::sync::PoisonError;

use super::store::Inner;
use super::{VolumeError, VolumeStore};

/// Keeps everybody else from making, filling, replacing or removing the volume of this name.
pub(super) struct NameLock<'a> {
    inner: &'a Inner,
    name: &'a str,
}

impl Drop for NameLock<'_> {
    fn drop(&mut self) {
        self.inner.busy.lock().unwrap_or_else(PoisonError::into_inner).remove(self.name);
        self.inner.freed.notify_all();
    }
}

/// Keeps a volume from being removed or replaced while it is read.
pub(super) struct Reading<'a> {
    store: &'a VolumeStore,
    name: &'a str,
}

impl Drop for Reading<'_> {
    fn drop(&mut self) {
        if let Some(known) = self.store.known().get_mut(self.name) {
            known.backups = known.backups.saturating_sub(1);
        }
    }
}

impl VolumeStore {
    /// Waits until nobody works on the name.
    pub(super) fn lock<'a>(&'a self, name: &'a str) -> NameLock<'a> {
        let inner = &*self.0;
        let busy = inner.busy.lock().unwrap_or_else(PoisonError::into_inner);
        let waited = inner.freed.wait_while(busy, |busy| busy.contains(name));
        waited.unwrap_or_else(PoisonError::into_inner).insert(name.to_owned());
        NameLock { inner, name }
    }

    /// Reads a volume until the answer is dropped.
    pub(super) fn reading<'a>(&'a self, name: &'a str) -> Result<Reading<'a>, VolumeError> {
        let _lock = self.lock(name);
        if !self.check_usable(name)? {
            return Err(VolumeError::NotFound(name.to_owned()));
        }
        if let Some(known) = self.known().get_mut(name) {
            known.backups += 1;
        }
        Ok(Reading { store: self, name })
    }
}
