"""Every feature that is claimed, once for all clients.

A feature is a function of a world and a client. It raises what it did not see. A peer says in `cannot` which
of them it does not have, and why; one that it has after all fails until the table says so.
"""

from world import HOST, SUBSETS, TARGET, entry, routes, rule, say, to, total, wait_for

V1, V2 = {"app": "catalog", "version": "v1"}, {"app": "catalog", "version": "v2"}


def base(world, second=True):
    """Two backends, v1 and v2."""
    one = world.echo("v1")
    two = world.echo("v2") if second else None
    return one, two


def near(found, expected, count):
    """Within four standard deviations of a share."""
    spread = 4 * (count * expected * (1 - expected)) ** 0.5
    return abs(found - count * expected) <= spread


def split(world, client, peer):
    one, two = base(world)
    world.write(
        entry([(one.port, V1, None), (two.port, V2, None)])
        + rule(SUBSETS)
        + routes(f"- route: [{to('v1', 90)}, {to('v2', 10)}]")
    )
    client = peer.start(world)
    client.until("an answer", lambda tally: tally["ok"] and not tally["failed"])
    tally = client.calls(2000)
    assert not tally["failed"], tally
    assert near(tally["ok"].get("v2", 0), 0.1, 2000), tally


def headers(world, client, peer):
    one, two = base(world)
    world.write(
        entry([(one.port, V1, None), (two.port, V2, None)])
        + rule(SUBSETS)
        + routes(
            f"""
- match: [{{headers: {{x-canary: {{exact: "true"}}}}}}]
  route: [{to("v2")}]
- route: [{to("v1")}]
"""
        )
    )
    client = peer.start(world)
    client.until("an answer", lambda tally: tally["ok"].get("v1") == 10)
    assert client.calls(50, metadata={"x-canary": "true"})["ok"] == {"v2": 50}
    assert client.calls(50, metadata={"x-canary": "no"})["ok"] == {"v1": 50}


def timeouts(world, client, peer):
    slow = world.echo("slow", "--delay", "2s")
    world.write(
        entry([(slow.port, V1, None)])
        + routes(f"- timeout: 0.2s\n  route: [{{destination: {{host: {HOST}}}}}]")
    )
    client = peer.start(world)
    tally = client.until(
        "a call ends with its route's timeout",
        lambda tally: set(tally["failed"]) & peer.timeout_codes,
        count=1,
        timeout=10.0,
    )
    tally = client.calls(4, timeout=10.0, parallel=4)
    assert tally["seconds"] < 1.5, tally


def retries(world, client, peer):
    flaky = world.echo("flaky", "--fail-rate", "0.3", "--grpc-status", "14", "--seed", "7")
    policy = "attempts: 4, retryOn: unavailable, backoff: 5ms"
    # Without a number Envoy has three retries at a time, which is a budget and not the policy.
    world.write(
        entry([(flaky.port, V1, None)])
        + rule("trafficPolicy: {connectionPool: {http: {maxRetries: 100}}}")
        + routes(
            f"- retries: {{{policy}}}\n  route: [{{destination: {{host: {HOST}}}}}]"
        )
    )
    client = peer.start(world)
    client.until("an answer", lambda tally: tally["ok"])
    tally = client.calls(400)
    # Without retries 120 of them fail, with four 0.3 ** 5 of them: one.
    assert sum(tally["failed"].values()) <= 12, tally


def faults(world, client, peer):
    one, _ = base(world, second=False)
    world.write(
        entry([(one.port, V1, None)])
        + routes(
            f"""
- fault: {{abort: {{grpcStatus: ABORTED, percentage: {{value: 40}}}}}}
  route: [{{destination: {{host: {HOST}}}}}]
"""
        )
    )
    client = peer.start(world)
    client.until("an answer", lambda tally: tally["ok"])
    tally = client.calls(1000)
    assert near(tally["failed"].get("ABORTED", 0), 0.4, 1000), tally
    assert set(tally["failed"]) <= {"ABORTED"}, tally


def circuit_breaking(world, client, peer):
    slow = world.echo("slow", "--delay", "300ms")
    world.write(
        entry([(slow.port, V1, None)])
        + rule("trafficPolicy: {connectionPool: {http: {http2MaxRequests: 2}}}")
        + routes(f"- retries: {{attempts: 0}}\n  route: [{{destination: {{host: {HOST}}}}}]")
    )
    client = peer.start(world)
    client.until("an answer", lambda tally: tally["ok"], count=1)
    # Some clients count a request a moment after they let it pass, so the first ones are not judged.
    client.calls(12, parallel=12)
    tally = client.calls(60, parallel=12)
    assert set(tally["failed"]) == {"UNAVAILABLE"}, tally
    assert tally["failed"]["UNAVAILABLE"] >= 30, tally


