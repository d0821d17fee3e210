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
/** A time of day; of a rehearsal, the time since its beginning. */
const clock = (ms) => {
  if (!status?.rehearsal) return new Date(ms).toLocaleTimeString([], { hour12: false });
  const days = Math.floor(ms / 86400000);
  return `${days ? `${days} d ` : ""}${new Date(ms).toISOString().slice(11, 19)}`;
};
const now = () => status?.rehearsal ? status.rehearsal.at_s * 1000 : Date.now();

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

/** Calls `each` with every piece of a stream of text and how many bytes it was, until the stream ends or is given up. */
async function stream(path, signal, each) {
  const headers = { Authorization: `Bearer ${sessionStorage.getItem("key") ?? ""}` };
  const response = await fetch(path, { headers, signal });
  if (!response.ok) throw Object.assign(new Error((await response.json().catch(() => ({}))).error ?? response.statusText), { status: response.status });
  const reader = response.body.getReader(), decoder = new TextDecoder();
  for (;;) {
    const { value, done } = await reader.read();
    if (done) return;
    each(decoder.decode(value, { stream: true }), value.length);
  }
}

// ---- what is known

const SAMPLES = 600;
const samples = [];
let programs = [], members = [], holons = [], status = null, chosen = null;
/** What the fleet runs, or why it cannot be known; nothing before anything was given to it. */
let affairs = null, unagreed = null;

// ---- the page

const page = document.getElementById("page");
const figures = el("section", { class: "figures machine", "aria-label": "The node" });
const verdict = el("p", { class: "verdict" }, "…");
const rows = el("tbody", {}), machines = el("tbody", {}), replicaRows = el("tbody", {});
const happened = el("ol", { class: "happened", "aria-label": "What happened", reversed: true });
const said = el("p", { class: "said", role: "status" });
const logs = el("section", { class: "card", hidden: true });
const livePlots = el("div", { class: "live" });
const map = fleetMap({ el, why: (machine) => explain(machine, "members") });
const find = el("input", { type: "search", placeholder: "Find a program", "aria-label": "Find a program", oninput: () => draw() });
const more = el("p", { class: "quiet" }), moreMachines = el("p", { class: "quiet" });

function tell(text, bad = false) {
  said.textContent = text;
  said.classList.toggle("bad", bad);
}

