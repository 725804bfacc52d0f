"""What a real collector of OpenTelemetry receives of order, which calls catalog and has to try twice."""

import os
import pathlib
import re
import socket
import subprocess
import sys
import tempfile
import time

COLLECTOR, EXAMPLE = sys.argv[1:]
PATIENCE = 60

CONFIG = """
receivers:
  otlp:
    protocols:
      grpc:
        endpoint: 127.0.0.1:%(port)s
exporters:
  debug:
    verbosity: detailed
service:
  telemetry:
    metrics:
      level: none
  pipelines:
    traces: {receivers: [otlp], exporters: [debug]}
    metrics: {receivers: [otlp], exporters: [debug]}
    logs: {receivers: [otlp], exporters: [debug]}
"""


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def reachable(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
        return True
    except OSError:
        return False


def until(what, condition):
    end = time.monotonic() + PATIENCE
    while time.monotonic() < end:
        found = condition()
        if found:
            return found
        time.sleep(0.2)
    sys.exit(f"interop: otel: FAILED: {what}")


def spans(text):
    """The spans in the collector's words, each as a dictionary."""
    found = []
    for part in re.split(r"^Span #\d+\s*$", text, flags=re.M)[1:]:
        fields = dict(re.findall(r"^    (Trace ID|Parent ID|ID|Name|Kind)\s*: *(.*)$", part, flags=re.M))
        fields["attributes"] = dict(re.findall(r"^     -> ([\w.]+): \w+\((.*)\)$", part, flags=re.M))
        found.append(fields)
    return found


def check_traces(text):
    all_spans = spans(text)
    assert len(all_spans) == 5, [span["Name"] for span in all_spans]
    by_parent = lambda parent, name: [
        span for span in all_spans if span["Parent ID"] == parent and span["Name"].startswith(name)
    ]
    (call,) = by_parent("", "GET catalog.example")
    assert call["Kind"] == "Client", call
    tries = sorted(by_parent(call["ID"], "attempt"), key=lambda span: span["Name"])
    assert [span["Name"] for span in tries] == ["attempt 1", "attempt 2"], tries
    codes = []
    for attempt in tries:
        (server,) = by_parent(attempt["ID"], "GET")
        assert server["Kind"] == "Server", server
        codes.append(server["attributes"]["http.status_code"])
    assert codes == ["503", "200"], codes
    assert len({span["Trace ID"] for span in all_spans}) == 1
    print("interop: otel: a trace of order and catalog with a retry has the right parents")
    return call


def check_metrics(text):
    points = re.split(r"^NumberDataPoints #\d+\s*$", text, flags=re.M)[1:]
    counts = []
    for point in points:
        value = re.search(r"^Value: (\d+)", point, flags=re.M)
        # What follows the value is of the next thing that arrived.
        head = point[: value.start()] if value else ""
        labels = dict(re.findall(r"^     -> ([\w.]+): Str\((.*)\)$", head, flags=re.M))
        if "reporter" in labels:
            assert "response_flags" not in labels, labels
            counts.append((labels["reporter"], labels["response_code"], int(value[1])))
    expected = [("destination", "200", 1), ("destination", "503", 1), ("source", "200", 1)]
    assert sorted(set(counts)) == expected, counts
    for name in ["istio_requests_total", "istio_request_duration_milliseconds", "istio_request_bytes", "istio_response_bytes"]:
        assert f"-> Name: {name}" in text, name
    for name in ["meshwork_cluster_retries_total", "meshwork_config_generation", "grpc.subchannel.connection_attempts_succeeded"]:
        assert f"-> Name: {name}" in text, name
    print("interop: otel: the collector has Istio's four metrics, without the label that a Telemetry takes away, and the mesh's own")


def check_logs(text, call):
    records = re.split(r"^LogRecord #\d+\s*$", text, flags=re.M)[1:]
    assert len(records) == 1, f"{len(records)} records"
    record = records[0]
    assert '"GET /items HTTP/1.1" 200' in record, record
    assert "-> code: Str(200)" in record, record
    assert f"Trace ID: {call['Trace ID']}" in record and f"Span ID: {call['ID']}" in record, record
    print("interop: otel: the access log of the call is a record of its trace and span")


def main():
    with tempfile.TemporaryDirectory() as folder:
        folder = pathlib.Path(folder)
        port = free_port()
        (folder / "config.yaml").write_text(CONFIG % {"port": port})
        log = folder / "collector.log"
        with open(log, "w") as out:
            collector = subprocess.Popen(
                [COLLECTOR, f"--config=file:{folder / 'config.yaml'}"], stdout=out, stderr=out
            )
        try:
            until(f"the collector listens: {log.read_text()[-2000:]}", lambda: reachable(port))
            environment = dict(os.environ, OTEL_EXPORTER_OTLP_ENDPOINT=f"http://127.0.0.1:{port}")
            subprocess.run([EXAMPLE], env=environment, check=True, timeout=PATIENCE)
            until("traces, metrics and logs arrive", lambda: log.read_text().count("Span #") >= 2 and "LogRecord #0" in log.read_text() and "istio_requests_total" in log.read_text())
            time.sleep(1)
            text = log.read_text()
            call = check_traces(text)
            check_metrics(text)
            check_logs(text, call)
        finally:
            collector.terminate()
            collector.wait(10)


main()
