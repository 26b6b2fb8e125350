//! Named parameters and buffers.

use std::collections::HashMap;

use mdetr_kernels::{DType, Precision, Tensor};

/// An index into [`Parameters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ParameterId(pub usize);

/// How a tensor lies in memory compared with the published checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Layout {
    /// As published, row-major.
    AsIs,
    /// A convolution's filter: published (O, I, KH, KW), here (O, KH, KW, I), what NHWC convolutions read.
    Filter,
}

/// One tensor of the model: a trainable parameter, a frozen one, or a buffer.
#[derive(Clone, Debug)]
pub struct Parameter {
    /// The published checkpoint's name.
    pub name: String,
    /// The master value.
    pub value: Tensor,
    /// `value` in the compute dtype, if that is another: what matrix products read. The optimizer keeps it up to date.
    pub copy: Option<Tensor>,
    /// Whether matrix products read it in the compute dtype; everything else reads the master.
    pub in_compute_dtype: bool,
    /// How `value` lies compared with the checkpoint.
    pub layout: Layout,
    /// False for statistics and indices that no optimizer touches.
    pub is_buffer: bool,
    /// Whether gradients are computed for it.
    pub requires_grad: bool,
}

impl Parameter {
    /// What a computation in `dtype` reads.
    #[track_caller]
    pub fn value_in(&self, dtype: DType) -> &Tensor {
        if !self.in_compute_dtype || dtype == self.value.dtype() {
            return &self.value;
        }
        match &self.copy {
            Some(copy) if copy.dtype() == dtype => copy,
            other => panic!("{} has no copy in {dtype:?} but {other:?}: set_precision makes it", self.name),
        }
    }

    /// The shape under which the published checkpoint stores it.
    pub fn published_shape(&self) -> Vec<usize> {
        match (self.layout, self.value.shape()) {
            (Layout::Filter, &[o, h, w, i]) => vec![o, i, h, w],
            (_, shape) => shape.to_vec(),
        }
    }

    /// A tensor that lies as `value` does (a gradient, a moment), row-major in the published shape, as f64.
    pub fn to_published(&self, t: &Tensor) -> Vec<f64> {
        let values = t.to_f64_vec();
        match (self.layout, t.shape()) {
            (Layout::Filter, &[o, h, w, i]) => permute_filter(&values, o, h * w, i),
            _ => values,
        }
    }

    /// The inverse of [`Self::to_published`]: f32 values in the published order, in the order of `value`.
    #[track_caller]
    pub fn from_published(&self, values: &[f32]) -> Vec<f32> {
        match (self.layout, self.value.shape()) {
            (Layout::Filter, &[o, h, w, i]) => permute_filter(values, o, i, h * w),
            _ => values.to_vec(),
        }
    }
}

/// (o, a, b) -> (o, b, a).
fn permute_filter<T: Copy>(values: &[T], o: usize, a: usize, b: usize) -> Vec<T> {
    let mut out = Vec::with_capacity(values.len());
    for o in 0..o {
        for j in 0..b {
            for i in 0..a {
                out.push(values[(o * a + i) * b + j]);
            }
        }
    }
    out
}

/// All parameters and buffers of a model, in the order of its construction.
#[derive(Clone, Debug, Default)]
pub struct Parameters {
    list: Vec<Parameter>,
    by_name: HashMap<String, ParameterId>,
}

impl Parameters {
    /// Adds one; panics when the name is taken.
    #[track_caller]
    pub fn push(&mut self, parameter: Parameter) -> ParameterId {
        let id = ParameterId(self.list.len());
        let previous = self.by_name.insert(parameter.name.clone(), id);
        assert!(previous.is_none(), "parameter {} is defined twice", parameter.name);
        self.list.push(parameter);
        id
    }

    /// The number of entries.
    pub fn len(&self) -> usize {
        self.list.len()
    }

    /// True without entries.
    pub fn is_empty(&self) -> bool {
        self.list.is_empty()
    }

    /// The entry called `name`.
    pub fn find(&self, name: &str) -> Option<ParameterId> {
        self.by_name.get(name).copied()
    }

    /// Entries with their ids, in order.
    pub fn iter(&self) -> impl Iterator<Item = (ParameterId, &Parameter)> {
        self.list.iter().enumerate().map(|(i, p)| (ParameterId(i), p))
    }

    /// Entries in order, for changing.
    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ParameterId, &mut Parameter)> {
        self.list.iter_mut().enumerate().map(|(i, p)| (ParameterId(i), p))
    }

    /// The type of the master values: f32, or f64 on the reference path.
    pub fn dtype(&self) -> DType {
        self.list.iter().map(|p| p.value.dtype()).find(|dtype| dtype.is_float()).unwrap_or(DType::F32)
    }

    /// A clone whose master values are `dtype`, without copies in another.
    pub fn to_dtype(&self, dtype: DType) -> Self {
        let mut clone = self.clone();
        for p in clone.list.iter_mut().filter(|p| p.value.dtype().is_float()) {
            p.value = p.value.to_dtype(dtype);
            p.copy = None;
        }
        clone
    }

    /// Makes the copies that a tape of this precision reads, of the master values as they are now.
    pub fn set_precision(&mut self, precision: Precision) {
        let dtype = precision.compute_dtype(self.dtype());
        for p in &mut self.list {
            p.copy = (p.in_compute_dtype && dtype != p.value.dtype()).then(|| p.value.to_dtype(dtype));
        }
    }
}

impl std::ops::Index<ParameterId> for Parameters {
    type Output = Parameter;
    fn index(&self, id: ParameterId) -> &Parameter {
        &self.list[id.0]
    }
}

impl std::ops::IndexMut<ParameterId> for Parameters {
    fn index_mut(&mut self, id: ParameterId) -> &mut Parameter {
        &mut self.list[id.0]
    }
}
