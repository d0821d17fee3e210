// The node in a browser: what it and its programs use, what they say, and the buttons to start and stop them.
"use strict";
(() => {
// ---- small things

function el(name, attributes = {}, ...children) {
  const node = document.createElement(name);
  for (const [key, value] of Object.entries(attributes)) {
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (value !== false && value !== null && value !== undefined) node.setAttribute(key, value === true ? "" : value);
  }
  node.append(...children.flat().filter((child) => child !== null && child !== undefined && child !== false));
  return node;
}

const bytes = (n) => {
  const units = ["B", "KiB", "MiB", "GiB", "TiB"];
  let k = 0;
  while (n >= 1024 && k < units.length - 1) { n /= 1024; k += 1; }
  return `${n < 10 && k ? n.toFixed(1) : Math.round(n)} ${units[k]}`;
};
const span = (seconds) => seconds < 90 ? `${Math.round(seconds)} s` : seconds < 5400 ? `${Math.round(seconds / 60)} min` : seconds < 172800 ? `${Math.round(seconds / 3600)} h` : `${Math.round(seconds / 86400)} d`;
const clock = (ms) => new Date(ms).toLocaleTimeString([], { hour12: false });

// ---- the key and the node

// It comes behind the #, which no browser sends anywhere, and does not stay in the address line.
if (location.hash.length > 1) {
  sessionStorage.setItem("key", location.hash.slice(1));
  history.replaceState(null, "", location.pathname);
}

async function ask(method, path, body) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem("key") ?? ""}` };
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const response = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  if (!response.ok) {
    const said = await response.json().catch(() => ({ error: response.statusText }));
    throw Object.assign(new Error(said.error), { status: response.status });
  }
  return response;
}
const json = async (method, path, body) => (await ask(method, path, body)).json();

/** Calls `each` with every piece of a stream of text, until it ends or is given up. */
async function stream(path, signal, each) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem("key") ?? ""}` };
  const response = await fetch(path, { headers, signal });
  if (!response.ok) throw Object.assign(new Error((await response.json().catch(() => ({}))).error ?? response.statusText), { status: response.status });
  const reader = response.body.pipeThrough(new TextDecoderStream()).getReader();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    each(value);
  }
}

// ---- what is known

const SAMPLES = 600;
const samples = [];
let programs = [], members = [], status = null, chosen = null;

// ---- the page

const page = document.getElementById("page");
const figures = el("section", { class: "figures node", "aria-label": "The node" });
const verdict = el("p", { class: "verdict" }, "…");
const rows = el("tbody", {}), machines = el("tbody", {});
const happened = el("ol", { class: "happened", "aria-label": "What happened", reversed: true });
const said = el("p", { class: "said", role: "status" });
const logs = el("section", { class: "card", hidden: true });
const livePlots = el("div", { class: "live" });

function tell(text, bad = false) {
  said.textContent = text;
  said.classList.toggle("bad", bad);
}

const words = el("input", { name: "words", required: true, placeholder: "/usr/bin/python3 -m http.server", autocomplete: "off", spellcheck: "false" });
const name = el("input", { name: "name", placeholder: "after its file", autocomplete: "off", spellcheck: "false", size: 14 });
const restart = el("select", { name: "restart" }, ["never", "on-failure", "always"].map((r) => el("option", {}, r)));
const form = el("form", { class: "start", onsubmit: start },
  el("label", { class: "wide" }, "Program and words", words), el("label", {}, "Name", name), el("label", {}, "Start again", restart),
  el("button", {}, "Run"));

/** Words as a shell would take them apart, with quotes and backslashes and nothing else. */
function split(line) {
  const found = [];
  let word = null, quote = null;
  for (let k = 0; k < line.length; k += 1) {
    const c = line[k];
    if (quote) { if (c === quote) quote = null; else if (c === "\\" && quote === '"' && k + 1 < line.length) word += line[k += 1]; else word += c; continue; }
    if (c === "'" || c === '"') { quote = c; word ??= ""; continue; }
    if (/\s/.test(c)) { if (word !== null) found.push(word); word = null; continue; }
    word = (word ?? "") + (c === "\\" && k + 1 < line.length ? line[k += 1] : c);
  }
  if (quote) throw new Error(`there is no second ${quote}`);
  if (word !== null) found.push(word);
  return found;
}

