"""What a person sees: a control plane with clients that are content, refuse something, and report their load."""

import json
import os
import pathlib
import queue
import re
import socket
import subprocess
import sys
import tempfile
import threading
import time
import urllib.request

import grpc
from envoy.config.core.v3 import base_pb2
from envoy.config.endpoint.v3 import load_report_pb2
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2
from envoy.service.load_stats.v3 import lrs_pb2, lrs_pb2_grpc
from google.protobuf import struct_pb2
from google.rpc import status_pb2

MESHWORK = os.environ["MESHWORK"]
OUT = pathlib.Path(sys.argv[1])
PATIENCE = 60
CLUSTER = "type.googleapis.com/envoy.config.cluster.v3.Cluster"

MESH = """
apiVersion: v1
kind: Service
metadata: {name: %(name)s, namespace: my-app}
spec: {selector: {app: %(name)s}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: %(name)s-1, namespace: my-app, labels: {kubernetes.io/service-name: %(name)s}}
addressType: IPv4
ports: [{name: http, port: 8080}]
endpoints: [{addresses: [10.0.0.1]}, {addresses: [10.0.0.2]}]
---
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def get(url):
    with urllib.request.urlopen(url, timeout=10) as answer:
        return answer.read().decode()


def until(what, condition):
    end, last = time.monotonic() + PATIENCE, None
    while time.monotonic() < end:
        try:
            last = condition()
            if last:
                return last
        except (OSError, ValueError) as error:
            last = error
        time.sleep(0.2)
    sys.exit(f"interop: page: FAILED: {what}: {last}")


def node(app, software="gRPC Python"):
    metadata = struct_pb2.Struct()
    metadata.update({"NAMESPACE": "my-app", "SERVICE_ACCOUNT": f"{app}-sa", "LABELS": {"app": app}})
    return base_pb2.Node(id=f"{app}-7d4f", cluster=app, user_agent_name=software, metadata=metadata)


def stream(begin):
    """A stream to which a test writes; returns what it answers."""
    sent = queue.Queue()
    return sent, begin(iter(sent.get, None))


class Client:
    """A client that subscribes to all clusters, and acknowledges or refuses them."""

    def __init__(self, channel, who, refusal=None):
        stub = ads_pb2_grpc.AggregatedDiscoveryServiceStub(channel)
        self.sent, answers = stream(stub.StreamAggregatedResources)
        self.sent.put(discovery_pb2.DiscoveryRequest(node=node(who), type_url=CLUSTER))
        threading.Thread(target=self.follow, args=(answers, refusal), daemon=True).start()

    def follow(self, answers, refusal):
        try:
            for answer in answers:
                request = discovery_pb2.DiscoveryRequest(type_url=CLUSTER, response_nonce=answer.nonce)
                if refusal:
                    request.error_detail.CopyFrom(status_pb2.Status(code=3, message=refusal))
                else:
                    request.version_info = answer.version_info
                self.sent.put(request)
        except grpc.RpcError:
            pass


def report(channel, who, loads):
    """Reports loads of the last ten seconds: subset, host, requests, failures, milliseconds."""
    stub = lrs_pb2_grpc.LoadReportingServiceStub(channel)
    sent, answers = stream(stub.StreamLoadStats)
    request = lrs_pb2.LoadStatsRequest(node=node(who))
    for subset, host, issued, failed, latency in loads:
        stats = request.cluster_stats.add(cluster_name=f"outbound|80|{subset}|{host}.my-app.svc.cluster.local")
        stats.load_report_interval.seconds = 10
        place = stats.upstream_locality_stats.add(
            total_issued_requests=issued, total_successful_requests=issued - failed, total_error_requests=failed
        )
        place.load_metric_stats.append(load_report_pb2.EndpointLoadMetricStats(
            metric_name="latency_ms", num_requests_finished_with_metric=issued, total_metric_value=issued * latency
        ))
    sent.put(request)
    assert next(answers).send_all_clusters
    return sent


def chromium(url, *options):
    with tempfile.TemporaryDirectory() as profile:
        command = [
            "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--hide-scrollbars",
            f"--user-data-dir={profile}", "--virtual-time-budget=6000", *options, url,
        ]
        done = subprocess.run(command, capture_output=True, text=True, timeout=PATIENCE)
    if done.returncode != 0:
        sys.exit(f"interop: page: FAILED: chromium: {done.stderr[-2000:]}")
    return done.stdout


def table(dom, name):
    """The texts of the rows of a table."""
    body = re.search(rf'<table id="{name}">.*?<tbody>(.*?)</tbody>', dom, re.S)[1]
    return [re.sub(r"\s+", " ", re.sub(r"<[^>]*>", " ", row)).strip() for row in re.findall(r"<tr>(.*?)</tr>", body, re.S)]


def check(folder):
    config = folder / "mesh"
    config.mkdir()
    (config / "mesh.yaml").write_text("".join(MESH % {"name": name} for name in ["order", "catalog", "payment"]))
    port, admin = free_port(), free_port()
    log = open(folder / "serve.log", "w")
    server = subprocess.Popen(
        [MESHWORK, "serve", "--config", str(config), "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}"],
        stdout=log, stderr=log,
    )
    url = f"http://127.0.0.1:{admin}"
    try:
        until("it serves", lambda: get(f"{url}/ready") == "serving\n")
        empty = chromium(url + "/", "--dump-dom")
        assert "No client is connected." in empty and "No client has reported a request yet" in empty
        print("interop: page: it says what is not there yet")

        channel = grpc.insecure_channel(f"127.0.0.1:{port}")
        hostile = "cluster outbound|80||catalog: lb_policy <img src=x onerror=alert(1)>"
        kept = [Client(channel, "order"), Client(channel, "payment", hostile)]
        kept.append(report(channel, "web", [("", "order", 1000, 0, 4.0)]))
        kept.append(report(channel, "order", [
            ("v1", "catalog", 900, 0, 12.0), ("v2", "catalog", 100, 30, 55.0), ("", "payment", 200, 1, 80.0),
        ]))
        state = lambda: json.loads(get(f"{url}/status.json"))
        until("clients have answered", lambda: {one["state"] for one in state()["clients"]} == {"SYNCED", "NACKED"})
        until("loads have arrived", lambda: len(state()["calls"]) == 4)
        (config / "bad.yaml").write_text("apiVersion: v1\nkind: Service\nmetadata: {name: bad}\nspec: {prots: []}\n---\nkind: [\n")
        until("the bad edit is rejected", lambda: state()["rejected"])

        dom = chromium(url + "/", "--dump-dom")
        rows = {name: table(dom, name) for name in ["services", "calls", "clients", "certificates"]}
        (catalog,) = [row for row in rows["services"] if row.startswith("catalog.my-app")]
        assert "97.0 %" in catalog and "16.3 ms" in catalog and "80 http" in catalog, catalog
        (canary,) = [row for row in rows["calls"] if " v2 " in row]
        assert canary.startswith("order.my-app catalog.my-app v2") and "10.0 %" in canary and "70.0 %" in canary, canary
        (nacked,) = [row for row in rows["clients"] if row.startswith("NACKED")]
        assert "lb_policy" in nacked and "payment-7d4f" in nacked, nacked
        assert any(row.startswith("SYNCED order-7d4f") for row in rows["clients"]), rows["clients"]
        assert "<img" not in dom, "a text of a client became HTML"
        faults = re.search(r'<pre id="faults"[^>]*>(.*?)</pre>', dom, re.S)[1]
        assert "bad.yaml" in faults, faults
        assert dom.count('class="edge') == 3 and "web.my-app calls order.my-app" in dom
        assert "plaintext" in rows["certificates"][0]
        print("interop: page: services, a canary of 10 %, who calls whom, a refusal with its reason and the faults are shown")

        for name, size in [("desktop", "1280,1900"), ("phone", "390,3600")]:
            path = OUT / f"{name}.png"
            chromium(url + "/", f"--screenshot={path}", f"--window-size={size}", "--force-device-scale-factor=1")
            assert path.stat().st_size > 20_000, path
        print(f"interop: page: pictures of a desktop and a phone are in {OUT}")

        done = subprocess.run([MESHWORK, "status", f"127.0.0.1:{admin}"], capture_output=True, text=True, timeout=PATIENCE)
        assert done.returncode == 1 and "NACKED" in done.stdout and "lb_policy" in done.stdout, done
        print("interop: page: meshwork status tells the same")
    finally:
        server.terminate()
        server.wait(20)


def main():
    OUT.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        check(pathlib.Path(folder))
    # Streams of gRPC have threads of their own, which end with the process.
    sys.stdout.flush()
    os._exit(0)


main()
