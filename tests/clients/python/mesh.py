"""An operator's Python program: calls a service itself, not the edge, with nothing but certificate files and plain grpcio.

Wants LINKMESH_ADDRESS (host:port of an instance of links), and LINKMESH_CERT, LINKMESH_KEY and LINKMESH_ROOT (PEM files of an
operator who may look and change nothing).
"""

import os
import pathlib

import grpc
from google.rpc import error_details_pb2, status_pb2
from linkmesh.mesh.v1 import mesh_pb2, mesh_pb2_grpc

CALL_SECONDS = 20
# What a certificate of the service says, whatever address it listens on.
OPTIONS = [("grpc.ssl_target_name_override", "links.linkmesh.internal")]

address = os.environ["LINKMESH_ADDRESS"]


def pem(name):
    return pathlib.Path(os.environ[name]).read_bytes()


def reason_of(error):
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    for detail in status_pb2.Status.FromString(details).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason
    return None


def refused(call):
    try:
        call()
    except grpc.RpcError as error:
        return error
    raise AssertionError("the call was answered")


operator = grpc.ssl_channel_credentials(pem("LINKMESH_ROOT"), pem("LINKMESH_KEY"), pem("LINKMESH_CERT"))
with grpc.secure_channel(address, operator, OPTIONS) as channel:
    mesh = mesh_pb2_grpc.MeshServiceStub(channel)
    known = mesh.ListEndpoints(mesh_pb2.ListEndpointsRequest(), timeout=CALL_SECONDS).endpoints
    assert {"links-1", "links-2"} <= {endpoint.instance for endpoint in known}, known

    error = refused(lambda: mesh.Drain(mesh_pb2.DrainRequest(), timeout=CALL_SECONDS))
    assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error
    assert reason_of(error) == "PEER_NOT_ALLOWED", error

anyone = grpc.ssl_channel_credentials(pem("LINKMESH_ROOT"))
with grpc.secure_channel(address, anyone, OPTIONS) as channel:
    mesh = mesh_pb2_grpc.MeshServiceStub(channel)
    error = refused(lambda: mesh.ListEndpoints(mesh_pb2.ListEndpointsRequest(), timeout=CALL_SECONDS))
    # By TLS, or by name: a process that has yet to join may connect without a certificate, and call nothing else.
    assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED), error

print("python gRPC by certificate: ok")
