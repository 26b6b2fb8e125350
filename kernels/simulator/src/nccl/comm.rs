//! Communicators and their handles.

use std::sync::{Arc, Mutex};

use cudarc::nccl::sys::ncclComm_t;

use super::mesh::Mesh;
use super::{Error, lock};
use crate::vendor::Handles;

/// A communicator: a rank among others, until something fails.
#[derive(Debug)]
pub struct Comm {
    /// What all its ranks, and no others, have in common.
    pub id: String,
    mesh: Mesh,
    /// Held during a call, so that calls of several threads do not mix.
    turn: Mutex<()>,
    error: Mutex<Option<Error>>,
}

static COMMS: Handles<Arc<Comm>> = Handles::new("a communicator");

impl Comm {
    /// Registers a communicator.
    pub fn create(id: String, mesh: Mesh) -> ncclComm_t {
        COMMS.create(Arc::new(Self { id, mesh, turn: Mutex::new(()), error: Mutex::new(None) }))
    }

    /// The communicator of a handle.
    ///
    /// # Errors
    /// If there is none, or not any more.
    pub fn find(handle: ncclComm_t) -> Result<Arc<Self>, Error> {
        COMMS.get(handle).map_err(Error::from)
    }

    /// Leaves a communicator: its handle is void, and the other ranks, should they wait for this one, know.
    ///
    /// # Errors
    /// If there is none, or not any more.
    pub fn destroy(handle: ncclComm_t) -> Result<(), Error> {
        let comm = COMMS.destroy(handle)?;
        comm.note(Error::usage("the communicator was destroyed"));
        comm.mesh.leave();
        Ok(())
    }

    /// This process's rank.
    pub fn rank(&self) -> usize {
        self.mesh.rank
    }

    /// How many ranks there are.
    pub fn ranks(&self) -> usize {
        self.mesh.ranks
    }

    /// What failed first.
    pub fn error(&self) -> Option<Error> {
        lock(&self.error).clone()
    }

    /// Does what needs the other ranks. If it fails, so does everything after it, here and there.
    pub fn run(&self, work: impl FnOnce(&Mesh) -> Result<(), Error>) {
        let _turn = lock(&self.turn);
        if self.error().is_none()
            && let Err(error) = work(&self.mesh)
        {
            self.fail(error);
        }
    }

    /// The communicator can do no more: the other ranks are told.
    pub fn fail(&self, error: Error) {
        self.mesh.fail(&error.message);
        self.note(error);
    }

    fn note(&self, error: Error) {
        lock(&self.error).get_or_insert(error);
    }
}
