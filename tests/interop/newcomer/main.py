"""Does what the README says to somebody new, and checks each step.

1. A clone builds.                          2. `init` writes a folder that `check` finds good.
3. `explain` says where a request goes.     4. `serve` serves it, and the page shows its services.
5. An edit makes a canary of 25 %.          6. Calls are divided so, as the counts of `call` and the echoes say.
7. The canary is in the page.               8. A bad edit changes nothing and is told with file and line.
9. A policy is asked: `authz can`.          10. All processes end cleanly.
"""

import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request

ROOT = pathlib.Path(__file__).resolve().parents[3]
PATIENCE = 90
step = 0


def done(text):
    global step
    step += 1
    print(f"interop: newcomer: {step}. {text}", flush=True)


def fail(what):
    sys.exit(f"interop: newcomer: FAILED after step {step}: {what}")


def run(*command, code=0, **options):
    result = subprocess.run(command, capture_output=True, text=True, timeout=3600, **options)
    if result.returncode != code:
        fail(f"{command}: {result.returncode}: {result.stdout[-2000:]} {result.stderr[-2000:]}")
    return result.stdout


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
    fail(f"{what}: {last}")


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def promised(text):
    """The README has the words that a step does."""
    readme = (ROOT / "README.md").read_text()
    if text not in readme:
        fail(f"the README does not promise {text!r}")


def dom(url):
    with tempfile.TemporaryDirectory() as profile:
        return run(
            "chromium", "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
            f"--user-data-dir={profile}", "--virtual-time-budget=5000", "--dump-dom", url,
        )


def clone(folder):
    target = folder / "clone"
    run("git", "clone", "--quiet", "--no-hardlinks", str(ROOT), str(target))
    for file in ["README.md", "Cargo.toml", "Cargo.lock", "LICENSE-MIT", "LICENSE-APACHE"]:
        assert (target / file).exists(), file
    environment = dict(os.environ)
    environment.setdefault("CARGO_TARGET_DIR", str(ROOT / "target"))
    promised("cargo install --path . --features cli")
    run("cargo", "build", "--quiet", "--features", "cli", "--bin", "meshwork", cwd=target, env=environment)
    binary = folder / "meshwork"
    shutil.copy(pathlib.Path(environment["CARGO_TARGET_DIR"]) / "debug/meshwork", binary)
    done("a fresh clone builds the command")
    return str(binary)


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        meshwork = clone(folder)
        processes = []

        def start(*command):
            log = open(folder / f"{len(processes)}.log", "w")
            processes.append(subprocess.Popen(command, stdout=log, stderr=log))

        try:
            steps(meshwork, folder, start)
        finally:
            for process in processes:
                process.terminate()
            codes = [process.wait(20) for process in processes]
        assert all(code in (0, -15) for code in codes), codes
        done("all processes end when they are told to")


def steps(meshwork, folder, start):
    promised("`meshwork init DIR`")
    mesh = folder / "mesh"
    run(meshwork, "init", str(mesh))
    assert "0 errors" in run(meshwork, "check", str(mesh))
    # Its endpoints are fixed ports; those of this run are free ones.
    ports = {}
    for file in mesh.glob("*.y*ml"):
        text = file.read_text()
        for port in sorted(set(re.findall(r"\b80[89]\d\b", text))):
            if port not in ("8080",) or f"port: {port}" in text:
                ports.setdefault(port, str(free_port()))
                text = text.replace(port, ports[port])
        file.write_text(text)
    assert "0 errors" in run(meshwork, "check", str(mesh))
    done("init writes a folder that check finds good")

    promised("meshwork explain DIR --from my-app/order-sa")
    told = run(meshwork, "explain", str(mesh), "--from", "my-app/order-sa", "--request", "GET http://catalog/items", "-o", "json")
    explained = json.loads(told)
    addresses = set(re.findall(r"127\.0\.0\.1:\d+", told))
    assert len(addresses) >= 2 and explained["outcomes"], told
    done(f"explain names the endpoints: {', '.join(sorted(addresses))}")

    for number, address in enumerate(sorted(addresses), 1):
        start(meshwork, "echo", "--listen", address, "--name", f"v{number}")
    admin, port = free_port(), free_port()
    promised("meshwork serve --config mesh/")
    start(meshwork, "serve", "--config", str(mesh), "--listen", f"127.0.0.1:{port}", "--admin", f"127.0.0.1:{admin}")
    url = f"http://127.0.0.1:{admin}"
    until("it serves", lambda: get(f"{url}/ready") == "serving\n")
    chromium = shutil.which("chromium")
    seen = dom(url + "/") if chromium else get(url + "/status.json")
    assert "catalog.my-app" in seen, seen[-2000:]
    done("serve shows catalog in its page" if chromium else "serve tells of catalog (no chromium: as JSON)")

    bootstrap = folder / "bootstrap.json"
    bootstrap.write_text(json.dumps({
        "xds_servers": [{"server_uri": f"127.0.0.1:{port}", "channel_creds": [{"type": "insecure"}]}],
        "node": {"id": "order-1", "metadata": {"NAMESPACE": "my-app", "LABELS": {"app": "order"}}},
    }))
    told = run(meshwork, "explain", "--xds", str(bootstrap), "--request", "GET http://catalog/items")
    assert any(address in told for address in addresses), told
    done("explain tells the same of the control plane")

    canary(meshwork, mesh, folder, url, dom if chromium else None)
    faults(meshwork, mesh, url)


