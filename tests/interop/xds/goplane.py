"""go-control-plane's snapshot cache, in both variants of the protocol."""

import os
import threading

from harness import MESHWORK, Client, World, names, wait_for

BINARY = os.path.join(os.environ["INTEROP"], "go-control-plane")
DELTA = ["xds.delta"]


def start(world, *arguments):
    plane = world.process(BINARY, *arguments)
    plane.address = plane.read()
    return plane


def put(plane, version, routes, **clusters):
    words = [f"{name}={','.join(map(str, ports))}" for name, ports in clusters.items()]
    answer = plane.ask(f"set {version} {routes} {' '.join(words)}")
    assert answer == "set <nil>", answer


def calls(features):
    with World() as world:
        one = world.echo("one")
        plane = start(world)
        put(plane, "1", "routes", first=[one])
        client = world.client(plane.address, features)
        result = client.call(n=200, c=8)
        assert result["ok"] == 200 and names(result) == {"one"}, result
        assert plane.ask("nacks").startswith("nacks 0"), plane.ask("nacks")
        # The server repeats the node of a stream's first request in those behind it.
        assert set(plane.ask("asked").split()[2:]) == {"interop"}


def listener_by_name(features):
    with World() as world:
        one = world.echo("one")
        plane = start(world)
        put(plane, "1", "routes", first=[one])
        client = world.client(plane.address, features, by_environment=True)
        result = client.call("xds:///catalog:80", n=10)
        assert result["ok"] == 10 and names(result) == {"one"}, result
        result = client.call("xds:///catalog:80", grpc="a.b.C/D", n=10)
        assert result["ok"] == 10, result


def moved_route(features):
    """A route moves to a new cluster and the old one is deleted, under load: no call fails."""
    with World() as world:
        one, two = world.echo("one"), world.echo("two")
        plane = start(world)
        put(plane, "1", "routes", first=[one])
        client = world.client(plane.address, features)
        assert client.call()["ok"] == 1
        move = lambda: put(plane, "2", "routes", second=[two])
        result = client.under_load(move)
        assert result["failed"] == 0 and names(result) == {"one", "two"}, result
        assert names(client.call(n=20)) == {"two"}
        back = client.under_load(lambda: put(plane, "3", "other", first=[one]))
        assert back["failed"] == 0 and names(back) == {"one", "two"}, back


def changed_endpoints(features):
    with World() as world:
        one, two = world.echo("one"), world.echo("two")
        plane = start(world)
        put(plane, "1", "routes", first=[one])
        client = world.client(plane.address, features)
        assert names(client.call(n=5)) == {"one"}
        result = client.under_load(lambda: put(plane, "2", "routes", first=[one, two]))
        assert result["failed"] == 0 and names(result) == {"one", "two"}, result
        result = client.under_load(lambda: put(plane, "3", "routes", first=[two]))
        assert result["failed"] == 0, result
        assert names(client.call(n=20)) == {"two"}


def lost_and_back(features):
    """The control plane dies, calls go on; it returns with another version, and is followed."""
    with World() as world:
        one, two = world.echo("one"), world.echo("two")
        plane = start(world)
        put(plane, "7", "routes", first=[one])
        client = world.client(plane.address, features)
        assert client.call()["ok"] == 1
        result = client.under_load(plane.kill)
        assert result["failed"] == 0 and names(result) == {"one"}, result
        again = start(world, plane.address)
        put(again, "1", "routes", first=[two])
        client.until("the new endpoint answers", lambda result: names(result) == {"two"})
        assert again.ask("nacks").startswith("nacks 0")


def fallback(features):
    """The first server is not there; the second is asked, until the first is."""
    with World() as world:
        one, two = world.echo("one"), world.echo("two")
        gone = start(world)
        gone.kill()
        second = start(world)
        put(second, "1", "routes", first=[two])
        client = world.client([gone.address, second.address], features)
        client.until("the second server's answer", lambda result: names(result) == {"two"})
        first = start(world, gone.address)
        put(first, "1", "others", other=[one])
        result = client.under_load(lambda: None, seconds=4.0)
        assert result["failed"] == 0, result
        client.until("the first server's answer", lambda result: names(result) == {"one"})


def server(features):
    """A server asks for its listener, serves when it has it, and denies what it says, under load."""
    with World() as world:
        plane = start(world)
        bootstrap = world.bootstrap(
            plane.address, features, server_listener_resource_name_template="inbound/%s"
        )
        echo = world.process(
            MESHWORK, "echo", "--listen", "127.0.0.1:0", "--name", "served", "--xds", str(bootstrap)
        )
        address = echo.read().removeprefix("listening on ")
        name, port = f"inbound/{address}", address.rsplit(":", 1)[1]
        client = Client(world.process(MESHWORK, "call", "--stdin"))
        call = lambda path="/", **more: client.call(f"http://{address}{path}", **more)
        assert call()["ok"] == 0, "it serves without a listener"
        serve = lambda *words: plane.ask(f"serve {' '.join(words)}")
        assert serve("1", name, port) == "serve <nil>"
        wait_for("it serves", lambda: call()["ok"] == 1)
        assert names(call(n=20)) == {"served"}
        assert call("/admin")["ok"] == 1
        # The listener changes: connections are drained, and no request is lost.
        change = lambda: serve("2", name, port, "/admin")
        timer = threading.Timer(0.7, change)
        timer.start()
        result = call("", grpc="a.b.C/D", c=8, rate=400, duration="3s")
        timer.join()
        assert result["failed"] == 0 and result["ok"] > 500, result
        assert call("/admin")["by_status"] == {"403": 1}, call("/admin")
        assert call("/other")["ok"] == 1
        assert plane.ask("nacks").startswith("nacks 0"), plane.ask("nacks")


BOTH = [server, calls, listener_by_name, moved_route, changed_endpoints, lost_and_back, fallback]
FEATURES = {}
for feature in BOTH:
    name = feature.__name__.replace("_", " ")
    FEATURES[f"{name}, state of the world"] = lambda feature=feature: feature([])
    FEATURES[f"{name}, delta"] = lambda feature=feature: feature(DELTA)
