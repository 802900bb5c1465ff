# Varnish in front of the edge: keeps what is public, passes the rest on, purges by key. See README.md.
# Start it with `-p http_gzip_support=off`, or it asks for gzip alone, whatever browsers accept.
vcl 4.1;

import std;

backend edge {
  .host = "edge.linkmesh.svc";
  .port = "8080";
  .first_byte_timeout = 65s;
}

# Who may purge: whoever is on this machine. Behind a balancer everybody has the balancer's address, so don't let that in; bind a
# listener of its own instead (`-a purge=…`) and ask for `local.socket == "purge"`.
acl operators {
  "127.0.0.1";
  "::1";
}

sub vcl_recv {
  if (req.method == "PURGE") {
    if (client.ip !~ operators) {
      return (synth(405, "Not allowed"));
    }
    if (req.http.surrogate-key !~ "^[A-Za-z0-9._~%/-]+$") {
      return (synth(400, "One key"));
    }
    # A key is matched whole, and its dots as dots.
    set req.http.x-key = regsuball(req.http.surrogate-key, "\.", "[.]");
    ban("obj.http.surrogate-key ~ (^|\s)" + req.http.x-key + "($|\s)");
    return (synth(200, "Purged"));
  }
  # What is proved is between the client and the edge.
  if (req.http.authorization || req.http.x-api-key) {
    return (pass);
  }
  if (req.method != "GET" && req.method != "HEAD") {
    return (pass);
  }
  # Everything else is a redirect, which is counted, or needs a proof.
  if (req.url !~ "^/(v1/openapi\.json|docs|\.well-known/[a-z.-]+)(\?|$)") {
    return (pass);
  }
  # One entry a coding, not one a browser.
  if (req.http.accept-encoding ~ "zstd") {
    set req.http.accept-encoding = "zstd";
  } elsif (req.http.accept-encoding ~ "\bbr\b") {
    set req.http.accept-encoding = "br";
  } elsif (req.http.accept-encoding ~ "gzip") {
    set req.http.accept-encoding = "gzip";
  } else {
    unset req.http.accept-encoding;
  }
  unset req.http.cookie;
  return (hash);
}

sub vcl_backend_response {
  # What is kept is worth more than a failure, and holds for as long as it may be old.
  if (bereq.is_bgfetch && (beresp.status == 429 || beresp.status >= 500)) {
    return (abandon);
  }
  # Codings and their tags are the edge's.
  set beresp.do_gzip = false;
  set beresp.do_gunzip = false;
  if (beresp.http.cache-control ~ "(private|no-store|no-cache)" || beresp.status >= 400) {
    set beresp.uncacheable = true;
    set beresp.ttl = 0s;
    return (deliver);
  }
  if (beresp.http.cache-control ~ "stale-while-revalidate=[0-9]+") {
    set beresp.grace = std.duration(
      regsub(beresp.http.cache-control, ".*stale-while-revalidate=([0-9]+).*", "\1") + "s", 0s);
  }
}

sub vcl_backend_error {
  if (bereq.is_bgfetch) {
    return (abandon);
  }
}
