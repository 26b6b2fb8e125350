//! Typed wrappers: one function an op, from variables to variables.

use std::sync::Arc;

use mdetr_kernels::activation::Activation;
use mdetr_kernels::add::Add;
use mdetr_kernels::attention::Attention;
use mdetr_kernels::box_loss::BoxLoss;
use mdetr_kernels::caption_contrastive_loss::CaptionContrastiveLoss;
use mdetr_kernels::cast::Cast;
use mdetr_kernels::contrastive_align_loss::ContrastiveAlignLoss;
use mdetr_kernels::conv2d::{Conv2d, ConvGeometry};
use mdetr_kernels::dropout::Dropout;
use mdetr_kernels::embedding::Embedding;
use mdetr_kernels::gather_rows::GatherRows;
use mdetr_kernels::group_norm::GroupNorm;
use mdetr_kernels::l2_normalize::L2Normalize;
use mdetr_kernels::layer_norm::LayerNorm;
use mdetr_kernels::linear::Linear;
use mdetr_kernels::max_pool::MaxPool;
use mdetr_kernels::mean_rows::MeanRows;
use mdetr_kernels::position_learned::PositionLearned;
use mdetr_kernels::residual_norm::ResidualNorm;
use mdetr_kernels::soft_token_loss::SoftTokenLoss;
use mdetr_kernels::weighted_sum::WeightedSum;
use mdetr_kernels::{DType, Segments, Tensor};

use crate::var::Var;

/// x (..., I), w (O, I), b (O) -> act(x w^T + b) (..., O).
#[track_caller]
pub fn linear<'t>(x: &Var<'t>, w: &Var<'t>, b: &Var<'t>, activation: Activation) -> Var<'t> {
    x.tape().apply(Linear { activation }, &[x, w, b]).remove(0)
}

/// Layer normalization of the last axis: x (..., C), w (C), b (C).
#[track_caller]
pub fn layer_norm<'t>(x: &Var<'t>, w: &Var<'t>, b: &Var<'t>, eps: f64) -> Var<'t> {
    x.tape().apply(LayerNorm { eps }, &[x, w, b]).remove(0)
}

/// [`layer_norm`] of x + [`dropout`] of r, both (..., C), in one pass.
#[track_caller]
pub fn residual_norm<'t>(x: &Var<'t>, r: &Var<'t>, w: &Var<'t>, b: &Var<'t>, p: f32, eps: f64) -> Var<'t> {
    x.tape().apply(ResidualNorm { p, eps }, &[x, r, w, b]).remove(0)
}

/// [`residual_norm`], and its sum with positions (Q, C) that repeat over the rows.
#[track_caller]
pub fn residual_norm_with_positions<'t>(
    x: &Var<'t>,
    r: &Var<'t>,
    w: &Var<'t>,
    b: &Var<'t>,
    positions: &Var<'t>,
    p: f32,
    eps: f64,
) -> (Var<'t>, Var<'t>) {
    pair(x.tape().apply(ResidualNorm { p, eps }, &[x, r, w, b, positions]))
}

/// a (..., S) + b (S), repeated over the leading axes of a; S is any shape.
#[track_caller]
pub fn add<'t>(a: &Var<'t>, b: &Var<'t>) -> Var<'t> {
    a.tape().apply(Add, &[a, b]).remove(0)
}

/// x in another float type; x itself when it has that already.
#[track_caller]
pub fn cast<'t>(x: &Var<'t>, to: DType) -> Var<'t> {
    if x.value().dtype() == to { x.clone() } else { x.tape().apply(Cast { to }, &[x]).remove(0) }
}

/// Zeroes an element with probability p and scales the others by 1 / (1 - p), in training; the identity elsewhere.
#[track_caller]
pub fn dropout<'t>(x: &Var<'t>, p: f32) -> Var<'t> {
    if p == 0.0 { x.clone() } else { x.tape().apply(Dropout { p }, &[x]).remove(0) }
}

