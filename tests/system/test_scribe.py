"""The scribe through the router: streams, critiques, swaps, and callers and files that mean harm."""

import collections
import csv
import json
import struct
import threading
import time

import grpc
import pytest
from harness import REPOSITORY, SCRIBE, scribe_pb2 as pb, scribe_pb2_grpc, wait_until

SHEET = pb.FactSheet(
    title="films.csv",
    items="reviews",
    facts=[
        pb.Fact(name="number of reviews", number=pb.Number(value=220, unit=pb.UNIT_ITEMS)),
        pb.Fact(name="share", subject="positive", number=pb.Number(value=54.1, unit=pb.UNIT_PERCENT, decimals=1)),
        pb.Fact(name="share", subject="negative", number=pb.Number(value=45.9, unit=pb.UNIT_PERCENT, decimals=1)),
    ],
)


@pytest.fixture(scope="module")
def cluster(make_cluster):
    cluster = make_cluster(scribes=1)
    cluster.serve(v1=100)
    cluster.publish("v1", SCRIBE, model="critic")
    cluster.route("critic", v1=100)
    return cluster


@pytest.fixture(scope="module")
def scribe(cluster):
    with grpc.insecure_channel(cluster.router()) as channel:
        yield scribe_pb2_grpc.ScribeStub(channel)


def request(text="The film", tokens=60, **fields):
    sampling = pb.Sampling(temperature=0, max_tokens=tokens, **fields.pop("sampling", {}))
    return pb.GenerateRequest(prompt=text, sampling=sampling, **fields)


def read(call):
    """The text and the finish of a stream."""
    events = list(call)
    assert all(event.WhichOneof("event") == "text" for event in events[:-1])
    return "".join(event.text for event in events[:-1]), events[-1].finish


def refusal(call) -> grpc.RpcError:
    with pytest.raises(grpc.RpcError) as raised:
        list(call)
    return raised.value


def test_a_stream_comes_in_pieces_and_ends_with_its_figures(scribe):
    call = scribe.Generate(request())
    events = list(call)
    assert len(events) > 20, "the text came in one piece"
    finish = events[-1].finish
    assert finish.usage.completion_tokens == 60 and finish.reason == pb.FINISH_REASON_LENGTH
    assert finish.version == "v1" and dict(call.initial_metadata())["understudy-version"] == "v1"
    assert finish.timings.prompt_seconds > 0 and finish.timings.decode_seconds > 0


def test_a_stop_string_ends_the_text_before_it(scribe):
    whole, _ = read(scribe.Generate(request()))
    stop = whole[20:26]
    text, finish = read(scribe.Generate(request(sampling={"stop": [stop]})))
    assert finish.reason == pb.FINISH_REASON_STOP and text == whole[:whole.index(stop)]


def test_a_json_schema_holds(scribe):
    schema = json.dumps({"type": "object", "properties": {"good": {"type": "boolean"}}, "required": ["good"],
                         "additionalProperties": False})
    text, _ = read(scribe.Generate(request("Answer:", 40, json_schema=schema)))
    assert isinstance(json.loads(text)["good"], bool)


