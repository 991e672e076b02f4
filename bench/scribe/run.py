"""Decode and prompt tokens per second, time to the first token and what a repeated system prompt costs: Understudy's scribe
against llama.cpp's own server, the same model file, prompts, token counts and client, greedy, in turns. Prints Markdown.

usage: bench/scribe/run.py [--shape starter|160m|8b]... [--rounds N]"""

import argparse
import http.client
import json
import os
import platform
import random
import signal
import socket
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from dataclasses import dataclass
from pathlib import Path

import gguf

REPOSITORY = Path(__file__).resolve().parents[2]
STARTER = REPOSITORY / "models/starter-scribe/critic.gguf"
BIN = Path(os.environ.get("UNDERSTUDY_BIN", REPOSITORY / "target/release"))
STREAMS = (1, 2, 4, 8)
# One for each stream, and room for the longest request.
SLOTS, CONTEXT = 8, 1024
THREADS = len(os.sched_getaffinity(0))
# Threads that spin between two tokens take the client's time: neither side's do.
ENVIRONMENT = {**os.environ, "GOMP_SPINCOUNT": "0"}


@dataclass(frozen=True)
class Load:
    """Tokens of each kind of request."""

    decode: int
    prompt: int
    system: int
    chat: int
    turns: int


LOADS = {"starter": Load(128, 512, 400, 16, 4), "160m": Load(128, 512, 400, 16, 4), "8b": Load(24, 128, 128, 8, 2)}


@dataclass
class Answer:
    sent: float
    first: float
    last: float
    prompt: int
    completion: int


class LlamaServer:
    name = "llama-server"

    def __init__(self, model: Path, binary: str, log):
        self.port = free_port()
        self.process = subprocess.Popen(
            [binary, "-m", str(model), "--host", "127.0.0.1", "--port", str(self.port), "-np", str(SLOTS), "-c",
             str(SLOTS * CONTEXT), "-t", str(THREADS), "-tb", str(THREADS)],
            stdout=log, stderr=log, env=ENVIRONMENT)
        wait_until(self.process, self.ready)

    def ready(self) -> bool:
        try:
            return self.post("/tokenize", {"content": "a"}).status == 200
        except OSError:
            return False

    def post(self, path: str, body: dict):
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=600)
        connection.request("POST", path, json.dumps(body), {"Content-Type": "application/json"})
        return connection.getresponse()

    def count(self, text: str) -> int:
        return len(json.load(self.post("/tokenize", {"content": text}))["tokens"])

    def generate(self, prompt: str, tokens: int) -> Answer:
        body = {"prompt": prompt, "n_predict": tokens, "temperature": 0, "stream": True}
        answer, last = self.stream("/completion", body)
        final = json.loads(last)
        answer.prompt, answer.completion = final["tokens_evaluated"], final["tokens_predicted"]
        return answer

    def chat(self, messages: list, tokens: int) -> Answer:
        body = {"messages": [{"role": role, "content": content} for role, content in messages], "max_tokens": tokens,
                "temperature": 0, "stream": True, "stream_options": {"include_usage": True}}
        answer, last = self.stream("/v1/chat/completions", body)
        usage = json.loads(last)["usage"]
        answer.prompt, answer.completion = usage["prompt_tokens"], usage["completion_tokens"]
        return answer

    def stream(self, path: str, body: dict):
        sent = time.perf_counter()
        response = self.post(path, body)
        if response.status != 200:
            raise SystemExit(f"llama-server: {response.status} {response.read(500)!r}")
        first = last = None
        data = b""
        while line := response.readline():
            if not line.startswith(b"data: {"):
                continue
            data, now = line[6:], time.perf_counter()
            # The first line of a chat only names the role, and its last has no choice.
            if b'"content":null' not in data and b'"role":"assistant"' not in data:
                first = first or now
                if b'"choices":[]' not in data:
                    last = now
        return Answer(sent, first, last, 0, 0), data

    def stop(self):
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(30)


