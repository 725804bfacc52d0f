"""An xDS server that sends what it is told to, good or bad, driven line by line on stdin.

It serves ADS, state of the world and delta, on one port. The first line on stdout is its address.
Each line of stdin is a JSON object {"do": ...}; each is answered with one line of JSON.

  {"do": "put", "kind": "cluster", "name": N, "json": {...}}   a resource, as protobuf's JSON
  {"do": "raw", "kind": "cluster", "name": N, "type": URL, "hex": BYTES}   any bytes under any type
  {"do": "drop", "kind": ..., "name": N}     it does not exist any more
  {"do": "error", "kind": ..., "name": N, "code": C, "text": T}   it is reported in resource_errors
  {"do": "push"}                             what has changed goes to all streams, kind by kind
  {"do": "cut"}                              all streams end
  {"do": "requests"}                         what was asked since the last time
"""

import itertools
import json
import queue
import sys
import threading
from concurrent import futures

import grpc
from google.protobuf import any_pb2, json_format

# Messages that stand in an Any must be known to print and to read them.
from envoy.config.cluster.v3 import cluster_pb2
from envoy.config.endpoint.v3 import endpoint_pb2
from envoy.config.listener.v3 import listener_pb2
from envoy.config.route.v3 import route_pb2
from envoy.extensions.filters.http.fault.v3 import fault_pb2  # noqa: F401
from envoy.extensions.filters.http.router.v3 import router_pb2  # noqa: F401
from envoy.extensions.filters.network.http_connection_manager.v3 import (  # noqa: F401
    http_connection_manager_pb2,
)
from envoy.service.discovery.v3 import ads_pb2_grpc, discovery_pb2

MESSAGES = {
    "listener": listener_pb2.Listener,
    "route": route_pb2.RouteConfiguration,
    "cluster": cluster_pb2.Cluster,
    "endpoints": endpoint_pb2.ClusterLoadAssignment,
}
PREFIX = "type.googleapis.com/"
URLS = {kind: PREFIX + message.DESCRIPTOR.full_name for kind, message in MESSAGES.items()}
KINDS = {url: kind for kind, url in URLS.items()}
# Clusters before the endpoints and routes that need them.
ORDER = ["cluster", "endpoints", "listener", "route"]


class State:
    """The resources, and who listens."""

    def __init__(self):
        self.lock = threading.Lock()
        self.resources = {kind: {} for kind in URLS}
        self.errors = {kind: {} for kind in URLS}
        self.version = 0
        self.streams = []
        self.requests = []


STATE = State()


class Stream:
    """One stream: what it asked for, and what it is still to be sent."""

    def __init__(self, delta):
        self.delta = delta
        self.names = {}
        self.sent = {}
        self.nonces = itertools.count(1)
        self.nonce = {}
        self.out = queue.Queue()

    def push(self, kind, always=False):
        if kind not in self.names:
            return
        names = self.names[kind]
        there = {name: any_ for name, any_ in STATE.resources[kind].items() if name in names}
        errors = [
            discovery_pb2.ResourceError(
                resource_name=discovery_pb2.ResourceName(name=name),
                error_detail={"code": code, "message": text},
            )
            for name, (code, text) in STATE.errors[kind].items()
            if name in names
        ]
        sent = self.sent.setdefault(kind, {})
        new = {name: any_ for name, any_ in there.items() if sent.get(name) != any_}
        gone = [name for name in names if sent.get(name) is not None and name not in there]
        if not (new or gone or errors or always):
            return
        STATE.version += 1
        version, nonce = str(STATE.version), f"{kind}-{next(self.nonces)}"
        self.nonce[kind] = nonce
        if self.delta:
            missing = [name for name in names if name not in there and name not in sent]
            response = discovery_pb2.DeltaDiscoveryResponse(
                system_version_info=version,
                type_url=URLS[kind],
                nonce=nonce,
                resources=[
                    discovery_pb2.Resource(name=name, version=version, resource=any_)
                    for name, any_ in new.items()
                ],
                removed_resources=gone + missing,
                resource_errors=errors,
            )
        else:
            response = discovery_pb2.DiscoveryResponse(
                version_info=version,
                type_url=URLS[kind],
                nonce=nonce,
                resources=list(there.values()),
                resource_errors=errors,
            )
        self.sent[kind] = {name: there.get(name) for name in names}
        self.out.put(response)

    def take(self, request):
        kind = KINDS.get(request.type_url)
        if kind is None:
            return
        first = kind not in self.names
        if not first and not self.delta and request.response_nonce != self.nonce.get(kind, ""):
            return
        before = self.names.get(kind, set())
        if self.delta:
            after = before - set(request.resource_names_unsubscribe)
            more = set(request.resource_names_subscribe)
            after |= more
        else:
            after = set(request.resource_names)
            more = after - before
        self.names[kind] = after
        sent = self.sent.setdefault(kind, {})
        for name in list(sent):
            if name not in after:
                del sent[name]
        if more:
            for name in more:
                sent.pop(name, None)
            self.push(kind, always=True)