async function start(event) {
  event.preventDefault();
  try {
    const done = await json("POST", "/api/v1/programs", { words: split(words.value), name: name.value || null, restart: restart.value });
    tell(`${done.name} runs`);
    form.reset();
    await refresh();
    choose(done.name);
  } catch (error) { tell(error.message, true); }
}

async function act(doing, method, path, program) {
  tell(`${doing} ${program} …`);
  try {
    await json(method, path);
    tell(`${doing} ${program}: done`);
    if (method === "DELETE" && chosen === program) choose(null);
  } catch (error) { tell(error.message, true); }
  await refresh();
}

const PHASES = {
  waiting: () => ["waits for its turn", "waiting"],
  running: () => ["running", "running"],
  stopping: () => ["stopping", "waiting"],
  pausing: (p) => [`ended with ${p.code}, starts again`, "waiting"],
  ended: (p) => p.code === null || p.code === undefined ? ["stopped", ""] : [`ended with ${p.code}`, p.code ? "failed" : ""],
};

const MACHINES = { alive: "running", suspect: "waiting", removed: "failed" };

function draw() {
  const last = samples[samples.length - 1];
  rows.replaceChildren(...programs.map((p) => {
    const [text, kind] = PHASES[p.phase](p), used = last?.programs[p.name], path = `/api/v1/programs/${encodeURIComponent(p.name)}`;
    const lives = p.phase !== "ended";
    return el("tr", { class: p.name === chosen ? "chosen" : "", "data-name": p.name },
      el("td", {}, el("b", {}, p.name), el("br"), el("code", {}, [p.program, ...p.arguments].join(" "))),
      el("td", {}, el("button", { class: `state ${kind}`, title: "why?", onclick: () => explain(p.name) }, text)),
      el("td", { class: "number" }, lives && used ? used.cores.toFixed(2) : "–"),
      el("td", { class: "number" }, lives && used ? bytes(used.memory_bytes) : "–"),
      el("td", { class: "number" }, String(p.starts)),
      el("td", { class: "do" },
        el("button", { "aria-pressed": p.name === chosen, onclick: () => choose(p.name === chosen ? null : p.name) }, "Log"),
        lives ? el("button", { onclick: () => act("stopping", "POST", `${path}/stop`, p.name) }, "Stop")
          : el("button", { onclick: () => act("forgetting", "DELETE", path, p.name) }, "Forget")));
  }));
  if (!programs.length) rows.replaceChildren(el("tr", {}, el("td", { colspan: 6 }, "No program yet. Start one below, or with ", el("code", {}, "cosmos run -d PROGRAM"), ".")));
  machines.replaceChildren(...members.map((m) => el("tr", { "data-machine": m.name },
    el("td", {}, el("b", {}, m.name), m.here && " (here)"),
    el("td", {}, m.here ? el("button", { class: `state ${MACHINES[m.state] ?? ""}`, title: "why?", onclick: () => explain(null) }, m.state)
      : el("span", { class: `state ${MACHINES[m.state] ?? ""}` }, m.state)),
    el("td", {}, el("code", {}, m.address ?? "–")),
    el("td", { class: "number" }, String(m.tile)),
    el("td", { class: "number" }, String(m.incarnation)),
    el("td", { class: "number" }, span(Math.max(0, Date.now() - m.since_ms) / 1000)))));
  if (!status) return;
  const figure = (value, unit, what, why) => el("div", { class: "figure" }, el("b", {}, value, unit && el("i", {}, unit)),
    why ? el("button", { class: "why", title: "why?", onclick: () => explain(null) }, what) : el("span", {}, what));
  figures.replaceChildren(
    figure(`${status.running}`, `of ${status.known}`, "programs running"),
    figure(last ? `${Math.round(last.busy * 100)}` : "–", "%", "of all cores in use"),
    figure(last ? last.temperature.celsius.toFixed(1) : "–", "°C", last?.temperature.source === "modelled" ? "processor, modelled" : "processor", true),
    figure(last ? `${Math.round(last.clock * 100)}` : "–", "%", "of the processor given to programs", true),
    figure(last ? bytes(last.memory_used_bytes) : "–", last && `of ${bytes(last.memory_total_bytes)}`, "memory in use"),
    figure(last ? bytes(last.node.memory_bytes) : "–", last && `${(last.node.cores * 100).toFixed(1)} %`, "the node itself, of a core"),
    figure(span(status.seconds), "", "since it started"));
}

