"""The calls that grpcdebug makes, on the admin port of a mesh from files, of a mesh from a control plane, and of that
control plane."""

import importlib
import json
import os
import pathlib
import pkgutil
import re
import socket
import subprocess
import sys
import tempfile
import time

import envoy
import grpc
from envoy.admin.v3 import config_dump_shared_pb2 as shared
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.service.status.v3 import csds_pb2, csds_pb2_grpc
from google.protobuf import json_format

MESHWORK = os.environ["MESHWORK"]
PATIENCE = 60
CLUSTER = "outbound|80||catalog.my-app.svc.cluster.local"
KINDS = [listener_pb2.Listener, route_pb2.RouteConfiguration, cluster_pb2.Cluster, endpoint_pb2.ClusterLoadAssignment]

MESH = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: catalog, namespace: my-app}
spec:
  hosts: [catalog.my-app.svc.cluster.local]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1, ports: {http: %d}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: catalog, namespace: my-app}
spec:
  hosts: [catalog.my-app.svc.cluster.local]
  http:
  - route: [{destination: {host: catalog.my-app.svc.cluster.local}}]
    headers: {request: {set: {x-api-key: sesame, x-team: red}}}
"""

BOOTSTRAP = {
    "node": {"id": "order-1", "metadata": {"NAMESPACE": "my-app", "LABELS": {"app": "order"}}},
}


def know_all_types():
    """As grpcdebug does, whose JSON fails on an Any of a type that it has not imported."""
    for module in pkgutil.walk_packages(envoy.__path__, "envoy."):
        if module.name.endswith("_pb2"):
            importlib.import_module(module.name)


def fail(text):
    sys.exit(f"interop: grpcdebug: FAILED: {text}")


def check(condition, text):
    if not condition:
        fail(text)


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class World:
    """Processes that end with the test."""

    def __init__(self):
        self.processes = []

    def start(self, *command):
        process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        self.processes.append(process)
        return process

    def mesh(self, *source):
        """A process that links the mesh and calls for ever; where its admin endpoint is."""
        url = "http://catalog.my-app.svc.cluster.local/"
        process = self.start(
            MESHWORK, "call", *source, "--workload", "my-app/order-sa",
            "--duration", "1h", "--rate", "20", "--admin", "127.0.0.1:0", url,
        )
        for line in process.stderr:
            found = re.search(r"admin endpoint at http://(\S+)", line)
            if found:
                return found.group(1)
        fail(f"the process has ended: {process.wait()}")

    def end(self):
        for process in self.processes:
            process.kill()


def until(what, condition):
    end = time.monotonic() + PATIENCE
    last = None
    while time.monotonic() < end:
        try:
            last = condition()
            if last:
                return last
        except grpc.RpcError as error:
            last = error
        time.sleep(0.2)
    fail(f"{what}: {last}")


def status(address):
    """`grpcdebug ADDRESS xds status`."""
    with grpc.insecure_channel(address) as channel:
        stub = csds_pb2_grpc.ClientStatusDiscoveryServiceStub(channel)
        return stub.FetchClientStatus(csds_pb2.ClientStatusRequest(), timeout=10)


def health(address, service=b""):
    """`grpcdebug ADDRESS health`: the status as its number."""
    with grpc.insecure_channel(address) as channel:
        check_ = channel.unary_unary("/grpc.health.v1.Health/Check")
        request = b"\x0a" + bytes([len(service)]) + service if service else b""
        return check_(request, timeout=10)


def has(answer, name, state):
    configs = [one for config in answer.config for one in config.generic_xds_configs]
    return [one for one in configs if one.name == name and one.client_status == state]


def inspect(what, address):
    acked = shared.ClientResourceStatus.ACKED
    answer = until(f"{what}: {CLUSTER} is ACKED", lambda: has(status(address), CLUSTER, acked) and status(address))
    # `xds config` prints all of it as JSON, which fails on a type that it does not know.
    printed = json.dumps(json_format.MessageToDict(answer))
    check(CLUSTER in printed, f"{what}: no cluster in {printed}")
    check("sesame" not in printed, f"{what}: a secret is in {printed}")
    names = {one.type_url.rsplit(".", 1)[-1] for config in answer.config for one in config.generic_xds_configs}
    check(names <= {kind.DESCRIPTOR.name for kind in KINDS}, f"{what}: {names}")
    check(health(address) == b"\x08\x01", f"{what}: it is not SERVING")
    try:
        health(address, b"no.Such")
        fail(f"{what}: no.Such is known")
    except grpc.RpcError as error:
        check(error.code() == grpc.StatusCode.NOT_FOUND, f"{what}: {error}")
    print(f"interop: grpcdebug: {what}: {len(names)} kinds, {CLUSTER} ACKED, SERVING")


def main():
    know_all_types()
    world = World()
    with tempfile.TemporaryDirectory() as folder:
        path = pathlib.Path(folder)
        mesh = path / "mesh"
        mesh.mkdir()
        try:
            echo, plane, admin = free_port(), free_port(), free_port()
            world.start(MESHWORK, "echo", "--listen", f"127.0.0.1:{echo}")
            (mesh / "mesh.yaml").write_text(MESH % echo)
            inspect("a mesh from files", world.mesh("--config", str(mesh)))
            world.start(
                MESHWORK, "serve", "--config", str(mesh),
                "--listen", f"127.0.0.1:{plane}", "--admin", f"127.0.0.1:{admin}",
            )
            server = {"server_uri": f"127.0.0.1:{plane}", "channel_creds": [{"type": "insecure"}]}
            bootstrap = path / "bootstrap.json"
            bootstrap.write_text(json.dumps(BOOTSTRAP | {"xds_servers": [server]}))
            inspect("a mesh from a control plane", world.mesh("--xds", str(bootstrap)))
            inspect("the control plane", f"127.0.0.1:{admin}")
        finally:
            world.end()


main()
