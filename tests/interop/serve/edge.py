"""Envoy at the edge: its listeners come from an Istio `Gateway`, and on-demand clusters by their names.

The Envoy knows the control plane's address and who it is itself, and nothing else. What is asked of it is
asked over plain sockets: HTTP/1.1 with a host of choice, and TLS with a server name of choice.
"""

import http.client
import http.server
import json
import socket
import ssl
import subprocess
import sys
import threading
import time

import table
from peers import Core, Envoy, EnvoyDelta
from world import HOST, SUBSETS, Client, World, entry, fail, refusals, rule, say, to, wait_for

LABELS = {"istio": "edge"}


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def gateway(*servers, name="edge"):
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: Gateway\n"
        f"metadata: {{name: {name}, namespace: edge}}\n"
        "spec:\n  selector: {istio: edge}\n  servers:\n" + "".join(f"  - {one}\n" for one in servers)
    )


def server(port, hosts, protocol="HTTP", tls=None, name=None):
    tls = f", tls: {tls}" if tls else ""
    name = name or f"p{port}"
    return (
        f"{{port: {{number: {port}, name: {name}, protocol: {protocol}}}, bind: 127.0.0.1, "
        f"hosts: {json.dumps(hosts)}{tls}}}"
    )


def routes(hosts, rules, name="www"):
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        f"metadata: {{name: {name}, namespace: my-app}}\n"
        f"spec:\n  hosts: {json.dumps(hosts)}\n  gateways: [edge/edge]\n{rules}"
    )


def ads():
    return {"ads": {}, "resource_api_version": "V3"}


class Proxy:
    """An Envoy with its listeners and clusters by ADS."""

    def __init__(self, world, peer, **more):
        self.admin_file = world.directory / "admin-address"
        self.log = world.directory / "envoy.log"
        config = {
            "node": {
                "id": "router~127.0.0.1~edge-1.edge~edge.svc.cluster.local",
                "cluster": "edge",
                "metadata": {"LABELS": LABELS},
            },
            "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": 0}}},
            **self.dynamic(world, peer),
        }
        config["dynamic_resources"].update(more.get("dynamic", {}))
        config["static_resources"]["listeners"] = more.get("listeners", [])
        path = world.directory / "edge.json"
        path.write_text(json.dumps(config))
        self.process = subprocess.Popen(
            [peer.binary, "-c", str(path), "--concurrency", "1", "--disable-hot-restart", "-l", "warning",
             "--admin-address-path", str(self.admin_file)],
            stdout=open(self.log, "wb"), stderr=subprocess.STDOUT,
        )
        world.children.append(self)

    def dynamic(self, world, peer):
        config = peer.config(world, 0)
        del config["dynamic_resources"]["cds_config"]
        return {key: config[key] for key in ("dynamic_resources", "static_resources")}

    def stop(self):
        self.process.terminate()
        self.process.wait()

    def alive(self):
        assert self.process.poll() is None, self.log.read_text()[-2000:]
        return True

    def rejected(self):
        """How many updates it refused, by its own count."""
        host, port = wait_for("its admin", lambda: self.admin_file.exists() and self.admin_file.read_text()).rsplit(":", 1)
        connection = http.client.HTTPConnection(host, int(port), timeout=10)
        connection.request("GET", "/stats?filter=update_rejected")
        lines = connection.getresponse().read().decode().splitlines()
        return sum(int(line.rsplit(":", 1)[1]) for line in lines if ":" in line)


def get(port, host, path="/", headers=None, tls=None, sni=None):
    """Status, headers and JSON of an answer; `None`: there is none."""
    try:
        raw = socket.create_connection(("127.0.0.1", port), timeout=10)
    except ConnectionError:
        return None
    try:
        if tls:
            raw = tls.wrap_socket(raw, server_hostname=sni or host)
        connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
        connection.sock = raw
        connection.request("GET", path, headers={"host": host, "connection": "close", **(headers or {})})
        answer = connection.getresponse()
        body = answer.read()
    except (ConnectionError, TimeoutError, http.client.HTTPException, ssl.SSLError):
        return None
    finally:
        raw.close()
    named = answer.headers.get("content-type") == "application/json"
    return answer.status, dict(answer.headers), json.loads(body) if named else {}


def name(answer):
    """Who answered, or with which status nobody did."""
    if answer is None:
        return None
    return answer[2].get("name", answer[0])