async function refresh() {
  [{ programs }, { members }, status] = await Promise.all([json("GET", "/api/v1/programs"), json("GET", "/api/v1/members"), json("GET", "/api/v1/status")]);
  draw();
}

// ---- what a program says

const LOG_MAX = 1 << 18;
let reading = null;
function choose(program) {
  reading?.abort();
  chosen = program;
  logs.hidden = program === null;
  draw();
  if (program === null) return;
  const text = el("pre", { class: "log", tabindex: 0, "aria-label": `What ${program} says` }), end = el("p", { class: "quiet" });
  logs.replaceChildren(el("div", { class: "head" }, el("h2", {}, program, el("small", {}, "standard output and error, as they come")), el("button", { onclick: () => choose(null) }, "Close")), text, end);
  const mine = reading = new AbortController();
  stream(`/api/v1/programs/${encodeURIComponent(program)}/logs?follow=true`, mine.signal, (piece) => {
    const bottom = text.scrollTop + text.clientHeight > text.scrollHeight - 40;
    text.append(piece);
    if (text.textContent.length > LOG_MAX) text.textContent = text.textContent.slice(-LOG_MAX / 2);
    if (bottom) text.scrollTop = text.scrollHeight;
  }).then(() => { end.textContent = "It has ended."; }, (error) => { if (error.name !== "AbortError") end.textContent = error.message; });
}

// ---- why

const reasons = el("section", { class: "card", hidden: true, "aria-label": "Why" });
/** Why a program is as it is, or the machine if none is named: what was decided, and because of what. */
async function explain(program) {
  try {
    const why = await json("GET", program === null ? "/api/v1/why" : `/api/v1/programs/${encodeURIComponent(program)}/why`);
    const at = (number) => `decision-${number}`;
    reasons.replaceChildren(
      el("div", { class: "head" }, el("h2", {}, `Why: ${program ?? "this machine"}`), el("button", { onclick: () => { reasons.hidden = true; } }, "Close")),
      el("p", { class: "now" }, why.now),
      el("ol", { class: "happened decisions" }, why.decisions.toReversed().map((d) => el("li", { id: at(d.number), tabindex: -1 },
        el("time", {}, clock(d.unix_ms)), el("b", {}, d.action), el("span", {}, d.program && d.program !== program ? `${d.program}: ` : "", d.said,
          d.cause && [" ", el("button", { class: "why", onclick: () => document.getElementById(at(d.cause))?.focus() }, `because of #${d.cause}`)],
          el("small", {}, ` #${d.number}`))))));
    reasons.hidden = false;
    reasons.scrollIntoView({ block: "nearest" });
  } catch (error) { tell(error.message, true); }
}

// ---- what is used

const colour = (variable) => getComputedStyle(document.documentElement).getPropertyValue(variable).trim();
const PLOTS = [
  { title: "Processor", note: "cores in use", of: [["whole machine", "--accent", (s) => s.busy * cores()], ["programs", "--good", (s) => Object.values(s.programs).reduce((sum, p) => sum + p.cores, 0)]], value: (v) => v.toFixed(2) },
  { title: "Temperature", note: "°C", of: [["processor", "--mark", (s) => s.temperature.celsius], ["throttles at", "--limit", (s) => s.temperature.limit_celsius]], value: (v) => `${v.toFixed(1)} °C` },
  { title: "Memory", note: "of the machine, and of programs", of: [["whole machine", "--accent", (s) => s.memory_used_bytes], ["programs", "--good", (s) => Object.values(s.programs).reduce((sum, p) => sum + p.memory_bytes, 0)]], value: bytes, incrs: Array.from({ length: 44 }, (_, k) => 2 ** k) },
];
const cores = () => status?.cores ?? navigator.hardwareConcurrency;