def told(request):
    """What a request says, for whoever asks."""
    delta = hasattr(request, "resource_names_subscribe")
    return {
        "variant": "delta" if delta else "sotw",
        "kind": KINDS.get(request.type_url, request.type_url),
        "names": sorted(request.resource_names_subscribe if delta else request.resource_names),
        "node": request.node.id,
        "agent": request.node.user_agent_name,
        "version": "" if delta else request.version_info,
        "nonce": request.response_nonce,
        "error": request.error_detail.message,
        "code": request.error_detail.code,
    }


class Service(ads_pb2_grpc.AggregatedDiscoveryServiceServicer):
    def serve(self, requests, context, delta):
        stream = Stream(delta)
        with STATE.lock:
            STATE.streams.append(stream)

        def read():
            try:
                for request in requests:
                    with STATE.lock:
                        STATE.requests.append(told(request))
                        stream.take(request)
            except grpc.RpcError:
                pass
            stream.out.put(None)

        threading.Thread(target=read, daemon=True).start()
        while (response := stream.out.get()) is not None:
            yield response
        with STATE.lock:
            if stream in STATE.streams:
                STATE.streams.remove(stream)

    def StreamAggregatedResources(self, requests, context):
        return self.serve(requests, context, False)

    def DeltaAggregatedResources(self, requests, context):
        return self.serve(requests, context, True)


def do(command):
    kind, name = command.get("kind"), command.get("name")
    match command["do"]:
        case "put":
            packed = any_pb2.Any()
            packed.Pack(json_format.ParseDict(command["json"], MESSAGES[kind]()))
            STATE.resources[kind][name] = packed
            STATE.errors[kind].pop(name, None)
        case "raw":
            STATE.resources[kind][name] = any_pb2.Any(
                type_url=command.get("type", URLS[kind]), value=bytes.fromhex(command["hex"])
            )
        case "drop":
            STATE.resources[kind].pop(name, None)
        case "error":
            STATE.resources[kind].pop(name, None)
            STATE.errors[kind][name] = (command["code"], command["text"])
        case "push":
            for kind in ORDER:
                for stream in STATE.streams:
                    stream.push(kind)
        case "cut":
            for stream in STATE.streams:
                stream.out.put(None)
        case "requests":
            requests, STATE.requests = STATE.requests, []
            return {"requests": requests}
        case other:
            return {"unknown": other}
    return {"done": True}


def main():
    server = grpc.server(futures.ThreadPoolExecutor(max_workers=16))
    ads_pb2_grpc.add_AggregatedDiscoveryServiceServicer_to_server(Service(), server)
    address = sys.argv[1] if len(sys.argv) > 1 else "127.0.0.1:0"
    port = server.add_insecure_port(address)
    server.start()
    print(f"127.0.0.1:{port}", flush=True)
    for line in sys.stdin:
        with STATE.lock:
            answer = do(json.loads(line))
        print(json.dumps(answer), flush=True)
    server.stop(0)


if __name__ == "__main__":
    main()
