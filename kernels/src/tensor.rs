//! A contiguous, row-major array on a device.

use std::any::Any;
use std::ops::Range;
use std::sync::Arc;

use crate::buffer::{self, Buffer};
use crate::cuda::DeviceBuffer;
use crate::derived::Derived;
use crate::device::Device;
use crate::dtype::{DType, Element};
use crate::rounding;

/// A shared, immutable array. Cloning and reshaping share the storage; writing needs the only handle.
#[derive(Clone)]
pub struct Tensor {
    storage: Arc<Storage>,
    /// In elements.
    offset: usize,
    shape: Vec<usize>,
    dtype: DType,
    device: Device,
}

struct Storage {
    memory: Memory,
    derived: Derived,
}

enum Memory {
    Host(Buffer),
    Device(DeviceBuffer),
}

impl Storage {
    #[track_caller]
    fn host(&self) -> &Buffer {
        match &self.memory {
            Memory::Host(buffer) => buffer,
            Memory::Device(_) => panic!("the tensor is on a GPU: its elements are not at hand"),
        }
    }

    #[track_caller]
    fn host_mut(&mut self) -> &mut Buffer {
        match &mut self.memory {
            Memory::Host(buffer) => buffer,
            Memory::Device(_) => panic!("the tensor is on a GPU: its elements are not at hand"),
        }
    }
}

impl std::fmt::Debug for Tensor {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Tensor({:?}, {:?})", self.dtype, self.shape)
    }
}

impl Tensor {
    /// A tensor whose contents are arbitrary: for outputs that a kernel writes whole.
    pub fn empty(shape: &[usize], dtype: DType, device: Device) -> Self {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        let memory = match device {
            Device::Cpu => Memory::Host(Buffer::new(bytes)),
            Device::Cuda(cuda) => {
                let buffer = DeviceBuffer::new(cuda, bytes);
                if buffer::is_poisoning() {
                    buffer.fill(0xFF, 0..bytes);
                }
                Memory::Device(buffer)
            }
        };
        Self::of(memory, shape, dtype, device)
    }

    fn of(memory: Memory, shape: &[usize], dtype: DType, device: Device) -> Self {
        let storage = Storage { memory, derived: Derived::default() };
        Tensor { storage: Arc::new(storage), offset: 0, shape: shape.to_vec(), dtype, device }
    }

    /// All zeros.
    pub fn zeros(shape: &[usize], dtype: DType, device: Device) -> Self {
        let mut t = Self::empty(shape, dtype, device);
        t.zero();
        t
    }

    /// All zeros, of which few will be written: on the host, the others are no memory.
    pub fn sparse_zeros(shape: &[usize], dtype: DType, device: Device) -> Self {
        let bytes = shape.iter().product::<usize>() * dtype.size();
        let sparse = (device == Device::Cpu).then(|| Buffer::sparse_zeros(bytes)).flatten();
        match sparse {
            Some(buffer) => Self::of(Memory::Host(buffer), shape, dtype, device),
            None => Self::zeros(shape, dtype, device),
        }
    }

    /// All zeros, sparse if this tensor was made so.
    pub fn zeros_like(&self, dtype: DType) -> Self {
        let is_sparse = matches!(&self.storage.memory, Memory::Host(buffer) if buffer.is_sparse());
        let make = if is_sparse { Self::sparse_zeros } else { Self::zeros };
        make(&self.shape, dtype, self.device)
    }

    /// The same elements, as [`Self::sparse_zeros`] if few pages of them are not zero: what was sparse before it was stored.
    pub fn thinned(self) -> Self {
        let Memory::Host(buffer) = &self.storage.memory else { return self };
        match Buffer::thinned(&buffer.bytes()[self.byte_range()]) {
            Some(buffer) => Self::of(Memory::Host(buffer), &self.shape, self.dtype, self.device),
            None => self,
        }
    }

    /// Sets all elements to zero.
    #[track_caller]
    pub fn zero(&mut self) {
        self.view_mut().zero();
    }

    /// Copies a host slice to a device (inside of a step of a GPU without waiting for it).
    #[track_caller]
    pub fn from_slice<T: Element>(data: &[T], shape: &[usize], device: Device) -> Self {
        assert_eq!(
            data.len(),
            shape.iter().product::<usize>(),
            "from_slice: {} elements do not fill {shape:?}",
            data.len()
        );
        let mut t = Self::empty(shape, T::DTYPE, device);
        match device {
            Device::Cpu => t.as_mut_slice::<T>().copy_from_slice(data),
            Device::Cuda(cuda) => cuda.upload(t.device_address(), bytemuck::cast_slice(data)),
        }
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
        let all: &[T] = bytemuck::cast_slice(self.storage.host().bytes());
        &all[self.offset..self.offset + self.len()]
    }

    /// The elements, for writing. Panics when another handle shares the storage.
    #[track_caller]
    pub fn as_mut_slice<T: Element>(&mut self) -> &mut [T] {
        assert_eq!(self.dtype, T::DTYPE, "as_mut_slice: the tensor holds {:?}", self.dtype);
        let range = self.offset..self.offset + self.len();
        &mut bytemuck::cast_slice_mut(self.only_storage().host_mut().bytes_mut())[range]
    }

