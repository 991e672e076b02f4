"""The command line, as an operator uses it, `understudy up` first."""

import csv
import json
import os
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
from harness import BIN, REPOSITORY, STARTER, free_port, wait_until


@pytest.fixture(scope="module")
def up():
    """A platform started by `understudy up`, and its CLI."""
    with tempfile.TemporaryDirectory(prefix="understudy-up-") as folder:
        port = free_port()
        command = [str(BIN / "understudy"), "up", "--data-dir", f"{folder}/data", "--json",
                   "--router-listen", f"127.0.0.1:{port}", "--registry-listen", "127.0.0.1:0",
                   "--serve", f"sentiment={STARTER / 'v1'}"]
        with open(f"{folder}/up.log", "wb") as log:
            process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=log, text=True)
        ready = json.loads(process.stdout.readline())
        try:
            yield Platform(process, port, ready, Path(folder))
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGINT)
                assert process.wait(30) == 0, Path(f"{folder}/up.log").read_text()[-3000:]


class Platform:
    def __init__(self, process, port, ready, folder):
        self.process, self.port, self.ready, self.folder = process, port, ready, folder

    def run(self, *arguments, text_in=None, as_json=True):
        command = [str(BIN / "understudy"), "--router", f"http://127.0.0.1:{self.port}"]
        command += (["--json"] if as_json else []) + [str(argument) for argument in arguments]
        return subprocess.run(command, capture_output=True, text=True, input=text_in)


def test_classify_text_and_standard_input(up):
    result = up.run("classify", "A wonderful, moving and brilliant film.", as_json=False)
    assert result.returncode == 0 and "POSITIVE" in result.stdout, result
    lines = up.run("classify", "-", text_in="A wonderful film.\nA terrible, boring mess.\n")
    answers = [json.loads(line) for line in lines.stdout.splitlines()]
    assert [answer["label"] for answer in answers] == ["POSITIVE", "NEGATIVE"], lines


def test_classify_a_file(up):
    out = up.folder / "out.csv"
    result = up.run("classify", "--file", REPOSITORY / "demo/reviews.csv", "--out", out)
    assert result.returncode == 0, result.stderr
    with (REPOSITORY / "demo/reviews.csv").open(newline="") as file:
        asked = list(csv.DictReader(file))
    with out.open(newline="") as file:
        rows = list(csv.DictReader(file))
    assert [row["review"] for row in rows] == [row["review"] for row in asked]
    right = sum(row["label"].lower() == row["sentiment"] for row in rows) / len(rows)
    assert right > 0.75 and abs(json.loads(result.stdout)["accuracy"] - right) < 1e-6
    assert {row["version"] for row in rows} == {"v1"} and all(0.5 <= float(row["confidence"]) <= 1 for row in rows)


def test_publish_route_status(up):
    assert up.run("models", "publish", STARTER / "v2", "--model", "sentiment", "--version", "v2").returncode == 0
    assert up.run("route", "set", "sentiment", "stable=v1:90", "canary=v2:10").returncode == 0
    models = json.loads(up.run("models", "list").stdout)["models"]
    assert [version["version"] for version in models[0]["versions"]] == ["v1", "v2"]
    assert models[0]["versions"][1]["metrics"]["accuracy"] > 0.8
    status = up.run("status")
    assert status.returncode == 0 and json.loads(status.stdout)["registry_connected"] is True, status


def test_errors_say_what_to_do_next(up):
    nobody = subprocess.run([str(BIN / "understudy"), "--router", f"http://127.0.0.1:{free_port()}", "status"],
                            capture_output=True, text=True)
    assert nobody.returncode == 1 and "understudy up" in nobody.stderr + nobody.stdout
    assert "choose one of v1" in up.run("route", "set", "sentiment", "a=nothing:100").stderr
    assert "understudy models list" in up.run("route", "set", "weather", "a=v1:100").stderr
    second = subprocess.run([str(BIN / "understudy"), "up", "--data-dir", f"{up.folder}/data"], capture_output=True,
                            text=True, timeout=20)
    assert second.returncode != 0 and "already" in second.stderr


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completions(up, shell):
    assert "understudy" in up.run("completions", shell, as_json=False).stdout


def test_a_second_analyst_is_served_beside_the_first(up):
    published = up.run("models", "publish", REPOSITORY / "models/starter-spoilers", "--model", "spoilers", "--version", "v1")
    assert published.returncode == 0, published
    assert up.run("route", "set", "spoilers", "v1").returncode == 0
    labels = []
    for model in ("spoilers", "sentiment"):
        answer = up.run("classify", "--model", model, "A wonderful film, and in the end he turns out to be her father.")
        assert answer.returncode == 0, answer
        labels.append(json.loads(answer.stdout)["label"])
    assert labels[0] in ("SPOILER", "NO_SPOILER") and labels[1] == "POSITIVE"


def children(pid: int) -> list:
    return [int(p) for p in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


def test_a_crashed_child_comes_back_and_children_die_with_up(up):
    def pid_of(name):
        return next(p for p in children(up.process.pid) if name in Path(f"/proc/{p}/cmdline").read_text())

    analyst = pid_of("understudy-analyst")
    os.kill(analyst, signal.SIGKILL)
    wait_until(lambda: pid_of("understudy-analyst") != analyst, what="a new analyst")
    wait_until(lambda: up.run("classify", "--model", "sentiment", "A film.").returncode == 0, what="its answers")

    left = children(up.process.pid)
    up.process.kill()
    up.process.wait()
    wait_until(lambda: not any(Path(f"/proc/{pid}").exists() for pid in left), what="the children's end")
    time.sleep(0.1)
