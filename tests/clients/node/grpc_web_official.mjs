// The official grpc-web client: the same calls with code by hand, binary and text.

import assert from "node:assert/strict";
import XMLHttpRequest from "xhr2";
import grpcWeb from "grpc-web";
import { CreateLinkRequest, CreateLinkResponse, DeleteLinkRequest, DeleteLinkResponse, GetLinkRequest, GetLinkResponse } from "./generated/linkmesh/links/v1/links.js";
import { authorization, click, url, workspace } from "./click.mjs";

globalThis.XMLHttpRequest = XMLHttpRequest;
const method = (name, request, response) =>
  new grpcWeb.MethodDescriptor(
    `/linkmesh.links.v1.LinksService/${name}`, grpcWeb.MethodType.UNARY, Object, Object,
    (message) => request.toBinary(request.create(message)), (bytes) => response.fromBinary(bytes),
  );
const createLink = method("CreateLink", CreateLinkRequest, CreateLinkResponse);
const getLink = method("GetLink", GetLinkRequest, GetLinkResponse);
const deleteLink = method("DeleteLink", DeleteLinkRequest, DeleteLinkResponse);

for (const format of ["binary", "text"]) {
  const client = new grpcWeb.GrpcWebClientBase({ format });
  const call = (descriptor, message) =>
    client.unaryCall(`${url}${descriptor.getName()}`, message, { authorization, "grpc-timeout": "20S" }, descriptor);

  const destinationUri = `https://example.com/official/${format}`;
  const { link } = await call(createLink, { parent: workspace, link: { destinationUri } });
  await click(link.domain, link.slug, destinationUri);
  const refused = await call(getLink, { name: `${workspace}/links/lnk_${"0".repeat(32)}` }).then(() => null, (error) => error);
  assert.equal(refused?.code, grpcWeb.StatusCode.NOT_FOUND, `${refused}`);
  const found = await call(getLink, { name: link.name });
  assert.equal(found.link.destinationUri, destinationUri);
  await call(deleteLink, { name: link.name, etag: "" });
  console.log(`node grpc-web, ${format}: ok`);
}
