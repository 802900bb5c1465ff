"""What schemathesis sends where the OpenAPI document can't say all of it in JSON Schema.

Requests that are wrong on purpose are left as they are. In right ones, what is made at random stands in for what a client has: the
workspace that it works in, the person that it is. And where a rule is one of words alone, the value is made to keep it; each of these
is in FIXES with its reason, so that what remains is held to "whatever fits the document is taken".
"""

import os
from urllib.parse import quote

import schemathesis
from schemathesis.core.parameters import ParameterLocation

WORKSPACE = os.environ["LINKMESH_WORKSPACE"].split("/")[1]
LINK = os.environ["LINKMESH_LINK"].split("/")[3]
PASSWORD = "correct horse battery"
# Whoever signs out all that is theirs can't go on; these are of nobody.
NO_SESSION = "ses_" + 32 * "0"
# A longer one fits into no request's head, and is refused before anybody reads it.
QUERY_VALUE_MAX = 16_000


def uri(text):
    """Not every text of the pattern is a URI: its host and port have rules of their own."""
    return "https://example.com/" + quote(text)[:1000] if text else text


# Fields by their JSON names: what is sent instead.
FIXES = {
    "destinationUri": uri,
    "expiredDestinationUri": uri,
    # After 1970, or in the future: JSON Schema compares no times.
    "expireTime": lambda _: "2100-01-01T00:00:00Z",
    # At most 7 days: nor does it compare durations.
    "overlap": lambda _: "60s",
    # At least 5 different characters, and not the address.
    "newPassword": lambda _: PASSWORD,
    # A language of its own, whose every word has to be right.
    "filter": lambda _: 'tag = "x" AND enabled = true',
    # Only names of the IANA database.
    "timeZone": lambda _: "Asia/Kathmandu",
    # The start is before the end, and there are at most 10,000 intervals between them.
    "startTime": lambda _: "2026-01-01T00:00:00Z",
    "endTime": lambda _: "2026-01-02T00:00:00Z",
    # Only the server makes them.
    "pageToken": lambda _: "",
    "resumeToken": lambda _: "",
}


def fixed(value, operation):
    if isinstance(value, list):
        return [fixed(item, operation) for item in value]
    if not isinstance(value, dict):
        return value
    fixes = dict(FIXES)
    if operation == "UsersService_SignUp":
        fixes["password"] = FIXES["newPassword"]
    changed = {}
    for name, inner in value.items():
        is_text = isinstance(inner, str)
        changed[name] = fixes[name](inner) if is_text and name in fixes else fixed(inner, operation)
    return changed


def is_absent_somewhere(value):
    """In protobuf's JSON null is the same as nothing, and so is an empty text where a field does not know whether it was set."""
    if isinstance(value, dict):
        return any(is_absent_somewhere(inner) for inner in value.values())
    if isinstance(value, list):
        return any(is_absent_somewhere(item) for item in value)
    return value in (None, "", "null")


def is_enum_by_number(query):
    """It takes the number of an enum's value for its name, too."""
    return any(str(query.get(name, "")).lstrip("-").isdigit() for name in ("length", "dimension"))


@schemathesis.hook
def filter_failure(context, failure, case, response):
    """What is wrong by the document and right in protobuf's JSON is taken."""
    if type(failure).__name__ != "AcceptedNegativeData":
        return True
    query = case.query or {}
    return not (is_absent_somewhere(query) or is_absent_somewhere(case.body) or is_enum_by_number(query))


def is_right(case, location):
    component = case.meta.components.get(location)
    return component is None or component.mode.is_positive


@schemathesis.hook
def before_call(context, case, kwargs):
    if case.meta is None:
        return
    operation = case.operation.definition.raw["operationId"]
    path = case.path_parameters
    if path and is_right(case, ParameterLocation.PATH):
        if "workspace" in path:
            path["workspace"] = WORKSPACE
        # The link is for all who read and change it.
        if "link" in path and operation != "LinksService_DeleteLink":
            path["link"] = LINK
        if "user" in path and "workspace" not in path:
            path["user"] = "me"
        if "session" in path:
            path["session"] = NO_SESSION
    if case.query and is_right(case, ParameterLocation.QUERY) and case.method.upper() == "PATCH":
        # What a mask leaves out is not looked at, and what it names has to be there. Without one it is made of the body's fields.
        case.query.pop("updateMask", None)
    for name, value in (case.query or {}).items():
        if isinstance(value, str) and len(value) > QUERY_VALUE_MAX:
            case.query[name] = "!" * QUERY_VALUE_MAX
    if case.meta.generation.mode.is_negative:
        return
    if case.query:
        case.query = fixed(case.query, operation)
    if isinstance(case.body, (dict, list)):
        case.body = fixed(case.body, operation)
    if operation == "ApiKeysService_CreateApiKey" and isinstance(case.body, dict):
        # A key's scopes are within the role of its account, which may be any.
        case.body = {name: value for name, value in case.body.items() if name != "serviceAccount"}
    # Schemathesis makes it empty where its pattern is too hard to invent a text for.
    if case.headers and case.headers.get("If-Match") == "":
        case.headers["If-Match"] = "*"
    # The same thing in two places has to be the same.
    body = case.body if isinstance(case.body, dict) else {}
    for field, header in (("requestId", "Idempotency-Key"), ("etag", "If-Match")):
        if case.headers and (field in (case.query or {}) or field in body):
            case.headers.pop(header, None)
