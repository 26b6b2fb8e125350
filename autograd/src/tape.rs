//! The tape: what was computed, and the gradients of it.
//!
//! Push order is a topological order, so backward is one reverse loop. A variable's gradient is written by the last op
//! that used it and accumulated by the earlier ones; it is complete when the loop passes the variable's producer, and a
//! parameter's when the loop passes its first use.

use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;

use mdetr_kernels::op::{Cx, GradSlot, Op, Pass, Saved};
use mdetr_kernels::{DType, Device, Precision, Tensor, rounding};

use crate::gradients::Gradients;
use crate::parameter::{ParameterId, Parameters};
use crate::profile::Profile;
use crate::var::Var;

/// The id of every variable on a tape that records nothing: such a tape may live as long as a program.
const NOT_RECORDED: usize = usize::MAX;

/// Records one step. Dropping it frees what backward would have needed.
pub struct Tape<'p> {
    parameters: &'p Parameters,
    recording: bool,
    precision: Precision,
    cx: RefCell<Cx>,
    graph: RefCell<Graph>,
    profile: RefCell<Option<Profile>>,
    observed: RefCell<Option<Vec<(String, Tensor)>>>,
}

#[derive(Default)]
struct Graph {
    nodes: Vec<Node>,
    vars: Vec<VarInfo>,
    parameters: HashMap<ParameterId, usize>,
}

struct Node {
    op: Box<dyn Op>,
    inputs: Vec<usize>,
    /// Ids of the output variables are consecutive.
    outputs: Range<usize>,
    saved: Saved,
}

struct VarInfo {
    shape: Vec<usize>,
    dtype: DType,
    requires_grad: bool,
    /// For a view: the variable whose memory it shares, and its first element there. Its gradient lives there too.
    view_of: Option<(usize, usize)>,
    parameter: Option<ParameterId>,
    /// The node whose backward completes a parameter's gradient.
    first_use: Option<usize>,
}

impl<'p> Tape<'p> {
    /// A tape for a training step: dropout draws, gradients are recorded. `seed` and `draws` place its random numbers
    /// in the run's stream; [`Tape::draws`] tells where the next step goes on. `parameters` must hold the copies that
    /// `precision` reads ([`Parameters::set_precision`]).
    pub fn training(parameters: &'p Parameters, device: Device, precision: Precision, seed: u64, draws: u64) -> Self {
        Self::new(parameters, true, precision, Cx::new(device, true, true, seed, draws).with_draws_on_device())
    }

    /// A tape with gradients but without dropout: for parity and gradient checks.
    pub fn evaluating_with_gradients(parameters: &'p Parameters, device: Device, precision: Precision) -> Self {
        Self::new(parameters, true, precision, Cx::new(device, false, true, 0, 0))
    }

    /// A tape that records nothing: for inference.
    pub fn inference(parameters: &'p Parameters, device: Device, precision: Precision) -> Self {
        Self::new(parameters, false, precision, Cx::new(device, false, false, 0, 0))
    }

    fn new(parameters: &'p Parameters, recording: bool, precision: Precision, cx: Cx) -> Self {
        Tape {
            parameters,
            recording,
            precision,
            cx: RefCell::new(cx),
            graph: RefCell::default(),
            profile: RefCell::default(),
            observed: RefCell::default(),
        }
    }

    /// Starts measuring the time of every op.
    pub fn with_profile(self) -> Self {
        Tape { profile: RefCell::new(Some(Profile::default())), ..self }
    }

    /// Starts keeping what [`Var::observe`] names.
    pub fn with_observer(self) -> Self {
        Tape { observed: RefCell::new(Some(Vec::new())), ..self }
    }

    /// Whether somebody keeps what [`Var::observe`] names.
    pub fn is_observed(&self) -> bool {
        self.observed.borrow().is_some()
    }

