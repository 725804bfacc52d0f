// Draws status.json. Names come from clients and files, so that nothing is ever set as HTML.
"use strict";

const EVERY = 2000;
const KEPT = 90;
const SVG = "http://www.w3.org/2000/svg";
const byId = (id) => document.getElementById(id);
const history = new Map();
let paused = false;
let last = null;

function element(name, attributes = {}, ...children) {
  const made = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }
  made.append(...children);
  return made;
}

function drawn(name, attributes, text) {
  const made = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) {
    made.setAttribute(key, value);
  }
  if (text !== undefined) {
    made.textContent = text;
  }
  return made;
}

// --- words ---

const number = (value) => (value === null ? "–" : value >= 100 ? value.toFixed(0) : value.toFixed(1));
const millis = (value) => (value === null ? "–" : value >= 1000 ? `${(value / 1000).toFixed(2)} s` : `${value.toFixed(1)} ms`);
const percent = (value) => (value === null ? "–" : `${(value * 100).toFixed(value > 0.999 || value === 0 ? 0 : 1)} %`);

function span(seconds) {
  const parts = [[86400, "d"], [3600, "h"], [60, "min"]];
  for (const [size, unit] of parts) {
    if (Math.abs(seconds) >= size) {
      return `${Math.floor(Math.abs(seconds) / size)} ${unit}`;
    }
  }
  return `${Math.floor(Math.abs(seconds))} s`;
}

function health(success) {
  if (success === null) {
    return "";
  }
  return success >= 0.99 ? "good" : success >= 0.9 ? "wait" : "bad";
}

function pill(kind, text) {
  return element("span", { class: `pill ${kind}` }, text);
}

function success(value) {
  return value === null ? "–" : pill(health(value), percent(value));
}

// --- tables ---

function fill(table, rows, nothing) {
  const labels = [...table.querySelectorAll("thead th")].map((cell) => cell.textContent);
  const body = table.querySelector("tbody");
  if (rows.length === 0) {
    body.replaceChildren(element("tr", {}, element("td", { class: "empty", colspan: labels.length }, nothing)));
    return;
  }
  body.replaceChildren(...rows.map((cells) => {
    const row = element("tr");
    cells.forEach((content, index) => {
      const attributes = { "data-label": labels[index] };
      const cell = index === 0 ? element("th", { ...attributes, scope: "row" }) : element("td", attributes);
      const holder = element("div");
      holder.append(...(Array.isArray(content) ? content : [content]));
      cell.append(holder);
      row.append(cell);
    });
    return row;
  }));
}

function card(title, value, note, kind) {
  return element("div", { class: kind || "good" }, element("dt", {}, title), element("dd", {}, value, element("small", {}, note)));
}

function cards(status) {
  const rate = status.services.reduce((sum, one) => sum + (one.rate || 0), 0);
  const count = (state) => status.clients.filter((one) => one.state === state).length;
  const nacked = count("NACKED");
  const stale = count("STALE");
  const soonest = status.certificates.reduce((least, one) => Math.min(least, one.expires_s), Infinity);
  byId("cards").replaceChildren(
    card("Configuration", String(status.generation), status.rejected ? "the last edit was rejected" : "in force everywhere it was acknowledged", status.rejected ? "bad" : "good"),
    card("Requests per second", number(rate), "as clients report"),
    card("Clients", String(status.clients.length), nacked ? `${nacked} refuse something` : stale ? `${stale} have not acknowledged all` : "all synced", nacked ? "bad" : stale ? "wait" : "good"),
    card("Services", String(status.services.length), `${status.streams} streams, ${status.views} views`),
    soonest === Infinity
      ? card("Certificate", "none", "the port speaks plaintext", "wait")
      : card("Certificate", soonest > 0 ? span(soonest) : "expired", "until the first expires", soonest > 86400 ? "good" : soonest > 3600 ? "wait" : "bad"),
  );
}

