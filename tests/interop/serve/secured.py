"""Mutual TLS and policies between clients and servers of all makers, configured by `meshwork serve`.

  cell = who calls / who is called: ALLOW, DENY, nobody

Each side has the certificates of a bootstrap's `file_watcher` and takes its TLS from xDS: clients from the
DestinationRule of the service, servers from PeerAuthentication STRICT, and who may call from an AuthorizationPolicy
that names an identity. ALLOW is a caller with that identity, who is served; DENY one with another identity, who gets
PERMISSION_DENIED; nobody is a caller without TLS, who gets nothing. Each client meets each server, ours too.
"""

import json
import os
import pathlib
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from authority import Authority  # noqa: E402
import table
from peers import BUILT, Core, HERE
from servers import OURS, SERVERS, free_port, hello
from world import MESHWORK, Client, World, fail, refusals, say, wait_for

HOST = "stock.my-app.svc.cluster.local"
MESH = """
apiVersion: v1
kind: Service
metadata: {name: stock, namespace: my-app}
spec:
  selector: {app: stock}
  ports: [{name: grpc, port: 80, targetPort: %(port)d}]
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: stock-1, namespace: my-app, labels: {kubernetes.io/service-name: stock}}
addressType: IPv4
ports: [{name: grpc, port: %(port)d}]
endpoints: [{addresses: [127.0.0.1], conditions: {ready: true}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: stock, namespace: my-app}
spec:
  host: stock
  trafficPolicy: {tls: {mode: ISTIO_MUTUAL}}
---
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {name: default, namespace: my-app}
spec: {mtls: {mode: STRICT}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: stock, namespace: my-app}
spec:
  selector: {matchLabels: {app: stock}}
  rules: [{from: [{source: {principals: [cluster.local/ns/my-app/sa/web]}}]}]
"""


def provider(authority, account):
    """The `certificate_providers` of a bootstrap of this account."""
    certificate, key, root = authority.issue(account)
    return {
        "certificate_providers": {
            "default": {
                "plugin_name": "file_watcher",
                "config": {
                    "certificate_file": certificate,
                    "private_key_file": key,
                    "ca_certificate_file": root,
                    "refresh_interval": "1s",
                },
            }
        }
    }


class Ours:
    """`meshwork call`, spoken to as the clients of other makers are."""

    version = OURS

    def __init__(self, bootstrap):
        self.process = subprocess.Popen(
            [MESHWORK, "call", "--stdin", "--xds", bootstrap],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1,
        )

    def calls(self, count, target, timeout=5.0):
        line = {"url": target, "grpc": "meshwork.interop.Peer/Get", "n": count, "timeout": f"{timeout}s"}
        self.process.stdin.write(json.dumps(line) + "\n")
        result = json.loads(self.process.stdout.readline())
        # Codes of gRPC as numbers.
        names = {"7": "PERMISSION_DENIED", "14": "UNAVAILABLE"}
        failed = {names.get(code, code): n for code, n in result["by_grpc_status"].items() if code != "0"}
        return {"ok": {"stock": result["ok"]} if result["ok"] else {}, "failed": failed}

    def stop(self):
        self.process.kill()
        self.process.wait()


def client(name, bootstrap):
    if name == "meshwork":
        return Ours(bootstrap)
    commands = {"grpcio": Core.command, "grpc-go": [str(BUILT / "go/peer")]}
    environment = {"GRPC_XDS_BOOTSTRAP": bootstrap, "XDS_CREDENTIALS": "1"}
    return Client(commands[name], environment)


def server(name, port, bootstrap):
    command = [word.format(address=f"127.0.0.1:{port}", name="stock") for word in SERVERS[name]]
    return subprocess.Popen(
        command,
        env={**os.environ, "GRPC_XDS_BOOTSTRAP": bootstrap, "XDS_CREDENTIALS": "1"},
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )


def row(called, callers):
    """What happens at one server to all callers: its version, and their versions with what was seen."""
    with World() as world:
        port = free_port()
        world.write(MESH % {"port": port})
        world.serve()
        authority = Authority(world.directory)
        own = provider(authority, "stock")
        metadata = {"LABELS": {"app": "stock", "security.istio.io/tlsMode": "istio"}}
        bootstrap = world.bootstrap("sidecar~127.0.0.1~stock.my-app~my-app.svc.cluster.local", own, metadata)
        process = server(called, port, bootstrap)
        clients = []
        try:
            version = hello(process)
            cells = {}
            for caller in callers:
                said = {}
                for account in ["web", "other"]:
                    path = world.bootstrap(f"{caller}-{account}", provider(authority, account))
                    clients.append(client(caller, path))
                    target = f"xds:///{HOST}:80"
                    end = {"web": ({"stock": 3}, {}), "other": ({}, {"PERMISSION_DENIED": 3})}[account]
                    looks = []

                    def look():
                        tally = clients[-1].calls(3, target, timeout=2.0)
                        looks.append((tally["ok"], tally["failed"], tally.get("said")))
                        return looks[-1][:2] == end

                    try:
                        wait_for(f"{caller} as {account} calls {called}", look, 20.0)
                        said[account] = "yes"
                    except AssertionError as error:
                        fail(f"{error}; last seen: {looks[-1:]}")
                        said[account] = "no"
                plain = Client(Core.command, {})
                clients.append(plain)
                tally = plain.calls(3, f"127.0.0.1:{port}", timeout=1.0)
                nobody = "yes" if not tally["ok"] else "no"
                cells[clients[-2].version] = "yes" if {*said.values(), nobody} == {"yes"} else "no"
            refused = refusals(world)
            if refused:
                fail(refused[0])
                cells = dict.fromkeys(cells, "no")
            return version, cells
        finally:
            for one in clients:
                one.stop()
            process.kill()
            process.wait()


def main(wanted):
    names = [name for name in SERVERS if not wanted or name == "meshwork" or name in wanted]
    failures = 0
    for called in names:
        version, cells = row(called, names)
        say(f"mutual TLS, {version} is called by {cells}")
        failures += list(cells.values()).count("no")
        if not wanted or set(wanted) >= {"grpcio", "grpc-go"}:
            if why := table.fault(["server", *cells], [version, *cells.values()]):
                failures += 1
                fail(why)
    return failures


if __name__ == "__main__":
    sys.exit(1 if main(sys.argv[1:]) else 0)
