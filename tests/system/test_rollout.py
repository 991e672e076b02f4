"""Rollouts of the real thing: decided by themselves, whatever fails meanwhile."""

import base64
import collections
import contextlib
import datetime
import http.client
import json
import signal
import statistics
import time

import grpc
import pytest
from harness import STARTER, Load, wait_until

# All are v1 once more; the workers are told to fail or delay two of them.
FAULTS = {
    "slow": "sentiment/slow:delay=60ms",
    "erring": "sentiment/erring:error=0.3",
    "crawling": "sentiment/crawling:delay=2s",
    "hanging": "sentiment/hanging:delay=10m",
    "failing": "sentiment/failing:error=1",
}
SPEC = """
shadow: {sample: 50%, hold: 1s, pairs_min: 50}
steps:
  - {weight: 1%, hold: 1s, requests_min: 3}
  - {weight: 5%, hold: 1s, requests_min: 10}
  - {weight: 25%, hold: 1s, requests_min: 50}
  - {weight: 50%, hold: 2s, requests_min: 100}
# This machine is shared: what is proved here is that rollouts run, not how fast versions are.
gates: {latency: {increase_min: 200%, increase_max: 500%}, proof: false}
watch: 2s
standby: 1s
"""


def start(make_cluster, registry, *versions, **options):
    """A cluster that serves v1 and knows these versions."""
    faults = tuple(FAULTS[version] for version in versions if version in FAULTS)
    cluster = make_cluster(registry=registry, routers=2, faults=faults, **options)
    cluster.serve(v1=100)
    for version in versions:
        cluster.publish(version, source=STARTER / "v1")
    (cluster.folder / "spec.yaml").write_text(SPEC)
    return cluster


def roll_out(cluster, version, *flags, router=0, seconds=90):
    """Starts a rollout and waits for its end. The CLI's exit code and the rollout's record."""
    result = cluster.cli(
        "rollout", "start", "sentiment", version, "--spec", cluster.folder / "spec.yaml", "--wait", "--timeout",
        f"{seconds}s", *flags, router=router, check=False)
    assert result.stdout.strip(), f"{result.stderr}\n{cluster.logs()}"
    return result.returncode, json.loads(result.stdout)


def begin(cluster, version, *flags, router=0):
    spec = ("--spec", cluster.folder / "spec.yaml")
    return cluster.cli("rollout", "start", "sentiment", version, *spec, *flags, router=router)


def status(cluster, router=0):
    return cluster.cli("rollout", "status", "sentiment", router=router)


def phase(cluster, router=0) -> str:
    return status(cluster, router)["rollout"]["status"]["phase"]


def weight(cluster, router=0) -> int:
    return int(status(cluster, router)["rollout"]["history"][-1].get("weightPpm", 0))


def weights(rollout) -> list:
    number = rollout["number"]
    return [int(change.get("weightPpm", 0)) for change in rollout["history"] if change["rollout"] == number]


@contextlib.contextmanager
def load_on(cluster, reviews, routers=(0, 1), threads=1):
    """Load on these routers; their answers are in the list that this gives."""
    with contextlib.ExitStack() as stack:
        loads = [stack.enter_context(Load(cluster.router(router), reviews, threads=threads)) for router in routers]
        wait_until(lambda: all(len(load.answers) > 50 for load in loads), what="load")
        yield loads


def failures(loads) -> collections.Counter:
    return collections.Counter(
        (answer.code, answer.version) for load in loads for answer in load.answers if answer.code is not grpc.StatusCode.OK)


@pytest.mark.parametrize("registry", ["embedded", "etcd"])
def test_good_versions_come_into_service_and_bad_ones_do_not(make_cluster, reviews, registry):
    cluster = start(make_cluster, registry, "good", "erring", "slow")
    with load_on(cluster, reviews) as loads:
        code, rollout = roll_out(cluster, "good")
        assert code == 0 and rollout["status"]["phase"] == "PHASE_DONE", f"{rollout}\n{cluster.logs()}"
        done = time.monotonic()
        for load in loads:
            wait_until(lambda: sum(a.at > done for a in load.answers) > 20, what="answers after it")  # noqa: B023
            assert {a.version for a in load.answers if a.at > done} == {"good"}
    assert not failures(loads), f"{failures(loads)}\n{cluster.logs()}"
    assert [w for w, next in zip(weights(rollout), [*weights(rollout)[1:], None]) if w != next] == [
        0, 10_000, 50_000, 250_000, 500_000, 1_000_000]

    for bad, gate in (("erring", "errors"), ("slow", "latency")):
        with load_on(cluster, reviews) as loads:
            began = time.monotonic()
            code, rollout = roll_out(cluster, bad, "--no-shadow")
            ended = time.monotonic()
        reason = rollout["status"]["reason"]
        assert (code, rollout["status"]["phase"]) == (3, "PHASE_ROLLED_BACK"), f"{rollout}\n{cluster.logs()}"
        assert gate in reason, reason
        # Its share and no more was touched, and nobody failed but by it.
        answers = [a for load in loads for a in load.answers if began <= a.at <= ended]
        touched = sum(a.version == bad for a in answers)
        print(f"{registry}: {bad} rolled back after {touched} of {len(answers)} requests: {reason}")
        assert touched <= len(answers) * max(weights(rollout)) / 1e6 + 5
        assert set(failures(loads)) <= ({(grpc.StatusCode.INTERNAL, bad)} if bad == "erring" else set())


