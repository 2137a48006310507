// Shows /openapi.json as a page to read, with a form under each operation that sends a request.

const METHODS = ["get", "put", "post", "delete"];
const JSON_TYPE = "application/json";

/** Return an element; children are elements or plain text, which is never read as HTML. */
function make(tag, attributes, ...children) {
  const element = document.createElement(tag);
  Object.entries(attributes).forEach(([name, value]) => element.setAttribute(name, value));
  element.append(...children.filter((child) => child !== null));
  return element;
}

/** Return text as nodes, with what stands between backticks as code. */
function prose(text) {
  return text.split("`").map((part, i) => (i % 2 ? make("code", {}, part) : part));
}

function operationsOf(spec) {
  return Object.entries(spec.paths).flatMap(([path, item]) =>
    METHODS.filter((method) => item[method]).map((method) => ({ path, method, ...item[method] })));
}

const nameOf = (ref) => ref.split("/").pop();
const bodyOf = (operation) => operation.requestBody?.content[JSON_TYPE].schema;

/** Return a schema's type in words, as `string, 1 to 128 characters`. */
function typeOf(schema) {
  if (schema.$ref) return nameOf(schema.$ref);
  if (schema.enum) return schema.enum.map((value) => JSON.stringify(value)).join(" | ");
  if (schema.anyOf) return [...new Set(schema.anyOf.map(typeOf))].join(" | ");
  if (schema.type === "array") {
    return `array of (${typeOf(schema.items)})${limits(schema, "Items", " items")}`;
  }
  if (schema.type === "object" && schema.additionalProperties) {
    return `object of ${typeOf(schema.additionalProperties)}`;
  }
  const type = schema.type ?? JSON.stringify(schema.const) ?? "any";
  return type + (type === "string" ? limits(schema, "Length", " characters") : bounds(schema));
}

function limits(schema, of, unit) {
  const [low, high] = [schema[`min${of}`], schema[`max${of}`]];
  if (high === undefined) return low ? `, at least ${low}${unit}` : "";
  const span = { [high]: high, 0: `at most ${high}` }[low ?? 0] ?? `${low} to ${high}`;
  return `, ${span}${unit}`;
}

function bounds(schema) {
  const low = schema.minimum ?? schema.exclusiveMinimum;
  if (low === undefined && schema.maximum === undefined) return "";
  return `, ${low ?? "any"} to ${schema.maximum ?? "any"}`;
}

/** Return the structs that a schema names, so that they can be opened under it. */
function namedIn(schema) {
  if (schema.$ref) return [nameOf(schema.$ref)];
  return [...(schema.anyOf ?? []), schema.items, schema.additionalProperties]
    .filter((inner) => inner && typeof inner === "object").flatMap(namedIn);
}

/** Return the fields of a struct; `word` marks those that are always there. */
function fieldsOf(spec, name, word, seen = []) {
  const schema = spec.components.schemas[name];
  const rows = Object.entries(schema.properties).map(([field, inner]) => {
    const needed = schema.required.includes(field);
    const opened = namedIn(inner).filter((other) => !seen.includes(other)).map((other) =>
      make("details", {}, make("summary", {}, other), fieldsOf(spec, other, word, [...seen, name])));
    return make("li", {},
      make("code", {}, field), " ",
      make("span", { class: "type" }, typeOf(inner)), " ",
      needed ? make("span", { class: "needed" }, word) : null,
      inner.description ? make("p", {}, ...prose(inner.description)) : null, ...opened);
  });
  return make("div", {}, make("p", {}, ...prose(schema.description)), make("ul", { class: "fields" }, ...rows));
}

function parametersOf(operation) {
  return (operation.parameters ?? []).map((parameter) => make("li", {},
    make("code", {}, parameter.name), " ",
    make("span", { class: "type" }, `${parameter.in}: ${typeOf(parameter.schema)}`), " ",
    parameter.required ? make("span", { class: "needed" }, "required") : null,
    make("p", {}, parameter.description ?? parameter.schema.description ?? "")));
}

function answersOf(spec, operation) {
  return Object.entries(operation.responses).flatMap(([status, answer]) => {
    const schema = Object.values(answer.content ?? {})[0]?.schema;
    const title = make("p", {}, make("code", {}, status), " ", ...prose(answer.description));
    if (!schema) return [title];
    const name = nameOf(schema.$ref);
    return [title, make("details", {}, make("summary", {}, name), fieldsOf(spec, name, "always"))];
  });
}

