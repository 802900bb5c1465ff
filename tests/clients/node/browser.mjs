// connect-web in a real browser, headless Chromium: a page of another origin, so with preflights, over gRPC-Web and Connect. What is
// refused is read by its code and details, which takes CORS headers on errors too, and when to come again by its headers.

import assert from "node:assert/strict";
import { createServer } from "node:http";
import { once } from "node:events";
import { build } from "esbuild";
import { chromium } from "playwright-core";
import { authorization, click, url, workspace } from "./click.mjs";

const bundle = await build({ entryPoints: ["page.mjs"], bundle: true, write: false, format: "iife", globalName: "page" });
const [script] = bundle.outputFiles;
const server = createServer((request, response) => {
  const isScript = request.url === "/page.js";
  response.setHeader("content-type", isScript ? "text/javascript" : "text/html");
  response.end(isScript ? script.text : "<!doctype html><title>A front end</title><script src='/page.js'></script>");
});
server.listen(0, "127.0.0.1");
await once(server, "listening");

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
try {
  const tab = await browser.newPage();
  await tab.exposeFunction("click", click);
  await tab.goto(`http://127.0.0.1:${server.address().port}/`);
  for (const protocol of ["Connect", "gRPC-Web"]) {
    const seen = await tab.evaluate((given) => globalThis.page.run(given), { protocol, url, authorization, workspace });
    assert.deepEqual(seen, {
      browser: "Firefox",
      missing: { code: "NotFound", reason: "NOT_FOUND" },
      stranger: { code: "Unauthenticated", reason: "CREDENTIALS_MISSING" },
    });
    console.log(`chromium ${protocol}: ok`);
  }
  // Last, since nothing is let in afterwards.
  for (const protocol of ["Connect", "gRPC-Web"]) {
    const refused = await tab.evaluate((given) => globalThis.page.insist(given), { protocol, url, authorization, workspace });
    assert.deepEqual(refused, { code: "ResourceExhausted", reason: "RATE_LIMITED", remaining: "0", waits: true });
    console.log(`chromium ${protocol}, too often: ok`);
  }
} finally {
  await browser.close();
  server.close();
}
