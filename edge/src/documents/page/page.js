"use strict";
// Everything that is shown comes from the document, as text: nothing of it is ever read as HTML.
const DEPTH_MAX = 4;
const $ = (id) => document.getElementById(id);
const el = (tag, attributes = {}, ...children) => {
  const node = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) node.setAttribute(name, value);
  node.append(...children.filter((child) => child !== null && child !== undefined));
  return node;
};

// Paragraphs, lists and `code`: as much of Markdown as the comments use.
function inline(text) {
  return text.split(/(`[^`]+`)/).map((part) =>
    part.length > 2 && part.startsWith("`") && part.endsWith("`") ? el("code", {}, part.slice(1, -1)) : part);
}
function prose(text) {
  const out = document.createDocumentFragment();
  for (const paragraph of (text || "").split("\n\n").filter(Boolean)) {
    const lines = paragraph.split("\n");
    const items = lines.filter((line) => line.startsWith("- "));
    const rest = lines.filter((line) => !line.startsWith("- "));
    if (rest.length) out.append(el("p", {}, ...inline(rest.join(" "))));
    if (items.length) out.append(el("ul", {}, ...items.map((item) => el("li", {}, ...inline(item.slice(2))))));
  }
  return out;
}

let api;
function resolve(node) {
  const seen = new Set();
  while (node && node.$ref && !seen.has(node.$ref)) {
    seen.add(node.$ref);
    const { $ref, ...beside } = node;
    const target = $ref.slice(2).split("/").reduce((at, key) => at && at[key.replace(/~1/g, "/").replace(/~0/g, "~")], api);
    node = { ...target, ...beside, $name: $ref.split("/").pop() };
  }
  return node || {};
}
function kind(schema) {
  const is = resolve(schema);
  if (is.type === "array") return `array of ${kind(is.items || {})}`;
  if (is.enum && is.$name) return is.$name;
  if (is.type === "object" || is.properties) return is.additionalProperties && !is.properties ? "map" : is.$name || "object";
  const type = Array.isArray(is.type) ? is.type.join(" or ") : is.type || "any";
  return is.format ? `${type} (${is.format})` : type;
}

function fields(schema, depth, seen) {
  const is = resolve(schema);
  if (is.type === "array") return fields(is.items || {}, depth, seen);
  if (!is.properties || depth > DEPTH_MAX || seen.includes(is.$name)) return null;
  const within = is.$name ? [...seen, is.$name] : seen;
  const rows = Object.entries(is.properties).map(([name, property]) => {
    const must = (is.required || []).includes(name);
    const inner = fields(property, depth + 1, within);
    return row(name, property, must, property.description, inner && el("details", {}, el("summary", {}, "its fields"), inner));
  });
  return el("table", {}, el("tbody", {}, ...rows));
}
function row(name, schema, must, description, more) {
  const is = resolve(schema);
  const notes = [kind(schema)];
  if (is.readOnly) notes.push("read only");
  if (is.deprecated) notes.push("deprecated");
  const values = is.enum ? el("details", {}, el("summary", {}, `${is.enum.length} values`),
    is.description && schema.$ref ? prose(is.description) : el("p", {}, is.enum.join(", "))) : null;
  return el("tr", {},
    el("td", {}, el("code", {}, name), must ? el("span", { class: "must", title: "required" }, " *") : null,
      el("span", { class: "kind" }, notes.join(", "))),
    el("td", {}, prose(description || (schema.$ref ? "" : is.description)), values, more));
}

// An example that the schema allows: what is required, and of the rest what is said easily.
function sample(schema, depth) {
  const is = resolve(schema);
  if (is.examples) return is.examples[0];
  if (is.enum) return is.enum.find((value) => !value.endsWith("_UNSPECIFIED")) || is.enum[0];
  const type = Array.isArray(is.type) ? is.type[0] : is.type;
  if (type === "array") return [sample(is.items || {}, depth + 1)];
  if (type === "object" || is.properties) {
    const out = {};
    for (const [name, property] of Object.entries(is.properties || {})) {
      const must = (is.required || []).includes(name);
      if (!resolve(property).readOnly && (must || (depth === 0 && resolve(property).type === "string" && name !== "etag")) && depth < DEPTH_MAX) {
        if (must || Object.keys(out).length < 2) out[name] = sample(property, depth + 1);
      }
    }
    return out;
  }
  if (is.format === "date-time") return "2026-01-01T00:00:00Z";
  if (is.format === "byte") return "AAAA";
  if (is.format === "int64" || is.format === "uint64") return type === "string" ? "1" : 1;
  return { boolean: true, integer: 1, number: 1, string: "text" }[type] ?? null;
}
const quoted = (text) => `'${String(text).replace(/'/g, "'\\''")}'`;
function curl(method, path, operation, parameters) {
  const server = (api.servers && api.servers[0].url) || "/";
  const base = new URL(server, location.origin).href.replace(/\/$/, "");
  const query = parameters.filter((p) => p.in === "query" && p.required).map((p) => {
    const value = sample(p.schema || {}, 1);
    return `${p.name}=${encodeURIComponent(Array.isArray(value) ? value[0] : value)}`;
  });
  const url = base + path.replace(/\{([^}]+)\}/g, (_, name) => `$${name.replace(/([A-Z])/g, "_$1").toUpperCase()}`);
  const lines = [`curl ${method === "get" ? "" : `-X ${method.toUpperCase()} `}"${url}${query.length ? `?${query.join("&")}` : ""}"`];
  if (operation.security && operation.security.length) lines.push(`-H "authorization: Bearer $LINKMESH_API_KEY"`);
  const content = (resolve(operation.requestBody).content || {})["application/json"];
  if (content) lines.push(`-H 'content-type: application/json'`, `-d ${quoted(JSON.stringify(sample(content.schema, 0)))}`);
  const answers = Object.keys((resolve(operation.responses["200"]).content) || {});
  if (answers.includes("text/event-stream")) lines.push(`-N -H 'accept: text/event-stream'`);
  return lines.join(" \\\n  ");
}

