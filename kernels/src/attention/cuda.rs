//! Launches of `attention_mma_fwd.cu`, `attention_mma_bwd.cu`, `attention_tiles.cu` and `attention.cu`.
//!
//! A role's variants lie in several of these files and take the same arguments. The first that can compute a problem does,
//! unless another is chosen.

use crate::cuda::Cuda;
use crate::kernel_source::KernelSource;
use crate::launch::{Arg, element};
use crate::op::GradSlot;
use crate::{DType, Device, Segments, Tensor, args, kernel_source};

/// The op's `.cu` files.
pub const KERNELS: &[KernelSource] = &[MMA_FWD, MMA_BWD, TILES, NAIVE];

const MMA_FWD: KernelSource = kernel_source!("attention_mma_fwd", HALF_HEADS);
const MMA_BWD: KernelSource = kernel_source!("attention_mma_bwd", HALF_HEADS);
const TILES: KernelSource = kernel_source!("attention_tiles", &[&["-DHEAD_DIM=32"], &["-DHEAD_DIM=64"]]);
const NAIVE: KernelSource = kernel_source!("attention");

/// What tensor cores multiply.
const HALF_HEADS: &[&[&str]] = &[
    &["-DELEMENT_T=f16", "-DHEAD_DIM=32"],
    &["-DELEMENT_T=f16", "-DHEAD_DIM=64"],
    &["-DELEMENT_T=bf16", "-DHEAD_DIM=32"],
    &["-DELEMENT_T=bf16", "-DHEAD_DIM=64"],
];

/// Keys of a block where they are split among blocks (`SPLIT` in `attention_mma.cuh`).
const SPLIT: usize = 256;

/// A problem on a GPU.
pub struct Launcher<'a> {
    pub cuda: &'static Cuda,
    pub heads: usize,
    pub segments: &'a Segments,
    /// Where the dropout mask comes from.
    pub philox: Arg,
    /// 0 where nothing is dropped.
    pub dropout: f32,
}

/// The file and the name of a role's variant.
type Variant = (&'static KernelSource, &'static str);