def backends(world):
    one, two = world.echo("v1"), world.echo("v2")
    v1, v2 = {"app": "catalog", "version": "v1"}, {"app": "catalog", "version": "v2"}
    return entry([(one.port, v1, None), (two.port, v2, None)], protocol="HTTP") + rule(SUBSETS)


def start(world, peer):
    world.serve()
    return Proxy(world, peer, dynamic={"cds_config": ads(), "lds_config": ads()})


def seen(what, look, wanted):
    looks = []

    def done():
        looks.append(look())
        return looks[-1] == wanted

    try:
        wait_for(what, done)
    except AssertionError as error:
        raise AssertionError(f"{error}; last seen: {looks[-1]}") from None


# === What is asked ===


def requests(world, peer):
    port = free_port()
    http = f"""  http:
  - match: [{{headers: {{x-canary: {{exact: "true"}}}}}}]
    route: [{to("v2")}]
  - match: [{{uri: {{prefix: /inside}}, gateways: [mesh]}}]
    directResponse: {{status: 418}}
  - route: [{to("v1")}]
"""
    rpc, host = world.echo("rpc"), "rpc.my-app.svc.cluster.local"
    world.write(
        backends(world)
        + entry([(rpc.port, {"app": "rpc"}, None)], host=host, name="rpc")
        + gateway(server(port, ["*.shop.test"]))
        + routes(["www.shop.test"], http)
        + routes(["rpc.shop.test"], f"  http: [{{route: [{{destination: {{host: {host}}}}}]}}]\n", name="rpc")
    )
    proxy = start(world, peer)
    seen("the Gateway's listener routes", lambda: proxy.alive() and name(get(port, "www.shop.test")), "v1")
    assert name(get(port, f"www.shop.test:{port}")) == "v1"
    assert name(get(port, "www.shop.test", headers={"x-canary": "true"})) == "v2"
    assert name(get(port, "www.shop.test", "/inside")) == "v1", "a block of the mesh"
    assert name(get(port, "other.shop.test")) == 404
    client = Client(Core.command, {"AUTHORITY": "rpc.shop.test"})
    try:
        assert client.calls(20, f"127.0.0.1:{port}")["ok"] == {"rpc": 20}, "gRPC"
    finally:
        client.stop()
    assert name(get(port, "www.shop.test", "/a%2fb")) == 400, "a path that can be read in two ways"
    return proxy


def redirect(world, peer):
    port = free_port()
    world.write(
        backends(world)
        + gateway(server(port, ["*.shop.test"], tls="{httpsRedirect: true}"))
        + routes(["www.shop.test"], f"  http: [{{route: [{to('v1')}]}}]\n")
    )
    proxy = start(world, peer)
    seen("it redirects", lambda: proxy.alive() and name(get(port, "www.shop.test", "/a?b=c")), 301)
    for host in ["www.shop.test", "without-rules.shop.test"]:
        status, headers, _ = get(port, host, "/a?b=c")
        assert (status, headers["location"]) == (301, f"https://{host}/a?b=c"), headers
    return proxy


class Certificates:
    """A root and leaves of DNS names, by openssl."""

    def __init__(self, folder):
        self.folder = folder
        self.sh("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
                "-subj", "/CN=edge root", "-keyout", "root.key", "-out", "root.pem",
                "-addext", "basicConstraints=critical,CA:TRUE", "-addext", "keyUsage=critical,keyCertSign,cRLSign")

    def sh(self, *arguments):
        subprocess.run(["openssl", *arguments], check=True, capture_output=True, cwd=self.folder)

    def issue(self, host):
        (self.folder / f"{host}.ext").write_text(
            "basicConstraints=critical,CA:FALSE\nkeyUsage=critical,digitalSignature\n"
            f"extendedKeyUsage=serverAuth,clientAuth\nsubjectAltName=DNS:{host}\n"
        )
        self.sh("req", "-new", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-subj", "/",
                "-keyout", f"{host}.key", "-out", f"{host}.csr")
        self.sh("x509", "-req", "-in", f"{host}.csr", "-CA", "root.pem", "-CAkey", "root.key", "-days", "1",
                "-set_serial", str(time.time_ns()), "-extfile", f"{host}.ext", "-out", f"{host}.pem")
        return self.folder / f"{host}.pem", self.folder / f"{host}.key"

    def caller(self, host=None):
        context = ssl.create_default_context(cafile=str(self.folder / "root.pem"))
        if host:
            context.load_cert_chain(*map(str, self.issue(host)))
        return context

    def files(self, host, mode, more=""):
        chain, key = self.issue(host)
        return f"{{mode: {mode}, serverCertificate: {chain}, privateKey: {key}{more}}}"