def test_mirroring_everything_to_a_bad_version_does_not_slow_or_fail_clients(make_cluster, reviews):
    cluster = start(make_cluster, "etcd", "crawling", "hanging", "failing")
    spec = cluster.folder / "shadow.yaml"
    # Nothing is decided in the time of this test.
    spec.write_text("strategy: shadow\nshadow: {sample: 100%, hold: 10m}\ngates: {errors: off, confidence: off, agreement: off}")
    p99s = collections.defaultdict(list)

    def measure(what):
        begin, before = time.monotonic(), mirrored()
        time.sleep(1.5)
        seconds = sorted(a.seconds for a in load.answers if a.at > begin)
        assert (mirrored() > before) == (what != "nothing"), what
        p99s[what].append(seconds[int(len(seconds) * 0.99)] * 1e3)

    def mirrored():
        return int(status(cluster)["live"].get("shadow", {}).get("chosen", 0))

    # Far below what the machine can do: where nothing is to spare, nothing is mirrored.
    with Load(cluster.router(), reviews, threads=2, pace=0.02) as load:
        # By turns, so that whatever else the machine does meets all of them.
        for version in ("crawling", "hanging", "failing") * 3:
            cluster.cli("rollout", "start", "sentiment", version, "--spec", spec)
            wait_until(lambda: phase(cluster) == "PHASE_SHADOW" and mirrored() > 0, what="mirroring")
            measure(version)
            cluster.cli("rollout", "abort", "sentiment")
            wait_until(lambda: phase(cluster) == "PHASE_ROLLED_BACK", what="the end")
            measure("nothing")
    assert not load.failures(), f"{load.failures()}\n{cluster.logs()}"
    assert {a.version for a in load.answers} == {"v1"}
    medians = {what: statistics.median(values) for what, values in p99s.items()}
    print("p99 in ms, all requests mirrored to a version that is:", {what: round(p99, 2) for what, p99 in medians.items()})
    # The bar is 5%, on a machine of one's own; a shared one shakes by more.
    assert all(p99 <= medians["nothing"] * 1.5 + 20 for p99 in medians.values()), p99s


def test_a_dead_leader_is_replaced_in_the_middle_of_a_canary(make_cluster, reviews):
    cluster = start(make_cluster, "etcd", "good")
    began = begin(cluster, "good")
    leader = wait_until(lambda: status(cluster)["live"]["leader"], what="a leader")
    dying, living = (0, 1) if leader == "router-0" else (1, 0)
    with load_on(cluster, reviews, routers=(living,), threads=2) as loads:
        wait_until(lambda: weight(cluster, living) >= 50_000, what="the second step")
        cluster.routers[dying].kill()
        killed = time.monotonic()
        wait_until(lambda: phase(cluster, living) == "PHASE_DONE", seconds=60, what="the promotion")
        print(f"promoted {time.monotonic() - killed:.1f} s after the leader's death")
    after = status(cluster, living)
    assert after["live"]["leader"] == f"router-{living}"
    assert after["rollout"]["number"] == began["number"]
    assert weights(after["rollout"]) == sorted(weights(after["rollout"])), "no weight went back"
    assert not failures(loads), f"{failures(loads)}\n{cluster.logs()}"


def write_junk(port) -> int:
    """Writes and deletes a scorecard so often that a watch that is not read falls behind: what HTTP/2 lets through without the
    reader, and then more events than etcd keeps for it. Gives the last revision."""
    connection = http.client.HTTPConnection("127.0.0.1", port)
    encode = lambda text: base64.b64encode(text.encode()).decode()  # noqa: E731
    key = encode("/understudy/v1/scorecards/sentiment/junk")

    def call(method, **body):
        connection.request("POST", f"/v3/kv/{method}", json.dumps({"key": key, **body}))
        return json.loads(connection.getresponse().read())

    for size in [250_000] * 40 + [1] * 400:
        call("put", value=encode("x" * size))
    return int(call("deleterange")["header"]["revision"])