function access(operation) {
  if (!operation.security || !operation.security.length) return "Anyone may call this.";
  const asks = operation["x-scopes"] || [];
  const ways = operation.security.map((way) => Object.keys(way).join(" and ")).join(", or ");
  return `Needs ${ways}${asks.length ? `, with ${asks.map((scope) => `\`${scope}\``).join(", ")}` : ""}.`;
}

function section(method, path, operation) {
  const parameters = (operation.parameters || []).map(resolve);
  const example = curl(method, path, operation, parameters);
  const copy = el("button", { type: "button" }, "Copy");
  copy.addEventListener("click", () => navigator.clipboard.writeText(example).then(() => {
    copy.textContent = "Copied";
    setTimeout(() => { copy.textContent = "Copy"; }, 1500);
  }));
  const out = el("section", { id: operation.operationId },
    el("h3", {}, operation.summary),
    el("div", { class: "route" }, el("span", { class: `verb ${method}` }, method.toUpperCase()), el("code", {}, path)),
    prose(operation.description),
    el("p", { class: "kind" }, ...inline(access(operation))),
    el("div", { class: "example" }, el("pre", {}, el("code", {}, example)), copy));
  if (parameters.length) {
    const rows = parameters.map((p) => row(p.name, p.schema || {}, p.required && p.in !== "path", p.description,
      el("span", { class: "kind" }, `in ${p.in}`)));
    out.append(el("details", { open: "" }, el("summary", {}, "Parameters"), el("table", {}, el("tbody", {}, ...rows))));
  }
  for (const [type, content] of Object.entries(resolve(operation.requestBody).content || {})) {
    const table = fields(content.schema || {}, 0, []);
    out.append(el("details", {}, el("summary", {}, `Body: ${type}, ${kind(content.schema || {})}`), table));
  }
  const responses = Object.entries(operation.responses).sort(([a], [b]) => a.localeCompare(b));
  for (const [status, response] of responses.filter(([status]) => status === "200")) {
    const types = Object.entries(resolve(response).content || {});
    if (!types.length) continue;
    const names = types.map(([type]) => type).join(", ");
    const schema = types.find(([, content]) => resolve(content.schema).type !== "array") || types[0];
    out.append(el("details", {}, el("summary", {}, `${status}: ${names}, ${kind(schema[1].schema || {})}`), fields(schema[1].schema || {}, 0, [])));
  }
  const others = responses.filter(([status]) => status !== "200").map(([status, response]) =>
    el("tr", {}, el("td", {}, el("code", {}, status)), el("td", {}, prose(resolve(response).description))));
  out.append(el("details", {}, el("summary", {}, "Other answers"), el("table", {}, el("tbody", {}, ...others))));
  return out;
}