def outlier_detection(world, client, peer):
    good, bad = world.echo("good"), world.echo("bad", "--grpc-status", "14")
    world.write(
        entry([(good.port, V1, None), (bad.port, V1, None)])
        + rule(
            """
trafficPolicy:
  loadBalancer: {simple: ROUND_ROBIN}
  outlierDetection: {consecutive5xxErrors: 5, interval: 0.5s, baseEjectionTime: 60s, maxEjectionPercent: 50}
"""
        )
        + routes(f"- retries: {{attempts: 0}}\n  route: [{{destination: {{host: {HOST}}}}}]")
    )
    client = peer.start(world)
    client.until("an answer", lambda tally: tally["ok"])
    client.until(
        "the bad endpoint is ejected",
        lambda tally: tally["ok"].get("good") == 60,
        count=60,
    )


def ring_hash(world, client, peer):
    backends = [world.echo(f"e{at}") for at in range(4)]
    world.write(
        entry([(backend.port, V1, None) for backend in backends])
        + rule("trafficPolicy: {loadBalancer: {consistentHash: {httpHeaderName: x-key}}}")
    )
    client = peer.start(world)
    client.until("an answer", lambda tally: tally["ok"])
    keys = [f"key-{at}" for at in range(40)]
    tally = client.calls(400, keys=keys)
    assert not tally["failed"], tally
    assert all(len(names) == 1 for names in tally["by_key"].values()), tally
    assert len(tally["ok"]) > 1, tally


def locality_failover(world, client, peer):
    near_one, far_one = world.echo("near"), world.echo("far")
    world.write(
        entry([(near_one.port, V1, "here/a"), (far_one.port, V1, "there/b")])
        + rule(
            """
trafficPolicy:
  loadBalancer: {localityLbSetting: {enabled: true}}
  outlierDetection: {consecutive5xxErrors: 5, interval: 0.5s, baseEjectionTime: 60s}
"""
        )
    )
    client = peer.start(world)
    client.until("an answer", lambda tally: tally["ok"])
    assert client.calls(60)["ok"] == {"near": 60}
    near_one.stop()
    client.until("it fails over", lambda tally: tally["ok"].get("far") == 10)


def hot_reload(world, client, peer):
    one, two = base(world)
    both = entry([(one.port, V1, None), (two.port, V2, None)]) + rule(SUBSETS)
    world.write(both + routes(f"- route: [{to('v1')}]"))
    client = peer.start(world)
    client.until("an answer", lambda tally: tally["ok"].get("v1") == 10)
    world.write("kind: VirtualService\nspec: [")
    wait_for("the fault is told", lambda: "rejected" in world.logged())
    assert client.calls(20)["ok"] == {"v1": 20}
    world.write(both + routes(f"- route: [{to('v2')}]"))
    client.until("the edit is in force", lambda tally: tally["ok"].get("v2") == 10)


def cluster_switch(world, client, peer):
    """One edit moves the route to a new cluster and deletes the old one, under load."""
    one, two = base(world)

    def state(at):
        # Each state has one cluster, of a name that the other has not.
        port, labels = [(one.port, V1), (two.port, V2)][at % 2]
        host = f"backend-{at % 2}.my-app.svc.cluster.local"
        return entry([(port, labels, None)], host=host, name=f"backend-{at % 2}") + routes(
            f"- route: [{{destination: {{host: {host}}}}}]"
        )

    world.write(state(0))
    client = peer.start(world)
    client.until("an answer", lambda tally: tally["ok"].get("v1") == 10)
    client.send(do="load", target=peer.target, parallel=4)
    client.answer()
    probe = peer.start(world)
    for at in range(1, 7):
        world.write(state(at))
        name = ["v1", "v2"][at % 2]
        probe.until("the switch", lambda tally: tally["ok"] == {name: 20}, count=20)
    client.send(do="stop")
    tally = client.answer()
    probe.stop()
    say(f"  {total(tally)} calls over six switches, failed: {tally['failed'] or 'none'}")
    assert set(tally["ok"]) == {"v1", "v2"}, tally
    assert not tally["failed"], tally


FEATURES = [
    split,
    headers,
    timeouts,
    retries,
    faults,
    circuit_breaking,
    outlier_detection,
    ring_hash,
    locality_failover,
    hot_reload,
    cluster_switch,
]

NAMES = {
    "split": "weighted split",
    "headers": "routing by header",
    "timeouts": "timeout of a route",
    "retries": "retries",
    "faults": "injected faults",
    "circuit_breaking": "limit of requests",
    "outlier_detection": "outlier detection",
    "ring_hash": "ring hash",
    "locality_failover": "locality failover",
    "hot_reload": "hot reload",
    "cluster_switch": "cluster switched by one edit under load",
}