/// table (V, C), ids (S, i32) -> rows of the table (S, C); the row of `padding_idx` gets no gradient.
#[track_caller]
pub fn embedding<'t>(table: &Var<'t>, ids: &Tensor, padding_idx: Option<usize>) -> Var<'t> {
    let tape = table.tape();
    tape.apply(Embedding { padding_idx }, &[table, &tape.constant(ids.clone())]).remove(0)
}

/// index (M, i32), sources (N1, C), ... -> rows (M, C) of the sources, one below the other; -1 gives zeros.
#[track_caller]
pub fn gather_rows<'t>(index: &Tensor, sources: &[&Var<'t>]) -> Var<'t> {
    let tape = sources[0].tape();
    let index = tape.constant(index.clone());
    tape.apply(GatherRows, &[&[&index], sources].concat()).remove(0)
}

/// Means of groups of rows: x (N, C), index (K, i32), offsets (M + 1, i32) -> (M, C).
#[track_caller]
pub fn mean_rows<'t>(x: &Var<'t>, index: &Tensor, offsets: &Tensor) -> Var<'t> {
    let tape = x.tape();
    tape.apply(MeanRows, &[x, &tape.constant(index.clone()), &tape.constant(offsets.clone())]).remove(0)
}

/// x / max(||x||, 1e-12) over the last axis.
#[track_caller]
pub fn l2_normalize<'t>(x: &Var<'t>) -> Var<'t> {
    x.tape().apply(L2Normalize, &[x]).remove(0)
}

/// row_embed (R, C/2), col_embed (R, C/2) -> `[col_embed[x], row_embed[y]]` of the cells of feature maps of (h, w) `sizes`,
/// row-major, one map after the other, and zeros behind them: (cells, C).
#[track_caller]
pub fn position_learned<'t>(
    row_embed: &Var<'t>,
    col_embed: &Var<'t>,
    sizes: &Arc<[[usize; 2]]>,
    cells: usize,
) -> Var<'t> {
    row_embed.tape().apply(PositionLearned { sizes: sizes.clone(), cells }, &[row_embed, col_embed]).remove(0)
}

/// What the terms of the set loss share; all constants.
#[derive(Clone, Copy, Debug)]
pub struct Matching<'a, 't> {
    /// (L, T) i32: the query of each target in each decoder layer, -1 for none.
    pub matches: &'a Var<'t>,
    /// (T) i32: the image of each target.
    pub image_of_target: &'a Var<'t>,
    /// (1): what the sums are divided by.
    pub num_boxes: &'a Var<'t>,
}

/// logits (L, B, Q, K), positive_map (T, K) -> the soft-token classification loss (L) and the cardinality error (L).
#[track_caller]
pub fn soft_token_loss<'t>(
    logits: &Var<'t>,
    positive_map: &Var<'t>,
    matching: &Matching<'_, 't>,
    eos_coef: f64,
) -> (Var<'t>, Var<'t>) {
    let Matching { matches, image_of_target, num_boxes } = matching;
    let inputs = [logits, positive_map, matches, image_of_target, num_boxes];
    pair(logits.tape().apply(SoftTokenLoss { eos_coef }, &inputs))
}

/// boxes (L, B, Q, 4), targets (T, 4), cxcywh -> the L1 loss (L) and the GIoU loss (L).
#[track_caller]
pub fn box_loss<'t>(boxes: &Var<'t>, targets: &Var<'t>, matching: &Matching<'_, 't>) -> (Var<'t>, Var<'t>) {
    let Matching { matches, image_of_target, num_boxes } = matching;
    pair(boxes.tape().apply(BoxLoss, &[boxes, targets, matches, image_of_target, num_boxes]))
}

/// queries (L, B, Q, C), tokens (B, N, C), align_map (T, N), token_count (1) i32: how many tokens of a caption are there -> the
/// contrastive alignment loss (L).
#[track_caller]
pub fn contrastive_align_loss<'t>(
    queries: &Var<'t>,
    tokens: &Var<'t>,
    align_map: &Var<'t>,
    token_count: &Tensor,
    matching: &Matching<'_, 't>,
    temperature: f64,
) -> Var<'t> {
    let Matching { matches, image_of_target, num_boxes } = matching;
    let token_count = queries.tape().constant(token_count.clone());
    let inputs = [queries, tokens, align_map, &token_count, matches, image_of_target, num_boxes];
    queries.tape().apply(ContrastiveAlignLoss { temperature }, &inputs).remove(0)
}