function sparkline(name, points) {
  const most = Math.max(1e-9, ...points);
  const width = 120;
  const line = points.map((value, index) => `${(index * width / (KEPT - 1)).toFixed(1)},${(26 - 24 * value / most).toFixed(1)}`);
  const svg = drawn("svg", { class: "spark", viewBox: "0 0 120 28", role: "img", "aria-label": `Requests per second of ${name}: now ${number(points.at(-1))}, at most ${number(most)}` });
  svg.append(drawn("polyline", { points: line.join(" ") }));
  return svg;
}

function services(status) {
  for (const one of status.services) {
    const points = history.get(one.name) || [];
    points.push(one.rate || 0);
    history.set(one.name, points.slice(-KEPT));
  }
  fill(byId("services"), status.services.map((one) => [
    [one.name, element("small", {}, one.ports.join(", ")), ...one.splits.map((split) => element("small", { class: "split" }, `divided: ${split}`))],
    number(one.rate),
    success(one.success),
    millis(one.latency_ms),
    sparkline(one.name, history.get(one.name)),
    String(one.endpoints),
  ]), "The configuration has no service yet.");
  const silent = status.calls.length === 0;
  byId("services-note").textContent = silent ? "No client has reported a request yet. Rates appear with the first load report." : "";
}

function calls(status) {
  const total = new Map();
  for (const one of status.calls) {
    const key = `${one.from}\n${one.to}`;
    total.set(key, (total.get(key) || 0) + one.rate);
  }
  fill(byId("calls"), status.calls.map((one) => {
    const all = total.get(`${one.from}\n${one.to}`);
    const share = all > 0 ? one.rate / all : null;
    const bar = element("span", { class: "bar", "aria-hidden": "true" }, element("span"));
    bar.firstChild.style.width = `${((share || 0) * 100).toFixed(1)}%`;
    return [one.from, one.to, one.subset || "all", number(one.rate), [percent(share), bar], success(one.success), millis(one.latency_ms)];
  }), "Nobody has reported a call in the last minute.");
}

// --- the graph: callers to the left of those they call ---

function ranks(nodes, edges) {
  const rank = new Map(nodes.map((node) => [node, 0]));
  for (let round = 0; round < nodes.length; round += 1) {
    let moved = false;
    for (const { from, to } of edges) {
      if (from !== to && rank.get(to) <= rank.get(from) && rank.get(from) + 1 < nodes.length) {
        rank.set(to, rank.get(from) + 1);
        moved = true;
      }
    }
    if (!moved) {
      break;
    }
  }
  return rank;
}

function graph(status) {
  const merged = new Map();
  for (const one of status.calls) {
    const { to } = one;
    const key = `${one.from}\n${to}`;
    const edge = merged.get(key) || { from: one.from, to, rate: 0, good: 0, known: 0 };
    edge.rate += one.rate;
    if (one.success !== null) {
      edge.good += one.rate * one.success;
      edge.known += one.rate;
    }
    merged.set(key, edge);
  }
  const edges = [...merged.values()];
  const figure = byId("graph-figure");
  figure.hidden = edges.length === 0;
  if (edges.length === 0) {
    return;
  }
  const nodes = [...new Set(edges.flatMap(({ from, to }) => [from, to]))];
  const rank = ranks(nodes, edges);
  const columns = [];
  for (const node of nodes) {
    (columns[rank.get(node)] ||= []).push(node);
  }
  const filled = columns.filter(Boolean);
  const [wide, gap, high] = [190, 130, 64];
  const width = filled.length * wide + (filled.length - 1) * gap + 20;
  const height = Math.max(...filled.map((column) => column.length)) * high + 16;
  const place = new Map();
  filled.forEach((column, x) => column.forEach((node, y) => {
    const top = (height - column.length * high) / 2 + y * high + 8;
    place.set(node, { x: 10 + x * (wide + gap), y: top });
  }));
  const most = Math.max(...edges.map((edge) => edge.rate), 1e-9);
  const svg = byId("graph");
  svg.setAttribute("viewBox", `0 0 ${width} ${height}`);
  const parts = [svg.querySelector("title")];
  for (const edge of edges) {
    const [from, to] = [place.get(edge.from), place.get(edge.to)];
    const good = edge.known > 0 ? edge.good / edge.known : null;
    const [x1, y1, x2, y2] = [from.x + wide, from.y + 22, to.x, to.y + 22];
    const bend = Math.max(40, (x2 - x1) / 2);
    parts.push(drawn("path", { class: `edge ${health(good)}`, "stroke-width": (1.5 + 5 * edge.rate / most).toFixed(1), d: `M${x1},${y1} C${x1 + bend},${y1} ${x2 - bend},${y2} ${x2},${y2}` }));
    parts.push(drawn("text", { class: "quiet label", x: x1 + (x2 - x1) * 0.6, y: y1 + (y2 - y1) * 0.8 - 12, "text-anchor": "middle" }, `${number(edge.rate)}/s ${percent(good)}`));
  }
  for (const [node, { x, y }] of place) {
    parts.push(drawn("rect", { x, y, width: wide, height: 44, rx: 8 }));
    const name = node.split(".");
    const short = name[0].length > 22 ? `${name[0].slice(0, 21)}…` : name[0];
    parts.push(drawn("text", { x: x + 12, y: y + 19 }, short));
    parts.push(drawn("text", { class: "quiet", x: x + 12, y: y + 35 }, (name.slice(1).join(".") || " ").slice(0, 28)));
  }
  svg.replaceChildren(...parts);
  byId("graph-text").textContent = edges.map((edge) => `${edge.from} calls ${edge.to} ${number(edge.rate)} times per second`).join("; ");
}

