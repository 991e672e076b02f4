"""Every way in which a published version can be bad: it is named, and the old version goes on serving."""

import json
import shutil

import grpc
import numpy
import pytest
from harness import STARTER, analyst_pb2, analyst_pb2_grpc, wait_until
from safetensors.numpy import load_file, save_file


@pytest.fixture(scope="module")
def cluster(make_cluster):
    cluster = make_cluster()
    cluster.serve(v1=100)
    return cluster


def checkpoint(cluster, name):
    folder = cluster.folder / name
    shutil.copytree(STARTER / "v2", folder)
    (folder / "understudy.json").unlink()
    return folder


def truncated(folder):
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1000])


def garbage(folder):
    (folder / "model.safetensors").write_bytes(b"not a model" * 1000)


def poisoned(folder):
    tensors = load_file(folder / "model.safetensors")
    tensors["classifier.weight"] = numpy.full_like(tensors["classifier.weight"], numpy.nan)
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def third_label(folder):
    config = json.loads((folder / "config.json").read_text())
    config["id2label"] = {"0": "NEGATIVE", "1": "POSITIVE", "2": "mixed"}
    config["label2id"] = {label: int(index) for index, label in config["id2label"].items()}
    (folder / "config.json").write_text(json.dumps(config))


def missing_tensor(folder):
    tensors = load_file(folder / "model.safetensors")
    del tensors["pre_classifier.bias"]
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})


def mend_nothing(_folder):
    pass


def newer(manifest):
    manifest["format"] = 99


def wrong_digest(manifest):
    for file in manifest["files"]:
        if file["path"] == "model.safetensors":
            file["sha256"] = "0" * 64


def other_labels(manifest):
    manifest["labels"] = ["NEGATIVE", "POSITIVE", "mixed"]


def wrong_golden(manifest):
    manifest["goldenExamples"] = [{"text": "A wonderful film.", "probabilities": [0.99, 0.01]}]


CASES = [
    ("half-written", truncated, None, "model.safetensors"),
    ("garbage", garbage, None, "model.safetensors"),
    ("nan", poisoned, None, "classifier.weight"),
    ("labels", third_label, None, "label"),
    ("tensor", missing_tensor, None, "pre_classifier.bias"),
    ("newer", mend_nothing, newer, "newer"),
    ("digest", mend_nothing, wrong_digest, "sha256"),
    ("manifest-labels", mend_nothing, other_labels, "label"),
    ("golden", mend_nothing, wrong_golden, "golden"),
]


def route_by_hand(cluster, version):
    key = "/understudy/v1/models/sentiment/route"
    route = json.loads(cluster.etcdctl("get", key, "--print-value-only"))
    route["epoch"] = str(int(route["epoch"]) + 1)
    route["arms"] = [{"name": "v1", "version": "v1", "weightPpm": 500_000},
                     {"name": "next", "version": version, "weightPpm": 500_000}]
    cluster.etcdctl("put", key, text_in=json.dumps(route))


@pytest.mark.parametrize(("version", "damage", "forge", "words"), CASES, ids=[case[0] for case in CASES])
def test_a_bad_version_fails_and_the_old_one_serves(cluster, version, damage, forge, words):
    folder = checkpoint(cluster, version)
    damage(folder)
    published = cluster.cli(
        "models", "publish", folder, "--model", "sentiment", "--version", version, check=False)
    if published.returncode != 0:
        assert words.lower() in published.stderr.lower(), published.stderr
        return
    if forge:
        # What no publisher of ours writes: put into the registry by hand.
        key = f"/understudy/v1/models/sentiment/versions/{version}"
        manifest = json.loads(cluster.etcdctl("get", key, "--print-value-only"))
        forge(manifest)
        cluster.etcdctl("put", key, text_in=json.dumps(manifest))
    routed = cluster.cli(
        "route", "set", "sentiment", "v1=v1:50", f"next={version}:50", "--no-wait", check=False)
    if routed.returncode != 0:
        # The router does not take it for a version; workers must stand it all the same.
        assert version in routed.stderr
        route_by_hand(cluster, version)
    wait_until(lambda: "RESIDENCY_STATE_FAILED" in cluster.residencies(version), what="its failure")

    residencies = cluster.workers()[0].worker.versions
    reason = next(residency.reason for residency in residencies if residency.version == version)
    assert words.lower() in reason.lower(), reason
    with grpc.insecure_channel(cluster.router()) as channel:
        analyst = analyst_pb2_grpc.AnalystStub(channel)
        for _ in range(20):
            answer = analyst.Classify(analyst_pb2.ClassifyRequest(text="A fine film."), timeout=10)
            assert answer.classification.version == "v1"
    assert cluster.analysts[0].alive() and cluster.routers[0].alive()
    cluster.route(v1=100)


def test_a_folder_without_safetensors_is_told_how_to_convert(cluster):
    folder = checkpoint(cluster, "pickle")
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")
    result = cluster.cli("models", "publish", folder, "--model", "sentiment", "--version", "pickle", check=False)
    assert result.returncode != 0 and "save_pretrained" in result.stderr, result.stderr


def test_a_version_is_immutable(cluster):
    result = cluster.cli(
        "models", "publish", STARTER / "v2", "--model", "sentiment", "--version", "v1", check=False)
    assert result.returncode != 0 and "published already" in result.stderr


def test_a_route_to_nowhere_is_refused(cluster):
    result = cluster.cli("route", "set", "sentiment", "stable=v77:100", check=False)
    assert result.returncode != 0 and "v77" in result.stderr


def test_junk_in_the_registry_keeps_the_last_good_route(cluster):
    key = "/understudy/v1/models/sentiment/route"
    good = cluster.etcdctl("get", key, "--print-value-only")
    for junk in ["{", '{"epoch": "-3"}', "[]", '{"model": "sentiment", "arms": [{"weightPpm": 7}]}', "\0" * 100]:
        cluster.etcdctl("put", key, text_in=junk)
        with grpc.insecure_channel(cluster.router()) as channel:
            request = analyst_pb2.ClassifyRequest(text="A fine film.")
            assert analyst_pb2_grpc.AnalystStub(channel).Classify(request, timeout=10).classification.version == "v1"
    cluster.etcdctl("put", key, text_in=good)
    cluster.route(v1=100)
