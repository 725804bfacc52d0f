"""grpcio's own client of xDS under closed loops, as ../driver.rs makes them.

Its callers are a stream of calls in flight: threads would wait for each other's lock and measure that.
"""

import argparse
import json
import sys
import threading
import time

import grpc

TARGET = "xds:///catalog.my-app.svc.cluster.local:80"
METHOD = "/bench.Catalog/Get"
# google.protobuf.BytesValue with four bytes; nothing is generated for one message.
MESSAGE = b"\x0a\x04item"
WARM = 0.4


class Loop:
    """One caller: the answer to one call begins the next."""

    def __init__(self, method, state):
        self.method, self.state, self.times, self.failed = method, state, [], 0
        self.done = threading.Event()
        self.begin()

    def begin(self):
        self.counts, self.began = self.state["open"], time.perf_counter()
        self.method.future(MESSAGE, timeout=5).add_done_callback(self.answered)

    def answered(self, call):
        took = time.perf_counter() - self.began
        if self.counts and not self.state["over"]:
            if call.exception() is None:
                self.times.append(took)
            else:
                self.failed += 1
        if self.state["over"]:
            self.done.set()
        else:
            self.begin()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--callers", type=int, required=True)
    parser.add_argument("--milliseconds", type=int, required=True)
    wish = parser.parse_args()
    channel = grpc.insecure_channel(TARGET)
    method = channel.unary_unary(METHOD)
    assert method(MESSAGE, timeout=15, wait_for_ready=True) == MESSAGE
    state = {"open": False, "over": False}
    loops = [Loop(method, state) for _ in range(wish.callers)]
    time.sleep(WARM)
    print("measuring", flush=True)
    state["open"], began = True, time.perf_counter()
    time.sleep(wish.milliseconds / 1e3)
    state["over"], took = True, time.perf_counter() - began
    print("measured", flush=True)
    for loop in loops:
        loop.done.wait(5)
    times = sorted(took for loop in loops for took in loop.times)
    micros = lambda share: times[min(int(share * len(times)), len(times) - 1)] * 1e6 if times else 0
    failed = sum(loop.failed for loop in loops)
    shares = {"p50": micros(0.5), "p99": micros(0.99), "p999": micros(0.999)}
    print(json.dumps({"calls": len(times), "failed": failed, "seconds": took, **shares}), flush=True)
    # Whoever reads this process's memory says when it may go.
    sys.stdin.readline()


main()
