"""One training step as published: set loss, backward, clipped gradients, AdamW in three groups, EMA."""

import copy
from collections.abc import Callable

import torch
from torch import Tensor, nn

from criterion import Targets, set_losses, weighted_total
from mdetr_baseline import MDETR, Batch

CLIP_MAX_NORM = 0.1
EMA_DECAY = 0.9998
WEIGHT_DECAY = 1e-4
LEARNING_RATES = {"rest": 1e-4, "backbone": 1e-5, "text_encoder": 5e-5}


def group_of(name: str) -> str:
    """The learning rate's group of a parameter, a test on its name."""
    return next((group for group in ("backbone", "text_encoder") if group in name), "rest")


class Trainer:
    """A model with its optimizer and the moving average of its weights.

    With `autocast` (bfloat16 or float16) the network runs in that type where PyTorch thinks it safe, the set loss in
    f32; the loss is scaled for float16.
    """

    def __init__(self, model: MDETR, autocast: torch.dtype | None = None):
        self.model = model
        self.autocast = autocast
        self.device = next(model.parameters()).device.type
        self.scaler = torch.amp.GradScaler(self.device, enabled=autocast == torch.float16)
        self.forward: Callable = model  # a compiled model can take its place
        self.ema = copy.deepcopy(model).requires_grad_(False)
        trainable = [(name, p) for name, p in model.named_parameters() if p.requires_grad]
        groups = [
            {"params": [p for name, p in trainable if group_of(name) == group], "lr": lr}
            for group, lr in LEARNING_RATES.items()
        ]
        self.optimizer = torch.optim.AdamW(groups, weight_decay=WEIGHT_DECAY)

    def losses_and_gradients(self, batch: Batch, targets: Targets, lap: Callable[[str], None]) -> dict[str, Tensor]:
        """Forward, set loss and backward; gradients replace those of the step before."""
        with torch.autocast(self.device, dtype=self.autocast, enabled=self.autocast is not None):
            outputs = self.forward(batch)
        outputs = type(outputs)(*(output.float() for output in outputs))
        lap("forward")
        losses = set_losses(outputs, targets)
        lap("criterion")
        self.optimizer.zero_grad(set_to_none=True)
        self.scaler.scale(weighted_total(losses)).backward()
        lap("backward")
        return losses

    def update(self, lap: Callable[[str], None]) -> Tensor:
        """Clips, updates weights and their moving average; returns the gradient's norm before clipping."""
        self.scaler.unscale_(self.optimizer)
        norm = nn.utils.clip_grad_norm_(self.model.parameters(), CLIP_MAX_NORM)
        lap("clip")
        self.scaler.step(self.optimizer)
        self.scaler.update()
        lap("adamw")
        with torch.no_grad():
            weights = self.model.state_dict()
            for name, average in self.ema.state_dict().items():
                average.mul_(EMA_DECAY).add_(weights[name], alpha=1 - EMA_DECAY)
        lap("ema")
        return norm
