//! Ragged batches: sequences of different lengths packed into one (tokens, channels) tensor.

use std::sync::Arc;

/// One sequence of an attention problem: a range of query rows, and the keys that they see. Keys that exist only to
/// pad (the text padding of a batch) lie behind the valid ones and are left out of `keys`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First query row.
    pub query: usize,
    /// Number of query rows.
    pub queries: usize,
    /// First key row.
    pub key: usize,
    /// Number of valid keys.
    pub keys: usize,
}

/// The sequences of a batch.
pub type Segments = Arc<[Segment]>;
