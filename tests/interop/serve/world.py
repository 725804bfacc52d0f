"""A mesh of real parts: echo servers, `meshwork serve` on a folder, and one client of some language.

A client is a process that reads one JSON command per line and answers with one JSON line:

  {"do": "calls", "target": "xds:///host:port", "count": 100, "parallel": 8, "timeout": 2.0,
   "metadata": {"k": "v"}, "keys": ["a", "b"]}
  -> {"ok": {"v1": 93, "v2": 7}, "failed": {"UNAVAILABLE": 1}, "by_key": {"a": ["v1"]}, "seconds": 0.4}

  {"do": "load", ...} starts the same without an end; {"do": "stop"} ends it and answers.

So what is asserted is written once, for all languages.
"""

import json
import os
import pathlib
import re
import signal
import subprocess
import sys
import tempfile
import time

MESHWORK = os.environ["MESHWORK"]
HOST = "catalog.my-app.svc.cluster.local"
TARGET = f"xds:///{HOST}:80"


def wait_for(what, done, seconds=30.0):
    """Polls until `done` is true; a mesh of processes has no other clock."""
    end = time.monotonic() + seconds
    while True:
        value = done()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)


class Child:
    """A process that says `listening on ADDRESS` and ends with its test."""

    def __init__(self, *arguments, log=None):
        self.log = open(log, "ab") if log else subprocess.DEVNULL
        self.process = subprocess.Popen(
            [MESHWORK, *arguments], stdout=subprocess.PIPE, stderr=self.log
        )
        line = self.process.stdout.readline().decode()
        if not line.startswith("listening on "):
            raise AssertionError(f"{arguments} says {line!r}")
        self.address = line.removeprefix("listening on ").strip()

    @property
    def port(self):
        return int(self.address.rsplit(":", 1)[1])

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(10)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        return self.process.returncode


class World:
    """Backends, a folder, a control plane."""

    def __init__(self):
        self.directory = pathlib.Path(tempfile.mkdtemp(prefix="meshwork-interop-"))
        self.folder = self.directory / "mesh"
        self.folder.mkdir()
        self.log = self.directory / "serve.log"
        self.children = []
        self.server = None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for child in self.children:
            child.stop()

    def echo(self, name, *flags):
        child = Child("echo", "--listen", "127.0.0.1:0", "--name", name, *flags)
        self.children.append(child)
        return child

    def serve(self, *flags):
        self.server = Child(
            "serve", "--config", str(self.folder), "--listen", "127.0.0.1:0", *flags, log=self.log
        )
        self.children.append(self.server)
        return self.server

    def write(self, text, name="mesh.yaml"):
        """As editors do: whole or not at all."""
        (self.folder / (name + ".next")).write_text(text)
        (self.folder / (name + ".next")).rename(self.folder / name)

    def logged(self):
        return self.log.read_text() if self.log.exists() else ""

    def bootstrap(self, node="client-1", extra=None, metadata=None, features=()):
        """The file that a gRPC of any language is started with."""
        content = {
            "xds_servers": [
                {
                    "server_uri": self.server.address,
                    "channel_creds": [{"type": "insecure"}],
                    "server_features": ["xds_v3", *features],
                }
            ],
            "node": {
                "id": node,
                "metadata": {"NAMESPACE": "my-app", "GENERATOR": "grpc", **(metadata or {})},
                "locality": {"region": "here", "zone": "a"},
            },
            "server_listener_resource_name_template": "xds.istio.io/grpc/lds/inbound/%s",
        }
        content.update(extra or {})
        path = self.directory / f"bootstrap-{node}.json"
        path.write_text(json.dumps(content))
        return str(path)


class Client:
    """A client of some language."""

    def __init__(self, command, environment):
        env = {**os.environ, **environment}
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=env, text=True
        )
        hello = json.loads(self.process.stdout.readline() or "null")
        if not hello:
            raise AssertionError(f"{command} does not start")
        self.version = hello["version"]

    def send(self, **command):
        self.process.stdin.write(json.dumps(command) + "\n")
        self.process.stdin.flush()

    def answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError("the client has ended")
        return json.loads(line)

    def calls(self, count, target=TARGET, **more):
        self.send(do="calls", target=target, count=count, **more)
        return self.answer()

    def until(self, what, good, seconds=30.0, count=10, **more):
        """Calls until the tally is as it should be."""

        def look():
            tally = self.calls(count, **more)
            return tally if good(tally) else None

        try:
            return wait_for(what, look, seconds)
        except AssertionError as error:
            raise AssertionError(f"{error}; the last tally: {self.calls(count, **more)}") from None

    def stop(self):
        self.process.stdin.close()
        try:
            self.process.wait(10)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def entry(endpoints, protocol="GRPC", host=HOST, name="catalog"):
    """A ServiceEntry: endpoints are (port, labels, locality)."""
    lines = [
        "---",
        "apiVersion: networking.istio.io/v1",
        "kind: ServiceEntry",
        f"metadata: {{name: {name}, namespace: my-app}}",
        "spec:",
        f"  hosts: [{host}]",
        f"  ports: [{{number: 80, name: {protocol.lower()}, protocol: {protocol}}}]",
        "  resolution: STATIC",
        "  endpoints:",
    ]
    for port, labels, locality in endpoints:
        pairs = ", ".join(f"{key}: {value}" for key, value in labels.items())
        where = f", locality: {locality}" if locality else ""
        lines.append(
            f"  - {{address: 127.0.0.1, ports: {{{protocol.lower()}: {port}}},"
            f" labels: {{{pairs}}}{where}}}"
        )
    return "\n".join(lines) + "\n"


def rule(spec, host=HOST, name="catalog"):
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: DestinationRule\n"
        f"metadata: {{name: {name}, namespace: my-app}}\nspec:\n  host: {host}\n" + indent(spec)
    )


def routes(http, host=HOST, name="catalog"):
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        f"metadata: {{name: {name}, namespace: my-app}}\nspec:\n  hosts: [{host}]\n  http:\n"
        + indent(http)
    )


def indent(text):
    text = re.sub(r"^\n+", "", text).rstrip() + "\n"
    margin = len(text) - len(text.lstrip(" "))
    return "".join("  " + line[margin:] + "\n" for line in text.splitlines())


SUBSETS = """
subsets:
- {name: v1, labels: {version: v1}}
- {name: v2, labels: {version: v2}}
"""


def to(subset, weight=None):
    share = f", weight: {weight}" if weight is not None else ""
    return f"{{destination: {{host: {HOST}, subset: {subset}}}{share}}}"


def total(tally):
    return sum(tally["ok"].values()) + sum(tally["failed"].values())


def refusals(world):
    """What the control plane's log says of responses that a client refused."""
    return [line for line in world.logged().splitlines() if "refused a response" in line]


def say(text):
    print(f"interop: {text}", flush=True)


def fail(text):
    print(f"FAIL {text}", file=sys.stderr, flush=True)
