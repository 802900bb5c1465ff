// A browser front end's code: creates a link over gRPC-Web, clicks it, and reads the count back, in both encodings.

import assert from "node:assert/strict";
import { GrpcWebFetchTransport } from "@protobuf-ts/grpcweb-transport";
import { AnalyticsServiceClient } from "./generated/linkmesh/analytics/v1/analytics.client.js";
import { LinksServiceClient } from "./generated/linkmesh/links/v1/links.client.js";
import { authorization, click, eventually, url, workspace } from "./click.mjs";

for (const format of ["binary", "text"]) {
  const transport = new GrpcWebFetchTransport({ baseUrl: url, format, timeout: 20_000, meta: { authorization } });
  const links = new LinksServiceClient(transport);
  const analytics = new AnalyticsServiceClient(transport);

  const destinationUri = `https://example.com/web/${format}`;
  const created = await links.createLink({
    parent: workspace,
    requestId: "",
    link: {
      name: "", domain: "", slug: "", destinationUri, shortUri: "", redirectStatus: 0, forwardQuery: false,
      tags: [], expiredDestinationUri: "", displayName: "", etag: "",
    },
  });
  const link = created.response.link;
  assert.equal(created.status.code, "OK");

  await click(link.domain, link.slug, destinationUri);
  await eventually("1", async () => {
    const { response } = await analytics.countClicks({ parent: workspace, links: [link.name] });
    return response.counts.clicks;
  });

  const name = `${workspace}/links/lnk_${"0".repeat(32)}`;
  const refused = await links.getLink({ name }).then(() => null, (error) => error);
  assert.equal(refused?.code, "NOT_FOUND");

  await links.deleteLink({ name: link.name, etag: "" });
  console.log(`node gRPC-Web, ${format}: ok`);
}
