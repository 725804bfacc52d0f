"""Mutual TLS of this crate with itself and with Envoy, configured as istiod configures sidecars.

  cell = who calls / who is called, mode of the callee, protocol, how it is called

The modes are STRICT, PERMISSIVE and DISABLE, the protocols HTTP/1.1, HTTP/2 and gRPC. A callee is called by mutual TLS, by
mutual TLS that expects another server, in plaintext, and, by this crate, as the label of the endpoint says (auto).

Envoy as the caller has an `UpstreamTlsContext` with the SAN that it expects and Istio's ALPN; `meshwork echo` behind a
PeerAuthentication answers and says who called. Envoy as the callee has one chain for mutual TLS, found by Istio's ALPN,
and in mode PERMISSIVE another one for plaintext, as istiod makes them; `meshwork call` meets it by DestinationRule.
Each cell that should work is a call that worked, and where a mesh is called also one of a path that is for one identity alone;
each that should not is a call that failed.
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


def listens(port):
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0


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

    def envoy(self, resources, ports):
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
            if all(listens(port) for port in ports):
                return
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


def cluster(port, http2, socket_=None, name="backend"):
    options = {"http2_protocol_options": {}} if http2 else {"http_protocol_options": {}}
    made = {
        "name": name,
        "type": "STATIC",
        "load_assignment": {
            "cluster_name": name,
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


def manager(prefix, to="backend"):
    """Routes everything to a cluster and tells it who called."""
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
                    {"name": "all", "domains": ["*"], "routes": [{"match": {"prefix": "/"}, "route": {"cluster": to}}]}
                ]
            },
            "http_filters": [
                {"name": "envoy.filters.http.router", "typed_config": {"@type": f"{TYPES}.filters.http.router.v3.Router"}}
            ],
        },
    }


def policies(mode):
    """Who calls the server in this mode; what begins with `/known` is for the order alone."""
    return f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: mode, namespace: my-app}}
spec: {{mtls: {{mode: {mode}}}}}
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {{name: known, namespace: my-app}}
spec:
  action: DENY
  rules:
  - from: [{{source: {{notPrincipals: [{DOMAIN}/ns/my-app/sa/order]}}}}]
    to: [{{operation: {{paths: ['/known*']}}}}]
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


def envoy_calls(world, mode, http2):
    """Envoy as the caller of an echo, with a port for each way to call it; the ports by their ways."""
    echo = world.echo("--config", world.file(policies(mode)), "--workload", "my-app/catalog", *flags(world.catalog))
    listeners, clusters, ports = [], [], {}
    for how in ("mutual", "other name", "plaintext"):
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
        ports[how] = free_port()
        filters = [{"filters": [manager("egress", how)]}]
        listeners.append({"name": how, "address": address(ports[how]), "filter_chains": filters})
        clusters.append(cluster(echo, http2, secure, how))
    world.envoy({"listeners": listeners, "clusters": clusters}, ports.values())
    return ports


def envoy_is_called(world, mode, http2):
    """Envoy as the callee, with an echo behind it; its port."""
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
    plain = {"filter_chain_match": {"transport_protocol": "raw_buffer"}, "filters": [manager("plain")]}
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
        "filter_chains": {"STRICT": [mutual], "PERMISSIVE": [mutual, plain], "DISABLE": [plain]}[mode],
    }
    world.envoy({"listeners": [listener], "clusters": [cluster(backend, http2)]}, [port])
    return port


def host(server, how, protocol):
    """The name of a service that is called in one way."""
    short = f"{server}-{how}-{protocol}".lower()
    for odd in " /.":
        short = short.replace(odd, "-")
    return f"{short}.my-app.svc.cluster.local"


def service(name, port, mode, how, protocol):
    """A service at a port, and the rule by which it is called; `auto` leaves that to the endpoint's label, and to the
    policy of the callee where that turns mutual TLS off."""
    other = f"spiffe://{DOMAIN}/ns/my-app/sa/somebody-else"
    rule = {
        "mutual": "{mode: ISTIO_MUTUAL}",
        "other name": f"{{mode: ISTIO_MUTUAL, subjectAltNames: ['{other}']}}",
        "plaintext": "{mode: DISABLE}",
    }.get(how)
    spoken = {"HTTP/1.1": "HTTP", "HTTP/2": "HTTP2", "gRPC": "GRPC"}[protocol]
    short = name.split(".")[0]
    label = f", labels: {{app: {short}, security.istio.io/tlsMode: istio}}" if how == "auto" else ""
    made = f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {short}, namespace: my-app}}
spec:
  hosts: [{name}]
  location: MESH_INTERNAL
  ports: [{{number: 80, name: web, protocol: {spoken}}}]
  resolution: STATIC
  endpoints: [{{address: 127.0.0.1, ports: {{web: {port}}}{label}}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {{name: {short}, namespace: my-app}}
spec:
  hosts: [{name}]
  http: [{{route: [{{destination: {{host: {name}}}}}], retries: {{attempts: 0}}}}]
---
"""
    if how == "auto" and mode == "DISABLE":
        made += f"""
apiVersion: security.istio.io/v1
kind: PeerAuthentication
metadata: {{name: {short}, namespace: my-app}}
spec: {{selector: {{matchLabels: {{app: {short}}}}}, mtls: {{mode: DISABLE}}}}
---
"""
    if rule:
        made += f"""
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {{name: {short}, namespace: my-app}}
spec:
  host: {name}
  trafficPolicy: {{tls: {rule}}}
---
"""
    return made


