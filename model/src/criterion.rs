//! The set loss: predictions are matched one to one with targets, then each pair is pulled together and every other query
//! towards "no object".

use mdetr_autograd::Var;
use mdetr_autograd::functional as f;
use mdetr_kernels::assignment::{MatchCost, assign};
use mdetr_kernels::{Device, Tensor};

use crate::batch::Targets;
use crate::config::CriterionConfig;
use crate::mdetr::Outputs;

/// Computes [`Losses`].
#[derive(Clone, Debug)]
pub struct Criterion {
    config: CriterionConfig,
}

/// The terms, (L) each: one value a decoder layer, the last one being the prediction's.
pub struct Losses<'t> {
    /// The weighted sum of all terms of all layers, ().
    pub total: Var<'t>,
    /// Soft-token cross entropy.
    pub ce: Var<'t>,
    /// |number of predicted objects - number of targets|: a metric, not part of the total.
    pub cardinality: Var<'t>,
    /// L1 distance of boxes.
    pub bbox: Var<'t>,
    /// 1 - generalized IoU.
    pub giou: Var<'t>,
    /// Contrastive alignment of queries and tokens.
    pub align: Option<Var<'t>>,
    /// (L, T) i32: the query that each target is matched with, -1 for none.
    pub matches: Tensor,
}

impl Criterion {
    /// With the weights of `config`.
    pub fn new(config: &CriterionConfig) -> Self {
        Criterion { config: config.clone() }
    }

    /// The optimal assignment of targets to queries at every layer, (L, T) i32.
    pub fn assign(&self, outputs: &Outputs, targets: &Targets) -> Tensor {
        let c = &self.config;
        let weights = MatchCost { class: c.set_cost_class, bbox: c.set_cost_bbox, giou: c.set_cost_giou };
        assign(
            outputs.logits.value(),
            outputs.boxes.value(),
            constant(outputs, &targets.positive_map).value(),
            constant(outputs, &targets.boxes).value(),
            &targets.image_of_target.to_device(outputs.logits.tape().device()),
            weights,
        )
    }

    /// The losses under the optimal assignment.
    pub fn forward<'t>(&self, outputs: &Outputs<'t>, targets: &Targets) -> Losses<'t> {
        self.forward_with(outputs, targets, self.assign(outputs, targets))
    }

    /// The losses under a given assignment (L, T).
    pub fn forward_with<'t>(&self, outputs: &Outputs<'t>, targets: &Targets, matches: Tensor) -> Losses<'t> {
        let tape = outputs.logits.tape();
        let constant = |t: &Tensor| constant(outputs, t);
        let num_boxes = targets.counts.iter().sum::<usize>().max(1);
        let matching = f::Matching {
            matches: &tape.constant(matches.clone()),
            image_of_target: &tape.constant(targets.image_of_target.to_device(tape.device())),
            num_boxes: &constant(&Tensor::from_slice(&[num_boxes as f32], &[1], tape.device())),
        };
        let c = &self.config;
        let (ce, cardinality) =
            f::soft_token_loss(&outputs.logits, &constant(&targets.positive_map), &matching, c.eos_coef);
        let (bbox, giou) = f::box_loss(&outputs.boxes, &constant(&targets.boxes), &matching);
        let align = outputs.align.as_ref().map(|a| {
            let map = constant(&targets.align_map);
            let tokens = Tensor::from_slice(&[targets.tokens as i32], &[1], tape.device());
            f::contrastive_align_loss(&a.queries, &a.tokens, &map, &tokens, &matching, c.temperature_nce)
        });
        let mut terms = vec![(&ce, c.ce_loss_coef), (&bbox, c.bbox_loss_coef), (&giou, c.giou_loss_coef)];
        terms.extend(align.as_ref().map(|a| (a, c.contrastive_align_loss_coef)));
        let total = f::weighted_sum(&terms);
        Losses { total, ce, cardinality, bbox, giou, align, matches }
    }
}

/// A target as the predictions are: on their device, in their type.
fn constant<'t>(outputs: &Outputs<'t>, t: &Tensor) -> Var<'t> {
    let tape = outputs.logits.tape();
    f::cast(&tape.constant(t.to_device(tape.device())), outputs.dtype())
}

impl<'t> Losses<'t> {
    /// The terms under their published names, (L) each.
    pub fn terms(&self) -> Vec<(&'static str, &Var<'t>)> {
        let mut terms = vec![
            ("loss_ce", &self.ce),
            ("loss_bbox", &self.bbox),
            ("loss_giou", &self.giou),
            ("cardinality_error", &self.cardinality),
        ];
        terms.extend(self.align.as_ref().map(|align| ("loss_contrastive_align", align)));
        terms
    }

    /// Every term under its published name: bare for the prediction, with `_i` for the earlier layer i. From a GPU it waits.
    pub fn named(&self) -> Vec<(String, f64)> {
        let values = self.terms().into_iter().map(|(name, v)| (name, v.value().to_f64_vec()));
        by_layer(&values.collect::<Vec<_>>())
    }

    /// For each image of a layer, (query, target) pairs in the order of the queries; targets count within their image.
    pub fn pairs(&self, layer: usize, targets: &Targets) -> Vec<Vec<(usize, usize)>> {
        let total = targets.image_of_target.len();
        let matches = self.matches.to_device(Device::Cpu);
        let matches = &matches.as_slice::<i32>()[layer * total..(layer + 1) * total];
        let mut first = 0;
        targets
            .counts
            .iter()
            .map(|&count| {
                let own = &matches[first..first + count];
                first += count;
                let matched = own.iter().enumerate().filter(|&(_, &q)| q >= 0);
                let mut pairs: Vec<(usize, usize)> = matched.map(|(t, &q)| (q as usize, t)).collect();
                pairs.sort_unstable();
                pairs
            })
            .collect()
    }
}

/// Values (L) of terms by layer, under the names of [`Losses::named`]: the prediction's first.
pub fn by_layer(terms: &[(&'static str, Vec<f64>)]) -> Vec<(String, f64)> {
    let layers = terms.first().map_or(0, |(_, v)| v.len());
    let order = (0..layers).rev().take(1).chain(0..layers.saturating_sub(1));
    order
        .flat_map(|layer| {
            let suffix = if layer + 1 == layers { String::new() } else { format!("_{layer}") };
            terms.iter().map(move |(name, v)| (format!("{name}{suffix}"), v[layer]))
        })
        .collect()
}
