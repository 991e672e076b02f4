"""What mirroring costs the clients of the version that serves: rounds without a rollout and rounds with all requests mirrored
to a bad candidate, by turns, under one open-loop load. The real binaries, a real etcd; the candidates' faults are the workers' own
(`--inject-fault`). Prints Markdown.

usage: bench/router/mirror.py [--cycles 7] [--seconds 3] [--share 0.4]; each cycle takes about 11 s for each candidate"""

import argparse
import bisect
import collections
import csv
import json
import os
import random
import shutil
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/system"))
from harness import BIN, REPOSITORY, STARTER, Cluster, Process, wait_until  # noqa: E402

FAULTS = ("sentiment/slow:delay=500ms", "sentiment/erring:error=1")
CANDIDATES = {
    "slow": "each answer takes 0.5 s more",
    "erring": "each call fails at once",
    "dead": "its worker refuses connections",
    "silent": "its worker takes connections and never answers",
    "healthy": "as good as the primary (for comparison: it needs as much of the processor again)",
}
# Nothing is decided in the time of a round.
SPEC = "strategy: shadow\nshadow: {sample: 100%, hold: 1h}\ngates: {errors: off, latency: off, confidence: off, agreement: off}\n"
# From a change of what is loaded to the next figure.
SETTLE_SECONDS = 0.7
BOOTSTRAPS = 2_000


class Bench(Cluster):
    """One router and one worker, and workers that are only said to be there."""

    def worker(self, kind, index, port):
        # What is not wanted any more goes at once, and not in the next round.
        os.environ["UNDERSTUDY_DRAIN_GRACE"] = "50ms"
        return super().worker(kind, index, port)

    def announce(self, version, port):
        """A worker's record, as it stands after its process died or hung, and before its lease has run out."""
        record = {"worker": version, "kind": "KIND_ANALYST", "address": f"http://127.0.0.1:{port}",
                  "versions": [{"model": "sentiment", "version": version, "state": "RESIDENCY_STATE_READY"}]}
        self.etcdctl("put", f"/understudy/v1/workers/{version}", json.dumps(record))

    def publish_elsewhere(self, version):
        """A version that the living worker cannot load, so that only the dead one has it."""
        self.publish(version, source=STARTER / "v2")
        for folder in (self.folder / "store").rglob(version):
            shutil.rmtree(folder)

    def live(self):
        return self.cli("rollout", "status", "sentiment")

    def cpu_seconds(self):
        ticks = 0
        for process in (self.routers[0], self.analysts[0]):
            fields = Path(f"/proc/{process.child.pid}/stat").read_text().rsplit(")", 1)[1].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


Round = collections.namedtuple("Round", "cycle what begin end chosen sent cpu")


def mirror_all(cluster, version):
    assert cluster.load.alive(), cluster.load.log.read_text()
    cluster.cli("rollout", "start", "sentiment", version, "--spec", cluster.folder / "shadow.yaml")
    wait_until(lambda: int(cluster.live()["live"].get("shadow", {}).get("chosen", 0)) > 0, what=f"mirroring to {version}")


def counts(cluster):
    card = cluster.live()["live"].get("shadow", {})
    get = lambda name: int(card.get(name, 0))  # noqa: E731
    return get("chosen"), get("chosen") - get("noPlace") - get("tooLarge")


def measure(cluster, cycle, what, seconds):
    time.sleep(SETTLE_SECONDS)
    before = counts(cluster) if what != "none" else (0, 0)
    begin, cpu = time.time(), cluster.cpu_seconds()
    time.sleep(seconds)
    end, cpu = time.time(), cluster.cpu_seconds() - cpu
    after = counts(cluster) if what != "none" else (0, 0)
    return Round(cycle, what, begin, end, after[0] - before[0], after[1] - before[1], cpu / (end - begin))


def quantile(ordered, q):
    return ordered[min(int(len(ordered) * q), len(ordered) - 1)]


def p99_ratio(pairs):
    """Of the rounds with mirroring to their neighbours without, each thrown together."""
    without, mirrored = (sorted(latency for pair in pairs for latency in pair[side]) for side in (0, 1))
    return quantile(mirrored, 0.99) / quantile(without, 0.99)


