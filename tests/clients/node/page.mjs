// What runs in the browser: bundled by browser.mjs.

import { Code, ConnectError, createClient } from "@connectrpc/connect";
import { createConnectTransport, createGrpcWebTransport } from "@connectrpc/connect-web";
import { AnalyticsService } from "./generated/linkmesh/analytics/v1/analytics_pb.js";
import { LinksService } from "./generated/linkmesh/links/v1/links_pb.js";
import { ErrorInfoSchema } from "./generated/google/rpc/error_details_pb.js";

const failure = (error) => {
  if (!(error instanceof ConnectError)) throw error;
  return { code: Code[error.code], reason: error.findDetails(ErrorInfoSchema)[0]?.reason };
};

const creator = (protocol) => (protocol === "Connect" ? createConnectTransport : createGrpcWebTransport);

const signed = ({ protocol, url, authorization }) => {
  const sign = (next) => (request) => {
    request.header.set("authorization", authorization);
    return next(request);
  };
  return creator(protocol)({ baseUrl: url, interceptors: [sign], defaultTimeoutMs: 20_000 });
};

/** Asks until that is too often: what a page can read of the refusal. */
export async function insist(given) {
  const AT_ONCE = 50;
  const links = createClient(LinksService, signed(given));
  const name = `${given.workspace}/links/lnk_${"0".repeat(32)}`;
  for (;;) {
    const asked = Array.from({ length: AT_ONCE }, () => links.getLink({ name }).then(() => null, (error) => error));
    const refused = (await Promise.all(asked)).find((error) => error?.code !== Code.NotFound);
    if (refused) {
      const remaining = refused.metadata.get("x-ratelimit-remaining");
      return { ...failure(refused), remaining, waits: Number(refused.metadata.get("x-ratelimit-reset")) > 0 };
    }
  }
}

/** Creates a link, watches a click of it, and is refused twice. */
export async function run({ protocol, url, authorization, workspace }) {
  const transport = signed({ protocol, url, authorization });
  const links = createClient(LinksService, transport);
  const analytics = createClient(AnalyticsService, transport);
  const destinationUri = `https://example.com/browser/${protocol}`;
  const { link } = await links.createLink({ parent: workspace, link: { destinationUri } });
  let browser, isOpen = false;
  for await (const message of analytics.watchClicks({ parent: workspace, links: [link.name] })) {
    if (!isOpen) {
      isOpen = true;
      await globalThis.click(link.domain, link.slug, destinationUri);
    }
    if (message.click) {
      browser = message.click.browser;
      break;
    }
  }
  const missing = await links.getLink({ name: `${workspace}/links/lnk_${"0".repeat(32)}` }).then(() => null, failure);
  const anyone = createClient(LinksService, creator(protocol)({ baseUrl: url }));
  const stranger = await anyone.getLink({ name: link.name }).then(() => null, failure);
  await links.deleteLink({ name: link.name });
  return { browser, missing, stranger };
}
