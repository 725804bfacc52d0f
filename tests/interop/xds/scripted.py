"""A scripted server (grpcio, xds-protos) that sends what good and bad servers send."""

import json
import pathlib
import sys

from harness import World, names, wait_for

SERVER = pathlib.Path(__file__).parent / "server.py"
DELTA = ["xds.delta"]
HCM = "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "type.googleapis.com/envoy.extensions.filters.http.router.v3.Router"
ADS = {"ads": {}, "resourceApiVersion": "V3"}


class Server:
    def __init__(self, world, address="127.0.0.1:0"):
        self.process = world.process(sys.executable, str(SERVER), address)
        self.address = self.process.read()

    def do(self, what, **more):
        return json.loads(self.process.ask(json.dumps({"do": what, **more})))

    def put(self, kind, name, value):
        self.do("put", kind=kind, name=name, json=value)

    def requests(self):
        return self.do("requests")["requests"]

    def refusal(self, kind):
        """Waits for a request that refuses resources of a kind."""
        seen = []

        def found():
            seen.extend(self.requests())
            return next((r for r in seen if r["kind"] == kind and r["error"]), None)

        return wait_for(f"a refusal of {kind}", found)


def listener(name="catalog:80", routes="routes"):
    manager = {
        "@type": HCM,
        "rds": {"configSource": ADS, "routeConfigName": routes},
        "httpFilters": [{"name": "router", "typedConfig": {"@type": ROUTER}}],
    }
    return {"name": name, "apiListener": {"apiListener": manager}}


def routes(*clusters, name="routes", **action):
    forward = lambda cluster: {"match": {"prefix": "/"}, "route": {"cluster": cluster, **action}}
    hosts = [{"name": "all", "domains": ["*"], "routes": [forward(one) for one in clusters]}]
    return {"name": name, "virtualHosts": hosts}


def cluster(name, **more):
    return {
        "name": name,
        "type": "EDS",
        "edsClusterConfig": {"edsConfig": ADS},
        "connectTimeout": "5s",
        **more,
    }


def endpoints(name, *ports, **more):
    address = lambda port: {"socketAddress": {"address": "127.0.0.1", "portValue": port}}
    members = [{"endpoint": {"address": address(port)}, **more} for port in ports]
    locality = {"locality": {"region": "here"}, "loadBalancingWeight": 1, "lbEndpoints": members}
    return {"clusterName": name, "endpoints": [locality] if ports else []}


def whole(server, port):
    server.put("listener", "catalog:80", listener())
    server.put("route", "routes", routes("first"))
    server.put("cluster", "first", cluster("first"))
    server.put("endpoints", "first", endpoints("first", port))


def protocol(features):
    """What a good server sees: names, nonces, versions, one node."""
    with World() as world:
        server = Server(world)
        whole(server, world.echo("one"))
        client = world.client(server.address, features)
        assert client.call(n=20)["ok"] == 20
        requests = server.requests()
        assert [r["node"] for r in requests if r["node"]] == ["interop"], requests
        assert requests[0]["node"] == "interop" and requests[0]["agent"] == "meshwork", requests[0]
        variant = "delta" if features else "sotw"
        assert {r["variant"] for r in requests} == {variant}
        for kind in ("listener", "route", "cluster", "endpoints"):
            of_kind = [r for r in requests if r["kind"] == kind]
            assert of_kind[0]["names"] and not of_kind[0]["nonce"], of_kind
            assert any(r["nonce"] for r in of_kind) and not any(r["error"] for r in of_kind), of_kind
        assert all(r["names"] or variant == "delta" for r in requests), "a wildcard"


def refused(kind, name, bad, expected):
    """A bad resource is refused with its name and path, and the one before it stays."""

    def feature(features):
        with World() as world:
            server = Server(world)
            whole(server, world.echo("one"))
            client = world.client(server.address, features)
            assert client.call()["ok"] == 1
            server.requests()
            server.put(kind, name, bad)
            server.do("push")
            refusal = server.refusal(kind)
            assert refusal["code"] == 3 and name in refusal["error"], refusal
            assert expected in refusal["error"], refusal
            assert client.call(n=50)["ok"] == 50, "the last good one"

    return feature


def garbage(features):
    """Bytes that are no message are refused by their place."""
    with World() as world:
        server = Server(world)
        whole(server, world.echo("one"))
        client = world.client(server.address, features)
        assert client.call()["ok"] == 1
        server.requests()
        server.do("raw", kind="cluster", name="first", hex="ffff")
        server.do("push")
        server.refusal("cluster")
        assert client.call(n=50)["ok"] == 50
        server.put("cluster", "first", cluster("first"))
        server.do("push")
        assert client.call(n=50)["ok"] == 50


def wrong_type(features):
    with World() as world:
        server = Server(world)
        whole(server, world.echo("one"))
        client = world.client(server.address, features)
        assert client.call()["ok"] == 1
        server.do("raw", kind="cluster", name="first", hex="", type="type.googleapis.com/a.B")
        server.do("push")
        assert "a.B" in server.refusal("cluster")["error"]
        assert client.call(n=50)["ok"] == 50


