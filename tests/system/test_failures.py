"""Things are killed, and traffic goes on."""

import time

import grpc
import pytest
from harness import Load, analyst_pb2, analyst_pb2_grpc, wait_until


def ready_everywhere(cluster, version, workers):
    wait_until(lambda: cluster.residencies(version).count("RESIDENCY_STATE_READY") == workers, what="every replica")


def test_a_killed_worker_costs_no_unary_request(make_cluster, reviews):
    cluster = make_cluster(analysts=2)
    cluster.serve(v1=100)
    ready_everywhere(cluster, "v1", 2)

    with Load(cluster.router(), reviews, threads=8) as load:
        wait_until(lambda: {a.worker for a in load.answers[-200:]} == {"analyst-0", "analyst-1"}, what="both workers")
        cluster.analysts[1].kill()
        killed = time.monotonic()
        wait_until(lambda: len(cluster.workers()) == 1, what="removal by the lease")
        removed = time.monotonic() - killed
        time.sleep(1)
        cluster.analysts[1].start()
        ready_everywhere(cluster, "v1", 2)
        back = time.monotonic()
        wait_until(lambda: any(a.worker == "analyst-1" and a.at > back for a in load.answers[-500:]), what="its return")
    assert not load.failures(), f"{load.failures()} of {len(load.answers)}\n{cluster.logs()}"
    assert removed < 20


def test_a_stream_that_was_answered_in_part_fails_and_says_so(make_cluster):
    cluster = make_cluster(analysts=1)
    cluster.serve(v1=100)
    with grpc.insecure_channel(cluster.router()) as channel:
        def requests():
            while True:
                time.sleep(0.01)
                yield analyst_pb2.ClassifyStreamRequest(text="A fine film.")

        answers = analyst_pb2_grpc.AnalystStub(channel).ClassifyStream(requests())
        next(answers)
        cluster.analysts[0].kill()
        with pytest.raises(grpc.RpcError) as caught:
            for _ in answers:
                pass
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE, caught.value


def test_no_worker_at_all_is_said_at_once(make_cluster):
    cluster = make_cluster(analysts=1)
    cluster.serve(v1=100)
    cluster.analysts[0].kill()
    with grpc.insecure_channel(cluster.router()) as channel:
        start = time.monotonic()
        with pytest.raises(grpc.RpcError) as caught:
            analyst_pb2_grpc.AnalystStub(channel).Classify(analyst_pb2.ClassifyRequest(text="A film."), timeout=10)
        assert caught.value.code() is grpc.StatusCode.UNAVAILABLE and time.monotonic() - start < 5


def test_a_stopped_worker_drains(make_cluster, reviews):
    cluster = make_cluster(analysts=2)
    cluster.serve(v1=100)
    ready_everywhere(cluster, "v1", 2)
    with Load(cluster.router(), reviews, threads=8) as load:
        wait_until(lambda: len(load.answers) > 200, what="load")
        assert cluster.analysts[0].stop() == 0
        time.sleep(1)
    assert not load.failures(), f"{load.failures()} of {len(load.answers)}\n{cluster.logs()}"


@pytest.mark.parametrize("registry", ["embedded", "etcd"])
def test_traffic_does_not_notice_a_dead_registry(make_cluster, reviews, registry):
    cluster = make_cluster(registry=registry)
    cluster.serve(v1=90, v2=10)
    with Load(cluster.router(), reviews) as load:
        wait_until(lambda: len(load.answers) > 200, what="load")
        cluster.registry.kill()
        time.sleep(12)  # longer than a lease
        asked = len(load.answers)
        wait_until(lambda: len(load.answers) > asked + 200, what="traffic without a registry")
    assert not load.failures(), f"{load.failures()} of {len(load.answers)}\n{cluster.logs()}"

    # A router that starts now serves from its last known good state.
    cluster.routers[0].stop()
    cluster.routers[0].start()
    wait_until(lambda: len(cluster.workers()) == 1, what="the restarted router")
    with Load(cluster.router(), reviews) as load:
        wait_until(lambda: len(load.answers) > 400, what="traffic through the restarted router")
        refused = cluster.cli("route", "set", "sentiment", "v1=v1:100", check=False)
        assert refused.returncode != 0 and "registry" in refused.stderr.lower()

        cluster.registry.start()
        wait_until(lambda: cluster.cli("status", check=False).returncode == 0, what="recovery")
        cluster.route(v2=100)
        changed = time.monotonic()
        wait_until(lambda: any(a.at > changed and a.version == "v2" for a in load.answers[-20:]), what="the new route")
    assert not load.failures(), f"{load.failures()} of {len(load.answers)}\n{cluster.logs()}"
    assert cluster.residencies("v2") == ["RESIDENCY_STATE_READY"]
