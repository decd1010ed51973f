// Renders /api/openapi.json: every route with its parameters, body and answers. Text goes into the
// document as text, never as markup.
"use strict";

const METHODS = ["get", "post", "put", "patch", "delete"];
// Schemas refer to each other; deeper than this an example says nothing more.
const EXAMPLE_DEPTH_MAX = 6;

function element(name, text, className) {
  const made = document.createElement(name);
  if (text !== undefined) made.textContent = text;
  if (className) made.className = className;
  return made;
}

function resolve(spec, schema) {
  const reference = schema && schema.$ref;
  if (!reference) return schema || {};
  return reference.slice(2).split("/").reduce((place, key) => place && place[key], spec) || {};
}

function example(spec, given, depth = 0) {
  const schema = resolve(spec, given);
  if (depth > EXAMPLE_DEPTH_MAX) return "…";
  if (schema.example !== undefined) return schema.example;
  if (schema.enum) return schema.enum.join(" | ");
  const choice = (schema.oneOf || schema.anyOf || []).find((one) => one.type !== "null");
  if (choice) return example(spec, choice, depth + 1);
  if (schema.allOf) {
    return Object.assign({}, ...schema.allOf.map((part) => example(spec, part, depth + 1)));
  }
  const type = Array.isArray(schema.type) ? schema.type.find((t) => t !== "null") : schema.type;
  if (type === "array") return [example(spec, schema.items, depth + 1)];
  if (type === "object" || schema.properties) {
    const made = {};
    for (const [key, value] of Object.entries(schema.properties || {})) {
      made[key] = example(spec, value, depth + 1);
    }
    return made;
  }
  if (type === "integer" || type === "number") return 0;
  if (type === "boolean") return true;
  return schema.format ? `<${schema.format}>` : "text";
}

function content(spec, card, title, described) {
  const [media, body] = Object.entries(described.content || {})[0] || [];
  card.append(element("h4", media ? `${title} · ${media}` : title));
  if (described.description) card.append(element("p", described.description, "dim"));
  if (body && body.schema && media.includes("json")) {
    card.append(element("pre", JSON.stringify(example(spec, body.schema), null, 2)));
  }
}

function route(spec, path, method, operation) {
  const card = element("article");
  card.id = `${method}-${path}`;
  const heading = element("h3");
  heading.append(element("span", method, "method"), element("code", path));
  card.append(heading, element("p", operation.summary || ""));
  if (operation.description) card.append(element("p", operation.description, "dim"));
  const scopes = (operation.security || []).flatMap((one) => one.bearer || []);
  if (scopes.length > 0) {
    const line = element("p", "An API token needs the scope ", "dim");
    line.append(element("code", scopes.join(", ")));
    card.append(line);
  }
  for (const parameter of operation.parameters || []) {
    const line = element("p");
    const need = parameter.required ? "" : " (optional)";
    line.append(element("code", parameter.name), ` in ${parameter.in}${need} `);
    line.append(element("span", parameter.description || "", "dim"));
    card.append(line);
  }
  if (operation.requestBody) content(spec, card, "Body", operation.requestBody);
  for (const [status, answer] of Object.entries(operation.responses || {})) {
    content(spec, card, status, resolve(spec, answer));
  }
  return card;
}

function show(spec) {
  document.getElementById("about").textContent = `${spec.info.description} Version ${spec.info.version}.`;
  const groups = new Map();
  for (const [path, operations] of Object.entries(spec.paths)) {
    for (const method of METHODS.filter((m) => operations[m])) {
      const tag = (operations[method].tags || ["other"])[0];
      if (!groups.has(tag)) groups.set(tag, []);
      groups.get(tag).push([path, method, operations[method]]);
    }
  }
  const contents = document.getElementById("contents");
  const routes = document.getElementById("routes");
  for (const [tag, entries] of groups) {
    routes.append(element("h2", tag));
    for (const [path, method, operation] of entries) {
      const link = element("a");
      link.href = `#${method}-${path}`;
      link.append(element("span", method, "method"), element("code", path));
      contents.append(link);
      routes.append(route(spec, path, method, operation));
    }
  }
}

fetch("/api/openapi.json")
  .then((answer) => answer.json())
  .then(show)
  .catch((error) => {
    document.getElementById("about").textContent = `The description could not be loaded: ${error}`;
  });
