"""How long after the decision a rollback takes effect on every router: two routers on a real etcd, under load, half of the traffic
on the candidate. By turns an operator aborts, asking either router, and the errors gate finds a candidate that fails. The decision
is the transition's time in the rollout's history, before it is written; the effect is the last request that the candidate was
given by any router. Prints Markdown.

usage: bench/router/rollback.py [--rollbacks 50], each takes about 5 s"""

import argparse
import datetime
import os
import re
import shutil
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests/system"))
from harness import REPOSITORY, STARTER, Cluster, Load, wait_until  # noqa: E402

SPEC = "shadow: off\nsteps: [{weight: 50%, hold: 10m}]\ngates: {latency: off, confidence: off}\n"
# Until every request that the decision could not stop has begun.
EFFECT_SECONDS_MAX = 1.5


def seconds_of(timestamp):
    """Of the Unix epoch; nanoseconds are more than Python reads."""
    whole, fraction = re.fullmatch(r"([^.Z]+)(\.\d+)?Z", timestamp).groups()
    parsed = datetime.datetime.fromisoformat(whole).replace(tzinfo=datetime.timezone.utc)
    return parsed.timestamp() + float(fraction or 0)


def roll_back(cluster, loads, automatic, router):
    """Seconds from the decision to the effect on each router."""
    version = "erring" if automatic else "good"
    began = time.monotonic()
    cluster.cli("rollout", "start", "sentiment", version, "--spec", cluster.folder / "half.yaml")

    def given(load):
        return [answer.at for answer in load.answers[-20_000:] if answer.version == version and answer.at > began]

    def state():
        return cluster.cli("rollout", "status", "sentiment")["rollout"]

    if not automatic:
        wait_until(lambda: all(len(given(load)) > 5 for load in loads), what="the candidate on both routers")
        cluster.cli("rollout", "abort", "sentiment", "--reason", "a measurement", router=router)
    wait_until(lambda: state()["status"]["phase"] == "PHASE_ROLLED_BACK", what="the rollback")
    time.sleep(EFFECT_SECONDS_MAX)
    rollout = state()
    back = next(change for change in rollout["history"]
                if change["rollout"] == rollout["number"] and change["to"] == "PHASE_ROLLING_BACK")
    assert ("errors" in back["reason"]) == automatic, back
    decided = seconds_of(back["at"]) - (time.time() - time.monotonic())
    return [max(given(load), default=decided) - decided for load in loads]


def quantile(values, q):
    ordered = sorted(values)
    return ordered[min(int(len(ordered) * q), len(ordered) - 1)]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rollbacks", type=int, default=50)
    options = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="understudy-bench-"))
    cluster = Cluster(folder, registry="etcd", routers=2, faults=("sentiment/erring:error=0.3",))
    took = {False: [], True: []}
    try:
        cluster.start()
        cluster.serve(v1=100)
        for version in ("good", "erring"):
            cluster.publish(version, source=STARTER / "v1")
        (folder / "half.yaml").write_text(SPEC)
        texts = (REPOSITORY / "demo/reviews.csv").read_text().splitlines()[1:]
        with Load(cluster.router(0), texts, threads=2, pace=0.004) as first, Load(cluster.router(1), texts, threads=2, pace=0.004) as second:
            for number in range(options.rollbacks):
                automatic = number % 2 == 1
                took[automatic].append(max(roll_back(cluster, (first, second), automatic, router=number // 2 % 2)))
            seconds = sum(1 for load in (first, second) for _ in load.answers)
    finally:
        cluster.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{os.cpu_count()} cores, {seconds:,} requests over {options.rollbacks} rollbacks; milliseconds from the decision to the last request "
          "that any of two routers gave to the candidate.\n")
    print("| decided by | rollbacks | median | p95 | p99 | greatest |")
    print("| --- | ---: | ---: | ---: | ---: | ---: |")
    both = took[False] + took[True]
    for name, values in (("an operator", took[False]), ("the errors gate", took[True]), ("either", both)):
        if values:
            cells = [f"{quantile(values, q) * 1e3:.0f}" for q in (0.5, 0.95, 0.99)]
            print(f"| {name} | {len(values)} | {' | '.join(cells)} | {max(values) * 1e3:.0f} |")
    if quantile(both, 0.99) > 1:
        raise SystemExit("p99 is above 1 s")


if __name__ == "__main__":
    main()
