"""The gRPC core (PyPI grpcio) as a client; see world.py for what it understands."""

import collections
import json
import os
import sys
import threading
import time

import grpc
import grpc.experimental

channels = {}


def channel(target):
    if target not in channels:
        # A proxy is dialled by its address, and asked for the service by its name.
        authority = os.environ.get("AUTHORITY")
        options = [("grpc.default_authority", authority)] if authority else []
        if os.environ.get("XDS_CREDENTIALS"):
            credentials = grpc.xds_channel_credentials(grpc.experimental.insecure_channel_credentials())
            made = grpc.secure_channel(target, credentials, options=options)
        else:
            made = grpc.insecure_channel(target, options=options)
        channels[target] = made.unary_unary(
            "/meshwork.interop.Peer/Get",
            request_serializer=lambda request: request,
            response_deserializer=lambda response: response,
        )
    return channels[target]


def name(response):
    """Field 1 of the answer, a text."""
    if not response or response[0] != 0x0A:
        return ""
    return response[2 : 2 + response[1]].decode()


class Run:
    def __init__(self, command):
        self.call = channel(command["target"])
        self.left = command.get("count", 1 << 60)
        self.timeout = command.get("timeout", 5.0)
        self.metadata = list((command.get("metadata") or {}).items())
        self.keys = command.get("keys") or []
        self.ok, self.failed = collections.Counter(), collections.Counter()
        self.by_key = collections.defaultdict(set)
        self.lock = threading.Lock()
        self.began = time.monotonic()
        parallel = command.get("parallel", 8)
        self.threads = [threading.Thread(target=self.work) for _ in range(parallel)]
        for thread in self.threads:
            thread.start()

    def work(self):
        while True:
            with self.lock:
                if self.left <= 0:
                    return
                self.left -= 1
                number = self.left
            metadata = list(self.metadata)
            key = self.keys[number % len(self.keys)] if self.keys else None
            if key is not None:
                metadata.append(("x-key", key))
            try:
                answer = name(self.call(b"", timeout=self.timeout, metadata=metadata))
                with self.lock:
                    self.ok[answer] += 1
                    if key is not None:
                        self.by_key[key].add(answer)
            except grpc.RpcError as error:
                with self.lock:
                    self.failed[error.code().name] += 1
                    self.said = error.details()

    def end(self):
        for thread in self.threads:
            thread.join()
        return {
            "ok": self.ok,
            "failed": self.failed,
            "by_key": {key: sorted(names) for key, names in self.by_key.items()},
            "said": getattr(self, "said", ""),
            "seconds": time.monotonic() - self.began,
        }


def main():
    print(json.dumps({"version": f"grpcio {grpc.__version__}"}), flush=True)
    load = None
    for line in sys.stdin:
        command = json.loads(line)
        if command["do"] == "calls":
            print(json.dumps(Run(command).end()), flush=True)
        elif command["do"] == "load":
            load = Run(command)
            print("{}", flush=True)
        elif command["do"] == "stop":
            with load.lock:
                load.left = 0
            print(json.dumps(load.end()), flush=True)


main()