function plots() {
  return PLOTS.map((plot) => {
    const host = el("div", { class: "plot-host" });
    const tag = el("span", { class: "tag", hidden: true }, "modelled: no sensor here");
    livePlots.append(el("section", { class: "card" }, el("h2", {}, plot.title, el("small", {}, plot.note), " ", tag), host));
    const options = () => ({
      width: host.clientWidth || 380, height: 190, padding: [8, 8, 0, 0], legend: { live: true },
      series: [{ value: (_, t) => t === null ? "–" : clock(t * 1000) }, ...plot.of.map(([label, variable]) => ({ label, stroke: colour(variable), width: 1.5, points: { show: false }, value: (_, v) => v === null || v === undefined ? "–" : plot.value(v) }))],
      axes: [{ stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, values: (_, ticks) => ticks.map((t) => clock(t * 1000)), space: 70 }, { stroke: colour("--soft"), grid: { stroke: colour("--line"), width: 1 }, size: 68, incrs: plot.incrs, values: (_, ticks) => ticks.map((v) => plot.value(v)) }],
      scales: { y: { range: (_, low, high) => [Math.min(0, low ?? 0), (high || 1) * 1.08] } },
    });
    let chart = null;
    return () => {
      tag.hidden = !(plot.title === "Temperature" && samples[samples.length - 1]?.temperature.source === "modelled");
      const data = [samples.map((s) => s.unix_ms / 1000), ...plot.of.map(([, , of]) => samples.map(of))];
      if (!chart) chart = new uPlot(options(), data, host);
      else {
        if (host.clientWidth && host.clientWidth !== chart.width) chart.setSize({ width: host.clientWidth, height: 190 });
        chart.setData(data);
      }
    };
  });
}

// ---- as it happens

async function watch(redraw) {
  let rest = "";
  await stream("/api/v1/live", undefined, (piece) => {
    rest += piece;
    let news = false, sampled = false;
    for (let end; (end = rest.indexOf("\n\n")) >= 0; rest = rest.slice(end + 2)) {
      const event = { event: "", data: "" };
      for (const line of rest.slice(0, end).split("\n")) {
        const colon = line.indexOf(":");
        if (colon > 0) event[line.slice(0, colon)] = line.slice(colon + 1).trimStart();
      }
      if (event.event === "sample") {
        samples.push(JSON.parse(event.data));
        if (samples.length > SAMPLES) samples.shift();
        sampled = true;
      } else if (event.event === "program") {
        const item = JSON.parse(event.data), now = item.phase ? PHASES[item.phase](item)[0] : "forgotten";
        const name = item.phase ? el("button", { class: "why", title: "why?", onclick: () => explain(item.name) }, item.name) : el("b", {}, item.name);
        happened.prepend(el("li", {}, el("time", {}, clock(item.unix_ms)), name, el("span", {}, now)));
        while (happened.children.length > 200) happened.lastChild.remove();
        news = true;
      }
    }
    if (sampled) redraw.forEach((each) => each());
    // Machines come and go without news of programs.
    if (news || sampled) refresh().catch(draw);
  });
}

function live(on, text) {
  verdict.className = `verdict ${on ? "good" : "bad"}`;
  verdict.replaceChildren(on ? "The node runs" : "No connection", el("span", {}, text));
}

async function begin() {
  document.title = `${location.host} · cosmOS node`;
  page.replaceChildren(
    el("header", {}, el("div", { class: "brand" }, "cosmOS node"), el("h1", {}, location.host), verdict),
    el("div", { class: "stack" }, figures, livePlots,
      el("section", { class: "card" }, el("h2", {}, "Programs"), el("div", { class: "scroll" }, el("table", { class: "programs" },
        el("thead", {}, el("tr", {}, ["Program", "State", "Cores", "Memory", "Starts", ""].map((h, k) => el("th", { class: k >= 2 && k <= 4 ? "number" : "" }, h)))), rows)), said),
      reasons, logs,
      el("section", { class: "card" }, el("h2", {}, "Run a program"), form),
      el("section", { class: "card" }, el("h2", {}, "Machines", el("small", {}, "of the fleet, as this node believes")), el("div", { class: "scroll" }, el("table", { class: "programs" },
        el("thead", {}, el("tr", {}, ["Machine", "State", "Address", "Tile", "Incarnation", "Since"].map((h, k) => el("th", { class: k >= 3 ? "number" : "" }, h)))), machines))),
      el("section", { class: "card" }, el("h2", {}, "What happened", el("small", {}, "to programs, the latest first")), happened)));
  const redraw = plots();
  for (;;) {
    try {
      await refresh();
      live(true, `cosmos ${status.version}, process ${status.process}`);
      samples.length = 0;
      happened.replaceChildren();
      await watch(redraw);
      live(false, "the node has ended");
    } catch (error) {
      live(false, error.status === 401 ? "`cosmos dashboard` prints the address with the key" : "the node does not answer; this page tries again");
      if (error.status === 401) return;
    }
    await new Promise((done) => setTimeout(done, 2000));
  }
}

begin();
})();