    #[track_caller]
    fn only_storage(&mut self) -> &mut Storage {
        let storage = Arc::get_mut(&mut self.storage).expect("writing needs the only handle");
        storage.derived.forget();
        storage
    }

    /// What was made of the elements before and `fits`, or else what `make` makes of them now. It is kept with them until
    /// somebody writes them.
    pub(crate) fn derived<T: Any + Send + Sync>(
        &self,
        fits: impl Fn(&T) -> bool,
        make: impl FnOnce() -> T,
    ) -> Arc<T> {
        self.storage.derived.get((self.offset, &self.shape), fits, make)
    }

    fn byte_range(&self) -> Range<usize> {
        let size = self.dtype.size();
        self.offset * size..(self.offset + self.len()) * size
    }

    /// Where its first element lies on its GPU, for reading; 0 after a failure there.
    #[track_caller]
    pub fn device_address(&self) -> u64 {
        match &self.storage.memory {
            Memory::Host(_) => panic!("a kernel cannot read {self:?}, which is on the host"),
            Memory::Device(buffer) if buffer.address() == 0 => 0,
            Memory::Device(buffer) => buffer.address() + self.byte_range().start as u64,
        }
    }

    /// Where its first element lies on its GPU, for writing. Panics when another handle shares the storage.
    #[track_caller]
    pub fn device_address_mut(&mut self) -> u64 {
        self.only_storage();
        self.device_address()
    }

    /// The bytes of a host tensor.
    #[track_caller]
    pub(crate) fn host_bytes(&self) -> &[u8] {
        &self.storage.host().bytes()[self.byte_range()]
    }

    /// Part of the storage as another tensor, from a byte on that both types allow.
    #[track_caller]
    pub(crate) fn reinterpret(&self, byte_offset: usize, shape: &[usize], dtype: DType) -> Self {
        let start = self.byte_range().start + byte_offset;
        let bytes = shape.iter().product::<usize>() * dtype.size();
        assert!(
            start.is_multiple_of(dtype.size()) && start + bytes <= self.byte_range().end,
            "reinterpret: {dtype:?} {shape:?} from byte {byte_offset} of {self:?}"
        );
        Tensor { offset: start / dtype.size(), shape: shape.to_vec(), dtype, ..self.clone() }
    }

    /// A copy on a device; the same storage if it is there already. To the host it waits.
    pub fn to_device(&self, device: Device) -> Self {
        if device == self.device {
            return self.clone();
        }
        let mut copy = Tensor::empty(&self.shape, self.dtype, device);
        match (self.device, device) {
            (Device::Cpu, Device::Cuda(cuda)) => {
                cuda.upload(copy.device_address(), self.host_bytes());
            }
            (Device::Cuda(cuda), Device::Cpu) => {
                let range = copy.byte_range();
                let bytes = &mut copy.only_storage().host_mut().bytes_mut()[range];
                cuda.download(bytes, self.device_address());
            }
            _ => return self.to_device(Device::Cpu).to_device(device),
        }
        copy
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
        let Device::Cuda(cuda) = self.device else { return self.to_dtype(self.dtype) };
        let copy = Tensor::empty(&self.shape, self.dtype, self.device);
        cuda.copy_on_device(copy.device_address(), self.device_address(), self.len() * self.dtype.size());
        copy
    }

    /// A copy with every element rounded to `dtype`, by the host: on a GPU it waits (`cast` is the op that does not).
    pub fn to_dtype(&self, dtype: DType) -> Self {
        if self.device != Device::Cpu {
            return self.to_device(Device::Cpu).to_dtype(dtype).to_device(self.device);
        }
        let mut out = Tensor::empty(&self.shape, dtype, self.device);
        rounding::convert(&mut out, self);
        out
    }

    /// The elements on the host as f64, whatever the storage. From a GPU it waits.
    pub fn to_f64_vec(&self) -> Vec<f64> {
        if self.device != Device::Cpu {
            return self.to_device(Device::Cpu).to_f64_vec();
        }
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

    /// Where its first element lies on its GPU, for writing.
    #[track_caller]
    pub fn device_address_mut(&mut self) -> u64 {
        match self.tensor.device_address_mut() {
            0 => 0,
            address => address + (self.range.start * self.dtype().size()) as u64,
        }
    }

    /// Sets all elements to zero.
    #[track_caller]
    pub fn zero(&mut self) {
        let (size, start) = (self.dtype().size(), self.tensor.byte_range().start);
        let range = start + self.range.start * size..start + self.range.end * size;
        match &mut self.tensor.only_storage().memory {
            Memory::Host(buffer) => buffer.bytes_mut()[range].fill(0),
            Memory::Device(buffer) => buffer.fill(0, range),
        }
    }
}

/// From now on the contents of `Tensor::empty` are NaN, so that a test sees what a kernel leaves unwritten.
pub fn poison_empty_tensors() {
    buffer::poison_new_buffers();
}

/// (live, peak) bytes of tensor memory on the host, small and sparse ones left out.
pub fn host_memory() -> (usize, usize) {
    buffer::usage()
}
