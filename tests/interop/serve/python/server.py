"""The gRPC core (PyPI grpcio) as a server that is configured by xDS: `server.py ADDRESS NAME`."""

import json
import sys
from concurrent import futures

import grpc


class Handler(grpc.GenericRpcHandler):
    def service(self, details):
        answer = b"\x0a" + bytes([len(sys.argv[2])]) + sys.argv[2].encode()
        return grpc.unary_unary_rpc_method_handler(lambda request, context: answer)


server = grpc.server(futures.ThreadPoolExecutor(4), xds=True)
server.add_generic_rpc_handlers((Handler(),))
credentials = grpc.xds_server_credentials(grpc.insecure_server_credentials())
server.add_secure_port(sys.argv[1], credentials)
server.start()
print(json.dumps({"version": f"grpcio {grpc.__version__}"}), flush=True)
sys.stdin.read()
server.stop(0)
