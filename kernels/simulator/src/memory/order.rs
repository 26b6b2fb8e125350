//! Which pieces of a stream's work come before which.

use std::fmt::Debug;
use std::sync::Arc;

/// What the driver's books know of the pieces of work (launches, copies, library calls) by their numbers, from 1.
pub trait Order: Debug + Send + Sync {
    /// Whether the piece that asks is certain to start after `work` is done.
    fn after(&self, work: u32) -> bool;
    /// How a message calls `work`: `kernel layer_norm_fwd on stream 2`.
    fn name(&self, work: u32) -> String;
}

/// A piece of work that touches memory.
#[derive(Clone, Debug)]
pub struct Work {
    /// Its number, rising in the order of the host's calls; 0 is what was there before anything.
    pub id: u32,
    /// Every piece up to this number is done before this one starts: spares asking for most.
    pub all_before: u32,
    /// The rest.
    pub order: Arc<dyn Order>,
}

impl Work {
    /// Whether this piece starts after `work` is done, or is the same.
    #[inline]
    pub fn after(&self, work: u32) -> bool {
        work <= self.all_before || work == self.id || self.order.after(work)
    }

    /// A piece after all that has a lower number.
    pub fn in_order(id: u32) -> Self {
        #[derive(Debug)]
        struct InOrder;
        impl Order for InOrder {
            fn after(&self, _: u32) -> bool {
                true
            }

            fn name(&self, work: u32) -> String {
                format!("work {work}")
            }
        }
        Self { id, all_before: id, order: Arc::new(InOrder) }
    }
}
