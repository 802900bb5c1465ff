// A partner's Node program: creates a link over gRPC, clicks it, reads and watches the count over gRPC.

import assert from "node:assert/strict";
import { promisify } from "node:util";
import grpc from "@grpc/grpc-js";
import loader from "@grpc/proto-loader";
import { authorization, click, eventually, url, watch, workspace } from "./click.mjs";

const root = process.env.LINKMESH_PROTO;
const definition = loader.loadSync(
  ["linkmesh/links/v1/links.proto", "linkmesh/analytics/v1/analytics.proto"],
  { includeDirs: [root, `${root}/third_party`], longs: String, enums: String, defaults: true },
);
const { linkmesh } = grpc.loadPackageDefinition(definition);
const address = new URL(url).host;
const links = new linkmesh.links.v1.LinksService(address, grpc.credentials.createInsecure());
const analytics = new linkmesh.analytics.v1.AnalyticsService(address, grpc.credentials.createInsecure());

const metadata = new grpc.Metadata();
metadata.set("authorization", authorization);
const call = (client, method, request, credentials = metadata) =>
  promisify(client[method].bind(client))(request, credentials, { deadline: Date.now() + 20_000 });

const destinationUri = "https://example.com/node";
const { link } = await call(links, "CreateLink", { parent: workspace, link: { destinationUri } });
assert.match(link.name, /\/links\/lnk_[0-9a-f]{32}$/);

// Watched before it is clicked: the first message says that the stream is open.
const stream = analytics.WatchClicks({ parent: workspace, links: [link.name] }, metadata);
const seen = await watch(stream, () => click(link.domain, link.slug, destinationUri));
stream.cancel();
assert.equal(seen.link, link.name);
assert.equal(seen.browser, "Firefox");

await eventually("1", async () => {
  const answer = await call(analytics, "CountClicks", { parent: workspace, links: [link.name] });
  return answer.counts.clicks;
});

const refused = await call(links, "GetLink", { name: link.name }, new grpc.Metadata()).catch((error) => error);
assert.equal(refused.code, grpc.status.UNAUTHENTICATED);

await call(links, "DeleteLink", { name: link.name });
links.close();
analytics.close();
console.log("node gRPC: ok");
