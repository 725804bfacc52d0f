"""Servers of other makers that get their listener from `meshwork serve`."""

import json
import os
import socket
import subprocess
import sys

import table
from peers import BUILT, Core, HERE
from world import MESHWORK, Client, World, fail, refusals, say, wait_for

OURS = subprocess.run([MESHWORK, "--version"], capture_output=True, text=True, check=True).stdout.strip()
HEADER = ["server", "is configured by `meshwork serve`"]
SERVICE = """
apiVersion: v1
kind: Service
metadata: {name: stock, namespace: my-app}
spec:
  selector: {app: stock}
  ports: [{name: grpc, port: 80, targetPort: %d}]
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def serves(world, command):
    """A server answers when a service has its port as target, and never before."""
    port, other = free_port(), free_port()
    world.write(SERVICE % other)
    world.serve()
    bootstrap = world.bootstrap("sidecar~127.0.0.1~stock.my-app~my-app.svc.cluster.local")
    process = start(command, port, bootstrap)
    client = Client(Core.command, {})
    try:
        version = hello(process)
        target = f"127.0.0.1:{port}"
        wait_for("it asks for its listener", lambda: asked(world))
        assert not client.calls(3, target, timeout=0.5)["ok"], "it serves without a listener"
        world.write(SERVICE % port)
        wait_for("it serves", lambda: client.calls(3, target, timeout=1.0)["ok"] == {"stock": 3})
        obeys(world, client, target, SERVICE % port)
        return version
    finally:
        client.stop()
        process.kill()
        process.wait()


def start(command, port, bootstrap):
    return subprocess.Popen(
        [word.format(address=f"127.0.0.1:{port}", name="stock") for word in command],
        env={**os.environ, "GRPC_XDS_BOOTSTRAP": bootstrap},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )


def hello(process):
    """What a server says first: its version, or that it listens."""
    line = process.stdout.readline()
    return OURS if line.startswith("listening on ") else json.loads(line)["version"]


def policy(spec):
    return f"""
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: stock, namespace: my-app}}
spec: {spec}
"""


STRICT = """
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: my-app}
spec: {mtls: {mode: STRICT}}
"""
ADMIN = "{when: [{key: 'request.headers[x-role]', values: [admin]}]}"


def obeys(world, client, target, service):
    """What is asked of callers is in the listener, and a server that has no word for it denies."""

    def let(text, allowed, **more):
        world.write(service + text)
        end = {"ok": {"stock": 3}, "failed": {}}
        if not allowed:
            end = {"ok": {}, "failed": {"PERMISSION_DENIED": 3}}
        looks = []

        def look():
            tally = client.calls(3, target, timeout=1.0, **more)
            looks.append({key: tally[key] for key in end})
            return looks[-1] == end

        try:
            wait_for(f"{text}: allowed is {allowed}", look)
        except AssertionError as error:
            raise AssertionError(f"{error}; last seen: {looks[-1]}") from None

    role = {"metadata": {"x-role": "admin"}}
    path = "{to: [{operation: {paths: [/meshwork.interop.Peer/*]}}]}"
    token = """
---
apiVersion: security.istio.io/v1
kind: RequestAuthentication
metadata: {name: tokens, namespace: my-app}
spec: {jwtRules: [{issuer: me, jwks: '{"keys": [{"kty": "RSA", "n": "sXchTqFoa0w8", "e": "AQAB"}]}'}]}
"""
    let(policy("{}"), False)
    let(policy(f"{{rules: [{path}]}}"), True)
    let(policy(f"{{rules: [{ADMIN}]}}"), False)
    let(policy(f"{{rules: [{ADMIN}]}}"), True, **role)
    let(policy(f"{{action: DENY, rules: [{ADMIN}]}}"), True)
    let(policy(f"{{action: DENY, rules: [{ADMIN}]}}"), False, **role)
    # There is no certificate, so nobody has an identity.
    let(policy("{rules: [{from: [{source: {namespaces: [my-app]}}]}]}"), False)
    let(token, True)
    let(token, False, metadata={"authorization": "Bearer a.b.c"})
    let("", True)
    let(STRICT, False)
    let("", True)


def asked(world):
    """Whether the server's stream is open: the control plane says so in its client status."""
    import grpc

    with grpc.insecure_channel(world.server.address) as channel:
        fetch = channel.unary_unary(
            "/envoy.service.status.v3.ClientStatusDiscoveryService/FetchClientStatus",
            request_serializer=lambda request: request,
            response_deserializer=lambda response: response,
        )
        return b"xds.istio.io/grpc/lds/inbound/" in fetch(b"", timeout=5)


SERVERS = {
    "meshwork": [MESHWORK, "echo", "--listen", "{address}", "--name", "{name}"],
    "grpcio": [sys.executable, str(HERE / "python/server.py"), "{address}", "{name}"],
    "grpc-go": [str(BUILT / "go/peer"), "serve", "{address}", "{name}"],
}


def main(wanted):
    failures = 0
    for name, command in SERVERS.items():
        if wanted and name not in wanted:
            continue
        with World() as world:
            try:
                version = serves(world, command)
                refused = refusals(world)
                assert not refused, refused[0]
                say(f"{name} as a server: yes ({version})")
                why = table.fault(HEADER, [version, "yes"])
                assert not why, why
            except AssertionError as error:
                failures += 1
                fail(f"{name} as a server: {error}")
    return failures


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