/// The sum () of all elements of some terms, each term with its weight.
#[track_caller]
pub fn weighted_sum<'t>(terms: &[(&Var<'t>, f64)]) -> Var<'t> {
    let weights = terms.iter().map(|(x, weight)| vec![*weight; x.value().len()]).collect();
    let inputs: Vec<&Var> = terms.iter().map(|(x, _)| *x).collect();
    inputs[0].tape().apply(WeightedSum { weights }, &inputs).remove(0)
}

/// features (N, C) with the cells of image b in rows `cells[b]..cells[b + 1]`, phrases (P, C), image_of_phrase (P) i32,
/// candidates (P, B) i32 -> the contrastive loss () between images and phrases of their captions, with cosines times 20 and
/// scores halved.
#[track_caller]
pub fn caption_contrastive_loss<'t>(
    features: &Var<'t>,
    phrases: &Var<'t>,
    image_of_phrase: &Tensor,
    candidates: &Tensor,
    cells: &[usize],
) -> Var<'t> {
    let tape = features.tape();
    let [image_of_phrase, candidates] = [image_of_phrase, candidates].map(|t| tape.constant(t.clone()));
    let op = CaptionContrastiveLoss { cells: cells.into(), scale: 20.0, divisor: 2.0 };
    tape.apply(op, &[features, phrases, &image_of_phrase, &candidates]).remove(0)
}

fn pair(outputs: Vec<Var<'_>>) -> (Var<'_>, Var<'_>) {
    let [a, b] = <[Var; 2]>::try_from(outputs).expect("two outputs");
    (a, b)
}

/// Multi-head attention over a ragged batch: q (Nq, C), k (Nk, C), v (Nk, C) -> (Nq, C); `dropout` drops probabilities in
/// training.
#[track_caller]
pub fn attention<'t>(
    q: &Var<'t>,
    k: &Var<'t>,
    v: &Var<'t>,
    heads: usize,
    segments: &Segments,
    dropout: f32,
) -> Var<'t> {
    q.tape().apply(Attention { heads, segments: segments.clone(), dropout }, &[q, k, v]).remove(0)
}

/// What follows a convolution: y = activation(scale * conv + bias + residual).
#[derive(Clone, Copy)]
pub struct ConvEpilogue<'a, 't> {
    /// (O), a frozen batch norm's; it gets no gradient.
    pub scale: Option<&'a Var<'t>>,
    /// (O).
    pub bias: Option<&'a Var<'t>>,
    /// (B, OH, OW, O).
    pub residual: Option<&'a Var<'t>>,
    /// `None` or `Relu`.
    pub activation: Activation,
}

/// Convolution of x (B, H, W, I) with w (O, KH, KW, I) and its epilogue -> (B, OH, OW, O).
#[track_caller]
pub fn conv2d<'t>(x: &Var<'t>, w: &Var<'t>, epilogue: ConvEpilogue<'_, 't>, geometry: ConvGeometry) -> Var<'t> {
    let ConvEpilogue { scale, bias, residual, activation } = epilogue;
    let op =
        Conv2d { geometry, scale: scale.is_some(), bias: bias.is_some(), residual: residual.is_some(), activation };
    let inputs: Vec<&Var<'t>> = [Some(x), Some(w), scale, bias, residual].into_iter().flatten().collect();
    x.tape().apply(op, &inputs).remove(0)
}

/// Max pooling of x (B, H, W, C) with square windows -> (B, OH, OW, C).
#[track_caller]
pub fn max_pool<'t>(x: &Var<'t>, pool: MaxPool) -> Var<'t> {
    x.tape().apply(pool, &[x]).remove(0)
}

/// Group normalization of x (B, ..., C) with w (C), b (C), and an activation behind it.
#[track_caller]
pub fn group_norm<'t>(x: &Var<'t>, w: &Var<'t>, b: &Var<'t>, norm: GroupNorm) -> Var<'t> {
    x.tape().apply(norm, &[x, w, b]).remove(0)
}
