//! A contiguous, row-major array on a device.

use std::ops::Range;
use std::sync::Arc;

use crate::buffer::{self, Buffer};
use crate::device::Device;
use crate::dtype::{DType, Element};
use crate::rounding;

/// A shared, immutable array. Cloning and reshaping share the storage; writing needs the only handle.
#[derive(Clone)]
pub struct Tensor {
    buffer: Arc<Buffer>,
    /// In elements.
    offset: usize,
    shape: Vec<usize>,
    dtype: DType,
    device: Device,
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({:?}, {:?})", self.dtype, self.shape)
    }
}

impl Tensor {
    /// A tensor whose contents are arbitrary: for outputs that a kernel writes whole.
    pub fn empty(shape: &[usize], dtype: DType, device: Device) -> Self {
        let len: usize = shape.iter().product();
        Tensor { buffer: Arc::new(Buffer::new(len * dtype.size())), offset: 0, shape: shape.to_vec(), dtype, device }
    }

    /// All zeros.
    pub fn zeros(shape: &[usize], dtype: DType, device: Device) -> Self {
        let mut t = Self::empty(shape, dtype, device);
        t.bytes_mut().fill(0);
        t
    }

    /// Copies a host slice to a device.
    #[track_caller]
    pub fn from_slice<T: Element>(data: &[T], shape: &[usize], device: Device) -> Self {
        assert_eq!(
            data.len(),
            shape.iter().product::<usize>(),
            "from_slice: {} elements do not fill {shape:?}",
            data.len()
        );
        let mut t = Self::empty(shape, T::DTYPE, device);
        t.as_mut_slice::<T>().copy_from_slice(data);
        t
    }

    /// A 1-element tensor of shape ().
    pub fn scalar<T: Element>(value: T, device: Device) -> Self {
        Self::from_slice(&[value], &[], device)
    }

    /// The sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.dtype
    }

    /// The device that holds it.
    pub fn device(&self) -> Device {
        self.device
    }

    /// The number of elements.
    pub fn len(&self) -> usize {
        self.shape.iter().product()
    }

    /// True without elements.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The size of the last axis (1 for a scalar).
    pub fn last_axis(&self) -> usize {
        self.shape.last().copied().unwrap_or(1)
    }

    /// The number of rows when all axes but the last are flattened. A last axis of 0 counts the other axes.
    pub fn rows(&self) -> usize {
        self.shape[..self.shape.len().saturating_sub(1)].iter().product()
    }

    /// The same elements under another shape, without a copy.
    #[track_caller]
    pub fn reshape(&self, shape: &[usize]) -> Self {
        assert_eq!(self.len(), shape.iter().product::<usize>(), "reshape: {:?} does not fit {shape:?}", self.shape);
        Tensor { shape: shape.to_vec(), ..self.clone() }
    }

    /// Rows of the first axis, without a copy.
    #[track_caller]
    pub fn slice(&self, rows: Range<usize>) -> Self {
        assert!(rows.start <= rows.end && rows.end <= self.shape[0], "slice: rows {rows:?} of {:?}", self.shape);
        let stride: usize = self.shape[1..].iter().product();
        let mut shape = self.shape.clone();
        shape[0] = rows.len();
        Tensor { offset: self.offset + rows.start * stride, shape, ..self.clone() }
    }

    /// The elements.
    #[track_caller]
    pub fn as_slice<T: Element>(&self) -> &[T] {
        assert_eq!(self.dtype, T::DTYPE, "as_slice: the tensor holds {:?}", self.dtype);
        let all: &[T] = bytemuck::cast_slice(self.buffer.bytes());
        &all[self.offset..self.offset + self.len()]
    }

    /// The elements, for writing. Panics when another handle shares the storage.
    #[track_caller]
    pub fn as_mut_slice<T: Element>(&mut self) -> &mut [T] {
        assert_eq!(self.dtype, T::DTYPE, "as_mut_slice: the tensor holds {:?}", self.dtype);
        let range = self.offset..self.offset + self.len();
        let buffer = Arc::get_mut(&mut self.buffer).expect("writing needs the only handle");
        &mut bytemuck::cast_slice_mut(buffer.bytes_mut())[range]
    }

    fn bytes_mut(&mut self) -> &mut [u8] {
        let size = self.dtype.size();
        let range = self.offset * size..(self.offset + self.len()) * size;
        let buffer = Arc::get_mut(&mut self.buffer).expect("writing needs the only handle");
        &mut buffer.bytes_mut()[range]
    }

    /// A window for writing over the whole tensor.
    pub fn view_mut(&mut self) -> TensorMut<'_> {
        let range = 0..self.len();
        let shape = self.shape.clone();
        TensorMut { tensor: self, range, shape }
    }

    /// A window for writing over a range of elements, seen under `shape`.
    #[track_caller]
    pub fn window_mut(&mut self, range: Range<usize>, shape: &[usize]) -> TensorMut<'_> {
        assert_eq!(range.len(), shape.iter().product::<usize>(), "window_mut: {range:?} as {shape:?}");
        TensorMut { tensor: self, range, shape: shape.to_vec() }
    }

    /// A copy in storage of its own.
    pub fn copy(&self) -> Self {
        self.to_dtype(self.dtype)
    }

    /// A copy with every element rounded to `dtype`.
    pub fn to_dtype(&self, dtype: DType) -> Self {
        let mut out = Tensor::empty(&self.shape, dtype, self.device);
        rounding::convert(&mut out, self);
        out
    }

    /// The elements on the host as f64, whatever the storage.
    pub fn to_f64_vec(&self) -> Vec<f64> {
        fn get<T: Element>(t: &Tensor) -> Vec<f64> {
            t.as_slice::<T>().iter().map(|v| v.to_f64()).collect()
        }
        match self.dtype {
            DType::F32 => get::<f32>(self),
            DType::F64 => get::<f64>(self),
            DType::F16 => get::<half::f16>(self),
            DType::BF16 => get::<half::bf16>(self),
            DType::I32 => get::<i32>(self),
        }
    }

    /// The only element as f64.
    #[track_caller]
    pub fn item(&self) -> f64 {
        assert_eq!(self.len(), 1, "item: the tensor is {:?}", self.shape);
        self.to_f64_vec()[0]
    }
}

/// A window for writing: a whole tensor, or part of one (a gradient that several parts of a packed parameter share).
pub struct TensorMut<'a> {
    tensor: &'a mut Tensor,
    range: Range<usize>,
    shape: Vec<usize>,
}

impl TensorMut<'_> {
    /// The sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        &self.shape
    }

    /// The element type.
    pub fn dtype(&self) -> DType {
        self.tensor.dtype
    }

    /// The elements.
    #[track_caller]
    pub fn as_mut_slice<T: Element>(&mut self) -> &mut [T] {
        &mut self.tensor.as_mut_slice::<T>()[self.range.clone()]
    }
}

/// From now on the contents of `Tensor::empty` are NaN, so that a test sees what a kernel leaves unwritten.
pub fn poison_empty_tensors() {
    buffer::poison_new_buffers();
}

/// (live, peak) bytes of tensor memory on the host, small tensors left out.
pub fn host_memory() -> (usize, usize) {
    buffer::usage()
}
