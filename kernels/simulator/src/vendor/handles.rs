//! Handles that a library gives out: numbers that look like pointers.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use super::refusal::Refusal;

/// The objects of one type by their handles. A handle is never given out twice, so a destroyed one stays unknown.
pub struct Handles<T> {
    /// What a message calls them: `a matrix layout`.
    what: &'static str,
    live: Mutex<(usize, BTreeMap<usize, T>)>,
}

impl<T: Clone> Handles<T> {
    /// None yet.
    pub const fn new(what: &'static str) -> Self {
        Self { what, live: Mutex::new((0, BTreeMap::new())) }
    }

    /// A new handle of `value`.
    pub fn create<P>(&self, value: T) -> *mut P {
        let mut live = self.lock();
        live.0 += 64;
        let handle = live.0;
        live.1.insert(handle, value);
        std::ptr::without_provenance_mut(handle)
    }

    /// A copy of what `handle` stands for.
    ///
    /// # Errors
    /// If nothing lives there.
    pub fn get<P>(&self, handle: *mut P) -> Result<T, Refusal> {
        self.lock().1.get(&handle.addr()).cloned().ok_or_else(|| self.unknown(handle.addr()))
    }

    /// Changes what `handle` stands for.
    ///
    /// # Errors
    /// If nothing lives there, or `change` fails.
    pub fn update<P>(
        &self,
        handle: *mut P,
        change: impl FnOnce(&mut T) -> Result<(), Refusal>,
    ) -> Result<(), Refusal> {
        let mut live = self.lock();
        change(live.1.get_mut(&handle.addr()).ok_or_else(|| self.unknown(handle.addr()))?)
    }

    /// Forgets `handle`; returns what it stood for.
    ///
    /// # Errors
    /// If nothing lives there.
    pub fn destroy<P>(&self, handle: *mut P) -> Result<T, Refusal> {
        self.lock().1.remove(&handle.addr()).ok_or_else(|| self.unknown(handle.addr()))
    }

    fn lock(&self) -> MutexGuard<'_, (usize, BTreeMap<usize, T>)> {
        self.live.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn unknown(&self, handle: usize) -> Refusal {
        Refusal::Invalid(match handle {
            0 => format!("null, expected {}", self.what),
            _ => format!("{handle:#x} is not {} that lives", self.what),
        })
    }
}
