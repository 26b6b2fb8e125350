//! Values on a tape.

use std::ops::Range;

use mdetr_kernels::Tensor;

use crate::tape::Tape;

/// A value on a tape. Cloning is cheap; dropping every clone frees the value unless an op saved it.
#[derive(Clone)]
pub struct Var<'t> {
    pub(crate) tape: &'t Tape<'t>,
    pub(crate) id: usize,
    pub(crate) value: Tensor,
    pub(crate) requires_grad: bool,
}

impl std::fmt::Debug for Var<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Var {} {:?}", self.id, self.value)
    }
}

impl<'t> Var<'t> {
    /// The tape that it is on.
    pub fn tape(&self) -> &'t Tape<'t> {
        self.tape
    }

    /// The value.
    pub fn value(&self) -> &Tensor {
        &self.value
    }

    /// The sizes of the axes.
    pub fn shape(&self) -> &[usize] {
        self.value.shape()
    }

    /// Whether a gradient flows through it.
    pub fn requires_grad(&self) -> bool {
        self.requires_grad
    }

    /// The same value without a gradient.
    pub fn detach(&self) -> Var<'t> {
        self.tape.constant(self.value.clone())
    }

    /// The same elements under another shape. Free: value and gradient are the same memory.
    #[track_caller]
    pub fn reshape(&self, shape: &[usize]) -> Var<'t> {
        self.view(self.value.reshape(shape), 0)
    }

    /// Rows of the first axis. Free: their gradient is written into the same rows of the whole variable's.
    #[track_caller]
    pub fn rows(&self, rows: Range<usize>) -> Var<'t> {
        let row: usize = self.shape()[1..].iter().product();
        self.view(self.value.slice(rows.clone()), rows.start * row)
    }

    fn view(&self, value: Tensor, offset: usize) -> Var<'t> {
        let id = self.tape.push_view(self, &value, offset);
        Var { tape: self.tape, id, value, requires_grad: self.requires_grad }
    }

    /// Gives the value a name that parity tests and dumps know it by. Free unless somebody observes.
    pub fn observe(&self, name: impl Into<String>) {
        self.tape.observe(name, &self.value);
    }
}