    /// Keeps a value under a name when somebody observes.
    pub fn observe(&self, name: impl Into<String>, value: &Tensor) {
        if let Some(observed) = &mut *self.observed.borrow_mut() {
            observed.push((name.into(), value.clone()));
        }
    }

    /// What was measured.
    pub fn take_profile(&self) -> Option<Profile> {
        self.profile.borrow_mut().take()
    }

    /// What was observed, in order.
    pub fn take_observed(&self) -> Vec<(String, Tensor)> {
        self.observed.borrow_mut().take().unwrap_or_default()
    }

    /// How many random streams the run has taken.
    pub fn draws(&self) -> u64 {
        self.cx.borrow().draws()
    }

    /// Where this tape computes.
    pub fn device(&self) -> Device {
        self.cx.borrow().device
    }

    /// The type of activations and of weights in matrix products.
    pub fn compute_dtype(&self) -> DType {
        self.precision.compute_dtype(self.master_dtype())
    }

    /// The type of master weights, and of everything from logits and boxes on: f32, or f64 on the reference path.
    pub fn master_dtype(&self) -> DType {
        self.parameters.dtype()
    }

    /// The values that parameters on this tape have.
    pub fn parameters(&self) -> &'p Parameters {
        self.parameters
    }

    /// A parameter, in the compute dtype where matrix products read it in that. Asking again gives the same variable: a
    /// shared parameter is one slot.
    #[track_caller]
    pub fn parameter(&self, id: ParameterId) -> Var<'_> {
        let parameter = &self.parameters[id];
        let value = parameter.value_in(self.compute_dtype());
        let known = self.graph.borrow().parameters.get(&id).copied();
        let var = known.unwrap_or_else(|| {
            let requires_grad = parameter.requires_grad && self.recording;
            let var = self.push_var(value, requires_grad, Some(id));
            if self.recording {
                self.graph.borrow_mut().parameters.insert(id, var);
            }
            var
        });
        self.var(var, value.clone())
    }

    /// A value without gradient.
    pub fn constant(&self, value: Tensor) -> Var<'_> {
        let id = self.push_var(&value, false, None);
        self.var(id, value)
    }

    /// A value whose gradient is wanted.
    pub fn leaf(&self, value: Tensor) -> Var<'_> {
        let id = self.push_var(&value, self.recording, None);
        self.var(id, value)
    }

    fn var(&self, id: usize, value: Tensor) -> Var<'_> {
        let requires_grad = self.recording && self.graph.borrow().vars[id].requires_grad;
        Var { tape: self, id, value, requires_grad }
    }

    fn push_var(&self, value: &Tensor, requires_grad: bool, parameter: Option<ParameterId>) -> usize {
        if !self.recording {
            return NOT_RECORDED;
        }
        let vars = &mut self.graph.borrow_mut().vars;
        vars.push(VarInfo {
            shape: value.shape().to_vec(),
            dtype: value.dtype(),
            requires_grad,
            view_of: None,
            parameter,
            first_use: None,
        });
        vars.len() - 1
    }

    /// Notes a view of `of` that starts at its element `offset`: it shares memory and gradient.
    pub(crate) fn push_view(&self, of: &Var, value: &Tensor, offset: usize) -> usize {
        let id = self.push_var(value, of.requires_grad, None);
        if !self.recording {
            return id;
        }
        let vars = &mut self.graph.borrow_mut().vars;
        let (owner, start) = vars[of.id].view_of.unwrap_or((of.id, 0));
        vars[id].view_of = Some((owner, start + offset));
        id
    }

    /// Runs an op and records it when one of its inputs needs a gradient.
    #[track_caller]
    pub fn apply<'t>(&'t self, op: impl Op + 'static, inputs: &[&Var<'t>]) -> Vec<Var<'t>> {
        let values: Vec<&Tensor> = inputs.iter().map(|v| &v.value).collect();
        let needs_grad = self.recording && inputs.iter().any(|v| v.requires_grad);
        let outputs = self.timed(&op, Pass::Forward, &values, || {
            let cx = &mut *self.cx.borrow_mut();
            cx.saving = needs_grad;
            rounding::forward(&op, cx, &values)
        });
        let ids: Vec<usize> =
            outputs.tensors.iter().map(|t| self.push_var(t, needs_grad && t.dtype().is_float(), None)).collect();
        if needs_grad {
            self.record(Box::new(op), inputs, ids[0]..ids[0] + ids.len(), outputs.saved);
        }
        ids.into_iter().zip(outputs.tensors).map(|(id, value)| self.var(id, value)).collect()
    }

    fn record(&self, op: Box<dyn Op>, inputs: &[&Var], outputs: Range<usize>, saved: Saved) {
        let graph = &mut *self.graph.borrow_mut();
        let node = graph.nodes.len();
        let inputs: Vec<usize> = inputs.iter().map(|v| v.id).collect();
        for &input in &inputs {
            let owner = graph.owner(input);
            graph.vars[owner].first_use.get_or_insert(node);
            let uses = inputs.iter().filter(|&&i| graph.owner(i) == owner).count();
            assert!(
                uses == 1 || !graph.vars[owner].requires_grad,
                "{}: one variable is two inputs; their gradients would collide",
                op.name()
            );
        }
        graph.nodes.push(Node { op, inputs, outputs, saved });
    }

    fn timed<R>(&self, op: &dyn Op, pass: Pass, inputs: &[&Tensor], run: impl FnOnce() -> R) -> R {
        if self.profile.borrow().is_none() {
            return run();
        }
        let start = std::time::Instant::now();
        let result = run();
        // A failure shows at the step's end.
        self.device().cuda().into_iter().for_each(|cuda| drop(cuda.synchronize()));
        let elapsed = start.elapsed();
        if let Some(profile) = &mut *self.profile.borrow_mut() {
            let cost = if inputs.is_empty() { Default::default() } else { op.cost(pass, inputs) };
            profile.record(op.name(), pass, elapsed, cost);
        }
        result
    }

    /// The gradients of a scalar. The tape's record is used up.
    pub fn backward(&self, loss: &Var) -> Gradients {
        let one = Tensor::from_slice(&[1.0f64], loss.shape(), Device::Cpu).to_dtype(loss.value.dtype());
        self.backward_of(loss, one.to_device(self.device()))
    }

    /// The gradients of a scalar when its own is `gradient` (), so that small ones are not zero in f16.
    pub fn backward_of(&self, loss: &Var, gradient: Tensor) -> Gradients {
        self.backward_onto(loss, gradient, Gradients::default())
    }

    /// [`Self::backward_of`], added to what an earlier tape of the same parameters left.
    pub fn backward_onto(&self, loss: &Var, gradient: Tensor, earlier: Gradients) -> Gradients {
        self.run_backward(vec![(loss, gradient)], earlier, |_, _| {})
    }

    /// The gradients for given gradients of some variables. `on_ready` is called with each parameter as soon as its
    /// gradient is complete, in the order in which that happens.
    pub fn backward_from(&self, seeds: Vec<(&Var, Tensor)>, on_ready: impl FnMut(ParameterId, &Tensor)) -> Gradients {
        self.run_backward(seeds, Gradients::default(), on_ready)
    }

    fn run_backward(
        &self,
        seeds: Vec<(&Var, Tensor)>,
        earlier: Gradients,
        mut on_ready: impl FnMut(ParameterId, &Tensor),
    ) -> Gradients {
        let mut graph = std::mem::take(&mut *self.graph.borrow_mut());
        let mut grads: Vec<Option<Tensor>> = graph.vars.iter().map(|_| None).collect();
        for (var, grad) in seeds {
            assert_eq!(var.value.shape(), grad.shape(), "backward: gradient of {var:?}");
            assert!(graph.vars[var.id].view_of.is_none(), "backward: {var:?} is a view");
            grads[var.id] = Some(grad);
        }
        let mut done = vec![Vec::new(); graph.nodes.len()]; // parameters whose gradient a node's backward completes
        for var in &graph.vars {
            if let (Some(parameter), Some(node)) = (var.parameter, var.first_use) {
                done[node].push((parameter, graph.parameters[&parameter]));
            }
        }
        let mut result = Gradients { parameters: earlier.parameters, ..Gradients::default() };
        for &(parameter, var) in done.iter().flatten() {
            grads[var] = result.parameters.remove(&parameter);
        }
        while let Some(node) = graph.nodes.pop() {
            self.backward_node(node, &graph.vars, &mut grads);
            for &(parameter, var) in &done[graph.nodes.len()] {
                if let Some(grad) = grads[var].take() {
                    on_ready(parameter, &grad);
                    result.parameters.insert(parameter, grad);
                }
            }
        }
        result.leaves = grads.into_iter().enumerate().filter_map(|(i, g)| g.map(|g| (i, g))).collect();
        result
    }

    fn backward_node(&self, node: Node, vars: &[VarInfo], grads: &mut [Option<Tensor>]) {
        let grad_outs: Vec<Option<Tensor>> = node.outputs.clone().map(|id| grads[id].take()).collect();
        if grad_outs.iter().all(Option::is_none) {
            return;
        }
        // Each input's gradient tensor is taken out of the table while the op writes it.
        let mut targets: Vec<Option<Target>> =
            node.inputs.iter().map(|&id| Target::take(id, vars, grads, &*node.op, self.device())).collect();
        let mut slots: Vec<GradSlot> =
            targets.iter_mut().map(|t| t.as_mut().map_or(GradSlot::Skip, Target::slot)).collect();
        let grad_outs: Vec<Option<&Tensor>> = grad_outs.iter().map(Option::as_ref).collect();
        self.timed(&*node.op, Pass::Backward, &[], || {
            let cx = &mut *self.cx.borrow_mut();
            rounding::backward(&*node.op, cx, node.saved, &grad_outs, &mut slots);
        });
        drop(slots);
        for target in targets.into_iter().flatten() {
            grads[target.owner] = Some(target.grad);
        }
    }
}

