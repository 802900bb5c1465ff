"""A partner's Python program: creates a link over gRPC, clicks it, and reads the count back over gRPC."""

import http.client
import os
import time
import urllib.parse
import uuid

import grpc
from google.rpc import error_details_pb2, status_pb2
from linkmesh.analytics.v1 import analytics_pb2, analytics_pb2_grpc
from linkmesh.links.v1 import links_pb2, links_pb2_grpc

COUNTED_WITHIN_SECONDS = 20
CALL_SECONDS = 20
BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0"

edge = urllib.parse.urlsplit(os.environ["LINKMESH_URL"])
workspace = os.environ["LINKMESH_WORKSPACE"]
credentials = [("authorization", f"Bearer {os.environ['LINKMESH_API_KEY']}")]


def click(link):
    connection = http.client.HTTPConnection(edge.hostname, edge.port, timeout=CALL_SECONDS)
    try:
        headers = {"Host": link.domain, "User-Agent": BROWSER}
        connection.request("GET", f"/{link.slug}", headers=headers)
        answer = connection.getresponse()
        assert answer.status == 302, answer.status
        assert answer.getheader("location") == link.destination_uri, answer.getheaders()
    finally:
        connection.close()


def wait_for_count(analytics, link, wanted):
    request = analytics_pb2.CountClicksRequest(parent=workspace, links=[link.name])
    deadline = time.monotonic() + COUNTED_WITHIN_SECONDS
    while True:
        counts = analytics.CountClicks(request, metadata=credentials, timeout=CALL_SECONDS).counts
        if counts.clicks == wanted:
            return
        assert time.monotonic() < deadline, f"counted {counts.clicks}, not {wanted}"
        time.sleep(0.05)


def reason_of(error):
    details = dict(error.trailing_metadata())["grpc-status-details-bin"]
    for detail in status_pb2.Status.FromString(details).details:
        info = error_details_pb2.ErrorInfo()
        if detail.Unpack(info):
            return info.reason
    return None


with grpc.insecure_channel(edge.netloc) as channel:
    links = links_pb2_grpc.LinksServiceStub(channel)
    analytics = analytics_pb2_grpc.AnalyticsServiceStub(channel)

    request = links_pb2.CreateLinkRequest(
        parent=workspace,
        link=links_pb2.Link(destination_uri="https://example.com/python", tags=["python"]),
        request_id=str(uuid.uuid4()),
    )
    link = links.CreateLink(request, metadata=credentials, timeout=CALL_SECONDS).link
    again = links.CreateLink(request, metadata=credentials, timeout=CALL_SECONDS).link
    assert again.name == link.name, "the same request id must answer with the same link"

    click(link)
    click(link)
    wait_for_count(analytics, link, 2)

    listed = links.ListLinks(
        links_pb2.ListLinksRequest(parent=workspace, filter='tag = "python"', page_size=1000),
        metadata=credentials,
        timeout=CALL_SECONDS,
    ).links
    assert link.name in [other.name for other in listed], listed

    try:
        missing = links_pb2.GetLinkRequest(name=f"{workspace}/links/lnk_{'0' * 32}")
        links.GetLink(missing, metadata=credentials, timeout=CALL_SECONDS)
        raise AssertionError("a link that does not exist was found")
    except grpc.RpcError as error:
        assert error.code() == grpc.StatusCode.NOT_FOUND, error
        assert reason_of(error) == "NOT_FOUND", error

    links.DeleteLink(links_pb2.DeleteLinkRequest(name=link.name), metadata=credentials, timeout=CALL_SECONDS)

print("python gRPC: ok")
