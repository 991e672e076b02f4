"""Versions change under full load, and nobody notices."""

import statistics
import time

from harness import Load, wait_until

SECONDS = 60
SWAPS = 10


def settled_bytes(cluster) -> int:
    """Resident memory of the worker once it holds v1 alone and nothing is in flight.

    What the load's last batches left in malloc's hands differs from run to run by a tenth; the worker gives it back when it
    frees a version, so one swap at rest comes first.
    """
    worker = cluster.analysts[0]
    for version, other in (("v2", "v1"), ("v1", "v2")):
        cluster.route(**{version: 100})
        wait_until(lambda: cluster.residencies(version) and not cluster.residencies(other), what=f"{version} alone")
    readings = []
    for _ in range(10):
        time.sleep(0.2)
        readings.append(worker.resident_bytes())
    return int(statistics.median(readings))


def test_ten_swaps_in_a_minute_of_full_load(make_cluster, reviews):
    cluster = make_cluster()
    cluster.serve(v1=100)
    cluster.publish("v2")

    # oneDNN compiles its kernels for each number of tokens that a batch happens to have, and keeps the last 1,024 of them, of
    # 252 KiB each: that is growth by shapes, not by swaps. Many callers fill that cache first.
    with Load(cluster.router(), reviews, threads=48):
        time.sleep(4)
        cluster.route(v2=100)
        time.sleep(4)
        cluster.route(v1=100)
        time.sleep(4)
    before = settled_bytes(cluster)

    with Load(cluster.router(), reviews) as load:
        start = time.monotonic()
        for swap in range(SWAPS):
            wait_until(lambda: time.monotonic() - start >= SECONDS / SWAPS * swap, what="the next swap", seconds=90)
            version = "v2" if swap % 2 == 0 else "v1"
            cluster.route(**{version: 100})
            swapped = time.monotonic()
            wait_until(lambda: any(a.version == version and a.at > swapped for a in load.answers[-50:]))
        wait_until(lambda: time.monotonic() - start >= SECONDS, what="the end", seconds=90)

    assert not load.failures(), f"{load.failures()} of {len(load.answers)}\n{cluster.logs()}"
    assert {answer.version for answer in load.answers} == {"v1", "v2"}
    after = settled_bytes(cluster)
    growth = after / before - 1
    print(f"{len(load.answers)} requests, {SWAPS} swaps, 0 failed; resident {before >> 20} -> {after >> 20} MiB")
    assert growth <= 0.05, f"resident memory grew by {growth:.1%}: {before} -> {after}"
