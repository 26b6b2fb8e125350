"""The deterministic weights of the golden data: every element is a function of its parameter's name and index.

FNV-1a of the name seeds splitmix64, whose upper 24 bits become r in [-1, 1); a weight is offset + scale * r,
computed in f64 and rounded once to f32. The bits are the same in every language.
"""

import math

import numpy as np
import torch

CHUNK = 1 << 18  # elements at a time, so that the temporaries stay in cache


def name_seed(name: str) -> int:
    """FNV-1a, 64 bits, of the name's UTF-8 bytes."""
    seed = 0xCBF29CE484222325
    for byte in name.encode():
        seed = (seed ^ byte) * 0x100000001B3 % (1 << 64)
    return seed


def offset_and_scale(name: str, shape: tuple[int, ...]) -> tuple[float, float]:
    """Centre and half-width of the uniform distribution of one parameter."""
    last = name.rsplit(".", 1)[-1]
    if last == "running_mean":
        return 0.0, 0.1
    if last == "running_var":
        return 1.0, 0.25
    if len(shape) == 1 and last == "weight":
        closes_residual_branch = ".body.layer" in name and name.endswith((".bn2.weight", ".bn3.weight"))
        return (0.5, 0.1) if closes_residual_branch else (1.0, 0.2)
    if len(shape) == 1 or last.endswith("bias"):
        return 0.0, 0.1
    if name.endswith("query_embed.weight"):
        return 0.0, 3.0
    return 0.0, gain(name, shape) * math.sqrt(3.0 / math.prod(shape[1:]))


def gain(name: str, shape: tuple[int, ...]) -> float:
    """Standard deviation of a weight in units of 1 / sqrt(fan_in)."""
    if name.endswith("input_proj.weight"):
        return 0.5
    if len(shape) == 4 or "bbox_embed.layers." in name:
        return math.sqrt(2.0)
    if name.endswith(("in_proj_weight", ".self.query.weight", ".self.key.weight")):
        return 1.5
    if name.endswith((".self_attn.out_proj.weight", ".linear2.weight", ".output.dense.weight")):
        return 0.4
    if name.endswith(".cross_attn_image.out_proj.weight"):
        return 2.0
    if name.endswith("class_embed.weight"):
        return 3.0
    return 1.0


def fill(flat: np.ndarray, name: str, shape: tuple[int, ...]) -> None:
    """Writes the recipe's values of parameter `name` into its flat f32 array."""
    offset, scale = offset_and_scale(name, shape)
    seed = np.uint64(name_seed(name))
    for start in range(0, flat.size, CHUNK):
        stop = min(start + CHUNK, flat.size)
        z = seed + np.arange(start + 1, stop + 1, dtype=np.uint64) * np.uint64(0x9E3779B97F4A7C15)
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        z ^= z >> np.uint64(31)
        r = 2.0 * ((z >> np.uint64(40)).astype(np.float64) * 2.0**-24) - 1.0
        flat[start:stop] = offset + scale * r


@torch.no_grad()
def fill_model(model: torch.nn.Module) -> None:
    """Fills every floating-point entry of the model's state dict."""
    for name, tensor in model.state_dict().items():
        if tensor.is_floating_point():
            fill(tensor.view(-1).numpy(), name, tuple(tensor.shape))
