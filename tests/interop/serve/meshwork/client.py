"""This library as a client, by `meshwork call --stdin`; see ../world.py for what it understands."""

import collections
import json
import os
import subprocess
import sys
import threading

MESHWORK = os.environ["MESHWORK"]
METHOD = "meshwork.interop.Peer/Get"
CODES = """OK CANCELLED UNKNOWN INVALID_ARGUMENT DEADLINE_EXCEEDED NOT_FOUND ALREADY_EXISTS PERMISSION_DENIED
RESOURCE_EXHAUSTED FAILED_PRECONDITION ABORTED OUT_OF_RANGE UNIMPLEMENTED INTERNAL UNAVAILABLE DATA_LOSS
UNAUTHENTICATED""".split()
# Calls of one line while a load goes on: it ends between lines.
PIECE = 100


class Mesh:
    """One mesh for all lines: what it has learnt of a target stays known."""

    def __init__(self):
        self.process = subprocess.Popen(
            [MESHWORK, "call", "--stdin", "--xds", os.environ["GRPC_XDS_BOOTSTRAP"]],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True,
        )

    def line(self, command, count, key=None):
        headers = dict(command.get("metadata") or {})
        if key is not None:
            headers["x-key"] = key
        line = {
            "url": command["target"], "grpc": METHOD, "headers": headers, "n": count,
            "c": min(command.get("parallel", 8), count), "timeout": f"{command.get('timeout', 5.0)}s",
        }
        self.process.stdin.write(json.dumps(line) + "\n")
        self.process.stdin.flush()
        answer = self.process.stdout.readline()
        if not answer:
            raise SystemExit("meshwork call has ended")
        return json.loads(answer)

    def close(self):
        self.process.stdin.close()
        self.process.wait()


class Tally:
    def __init__(self):
        self.ok, self.failed = collections.Counter(), collections.Counter()
        self.by_key = collections.defaultdict(set)
        self.said, self.seconds = "", 0.0

    def add(self, result, key=None):
        self.ok.update(result["by_name"])
        for code, count in result["by_grpc_status"].items():
            if code != "0":
                self.failed[CODES[int(code)]] += count
        # An answer without a name would be in neither.
        self.ok["nobody"] += result["ok"] - sum(result["by_name"].values())
        self.ok += collections.Counter()
        if key is not None:
            self.by_key[key].update(result["by_name"])
        self.said = result["last_error"] or self.said
        self.seconds += result["elapsed_us"] / 1e6

    def json(self):
        by_key = {key: sorted(names) for key, names in self.by_key.items()}
        return {"ok": self.ok, "failed": self.failed, "by_key": by_key, "said": self.said, "seconds": self.seconds}


def calls(mesh, command):
    tally = Tally()
    keys = command.get("keys") or [None]
    for key in keys:
        tally.add(mesh.line(command, command["count"] // len(keys), key), key)
    return tally


class Load(threading.Thread):
    """Calls without an end, until it is stopped."""

    def __init__(self, mesh, command):
        super().__init__()
        self.mesh, self.command, self.tally = mesh, command, Tally()
        self.stopped = threading.Event()

    def run(self):
        while not self.stopped.is_set():
            self.tally.add(self.mesh.line(self.command, PIECE))


def main():
    said = subprocess.run([MESHWORK, "--version"], capture_output=True, text=True, check=True).stdout
    print(json.dumps({"version": f"{said.strip()} {os.environ['VARIANT']}"}), flush=True)
    mesh, load = Mesh(), None
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "calls":
            print(json.dumps(calls(mesh, command).json()), flush=True)
        elif command["do"] == "load":
            load = Load(mesh, command)
            load.start()
            print("{}", flush=True)
        elif command["do"] == "stop":
            load.stopped.set()
            load.join()
            print(json.dumps(load.tally.json()), flush=True)
    mesh.close()


main()