impl Launcher<'_> {
    /// y (Nq, C), logsumexp (Nq, heads). Rows outside of every segment: zeros in y.
    pub fn forward(&self, y: &mut Tensor, logsumexp: &mut Tensor, qkv: [&Tensor; 3]) {
        let [q, k, v] = qkv;
        let (nq, c, scale, segments) = (q.rows(), q.last_axis(), self.scale(q), self.segments());
        if !self.segments.covers(nq) {
            y.zero();
        }
        let variant = self.variant("attention_fwd", &MMA_FWD, &qkv);
        if self.splits(variant) == 1 {
            let args = args![y, logsumexp, q, k, v, segments, self.philox, self.dropout, scale, self.heads, c];
            return self.launch("attention_fwd", variant, qkv, &args);
        }
        let splits = self.splits(variant);
        let mut partial = Tensor::empty(&[splits, nq, c], DType::F32, q.device());
        let mut statistics = Tensor::empty(&[splits, nq, self.heads, 2], DType::F32, q.device()); // (max, sum)
        let args = args![
            &mut partial,
            &mut statistics,
            q,
            k,
            v,
            segments,
            self.philox,
            self.dropout,
            scale,
            splits,
            nq,
            self.heads,
            c
        ];
        self.launch("attention_fwd_split", variant, qkv, &args);
        let args = args![y, logsumexp, &partial, &statistics, segments, self.dropout, scale, nq, self.heads, c];
        self.launch("attention_fwd_combine", (&MMA_FWD, "warp"), qkv, &args);
    }

    pub fn backward(&self, grads: &mut [GradSlot], dy: &Tensor, qkv: [&Tensor; 3], y: &Tensor, logsumexp: &Tensor) {
        let [dq, dk, dv] = grads else { panic!("attention: three gradients") };
        let [q, k, v] = qkv;
        let mut delta = Tensor::empty(logsumexp.shape(), DType::F32, q.device()); // (Nq, heads), sum of dy y
        let args = args![&mut delta, dy, y, delta.len(), self.head_dim(q)];
        let (source, role) = (&NAIVE, "attention_bwd_delta");
        self.cuda.launch(source, role, &[element("T", q.dtype())], &[("sums", delta.len())], &args);
        if dq.is_needed() {
            self.backward_q(dq, dy, qkv, logsumexp, &delta);
        }
        if dk.is_needed() || dv.is_needed() {
            let variant = self.variant("attention_bwd_kv", &MMA_BWD, &[q, k, v, dy]);
            let ([dk, accumulate_dk], [dv, accumulate_dv]) = (dk.args(), dv.args());
            let args = args![
                dk,
                accumulate_dk,
                dv,
                accumulate_dv,
                dy,
                q,
                k,
                v,
                logsumexp,
                &delta,
                self.segments(),
                self.philox,
                self.dropout,
                self.scale(q),
                self.segments.len(),
                k.rows(),
                self.heads,
                q.last_axis()
            ];
            self.launch("attention_bwd_kv", variant, qkv, &args);
        }
    }

    fn backward_q(&self, dq: &mut GradSlot, dy: &Tensor, qkv: [&Tensor; 3], logsumexp: &Tensor, delta: &Tensor) {
        let [q, k, v] = qkv;
        let (nq, c, scale, segments) = (q.rows(), q.last_axis(), self.scale(q), self.segments());
        if let GradSlot::Write(dq) = dq
            && !self.segments.covers(nq)
        {
            dq.zero();
        }
        let [dq, accumulate] = dq.args();
        let variant = self.variant("attention_bwd_q", &MMA_BWD, &[q, k, v, dy]);
        let splits = self.splits(variant);
        if splits == 1 {
            let args = args![
                dq,
                accumulate,
                dy,
                q,
                k,
                v,
                logsumexp,
                delta,
                segments,
                self.philox,
                self.dropout,
                scale,
                self.heads,
                c
            ];
            return self.launch("attention_bwd_q", variant, qkv, &args);
        }
        let mut partial = Tensor::empty(&[splits, nq, c], DType::F32, q.device());
        let args = args![
            &mut partial,
            dy,
            q,
            k,
            v,
            logsumexp,
            delta,
            segments,
            self.philox,
            self.dropout,
            scale,
            splits,
            nq,
            self.heads,
            c
        ];
        self.launch("attention_bwd_q_split", variant, qkv, &args);
        let args = args![dq, accumulate, &partial, segments, scale, nq, c];
        self.launch("attention_bwd_q_combine", (&MMA_BWD, "columns"), qkv, &args);
    }

    fn launch(&self, role: &str, (source, variant): Variant, [q, k, _]: [&Tensor; 3], args: &[Arg]) {
        let mut defines = vec![element("T", q.dtype())];
        if source.name != NAIVE.name {
            defines.push(format!("-DHEAD_DIM={}", self.head_dim(q)));
        }
        let sizes = [
            ("queries", self.segments.most_queries()),
            ("keys", k.rows()),
            ("heads", self.heads),
            ("segments", self.segments.len()),
            ("splits", self.splits((source, variant))),
            ("channels", q.last_axis()),
        ];
        self.cuda.launch_variant(source, role, variant, &defines, &sizes, args);
    }

    /// The variant of a role that is launched for tensors like these, q first.
    fn variant(&self, role: &str, tensor_cores: &'static KernelSource, tensors: &[&Tensor]) -> Variant {
        let (head_dim, dtype) = (self.head_dim(tensors[0]), tensors[0].dtype());
        // They copy 16 bytes at a time: heads are whole ones, from where the tensor begins.
        let has_vectors = [32, 64].contains(&head_dim) && tensors.iter().all(|t| t.device_address() % 16 == 0);
        let chosen = self.cuda.chosen(role);
        let variants: [(Variant, bool); 3] = [
            ((tensor_cores, "tensor_cores"), has_vectors && dtype != DType::F32),
            ((&TILES, "tiles"), has_vectors),
            ((&NAIVE, "naive"), true),
        ];
        let mut able = variants.iter().filter(|(_, is_able)| *is_able).map(|(variant, _)| *variant);
        let chosen = able.clone().find(|(_, name)| chosen.as_deref() == Some(name));
        chosen.or_else(|| able.next()).expect("the naive variant computes everything")
    }

    /// Into how many parts the keys are split: short queries, as a decoder's, are too few blocks for a GPU. A question of
    /// the shape alone, so that results do not depend on the GPU.
    fn splits(&self, (_, variant): Variant) -> usize {
        let keys = self.segments.most_keys();
        let is_split = variant == "tensor_cores" && self.segments.most_queries() <= 128 && keys >= 2 * SPLIT;
        if is_split { keys.div_ceil(SPLIT) } else { 1 }
    }

    fn segments(&self) -> &Tensor {
        self.segments.on_device(Device::Cuda(self.cuda))
    }

    fn head_dim(&self, q: &Tensor) -> usize {
        q.last_axis() / self.heads
    }

    fn scale(&self, q: &Tensor) -> f32 {
        1.0 / (self.head_dim(q) as f32).sqrt()
    }
}
