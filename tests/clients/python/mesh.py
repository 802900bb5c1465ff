"""An operator's Python program: calls a service itself, not the edge, with nothing but certificate files and plain grpcio.

Wants LINKMESH_ADDRESS (host:port of an instance of links), LINKMESH_CERT, LINKMESH_KEY and LINKMESH_ROOT (PEM files of an
operator who may only look), LINKMESH_WORKSPACE and LINKMESH_PRINCIPAL (on whose behalf it calls, base64).
"""

import base64
import os
import pathlib

import grpc
from google.rpc import error_details_pb2, status_pb2
from linkmesh.links.v1 import links_pb2, links_pb2_grpc

CALL_SECONDS = 20
# What a certificate of the service says, whatever address it listens on.
OPTIONS = [("grpc.ssl_target_name_override", "links.linkmesh.internal")]

address = os.environ["LINKMESH_ADDRESS"]
workspace = os.environ["LINKMESH_WORKSPACE"]
principal = [("linkmesh-principal-bin", base64.b64decode(os.environ["LINKMESH_PRINCIPAL"]))]


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
    links = links_pb2_grpc.LinksServiceStub(channel)
    request = links_pb2.ListLinksRequest(parent=workspace)
    links.ListLinks(request, metadata=principal, timeout=CALL_SECONDS)

    error = refused(lambda: links.ListLinks(request, timeout=CALL_SECONDS))
    assert error.code() == grpc.StatusCode.UNAUTHENTICATED, error
    assert reason_of(error) == "CREDENTIALS_MISSING", error

    create = links_pb2.CreateLinkRequest(
        parent=workspace, link=links_pb2.Link(destination_uri="https://example.com/viewer")
    )
    error = refused(lambda: links.CreateLink(create, metadata=principal, timeout=CALL_SECONDS))
    assert error.code() == grpc.StatusCode.PERMISSION_DENIED, error

anyone = grpc.ssl_channel_credentials(pem("LINKMESH_ROOT"))
with grpc.secure_channel(address, anyone, OPTIONS) as channel:
    links = links_pb2_grpc.LinksServiceStub(channel)
    error = refused(lambda: links.ListLinks(request, metadata=principal, timeout=CALL_SECONDS))
    assert error.code() in (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.PERMISSION_DENIED), error

print("python gRPC by certificate: ok")
