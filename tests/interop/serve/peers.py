"""The peers: how each is started, and what it cannot do."""

import json
import os
import pathlib
import socket
import subprocess
import sys

from world import HOST, TARGET, Client, wait_for

HERE = pathlib.Path(__file__).parent
BUILT = pathlib.Path(os.environ["INTEROP"])


class Peer:
    """A client of gRPC, configured by xDS."""

    target = TARGET
    timeout_codes = {"DEADLINE_EXCEEDED"}
    cannot = {}
    command = None
    environment = {}
    # Of the node and of the server in the bootstrap file.
    metadata, features = {}, []

    def __init__(self):
        self.clients, self.version = [], None

    def start(self, world):
        if world.server is None:
            world.serve()
        node = f"client-{len(self.clients) + 1}"
        path = world.bootstrap(node, metadata=self.metadata, features=self.features)
        environment = {"GRPC_XDS_BOOTSTRAP": path, **self.environment}
        client = Client(self.command, environment)
        self.clients.append(client)
        self.version = client.version
        return client


class Core(Peer):
    command = [sys.executable, str(HERE / "python/client.py")]


class Node(Peer):
    command = ["node", str(BUILT / "node/client.js")]


class Go(Peer):
    command = [str(BUILT / "go/peer")]


class Java(Peer):
    command = ["java", "-cp", f"{BUILT}/java/target/interop-1.jar:{BUILT}/java/target/lib/*", "Peer"]


class Meshwork(Peer):
    """This library, in its own dialect."""

    command = [sys.executable, str(HERE / "meshwork/client.py")]
    environment = {"VARIANT": "SotW"}
    metadata = {"GENERATOR": "meshwork"}


class MeshworkDelta(Meshwork):
    environment = {"VARIANT": "delta"}
    features = ["xds.delta"]


class Envoy(Peer):
    """Envoy with its clusters and routes by ADS, and a plain client of gRPC in front of it."""

    api_type = "GRPC"
    timeout_codes = {"DEADLINE_EXCEEDED", "UNAVAILABLE"}

    def __init__(self):
        super().__init__()
        import envoy

        found = [pathlib.Path(path) / "envoy" for path in envoy.__path__]
        found += [path for root in envoy.__path__ for path in pathlib.Path(root).rglob("envoy")]
        self.binary = next(str(path) for path in found if path.is_file())
        said = subprocess.run([self.binary, "--version"], capture_output=True, text=True)
        number = said.stdout.split("version:")[1].split("/")[1]
        self.named = f"Envoy {number} {self.kind}"

    kind = "SotW"

    def start(self, world):
        if world.server is None:
            world.serve()
        if getattr(self, "world", None) is not world:
            self.world = world
            self.target = self.envoy(world)
        client = Client(Core.command, {"AUTHORITY": HOST})
        calls, send = client.calls, client.send
        target = self.target
        client.calls = lambda count, **more: calls(count, target, **more)
        client.send = lambda **command: send(**{**command, **({"target": target} if "target" in command else {})})
        self.clients.append(client)
        self.version = self.named
        return client

    def envoy(self, world):
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = probe.getsockname()[1]
        config = world.directory / "envoy.json"
        config.write_text(json.dumps(self.config(world, port)))
        log = open(world.directory / "envoy.log", "wb")
        process = subprocess.Popen(
            [self.binary, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"],
            stdout=log, stderr=log,
        )

        class Stops:
            def stop(self):
                process.terminate()
                process.wait()

        world.children.append(Stops())

        def listens():
            assert process.poll() is None, (world.directory / "envoy.log").read_text()[-2000:]
            with socket.socket() as probe:
                return probe.connect_ex(("127.0.0.1", port)) == 0

        wait_for("Envoy listens", listens)
        return f"127.0.0.1:{port}"

    def config(self, world, port):
        host, control = world.server.address.rsplit(":", 1)
        ads = {"ads": {}, "resource_api_version": "V3"}
        http2 = {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": "type.googleapis.com/envoy.extensions.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": {"http2_protocol_options": {}},
            }
        }
        manager = {
            "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": "egress",
            "codec_type": "AUTO",
            "rds": {"route_config_name": "80", "config_source": ads},
            "http_filters": [
                {"name": "envoy.filters.http.fault", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.fault.v3.HTTPFault"}},
                {"name": "envoy.filters.http.router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}},
            ],
        }
        listener = {
            "name": "egress",
            "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
            "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        }
        cluster = {
            "name": "xds",
            "type": "STATIC",
            "typed_extension_protocol_options": http2,
            "load_assignment": {
                "cluster_name": "xds",
                "endpoints": [{"lb_endpoints": [{"endpoint": {"address": {"socket_address": {"address": host, "port_value": int(control)}}}}]}],
            },
        }
        return {
            "node": {"id": "sidecar~127.0.0.1~order.my-app~my-app.svc.cluster.local", "cluster": "order", "locality": {"region": "here", "zone": "a"}},
            "dynamic_resources": {
                "ads_config": {"api_type": self.api_type, "transport_api_version": "V3", "grpc_services": [{"envoy_grpc": {"cluster_name": "xds"}}]},
                "cds_config": ads,
            },
            "static_resources": {"listeners": [listener], "clusters": [cluster]},
        }


class EnvoyDelta(Envoy):
    api_type = "DELTA_GRPC"
    kind = "delta"


PEERS = {
    "meshwork": Meshwork,
    "meshwork-delta": MeshworkDelta,
    "grpcio": Core,
    "grpc-js": Node,
    "grpc-go": Go,
    "grpc-java": Java,
    "envoy": Envoy,
    "envoy-delta": EnvoyDelta,
}