def deleted_cluster(features):
    """What is deleted stays in use, and comes back."""
    with World() as world:
        one, two = world.echo("one"), world.echo("two")
        server = Server(world)
        whole(server, one)
        client = world.client(server.address, features)
        assert client.call()["ok"] == 1
        server.do("drop", kind="cluster", name="first")
        server.do("push")
        assert client.call(n=50)["ok"] == 50
        server.put("cluster", "first", cluster("first"))
        server.put("endpoints", "first", endpoints("first", two))
        server.do("push")
        client.until("the new endpoint", lambda result: names(result) == {"two"})


def missing_endpoints(features):
    """A route waits for the endpoints of its cluster; calls go the old way until then."""
    with World() as world:
        one, two = world.echo("one"), world.echo("two")
        server = Server(world)
        whole(server, one)
        client = world.client(server.address, features)
        assert client.call()["ok"] == 1
        server.put("cluster", "second", cluster("second"))
        server.put("route", "routes", routes("second"))
        server.do("push")
        result = client.call(rate=100, duration="1s")
        assert result["failed"] == 0 and names(result) == {"one"}, result
        server.put("endpoints", "second", endpoints("second", two))
        server.do("push")
        client.until("the new route", lambda result: names(result) == {"two"})


def error_of_a_resource(features):
    """`resource_errors` are told at once, not after 15 s of silence."""
    with World() as world:
        server = Server(world)
        server.do("error", kind="listener", name="catalog:80", code=7, text="not for you")
        client = world.client(server.address, features)
        result = client.call("xds:///catalog:80")
        assert result["failed"] == 1 and result["elapsed_us"] < 5_000_000, result
        assert "not for you" in result["last_error"], result


def empty_endpoints(features):
    """No endpoints is an error at once, and no hang."""
    with World() as world:
        server = Server(world)
        whole(server, 1)
        server.put("endpoints", "first", endpoints("first"))
        client = world.client(server.address, features)
        result = client.call(timeout="5s")
        assert result["failed"] == 1 and result["elapsed_us"] < 3_000_000, result
        assert set(result["by_flag"]) == {"UH"}, result


def unhealthy_endpoints(features):
    with World() as world:
        one, two = world.echo("one"), world.echo("two")
        server = Server(world)
        whole(server, one)
        sick = endpoints("first", two, healthStatus="UNHEALTHY")["endpoints"][0]
        both = endpoints("first", one)
        both["endpoints"][0]["lbEndpoints"] += sick["lbEndpoints"]
        server.put("endpoints", "first", both)
        client = world.client(server.address, features)
        result = client.call(n=200)
        assert result["ok"] == 200 and names(result) == {"one"}, result


def cut_streams(features):
    """A server that ends its streams again and again costs nobody a call."""
    with World() as world:
        server = Server(world)
        whole(server, world.echo("one"))
        client = world.client(server.address, features)
        assert client.call()["ok"] == 1
        for _ in range(3):
            result = client.under_load(lambda: server.do("cut"), seconds=1.5)
            assert result["failed"] == 0, result
        wait_for("a new stream", lambda: any(r["node"] for r in server.requests()))


BOTH = {
    "protocol": protocol,
    "refused cluster": refused(
        "cluster", "first", cluster("first", edsClusterConfig={}), "eds_cluster_config"
    ),
    "refused route": refused(
        "route",
        "routes",
        {
            "name": "routes",
            "virtualHosts": [
                {
                    "name": "all",
                    "domains": ["*"],
                    "routes": [
                        {"match": {"safeRegex": {"regex": "("}}, "route": {"cluster": "first"}}
                    ],
                }
            ],
        },
        "virtual_hosts[0].routes[0].match",
    ),
    "refused listener": refused(
        "listener", "catalog:80", {"name": "catalog:80", "apiListener": {}}, "api_listener"
    ),
    "refused endpoints": refused(
        "endpoints", "first", endpoints("first", 0), "endpoints[0].lb_endpoints[0]"
    ),
    "garbage": garbage,
    "wrong type": wrong_type,
    "deleted cluster": deleted_cluster,
    "missing endpoints": missing_endpoints,
    "error of a resource": error_of_a_resource,
    "empty endpoints": empty_endpoints,
    "unhealthy endpoints": unhealthy_endpoints,
    "cut streams": cut_streams,
}
# A server of the incremental variant says at once that endpoints do not exist: there is no waiting.
SOTW_ONLY = {"missing endpoints"}
FEATURES = {}
for name, feature in BOTH.items():
    FEATURES[f"{name}, state of the world"] = lambda feature=feature: feature([])
    if name not in SOTW_ONLY:
        FEATURES[f"{name}, delta"] = lambda feature=feature: feature(DELTA)