def secured(world, peer):
    """Two servers of HTTPS on one port, told apart by the name that is asked for."""
    port, certificates = free_port(), Certificates(world.directory)
    roots = f", caCertificates: {world.directory / 'root.pem'}, subjectAltNames: [order.test]"
    world.write(
        backends(world)
        + gateway(
            server(port, ["www.shop.test"], "HTTPS", certificates.files("www.shop.test", "SIMPLE"), "www"),
            server(port, ["safe.shop.test"], "HTTPS", certificates.files("safe.shop.test", "MUTUAL", roots), "safe"),
        )
        + routes(["www.shop.test"], f"  http: [{{route: [{to('v1')}]}}]\n")
        + routes(["safe.shop.test"], f"  http: [{{route: [{to('v2')}]}}]\n", name="safe")
    )
    proxy = start(world, peer)
    anybody = certificates.caller()
    seen("TLS ends in the Envoy", lambda: proxy.alive() and name(get(port, "www.shop.test", tls=anybody)), "v1")
    assert name(get(port, "safe.shop.test", tls=anybody, sni="www.shop.test")) == 404, "the routes of another server"
    assert name(get(port, "safe.shop.test", tls=anybody)) is None, "a certificate is asked for"
    order = certificates.caller("order.test")
    assert name(get(port, "safe.shop.test", tls=order)) == "v2"
    other = certificates.caller("other.test")
    assert name(get(port, "safe.shop.test", tls=other)) is None, "of another name"
    assert name(get(port, "www.shop.test")) is None, "plaintext"
    return proxy


class Behind:
    """A server that ends TLS itself and says one word."""

    def __init__(self, certificate):
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*map(str, certificate))
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.port = self.socket.getsockname()[1]
        self.context = context
        threading.Thread(target=self.work, daemon=True).start()

    def work(self):
        while True:
            try:
                plain, _ = self.socket.accept()
            except OSError:
                return
            try:
                with self.context.wrap_socket(plain, server_side=True) as secured:
                    secured.recv(4096)
                    secured.sendall(b"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\nconnection: close\r\n"
                                    b"content-length: 17\r\n\r\n" + b'{"name":"behind"}')
            except (OSError, ssl.SSLError):
                pass

    def stop(self):
        self.socket.close()


def passed(world, peer):
    port, certificates = free_port(), Certificates(world.directory)
    behind = Behind(certificates.issue("pass.shop.test"))
    world.children.append(behind)
    host = "bank.my-app.svc.cluster.local"
    tls = f"  tls: [{{match: [{{sniHosts: [pass.shop.test]}}], route: [{{destination: {{host: {host}}}}}]}}]\n"
    world.write(
        entry([(behind.port, {"app": "bank"}, None)], protocol="TLS", host=host, name="bank")
        + gateway(server(port, ["*.shop.test"], "TLS", "{mode: PASSTHROUGH}"))
        + routes(["pass.shop.test"], tls)
    )
    proxy = start(world, peer)
    caller = certificates.caller()
    seen("bytes pass", lambda: proxy.alive() and name(get(port, "pass.shop.test", tls=caller)), "behind")
    assert name(get(port, "pass.shop.test", tls=caller, sni="other.shop.test")) is None
    return proxy


POLICY = """---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: edge, namespace: edge}
spec:
  selector: {matchLabels: {istio: edge}}
  action: DENY
  rules: [{to: [{operation: {paths: [/admin*], notMethods: [OPTIONS]}}], when: [{key: 'request.headers[x-role]', notValues: [admin]}]}]
"""


JUDGED = """---
mesh:
  extensionProviders:
  - name: judge
    envoyExtAuthzHttp:
      service: judge.my-app.svc.cluster.local
      port: 80
      includeRequestHeadersInCheck: [x-user]
      headersToUpstreamOnAllow: [x-role]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: judged, namespace: edge}
spec:
  selector: {matchLabels: {istio: edge}}
  action: CUSTOM
  provider: {name: judge}
  rules: [{to: [{operation: {paths: [/admin*]}}]}]
"""


class Judge(http.server.ThreadingHTTPServer):
    """An authorizer by HTTP that knows one user."""

    daemon_threads = True

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.server.asked.append(self.path)
            known = self.headers.get("x-user") == "good"
            self.send_response(200 if known else 401)
            self.send_header("x-role", "admin")
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            pass

    def __init__(self):
        super().__init__(("127.0.0.1", 0), self.Handler)
        self.port, self.asked = self.server_address[1], []
        threading.Thread(target=self.serve_forever, daemon=True).start()

    def stop(self):
        self.shutdown()
        self.server_close()