class Understudy:
    name = "understudy"

    def __init__(self, model: Path, stubs: Path, folder: Path, log):
        sys.path.insert(0, str(stubs))
        import grpc
        from understudy.v1 import scribe_pb2

        self.pb = scribe_pb2
        command = [str(BIN / "understudy"), "up", "--data-dir", str(folder), "--free-ports", "--serve", f"bench/v1={model}", "--json"]
        self.process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=log, text=True,
            env={**ENVIRONMENT, "UNDERSTUDY_SLOTS": str(SLOTS), "UNDERSTUDY_CONTEXT_TOKENS": str(CONTEXT),
                 "UNDERSTUDY_THREADS": str(THREADS), "UNDERSTUDY_DEVICE": "cpu"})
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("understudy up did not start; its log is on standard error with --verbose")
        ready = json.loads(line)
        # The worker itself, as the other side has no router either.
        address = ready["scribes"][0] if ready.get("scribes") else ready["router"]
        self.channel = grpc.insecure_channel(address.removeprefix("http://"))
        as_bytes = lambda message: message  # noqa: E731
        self.call = self.channel.unary_stream(
            "/understudy.v1.Scribe/Generate", request_serializer=self.pb.GenerateRequest.SerializeToString,
            response_deserializer=as_bytes)
        deadline = time.monotonic() + 120
        while True:
            try:
                self.generate("a", 1)
                return
            except grpc.RpcError as error:
                if time.monotonic() > deadline:
                    raise SystemExit(f"understudy: {error}") from error
                time.sleep(0.2)

    def generate(self, prompt: str, tokens: int) -> Answer:
        return self.stream(self.pb.GenerateRequest(prompt=prompt), tokens)

    def chat(self, messages: list, tokens: int) -> Answer:
        roles = {"system": self.pb.ROLE_SYSTEM, "user": self.pb.ROLE_USER}
        chat = self.pb.Chat(messages=[self.pb.ChatMessage(role=roles[role], content=content) for role, content in messages])
        return self.stream(self.pb.GenerateRequest(chat=chat), tokens)

    def stream(self, request, tokens: int) -> Answer:
        request.sampling.CopyFrom(self.pb.Sampling(temperature=0, max_tokens=tokens))
        sent = time.perf_counter()
        first = last = None
        data = b""
        for data in self.call(request, metadata=[("understudy-model", "bench")], timeout=600):
            now = time.perf_counter()
            # Field 1 is text, field 2 the finish.
            if data[:1] == b"\x0a":
                first, last = first or now, now
        usage = self.pb.GenerateResponse.FromString(data).finish.usage
        return Answer(sent, first, last, usage.prompt_tokens, usage.completion_tokens)

    def stop(self):
        self.channel.close()
        self.process.send_signal(signal.SIGTERM)
        self.process.wait(60)


def free_port() -> int:
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def wait_until(process, ready) -> None:
    deadline = time.monotonic() + 300
    while not ready():
        if process.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(f"{process.args[0]} did not start")
        time.sleep(0.1)


class Texts:
    """Prompts of known lengths, no two of which begin alike."""

    WORDS = ("the film begins well and its cast is strong but some viewers found the ending slow while others praised the music "
             "and the photography of a story that most reviews call honest funny and a little too long").split()

    def __init__(self, count, seed: int):
        self.count, self.draw = count, random.Random(seed)
        self.per_word = count(" ".join(self.some(200))) / 200

    def some(self, words: int) -> list:
        return [self.draw.choice(self.WORDS) for _ in range(words)]

    def of(self, tokens: int) -> str:
        words = self.some(int(tokens / self.per_word) + 40)
        while (over := self.count(" ".join(words)) - tokens) > 0:
            del words[-max(1, int(over / self.per_word / 1.2)):]
        return " ".join(words)


