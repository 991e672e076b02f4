"""Seconds of a training step: `understudy-trainer train` against `transformers`, the same recipe, shape, texts, precision and
threads, in turns. Prints Markdown. UNDERSTUDY_BIN is the folder of the binaries."""

import csv
import json
import os
import platform
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "analyst"))
import checkpoint  # noqa: E402

BIN = Path(os.environ["UNDERSTUDY_BIN"])
ROUNDS = int(os.environ.get("BENCH_ROUNDS", "3"))
THREADS = int(os.environ.get("BENCH_THREADS", "1"))
BATCH = 16
TOKENS = (128, 256)
PRECISIONS = ("fp32", "bf16")
# Shape, what it is in `DistilBertConfig`, and the steps of the warm-up and of a measurement.
SHAPES = [
    ("DistilBERT-base", {}, 3),
    ("starter", {"vocabulary": 16_000, "dim": 128, "n_layers": 2, "n_heads": 4, "hidden_dim": 256}, 40),
]


def data(folder: Path, tokens: int, steps: int) -> Path:
    """As many training reviews of exactly `tokens` tokens as the steps need, and two short ones to validate on."""
    path, draw = folder / f"{tokens}.csv", random.Random(tokens)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["review", "label", "split"])
        for index in range(steps * BATCH + 2):
            words = tokens - 2 if index >= 2 else 20
            text = " ".join(checkpoint.word(draw.randrange(11_000)) for _ in range(words))
            rows.writerow([text, index % 2, "train" if index >= 2 else "val"])
    return path


def ours(model: Path, file: Path, precision: str, tokens: int, steps: int) -> float:
    """The mean seconds of the second half of the steps: the history says how long the steps had taken at each evaluation."""
    with tempfile.TemporaryDirectory() as output:
        subprocess.run(
            [BIN / "understudy-trainer", "train", "--from", model, "--data", file, "--output", f"{output}/run",
             "--device", "cpu", "--threads", str(THREADS), "--precision", precision, "--batch-size", str(BATCH),
             "--train-tokens", str(tokens), "--epochs", "1", "--warm-up", "0", "--evaluate-every", str(steps),
             "--keep-checkpoints", "0"], check=True, stderr=subprocess.DEVNULL)
        history = json.loads(Path(f"{output}/run/training.json").read_text())["history"]
    return (history[1]["seconds"] - history[0]["seconds"]) / (history[1]["step"] - history[0]["step"])


def theirs(model: Path, file: Path, precision: str, tokens: int, steps: int) -> float:
    output = subprocess.run(
        [sys.executable, Path(__file__).with_name("peer.py"), "--checkpoint", model, "--data", file, "--precision", precision,
         "--batch", str(BATCH), "--warm-up", str(steps), "--steps", str(steps), "--threads", str(THREADS)],
        check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True).stdout
    report = json.loads(output)
    assert report["tokens"] == tokens, report["tokens"]
    return statistics.mean(report["seconds"])


def processor() -> str:
    text = Path("/proc/cpuinfo").read_text()
    name = next(line.split(":")[1].strip() for line in text.splitlines() if line.startswith("model name"))
    flags = sorted(flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if f" {flag}" in text)
    return f"{name}, {' '.join(flags)}; {platform.system()} {platform.release()}"


def main() -> None:
    print(f"CPU: {processor()}; {THREADS} thread(s), batches of {BATCH}, {ROUNDS} rounds in turns.\n")
    print("| shape | tokens | precision | transformers, s a step | understudy, s a step | as fast |")
    print("| --- | ---: | --- | ---: | ---: | ---: |", flush=True)
    for name, shape, steps in SHAPES:
        with tempfile.TemporaryDirectory() as folder:
            model = Path(folder) / "checkpoint"
            checkpoint.write(model, **shape)
            for tokens in TOKENS:
                file = data(Path(folder), tokens, 2 * steps)
                for precision in PRECISIONS:
                    times = {theirs: [], ours: []}
                    for _ in range(ROUNDS):
                        for side, found in times.items():
                            found.append(side(model, file, precision, tokens, steps))
                    peer, own = times[theirs], times[ours]
                    cells = [f"{statistics.median(found):.3g} ({min(found):.3g} to {max(found):.3g})" for found in (peer, own)]
                    ratio = statistics.median(peer) / statistics.median(own)
                    print(f"| {name} | {tokens} | {precision} | {cells[0]} | {cells[1]} | {ratio:.2f} times |", flush=True)


if __name__ == "__main__":
    main()