def test_an_absent_registry_a_compaction_and_clocks_that_jump_delay_a_canary_and_no_request(make_cluster, reviews):
    cluster = start(make_cluster, "etcd", "good", cables=True, clocks=True)
    # Long enough that a clock jumps in the middle of a hold.
    (cluster.folder / "spec.yaml").write_text(SPEC.replace("5%, hold: 1s", "5%, hold: 6s").replace("25%, hold: 1s", "25%, hold: 6s"))
    with load_on(cluster, reviews) as loads:
        begin(cluster, "good")
        wait_until(lambda: weight(cluster) >= 50_000, what="the second step")
        # Hours on, and days back: whichever router leads, no hold is over for that, nor is a step done twice.
        second = time.monotonic()
        cluster.clocks[0].jump(2 * 3_600)
        cluster.clocks[1].jump(-3 * 86_400)
        wait_until(lambda: weight(cluster) >= 250_000, what="the third step")
        held = time.monotonic() - second
        assert 5.5 < held < 20, f"a hold of 6 s took {held:.1f} s"
        changed_at = datetime.datetime.fromisoformat(status(cluster)["rollout"]["history"][-1]["at"].replace("Z", "+00:00"))
        wrong = abs((changed_at - datetime.datetime.now(datetime.timezone.utc)).total_seconds())
        assert wrong > 3_600, f"the leader's clock is off by {wrong:.0f} s only"
        cluster.clocks[0].jump(-86_400)
        cluster.clocks[1].jump(365 * 86_400)

        # Longer than any lease, timeout and hold.
        cluster.registry.child.send_signal(signal.SIGSTOP)
        stopped = time.monotonic()
        time.sleep(60)
        resumed = time.monotonic()
        cluster.registry.child.send_signal(signal.SIGCONT)
        for load in loads:
            during = [a for a in load.answers if stopped + 1 < a.at < resumed]
            assert len(during) > 200 and {a.version for a in during} == {"v1", "good"}, collections.Counter(
                a.version for a in during)

        # One router's watches fall behind, by more than connections hold, and what they miss is compacted away.
        wait_until(lambda: status(cluster)["live"]["routersCurrent"] == 2, what="both routers")
        # Whether the watch or the connection gives up first is a matter of time: again, until it was the watch.
        told = lambda: "is gone" in cluster.routers[1].log.read_text()  # noqa: E731
        for _ in range(5):
            cluster.cables[1].cut()
            revision = write_junk(cluster.registry_port)
            cluster.etcdctl("compact", str(revision))
            cluster.cables[1].mend()
            with contextlib.suppress(AssertionError):
                wait_until(told, seconds=5, what="the compaction")
                break
        wait_until(lambda: phase(cluster) == "PHASE_DONE", seconds=90, what="the promotion")
        done = time.monotonic()
        for load in loads:
            wait_until(lambda: sum(a.at > done for a in load.answers) > 20, what="answers after it")  # noqa: B023
            assert {a.version for a in load.answers if a.at > done} == {"good"}
    assert told(), "the compaction met no watch"
    assert not failures(loads), f"{failures(loads)}\n{cluster.logs()}"
    history = weights(status(cluster)["rollout"])
    assert history == sorted(history), "no weight went back"
    # Each step once.
    steps = [(change["to"], change.get("step", 0)) for change in status(cluster)["rollout"]["history"]]
    assert len(steps) == len(set(steps)), steps


def test_an_abort_takes_effect_on_every_router_within_a_second(make_cluster, reviews):
    cluster = start(make_cluster, "etcd", "good")
    (cluster.folder / "half.yaml").write_text(
        "shadow: off\nsteps: [{weight: 50%, hold: 10m}]\ngates: {latency: off}\n")
    took = []
    with load_on(cluster, reviews, threads=2) as loads:
        for _ in range(5):
            cluster.cli("rollout", "start", "sentiment", "good", "--spec", cluster.folder / "half.yaml")
            since = time.monotonic()

            def served(load):
                return any(a.version == "good" and a.at > since for a in load.answers)  # noqa: B023

            wait_until(lambda: all(map(served, loads)), what="the candidate on both routers")
            asked = time.monotonic()
            cluster.cli("rollout", "abort", "sentiment", "--reason", "a test")
            time.sleep(1.5)
            # When the last request began that the candidate got, of each router.
            last = [max(a.at for a in load.answers if a.version == "good") for load in loads]
            took.append(max(last) - asked)
            wait_until(lambda: phase(cluster) == "PHASE_ROLLED_BACK", what="the end")
    assert not failures(loads), f"{failures(loads)}\n{cluster.logs()}"
    print(f"after `rollout abort` began: {', '.join(f'{seconds * 1e3:.0f} ms' for seconds in took)}")
    assert max(took) <= 1 and statistics.median(took) <= 0.5, took
