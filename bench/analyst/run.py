"""Reviews per second for the DistilBERT-base shape: Understudy against a hand-made Python stack on `transformers` and on
ONNX Runtime, concurrent single requests, the same weights, texts, contract and load generator. Prints Markdown."""

import csv
import json
import os
import platform
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import checkpoint

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(os.environ["UNDERSTUDY_BIN"])
CONCURRENCY = int(os.environ.get("BENCH_CONCURRENCY", "16"))
SECONDS = int(os.environ.get("BENCH_SECONDS", "8"))
TOKENS = (128, 256, 512)
SYSTEMS = [
    ("transformers", "fp32"), ("transformers", "bf16"), ("transformers", "int8"),
    ("onnxruntime", "fp32"), ("onnxruntime", "int8"),
    ("understudy", "fp32"), ("understudy", "bf16"), ("understudy", "int8"), ("understudy", "auto"),
]


def texts(folder: Path, tokens: int) -> Path:
    """64 texts of exactly `tokens` tokens."""
    path, draw = folder / f"{tokens}.csv", random.Random(tokens)
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["review"])
        for _ in range(64):
            rows.writerow([" ".join(checkpoint.word(draw.randrange(25_000)) for _ in range(tokens - 2))])
    return path


def start(engine: str, precision: str, folder: Path, stubs: Path):
    """The process and the address where it serves `understudy.v1.Analyst`."""
    model = folder / "checkpoint"
    if engine != "understudy":
        command = [sys.executable, str(Path(__file__).with_name("peer.py")), "--stubs", str(stubs),
                   "--checkpoint", str(model), "--engine", engine, "--precision", precision]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        return process, f"http://127.0.0.1:{int(process.stdout.readline())}"
    command = [str(BIN / "understudy"), "up", "--data-dir", str(folder / f"data-{precision}"), "--free-ports",
               "--serve", f"bench={model}", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
                               env={**os.environ, "UNDERSTUDY_PRECISION": precision})
    return process, json.loads(process.stdout.readline())["router"]


def load(address: str, file: Path, seconds: int) -> dict:
    output = subprocess.run(
        [str(BIN / "understudy"), "--router", address, "load", "--file", str(file), "--concurrency", str(CONCURRENCY),
         "--duration", f"{seconds}s", "--json"], check=True, capture_output=True, text=True).stdout
    return json.loads(output)


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    flags = next(line for line in lines if line.startswith("flags")).split()
    features = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_bf16") if flag in flags]
    return f"{name}, {os.cpu_count()} cores, {' '.join(features)}"


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="understudy-bench-") as name:
        folder = Path(name)
        stubs = folder / "stubs"
        stubs.mkdir()
        protos = [str(path) for path in (REPOSITORY / "proto/understudy/v1").glob("*.proto")]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{REPOSITORY / 'proto'}", f"--python_out={stubs}",
                        f"--grpc_python_out={stubs}", *protos], check=True)
        (folder / "checkpoint").mkdir()
        checkpoint.write(folder / "checkpoint")
        files = {tokens: texts(folder, tokens) for tokens in TOKENS}

        print(f"CPU: {cpu()}; Linux {platform.release()}; closed loop of {CONCURRENCY}, {SECONDS} s a figure.\n")
        print("| engine | precision | " + " | ".join(f"{t} tokens: reviews/s (p50 ms)" for t in TOKENS) + " |")
        print("| --- | --- | " + " | ".join("---:" for _ in TOKENS) + " |")
        for engine, precision in SYSTEMS:
            process, address = start(engine, precision, folder, stubs)
            cells = []
            try:
                for tokens in TOKENS:
                    load(address, files[tokens], 2)
                    time.sleep(0.5)
                    result = load(address, files[tokens], SECONDS)
                    if result["failures"]:
                        raise SystemExit(f"{engine} {precision}: {result['failures']} requests failed")
                    cells.append(f"{result['requests_per_second']:.1f} ({result['latency_ms']['p50']:.0f})")
            finally:
                process.send_signal(signal.SIGTERM)
                process.wait(30)
            print(f"| {engine} | {precision} | " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
