"""Decode and prompt tokens per second, time to the first token and what a repeated system prompt costs: Understudy's scribe
against llama.cpp's own server, the same model file, prompts, token counts and client, greedy. Prints Markdown.

Other work on the machine should fall on both alike: each figure is taken from one side right after the other, they take turns
in being first, and a ratio is the median of the rounds' ratios. The second table has the processor time that the servers
took, which neighbours disturb least.

usage: bench/scribe/run.py [--shape starter|160m|8b]... [--streams N]... [--load decode|prompt|chat]... [--rounds N]"""

import argparse
import contextlib
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


KINDS = ("decode", "prompt", "chat")
LOADS = {"starter": Load(128, 512, 400, 16, 4), "160m": Load(128, 512, 400, 16, 4), "8b": Load(24, 128, 128, 8, 2)}


@dataclass
class Answer:
    sent: float
    first: float
    last: float
    prompt: int
    completion: int


def cpu_seconds(root: int) -> float:
    """Processor time of a process and those it started."""
    parents, ticks = {}, {}
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            fields = (folder / "stat").read_text().rpartition(")")[2].split()
        except OSError:
            continue
        parents[int(folder.name)], ticks[int(folder.name)] = int(fields[1]), int(fields[11]) + int(fields[12])

    def below(process) -> bool:
        while process not in (root, None):
            process = parents.get(process)
        return process == root

    return sum(ticks[process] for process in ticks if below(process)) / os.sysconf("SC_CLK_TCK")


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


def measure(side, load: Load, kind: str, streams: int, prompts) -> dict:
    """The figures of one kind of load on one side: what they are of, and how much; more is better."""
    before = cpu_seconds(side.process.pid)
    if kind == "decode":
        answers = at_once([lambda prompt=prompt: side.generate(prompt, load.decode) for prompt in prompts])
        expect(side, answers, load.decode)
        # From the sending: a server that begins with the first prompt while others arrive is not the slower for it.
        wall = max(answer.last for answer in answers) - min(answer.sent for answer in answers)
        units = streams * load.decode
        figures = {"decode": units / wall}
    elif kind == "prompt":
        answers = at_once([lambda prompt=prompt: side.generate(prompt, 1) for prompt in prompts])
        expect(side, answers, 1)
        wall = max(answer.first for answer in answers) - min(answer.sent for answer in answers)
        units = sum(answer.prompt for answer in answers)
        figures = {"prompt": units / wall, "first": 1 / statistics.median(answer.first - answer.sent for answer in answers)}
    else:
        system, users = prompts
        began = time.perf_counter()
        answers = at_once([
            lambda mine=mine: [side.chat([("system", system), ("user", user)], load.chat) for user in mine] for mine in users])
        wall = time.perf_counter() - began
        answers = [answer for mine in answers for answer in mine]
        expect(side, answers, load.chat)
        units = len(answers)
        figures = {"chat": units / wall, "tokens": statistics.median(answer.prompt for answer in answers)}
    # The kernel counts in hundredths.
    return {**figures, f"{kind} cpu": units / max(cpu_seconds(side.process.pid) - before, 0.01)}


def plan(texts: Texts, load: Load, kind: str, streams: int):
    if kind == "decode":
        return [texts.of(16) for _ in range(streams)]
    if kind == "prompt":
        return [texts.of(load.prompt) for _ in range(streams)]
    return texts.of(load.system), [[texts.of(20) for _ in range(load.turns)] for _ in range(streams)]


def sessions(cells: list, rounds: int, together: bool) -> list:
    """Which sides run at a time, and what is measured of them, in order: round, cell and side."""
    def order(number: int) -> tuple:
        names = (LlamaServer.name, Understudy.name)
        return names if number % 2 else names[::-1]

    if together:
        steps = [(round_, cell, name) for round_ in range(rounds) for place, cell in enumerate(cells) for name in order(round_ + place)]
        return [(order(0), steps)]
    return [((name,), [(round_, cell, name) for cell in cells]) for round_ in range(rounds) for name in order(round_)]