impl Graph {
    /// The variable that holds the memory (and the gradient) of `id`.
    fn owner(&self, id: usize) -> usize {
        self.vars[id].view_of.map_or(id, |(owner, _)| owner)
    }
}

/// The gradient of an op's input while the op writes it.
struct Target<'g> {
    owner: usize,
    grad: Tensor,
    accumulate: bool,
    window: Range<usize>,
    shape: &'g [usize],
}

impl<'g> Target<'g> {
    fn take(
        id: usize,
        vars: &'g [VarInfo],
        grads: &mut [Option<Tensor>],
        op: &dyn Op,
        device: Device,
    ) -> Option<Self> {
        let var = &vars[id];
        if !var.requires_grad {
            return None;
        }
        let (owner, start) = var.view_of.unwrap_or((id, 0));
        let window = start..start + var.shape.iter().product::<usize>();
        let is_part = window.len() < vars[owner].shape.iter().product();
        let existing = grads[owner].take();
        // Other parts of a shared gradient may come later or never, so the first writer zeroes it all.
        let accumulate = existing.is_some() || is_part || op.has_sparse_gradients();
        let make = match (op.has_sparse_gradients(), is_part) {
            (true, _) => Tensor::sparse_zeros,
            (false, true) => Tensor::zeros,
            (false, false) => Tensor::empty,
        };
        let grad = existing.unwrap_or_else(|| make(&vars[owner].shape, var.dtype, device));
        Some(Target { owner, grad, accumulate, window, shape: &var.shape })
    }

    fn slot(&mut self) -> GradSlot<'_> {
        let window = self.grad.window_mut(self.window.clone(), self.shape);
        if self.accumulate { GradSlot::Accumulate(window) } else { GradSlot::Write(window) }
    }
}
