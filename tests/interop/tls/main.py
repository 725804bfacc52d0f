"""Mutual TLS between this crate and Envoy, configured as istiod configures sidecars.

  cell = who calls / who is called, mode of the callee, protocol

Envoy as the caller has an `UpstreamTlsContext` with the SAN that it expects and Istio's ALPN; `meshwork echo` behind a
PeerAuthentication answers and says who called. Envoy as the callee has one chain for mutual TLS, found by Istio's ALPN,
and in mode PERMISSIVE another one for plaintext, as istiod makes them; `meshwork call` meets it by DestinationRule.
Each cell that should work is a call that worked with the right identity; each that should not is a call that failed.
"""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from authority import Authority  # noqa: E402

MESHWORK = os.environ["MESHWORK"]
DOMAIN = "cluster.local"
HOST = "catalog.my-app.svc.cluster.local"
ISTIO_ALPN = ["istio-h2", "istio", "istio-http/1.1", "istio-http/1.0", "istio-peer-exchange"]
TYPES = "type.googleapis.com/envoy.extensions"


def flags(identity):
    chain, key, roots = identity
    return ["--tls-certificate", chain, "--tls-key", key, "--tls-roots", roots]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class World:
    def __init__(self):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="meshwork-interop-tls-"))
        self.authority = Authority(self.folder)
        self.order = self.authority.issue("order")
        self.catalog = self.authority.issue("catalog")
        self.processes = []
        self.files = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            process.wait()

    def file(self, text):
        self.files += 1
        path = self.folder / f"mesh-{self.files}.yaml"
        path.write_text(text)
        return str(path)

    def echo(self, *more):
        process = subprocess.Popen(
            [MESHWORK, "echo", "--listen", "127.0.0.1:0", *more], stdout=subprocess.PIPE, text=True
        )
        self.processes.append(process)
        line = process.stdout.readline()
        assert line.startswith("listening on "), line
        return int(line.rsplit(":", 1)[1])

    def envoy(self, resources, port):
        import envoy

        roots = [pathlib.Path(path) for path in envoy.__path__]
        binary = next(str(path) for root in roots for path in root.rglob("envoy") if path.is_file())
        self.files += 1
        config = self.folder / f"envoy-{self.files}.json"
        config.write_text(json.dumps({"static_resources": resources}))
        log = open(self.folder / f"envoy-{self.files}.log", "wb")
        process = subprocess.Popen(
            [binary, "-c", str(config), "--concurrency", "1", "--disable-hot-restart", "-l", "warning"],
            stdout=log, stderr=log,
        )
        self.processes.append(process)
        end = time.monotonic() + 30
        while True:
            assert process.poll() is None, (self.folder / f"envoy-{self.files}.log").read_text()[-2000:]
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    return port
            assert time.monotonic() < end, "Envoy does not listen"
            time.sleep(0.02)


def tls(identity, expected, alpn):
    chain, key, roots = identity
    return {
        "alpn_protocols": alpn,
        "tls_certificates": [{"certificate_chain": {"filename": chain}, "private_key": {"filename": key}}],
        "validation_context": {
            "trusted_ca": {"filename": roots},
            "match_typed_subject_alt_names": [
                {"san_type": "URI", "matcher": expected},
            ],
        },
    }


def cluster(port, http2, socket_=None):
    options = {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}}
    made = {
        "name": "backend",
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": "backend",
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address(port)}}]}],
        },
        "typed_extension_protocol_options": {
            "envoy.extensions.upstreams.http.v3.HttpProtocolOptions": {
                "@type": f"{TYPES}.upstreams.http.v3.HttpProtocolOptions",
                "explicit_http_config": options,
            }
        },
    }
    if socket_:
        made["transport_socket"] = socket_
    return made


def address(port):
    return {"socket_address": {"address": "127.0.0.1", "port_value": port}}


def manager(prefix):
    """Routes everything to the backend and tells it who called."""
    return {
        "name": "envoy.filters.network.http_connection_manager",
        "typed_config": {
            "@type": f"{TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
            "stat_prefix": prefix,
            "codec_type": "AUTO",
            "forward_client_cert_details": "SANITIZE_SET",
            "set_current_client_cert_details": {"uri": True},
            "route_config": {
                "virtual_hosts": [
                    {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": "backend"}}]}
                ]
            },
            "http_filters": [
                {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}}
            ],
        },
    }


def policies(mode):
    return f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: mode, namespace: my-app}}