function show() {
  $("title").textContent = api.info.title;
  $("version").textContent = api.info.version;
  document.title = `${api.info.title} reference`;
  const main = $("content");
  $("state").remove();
  main.append(el("h1", {}, api.info.title), prose(api.info.description));
  const all = Object.entries(api.paths).flatMap(([path, item]) => Object.entries(item).map(([method, operation]) => ({ path, method, operation })));
  const entries = [];
  for (const tag of api.tags) {
    const name = tag.name.replace(/([a-z])([A-Z])/g, "$1 $2");
    const group = el("div", {}, el("h2", {}, name));
    main.append(el("h2", {}, name), prose(tag.description));
    for (const { path, method, operation } of all.filter(({ operation }) => operation.tags.includes(tag.name))) {
      const node = section(method, path, operation);
      const link = el("a", { href: `#${operation.operationId}` },
        el("span", { class: `verb ${method}` }, method.toUpperCase()), operation.operationId.split("_").slice(1).join("_"));
      group.append(link);
      main.append(node);
      const text = [path, method, tag.name, operation.operationId, operation.summary, operation.description].join(" ").toLowerCase();
      entries.push({ link, node, group, text });
    }
    $("list").append(group);
  }
  const reasons = (api.components.schemas.Reason || {}).description;
  if (reasons) main.append(el("h2", { id: "reasons" }, "Reasons of errors"), prose(reasons));
  const search = $("search");
  const filter = () => {
    const words = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    let count = 0;
    for (const { link, node, text } of entries) {
      const fits = words.every((word) => text.includes(word));
      count += fits ? 1 : 0;
      link.hidden = node.hidden = !fits;
      link.style.display = fits ? "" : "none";
    }
    for (const group of $("list").children) group.hidden = [...group.querySelectorAll("a")].every((link) => link.hidden);
    $("count").textContent = `${count} of ${entries.length} operations`;
  };
  search.addEventListener("input", filter);
  document.addEventListener("keydown", (event) => {
    if (event.key === "/" && document.activeElement !== search) { event.preventDefault(); search.focus(); }
  });
  filter();
  if (location.hash) { const at = $(decodeURIComponent(location.hash.slice(1))); if (at) at.scrollIntoView(); }
}

const root = document.documentElement;
const kept = (() => { try { return localStorage.getItem("theme"); } catch { return null; } })();
if (kept) root.dataset.theme = kept;
$("theme").addEventListener("click", () => {
  const isDark = root.dataset.theme ? root.dataset.theme === "dark" : matchMedia("(prefers-color-scheme: dark)").matches;
  root.dataset.theme = isDark ? "light" : "dark";
  try { localStorage.setItem("theme", root.dataset.theme); } catch { /* a browser that keeps nothing */ }
});
$("menu").addEventListener("click", () => $("menu").setAttribute("aria-expanded", String($("side").classList.toggle("open"))));
$("list").addEventListener("click", () => { $("side").classList.remove("open"); $("menu").setAttribute("aria-expanded", "false"); });
fetch("/v1/openapi.json").then((answer) => answer.ok ? answer.json() : Promise.reject(new Error(`HTTP ${answer.status}`)))
  .then((document) => { api = document; show(); })
  .catch((error) => { const state = $("state"); if (state) state.textContent = `The document can't be read: ${error.message}`; else throw error; });
