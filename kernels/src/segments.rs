//! Ragged batches: sequences of different lengths packed into one (tokens, channels) tensor.

use std::sync::{Arc, OnceLock};

use crate::{Device, Tensor};

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
#[derive(Clone, Debug, Default)]
pub struct Segments {
    list: Arc<[Segment]>,
    /// The most queries and keys that a sequence may have, where that is not for the list to say.
    bounds: Option<[usize; 2]>,
    on_device: Arc<OnceLock<Tensor>>,
}

impl Segments {
    /// Of a bucket of shapes, whose sequences have so many queries and keys at most: launches depend on that alone. Query rows
    /// may lie behind the last sequence.
    #[track_caller]
    pub fn within(self, queries: usize, keys: usize) -> Self {
        let [most_queries, most_keys] = [self.most_queries(), self.most_keys()];
        assert!(
            most_queries <= queries && most_keys <= keys,
            "segments: {most_queries} queries and {most_keys} keys, room for {queries} and {keys}"
        );
        Segments { bounds: Some([queries, keys]), ..self }
    }

    /// Whether every one of `rows` query rows is surely a sequence's.
    pub fn covers(&self, rows: usize) -> bool {
        self.bounds.is_none() && self.list.iter().map(|s| s.queries).sum::<usize>() == rows
    }

    /// (S, 4) i32 on a GPU: query, queries, key, keys of each. Uploaded the first time.
    pub fn on_device(&self, device: Device) -> &Tensor {
        self.on_device.get_or_init(|| {
            let int = |n: usize| i32::try_from(n).expect("rows fit i32");
            let numbers: Vec<i32> =
                self.list.iter().flat_map(|s| [s.query, s.queries, s.key, s.keys].map(int)).collect();
            Tensor::from_slice(&numbers, &[self.list.len(), 4], device)
        })
    }

    /// The most queries of a sequence.
    pub fn most_queries(&self) -> usize {
        self.bounds.map_or_else(|| self.list.iter().map(|s| s.queries).max().unwrap_or(0), |[queries, _]| queries)
    }

    /// The most keys of a sequence.
    pub fn most_keys(&self) -> usize {
        self.bounds.map_or_else(|| self.list.iter().map(|s| s.keys).max().unwrap_or(0), |[_, keys]| keys)
    }
}

impl std::ops::Deref for Segments {
    type Target = [Segment];
    fn deref(&self) -> &[Segment] {
        &self.list
    }
}

impl FromIterator<Segment> for Segments {
    fn from_iter<I: IntoIterator<Item = Segment>>(segments: I) -> Self {
        Segments { list: segments.into_iter().collect(), ..Segments::default() }
    }
}

impl From<Vec<Segment>> for Segments {
    fn from(segments: Vec<Segment>) -> Self {
        segments.into_iter().collect()
    }
}

/// (B, 3) i32 on a GPU for the cells of feature maps of (h, w) `sizes`, one map after the other: first cell, h, w of each.
pub fn maps_on_device(sizes: &[[usize; 2]], device: Device) -> Tensor {
    let int = |n: usize| i32::try_from(n).expect("cells fit i32");
    let mut first = 0;
    let maps = sizes.iter().flat_map(|&[h, w]| {
        let map = [first, h, w].map(int);
        first += h * w;
        map
    });
    Tensor::from_slice(&maps.collect::<Vec<_>>(), &[sizes.len(), 3], device)
}
