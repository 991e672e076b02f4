"""What a client in another language meets: contract, health, reflection, error details."""

import grpc
import pytest
from google.rpc import error_details_pb2, status_pb2
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2
from grpc_reflection.v1alpha.proto_reflection_descriptor_database import ProtoReflectionDescriptorDatabase
from harness import analyst_pb2, analyst_pb2_grpc

GOOD = "A wonderful, funny and moving film. The cast is brilliant and the ending is perfect."
BAD = "A dull, stupid and boring mess. The acting is awful and the script is worse."


@pytest.fixture(scope="module")
def served(make_cluster):
    cluster = make_cluster()
    cluster.serve(v1=100, v2=0)
    return cluster


@pytest.fixture
def analyst(served):
    with grpc.insecure_channel(served.router()) as channel:
        yield analyst_pb2_grpc.AnalystStub(channel)


def field_of(error: grpc.RpcError) -> str:
    """The field that the error's BadRequest names."""
    trailers = dict(error.trailing_metadata())
    status = status_pb2.Status.FromString(trailers["grpc-status-details-bin"])
    for detail in status.details:
        violation = error_details_pb2.BadRequest()
        if detail.Unpack(violation):
            return violation.field_violations[0].field
    raise AssertionError(f"no BadRequest in {status}")


def refused(call, *arguments, **options) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as caught:
        call(*arguments, **options)
    return caught.value


def test_an_answer_is_complete(analyst):
    answer, call = analyst.Classify.with_call(analyst_pb2.ClassifyRequest(text=GOOD))
    result = answer.classification
    assert result.label == "POSITIVE"
    assert result.confidence == max(p.probability for p in result.probabilities)
    assert abs(sum(p.probability for p in result.probabilities) - 1) < 1e-5
    assert [p.label for p in result.probabilities] == ["NEGATIVE", "POSITIVE"]
    assert 10 < result.token_count < 40 and not result.truncated and result.version == "v1"
    headers = dict(call.initial_metadata())
    assert headers["understudy-version"] == "v1" and headers["understudy-arm"] == "v1"
    assert headers["understudy-worker"] == "analyst-0"
    assert analyst.Classify(analyst_pb2.ClassifyRequest(text=BAD)).classification.label == "NEGATIVE"
    long = analyst.Classify(analyst_pb2.ClassifyRequest(text="good film " * 900)).classification
    assert long.truncated


def test_batch_and_single_agree(analyst):
    texts = [GOOD, BAD, "It is a film.", GOOD * 5] * 8
    batch = analyst.ClassifyBatch(analyst_pb2.ClassifyBatchRequest(texts=texts)).classifications
    assert len(batch) == 32
    for text, result in zip(texts[:4], batch):
        single = analyst.Classify(analyst_pb2.ClassifyRequest(text=text)).classification
        assert single.label == result.label and abs(single.confidence - result.confidence) < 0.02


def test_stream_answers_in_order_and_refuses_in_place(analyst):
    texts = [[GOOD, BAD, ""][index % 3] for index in range(600)]
    requests = (analyst_pb2.ClassifyStreamRequest(text=text) for text in texts)
    answers = list(analyst.ClassifyStream(requests))
    assert [answer.index for answer in answers] == list(range(600))
    for text, answer in zip(texts, answers):
        if text:
            assert answer.classification.label == ("POSITIVE" if text == GOOD else "NEGATIVE")
        else:
            assert answer.refusal.code == grpc.StatusCode.INVALID_ARGUMENT.value[0]


def test_model_info(analyst):
    info = analyst.GetModelInfo(analyst_pb2.GetModelInfoRequest())
    assert (info.model, info.version, info.batch_max, info.characters_max) == ("sentiment", "v1", 32, 10_000)
    assert list(info.labels) == ["NEGATIVE", "POSITIVE"] and info.device == "cpu"


@pytest.mark.parametrize("text", ["", " \n\t", "x" * 10_001])
def test_bad_text_names_the_field(analyst, text):
    error = refused(analyst.Classify, analyst_pb2.ClassifyRequest(text=text))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT and field_of(error) == "text"
    error = refused(analyst.ClassifyBatch, analyst_pb2.ClassifyBatchRequest(texts=[GOOD, text]))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT and field_of(error) == "texts[1]"


