#!/usr/bin/env python3
"""Trains against a real MLflow server and reads back, by MLflow's own client, what it got.

    make test-mlflow

Not part of `make test`: MLflow takes 850 MB and more than a minute to install.
"""

import csv
import json
import math
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from pathlib import Path

import mlflow

TRAINER = Path(os.environ.get("UNDERSTUDY_BIN", "target/release")) / "understudy-trainer"
SMALL = """--vocab-size 180 --dim 16 --layers 1 --heads 2 --hidden-dim 32 --max-tokens 48 --train-tokens 32
           --batch-size 8 --learning-rate 0.01 --threads 1""".split()


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def reviews(path):
    good, bad = ["superb", "charming", "gripping"], ["dreadful", "tedious", "clumsy"]
    with path.open("w", newline="") as file:
        rows = csv.writer(file)
        rows.writerow(["review", "sentiment"])
        for i in range(400):
            words = good if i % 2 else bad
            rows.writerow([f"The film number {i} was {words[i % 3]} from its start to its end", "neg pos".split()[i % 2]])


def trainer(folder, *words, **options):
    return subprocess.run([TRAINER, *words], cwd=folder, capture_output=True, text=True, **options)


def wait_for(url, server):
    for _ in range(360):
        try:
            urllib.request.urlopen(f"{url}/health", timeout=2)
            return
        except OSError:
            assert server.poll() is None, "the server ended"
            time.sleep(0.5)
    raise SystemExit("the server does not answer")


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        reviews(folder / "data.csv")
        port = free_port()
        url = f"http://127.0.0.1:{port}"
        command = [sys.executable, "-m", "mlflow", "server", "--port", str(port), "--workers", "1"]
        store = ["--backend-store-uri", f"sqlite:///{folder}/mlflow.db", "--artifacts-destination", str(folder / "artifacts")]
        with (folder / "server.log").open("w") as log:
            server = subprocess.Popen([*command, *store], stdout=log, stderr=log, start_new_session=True)
        try:
            wait_for(url, server)
            check(folder, url)
        finally:
            os.killpg(server.pid, signal.SIGTERM)
            server.wait()
    print("ok: MLflow has what the local run has")


def check(folder, url):
    train = ["train", "--data", "data.csv", "--mlflow", url, "--mlflow-experiment", "reviews", "--epochs", "2", *SMALL]
    for name in ("first", "second"):
        done = trainer(folder, *train, "--output", name)
        assert done.returncode == 0, done.stderr
    client = mlflow.MlflowClient(url)
    experiment = client.get_experiment_by_name("reviews")
    found = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(found) == {"first", "second"}, found
    for name, run in found.items():
        shown = trainer(folder, "runs", "show", name, "--json")
        assert shown.returncode == 0, shown.stderr
        local = json.loads(shown.stdout)
        assert run.info.run_id == local["mlflow_run"]
        assert run.info.status == "FINISHED" and local["status"] == "finished"
        assert run.data.params == local["parameters"], (run.data.params, local["parameters"])
        assert run.data.tags["data_sha256.data.csv"] == local["data_sha256"]["data.csv"]
        assert run.data.tags["understudy.run"] == local["id"]
        assert set(run.data.metrics) == set(local["series"]) and "validation/accuracy" in local["series"]
        for metric, series in local["series"].items():
            there = sorted((point.step, point.value) for point in client.get_metric_history(run.info.run_id, metric))
            assert [step for step, _ in there] == [step for step, _ in series], (metric, there, series)
            # Two readers of the same decimal digits may differ in the last bit.
            for (_, ours), (_, theirs) in zip(series, there):
                assert math.isclose(ours, theirs, rel_tol=1e-14, abs_tol=1e-300), (metric, ours, theirs)
    # A server that goes away stops no run; one that is not there is told before any work.
    gone = trainer(folder, *[word if word != url else f"http://127.0.0.1:{free_port()}" for word in train], "--output", "third")
    assert gone.returncode != 0 and "is `mlflow server` running" in gone.stderr, gone.stderr


if __name__ == "__main__":
    main()