/** Return the least body that an operation takes, to begin from. */
function exampleOf(spec, schema) {
  if (schema.$ref) {
    const { properties, required } = spec.components.schemas[nameOf(schema.$ref)];
    return Object.fromEntries(required.map((name) => [name, exampleOf(spec, properties[name])]));
  }
  if (schema.enum) return schema.enum[0];
  const ofType = { array: [], object: {}, integer: schema.minimum ?? 0, number: 0, boolean: true };
  return ofType[schema.type] ?? "me";
}

/** Return address and options of `fetch` for what a form holds. */
function requestOf(operation, values) {
  let path = operation.path;
  const query = new URLSearchParams();
  (operation.parameters ?? []).forEach(({ name, in: where }) => {
    if (where === "path") path = path.replace(`{${name}}`, encodeURIComponent(values.get(name)));
    else if (values.get(name)) query.set(name, values.get(name));
  });
  const options = { method: operation.method.toUpperCase() };
  if (bodyOf(operation)) {
    Object.assign(options, { body: values.get("body"), headers: { "Content-Type": JSON_TYPE } });
  }
  return [query.size ? `${path}?${query}` : path, options];
}

async function send(operation, values, output) {
  const [address, options] = requestOf(operation, values);
  output.hidden = false;
  output.textContent = "…";
  try {
    const answer = await fetch(address, options);
    const text = await answer.text();
    const isJson = (answer.headers.get("content-type") ?? "").includes("json");
    const shown = isJson ? JSON.stringify(JSON.parse(text), null, 2) : text;
    output.textContent = `${options.method} ${address}\n${answer.status}\n\n${shown}`;
  } catch (error) {
    output.textContent = `${options.method} ${address}\nno answer: ${error.message}`;
  }
}

function formOf(spec, operation) {
  const inputs = (operation.parameters ?? []).map(({ name, required }) =>
    make("label", {}, name, make("input", required ? { name, required: "" } : { name })));
  const body = bodyOf(operation);
  if (body) {
    const example = JSON.stringify(exampleOf(spec, body), null, 2);
    const rows = String(example.split("\n").length + 1);
    inputs.push(make("label", {}, "body", make("textarea", { name: "body", rows }, example)));
  }
  const output = make("pre", { hidden: "", tabindex: "0", "aria-live": "polite" });
  const form = make("form", {}, ...inputs, make("button", {}, "Send"), output);
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    send(operation, new FormData(form), output);
  });
  return make("details", { class: "try" }, make("summary", {}, "Try it on this server"), form);
}

function articleOf(spec, operation) {
  const parameters = parametersOf(operation);
  const body = bodyOf(operation);
  return make("article", { id: operation.operationId },
    make("h2", {}, make("span", { class: "method" }, operation.method.toUpperCase()), " ",
      make("code", {}, operation.path)),
    make("p", {}, operation.summary),
    parameters.length ? make("h3", {}, "Parameters") : null,
    parameters.length ? make("ul", { class: "fields" }, ...parameters) : null,
    body ? make("h3", {}, "Body") : null,
    body ? fieldsOf(spec, nameOf(body.$ref), "required") : null,
    make("h3", {}, "Answers"), ...answersOf(spec, operation), formOf(spec, operation));
}

function contentsOf(operations) {
  const tags = [...new Set(operations.flatMap((operation) => operation.tags))];
  return tags.flatMap((tag) => [
    make("h2", {}, tag),
    make("ul", {}, ...operations.filter((operation) => operation.tags.includes(tag)).map(
      (operation) => make("li", {}, make("a", { href: `#${operation.operationId}` },
        make("span", { class: "method" }, operation.method.toUpperCase()), operation.path)))),
  ]);
}

async function show() {
  const main = document.getElementById("operations");
  const about = document.getElementById("about");
  const answer = await fetch("/openapi.json");
  if (!answer.ok) throw new Error(`/openapi.json was answered with ${answer.status}`);
  const spec = await answer.json();
  const operations = operationsOf(spec);
  about.replaceChildren(spec.info.description, " ",
    make("a", { href: "/openapi.json" }, "openapi.json"));
  document.getElementById("contents").append(...contentsOf(operations));
  main.append(...operations.map((operation) => articleOf(spec, operation)));
  main.removeAttribute("aria-busy");
  document.getElementById(location.hash.slice(1))?.scrollIntoView();
}

show().catch((error) => {
  document.getElementById("about").textContent = `The reference cannot be shown: ${error.message}`;
});
