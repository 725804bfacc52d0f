"""grpc-go's interoperability suite and h2spec, with the mesh's door and channel between client and server."""

import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import xml.etree.ElementTree

GATEWAY, TOOLS = sys.argv[1], pathlib.Path(sys.argv[2])
MESHWORK = os.environ["MESHWORK"]
PATIENCE = 30

# https://github.com/grpc/grpc/blob/master/doc/interop-test-descriptions.md, as far as no token, balancer or
# compression of the client itself is what a case is about.
CASES = """
empty_unary large_unary client_streaming server_streaming ping_pong empty_stream cancel_after_begin
cancel_after_first_response timeout_on_sleeping_server custom_metadata status_code_and_message special_status_message
unimplemented_method unimplemented_service
""".split()

# h2spec expects a port that speaks HTTP/2 alone to close a connection that begins with anything else. The door speaks
# HTTP/1.1 as well, and says 400 in it before it closes.
NOT_APPLICABLE = {"Sends invalid connection preface"}

SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: backend, namespace: my-app}
spec: {ports: [{name: grpc, port: 80}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: backend-1, namespace: my-app, labels: {kubernetes.io/service-name: backend}}
addressType: IPv4
ports: [{name: grpc, port: %d}]
endpoints: [{addresses: [127.0.0.1]}]
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def until_up(port):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            time.sleep(0.1)
    sys.exit(f"interop: grpc: FAILED: nobody listens at port {port}")


class World:
    """A backend, the gateway before it, and their end."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.processes = []

    def start(self, *command):
        log = open(self.folder / f"{len(self.processes)}.log", "w")
        self.processes.append(subprocess.Popen(command, stdout=log, stderr=log))

    def gateway(self, backend):
        """The port of a gateway to this port."""
        config = self.folder / f"backend-{backend}"
        config.mkdir()
        (config / "backend.yaml").write_text(SERVICE % backend)
        port = free_port()
        self.start(GATEWAY, f"127.0.0.1:{port}", "backend.my-app", str(config))
        until_up(backend)
        until_up(port)
        return port

    def end(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()


def suite(world):
    """gRPC's own cases; the names of those that failed."""
    backend = free_port()
    world.start(TOOLS / "server", "-port", str(backend))
    port = world.gateway(backend)
    failed = []
    for case in CASES:
        command = [TOOLS / "client", "-server_host", "127.0.0.1", "-server_port", str(port), "-test_case", case]
        try:
            ended = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
            why = ended.stderr.strip().splitlines()[-1:] if ended.returncode else None
        except subprocess.TimeoutExpired:
            why = ["it did not end"]
        if why is not None:
            failed.append(f"{case}: {' '.join(why)}")
    print(f"interop: grpc: {len(CASES) - len(failed)} of {len(CASES)} cases of grpc-go's suite")
    return failed


def h2spec(world):
    """RFC 9113 and RFC 7541 by h2spec; what failed."""
    backend = free_port()
    world.start(MESHWORK, "echo", "--listen", f"127.0.0.1:{backend}")
    port = world.gateway(backend)
    report = world.folder / "h2spec.xml"
    command = [TOOLS / "h2spec", "-h", "127.0.0.1", "-p", str(port), "-o", "5", "-j", report]
    subprocess.run(command, capture_output=True, timeout=300)
    cases = list(xml.etree.ElementTree.parse(report).getroot().iter("testcase"))
    # A case has a child only if it was not passed; one that h2spec skipped for lack of a body is not passed either.
    names = {case.get("classname") for case in cases if len(case)}
    print(f"interop: h2spec: {len(cases) - len(names)} of {len(cases) - len(NOT_APPLICABLE)} cases")
    if not names >= NOT_APPLICABLE:
        return [f"h2spec: {name} passes now: take it off the list" for name in NOT_APPLICABLE - names]
    return [f"h2spec: {name}" for name in names - NOT_APPLICABLE]


def main():
    with tempfile.TemporaryDirectory() as folder:
        world = World(folder)
        try:
            failed = suite(world) + h2spec(world)
        finally:
            world.end()
    for line in failed:
        print(f"interop: grpc: FAILED: {line}")
    sys.exit(bool(failed))


main()