def question(host_, protocol, known):
    """A line for `meshwork call --stdin`."""
    if protocol == "gRPC":
        return {"url": f"http://{host_}", "grpc": "known.Echo/Call" if known else "items.Echo/Call", "timeout": "10s"}
    return {"url": f"http://{host_}/{'known' if known else 'items'}", "timeout": "10s"}


def ask(world, config, questions):
    """One process that asks them all in turn as the order; whether each was answered well."""
    more = ["--config", world.file(config), *flags(world.order)] if config else []
    called = subprocess.run(
        [MESHWORK, "call", "--stdin", "--workload", "my-app/order", *more],
        input="".join(json.dumps(one) + "\n" for one in questions), capture_output=True, text=True, check=False,
    )
    assert called.returncode == 0, called.stderr
    results = [json.loads(line) for line in called.stdout.splitlines()]
    assert len(results) == len(questions), called.stdout
    return [(result["ok"] == 1, result["by_status"] or result["by_grpc_status"]) for result in results]


def works(mode, how):
    """What Istio says: whether a call that is made in this way arrives."""
    if how == "plaintext":
        return mode != "STRICT"
    return how == "auto" or how == "mutual" and mode != "DISABLE"


FAILED = []


def told(what, good, found):
    print(f"interop: tls: {what}: {'yes' if good else 'NO'} ({found})", flush=True)
    if not good:
        FAILED.append(what)


def by_ourselves(world):
    """The mesh on both sides."""
    config, cells, questions = "", [], []
    for mode in MODES:
        port = world.echo(
            "--config", world.file(policies(mode)), "--workload", "my-app/catalog", *flags(world.catalog)
        )
        for protocol in PROTOCOLS:
            for how in ("mutual", "other name", "plaintext", "auto"):
                name = host(mode, how, protocol)
                config += service(name, port, mode, how, protocol)
                cells.append((mode, protocol, how))
                questions += [question(name, protocol, known) for known in (False, True)]
    answers = ask(world, config, questions)
    for at, (mode, protocol, how) in enumerate(cells):
        arrived, known = answers[2 * at], answers[2 * at + 1]
        mutual = how == "mutual" or how == "auto" and mode != "DISABLE"
        expected = (works(mode, how), works(mode, how) and mutual)
        good = (arrived[0], known[0]) == expected
        told(f"the mesh calls itself, {mode}, {protocol}, {how}", good, f"{arrived[1]}, {known[1]}")


def with_envoy(mode, http2):
    """Envoy on each side, in one version of HTTP and with gRPC in it."""
    protocols = ("HTTP/2", "gRPC") if http2 else ("HTTP/1.1",)
    with World() as world:
        ports = envoy_calls(world, mode, http2)
        for how, port in ports.items():
            status, answer = get(port)
            arrived, mutual = works(mode, how), how == "mutual"
            found = (status, (answer or {}).get("caller"), (answer or {}).get("protocol"))
            caller = f"spiffe://{DOMAIN}/ns/my-app/sa/order" if mutual else None
            expected = (200, caller, "HTTP/2.0" if http2 else "HTTP/1.1")
            good = found == expected if arrived else status in (None, 503)
            told(f"Envoy calls, {mode}, {protocols[0]}, {how}", good, found)
            if http2:
                there = f"127.0.0.1:{port}"
                answers = ask(world, None, [question(there, "gRPC", known) for known in (False, True)])
                good = [ok for ok, _ in answers] == [arrived, arrived and mutual]
                told(f"Envoy calls, {mode}, gRPC, {how}", good, answers)
    with World() as world:
        port = envoy_is_called(world, mode, http2)
        cells = [(protocol, how) for protocol in protocols for how in ("mutual", "other name", "plaintext", "auto")]
        names = [host(mode, how, protocol) for protocol, how in cells]
        config = "".join(service(name, port, mode, how, protocol) for name, (protocol, how) in zip(names, cells))
        questions = [question(name, protocol, False) for name, (protocol, _) in zip(names, cells)]
        for (protocol, how), (ok, statuses) in zip(cells, ask(world, config, questions)):
            told(f"Envoy is called, {mode}, {protocol}, {how}", ok == works(mode, how), statuses)


MODES = ("STRICT", "PERMISSIVE", "DISABLE")
PROTOCOLS = ("HTTP/1.1", "HTTP/2", "gRPC")


def main():
    with World() as world:
        by_ourselves(world)
    for http2 in (False, True):
        for mode in MODES:
            with_envoy(mode, http2)
    if FAILED:
        print("interop: tls: failed: " + "; ".join(FAILED))
    return 1 if FAILED else 0


sys.exit(main())