def policies(world, peer):
    port = free_port()
    text = (
        backends(world)
        + gateway(server(port, ["*.shop.test"]))
        + routes(["www.shop.test"], f"  http: [{{route: [{to('v1')}]}}]\n")
    )
    world.write(text + POLICY)
    proxy = start(world, peer)
    ask = lambda path, **headers: name(get(port, "www.shop.test", path, {key.replace("_", "-"): value for key, value in headers.items()}))
    seen("requests pass that no policy is about", lambda: proxy.alive() and ask("/"), "v1")
    assert ask("/admin") == 403 and ask("//admin") == 403 and ask("/x/../admin") == 403
    assert ask("/admin", x_role="admin") == "v1"
    world.write(text)
    seen("the policy is gone", lambda: ask("/admin"), "v1")
    judge = Judge()
    world.children.append(judge)
    host = "judge.my-app.svc.cluster.local"
    judged = text + entry([(judge.port, {"app": "judge"}, None)], protocol="HTTP", host=host, name="judge") + JUDGED
    # Together with the policy of before: what the authorizer says of a role stands in place of the caller's.
    world.write(judged + POLICY)
    seen("the authorizer is asked", lambda: ask("/admin/1"), 401)
    seen("it lets its user pass", lambda: ask("/admin/2", x_user="good"), "v1")
    assert ask("/admin", x_user="bad") == 401
    asked = len(judge.asked)
    assert ask("/", x_user="bad") == "v1" and len(judge.asked) == asked, "nobody asks about other requests"
    judge.stop()
    seen("who cannot be asked lets nobody pass", lambda: ask("/admin", x_user="good"), 403)
    assert ask("/") == "v1"
    return proxy


def reload(world, peer):
    """Edits under load of one connection after the other: none fails."""
    port, other = free_port(), free_port()
    base = backends(world)
    http = f"  http: [{{route: [{to('v1')}]}}]\n"
    world.write(base + gateway(server(port, ["www.shop.test"])) + routes(["www.shop.test"], http))
    proxy = start(world, peer)
    seen("the first state", lambda: proxy.alive() and name(get(port, "www.shop.test")), "v1")
    assert get(other, "www.shop.test") is None
    ends, failed, count = threading.Event(), [], [0]

    def load():
        while not ends.is_set():
            answer = name(get(port, "www.shop.test"))
            count[0] += 1
            if answer not in ("v1", "v2"):
                failed.append(answer)

    loaded = [threading.Thread(target=load) for _ in range(2)]
    for thread in loaded:
        thread.start()
    try:
        both = gateway(server(port, ["www.shop.test"]), server(other, ["*"]))
        world.write(base + both + routes(["www.shop.test"], http))
        seen("another port is opened", lambda: name(get(other, "www.shop.test")), "v1")
        world.write(base + both + routes(["www.shop.test"], http.replace("v1", "v2")))
        seen("the rules change", lambda: name(get(other, "www.shop.test")), "v2")
        world.write(base + both.replace("istio: edge", "istio edge") + routes(["www.shop.test"], http))
        wait_for("the fault is told", lambda: "rejected" in world.logged())
        assert name(get(other, "www.shop.test")) == "v2"
        world.write(base + gateway(server(port, ["www.shop.test"])) + routes(["www.shop.test"], http))
        seen("it is closed", lambda: get(other, "www.shop.test"), None)
        seen("the rules are the first", lambda: name(get(port, "www.shop.test")), "v1")
    finally:
        ends.set()
        for thread in loaded:
            thread.join()
    say(f"  {count[0]} requests over four edits, failed: {failed or 'none'}")
    assert not failed, failed
    return proxy