// --- clients, faults, certificates ---

const STATES = { SYNCED: "good", STALE: "wait", NACKED: "bad" };

function clients(status) {
  const wanted = byId("filter").value.toLowerCase();
  const troubled = byId("troubled").checked;
  const shown = status.clients.filter((one) => {
    const text = `${one.node} ${one.workload} ${one.software} ${one.state}`.toLowerCase();
    return text.includes(wanted) && !(troubled && one.state === "SYNCED");
  });
  fill(byId("clients"), shown.map((one) => [
    pill(STATES[one.state], one.state),
    [one.node, element("small", {}, one.stream), ...one.refusals.map((refused) => element("div", { class: "reason" }, `${refused.type} ${refused.version}: ${refused.error}`))],
    one.workload,
    [one.software, element("small", {}, one.dialect)],
    `${one.acknowledged} of ${one.sent}`,
    span(one.age_s),
  ]), status.clients.length === 0 ? "No client is connected." : "No client is like that.");
}

function faults(status) {
  byId("faults-section").hidden = status.rejected === null;
  byId("faults").textContent = status.rejected || "";
}

function certificates(status) {
  fill(byId("certificates"), status.certificates.map((one) => {
    const kind = one.expires_s > 86400 ? "good" : one.expires_s > 3600 ? "wait" : "bad";
    const text = one.expires_s > 0 ? `in ${span(one.expires_s)}` : `${span(one.expires_s)} ago`;
    return [one.whose, one.identity || "–", one.serial, pill(kind, text)];
  }), "This server has no certificate: its port speaks plaintext.");
}

function draw(status) {
  last = status;
  cards(status);
  faults(status);
  services(status);
  graph(status);
  calls(status);
  clients(status);
  certificates(status);
}

async function look() {
  const state = byId("state");
  try {
    const answer = await fetch("status.json", { cache: "no-store" });
    if (!answer.ok) {
      throw new Error(`status ${answer.status}`);
    }
    draw(await answer.json());
    const text = last.serving ? "Live" : "The server drains: clients go elsewhere";
    if (state.textContent !== text) {
      state.textContent = text;
    }
    state.classList.remove("lost");
  } catch (error) {
    state.textContent = `The server does not answer (${error.message}); what is shown is old`;
    state.classList.add("lost");
  }
}

async function always() {
  if (!paused && !document.hidden) {
    await look();
  }
  setTimeout(always, EVERY);
}

byId("pause").addEventListener("click", () => {
  paused = !paused;
  byId("pause").setAttribute("aria-pressed", String(paused));
  byId("pause").textContent = paused ? "Go on" : "Pause";
  byId("state").textContent = paused ? "Paused" : "Live";
});
for (const id of ["filter", "troubled"]) {
  byId(id).addEventListener("input", () => last && clients(last));
}
always();
