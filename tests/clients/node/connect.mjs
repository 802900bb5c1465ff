// Connect's own clients: a browser's (connect-web, by fetch) and Node's (connect-node, HTTP/2 too), in protobuf and JSON; and
// gRPC-Web and gRPC by the same library. A link is created, clicked and counted, its clicks are watched, and errors keep their details.

import assert from "node:assert/strict";
import { Code, ConnectError, createClient } from "@connectrpc/connect";
import * as node from "@connectrpc/connect-node";
import * as web from "@connectrpc/connect-web";
import { AnalyticsService } from "./generated/linkmesh/analytics/v1/analytics_pb.js";
import { LinksService } from "./generated/linkmesh/links/v1/links_pb.js";
import { ErrorInfoSchema } from "./generated/google/rpc/error_details_pb.js";
import { authorization, click, url, watch, workspace } from "./click.mjs";

const sign = (next) => (request) => {
  request.header.set("authorization", authorization);
  return next(request);
};
const options = { baseUrl: url, interceptors: [sign], defaultTimeoutMs: 20_000 };
const transports = {
  "connect-web, JSON": web.createConnectTransport({ ...options, useBinaryFormat: false }),
  "connect-web, protobuf": web.createConnectTransport({ ...options, useBinaryFormat: true }),
  "connect-web, GET": web.createConnectTransport({ ...options, useBinaryFormat: true, useHttpGet: true }),
  "connect-web, gRPC-Web": web.createGrpcWebTransport(options),
  "connect-node, HTTP/1.1": node.createConnectTransport({ ...options, httpVersion: "1.1" }),
  "connect-node, HTTP/2": node.createConnectTransport({ ...options, httpVersion: "2" }),
  "connect-node, gRPC": node.createGrpcTransport(options),
  "connect-node, gRPC-Web": node.createGrpcWebTransport({ ...options, httpVersion: "2" }),
};

for (const [name, transport] of Object.entries(transports)) {
  const links = createClient(LinksService, transport);
  const analytics = createClient(AnalyticsService, transport);

  const destinationUri = `https://example.com/connect/${encodeURIComponent(name)}`;
  const { link } = await links.createLink({ parent: workspace, link: { destinationUri } });
  const watched = await watch(analytics.watchClicks({ parent: workspace, links: [link.name] }), () =>
    click(link.domain, link.slug, destinationUri));
  assert.equal(watched?.browser, "Firefox", name);

  const missing = `${workspace}/links/lnk_${"0".repeat(32)}`;
  const refused = await links.getLink({ name: missing }).then(() => null, (error) => error);
  assert.ok(refused instanceof ConnectError, `${name}: ${refused}`);
  assert.equal(refused.code, Code.NotFound);
  assert.equal(refused.findDetails(ErrorInfoSchema)[0]?.reason, "NOT_FOUND");

  await links.deleteLink({ name: link.name });
  console.log(`node ${name}: ok`);
}
process.exit(0);