def compare(shape: str, start: dict, cells: list, rounds: int) -> dict:
    """Figures of both sides by cell and round."""
    load, figures = LOADS[shape], {cell: {name: [] for name in start} for cell in cells}
    server = start[LlamaServer.name]()
    plans = []
    for seed in range(rounds):
        texts = Texts(server.count, seed)
        plans.append({cell: plan(texts, load, *cell) for cell in cells})
    warm = texts.of(32)
    server.stop()
    # Eight billion parameters twice are more than many a machine has room for.
    for names, steps in sessions(cells, rounds, together=shape != "8b"):
        with contextlib.ExitStack() as stack:
            sides = {}
            for name in names:
                sides[name] = start[name]()
                stack.callback(sides[name].stop)
                sides[name].generate(warm, 8)
            for number, (round_, cell, name) in enumerate(steps, 1):
                figures[cell][name].append(measure(sides[name], load, *cell, plans[round_][cell]))
                if number % (2 * len(cells)) == 0 or number == len(steps):
                    print(f"{shape}: round {round_ + 1} of {rounds}", file=sys.stderr, flush=True)
    return figures


# What a table shows: the column, of which load, which figure, and how it is written. Figures are rates.
SPEEDS = [("decode tokens/s", "decode", "decode", lambda value: f"{value:,.1f}"),
          ("prompt tokens/s", "prompt", "prompt", lambda value: f"{value:,.0f}"),
          ("time to first token, ms", "prompt", "first", lambda value: f"{1e3 / value:,.0f}"),
          ("repeated system prompt: answers/s", "chat", "chat", lambda value: f"{value:,.2f}")]
PROCESSOR = [("decode, ms a token", "decode", "decode cpu", lambda value: f"{1e3 / value:,.2f}"),
             ("prompt, ms a token", "prompt", "prompt cpu", lambda value: f"{1e3 / value:,.3f}"),
             ("repeated system prompt, ms an answer", "chat", "chat cpu", lambda value: f"{1e3 / value:,.0f}")]


def table(columns: list, results: dict) -> None:
    kinds = {kind for figures in results.values() for kind, _ in figures}
    columns = [column for column in columns if column[1] in kinds]
    print(f"| model | streams | {' | '.join(column[0] for column in columns)} |")
    print(f"| --- | ---: |{' ---: |' * len(columns)}")
    for shape, figures in results.items():
        for streams in sorted({streams for _, streams in figures}):
            row = []
            for _, kind, what, write in columns:
                rounds = figures[kind, streams]
                ours, theirs = ([each[what] for each in rounds[name]] for name in (Understudy.name, LlamaServer.name))
                ratio = statistics.median(a / b for a, b in zip(ours, theirs))
                row.append(f"{write(statistics.median(ours))} / {write(statistics.median(theirs))} ({ratio:.2f})")
            print(f"| {shape} | {streams} | {' | '.join(row)} |", flush=True)
    print()


def cpu() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    name = next(line.split(":")[1].strip() for line in lines if line.startswith("model name"))
    flags = next(line for line in lines if line.startswith("flags")).split()
    features = [flag for flag in ("avx2", "avx512f", "avx512_bf16", "avx512_vnni", "amx_int8") if flag in flags]
    return f"{name}, {THREADS} cores, {' '.join(features)}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", action="append", choices=list(LOADS), help="[starter and 160m]")
    parser.add_argument("--streams", action="append", type=int, choices=STREAMS, help="[all]")
    parser.add_argument("--load", action="append", choices=KINDS, help="[all]")
    parser.add_argument("--rounds", type=int, default=int(os.environ.get("BENCH_ROUNDS", "5")))
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
        cells = [(kind, streams) for streams in arguments.streams or STREAMS for kind in arguments.load or KINDS]
        results = {}
        for shape in arguments.shape or ["starter", "160m"]:
            if shape == "starter" and not STARTER.exists():
                print(f"bench: {STARTER} does not exist, left out", file=sys.stderr)
                continue
            model = folder / f"{shape}.gguf"
            if shape == "starter":
                gguf.copy_without_end(STARTER, model)
            else:
                gguf.write(model, gguf.SHAPES[shape])
            starts = {
                LlamaServer.name: lambda: LlamaServer(model, binary, log),
                Understudy.name: lambda: Understudy(model, stubs, Path(tempfile.mkdtemp(dir=folder)), log),
            }
            results[shape] = compare(shape, starts, cells, arguments.rounds)
            model.unlink()
            for figures in results[shape].values():
                tokens = [side[0].get("tokens", 0) for side in figures.values()]
                if max(tokens) - min(tokens) > 2:
                    print(f"{shape}: the chats had {tokens} prompt tokens", file=sys.stderr)
        print(f"CPU: {cpu()}; Linux {platform.release()}; {THREADS} threads; medians of {arguments.rounds} rounds; "
              "Understudy / llama-server (ratio; above 1: Understudy is faster).\n")
        table(SPEEDS, results)
        print("Processor time of the servers (ratio; above 1: Understudy needs less).\n")
        table(PROCESSOR, results)


if __name__ == "__main__":
    main()
