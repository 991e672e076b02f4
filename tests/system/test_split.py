"""The split is exact, and blind to what a client sends."""

import collections
import concurrent.futures
import itertools

import grpc
import pytest
from harness import Load, analyst_pb2_grpc, ask, wait_until


@pytest.fixture(scope="module")
def cluster(make_cluster):
    cluster = make_cluster()
    cluster.serve(v1=90, v2=10)
    return cluster


def test_each_arm_is_within_one_request_of_its_weight(cluster, reviews):
    """16 concurrent clients; looked at whenever none of them has a request open, 200 times up to 10,000 requests."""
    cluster.route(v1=89, v2=11)  # a fresh split: the counts below start with it
    counts, clients, burst = collections.Counter(), 16, 50
    channels = [
        grpc.insecure_channel(cluster.router(), [("grpc.use_local_subchannel_pool", 1)]) for _ in range(clients)
    ]
    stubs = [analyst_pb2_grpc.AnalystStub(channel).Classify for channel in channels]
    with concurrent.futures.ThreadPoolExecutor(clients) as pool:
        for n in range(burst, 10_001, burst):
            answers = pool.map(lambda i: ask(stubs[i % clients], reviews[i % len(reviews)]), range(n - burst, n))
            for answer in answers:
                assert answer.code is grpc.StatusCode.OK
                assert answer.version == answer.arm
                counts[answer.version] += 1
            for version, share in {"v1": 0.89, "v2": 0.11}.items():
                assert abs(counts[version] - n * share) <= 1, (n, counts)
    for channel in channels:
        channel.close()
    traffic = {arm["arm"]: int(arm["requests"]) for arm in cluster.cli("route", "show", "sentiment")["traffic"]}
    assert traffic == dict(counts)


def test_an_alternating_client_finds_the_same_share_in_both_kinds(cluster):
    cluster.route(v1=90, v2=10)
    kinds = {"short": "A fine film.", "long": "A fine film, with a good cast and a strong story. " * 3}
    counts = collections.Counter()
    with grpc.insecure_channel(cluster.router()) as channel:
        classify = analyst_pb2_grpc.AnalystStub(channel).Classify
        for kind in itertools.islice(itertools.cycle(kinds), 4000):
            counts[kind, ask(classify, kinds[kind]).version] += 1
    for kind in kinds:
        # 200 of 2,000 expected, each stratum of ten drawn at random: five standard deviations are 50.
        assert 150 <= counts[kind, "v2"] <= 250, counts


def test_affinity_keeps_a_caller_on_one_version_and_moves_it_only_forward(cluster):
    def versions():
        with grpc.insecure_channel(cluster.router()) as channel:
            classify = analyst_pb2_grpc.AnalystStub(channel).Classify
            seen = {}
            for caller in range(200):
                metadata = [("understudy-affinity", f"caller-{caller}")]
                first, second = (ask(classify, "A fine film.", metadata).version for _ in range(2))
                assert first == second
                seen[caller] = first
            return seen

    cluster.route(v1=90, v2=10)
    before = versions()
    cluster.route(v1=60, v2=40)
    after = versions()
    assert all(after[caller] == "v2" for caller, version in before.items() if version == "v2")
    assert 4 <= sum(v == "v2" for v in before.values()) <= 40
    assert 50 <= sum(v == "v2" for v in after.values()) <= 110


def test_a_draw_in_metadata_decides(cluster):
    cluster.route(v1=90, v2=10)
    with grpc.insecure_channel(cluster.router()) as channel:
        classify = analyst_pb2_grpc.AnalystStub(channel).Classify
        seen = {draw: ask(classify, "A film.", [("understudy-draw", f"{draw}")]).version for draw in (0.01, 0.5, 0.99)}
    assert set(seen.values()) == {"v1", "v2"}, seen


def test_every_router_splits_by_the_same_route(make_cluster, reviews):
    cluster = make_cluster(routers=2)
    cluster.serve(v1=50, v2=50)
    for router in range(2):
        with Load(cluster.router(router), reviews, threads=2) as load:
            wait_until(lambda: len(load.answers) >= 400, what="400 answers")
        assert not load.failures()
        counts = collections.Counter(answer.version for answer in load.answers)
        assert abs(counts["v1"] - counts["v2"]) <= 2, counts
