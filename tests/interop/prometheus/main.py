"""A real Prometheus over a real process: what it scrapes, and what the dashboard's queries return."""

import json
import os
import pathlib
import socket
import subprocess
import sys
import tempfile
import time
import urllib.parse
import urllib.request

MESHWORK = os.environ["MESHWORK"]
DASHBOARDS = pathlib.Path("docs/dashboards").resolve()
PATIENCE = 90

CATALOG = """
apiVersion: v1
kind: Service
metadata: {name: catalog, namespace: my-app}
spec: {selector: {app: catalog}, ports: [{name: http, port: 80, targetPort: 8080}]}
"""
POD = """
---
apiVersion: v1
kind: Pod
metadata: {name: catalog-%(version)s, namespace: my-app, labels: {app: catalog, version: %(version)s}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: catalog-%(version)s, namespace: my-app, labels: {kubernetes.io/service-name: catalog}}
addressType: IPv4
ports: [{name: http, port: %(port)s}]
endpoints: [{addresses: [127.0.0.1], targetRef: {kind: Pod, name: catalog-%(version)s, namespace: my-app}}]
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def until(what, condition):
    """Asks until there is an answer; fails when it takes too long."""
    end = time.monotonic() + PATIENCE
    last = None
    while time.monotonic() < end:
        try:
            last = condition()
            if last:
                return last
        except OSError as error:
            last = error
        time.sleep(0.5)
    sys.exit(f"interop: prometheus: FAILED: {what}: {last}")


class World:
    """Processes that end with the test."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.processes = []

    def start(self, *command):
        log = open(self.folder / f"{len(self.processes)}.log", "w")
        process = subprocess.Popen(command, stdout=log, stderr=log)
        self.processes.append(process)
        return process

    def end(self):
        for process in self.processes:
            process.terminate()
        for process in self.processes:
            try:
                process.wait(10)
            except subprocess.TimeoutExpired:
                process.kill()

    def mesh(self):
        text = CATALOG
        for version in ["v1", "v2"]:
            port = free_port()
            self.start(MESHWORK, "echo", "--listen", f"127.0.0.1:{port}", "--name", version)
            text += POD % {"version": version, "port": port}
        config = self.folder / "mesh"
        config.mkdir()
        (config / "catalog.yaml").write_text(text)
        admin = free_port()
        self.start(
            MESHWORK, "call", "--config", str(config), "--workload", "my-app/order-sa",
            "--label", "app=order", "--rate", "100", "--duration", "10m",
            "--admin", f"127.0.0.1:{admin}", "http://catalog/items",
        )
        until("the process is ready", lambda: get(f"http://127.0.0.1:{admin}/ready") == "LIVE\n")
        return admin

    def prometheus(self, admin):
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(DASHBOARDS / "rules.yaml")],
            "scrape_configs": [{
                "job_name": "meshwork",
                "metrics_path": "/stats/prometheus",
                "static_configs": [{"targets": [f"127.0.0.1:{admin}"]}],
            }],
        }
        path = self.folder / "prometheus.yaml"
        path.write_text(json.dumps(config))
        port = free_port()
        self.start(
            "prometheus", f"--config.file={path}", f"--storage.tsdb.path={self.folder / 'data'}",
            f"--web.listen-address=127.0.0.1:{port}",
        )
        return f"http://127.0.0.1:{port}"


def query(prometheus, expression):
    url = f"{prometheus}/api/v1/query?" + urllib.parse.urlencode({"query": expression})
    answer = json.loads(get(url))
    assert answer["status"] == "success", answer
    return answer["data"]["result"]


def panels():
    dashboard = json.loads((DASHBOARDS / "meshwork.json").read_text())
    for panel in dashboard["panels"]:
        for target in panel["targets"]:
            expression = target["expr"].replace("$source", ".*").replace("$service", ".*")
            yield panel["title"], expression


def check(world):
    admin = world.mesh()
    text = get(f"http://127.0.0.1:{admin}/stats/prometheus")
    lint = subprocess.run(["promtool", "check", "metrics"], input=text, text=True, capture_output=True)
    # Istio's own names have units that promtool would name otherwise; anything else is a fault.
    foreign = [line for line in lint.stderr.splitlines() if line and not line.startswith("istio_")]
    assert not foreign, lint.stderr
    print("interop: prometheus: promtool finds no fault in the metrics")
    prometheus = world.prometheus(admin)
    up = lambda: query(prometheus, "up") and query(prometheus, "up")[0]["value"][1] == "1"
    until("the target is up", up)
    count = 0
    for title, expression in panels():
        until(f"{title}: {expression}", lambda: query(prometheus, expression))
        count += 1
    print(f"interop: prometheus: {count} queries of the dashboard return data")
    rate = "sum by (destination_version) (rate(istio_requests_total{reporter=\"source\"}[10s]))"

    def shares():
        found = {one["metric"]["destination_version"]: float(one["value"][1]) for one in query(prometheus, rate)}
        # A window that is not full yet shows less.
        return len(found) == 2 and all(40 < share < 60 for share in found.values()) and found

    shares = until("each of two versions gets half of 100 requests per second", shares)
    print("interop: prometheus: 100 requests per second are seen as", {k: round(v) for k, v in shares.items()})
    rules = json.loads(get(f"{prometheus}/api/v1/rules"))["data"]["groups"][0]["rules"]
    assert len(rules) == 8 and all(rule["health"] != "err" for rule in rules), rules
    print(f"interop: prometheus: {len(rules)} rules are evaluated")


def main():
    with tempfile.TemporaryDirectory() as folder:
        world = World(folder)
        try:
            check(world)
        except AssertionError as error:
            sys.exit(f"interop: prometheus: FAILED: {error}")
        finally:
            world.end()


main()