const words = el("input", { name: "words", required: true, placeholder: "/usr/bin/python3 -m http.server", autocomplete: "off", spellcheck: "false" });
const name = el("input", { name: "name", placeholder: "after its file", autocomplete: "off", spellcheck: "false", size: 14 });
const restart = el("select", { name: "restart" }, ["never", "on-failure", "always"].map((r) => el("option", {}, r)));
const replicas = el("input", { name: "replicas", type: "number", min: 1, max: 64, value: 1, required: true });
const many = el("label", { hidden: true }, "Replicas", replicas);
const where = el("select", { name: "where", onchange: () => { many.hidden = where.value !== "fleet"; } }, el("option", { value: "here" }, "on this machine"), el("option", { value: "fleet" }, "in the fleet"));
const form = el("form", { class: "start", onsubmit: start, onreset: () => { many.hidden = true; } },
  el("label", { class: "wide" }, "Program and words", words), el("label", {}, "Name", name), el("label", {}, "Start again", restart), el("label", {}, "Where", where), many,
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
    const program = { words: split(words.value), name: name.value || null, restart: restart.value };
    if (where.value === "fleet") {
      const done = await json("POST", "/api/v1/fleet/programs", { program, replicas: Number(replicas.value) });
      tell(`the fleet runs ${done.name}`);
      form.reset();
      return await refresh();
    }
    const done = await json("POST", "/api/v1/programs", program);
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

const MACHINES = { alive: "running", suspect: "waiting", parked: "waiting", removed: "failed", dark: "failed" };
/** So many rows are drawn; the rest is found by typing, or on the map. */
const ROWS_MAX = 100, MACHINES_MAX = 64;

/** Keeps the rows of a table. A row is made anew only when what it is made of changed, so that whoever is in it with the keyboard stays there. */
function table(body, columns, empty, make, numbers) {
  const known = new Map();
  return (items, key, shape) => {
    const rows = items.map((item) => {
      const name = key(item), now = JSON.stringify(shape(item));
      let row = known.get(name);
      if (row?.shape !== now) known.set(name, row = { shape: now, tr: make(item) });
      const cells = row.tr.querySelectorAll("td.number");
      numbers(item).forEach((text, k) => { if (cells[k].textContent !== text) cells[k].textContent = text; });
      return row.tr;
    });
    if (!rows.length) rows.push(el("tr", {}, el("td", { colspan: columns }, empty())));
    const there = new Set(items.map(key));
    for (const name of known.keys()) if (!there.has(name)) known.delete(name);
    if (rows.length !== body.children.length || rows.some((row, k) => body.children[k] !== row)) {
      const focused = document.activeElement;
      body.replaceChildren(...rows);
      if (body.contains(focused)) focused.focus({ preventScroll: true });
    }
  };
}

const numbers = (n) => Array.from({ length: n }, () => el("td", { class: "number" }));
const drawPrograms = table(rows, 6, () => find.value ? `No program here is called ${JSON.stringify(find.value)}.` : status?.rehearsal ? "No job is here now." : ["No program yet. Start one below, or with ", el("code", {}, "cosmos run -d PROGRAM"), "."], (p) => {
  const [text, kind] = PHASES[p.phase](p), path = `/api/v1/programs/${encodeURIComponent(p.name)}`, lives = p.phase !== "ended";
  return el("tr", { class: p.name === chosen ? "chosen" : "", "data-name": p.name },
    el("td", {}, el("b", {}, p.name), el("br"), el("code", {}, [p.program, ...p.arguments].join(" "))),
    el("td", {}, el("button", { class: `state ${kind}`, title: "why?", onclick: () => explain(p.name) }, text)),
    numbers(3),
    el("td", { class: "do" }, !status?.rehearsal && [
      el("button", { "aria-pressed": String(p.name === chosen), onclick: () => choose(p.name === chosen ? null : p.name) }, "Log"),
      lives ? el("button", { onclick: () => act("stopping", "POST", `${path}/stop`, p.name) }, "Stop")
        : el("button", { onclick: () => act("forgetting", "DELETE", path, p.name) }, "Forget")]));
}, (p) => {
  const used = p.phase !== "ended" && samples[samples.length - 1]?.programs[p.name];
  return [used ? used.cores.toFixed(2) : "–", used ? bytes(used.memory_bytes) : "–", String(p.starts)];
});

const STANDING = { running: "running", starting: "waiting", restarting: "waiting", stopping: "waiting", waiting: "waiting", ended: "" };
/** A row for each replica; of what was stopped, one that says so. */
const shared = () => affairs.programs.flatMap((program) => program.standing.length
  ? program.standing.map((replica, k) => ({ ...replica, name: `${program.name}~${replica.replica}`, program, first: k === 0 }))
  : [{ name: program.name, program, first: true, state: program.replicas ? "waiting" : "stopped", machine: null, addresses: [] }]);
const drawShared = table(replicaRows, 5, () => "The fleet runs nothing.", (r) => {
  const path = `/api/v1/fleet/programs/${encodeURIComponent(r.program.name)}`, over = r.program.standing.every((one) => one.state === "ended");
  return el("tr", { class: r.name === chosen ? "chosen" : "", "data-replica": r.name },
    el("td", {}, el("b", {}, r.name), r.first && r.program.replicas > 1 && el("small", { class: "quiet" }, ` of ${r.program.replicas}`)),
    el("td", {}, el("button", { class: `state ${STANDING[r.state] ?? ""}`, title: "why?", onclick: () => explainShared(r) }, r.state), r.because && el("small", { class: "quiet" }, ` ${r.because}`)),
    el("td", { class: "at" }, r.machine ?? "–"), el("td", {}, r.addresses.length > 0 && el("code", {}, r.addresses.join(" "))),
    el("td", { class: "do" }, r.machine && el("button", { "aria-pressed": String(r.name === chosen), onclick: () => choose(r.name === chosen ? null : r.name, r.machine) }, "Log"),
      r.first && (over ? el("button", { onclick: () => act("forgetting", "DELETE", path, r.program.name) }, "Forget")
        : el("button", { onclick: () => act("stopping", "POST", `${path}/stop`, r.program.name) }, r.program.replicas > 1 ? "Stop all" : "Stop"))));
}, () => []);

const drawMachines = table(machines, 7, () => "No machine is known.", (m) => el("tr", { "data-machine": m.name },
  el("td", {}, el("b", {}, m.name), m.here && " (here)"),
  el("td", {}, el("button", { class: `state ${MACHINES[m.state] ?? ""}`, title: "why?", onclick: () => explain(m.name, "members") }, m.state)),
  numbers(3), el("td", {}, el("code", {}, m.address ?? holons[m.holon]?.name ?? "–")), numbers(1)),
(m) => {
  const v = WELL.has(m.state) ? m.vitals : null;
  return [v ? `${v.temperature.celsius.toFixed(1)} °C` : "–", v ? `${Math.round(v.busy * 100)} %` : "–", v ? String(v.leases) : "–", span(Math.max(0, now() - m.since_ms) / 1000)];
});
const WELL = new Set(["alive", "suspect", "parked"]);

/** While something is pressed nothing is drawn: a button that is taken away between press and release is not clicked. */
let pressed = false, undrawn = false;
const untold = [];
const PRESSED_MAX_MS = 10_000;
let release;
function hold() {
  pressed = true;
  clearTimeout(release);
  release = setTimeout(letGo, PRESSED_MAX_MS);
}
function letGo() {
  clearTimeout(release);
  pressed = false;
  untold.splice(0).forEach(tellOf);
  if (undrawn) draw();
}
/** Something happened to a program. */
function tellOf(item) {
  if (pressed) return untold.push(item);
  const now = item.phase ? PHASES[item.phase](item)[0] : "forgotten";
  const name = item.phase ? el("button", { class: "why", title: "why?", onclick: () => explain(item.name) }, item.name) : el("b", {}, item.name);
  if (happened.firstChild?.classList.contains("none")) happened.replaceChildren();
  happened.prepend(el("li", {}, el("time", {}, clock(item.unix_ms)), name, el("span", {}, now)));
  while (happened.children.length > 200) happened.lastChild.remove();
}
addEventListener("pointerdown", hold, true);
// What is clicked hears of it after the release.
for (const end of ["pointerup", "pointercancel"]) addEventListener(end, () => { clearTimeout(release); release = setTimeout(letGo, 50); }, true);

function draw() {
  undrawn = pressed;
  if (pressed) return;
  const last = samples[samples.length - 1], wanted = find.value.trim().toLowerCase();
  const text = (p) => `${p.name} ${p.program} ${p.arguments.join(" ")} ${PHASES[p.phase](p)[0]}`.toLowerCase();
  const found = wanted ? programs.filter((p) => text(p).includes(wanted)) : programs;
  drawPrograms(found.slice(0, ROWS_MAX), (p) => p.name, (p) => [p.phase, p.code, p.arguments, p.name === chosen, !!status?.rehearsal]);
  more.textContent = found.length > ROWS_MAX ? `${found.length - ROWS_MAX} more of ${programs.length}: type to find them.` : "";
  fleetCard.hidden = !affairs?.programs.length && !unagreed;
  fleetSaid.textContent = unagreed ?? "";
  if (affairs) {
    drawShared(shared(), (r) => r.name, (r) => [r, chosen === r.name]);
    const agreed = affairs.decisions.slice(-50).toReversed(), latest = String(agreed[0]?.at);
    if (agreedList.dataset.latest !== latest) {
      agreedList.dataset.latest = latest;
      agreedList.replaceChildren(...agreed.map((d) => el("li", {}, el("span", {}, d.sentence, el("small", { class: "quiet" }, ` entry ${d.at}`)))));
    }
  }
  const rank = (m) => ({ alive: 2, suspect: 1, parked: 3 })[m.state] ?? 0;
  const margin = (m) => m.vitals ? m.vitals.temperature.limit_celsius - m.vitals.temperature.celsius : Infinity;
  const worst = members.length <= MACHINES_MAX ? members : members.toSorted((a, b) => rank(a) - rank(b) || margin(a) - margin(b)).slice(0, MACHINES_MAX);
  drawMachines(worst, (m) => m.name, (m) => [m.state, m.address, m.here, m.holon]);
  moreMachines.textContent = members.length > MACHINES_MAX ? `${members.length - MACHINES_MAX} more are on the map. Here are those that are not well, then those closest to their limits.` : "";
  if (!status) return;
  const figure = (value, unit, what, why) => el("div", { class: "figure" }, el("b", {}, value, unit && el("i", {}, unit)),
    why ? el("button", { class: "why", title: "why?", onclick: () => explain(null) }, what) : el("span", {}, what));
  const rehearsed = status.rehearsal, { power } = status.atmosphere;
  drawParts();
  const made = JSON.stringify([status.running, status.known, last?.number, Math.round(status.seconds)]);
  if (figures.dataset.made === made) return;
  figures.dataset.made = made;
  const focused = [...figures.querySelectorAll("button")].indexOf(document.activeElement);
  figures.replaceChildren(...[
    figure(`${status.running}`, `of ${status.known}`, rehearsed ? "jobs running, of those here" : "programs running"),
    figure(last ? `${Math.round(last.busy * 100)}` : "–", "%", rehearsed ? `of ${status.cores} GPUs claimed` : "of all cores in use"),
    figure(last ? last.temperature.celsius.toFixed(1) : "–", "°C", rehearsed ? "closest to its limit, modelled" : last?.temperature.source === "modelled" ? "processor, modelled" : "processor", true),
    !rehearsed && power && figure(power.watts.toFixed(0), "W", power.source === "modelled" ? "it draws, modelled" : "it draws"),
    figure(last ? `${Math.round(last.clock * 100)}` : "–", "%", rehearsed ? "of full clock, of what is claimed" : "of the processor given to programs", true),
    figure(last ? bytes(last.memory_used_bytes) : "–", last && `of ${bytes(last.memory_total_bytes)}`, rehearsed ? "memory claimed" : "memory in use"),
    !rehearsed && figure(last ? bytes(last.node.memory_bytes) : "–", last && `${(last.node.cores * 100).toFixed(1)} %`, "the node itself, of a core"),
    figure(rehearsed ? clock(now()) : span(status.seconds), rehearsed ? `of ${span(rehearsed.end_s)}` : "", rehearsed ? `since its beginning, ${rehearsed.pace} × the clock` : "since it started")].filter(Boolean));
  if (focused >= 0) figures.querySelectorAll("button")[focused]?.focus({ preventScroll: true });
}

const HOW = { measured: ["measured", "running"], modelled: ["modelled", "waiting"], "in-force": ["in force", "running"], none: ["none", ""] };
/** What of the machine is read and what can be set, and by what. */
function drawParts() {
  const { sensors, actuators, gpus, frequency_mhz: mhz } = status.atmosphere, now = JSON.stringify(status.atmosphere);
  if (partRows.dataset.made === now) return;
  partRows.dataset.made = now;
  const number = (value, unit) => value === null ? "–" : `${value.toFixed(0)} ${unit}`;
  const row = (role) => (part) => el("tr", { "data-part": `${role} ${part.what}` }, el("td", {}, part.what, el("small", { class: "quiet" }, ` ${role}`)), el("td", {}, el("span", { class: `state ${HOW[part.how][1]}` }, HOW[part.how][0])),
    el("td", {}, part.what === "frequency" && role === "sensor" && mhz !== null && `${mhz.toFixed(0)} MHz, `, part.by));
  partRows.replaceChildren(...sensors.map(row("sensor")), ...actuators.map(row("actuator")), ...gpus.map((gpu) => el("tr", {}, el("td", {}, gpu.name, el("br"), el("code", {}, gpu.uuid)), el("td", {}, number(gpu.celsius, "°C")),
    el("td", {}, `slowed at ${number(gpu.slowdown_celsius, "°C")}; draws ${number(gpu.watts, "W")} of ${number(gpu.limit_watts, "W")}; ${number(gpu.busy === null ? null : gpu.busy * 100, "%")} busy`))));
}

let asking = null;
/** Asks how everything is. Programs are asked for only when something happened to one, because there may be many of them. */
async function refresh(all = true) {
  // Who is asked already is not asked again before it has answered.
  if (asking && !all) return asking;
  const mine = asking = (async () => {
    const [there, how, listed] = await Promise.all([json("GET", "/api/v1/members"), json("GET", "/api/v1/status"), all ? json("GET", "/api/v1/programs") : null]);
    ({ members, holons } = there);
    status = how;
    if (listed) ({ programs } = listed);
    dress();
    map.show(there);
    draw();
    // Where nothing was ever given to the fleet there is nothing to ask its voters for; and nobody else waits for them.
    if (status.fleet?.council && !status.rehearsal) agree();
  })();
  try { await mine; } finally { if (asking === mine) asking = null; }
}

let agreeing = false;
/** Asks the fleet's voters what they agreed on, once at a time: without a majority they take seconds to say so. */
async function agree() {
  if (agreeing) return;
  agreeing = true;
  try {
    affairs = await json("GET", "/api/v1/fleet/programs");
    unagreed = null;
  } catch (error) { unagreed = error.message; }
  agreeing = false;
  draw();
}

// ---- what a program says

const LOG_MAX = 1 << 18;
let reading = null;
/** Shows what a program says; of a replica of the fleet's, wherever it is, and wherever it goes from there. */
function choose(program, machine = null) {
  reading?.abort();
  chosen = program;
  logs.hidden = program === null;
  draw();
  if (program === null) return;
  const text = el("pre", { class: "log", tabindex: 0, "aria-label": `What ${program} says` }), end = el("p", { class: "quiet" });
  logs.replaceChildren(el("div", { class: "head" }, el("h2", {}, program, el("small", {}, "standard output and error, as they come")), el("button", { onclick: () => choose(null) }, "Close")), text, end);
  const mine = reading = new AbortController();
  const hear = (piece) => {
    const bottom = text.scrollTop + text.clientHeight > text.scrollHeight - 40;
    text.append(piece);
    if (text.textContent.length > LOG_MAX) text.textContent = text.textContent.slice(-LOG_MAX / 2);
    if (bottom) text.scrollTop = text.scrollHeight;
  };
  const known = () => machine === null ? programs.find((p) => p.name === program) : shared().find((r) => r.name === program);
  const path = `/programs/${encodeURIComponent(program)}/logs?follow=true`, on = (at) => machine === null ? "" : `/members/${encodeURIComponent(at)}`;
  // A stream ends after some minutes also where more is to be said, and is asked for again from there.
  const follow = async () => {
    let from = 0, fence;
    do {
      const now = known();
      if (machine === null || now.machine) {
        if (fence !== undefined && now.fence !== fence) { from = 0; hear(`\n— on ${now.machine} —\n`); }
        ({ fence } = now);
        if (machine !== null) end.textContent = `On ${now.machine}.`;
        const read = stream(`/api/v1${on(now.machine)}${path}&from=${from}`, mine.signal, (piece, length) => { from += length; hear(piece); });
        // A machine that has died does not answer, and then is one on which nothing runs any more.
        await read.catch((error) => { if (machine === null || error.name === "AbortError") throw error; end.textContent = error.message; });
      }
      await new Promise((done) => setTimeout(done, 500));
      await refresh();
    } while (known() && !["ended", "stopped"].includes(known().phase ?? known().state));
    return "It has ended.";
  };
  follow().then((over) => { end.textContent = over; }, (error) => { if (error.name !== "AbortError") end.textContent = error.message; });
}

// ---- why

const reasons = el("section", { class: "card", hidden: true, "aria-label": "Why" });
/** Why a program or a machine is as it is, or this machine if none is named: what was decided, and because of what. */
async function explain(program, kind = "programs") {
  try {
    showWhy(program, await json("GET", program === null ? "/api/v1/why" : `/api/v1/${kind}/${encodeURIComponent(program)}/why`));
  } catch (error) { tell(error.message, true); }
}
function showWhy(program, why) {
  const at = (number) => `decision-${number}`;
  reasons.replaceChildren(...[
    el("div", { class: "head" }, el("h2", { tabindex: -1 }, `Why: ${program ?? (status?.rehearsal ? "the whole site" : "this machine")}`), el("button", { onclick: () => { reasons.hidden = true; } }, "Close")),
    el("p", { class: "now" }, why.now),
    why.fleet && el("pre", { class: "rests" }, why.fleet.text),
    el("ol", { class: "happened decisions" }, why.decisions.toReversed().map((d) => el("li", { id: at(d.number), tabindex: -1 },
      el("time", {}, clock(d.unix_ms)), el("b", {}, d.action), el("span", {}, d.program && d.program !== program ? `${d.program}: ` : "", d.said,
        d.cause && [" ", el("button", { class: "why", onclick: () => document.getElementById(at(d.cause))?.focus() }, `because of #${d.cause}`)],
        el("small", {}, ` #${d.number}`))))),
    why.decisions.length === 0 && el("p", { class: "quiet" }, "Nothing was decided about it that is kept."),
    why.agreed?.length > 0 && [el("h3", {}, "What the fleet agreed on about it"), el("ol", { class: "happened decisions" }, why.agreed.toReversed().map((d) => el("li", {}, el("span", {}, d.sentence, el("small", {}, ` entry ${d.at}`)))))],
    why.earlier && [el("h3", {}, `What happened here, on ${why.earlier.machine}`), el("p", { class: "now" }, why.earlier.now),
      el("ol", { class: "happened decisions" }, why.earlier.decisions.toReversed().map((d) => el("li", {}, el("span", {}, d.said))))]].flat().filter(Boolean));
  reasons.hidden = false;
  reasons.scrollIntoView({ block: "nearest" });
  reasons.querySelector("h2").focus({ preventScroll: true });
}
/** Why a replica of the fleet's is as it is: what its machine says, if it can be asked, and what was agreed on about it. */
async function explainShared(replica) {
  const about = (d) => [replica.name, replica.program.name].some((name) => d.sentence.startsWith(`${name} `));
  const agreed = affairs.decisions.filter(about), at = replica.machine, none = (error) => ({ now: `it is ${replica.state}; ${error.message}`, decisions: [] });
  const there = at && json("GET", `/api/v1/members/${encodeURIComponent(at)}/programs/${encodeURIComponent(replica.name)}/why`).catch(none);
  const [why, own] = await Promise.all([json("GET", `/api/v1/fleet/programs/${encodeURIComponent(replica.name)}/why`).catch(none), there]);
  showWhy(replica.name, { ...why, decisions: own?.decisions ?? [], agreed });
}

// ---- what is used

const colour = (variable) => getComputedStyle(document.documentElement).getPropertyValue(variable).trim();
const PLOTS = [
  { title: "Processor", note: "cores in use", of: [["whole machine", "--accent", (s) => s.busy * cores()], ["programs", "--good", (s) => s.together.cores]], value: (v) => v.toFixed(2) },
  { title: "Temperature", note: "°C", of: [["processor", "--mark", (s) => s.temperature.celsius], ["throttles at", "--limit", (s) => s.temperature.limit_celsius]], value: (v) => `${v.toFixed(1)} °C` },
  { title: "Memory", note: "of the machine, and of programs", of: [["whole machine", "--accent", (s) => s.memory_used_bytes], ["programs", "--good", (s) => s.together.memory_bytes]], value: bytes, incrs: Array.from({ length: 60 }, (_, k) => 2 ** k) },
];
const cores = () => status?.cores ?? navigator.hardwareConcurrency;
/** The same of a rehearsal, in its words. */
const REHEARSED = [["GPUs", "claimed, and what they do at full clock", ["claimed", "work"]], ["Temperature", "°C", ["closest to its limit", "throttles at"]], ["Memory", "claimed", ["site", "jobs"]]];

function plots() {
  return PLOTS.map((plot, n) => {
    const [title, note, labels] = status.rehearsal ? REHEARSED[n] : [plot.title, plot.note, plot.of.map(([label]) => label)];
    const host = el("div", { class: "plot-host" });
    const tag = el("span", { class: "tag", hidden: true }, "modelled");
    livePlots.append(el("section", { class: "card" }, el("h2", {}, title, el("small", {}, note), " ", tag), host));
    const options = () => ({
      width: host.clientWidth || 380, height: 190, padding: [8, 8, 0, 0], legend: { live: true },
      series: [{ value: (_, t) => t === null ? "–" : clock(t * 1000) }, ...plot.of.map(([, variable], k) => ({ label: labels[k], stroke: colour(variable), width: 1.5, points: { show: false }, value: (_, v) => v === null || v === undefined ? "–" : plot.value(v) }))],
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
        tellOf(JSON.parse(event.data));
        news = true;
      }
    }
    if (sampled) redraw.forEach((each) => each());
    // Machines come and go without news of programs.
    if (news || sampled) refresh(news || samples.length % 8 === 1).catch(draw);
  });
}

function live(on, text) {
  verdict.className = `verdict ${on ? "good" : "bad"}`;
  const said = on ? status?.rehearsal ? "The rehearsal runs" : "The node runs" : "No connection";
  verdict.replaceChildren(said, el("span", {}, text));
  page.classList.toggle("stale", !on);
  page.classList.toggle("unknown", !status);
}

/** What the page is about is known once it has been told. */
function dress() {
  const rehearsed = status.rehearsal;
  document.body.classList.toggle("rehearsed", !!rehearsed);
  document.title = rehearsed ? `${rehearsed.universe} · cosmOS rehearsal` : `${status.fleet.name} · cosmOS node`;
  brand.textContent = rehearsed ? "cosmOS rehearsal" : "cosmOS node";
  title.textContent = rehearsed ? rehearsed.universe : status.fleet.name;
  intent.textContent = rehearsed ? rehearsed.intent : "";
  programsTitle.textContent = rehearsed ? "Jobs" : "Programs";
  unit.textContent = rehearsed ? "GPUs" : "Cores";
  const late = rehearsed?.behind_s >= 2 * rehearsed?.pace ? `, ${span(rehearsed.behind_s)} behind` : "";
  live(true, rehearsed ? `seed ${rehearsed.seed}, ${rehearsed.pace} × the clock${rehearsed.at_s >= rehearsed.end_s ? ", over" : late}` : `cosmos ${status.version}, process ${status.process}, ${location.host}`);
}
const programsTitle = el("h2", {}, "Programs"), unit = el("span", {}, "Cores");
const brand = el("div", { class: "brand" }, "cosmOS"), title = el("h1", {}, location.host), intent = el("p", { class: "intent" });

const heads = (names) => el("thead", {}, el("tr", {}, names.map(([h, number]) => el("th", { scope: "col", class: number ? "number" : "" }, h))));
const fleetSaid = el("p", { class: "quiet" }), agreedList = el("ol", { class: "happened decisions" });
const fleetCard = el("section", { class: "card", hidden: true, "aria-label": "What the fleet runs" }, el("h2", {}, "What the fleet runs", el("small", {}, "wherever it placed it")),
  el("div", { class: "scroll", tabindex: 0 }, el("table", { class: "programs" }, heads([["Replica"], ["State"], ["Machine"], ["Reached at"], [""]]), replicaRows)),
  fleetSaid, el("details", {}, el("summary", {}, "What was agreed on, the latest first"), agreedList));
const partRows = el("tbody", {});

async function begin() {
  document.title = `${location.host} · cosmOS`;
  happened.append(el("li", { class: "none" }, "Nothing yet."));
  page.classList.add("unknown");
  page.replaceChildren(
    el("header", {}, brand, title, intent, verdict),
    el("div", { class: "stack" }, figures, map.card, reasons, livePlots,
      el("section", { class: "card" }, el("div", { class: "head" }, programsTitle, find), el("div", { class: "scroll", tabindex: 0 }, el("table", { class: "programs" },
        heads([["Program"], ["State"], [unit, 1], ["Memory", 1], ["Starts", 1], [""]]), rows)), more, said),
      fleetCard,
      logs,
      el("section", { class: "card not-rehearsed" }, el("h2", {}, "Run a program"), form),
      el("section", { class: "card" }, el("h2", {}, "Machines", el("small", {}, "of the fleet, as this node believes")), el("div", { class: "scroll", tabindex: 0 }, el("table", { class: "programs" },
        heads([["Machine"], ["State"], ["Heat", 1], ["Load", 1], ["Leases", 1], ["Where"], ["Since", 1]]), machines)), moreMachines),
      el("section", { class: "card not-rehearsed" }, el("h2", {}, "Sensors and actuators", el("small", {}, "of this machine")), el("div", { class: "scroll", tabindex: 0 }, el("table", { class: "programs" }, heads([["What"], ["How"], ["By"]]), partRows))),
      el("section", { class: "card" }, el("h2", {}, "What happened", el("small", {}, "to programs, the latest first")), happened)));
  let redraw = null;
  for (;;) {
    try {
      await refresh();
      redraw ??= plots();
      samples.length = 0;
      happened.replaceChildren(el("li", { class: "none" }, "Nothing yet."));
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
