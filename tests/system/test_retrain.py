"""Retraining from feedback against a running platform: only what passes the gate is published and rolled out."""

import csv
import itertools
import json
import subprocess

from harness import BIN, REPOSITORY, STARTER, Load, wait_until


def feedback(path):
    """The demo's reviews, each with the end of another one of its class: new texts of known words."""
    with (REPOSITORY / "demo/reviews.csv").open(newline="") as file:
        rows = [row for row in csv.DictReader(file) if ". " in row["review"]]
    with path.open("w", newline="") as file:
        out = csv.writer(file)
        out.writerow(["review", "sentiment"])
        for label in ("negative", "positive"):
            texts = [row["review"].split(". ", 1) for row in rows if row["sentiment"] == label]
            for (start, _), (_, end) in itertools.pairwise(texts):
                out.writerow([f"{start}. {end}", label])


def test_only_a_model_that_passes_its_gate_is_published_and_rolled_out(make_cluster, reviews):
    cluster = make_cluster()
    cluster.serve(v1=100)
    labels = cluster.folder / "labels.csv"
    feedback(labels)

    def retrain(*flags):
        return subprocess.run(
            [str(BIN / "understudy-trainer"), "retrain", "--feedback", labels, "--base", STARTER / "v1", "--data",
             REPOSITORY / "demo/reviews.csv", "--output", cluster.folder / "next", "--runs", cluster.folder / "runs",
             "--epochs", "1", "--threads", "1", "--device", "cpu", "--model", "sentiment", "--publish", "next", "--rollout",
             "--router", f"http://{cluster.router()}", *flags],
            capture_output=True, text=True)

    def versions():
        return [version["version"] for model in cluster.cli("models", "list")["models"] for version in model["versions"]]

    unlike = retrain()
    assert unlike.returncode == 4 and "lengths differ from training's" in unlike.stderr, unlike.stderr

    worse = retrain("--accept", "lengths", "--margin", "1")
    assert worse.returncode == 3, worse.stderr
    assert "gate not passed" in worse.stdout and "sentiment next is not published" in worse.stdout, worse.stdout
    assert versions() == ["v1"]

    # The trained model is judged again, by another margin.
    passed = retrain("--accept", "lengths", "--margin=-1", "--resume")
    assert passed.returncode == 0, passed.stderr
    assert "published sentiment next" in passed.stdout and "the rollout of sentiment next begins" in passed.stdout
    assert json.loads((cluster.folder / "next/retraining.json").read_text())["gate"]["passed"]
    assert sorted(versions()) == ["next", "v1"]

    def status():
        return cluster.cli("rollout", "status", "sentiment")["rollout"]["status"]["phase"]

    with Load(cluster.router(), reviews, threads=1) as load:
        wait_until(lambda: status() == "PHASE_SHADOW", what="the shadow stage")
        cluster.cli("rollout", "promote", "sentiment", "--force")
        wait_until(lambda: any(answer.version == "next" for answer in load.answers), what="an answer of the new version")
    assert not load.failures(), cluster.logs()
