"""Starts the real binaries on free ports and drives them as users do."""

import collections
import contextlib
import glob
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import grpc

REPOSITORY = Path(__file__).resolve().parents[2]
BIN = Path(os.environ.get("UNDERSTUDY_BIN", REPOSITORY / "target/release"))
STARTER = REPOSITORY / "models/starter"
SCRIBE = REPOSITORY / "models/starter-scribe/critic.gguf"

_stubs = tempfile.TemporaryDirectory(prefix="understudy-stubs-")
subprocess.run(
    [sys.executable, "-m", "grpc_tools.protoc", f"-I{REPOSITORY / 'proto'}", f"--python_out={_stubs.name}",
     f"--grpc_python_out={_stubs.name}",
     *(str(path) for path in sorted((REPOSITORY / "proto/understudy/v1").glob("*.proto")))],
    check=True,
)
sys.path.insert(0, _stubs.name)

from understudy.v1 import (  # noqa: E402, F401
    admin_pb2, admin_pb2_grpc, analyst_pb2, analyst_pb2_grpc, records_pb2, scribe_pb2, scribe_pb2_grpc)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until(condition, seconds=30, what="the condition"):
    """The condition's first true value, or a failure that names what was waited for."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            value = condition()
            if value:
                return value
            problem = ""
        except Exception as error:  # noqa: BLE001: whatever is not up yet
            problem = f" ({error})"
        if time.monotonic() > deadline:
            raise AssertionError(f"{what} did not come within {seconds} s{problem}")
        time.sleep(0.05)


class Process:
    """A child with its log in a file."""

    def __init__(self, folder: Path, name: str, *command, environment=()):
        self.name, self.command, self.log = name, [str(part) for part in command], folder / f"{name}.log"
        self.environment = dict(environment)
        self.start()

    def start(self):
        with self.log.open("ab") as log:
            environment = {**os.environ, "UNDERSTUDY_LOG_FORMAT": "text", **self.environment}
            self.child = subprocess.Popen(self.command, stdout=log, stderr=log, env=environment)

    def kill(self):
        self.child.send_signal(signal.SIGKILL)
        self.child.wait()

    def stop(self, seconds=30) -> int:
        if self.child.poll() is None:
            self.child.send_signal(signal.SIGTERM)
        return self.child.wait(seconds)

    def alive(self) -> bool:
        return self.child.poll() is None

    def resident_bytes(self) -> int:
        pages = int(Path(f"/proc/{self.child.pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE")


class Cable:
    """Connections to a port that can be cut: nothing passes any more, in either direction, and nobody is told."""

    def __init__(self, port: int):
        self.upstream, self.whole = port, threading.Event()
        self.whole.set()
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, daemon=True).start()

    def cut(self):
        self.whole.clear()

    def mend(self):
        self.whole.set()

    def _accept(self):
        while True:
            client, _ = self.listener.accept()
            threading.Thread(target=self._connect, args=(client,), daemon=True).start()

    def _connect(self, client):
        self.whole.wait()
        try:
            server = socket.create_connection(("127.0.0.1", self.upstream))
        except OSError:
            return client.close()
        for one, other in ((client, server), (server, client)):
            threading.Thread(target=self._pass, args=(one, other), daemon=True).start()

    def _pass(self, one, other):
        try:
            while data := one.recv(65_536):
                self.whole.wait()
                other.sendall(data)
        except OSError:
            pass
        for end in (one, other):
            with contextlib.suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)


class Clock:
    """The time of day of a process, which can be set; what it measures time with is left alone."""

    LIBRARIES = ("/usr/lib/*/faketime/libfaketimeMT.so.1", "/usr/lib/faketime/libfaketimeMT.so.1")

    def __init__(self, file: Path):
        found = [path for pattern in self.LIBRARIES for path in glob.glob(pattern)]
        assert found, "libfaketime is missing: run `make setup-test`"
        self.file = file
        self.jump(0)
        self.environment = {"LD_PRELOAD": found[0], "FAKETIME_TIMESTAMP_FILE": str(file),
                            "FAKETIME_DONT_FAKE_MONOTONIC": "1", "FAKETIME_CACHE_DURATION": "1"}

    def jump(self, seconds: int):
        """To so many seconds from the true time, within about a second."""
        self.file.write_text(f"{seconds:+d}\n")


class Cluster:
    """Registry, routers and workers as separate processes. With `cables` each router has one to the registry, with `clocks`
    each one of its own."""

    def __init__(self, folder: Path, registry="embedded", analysts=1, scribes=0, routers=1, faults=(), cables=False, clocks=False):
        self.folder, self.kind, self.faults, self.processes = folder, registry, faults, []
        self.registry_port = free_port()
        self.registry_url = f"http://127.0.0.1:{self.registry_port}"
        self.analyst_ports = [free_port() for _ in range(analysts)]
        self.scribe_ports = [free_port() for _ in range(scribes)]
        self.router_ports = [free_port() for _ in range(routers)]
        self.cables = [Cable(self.registry_port) for _ in range(routers)] if cables else []
        self.clocks = [Clock(folder / f"clock-{index}") for index in range(routers)] if clocks else []

    def start(self):
        """Returns once every router answers and knows every worker."""
        if self.kind == "etcd":
            assert shutil.which("etcd"), "etcd is missing: run `make setup-test`"
            peer = f"http://127.0.0.1:{free_port()}"
            self.registry = self.process(
                "registry", "etcd", "--data-dir", self.folder / "etcd", "--listen-client-urls", self.registry_url,
                "--advertise-client-urls", self.registry_url, "--listen-peer-urls", peer,
                "--initial-advertise-peer-urls", peer, "--initial-cluster", f"default={peer}")
        else:
            self.registry = self.process(
                "registry", BIN / "understudy", "registry", "--data-dir", self.folder / "registry",
                "--listen", f"127.0.0.1:{self.registry_port}")
        self.analysts = [self.worker("analyst", index, port) for index, port in enumerate(self.analyst_ports)]
        self.scribes = [self.worker("scribe", index, port) for index, port in enumerate(self.scribe_ports)]
        self.routers = [
            self.process(
                f"router-{index}", BIN / "understudy-router", "--name", f"router-{index}", "--listen", f"127.0.0.1:{port}",
                "--metrics-listen", f"127.0.0.1:{free_port()}", "--registry",
                f"http://127.0.0.1:{self.cables[index].port}" if self.cables else self.registry_url,
                "--state-dir", self.folder / f"router-{index}", "--artifact-store", f"file://{self.folder}/store",
                environment=self.clocks[index].environment if self.clocks else ())
            for index, port in enumerate(self.router_ports)
        ]
        for index in range(len(self.routers)):
            workers = len(self.analysts) + len(self.scribes)
            wait_until(lambda: len(self.workers(index)) == workers, what="every worker at a router")

    def worker(self, kind: str, index: int, port: int) -> "Process":
        name = f"{kind}-{index}"
        return self.process(
            name, BIN / f"understudy-{kind}", "--listen", f"127.0.0.1:{port}", "--name", name, "--metrics-listen",
            f"127.0.0.1:{free_port()}", "--registry", self.registry_url, "--cache-dir", self.folder / f"cache-{name}",
            *(part for fault in self.faults for part in ("--inject-fault", fault)))

    def process(self, name: str, *command, environment=()) -> Process:
        process = Process(self.folder, name, *command, environment=environment)
        self.processes.append(process)
        return process

    def stop(self):
        for process in reversed(self.processes):
            if process.alive():
                process.stop()

    def router(self, index=0) -> str:
        return f"127.0.0.1:{self.router_ports[index]}"

    def cli(self, *arguments, check=True, text_in=None, router=0):
        """Runs the CLI with --json. Its answer, or with check=False its whole result."""
        result = subprocess.run(
            [str(BIN / "understudy"), "--router", f"http://{self.router(router)}", "--json", *map(str, arguments)],
            capture_output=True, text=True, input=text_in)
        if not check:
            return result
        assert result.returncode == 0, f"understudy {arguments}: {result.stderr}\n{self.logs()}"
        return json.loads(result.stdout) if result.stdout.strip() else None

    def publish(self, version: str, source=None, model="sentiment"):
        self.cli("models", "publish", source or STARTER / version, "--model", model, "--version", version)

    def serve(self, **shares):
        """Publishes starter versions and routes to them: serve(v1=90, v2=10). Returns once all are ready."""
        for version in shares:
            self.publish(version)
        self.route(**shares)

    def route(self, model="sentiment", **shares):
        self.cli("route", "set", model, *(f"{v}={v}:{share}" for v, share in shares.items()))

    def workers(self, router=0):
        with grpc.insecure_channel(self.router(router)) as channel:
            answer = admin_pb2_grpc.RoutesStub(channel).ListWorkers(admin_pb2.ListWorkersRequest(), timeout=5)
            return answer.workers

    def residencies(self, version: str) -> list:
        return [
            records_pb2.ResidencyState.Name(residency.state)
            for worker in self.workers() for residency in worker.worker.versions if residency.version == version
        ]

    def etcdctl(self, *arguments, text_in=None) -> str:
        result = subprocess.run(
            ["etcdctl", f"--endpoints={self.registry_url}", *arguments], check=True, capture_output=True, text=True,
            input=text_in, env={**os.environ, "ETCDCTL_API": "3"})
        return result.stdout

    def logs(self) -> str:
        return "\n".join(f"--- {p.name}\n{p.log.read_text(errors='replace')[-3000:]}" for p in self.processes)


Answer = collections.namedtuple("Answer", "at seconds code version arm worker text")


class Load:
    """Load of single requests from several threads, each with a connection of its own: one after the other, or one every `pace`
    seconds."""

    def __init__(self, address: str, texts: list, threads=4, metadata=(), pace=0.0):
        self.address, self.texts, self.metadata, self.pace = address, texts, metadata, pace
        self.answers, self.stopping = [], threading.Event()
        self.threads = [threading.Thread(target=self._run, args=(index,)) for index in range(threads)]

    def __enter__(self):
        for thread in self.threads:
            thread.start()
        return self

    def __exit__(self, *_):
        self.stopping.set()
        for thread in self.threads:
            thread.join()

    def _run(self, index: int):
        options = [("grpc.use_local_subchannel_pool", 1)]
        with grpc.insecure_channel(self.address, options) as channel:
            classify = analyst_pb2_grpc.AnalystStub(channel).Classify
            turn = index
            while not self.stopping.is_set():
                text = self.texts[turn % len(self.texts)]
                turn += len(self.threads)
                answer = ask(classify, text, self.metadata)
                self.answers.append(answer)
                if self.pace > answer.seconds:
                    time.sleep(self.pace - answer.seconds)

    def failures(self) -> collections.Counter:
        return collections.Counter(answer.code for answer in self.answers if answer.code is not grpc.StatusCode.OK)


def ask(classify, text: str, metadata=(), timeout=20) -> Answer:
    start = time.monotonic()
    try:
        _, call = classify.with_call(analyst_pb2.ClassifyRequest(text=text), metadata=metadata, timeout=timeout)
    except grpc.RpcError as error:
        call = error
    # A call that fails before its first answer has only trailers.
    headers = {**dict(call.trailing_metadata() or ()), **dict(call.initial_metadata() or ())}
    return Answer(
        start, time.monotonic() - start, call.code(), headers.get("understudy-version"),
        headers.get("understudy-arm"), headers.get("understudy-worker"), text)