def test_the_longest_text_is_served(analyst):
    assert analyst.Classify(analyst_pb2.ClassifyRequest(text="é" * 10_000)).classification.label


@pytest.mark.parametrize("count", [0, 33])
def test_batch_bounds(analyst, count):
    error = refused(analyst.ClassifyBatch, analyst_pb2.ClassifyBatchRequest(texts=[GOOD] * count))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT and field_of(error) == "texts"


def test_invalid_utf8_is_the_clients_fault(served):
    with grpc.insecure_channel(served.router()) as channel:
        classify = channel.unary_unary("/understudy.v1.Analyst/Classify")
        error = refused(classify, b"\x0a\x03\xff\xfe\xfd")
        assert error.code() is grpc.StatusCode.INVALID_ARGUMENT, error
        assert analyst_pb2.ClassifyResponse.FromString(classify(b"\x0a\x04good")).classification.label


@pytest.mark.parametrize(("metadata", "code", "words"), [
    ([("understudy-model", "weather")], grpc.StatusCode.NOT_FOUND, "sentiment"),
    ([("understudy-version", "v9")], grpc.StatusCode.NOT_FOUND, "v1"),
])
def test_unknown_targets_say_what_there_is(analyst, metadata, code, words):
    error = refused(analyst.Classify, analyst_pb2.ClassifyRequest(text=GOOD), metadata=metadata)
    assert error.code() is code and words in error.details()


def test_a_pinned_version_answers(analyst):
    request = analyst_pb2.ClassifyRequest(text=GOOD)
    assert analyst.Classify(request, metadata=[("understudy-version", "v2")]).classification.version == "v2"


def test_deadline_is_kept(analyst):
    much = analyst_pb2.ClassifyBatchRequest(texts=[GOOD * 40] * 32)
    error = refused(analyst.ClassifyBatch, much, timeout=0.004)
    assert error.code() is grpc.StatusCode.DEADLINE_EXCEEDED
    assert analyst.ClassifyBatch(much, timeout=20).classifications[31].truncated


def test_health(served):
    for address, services in [
        (served.router(), ["", "understudy.v1.Analyst"]),
        (f"127.0.0.1:{served.analyst_ports[0]}", ["", "understudy.v1.Analyst", "sentiment/v1", "sentiment/v2"]),
        (f"127.0.0.1:{served.registry_port}", [""]),
    ]:
        with grpc.insecure_channel(address) as channel:
            health = health_pb2_grpc.HealthStub(channel)
            for service in services:
                answer = health.Check(health_pb2.HealthCheckRequest(service=service), timeout=5)
                assert answer.status == health_pb2.HealthCheckResponse.SERVING, (address, service)
            error = refused(health.Check, health_pb2.HealthCheckRequest(service="nobody"), timeout=5)
            assert error.code() is grpc.StatusCode.NOT_FOUND


def test_reflection_v1alpha_and_v1(served):
    servers = {
        served.router(): "understudy.v1.Analyst",
        f"127.0.0.1:{served.analyst_ports[0]}": "understudy.v1.Analyst",
        f"127.0.0.1:{served.registry_port}": "etcdserverpb.KV",
    }
    for address, service in servers.items():
        with grpc.insecure_channel(address) as channel:
            services = ProtoReflectionDescriptorDatabase(channel).get_services()
            assert {service, "grpc.health.v1.Health"} <= set(services), address
            # v1 is v1alpha under another name, and Python's package has no stub for it.
            request = reflection_pb2.ServerReflectionRequest(file_containing_symbol=service)
            v1 = channel.stream_stream(
                "/grpc.reflection.v1.ServerReflection/ServerReflectionInfo",
                reflection_pb2.ServerReflectionRequest.SerializeToString,
                reflection_pb2.ServerReflectionResponse.FromString)
            answer = next(v1(iter([request])))
            assert answer.file_descriptor_response.file_descriptor_proto
