// nice-grpc-web with definitions by hand: unary calls, errors, and a stream of clicks.

import assert from "node:assert/strict";
import { ClientError, createChannel, createClient, FetchTransport, Metadata, Status } from "nice-grpc-web";
import { WatchClicksRequest, WatchClicksResponse } from "./generated/linkmesh/analytics/v1/analytics.js";
import { CreateLinkRequest, CreateLinkResponse, DeleteLinkRequest, DeleteLinkResponse, GetLinkRequest, GetLinkResponse } from "./generated/linkmesh/links/v1/links.js";
import { authorization, click, url, watch, workspace } from "./click.mjs";

const method = (service, name, request, response, responseStream = false) => ({
  path: `/${service}/${name}`,
  requestStream: false,
  responseStream,
  requestSerialize: (message) => request.toBinary(request.create(message)),
  requestDeserialize: (bytes) => request.fromBinary(bytes),
  responseSerialize: (message) => response.toBinary(message),
  responseDeserialize: (bytes) => response.fromBinary(bytes),
  options: {},
});
const links = "linkmesh.links.v1.LinksService";
const definition = {
  createLink: method(links, "CreateLink", CreateLinkRequest, CreateLinkResponse),
  getLink: method(links, "GetLink", GetLinkRequest, GetLinkResponse),
  deleteLink: method(links, "DeleteLink", DeleteLinkRequest, DeleteLinkResponse),
  watchClicks: method("linkmesh.analytics.v1.AnalyticsService", "WatchClicks", WatchClicksRequest, WatchClicksResponse, true),
};
const metadata = new Metadata({ authorization });
const client = createClient(definition, createChannel(url, FetchTransport()), { "*": { metadata } });

const destinationUri = "https://example.com/nice";
const { link } = await client.createLink({ parent: workspace, link: { destinationUri } });
const watched = await watch(client.watchClicks({ parent: workspace, links: [link.name] }), () =>
  click(link.domain, link.slug, destinationUri));
assert.equal(watched?.browser, "Firefox");
const refused = await client.getLink({ name: `${workspace}/links/lnk_${"0".repeat(32)}` }).then(() => null, (error) => error);
assert.ok(refused instanceof ClientError, `${refused}`);
assert.equal(refused.code, Status.NOT_FOUND);
await client.deleteLink({ name: link.name, etag: "" });
console.log("node nice-grpc-web: ok");
process.exit(0);