def on_demand(world, peer):
    """Clusters that are asked for when a request needs them, by their names.

    Delta says at once that a cluster does not exist, long before the filter's own patience ends. The state of
    the world has no words for it, so that there it is the filter that gives up.
    """
    port, patience = free_port(), 60 if peer.kind == "delta" else 2
    world.write(backends(world))
    world.serve()
    demand = {
        "@type": "type.googleapis.com/envoy.extensions.filters.http.on_demand.v3.OnDemand",
        "odcds": {"source": ads(), "timeout": f"{patience}s"},
    }
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "demand",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [
            {"match": {"prefix": "/"}, "route": {"cluster_header": "x-cluster"}}]}]},
        "http_filters": [
            {"name": "envoy.filters.http.on_demand", "typed_config": demand},
            {"name": "envoy.filters.http.router", "typed_config": {"@type": "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"}},
        ],
    }
    listener = {
        "name": "demand",
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
    }
    proxy = Proxy(world, peer, listeners=[listener])
    ask = lambda cluster: name(get(port, "any", headers={"x-cluster": cluster}))
    wait_for("it listens", lambda: proxy.alive() and get(port, "any") is not None)
    assert ask("outbound|80||nobody.example") == 503
    assert ask(f"outbound|80|v1|{HOST}") == "v1"
    assert ask(f"outbound|80|v2|{HOST}") == "v2"
    two = world.echo("new")
    world.write(
        entry([(two.port, {"app": "catalog", "version": "v1"}, None)], protocol="HTTP") + rule(SUBSETS)
        + entry([(two.port, {"app": "nobody"}, None)], protocol="HTTP", host="nobody.example", name="nobody")
    )
    seen("an edit of its endpoints", lambda: ask(f"outbound|80|v1|{HOST}"), "new")
    seen("a cluster that was not there", lambda: ask("outbound|80||nobody.example"), "new")
    return proxy


def command_line(world, peer):
    """A listener of `--envoy-listener`: the routes of all services of one port, whatever objects say of gateways."""
    port, other = free_port(), free_port()
    text = backends(world)
    world.write(text + mesh_routes("v1"))
    world.serve("--envoy-listener", f"127.0.0.1:{port}", "--envoy-listener", f"127.0.0.1:{other}=81")
    proxy = Proxy(world, peer, dynamic={"cds_config": ads(), "lds_config": ads()})
    seen("it routes by the rules of the mesh", lambda: proxy.alive() and name(get(port, HOST)), "v1")
    assert name(get(port, HOST, headers={"x-canary": "true"})) == "v2"
    seen("another port has other services", lambda: get(other, HOST) is not None and name(get(other, HOST)), 404)
    world.write(text + mesh_routes("v2"))
    seen("an edit of the rules", lambda: name(get(port, HOST)), "v2")
    return proxy


def mesh_routes(subset):
    return (
        "---\napiVersion: networking.istio.io/v1\nkind: VirtualService\n"
        f"metadata: {{name: catalog, namespace: my-app}}\nspec:\n  hosts: [{HOST}]\n  http:\n"
        f"  - match: [{{headers: {{x-canary: {{exact: 'true'}}}}}}]\n    route: [{to('v2')}]\n"
        f"  - route: [{to(subset)}]\n"
    )


CELLS = {
    "hosts and headers": requests,
    "redirect": redirect,
    "TLS and callers' certificates, by name": secured,
    "TLS that passes through": passed,
    "policies": policies,
    "edits of the Gateway under load": reload,
    "on-demand clusters": on_demand,
    "listeners of the command line": command_line,
}
HEADER = ["peer", *CELLS]

# What a variant cannot do, and what is seen instead.
CANNOT = {}


def run(peer, cell):
    with World() as world:
        try:
            proxy = CELLS[cell](world, peer)
            rejected = proxy.rejected()
            assert rejected == 0, f"{rejected} updates were refused: {proxy.log.read_text()[-2000:]}"
            refused = refusals(world)
            assert not refused, refused[0]
            return None
        except AssertionError as error:
            return str(error) or "an assertion without words"


def main(wanted, only=None):
    failures = 0
    for key, kind in [("envoy", Envoy), ("envoy-delta", EnvoyDelta)]:
        if wanted and key not in wanted:
            continue
        peer, cells = kind(), {}
        for cell in CELLS:
            if only and CELLS[cell].__name__ not in only:
                continue
            began = time.monotonic()
            why = run(peer, cell)
            cannot = CANNOT.get((key, CELLS[cell].__name__))
            cells[cell] = "no" if why else "yes"
            say(f"{key} at the edge, {cell}: {cells[cell]} ({time.monotonic() - began:.1f} s)")
            if bool(why) != bool(cannot):
                failures += 1
                fail(f"{key} at the edge, {cell}: {why or f'it can, although the table says: {cannot}'}")
        why = None if only else table.fault(HEADER, [peer.named, *cells.values()])
        if why:
            failures += 1
            fail(why)
    return failures


if __name__ == "__main__":
    # edge.py PEER... CELL...: peers as in peers.py, cells by the names of their functions.
    arguments = set(sys.argv[1:])
    only = arguments & {cell.__name__ for cell in CELLS.values()}
    sys.exit(1 if main(arguments - only, only) else 0)