VERSIONS = """
apiVersion: v1
kind: Service
metadata: {name: shop, namespace: my-app}
spec: {selector: {app: shop}, ports: [{name: http, port: 80, targetPort: 8080}]}
---
"""
VERSION = """
apiVersion: v1
kind: Pod
metadata: {name: shop-%(name)s, namespace: my-app, labels: {app: shop, version: %(name)s}}
---
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: shop-%(name)s, namespace: my-app, labels: {kubernetes.io/service-name: shop}}
addressType: IPv4
ports: [{name: http, port: %(port)s}]
endpoints: [{addresses: [127.0.0.1], targetRef: {kind: Pod, name: shop-%(name)s, namespace: my-app}}]
---
"""
CANARY = """
apiVersion: networking.istio.io/v1
kind: DestinationRule
metadata: {name: shop, namespace: my-app}
spec:
  host: shop
  subsets: [{name: v1, labels: {version: v1}}, {name: v2, labels: {version: v2}}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: my-app}
spec:
  hosts: [shop]
  http:
  - route:
    - {destination: {host: shop, subset: v1}, weight: 75}
    - {destination: {host: shop, subset: v2}, weight: 25}
"""


def canary(meshwork, mesh, folder, url, dom):
    ports = {name: free_port() for name in ["v1", "v2"]}
    echoes = [
        subprocess.Popen([meshwork, "echo", "--listen", f"127.0.0.1:{port}", "--name", name],
                         stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for name, port in ports.items()
    ]
    try:
        for port in ports.values():
            until("an echo listens", lambda: not socket.create_connection(("127.0.0.1", port), 1).close())
        before = json.loads(get(url + "/status.json"))["generation"]
        text = VERSIONS + "".join(VERSION % {"name": name, "port": port} for name, port in ports.items()) + CANARY
        (mesh / "shop.yaml").write_text(text)
        until("the edit is in force", lambda: json.loads(get(url + "/status.json"))["generation"] > before)
        done("an edit of the folder is in force while it runs")
        told = run(meshwork, "call", "--config", str(mesh), "--workload", "my-app/order-sa", "-n", "1000", "--json", "http://shop/items")
        counts = {name: told.count(f'"{name}"') for name in ports}
        numbers = json.loads(told.strip().splitlines()[-1])
        by = json.dumps(numbers)
        found = {name: int(value) for name, value in re.findall(r'"(v[12])": *(?:\{"[a-z]+": *)?(\d+)', by)}
        assert sum(found.values()) == 1000 and 180 < found["v2"] < 320, (found, by[:2000], counts)
        done(f"of 1000 calls {found['v2']} go to the canary of 25 %")
        seen = dom(url + "/") if dom else get(url + "/status.json")
        assert "shop.my-app" in seen and "v1 75 %, v2 25 %" in seen, seen[-2000:]
        done("the canary of 25 % is seen in the page")
    finally:
        for echo in echoes:
            echo.terminate()
            echo.wait(10)


def faults(meshwork, mesh, url):
    good = json.loads(get(url + "/status.json"))["generation"]
    text = (mesh / "shop.yaml").read_text().replace("weight: 25", "wieght: 25")
    (mesh / "shop.yaml").write_text(text)
    rejected = until("the slip is told", lambda: json.loads(get(url + "/status.json"))["rejected"])
    assert "shop.yaml" in rejected and 'did you mean "weight"' in rejected, rejected
    assert json.loads(get(url + "/status.json"))["generation"] == good
    run(meshwork, "check", str(mesh), code=1)
    (mesh / "shop.yaml").write_text(text.replace("wieght", "weight"))
    until("it is good again", lambda: json.loads(get(url + "/status.json"))["rejected"] is None)
    done("a slip changes nothing and is told with its file and what was meant")
    question = ["cluster.local/ns/my-app/sa/order-sa", "GET", "/items", "--at", "my-app/shop", "--config", str(mesh)]
    assert run(meshwork, "authz", "can", *question).startswith("yes")
    (mesh / "policy.yaml").write_text(
        "apiVersion: security.istio.io/v1\nkind: AuthorizationPolicy\nmetadata: {name: nobody, namespace: my-app}\nspec: {}\n"
    )
    assert run(meshwork, "authz", "can", *question, code=1).startswith("no")
    done("authz can says yes before, and no behind a policy that denies all")


main()
