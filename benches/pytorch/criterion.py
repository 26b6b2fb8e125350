"""The set loss of MDETR: Hungarian matching, soft-token, box and contrastive alignment terms after every layer."""

import re
from typing import NamedTuple

import torch
import torch.nn.functional as F
from scipy.optimize import linear_sum_assignment
from torch import Tensor
from torchvision.ops import box_convert, generalized_box_iou

from mdetr_baseline import Outputs

EOS_COEF = 0.1  # weight of the no-object queries in the soft-token loss
TEMPERATURE = 0.07
WEIGHTS = {"loss_ce": 1.0, "loss_bbox": 5.0, "loss_giou": 2.0, "loss_contrastive_align": 1.0}


class Targets(NamedTuple):
    """The boxes of a batch and the tokens that name them."""

    boxes: list[Tensor]  # per image (n, 4), cxcywh in [0, 1]
    positive_map: Tensor  # (boxes of the batch, 256) f32, 1 on the tokens of a box


class LayerOutputs(NamedTuple):
    """The predictions of one decoder layer."""

    logits: Tensor  # (B, Q, 256)
    boxes: Tensor  # (B, Q, 4)
    queries: Tensor  # (B, Q, c)


def pairwise_giou(boxes: Tensor, other: Tensor) -> Tensor:
    """(n, 4), (m, 4) cxcywh -> (n, m)."""
    return generalized_box_iou(box_convert(boxes, "cxcywh", "xyxy"), box_convert(other, "cxcywh", "xyxy"))


@torch.no_grad()
def hungarian_match(layer: LayerOutputs, targets: Targets) -> list[tuple[Tensor, Tensor]]:
    """Per image the matched query and target indices, queries ascending."""
    target_boxes = torch.cat(targets.boxes)
    boxes = layer.boxes.flatten(0, 1)
    cost_class = -layer.logits.flatten(0, 1).softmax(-1) @ targets.positive_map.T
    cost_bbox = torch.cdist(boxes, target_boxes, p=1)
    cost = 5 * cost_bbox + cost_class - 2 * pairwise_giou(boxes, target_boxes)
    per_image = cost.view(*layer.logits.shape[:2], -1).cpu().split([len(b) for b in targets.boxes], dim=-1)
    matches = (linear_sum_assignment(per_image[i][i]) for i in range(len(per_image)))
    return [(torch.as_tensor(queries), torch.as_tensor(chosen)) for queries, chosen in matches]


def contrastive_align_loss(queries: Tensor, tokens: Tensor, positive: Tensor) -> Tensor:
    """Query to token and token to query InfoNCE over (B, Q, c) and (B, T, c); `positive` is (B, Q, T) bool."""
    logits = queries @ tokens.transpose(1, 2) / TEMPERATURE
    attraction = -(logits * positive)
    total = logits.new_zeros(())
    for axis in (2, 1):
        mean_attraction = attraction.sum(axis) / (positive.sum(axis) + 1e-6)
        total = total + ((mean_attraction + logits.logsumexp(axis)) * positive.any(axis)).sum()
    return total / 2


def layer_losses(layer: LayerOutputs, tokens: Tensor, targets: Targets) -> dict[str, Tensor]:
    """All terms of one decoder layer, unweighted, under their published names."""
    matches = hungarian_match(layer, targets)
    device = layer.logits.device
    first_box = torch.tensor([0] + [len(b) for b in targets.boxes]).cumsum(0)
    image = torch.cat([torch.full_like(q, i) for i, (q, _) in enumerate(matches)]).to(device)
    query = torch.cat([q for q, _ in matches]).to(device)
    target = torch.cat([chosen + first_box[i] for i, (_, chosen) in enumerate(matches)]).to(device)
    num_boxes = max(len(targets.positive_map), 1)
    positive = targets.positive_map[target]

    soft_tokens = torch.zeros_like(layer.logits)
    soft_tokens[..., -1] = 1
    soft_tokens[image, query] = positive
    weight = torch.full(layer.logits.shape[:2], EOS_COEF, device=device)
    weight[image, query] = 1
    cross_entropy = -(layer.logits.log_softmax(-1) * soft_tokens).sum(-1)

    predicted, wanted = layer.boxes[image, query], torch.cat(targets.boxes)[target]
    names_token = torch.zeros(*layer.logits.shape[:2], tokens.shape[1], dtype=torch.bool, device=device)
    names_token[image, query] = positive[:, : tokens.shape[1]] > 0

    objects = (layer.logits.argmax(-1) != layer.logits.shape[-1] - 1).sum(1)
    counts = torch.tensor([len(b) for b in targets.boxes], device=device)
    return {
        "loss_ce": (cross_entropy * weight).sum() / num_boxes,
        "loss_bbox": F.l1_loss(predicted, wanted, reduction="sum") / num_boxes,
        "loss_giou": (1 - pairwise_giou(predicted, wanted).diag()).sum() / num_boxes,
        "loss_contrastive_align": contrastive_align_loss(layer.queries, tokens, names_token) / num_boxes,
        "cardinality_error": F.l1_loss(objects.float(), counts.float()),
    }


def set_losses(outputs: Outputs, targets: Targets) -> dict[str, Tensor]:
    """The terms of all layers: plain names for the last one, a suffix `_i` for layer i before it."""
    losses = {}
    last = len(outputs.pred_logits) - 1
    for i, layer in enumerate(zip(outputs.pred_logits, outputs.pred_boxes, outputs.proj_queries)):
        suffix = "" if i == last else f"_{i}"
        terms = layer_losses(LayerOutputs(*layer), outputs.proj_tokens, targets)
        losses |= {name + suffix: value for name, value in terms.items()}
    return losses


def weighted_total(losses: dict[str, Tensor]) -> Tensor:
    """The scalar that is minimised; terms without a weight are only reported."""
    return sum(WEIGHTS.get(re.sub(r"_\d+$", "", name), 0.0) * value for name, value in losses.items())