spec: {{mtls: {{mode: {mode}}}}}
"""


def get(port):
    """Status and answer of a plain request; None if there is none."""
    request = urllib.request.Request(f"http://127.0.0.1:{port}/items", headers={"host": HOST})
    try:
        with urllib.request.urlopen(request, timeout=10) as answer:
            return answer.status, json.loads(answer.read())
    except urllib.error.HTTPError as error:
        return error.code, None
    except (urllib.error.URLError, ConnectionError, TimeoutError):
        return None, None


def envoy_calls(world, mode, http2, how):
    """Envoy as the caller of an echo; how it is spoken to, and who it said that it is."""
    echo = world.echo("--config", world.file(policies(mode)), "--workload", "my-app/catalog", *flags(world.catalog))
    secure = None
    if how != "plaintext":
        expected = "catalog" if how == "mutual" else "somebody-else"
        alpn = ISTIO_ALPN + ["h2" if http2 else "http/1.1"]
        context = tls(world.order, {"exact": f"spiffe://{DOMAIN}/ns/my-app/sa/{expected}"}, alpn)
        secure = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {
                "@type": f"{TYPES}.transport_sockets.tls.v3.UpstreamTlsContext",
                "common_tls_context": context,
                "sni": f"outbound_.80_._.{HOST}",
            },
        }
    port = free_port()
    listener = {"name": "egress", "address": address(port), "filter_chains": [{"filters": [manager("egress")]}]}
    world.envoy({"listeners": [listener], "clusters": [cluster(echo, http2, secure)]}, port)
    status, answer = get(port)
    return status, (answer or {}).get("caller"), (answer or {}).get("protocol")


def envoy_is_called(world, mode, http2, how):
    """Envoy as the callee of `meshwork call`: the statuses, and the identity that Envoy told its backend."""
    backend = world.echo("--name", "behind")
    context = tls(world.catalog, {"prefix": f"spiffe://{DOMAIN}/"}, ["h2", "http/1.1"])
    secure = {
        "name": "envoy.transport_sockets.tls",
        "typed_config": {
            "@type": f"{TYPES}.transport_sockets.tls.v3.DownstreamTlsContext",
            "common_tls_context": context,
            "require_client_certificate": True,
        },
    }
    mutual = {
        "filter_chain_match": {"transport_protocol": "tls", "application_protocols": ISTIO_ALPN},
        "filters": [manager("mutual")],
        "transport_socket": secure,
    }
    chains = [mutual]
    if mode == "PERMISSIVE":
        chains.append({"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": [manager("plain")]})
    port = free_port()
    listener = {
        "name": "ingress",
        "address": address(port),
        "listener_filters": [
            {
                "name": "envoy.filters.listener.tls_inspector",
                "typed_config": {"@type": f"{TYPES}.filters.listener.tls_inspector.v3.TlsInspector"},
            }
        ],
        "filter_chains": chains,
    }
    world.envoy({"listeners": [listener], "clusters": [cluster(backend, http2)]}, port)
    protocol = "HTTP2" if http2 else "HTTP"
    account = {"mutual": "catalog", "other name": "somebody-else", "plaintext": ""}[how]
    rule = {
        "mutual": "{mode: ISTIO_MUTUAL}",
        "other name": f"{{mode: ISTIO_MUTUAL, subjectAltNames: ['spiffe://{DOMAIN}/ns/my-app/sa/{account}']}}",
        "plaintext": "{mode: DISABLE}",
    }[how]
    config = f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: catalog, namespace: my-app}}
spec:
  hosts: [{HOST}]
  ports: [{{number: 80, name: web, protocol: {protocol}}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{web: {port}}}}}]
---
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: catalog, namespace: my-app}}
spec:
  host: {HOST}
  trafficPolicy: {{tls: {rule}}}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: catalog, namespace: my-app}}
spec:
  hosts: [{HOST}]
  http: [{{route: [{{destination: {{host: {HOST}}}}}], retries: {{attempts: 0}}}}]
"""
    called = subprocess.run(
        [MESHWORK, "call", f"http://{HOST}/items", "--config", world.file(config), "--workload", "my-app/order",
         "--json", "--timeout", "10s", *flags(world.order)],
        capture_output=True, text=True, check=True,
    )
    result = json.loads(called.stdout.splitlines()[-1])
    return result["by_status"], result["by_flag"], backend


CELLS = []
for http2 in (False, True):
    for mode in ("STRICT", "PERMISSIVE"):
        for how in ("mutual", "other name", "plaintext"):
            CELLS.append((mode, http2, how))


def main():
    failed = []
    for mode, http2, how in CELLS:
        works = how == "mutual" or (how == "plaintext" and mode == "PERMISSIVE")
        name = f"{mode}, {'HTTP/2' if http2 else 'HTTP/1.1'}, {how}"
        with World() as world:
            status, caller, protocol = envoy_calls(world, mode, http2, how)
            expected = f"spiffe://{DOMAIN}/ns/my-app/sa/order" if how == "mutual" else None
            spoken = "HTTP/2.0" if http2 else "HTTP/1.1"
            good = (status, caller, protocol) == (200, expected, spoken) if works else status in (None, 503)
            print(f"interop: tls: Envoy calls, {name}: {'yes' if good else 'NO'} ({status}, {caller})", flush=True)
            if not good:
                failed.append(f"Envoy calls, {name}")
        with World() as world:
            statuses, by_flag, _ = envoy_is_called(world, mode, http2, how)
            good = statuses == {"200": 1} if works else "200" not in statuses
            print(f"interop: tls: Envoy is called, {name}: {'yes' if good else 'NO'} ({statuses}, {by_flag})", flush=True)
            if not good:
                failed.append(f"Envoy is called, {name}")
    if failed:
        print("interop: tls: failed: " + "; ".join(failed))
    return 1 if failed else 0


sys.exit(main())