def report(rounds, answers, names):
    times = [answer[0] for answer in answers]

    def within(round):
        return answers[bisect.bisect_left(times, round.begin):bisect.bisect_left(times, round.end)]

    latencies = {id(round): [answer[1] for answer in within(round)] for round in rounds}
    failures = collections.Counter()
    for round in rounds:
        failures[round.what] += sum(code != "Ok" for _, _, code, _ in within(round))

    def row(what, chosen):
        ordered = sorted(latency for round in chosen for latency in latencies[id(round)])
        mirrored, sent = sum(round.chosen for round in chosen), sum(round.sent for round in chosen)
        cells = [what, f"{len(ordered):,}", f"{mirrored:,} ({sent:,})", f"{quantile(ordered, 0.5):.2f}",
                 f"{quantile(ordered, 0.99):.2f}", f"{statistics.mean(round.cpu for round in chosen) * 100:.0f}%"]
        return cells, sum(failures[kind] for kind in {round.what for round in chosen})

    print("| candidate | requests | chosen to be mirrored (sent) | p50 ms | p99 ms | CPU of router and worker | failed | p99, ratio to the rounds "
          "beside it (90% interval; quartiles of the cycles) |")
    print("| --- | ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    cells, failed = row("none", [round for round in rounds if round.what == "none"])
    print(f"| {' | '.join(cells)} | {failed} | |")
    draw = random.Random(1)
    for name in names:
        pairs = []
        for index, round in enumerate(rounds):
            if round.what == name:
                neighbours = [rounds[index - 1], *rounds[index + 1:index + 2]]
                without = [latency for neighbour in neighbours for latency in latencies[id(neighbour)]]
                pairs.append((without, latencies[id(round)]))
        again = sorted(p99_ratio(draw.choices(pairs, k=len(pairs))) for _ in range(BOOTSTRAPS))
        each = sorted(p99_ratio([pair]) for pair in pairs)
        cells, failed = row(name, [round for round in rounds if round.what == name])
        print(f"| {' | '.join(cells)} | {failed} | {p99_ratio(pairs):.3f} ({quantile(again, 0.05):.3f} to {quantile(again, 0.95):.3f}; "
              f"{quantile(each, 0.25):.2f}, {quantile(each, 0.5):.2f}, {quantile(each, 0.75):.2f}) |")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cycles", type=int, default=7, help="rounds of each kind")
    parser.add_argument("--seconds", type=float, default=3, help="length of a round")
    parser.add_argument("--share", type=float, default=0.4, help="load, as a part of what the platform can take")
    parser.add_argument("--candidates", nargs="+", default=list(CANDIDATES), choices=list(CANDIDATES))
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="understudy-bench-"))
    cluster = Bench(folder, registry="etcd", faults=FAULTS)
    try:
        cluster.start()
        cluster.serve(v1=100)
        for version in ("slow", "erring", "healthy"):
            cluster.publish(version, source=STARTER / "v1")
        (folder / "shadow.yaml").write_text(SPEC)
        with (REPOSITORY / "demo/reviews.csv").open(newline="") as file:
            (folder / "texts").write_text("\n".join(row["review"].replace("\n", " ") for row in csv.DictReader(file)))
        # Its listener is never read; what nobody listens on refuses.
        silent = socket.create_server(("127.0.0.1", 0), backlog=64)
        refusing = socket.create_server(("127.0.0.1", 0))
        ports = {"silent": silent.getsockname()[1], "dead": refusing.getsockname()[1]}
        refusing.close()
        for version, port in ports.items():
            cluster.publish_elsewhere(version)
            cluster.announce(version, port)

        full = json.loads(subprocess.run(
            [BIN / "understudy", "--router", f"http://{cluster.router()}", "--json", "load", "--file", REPOSITORY / "demo/reviews.csv",
             "--concurrency", "16", "--duration", "4s"], check=True, capture_output=True, text=True).stdout)
        rate = full["requests_per_second"] * options.share
        cpu = next(line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name"))
        print(f"CPU: {cpu}, {os.cpu_count()} cores; {rate:.0f} requests/s, Poisson, {options.share:.0%} of a closed loop's "
              f"{full['requests_per_second']:.0f}; {options.cycles} rounds of {options.seconds:g} s of each kind, by turns.\n", flush=True)
        load = cluster.load = Process(folder, "load", BIN / "examples/open_loop", "--router", f"http://{cluster.router()}", "--rate", rate,
                                      "--texts", folder / "texts", "--out", folder / "answers")
        cluster.processes.append(load)
        time.sleep(1)
        rounds = []
        for cycle in range(options.cycles):
            for name in options.candidates:
                rounds.append(measure(cluster, cycle, "none", options.seconds))
                mirror_all(cluster, name)
                rounds.append(measure(cluster, cycle, name, options.seconds))
                cluster.cli("rollout", "abort", "sentiment")
                wait_until(lambda: "ROLLED_BACK" in cluster.live()["rollout"]["status"]["phase"], what="the end")
            assert load.alive(), load.log.read_text()
        # The last answers.
        time.sleep(1)
        load.child.send_signal(signal.SIGTERM)
        load.child.wait(10)
        with (folder / "answers").open(newline="") as file:
            answers = sorted((int(at) / 1e6, int(micros) / 1e3, code, version) for at, micros, code, version in csv.reader(file))
        report(rounds, answers, options.candidates)
        strangers = {version for _, _, _, version in answers} - {"v1"}
        assert not strangers, f"answers by {strangers}"
        print("\nCandidates: " + "; ".join(f"{name}: {CANDIDATES[name]}" for name in options.candidates) + ".")
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    main()
