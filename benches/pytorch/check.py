"""Holds the baseline against a recorded run of the published code.

    python check.py CASE_DIR        e.g. goldens/full/r101_b1 or goldens/tiny/base

Outputs and losses must agree within 4 times the recorded difference between f32 and f64 plus 1e-6 of the tensor's
maximum, gradients within 1e-3 (relative, every parameter) and 1e-4 (the global norm), and one optimizer step must
move weights and their average as recorded (where the case has one). Exits with status 1 if anything is further off.
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor

from criterion import Targets, weighted_total
from mdetr_baseline import MDETR, Batch, Config
from training import EMA_DECAY, LEARNING_RATES, Trainer, group_of
from weight_recipe import fill_model

PIXEL_MEAN = torch.tensor([0.485, 0.456, 0.406])[:, None, None]
PIXEL_STD = torch.tensor([0.229, 0.224, 0.225])[:, None, None]

RECORDED_MODULES = {  # recorded name -> module whose output it is
    "backbone_last": "backbone.0",
    "pos_embed": "backbone.1",
    "input_proj": "input_proj",
    "text_resized": "transformer.resizer",
    "img_memory": "transformer.encoder",
    "hs": "transformer.decoder",
}


class Report:
    """Prints one line a comparison and remembers whether all were within their tolerance."""

    def __init__(self):
        self.passed = True

    def compare(self, what: str, error: float, tolerance: float) -> None:
        passed = error <= tolerance  # false for NaN
        self.passed &= passed
        print(f"{'ok  ' if passed else 'FAIL'} {what:32} error {error:.2e}  tolerance {tolerance:.2e}")


def read_json(path: Path) -> dict:
    return json.loads(path.read_text())


def load_config(case: dict) -> Config:
    official = case["config"]
    same_name = ("backbone", "hidden_dim", "nheads", "enc_layers", "dec_layers", "dim_feedforward", "num_queries")
    sizes = {name: official[name] for name in same_name}
    return Config(**sizes, contrastive_hdim=official["contrastive_loss_hdim"], text=case["text_config"])


def load_inputs(path: Path) -> tuple[Batch, Targets]:
    tensors = load_file(path)
    padding_mask = tensors["mask"].bool()
    images = torch.zeros(len(padding_mask), 3, *padding_mask.shape[1:])
    for i, image in enumerate(images):
        pixels = tensors[f"image{i}_u8"].float() / 255
        image[:, : pixels.shape[1], : pixels.shape[2]] = (pixels - PIXEL_MEAN) / PIXEL_STD
    batch = Batch(images, padding_mask, tensors["input_ids"], tensors["attention_mask"])
    boxes = [tensors[f"target{i}.boxes"] for i in range(len(images))]
    return batch, Targets(boxes, tensors["positive_map"].float())


def record_outputs(model: MDETR) -> dict[str, Tensor]:
    """A dictionary that the next forward pass fills, under the recorded names."""
    seen = {}

    def keep(name):
        return lambda _module, _inputs, output: seen.update({name: output.detach()})

    def keep_heads(_module, _inputs, output):
        last = len(output.pred_logits) - 1
        for i in range(last + 1):
            prefix = "" if i == last else f"aux{i}."
            for name in ("pred_logits", "pred_boxes", "proj_queries"):
                seen[prefix + name] = getattr(output, name)[i].detach()
        seen["proj_tokens"] = output.proj_tokens.detach()

    for name, module in RECORDED_MODULES.items():
        model.get_submodule(module).register_forward_hook(keep(name))
    model.register_forward_hook(keep_heads)
    return seen


def check_weights(report: Report, model: MDETR, case: dict) -> None:
    state = model.state_dict()
    missing = set(case["state_dict"]) ^ set(state)
    report.compare(f"parameter names {sorted(missing)[:3]}", len(missing), 0)
    sums = (abs(state[name].double().sum().item() - total) for name, (_, _, total) in case["state_dict"].items())
    report.compare("sums of the weights", max(sums), 1e-6)
    trainable = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    report.compare("trainable parameters", len(trainable ^ set(case["trainable"])), 0)


def check_outputs(report: Report, seen: dict[str, Tensor], case: dict, recorded: dict[str, Tensor]) -> None:
    for name, value in seen.items():
        noise = case["f32_vs_f64"]["outputs"][name]
        expected = recorded[name].flatten()
        flat = value.flatten()[:: case["output_strides"].get(name, 1)]
        tolerance = 4 * noise["max_abs_diff"] + 1e-6 * noise["max_abs"]
        report.compare(name, (flat - expected).abs().max().item(), tolerance)


def check_losses(report: Report, losses: dict[str, Tensor], case: dict) -> None:
    for name, expected in case["losses"].items():
        tolerance = 4 * abs(case["f32_vs_f64"]["losses"][name]["diff"]) + 1e-6 * abs(expected)
        report.compare(name, abs(losses[name].item() - expected), tolerance)
    total = case["total_weighted_loss"]
    report.compare("total_weighted_loss", abs(weighted_total(losses).item() - total), 1e-6 * total)


def check_gradients(report: Report, model: MDETR, grads: dict) -> None:
    norms = {n: p.grad.double().norm().item() for n, p in model.named_parameters() if p.grad is not None}
    report.compare("parameters with a gradient", len(set(norms) ^ set(grads["params"])), 0)
    global_norm = sum(norm**2 for norm in norms.values()) ** 0.5
    report.compare("gradient norm, relative", abs(global_norm / grads["global_norm"] - 1), 1e-4)
    floor = 1e-6 * global_norm
    errors = {n: abs(norms[n] - r["norm"]) / r["norm"] for n, r in grads["params"].items() if r["norm"] > floor}
    worst = max(errors, key=errors.get)
    report.compare("gradient norms, each, relative", errors[worst], 1e-3)


def check_step(report: Report, trainer: Trainer, after: dict) -> None:
    """Weights and averages after one step. The first Adam step is about lr * sign(g), so elements whose gradient
    is rounding noise may land up to 2 lr away; the median must not."""
    weights, averages = trainer.model.state_dict(), trainer.ema.state_dict()
    for group, lr in LEARNING_RATES.items():
        names = [name for name in after if group_of(name) == group]
        moved = torch.cat([first_elements(weights[n]) - torch.tensor(after[n]["first8"]) for n in names]).abs()
        report.compare(f"step, {group}, median / lr", moved.median().item() / lr, 1e-3)
        report.compare(f"step, {group}, worst / lr", moved.max().item() / lr, 2.1)
        average = torch.cat([first_elements(averages[n]) - torch.tensor(after[n]["ema_first8"]) for n in names]).abs()
        report.compare(f"EMA, {group}, median / lr", average.median().item() / lr, 1e-2 * (1 - EMA_DECAY))


def first_elements(tensor: Tensor) -> Tensor:
    return tensor.flatten()[:8]


def main() -> int:
    if len(sys.argv) != 2:
        print(__doc__, file=sys.stderr)
        return 2
    folder = Path(sys.argv[1])
    case = read_json(folder / "case.json")
    report = Report()

    model = MDETR(load_config(case)).eval()
    fill_model(model)
    check_weights(report, model, case)

    seen = record_outputs(model)
    trainer = Trainer(model)
    losses = trainer.losses_and_gradients(*load_inputs(folder / "inputs.safetensors"), lap=lambda _phase: None)
    check_outputs(report, seen, case, load_file(folder / "outputs.safetensors"))
    check_losses(report, losses, case)
    check_gradients(report, model, read_json(folder / "grads.json"))

    after = folder / "after_step1.json"
    if after.exists():
        trainer.update(lap=lambda _phase: None)
        check_step(report, trainer, read_json(after))
    print("all within tolerance" if report.passed else "NOT all within tolerance")
    return 0 if report.passed else 1


if __name__ == "__main__":
    sys.exit(main())
