"""Times the baseline: one inference, or one training step.

    python bench.py --what inference [--threads 2] [--repeats 7] [--channels-last] [--compile [--freeze]]
    python bench.py --what inference --autocast bf16 --channels-last --compile --freeze
    python bench.py --what step      [--threads 2] [--repeats 7] [--channels-last] [--compile]
    python bench.py --what step --device cuda --shape 8 800 1066 --autocast bf16 --channels-last --compile

inference: ResNet-101, one 800 x 1066 image with one caption, eval mode. step: two 480 x 640 images with 5 and 3
boxes in turn, dropout on; forward, set loss, backward, clip, AdamW, EMA. `--shape` changes number, height and width of
the images, `--tokens` the length of a step's captions (of every other one; the rest are two shorter). In f32 unless
`--autocast` says otherwise; on a GPU f32 products are those of TF32. One untimed run (two when compiled; ten on a GPU, in
which float16's scale settles) comes first.
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
import torch._inductor.config

from criterion import Targets
from mdetr_baseline import MDETR, NUM_CLASSES, ROBERTA_BASE, Batch, Config
from training import Trainer
from weight_recipe import fill_model

PAD, BEGIN, END, FIRST_WORD = 1, 0, 2, 5  # token ids of RoBERTa


AUTOCAST = {None: None, "bf16": torch.bfloat16, "fp16": torch.float16}


class Laps:
    """Milliseconds of the phases of one run."""

    def __init__(self):
        self.ends = [("", time.perf_counter())]

    def __call__(self, phase: str) -> None:
        self.ends.append((phase, time.perf_counter()))

    def ms(self) -> dict[str, float]:
        return {phase: 1e3 * (end - start) for (_, start), (phase, end) in zip(self.ends, self.ends[1:])}


class CudaLaps:
    """The same as the GPU passes from one to the next, which waits for nothing before the run's end."""

    def __init__(self):
        self.ends = [("", self.event())]

    def __call__(self, phase: str) -> None:
        self.ends.append((phase, self.event()))

    @staticmethod
    def event() -> torch.cuda.Event:
        event = torch.cuda.Event(enable_timing=True)
        event.record()
        return event

    def ms(self) -> dict[str, float]:
        torch.cuda.synchronize()
        return {phase: start.elapsed_time(end) for (_, start), (phase, end) in zip(self.ends, self.ends[1:])}


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


def prepared(args: argparse.Namespace, model: MDETR, batch: Batch) -> tuple[MDETR, Batch]:
    """On the device, in the layout."""
    layout = torch.channels_last if args.channels_last else torch.contiguous_format
    batch = Batch(*(tensor.to(args.device) for tensor in batch))
    model = model.to(args.device, memory_format=layout)
    return model, batch._replace(images=batch.images.contiguous(memory_format=layout))


def inference_run(args: argparse.Namespace, model: MDETR) -> Callable[[Laps | CudaLaps], None]:
    images, *size = args.shape or (1, 800, 1066)
    model, batch = prepared(args, model.eval(), random_batch(size, [20] * images))
    forward = torch.compile(model) if args.compile else model
    autocast = AUTOCAST[args.autocast]

    def run(lap: Laps | CudaLaps) -> None:
        with torch.inference_mode(), torch.autocast(args.device, dtype=autocast, enabled=autocast is not None):
            forward(batch)
        lap("forward")

    return run


def step_run(args: argparse.Namespace, model: MDETR) -> Callable[[Laps | CudaLaps], None]:
    images, *size = args.shape or (2, 480, 640)
    of_image = lambda *values: [values[i % len(values)] for i in range(images)]
    model, batch = prepared(args, model.train(), random_batch(size, of_image(args.tokens, args.tokens - 2)))
    targets = random_targets(of_image(5, 3))
    targets = Targets([boxes.to(args.device) for boxes in targets.boxes], targets.positive_map.to(args.device))
    trainer = Trainer(model, AUTOCAST[args.autocast])
    if args.compile:
        trainer.forward = torch.compile(model)

    def run(lap: Laps | CudaLaps) -> None:
        trainer.losses_and_gradients(batch, targets, lap)
        trainer.update(lap)

    return run


def measure(
    run: Callable[[Laps | CudaLaps], None], laps: type[Laps | CudaLaps], warmups: int, repeats: int
) -> list[dict[str, float]]:
    """Phase times of each timed run."""
    timed = []
    for i in range(warmups + repeats):
        lap = laps()
        run(lap)
        ms = lap.ms()
        print(f"{'warm-up' if i < warmups else 'run'} {sum(ms.values()):.1f} ms", file=sys.stderr)
        if i >= warmups:
            timed.append(ms)
    return timed


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--what", choices=("inference", "step"), required=True)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--compile", action="store_true", help="torch.compile the network")
    parser.add_argument("--freeze", action="store_true", help="with --compile: constant weights, packed once")
    parser.add_argument("--channels-last", action="store_true", help="NHWC images and convolution weights")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--tokens", type=int, default=20, help="of a step's longer captions")
    parser.add_argument("--autocast", choices=("bf16", "fp16"))
    parser.add_argument("--shape", type=int, nargs=3, metavar=("IMAGES", "HEIGHT", "WIDTH"))
    args = parser.parse_args()
    is_cuda = args.device == "cuda"

    torch.set_num_threads(args.threads)
    torch.manual_seed(0)
    torch.set_float32_matmul_precision("high")  # TF32, on a GPU
    torch.backends.cudnn.benchmark = True
    if args.freeze:
        torch._inductor.config.freezing = True
    model = MDETR(Config())
    fill_model(model)
    print("weights filled", file=sys.stderr)
    run = (inference_run if args.what == "inference" else step_run)(args, model)
    warmups = 10 if is_cuda else 2 if args.compile else 1
    timed = measure(run, CudaLaps if is_cuda else Laps, warmups, args.repeats)

    totals = [sum(phases.values()) for phases in timed]
    result = {
        "what": args.what,
        "torch": torch.__version__,
        "device": torch.cuda.get_device_name() if is_cuda else "cpu",
        "shape": args.shape or "default",
        "autocast": args.autocast or "none",
        "threads": args.threads,
        "layout": "channels_last" if args.channels_last else "contiguous",
        "compile": args.compile,
        "freeze": args.freeze,
        "median_ms": round(statistics.median(totals), 1),
        "min_ms": round(min(totals), 1),
        "all_ms": [round(total, 1) for total in totals],
        "phases_median_ms": {p: round(statistics.median(t[p] for t in timed), 1) for p in timed[0]},
        "peak_device_mb": round(torch.cuda.max_memory_allocated() / 1e6) if is_cuda else 0,
        "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        "load_average": os.getloadavg()[0],
    }
    print(json.dumps(result, indent=1))


if __name__ == "__main__":
    main()