def test_eight_streams_progress_together(scribe):
    order, calls = [], [scribe.Generate(request(f"Story {index}:", 80)) for index in range(8)]

    def follow(index):
        for event in calls[index]:
            order.append((index, event.WhichOneof("event")))

    threads = [threading.Thread(target=follow, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    first_end = next(at for at, (_, event) in enumerate(order) if event == "finish")
    counts = collections.Counter(index for index, _ in order[:first_end])
    assert len(counts) == 8 and min(counts.values()) > 10, counts


def test_a_cancelled_stream_frees_its_slot(cluster, scribe):
    long = [scribe.Generate(request(f"Tale {index}:", 1000)) for index in range(8)]
    for call in long:
        next(call)
    waiting = scribe.Generate(request("Next:", 5), timeout=30)
    long[0].cancel()
    text, finish = read(waiting)
    assert finish.usage.completion_tokens == 5 and text
    for call in long[1:]:
        assert next(call).WhichOneof("event") == "text", "a neighbour was disturbed"
        call.cancel()


def test_the_next_turn_computes_only_what_is_new(scribe):
    def chat(*contents):
        roles = [pb.ROLE_SYSTEM] + [pb.ROLE_USER, pb.ROLE_ASSISTANT] * len(contents)
        messages = [pb.ChatMessage(role=role, content=text) for role, text in zip(roles, contents)]
        return pb.GenerateRequest(chat=pb.Chat(messages=messages), sampling=pb.Sampling(temperature=0, max_tokens=30))

    system, question = "You answer in short sentences about films. " * 10, "Was it good?"
    answer, first = read(scribe.Generate(chat(system, question)))
    _, second = read(scribe.Generate(chat(system, question, answer, "Why?")))
    assert second.usage.cached_prompt_tokens >= first.usage.prompt_tokens - 5
    other, third = read(scribe.Generate(chat(system, "Was it long?")))
    assert third.usage.cached_prompt_tokens >= 80, "the system prompt was computed again"


@pytest.mark.parametrize(
    "hostile, code, part",
    [
        (pb.GenerateRequest(), "INVALID_ARGUMENT", "prompt"),
        (request(""), "INVALID_ARGUMENT", "prompt"),
        (request(tokens=0), "INVALID_ARGUMENT", "max_tokens"),
        (request(tokens=2**31), "INVALID_ARGUMENT", "tokens"),
        (request("word " * 200_000), "INVALID_ARGUMENT", "prompt"),
        (request(grammar="root ::= ("), "INVALID_ARGUMENT", "grammar"),
        (request(grammar="start ::= [a-z]"), "INVALID_ARGUMENT", "grammar"),
        (request(grammar="root ::= root root"), "INVALID_ARGUMENT", "grammar"),
        (request(json_schema="{"), "INVALID_ARGUMENT", "json_schema"),
        (request(json_schema='{"type": "nonsense"}'), "INVALID_ARGUMENT", "json_schema"),
        (request(sampling={"top_p": float("nan")}), "INVALID_ARGUMENT", "top_p"),
        (request(sampling={"stop": ["x"] * 1000}), "INVALID_ARGUMENT", "stop"),
    ],
)
def test_hostile_requests_get_clear_errors(scribe, hostile, code, part):
    error = refusal(scribe.Generate(hostile, timeout=30))
    assert error.code().name == code, error
    assert part in error.details() or part in str(error.trailing_metadata()), error
    assert read(scribe.Generate(request(tokens=3)))[0]


def test_a_critique_is_written_and_judged(scribe):
    events = list(scribe.WriteCritique(pb.WriteCritiqueRequest(sheet=SHEET, attempts_max=2), timeout=120))
    assert events[0].attempt.number == 1 and any(event.text for event in events)
    report = events[-1].finish.report
    assert report.claims and report.supported + report.unsupported == len(report.claims)
    assert 1 <= report.attempt <= report.attempts <= 2
    assert (report.attempts == 1) == (report.unsupported == 0 and report.attempt == 1) or report.attempts == 2


def test_a_file_of_reviews_becomes_a_critique(cluster, tmp_path):
    reports = [tmp_path / f"report.{ending}" for ending in ("json", "md", "html")]
    flags = [part for report in reports for part in ("--report", report)]
    cluster.cli("critique", REPOSITORY / "demo/reviews.csv", *flags)
    report = json.loads(reports[0].read_text())
    with (REPOSITORY / "demo/reviews.csv").open(newline="") as file:
        assert report["statistics"]["texts"] == len(list(csv.DictReader(file)))
    assert sum(c["texts"] for c in report["statistics"]["classes"]) == report["statistics"]["texts"]
    claims = report["critique"]["claims"]
    assert claims and sum(claim["supported"] for claim in claims) >= 0.8 * len(claims), claims
    assert "<svg" in reports[2].read_text() and report["critique"]["text"][:40] in reports[1].read_text()


def test_a_swap_under_load_drops_no_stream(cluster):
    cluster.publish("v2", SCRIBE, model="critic")
    failures, finished, stop = [], collections.Counter(), threading.Event()

    def follow(index):
        with grpc.insecure_channel(cluster.router(), [("grpc.use_local_subchannel_pool", 1)]) as channel:
            stub = scribe_pb2_grpc.ScribeStub(channel)
            while not stop.is_set():
                call = stub.Generate(request(f"Story {index}:", 150), timeout=60)
                try:
                    _, finish = read(call)
                    assert finish.usage.completion_tokens == 150 or finish.reason == pb.FINISH_REASON_END
                    assert dict(call.initial_metadata())["understudy-version"] == finish.version
                    finished[finish.version] += 1
                except (grpc.RpcError, AssertionError) as error:
                    failures.append(error)

    threads = [threading.Thread(target=follow, args=(index,)) for index in range(4)]
    for thread in threads:
        thread.start()
    for version in ("v2", "v1", "v2", "v1"):
        before = finished[version]
        time.sleep(2)
        cluster.route("critic", **{version: 100})
        wait_until(lambda: finished[version] > before + 4, 60, f"streams of {version}")
    stop.set()
    for thread in threads:
        thread.join()
    assert not failures, f"{failures[:3]}\n{cluster.logs()}"
    print(f"{sum(finished.values())} streams over 4 swaps, 0 failed: {dict(finished)}")


def test_a_running_stream_finishes_on_the_version_that_it_began_on(cluster, scribe):
    call = scribe.Generate(request("Once", 1500))
    next(call)
    cluster.route("critic", v2=100)
    wait_until(lambda: read(scribe.Generate(request(tokens=2)))[1].version == "v2", what="v2")
    _, finish = read(call)
    assert finish.version == "v1"
    cluster.route("critic", v1=100)
    wait_until(lambda: read(scribe.Generate(request(tokens=2)))[1].version == "v1", what="v1")


def hostile_files():
    good = SCRIBE.read_bytes()
    layers = good.index(b"llama.block_count") + len(b"llama.block_count") + 4
    yield "truncated", good[: len(good) // 2]
    yield "garbage", bytes(range(256)) * 100
    yield "empty", b""
    yield "layers", good[:layers] + struct.pack("<I", 9999) + good[layers + 4:]
    yield "tensors", good[:8] + struct.pack("<Q", 2**63) + good[16:]
    yield "architecture", good.replace(b"llama", b"lLama", 1)


def test_a_hostile_file_is_refused_and_the_old_version_goes_on(cluster, scribe, tmp_path):
    for name, content in hostile_files():
        path = tmp_path / f"{name}.gguf"
        path.write_bytes(content)
        cluster.publish(name, path, model="critic")
        cluster.cli("route", "set", "critic", "stable=v1", f"canary={name}:0", "--no-wait")
        wait_until(lambda: "RESIDENCY_STATE_FAILED" in cluster.residencies(name), what=f"{name} to fail")
        assert cluster.scribes[0].alive(), cluster.logs()
        assert read(scribe.Generate(request(tokens=3)))[1].version == "v1"


def test_a_killed_worker_ends_its_stream_with_a_clear_code_and_comes_back(cluster, scribe):
    call = scribe.Generate(request("Once", 1500))
    next(call)
    cluster.scribes[0].kill()
    assert refusal(call).code() == grpc.StatusCode.UNAVAILABLE
    cluster.scribes[0].start()
    wait_until(lambda: read(scribe.Generate(request(tokens=2), timeout=5))[1].version == "v1", 60, "the worker again")
