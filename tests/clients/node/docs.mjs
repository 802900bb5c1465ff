// The page at /docs in a real browser, headless Chromium, under the policy that it comes with: it shows every operation of the document,
// and nothing in it is refused by the policy or fails.

import assert from "node:assert/strict";
import { chromium } from "playwright-core";

const url = process.env.LINKMESH_URL;
const api = await (await fetch(`${url}/v1/openapi.json`)).json();
const operations = Object.values(api.paths).flatMap((item) => Object.values(item));

const browser = await chromium.launch({ executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium", args: ["--no-sandbox"] });
try {
  const tab = await browser.newPage();
  const complaints = [];
  tab.on("console", (message) => ["error", "warning"].includes(message.type()) && complaints.push(message.text()));
  tab.on("pageerror", (error) => complaints.push(String(error)));
  tab.on("requestfailed", (request) => complaints.push(`${request.url()}: ${request.failure().errorText}`));
  await tab.exposeFunction("complain", (what) => complaints.push(what));
  await tab.addInitScript(() => addEventListener("securitypolicyviolation", (event) =>
    globalThis.complain(`${event.violatedDirective} forbids ${event.blockedURI} ${event.sample}`)));

  const answer = await tab.goto(`${url}/docs`);
  assert.equal(answer.status(), 200);
  assert.match(answer.headers()["content-security-policy"], /^default-src 'none'; script-src 'sha256-/);
  await tab.waitForSelector("section");
  assert.equal(await tab.locator("section").count(), operations.length);
  assert.equal(await tab.locator("#title").textContent(), api.info.title);
  for (const operation of operations) {
    assert.equal(await tab.locator(`[id="${operation.operationId}"]`).count(), 1, operation.operationId);
  }

  // It can be used, too.
  const background = () => tab.evaluate(() => getComputedStyle(document.body).backgroundColor);
  const before = await background();
  await tab.click("#theme");
  assert.notEqual(await background(), before, "the other theme looks alike");
  await tab.fill("#search", "CreateLink");
  const listed = await tab.locator("#list a:visible").count();
  assert.ok(listed > 0 && listed < operations.length, `${listed} are left of ${operations.length}`);
  await tab.setViewportSize({ width: 400, height: 800 });
  await tab.click("#menu");
  assert.equal(await tab.getAttribute("#menu", "aria-expanded"), "true");
  assert.deepEqual(complaints, []);

  // What is not the page's own does not run: the policy is there, and the browser keeps it.
  await tab.evaluate(() => document.body.append(Object.assign(document.createElement("script"), { textContent: "globalThis.ran = true" })));
  assert.equal(await tab.evaluate(() => globalThis.ran), undefined);
  assert.ok(complaints.some((what) => what.includes("script-src")), "a foreign script was not complained about");
  console.log(`chromium /docs: ${operations.length} operations: ok`);
} finally {
  await browser.close();
}
