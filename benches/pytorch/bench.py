"""Times the baseline: one inference, or one training step, in f32 on the CPU.

    python bench.py --what inference [--threads 2] [--repeats 7] [--channels-last] [--compile]
    python bench.py --what step      [--threads 2] [--repeats 7] [--channels-last] [--compile]

inference: ResNet-101, one 800 x 1066 image with one caption, eval mode. step: two 480 x 640 images with 5 and 3
boxes, dropout on; forward, set loss, backward, clip, AdamW, EMA. One untimed run (two when compiled) comes first.
Prints one JSON object; progress goes to stderr. Needs an idle machine: OpenMP threads that wait for a busy core
multiply every time. `pip install -r requirements.txt` installs what it imports.
"""

import argparse
import json
import os
import resource
import statistics
import sys
import time
from collections.abc import Callable

import torch

from criterion import Targets
from mdetr_baseline import MDETR, NUM_CLASSES, ROBERTA_BASE, Batch, Config
from training import Trainer
from weight_recipe import fill_model

PAD, BEGIN, END, FIRST_WORD = 1, 0, 2, 5  # token ids of RoBERTa


class Laps:
    """Milliseconds of the phases of one run."""

    def __init__(self):
        self.ms: dict[str, float] = {}
        self.last = time.perf_counter()

    def __call__(self, phase: str) -> None:
        now = time.perf_counter()
        self.ms[phase] = 1e3 * (now - self.last)
        self.last = now


def random_batch(size: tuple[int, int], caption_lengths: list[int]) -> Batch:
    """Images without padding; captions padded to the longest."""
    input_ids = torch.full((len(caption_lengths), max(caption_lengths)), PAD)
    for row, length in zip(input_ids, caption_lengths):
        row[:length] = torch.randint(FIRST_WORD, ROBERTA_BASE["vocab_size"] - 1, (length,))
        row[0], row[length - 1] = BEGIN, END
    images = torch.randn(len(caption_lengths), 3, *size)
    padding_mask = torch.zeros(len(caption_lengths), *size, dtype=torch.bool)
    return Batch(images, padding_mask, input_ids, (input_ids != PAD).long())


def random_targets(boxes_per_image: list[int]) -> Targets:
    """Boxes that lie in the image, each named by two tokens."""
    boxes = []
    for n in boxes_per_image:
        extent = 0.1 + 0.4 * torch.rand(n, 2)
        centre = extent / 2 + (1 - extent) * torch.rand(n, 2)
        boxes.append(torch.cat((centre, extent), dim=1))
    positive_map = torch.zeros(sum(boxes_per_image), NUM_CLASSES)
    for i, row in enumerate(positive_map):
        row[1 + 2 * i % 14 :][:2] = 1
    return Targets(boxes, positive_map)


def in_layout(model: MDETR, batch: Batch, channels_last: bool) -> tuple[MDETR, Batch]:
    layout = torch.channels_last if channels_last else torch.contiguous_format
    return model.to(memory_format=layout), batch._replace(images=batch.images.contiguous(memory_format=layout))


def inference_run(args: argparse.Namespace, model: MDETR) -> Callable[[Laps], None]:
    model, batch = in_layout(model.eval(), random_batch((800, 1066), [20]), args.channels_last)
    forward = torch.compile(model) if args.compile else model

    def run(lap: Laps) -> None:
        with torch.inference_mode():
            forward(batch)
        lap("forward")

    return run


def step_run(args: argparse.Namespace, model: MDETR) -> Callable[[Laps], None]:
    model, batch = in_layout(model.train(), random_batch((480, 640), [20, 18]), args.channels_last)
    targets = random_targets([5, 3])
    trainer = Trainer(model)
    if args.compile:
        trainer.forward = torch.compile(model)

    def run(lap: Laps) -> None:
        trainer.losses_and_gradients(batch, targets, lap)
        trainer.update(lap)

    return run


def measure(run: Callable[[Laps], None], warmups: int, repeats: int) -> list[dict[str, float]]:
    """Phase times of each timed run."""
    timed = []
    for i in range(warmups + repeats):
        lap = Laps()
        run(lap)
        print(f"{'warm-up' if i < warmups else 'run'} {sum(lap.ms.values()):.0f} ms", file=sys.stderr)
        if i >= warmups:
            timed.append(lap.ms)
    return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=("inference", "step"), required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="torch.compile the network")
    parser.add_argument("--channels-last", action="store_true", help="NHWC images and convolution weights")
    args = parser.parse_args()

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    model = MDETR(Config())
    fill_model(model)
    print("weights filled", file=sys.stderr)
    run = (inference_run if args.what == "inference" else step_run)(args, model)
    timed = measure(run, 2 if args.compile else 1, args.repeats)

    totals = [sum(phases.values()) for phases in timed]
    result = {
        "what": args.what,
        "torch": torch.__version__,
        "threads": args.threads,
        "layout": "channels_last" if args.channels_last else "contiguous",
        "compile": args.compile,
        "median_ms": round(statistics.median(totals), 1),
        "min_ms": round(min(totals), 1),
        "all_ms": [round(total, 1) for total in totals],
        "phases_median_ms": {p: round(statistics.median(t[p] for t in timed), 1) for p in timed[0]},
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
