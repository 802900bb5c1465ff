// What the clients share: a click over plain HTTP, and waiting for a count.

import assert from "node:assert/strict";
import http from "node:http";
import { setTimeout as pause } from "node:timers/promises";

const COUNTED_WITHIN_MS = 20_000;
const BROWSER = "Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0";

export const url = process.env.LINKMESH_URL;
export const workspace = process.env.LINKMESH_WORKSPACE;
export const authorization = `Bearer ${process.env.LINKMESH_API_KEY}`;

/** Clicks a link as a browser would and checks where it leads. */
export async function click(domain, slug, destination) {
  const answer = await new Promise((resolve, reject) => {
    const headers = { host: domain, "user-agent": BROWSER };
    http.get(`${url}/${slug}`, { headers }, resolve).on("error", reject);
  });
  answer.resume();
  assert.equal(answer.statusCode, 302);
  assert.equal(answer.headers.location, destination);
}

/** Polls until `read` gives `wanted`. */
export async function eventually(wanted, read) {
  const deadline = Date.now() + COUNTED_WITHIN_MS;
  for (;;) {
    const found = await read();
    if (found === wanted) return;
    assert.ok(Date.now() < deadline, `counted ${found}, not ${wanted}`);
    await pause(50);
  }
}

/** The first click of a stream whose first message says that it is open; then `act` clicks. */
export async function watch(stream, act) {
  let isOpen = false;
  for await (const message of stream) {
    if (!isOpen) {
      isOpen = true;
      await act();
    }
    if (message.click) return message.click;
  }
  return null;
}
