"""Processes: control planes and echoes as peers, and `meshwork call` as the client that is tested."""

import contextlib
import json
import os
import pathlib
import subprocess
import tempfile
import threading
import time

MESHWORK = os.environ["MESHWORK"]


def wait_for(what, done, seconds=20.0):
    """Polls until `done` is true; a mesh of processes has no other clock."""
    end = time.monotonic() + seconds
    while not (value := done()):
        if time.monotonic() > end:
            raise AssertionError(f"not within {seconds} s: {what}")
        time.sleep(0.02)
    return value


class Process:
    """A process that is spoken to by lines."""

    def __init__(self, *command, environment=None):
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            bufsize=1,
            env={**os.environ, **(environment or {})},
        )

    def read(self):
        line = self.process.stdout.readline()
        if not line:
            raise AssertionError(f"{self.process.args} has ended")
        return line.strip()

    def ask(self, line):
        self.process.stdin.write(line + "\n")
        return self.read()

    def kill(self):
        self.process.kill()
        self.process.wait()


class World(contextlib.ExitStack):
    """Everything that a feature starts ends with it."""

    def __init__(self):
        super().__init__()
        self.folder = pathlib.Path(self.enter_context(tempfile.TemporaryDirectory()))

    def process(self, *command, environment=None):
        process = Process(*command, environment=environment)
        self.callback(process.kill)
        return process

    def echo(self, name, *flags):
        """The port of an echo server that calls itself so."""
        command = [MESHWORK, "echo", "--listen", "127.0.0.1:0", "--name", name, *flags]
        line = self.process(*command).read()
        return int(line.rsplit(":", 1)[1])

    def bootstrap(self, server, features=(), **more):
        servers = server if isinstance(server, list) else [server]
        path = self.folder / "bootstrap.json"
        entry = lambda uri: {
            "server_uri": uri,
            "channel_creds": [{"type": "google_default"}, {"type": "insecure"}],
            "server_features": ["xds_v3", *features],
        }
        whole = {"xds_servers": [entry(uri) for uri in servers], "node": {"id": "interop"}, **more}
        path.write_text(json.dumps(whole))
        return path

    def client(self, server, features=(), by_environment=False, **more):
        path = self.bootstrap(server, features, **more)
        command = [MESHWORK, "call", "--stdin"]
        if by_environment:
            environment = {"GRPC_XDS_BOOTSTRAP": str(path)}
            return Client(self.process(*command, environment=environment))
        return Client(self.process(*command, "--xds", str(path)))


class Client:
    """One mesh, and the calls that go through it."""

    def __init__(self, process):
        self.process = process

    def call(self, url="http://catalog/", **more):
        return json.loads(self.process.ask(json.dumps({"url": url, **more})))

    def until(self, what, done, seconds=20.0, **more):
        return wait_for(what, lambda: (result := self.call(**more)) and done(result) and result, seconds)

    def under_load(self, change, seconds=3.0, **more):
        """Makes calls for a while and does something meanwhile."""
        timer = threading.Timer(seconds / 4, change)
        timer.start()
        result = self.call(c=8, rate=400, duration=f"{seconds}s", **more)
        timer.join()
        return result


def names(result):
    """Which echoes answered."""
    return set(result["by_name"])