def at_once(jobs: list) -> list:
    """Runs each job on a thread of its own and waits for all."""
    answers, failures = [None] * len(jobs), []

    def run(place: int):
        try:
            answers[place] = jobs[place]()
        except BaseException as failure:  # noqa: BLE001
            failures.append(failure)

    threads = [threading.Thread(target=run, args=(place,)) for place in range(len(jobs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failures:
        raise failures[0]
    return answers


def expect(side, answers: list, tokens: int) -> None:
    wrong = [answer.completion for answer in answers if answer.completion != tokens]
    if wrong:
        raise SystemExit(f"{side.name} generated {wrong} tokens instead of {tokens}: the figures would not compare")


def measure(side, load: Load, plan: dict) -> dict:
    """All figures of one side, with the prompts of the plan."""
    side.generate(plan["warm"], 8)
    figures = {}
    for streams in STREAMS:
        prompts = plan["decode", streams]
        answers = at_once([lambda prompt=prompt: side.generate(prompt, load.decode) for prompt in prompts])
        expect(side, answers, load.decode)
        wall = max(answer.last for answer in answers) - min(answer.first for answer in answers)
        figures["decode", streams] = streams * (load.decode - 1) / wall

        prompts = plan["prompt", streams]
        answers = at_once([lambda prompt=prompt: side.generate(prompt, 1) for prompt in prompts])
        expect(side, answers, 1)
        wall = max(answer.first for answer in answers) - min(answer.sent for answer in answers)
        figures["prompt", streams] = sum(answer.prompt for answer in answers) / wall
        figures["first", streams] = statistics.median(answer.first - answer.sent for answer in answers) * 1e3

        system, users = plan["chat", streams]
        began = time.perf_counter()
        answers = at_once([
            lambda mine=mine: [side.chat([("system", system), ("user", user)], load.chat) for user in mine] for mine in users])
        wall = time.perf_counter() - began
        answers = [answer for mine in answers for answer in mine]
        expect(side, answers, load.chat)
        figures["repeated", streams] = len(answers) / wall
        figures["tokens", streams] = statistics.median(answer.prompt for answer in answers)
    return figures


def plan(texts: Texts, load: Load) -> dict:
    prompts = {"warm": texts.of(32)}
    for streams in STREAMS:
        prompts["decode", streams] = [texts.of(16) for _ in range(streams)]
        prompts["prompt", streams] = [texts.of(load.prompt) for _ in range(streams)]
        users = [[texts.of(20) for _ in range(load.turns)] for _ in range(streams)]
        prompts["chat", streams] = (texts.of(load.system), users)
    return prompts


def compare(shape: str, model: Path, rounds: int, folder: Path, stubs: Path, binary: str, log) -> None:
    load = LOADS[shape]
    figures = {LlamaServer.name: [], Understudy.name: []}
    start = {
        LlamaServer.name: lambda round_: LlamaServer(model, binary, log),
        Understudy.name: lambda round_: Understudy(model, stubs, folder / f"data-{shape}-{round_}", log),
    }
    server = LlamaServer(model, binary, log)
    plans = [plan(Texts(server.count, seed), load) for seed in range(rounds)]
    server.stop()
    for round_ in range(rounds):
        # Who is first changes, so that a machine that slows down slows both.
        for name in sorted(start, reverse=round_ % 2 == 1):
            side = start[name](round_)
            try:
                figures[name].append(measure(side, load, plans[round_]))
            finally:
                side.stop()
            print(f"{shape}: round {round_ + 1} of {rounds}, {name} done", file=sys.stderr, flush=True)
    median = {name: {what: statistics.median(each[what] for each in all_) for what in all_[0]} for name, all_ in figures.items()}
    ours, theirs = median[Understudy.name], median[LlamaServer.name]
    prompts = {name: median[name]["tokens", 1] for name in median}
    if abs(prompts[Understudy.name] - prompts[LlamaServer.name]) > 2:
        print(f"{shape}: the chats had {prompts} prompt tokens", file=sys.stderr)

    def cell(what: str, streams: int, digits: int, smaller_is_better=False) -> str:
        a, b = ours[what, streams], theirs[what, streams]
        ratio = b / a if smaller_is_better else a / b
        return f"{a:,.{digits}f} / {b:,.{digits}f} ({ratio:.2f})"

    for streams in STREAMS:
        print(f"| {shape} | {streams} | {cell('decode', streams, 1)} | {cell('prompt', streams, 0)} | "
              f"{cell('first', streams, 0, True)} | {cell('repeated', streams, 2)} |", flush=True)


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    flags = next(line for line in lines if line.startswith("flags")).split()
    features = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_int8") if flag in flags]
    return f"{name}, {THREADS} cores, {' '.join(features)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", choices=list(LOADS), help="[starter and 160m]")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("BENCH_ROUNDS", "3")))
    parser.add_argument("--verbose", action="store_true", help="shows what both sides log")
    arguments = parser.parse_args()
    binary = subprocess.run([str(Path(__file__).with_name("server.sh"))], check=True, stdout=subprocess.PIPE, text=True).stdout.strip()
    log = None if arguments.verbose else subprocess.DEVNULL
    with tempfile.TemporaryDirectory(prefix="understudy-bench-") as name:
        folder = Path(name)
        stubs = folder / "stubs"
        stubs.mkdir()
        protos = [str(path) for path in (REPOSITORY / "proto/understudy/v1").glob("*.proto")]
        subprocess.run([sys.executable, "-m", "grpc_tools.protoc", f"-I{REPOSITORY / 'proto'}", f"--python_out={stubs}", *protos],
                       check=True)
        print(f"CPU: {cpu()}; Linux {platform.release()}; {THREADS} threads; medians of {arguments.rounds} rounds; "
              "Understudy / llama-server (above 1 is faster).\n")
        print("| model | streams | decode tokens/s | prompt tokens/s | time to first token, ms | repeated system prompt: answers/s |")
        print("| --- | ---: | ---: | ---: | ---: | ---: |")
        for shape in arguments.shape or ["starter", "160m"]:
            if shape == "starter" and not STARTER.exists():
                print(f"bench: {STARTER} does not exist, left out", file=sys.stderr)
                continue
            model = folder / f"{shape}.gguf"
            if shape == "starter":
                gguf.copy_without_end(STARTER, model)
            else:
                gguf.write(model, gguf.SHAPES[shape])
            compare(shape, model, arguments.rounds, folder, stubs, binary, log)
            model.unlink()


if __name__ == "__main__":
    main()
