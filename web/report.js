// The pages of a run, a comparison, a sweep and of placement policies. No library, no request: data
// comes from the script element beside this one. Text reaches the page as text nodes only.
// What a cluster has besides is in cluster.js, curves of placement policies in curves.js; the three
// are one script, and report.html starts it.
const data = JSON.parse(document.getElementById("data").textContent);
const page = document.getElementById("page");
const SVG = document.getElementById("svg").namespaceURI;
const dark = matchMedia("(prefers-color-scheme: dark)");
const narrow = matchMedia("(max-width: 900px)");

// Elements

function fill(node, attributes, children) {
  for (const [key, value] of Object.entries(attributes || {})) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith("on")) node.addEventListener(key.slice(2), value);
    else if (key === "style") node.style.cssText = value;
    else node.setAttribute(key, value === true ? "" : value);
  }
  for (const child of children.flat(Infinity)) {
    if (child !== null && child !== undefined && child !== false) node.append(child);
  }
  return node;
}
const el = (tag, attributes, ...children) => fill(document.createElement(tag), attributes, children);
const svg = (tag, attributes, ...children) => fill(document.createElementNS(SVG, tag), attributes, children);

// Numbers as people read them

const known = (v) => typeof v === "number" && Number.isFinite(v);
const plain = (v, digits = 3) => known(v)
  ? v.toLocaleString("en", Math.abs(v) >= 1000 ? { maximumFractionDigits: 0 } : { maximumSignificantDigits: digits })
  : "–";
const fixed = (v, digits) => known(v)
  ? v.toLocaleString("en", { minimumFractionDigits: digits, maximumFractionDigits: digits }) : "–";
function scaled(v, base, units) {
  if (!known(v)) return ["–", ""];
  let unit = 0;
  while (Math.abs(v) >= base * (unit ? 0.9995 : 1) && unit < units.length - 1) { v /= base; unit += 1; }
  return [unit || !Number.isInteger(v) ? v.toPrecision(3) : v.toString(), units[unit]];
}
const count = (v) => known(v) && Math.abs(v) < 100000 ? [Math.round(v).toLocaleString("en"), ""]
  : scaled(v, 1000, ["", "thousand", "million", "billion", "trillion"]);
const bytes = (v) => scaled(v, 1000, ["B", "kB", "MB", "GB", "TB"]);
const percent = (v, digits = 1) => known(v) ? `${fixed(v * 100, digits)} %` : "–";
// A share of which the first digits matter, however small it is.
const share = (v) => known(v) ? `${v > 0 && v < 1e-5 ? (v * 100).toExponential(0).replace("e-", " × 10⁻").replace(/\d+$/, (d) => d.replace(/\d/g, (n) => "⁰¹²³⁴⁵⁶⁷⁸⁹"[n])) : plain(v * 100, 2)} %` : "–";
function duration(s) {
  if (!known(s)) return "–";
  if (s !== 0 && Math.abs(s) < 1) return s < 1e-3 ? `${plain(s * 1e6)} µs` : `${plain(s * 1e3)} ms`;
  if (s < 120) return `${plain(s)} s`;
  const parts = [["y", 31557600], ["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
  const first = parts.findIndex(([, size]) => s >= size);
  let left = Math.round(s / (parts[first + 1] || [0, 1])[1]) * (parts[first + 1] || [0, 1])[1];
  const said = [];
  for (const [unit, size] of parts.slice(first, first + 2)) {
    const whole = Math.floor(left / size + 1e-9);
    left -= whole * size;
    if (whole) said.push(`${whole} ${unit}`);
  }
  return said.join(" ");
}
const words = (name) => { const text = name.replaceAll("_", " "); return text.charAt(0).toUpperCase() + text.slice(1); };

// Colours, computed in OKLCH: lightness always rises, so that the order survives
// any colour blindness and a black-and-white printer.

function oklch(lightness, chroma, degrees) {
  const a = chroma * Math.cos(degrees * Math.PI / 180), b = chroma * Math.sin(degrees * Math.PI / 180);
  const l = (lightness + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (lightness - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (lightness - 0.0894841775 * a - 1.2914855480 * b) ** 3;
  const channel = (v) => Math.round(255 * Math.min(1, Math.max(0, v <= 0.0031308 ? 12.92 * v : 1.055 * v ** (1 / 2.4) - 0.055)));
  return `rgb(${channel(4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s)},` +
    `${channel(-1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s)},` +
    `${channel(-0.0041960863 * l - 0.7034186147 * m + 1.7076147010 * s)})`;
}
// Cold indigo through magenta and orange to yellow at the limit.
const HEAT = Array.from({ length: 256 }, (_, i) => {
  const t = i / 255;
  return oklch(0.27 + 0.61 * t, 0.09 + 0.12 * Math.sin(Math.PI * Math.min(1, t * 1.15)) + 0.03 * t, 275 + 183 * t ** 1.05);
});
const heat = (t) => HEAT[Math.max(0, Math.min(255, Math.round(t * 255)))];
function groupColours(n) {
  if (n === 1) return [dark.matches ? "rgb(126,162,255)" : "rgb(47,95,208)"];
  const [low, high] = dark.matches ? [0.56, 0.9] : [0.34, 0.76];
  return Array.from({ length: n }, (_, i) => {
    const t = i / (n - 1);
    return oklch(low + (high - low) * t, 0.15, 305 - 205 * t);
  });
}
const runColours = () => dark.matches
  ? ["rgb(94,170,255)", "rgb(255,170,80)", "rgb(110,220,170)", "rgb(230,140,220)"]
  : ["rgb(0,96,190)", "rgb(200,95,0)", "rgb(0,125,90)", "rgb(160,50,140)"];

// Time and its ticks

const STEPS = [0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600,
  7200, 10800, 21600, 43200, 86400, 172800, 432000, 864000, 2592000, 7776000, 31557600, 63115200, 157788000, 315576000];
function timeTicks(from, to, room) {
  const step = STEPS.find((s) => (to - from) / s <= room) || (to - from) / room;
  const ticks = [];
  for (let t = Math.ceil(from / step - 1e-9) * step; t <= to + step * 1e-9; t += step) ticks.push(Math.abs(t) < step * 1e-9 ? 0 : t);
  const label = (t) => {
    if (step >= 31557600) return `${plain(t / 31557600)} y`;
    if (step >= 86400) return `${plain(t / 86400)} d`;
    if (step >= 3600 && to <= 172800 * 2) return `${plain(t / 3600)} h`;
    if (step >= 3600) return t % 86400 ? `${Math.floor(t / 86400)} d ${Math.round(t % 86400 / 3600)} h` : `${t / 86400} d`;
    if (step >= 60 && to >= 7200) return `${Math.floor(t / 3600 + 1e-9)}:${String(Math.round(t % 3600 / 60)).padStart(2, "0")} h`;
    if (step >= 60) return `${Math.round(t / 60)} min`;
    return `${plain(t)} s`;
  };
  return ticks.map((t) => [t, label(t)]);
}
function valueTicks(low, high, room) {
  const rough = (high - low) / room, power = 10 ** Math.floor(Math.log10(rough));
  const step = [1, 2, 2.5, 5, 10].map((m) => m * power).find((s) => s >= rough * 0.999);
  const ticks = [];
  for (let v = Math.ceil(low / step - 1e-9) * step; v <= high + step * 1e-9; v += step) ticks.push(Math.abs(v) < step * 1e-9 ? 0 : v);
  return ticks;
}
// The index of the last sample not after `t`, or the nearest one.
function nearest(seconds, t) {
  let low = 0, high = seconds.length - 1;
  while (low < high) {
    const middle = (low + high) >> 1;
    if (seconds[middle] < t) low = middle + 1; else high = middle;
  }
  return low > 0 && t - seconds[low - 1] < seconds[low] - t ? low - 1 : low;
}

// Calls back when a node's width changes. A strut is observed rather than the
// node: drawing changes the node's height, and would be called for it again.
function onWidth(node, then) {
  const strut = el("div", { "aria-hidden": "true" });
  node.append(strut);
  new ResizeObserver(then).observe(strut);
}

// Tooltip

const tip = el("div", { id: "tip", hidden: true, role: "status" });
document.body.append(tip);
function showTip(x, y, ...content) {
  tip.replaceChildren(...content.flat(Infinity).filter(Boolean));
  tip.hidden = false;
  if (narrow.matches) return;
  const box = tip.getBoundingClientRect();
  const left = x + 18 + box.width > innerWidth ? x - 18 - box.width : x + 18;
  tip.style.left = `${Math.max(4, left)}px`;
  tip.style.top = `${Math.max(4, Math.min(innerHeight - box.height - 4, y - box.height / 2))}px`;
}
const hideTip = () => { tip.hidden = true; };

// Charts over time. A subject has a name, a colour, `seconds`, `columns`, limits. A chart shows one
// of the columns, or `also` a second, dashed, and knows what its values are: a `temperature`, a `percent`,
// `counts`, or a `span` of time. `rule` names a number of the subjects to draw a line at,
// `own` one that is drawn for each in its colour.

const CHARTS = [
  { metric: "kelvin_mean", also: "kelvin_max", title: "Temperature", temperature: true, height: 300 },
  { metric: "load", title: "Heat load", note: "share of the heat that can be carried away", percent: true, height: 170,
    rule: "setpoint", ruled: (held) => `above ${held} whoever makes it slows down`, cap: 1.5 },
  { metric: "clock", title: "Clock", note: "mean; below 100 % something throttles", percent: true, height: 140, full: 1 },
  { metric: "budget", also: "budget_min", title: "Heat budget", note: "share of their power that shells outside leave to those inside; dashed: the cell left least", percent: true, height: 140, full: 1 },
  { metric: "dark", title: "Dark", note: "lost so far", height: 130, counts: true, steps: true },
  { metric: "utilisation", title: "Utilisation", note: "share of compute in use", percent: true, height: 140, full: 1 },
  { metric: "waiting", title: "Waiting", note: "pieces of work without a place", height: 130, counts: true },
];
const COLUMNS = { kelvin_mean: "mean", kelvin_max: "max", load: "load", clock: "clock", budget: "budget", budget_min: "least", dark: "dark", utilisation: "use", waiting: "waiting" };

// Letters of a name that fit beside a chart.
const LABEL_MAX = 17;

// Draws all charts and returns what moves them: `now(t)` and `redraw()`.
function timeCharts(host, options) {
  const { subjects, marks, pick, quietly } = options;
  const hidden = new Set();
  let scale = options.scale, now = null, emphasised = null;
  const all = () => subjects();
  const visible = () => all().filter((s) => !hidden.has(s.name));
  const extent = () => {
    const ends = all().filter((s) => s.seconds.length);
    return [Math.min(0, ...ends.map((s) => s.seconds[0])), Math.max(1e-9, ...ends.map((s) => s.seconds[s.seconds.length - 1]))];
  };
  const shown = (v, subject) => !known(v) ? null : scale === "limit" ? (known(subject.limit) ? v - subject.limit : null)
    : scale === "C" ? v - 273.15 : v;
  const degrees = () => scale === "C" ? "°C" : "K";
  const temperature = (v, subject) => {
    const s = shown(v, subject);
    return s === null ? "–" : `${scale === "limit" && s > 0 ? "+" : ""}${fixed(s, 1)}`.replace("-", "−");
  };
  const moves = (key) => all().some((s) => (s.columns[key] || []).some((v) => v > 0));
  const charts = options.charts || CHARTS;
  const drawn = charts.filter((c) => all().some((s) => s.columns[c.metric]) && (!c.counts || moves(c.metric)));
  const still = charts.filter((c) => c.counts && !drawn.includes(c) && all().some((s) => s.columns[c.metric]));
  const say = (chart, v, subject) => chart.temperature ? temperature(v, subject)
    : chart.percent ? percent(v, 1) : chart.span ? duration(v) : plain(v);
  const tick = (chart, v) => chart.percent ? `${plain(v * 100)} %` : plain(v, 4).replace("-", "−");

  const legend = el("div", { class: "legend" });
  const scales = el("div", { class: "segments", role: "group", "aria-label": "Scale of temperature" },
    [["K", "K"], ["C", "°C"], ["limit", "to limit"]].filter(([key]) => key !== "limit" || all().some((s) => known(s.limit))).map(([key, label]) => el("button", {
      "aria-pressed": String(key === scale),
      onclick: (event) => {
        scale = key;
        for (const b of scales.children) b.setAttribute("aria-pressed", String(b === event.currentTarget));
        redraw();
      },
    }, label)));
  const plots = drawn.map((chart) => {
    const node = svg("svg", { class: "plot", role: "img", tabindex: 0, "aria-label": `${chart.title} over time` });
    const title = el("h3", {}, chart.title, el("small", {}, chart.temperature ? "" : chart.note));
    host.append(el("div", { class: "chart" }, title, node));
    const plot = { chart, node, title };
    const at = (event) => {
      const box = node.getBoundingClientRect();
      return plot.time(Math.max(plot.left, Math.min(plot.right, event.clientX - box.left)));
    };
    node.addEventListener("pointermove", (event) => cross(at(event), event.clientX, event.clientY));
    node.addEventListener("pointerleave", () => cross(null));
    node.addEventListener("click", (event) => pick && pick(at(event)));
    node.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) { if (event.key === "Escape") cross(null); return; }
      event.preventDefault();
      const [from, to] = extent(), box = node.getBoundingClientRect();
      const t = Math.max(from, Math.min(to, (plot.crossed ?? now ?? from) + step * (to - from) / 100));
      cross(t, box.left + plot.place(t), box.top + 40);
      if (pick) pick(t);
    });
    node.addEventListener("blur", () => cross(null));
    return plot;
  });
  if (still.length) {
    host.append(el("p", { class: "quiet" }, [...new Set(still.map((c) => c.metric === "dark" ? "Nothing went dark. " : "No work had to wait. "))]));
  }
  if (quietly) host.append(quietly);
  host.prepend(el("div", { class: "head" }, el("h2", {}, options.title), drawn.some((c) => c.temperature) && scales), legend);

  function drawLegend() {
    const key = (dash, text) => el("span", { class: "key" },
      svg("svg", {}, svg("line", { x1: 0, x2: 22, y1: 4, y2: 4, stroke: "currentColor", "stroke-width": 2, "stroke-dasharray": dash })), text);
    const temperatures = drawn.some((c) => c.temperature);
    legend.replaceChildren(...(all().length > 1 ? all().map((s) => el("button", {
      "aria-pressed": String(!hidden.has(s.name)),
      title: "Click to hide or show, double-click to show only this",
      onclick: () => { if (!hidden.delete(s.name)) hidden.add(s.name); redraw(); },
      ondblclick: () => { all().forEach((o) => hidden.add(o.name)); hidden.delete(s.name); redraw(); },
      onpointerenter: () => { emphasised = s.name; draw(); },
      onpointerleave: () => { emphasised = null; draw(); },
    }, el("i", { style: `background:${s.colour}` }), s.name)) : []),
    ...(temperatures ? [key(null, "mean"), key("5 3", "hottest"), key("1.5 3", "limit")] : options.keys ? options.keys.map(([dash, text]) => key(dash, text)) : []));
  }

  function draw() {
    const [from, to] = extent();
    for (const plot of plots) drawPlot(plot, from, to);
    showNow();
  }

  function drawPlot(plot, from, to) {
    const { chart, node } = plot;
    const width = Math.max(240, node.clientWidth || node.parentNode.clientWidth), height = chart.height + 24;
    const slim = width < 560;
    const longest = Math.min(LABEL_MAX, Math.max(...all().map((s) => s.name.length)));
    const left = 46, right = width - (slim || all().length < 2 || all().length > 6 ? 20 : 14 + 7 * longest), top = chart.temperature ? 20 : 8, bottom = height - 22;
    const place = (t) => left + (t - from) / (to - from) * (right - left);
    Object.assign(plot, { left, right, place, time: (x) => from + (x - left) / (right - left) * (to - from) });
    const lines = [];
    for (const s of visible()) {
      for (const [key, dash] of [[chart.metric, null], [chart.also, "5 3"]]) {
        const column = key && s.columns[key];
        if (column) lines.push({ s, dash, values: chart.temperature ? column.map((v) => shown(v, s)) : column });
      }
    }
    const held = chart.rule ? [...new Set(visible().map((s) => s[chart.rule]).filter(known))] : [];
    const rules = held.map((value) => ({ value, label: "", colour: "var(--limit)" }));
    if (chart.own) for (const s of visible()) if (known(s[chart.own])) rules.push({ value: s[chart.own], label: "", colour: s.colour });
    const capped = chart.cap && Math.max(0, ...lines.map((l) => max(l.values) ?? 0)) > chart.cap;
    if (chart.rule) {
      plot.title.lastChild.textContent = [chart.note, held.length && chart.ruled(held.map((v) => percent(v, 0)).join(", ")),
        capped && `peaks reach ${percent(Math.max(...lines.map((l) => max(l.values) ?? 0)), 0)}`].filter(Boolean).join("; ");
    }
    if (chart.temperature) rules.push(...limits());
    const seen = lines.flatMap((l) => [min(l.values), max(l.values)]).filter(known);
    let low = chart.temperature ? Math.min(...seen) : 0;
    let high = Math.max(...seen, ...(chart.full && Math.max(...lines.map((l) => max(l.values) ?? 0)) > chart.full / 4 ? [chart.full] : []), ...held.map((v) => v * 1.05), ...(chart.own ? rules.map((r) => r.value * 1.05) : []));
    if (chart.temperature && seen.length) {
      // A limit belongs in the picture unless it would flatten everything else.
      const reach = (high - low || 1) * 2;
      for (const rule of rules) if (rule.value < high + reach && rule.value > low - reach) { high = Math.max(high, rule.value); low = Math.min(low, rule.value); }
      const rim = (high - low || 10) * 0.05;
      low -= rim; high += rim;
    } else {
      high = (known(high) && high > 0 ? high : 1) * (chart.full ? 1.02 : 1.08);
    }
    if (!known(low)) { low = 0; high = 1; }
    if (capped) high = chart.cap;
    plot.rise = (v) => bottom - ((capped ? Math.min(v, high) : v) - low) / (high - low) * (bottom - top);

    const parts = [];
    const steps = chart.span ? timeTicks(low, high, chart.height / 28) : valueTicks(low, high, chart.height / 40).map((v) => [v, tick(chart, v)]);
    for (const [v, text] of steps) {
      const y = plot.rise(v);
      parts.push(svg("line", { class: "grid", x1: left, x2: right, y1: y, y2: y }), svg("text", { x: left - 7, y: y + 4, "text-anchor": "end" }, text));
    }
    for (const [t, label] of timeTicks(from, to, Math.max(2, (right - left) / 90))) {
      const x = place(t);
      const anchor = x > width - 22 ? "end" : "middle";
      parts.push(svg("line", { class: "grid", x1: x, x2: x, y1: bottom, y2: bottom + 4 }), svg("text", { x, y: bottom + 16, "text-anchor": anchor }, label));
    }
    const labels = [];
    for (const rule of rules) {
      if (rule.value < low || rule.value > high) continue;
      const y = plot.rise(rule.value);
      parts.push(svg("line", { class: "rule", x1: left, x2: right, y1: y, y2: y, stroke: rule.colour }));
      if (rule.label) labels.push(svg("text", { class: "halo", x: left + 6, y: y - 4, style: `fill:${rule.colour}` }, rule.label));
    }
    const badges = [], told = [];
    marks().forEach((mark, i) => {
      if (mark.seconds < from || mark.seconds > to) return;
      const x = place(mark.seconds);
      parts.push(svg("line", { class: "mark", x1: x, x2: x, y1: top - 4, y2: bottom }));
      const beside = told.find((b) => Math.abs(b.x - x) < 30);
      if (beside) beside.last = i + 1; else told.push({ x, first: i + 1, last: i + 1 });
    });
    // Marks too close for a badge each share one.
    for (const { x, first, last } of plot === plots[0] ? told : []) {
      const text = first === last ? `${first}` : `${first}–${last}`, half = Math.max(8, 3.2 * text.length + 3);
      badges.push(svg("g", { class: "badge" }, svg("rect", { x: x - half, y: 1, width: 2 * half, height: 16, rx: 8 }), svg("text", { x, y: 12.5 }, text)));
    }
    const ends = [];
    for (const line of lines) {
      const faded = emphasised && emphasised !== line.s.name;
      parts.push(svg("path", {
        class: "line", d: path(line.s.seconds, line.values, place, plot.rise, chart.steps), stroke: line.s.colour,
        "stroke-width": line.dash ? 1.4 : 2, "stroke-dasharray": line.dash, opacity: faded ? 0.18 : line.dash ? 0.9 : 1,
      }));
      if (!line.dash) {
        const last = line.values.findLast(known);
        if (known(last)) ends.push({ y: plot.rise(last), s: line.s });
      }
    }
    // More than six names at the end of flat lines stand nowhere near them.
    if (!slim && ends.length > 1 && ends.length <= 6 && ends.length * 13 < bottom - top + 13) {
      spread(ends, 13, top + 4, bottom + 2);
      for (const { y, s } of ends) {
        const text = s.name.length > LABEL_MAX ? `${s.name.slice(0, LABEL_MAX - 1)}…` : s.name;
        parts.push(svg("text", { class: "end", x: right + 8, y: y + 4, style: `fill:${s.colour}` }, text));
      }
    }
    plot.nowLine = svg("line", { class: "now", y1: top - 4, y2: bottom, visibility: "hidden" });
    plot.cross = svg("line", { class: "cross", y1: top - 4, y2: bottom, visibility: "hidden" });
    plot.dots = svg("g", {});
    plot.lines = lines;
    node.setAttribute("viewBox", `0 0 ${width} ${height}`);
    node.setAttribute("height", height);
    node.replaceChildren(...parts, ...labels, plot.nowLine, ...badges, plot.cross, plot.dots,
      svg("rect", { x: 0, y: 0, width, height, fill: "transparent" }));
    if (chart.temperature) {
      // A limit that would flatten everything else is told instead of drawn.
      const beyond = rules.filter((r) => r.label && (r.value > high || r.value < low)).map((r) => `${r.label} at ${fixed(r.value, 0)}, ${r.value > high ? "above" : "below"}`);
      plot.title.lastChild.textContent = scale === "limit" ? "kelvin above (+) or below (−) the limit" : [degrees(), ...beyond].join("; ");
    }
  }

  function limits() {
    const limited = visible().filter((s) => known(s.limit));
    if (!limited.length) return [];
    if (scale === "limit") return [{ value: 0, label: "limit", colour: "var(--limit)" }];
    const same = limited.every((s) => Math.abs(s.limit - limited[0].limit) < 0.01);
    if (!same) return limited.map((s) => ({ value: shown(s.limit, s), colour: s.colour, label: "" }));
    const rules = [{ value: shown(limited[0].limit, limited[0]), label: "limit", colour: "var(--limit)" }];
    if (limited.every((s) => known(s.throttle) && Math.abs(s.throttle - limited[0].throttle) < 0.01)) {
      rules.push({ value: shown(limited[0].throttle, limited[0]), label: "throttles by itself", colour: "var(--mark)" });
    }
    return rules;
  }

  function cross(t, x, y) {
    for (const plot of plots) {
      plot.crossed = t;
      plot.cross.setAttribute("visibility", t === null ? "hidden" : "visible");
      plot.dots.replaceChildren();
      if (t === null) continue;
      const at = plot.place(t);
      plot.cross.setAttribute("x1", at); plot.cross.setAttribute("x2", at);
      for (const line of plot.lines) {
        const i = nearest(line.s.seconds, t), v = line.values[i];
        if (known(v)) plot.dots.append(svg("circle", { cx: plot.place(line.s.seconds[i]), cy: plot.rise(v), r: line.dash ? 2.5 : 3.5, fill: line.s.colour }));
      }
    }
    if (t === null) { hideTip(); return; }
    const rows = visible().slice(0, 14);
    const keys = drawn.flatMap((c) => [[c, c.metric], ...(c.also ? [[c, c.also]] : [])]).filter(([, key]) => rows.some((s) => s.columns[key]));
    const [from, to] = extent();
    const close = marks().filter((m) => Math.abs(m.seconds - t) < (to - from) / 90);
    showTip(x, y, el("b", {}, duration(t)), el("table", {},
      el("tr", {}, el("th", {}, !drawn.some((c) => c.temperature) ? "" : scale === "limit" ? "K to limit" : degrees()), keys.map(([chart, key]) => el("th", {}, chart.column || COLUMNS[key]))),
      rows.map((s) => {
        const i = nearest(s.seconds, t);
        return el("tr", {}, el("td", {}, el("i", { style: `background:${s.colour}` }), s.name), keys.map(([chart, key]) => {
          const v = s.columns[key] ? s.columns[key][i] : null;
          const over = chart.temperature ? known(s.limit) && v > s.limit : key === "load" && v > 1;
          return el("td", { class: known(v) && over ? "over" : null }, say(chart, v, s));
        }));
      })), close.map((m) => el("div", { class: "what" }, m.text)));
  }

  function showNow() {
    for (const plot of plots) {
      plot.nowLine.setAttribute("visibility", now === null ? "hidden" : "visible");
      if (now === null) continue;
      const x = plot.place(now);
      plot.nowLine.setAttribute("x1", x); plot.nowLine.setAttribute("x2", x);
    }
  }
  function redraw() { drawLegend(); draw(); }
  redraw();
  onWidth(host, draw);
  return { now: (t) => { now = t; showNow(); }, redraw };
}

function path(seconds, values, place, rise, steps) {
  let d = "", pen = false;
  for (let i = 0; i < values.length; i += 1) {
    const v = values[i];
    if (!known(v)) { pen = false; continue; }
    const x = place(seconds[i]).toFixed(1), y = rise(v).toFixed(1);
    d += !pen ? `M${x} ${y}` : steps ? `H${x}V${y}` : `L${x} ${y}`;
    pen = true;
  }
  return d;
}
const min = (values) => values.reduce((m, v) => known(v) && !(m <= v) ? v : m, undefined);
const max = (values) => values.reduce((m, v) => known(v) && !(m >= v) ? v : m, undefined);
// Moves labels apart, keeping their order.
function spread(labels, gap, top, bottom) {
  labels.sort((a, b) => a.y - b.y);
  for (let i = 1; i < labels.length; i += 1) labels[i].y = Math.max(labels[i].y, labels[i - 1].y + gap);
  const over = labels.length ? labels[labels.length - 1].y - bottom : 0;
  if (over > 0) labels[labels.length - 1].y -= over;
  for (let i = labels.length - 2; i >= 0; i -= 1) labels[i].y = Math.min(labels[i].y, labels[i + 1].y - gap);
  if (labels.length) labels[0].y = Math.max(labels[0].y, top);
}

// The map

function bytesOf(text) {
  const raw = atob(text), out = new Uint8Array(raw.length);
  for (let i = 0; i < raw.length; i += 1) out[i] = raw.charCodeAt(i);
  return out;
}

function skyMap(host, map, groups, kind, moved) {
  const HOLON = { rings: "cell", rows: "rack", hexagons: "tile" }[map.layout];
  const n = map.groups.length;
  const limit = map.groups.map((g) => groups[g].limit_kelvin);
  const judged = limit.every(known);
  const frames = map.frames.map((frame) => {
    const raw = bytesOf(frame.kelvin), gone = bytesOf(frame.dark), kelvin = new Float32Array(n);
    for (let i = 0; i < n; i += 1) {
      const step = raw[2 * i] + 256 * raw[2 * i + 1];
      kelvin[i] = step ? map.low + (step - 1) / 65534 * (map.high - map.low) : NaN;
    }
    return { seconds: frame.seconds, kelvin, dark: gone };
  });
  const offset = (kelvin, i) => judged ? kelvin - limit[i] : kelvin;
  // The scale runs from the coldest, rounded, to the limit; without limits, to the hottest.
  let coldest = Infinity, hottest = -Infinity, hottestFrame = 0;
  frames.forEach((frame, f) => {
    for (let i = 0; i < n; i += 1) {
      const v = offset(frame.kelvin[i], i);
      if (v < coldest) coldest = v;
      if (v > hottest + 0.05) { hottest = v; hottestFrame = f; }
    }
  });
  const top = judged ? 0 : hottest, span = Math.max(1, top - Math.max(coldest, top - 400));
  const unit = [1, 2, 5, 10, 20, 50, 100].find((u) => span / u <= 12) || 100;
  const bottom = judged ? -Math.ceil(span / unit) * unit : coldest;
  let frame = frames[hottestFrame], shapes = [], size = [0, 0], rings = null, playing = null;

  const canvas = el("canvas", { role: "img", "aria-label": `Map of ${n} ${HOLON}s coloured by temperature` });
  const slider = el("input", { type: "range", min: 0, max: frames.length - 1, value: hottestFrame, "aria-label": "Time", oninput: () => show(+slider.value) });
  const clock = el("output", {});
  const play = el("button", { class: "play", "aria-label": "Play", onclick: toggle }, "▶");
  const hot = el("p", { class: "hot" });
  const gradient = HEAT.filter((_, i) => i % 15 === 0).join(",");
  const swatch = (name, text) => el("div", {}, el("div", { class: `swatch ${name}` }), text);
  host.append(
    el("div", { class: "head" }, el("h2", {}, "Map", el("small", {}, `${n.toLocaleString("en")} ${HOLON}s${map.layout === "hexagons" ? "" : `, each by its hottest ${kind === "site" ? "device" : "tile"}`}`))),
    canvas,
    el("div", { class: "scale" },
      el("div", {}, el("div", { class: "bar", style: `background:linear-gradient(90deg,${gradient})` }),
        el("div", { class: "ends" }, judged
          ? [el("span", {}, `${-bottom} K below`), el("span", {}, "limit")]
          : [el("span", {}, `${fixed(bottom, 0)} K`), el("span", {}, `${fixed(top, 0)} K`)])),
      judged ? swatch("over", "over") : el("span", {}), swatch("gone", "dark")),
    frames.length > 1 ? el("div", { class: "time" }, play, slider, clock) : el("div", { class: "time" }, clock),
    hot);

  const name = (i) => map.names && map.names[i] ? map.names[i] : `${HOLON} ${i}`;

  function lay() {
    const width = Math.max(200, canvas.clientWidth || host.clientWidth - 36);
    shapes = new Array(n);
    let height = width;
    if (map.layout === "rings") {
      height = Math.min(width, 620);
      layRings(width, height);
    } else if (map.layout === "rows") {
      const columns = max(map.x) + 1, rows = max(map.y) + 1;
      const w = (width - 8) / columns, h = Math.max(12, Math.min(44, w * 1.7));
      height = rows * (h + 9) + 8;
      for (let i = 0; i < n; i += 1) shapes[i] = { x: 4 + map.x[i] * w, y: 4 + map.y[i] * (h + 9), w: w - Math.min(3, w * 0.15), h };
    } else {
      const rows = max(map.y) + 1, columns = max(map.x) + 1;
      const r = (width - 8) / (Math.sqrt(3) * (columns + 0.5));
      height = r * (1.5 * rows + 0.5) + 8;
      for (let i = 0; i < n; i += 1) {
        // The lattice is a torus, so its slant may be wrapped into a rectangle.
        const column = (map.x[i] + Math.floor(map.y[i] / 2)) % columns;
        shapes[i] = { cx: 4 + r * Math.sqrt(3) * (column + 0.5 + (map.y[i] % 2) / 2), cy: 4 + r * (1 + 1.5 * map.y[i]), r: r * 0.93 };
      }
    }
    size = [width, height];
    const dots = Math.min(3, devicePixelRatio || 1);
    canvas.width = Math.round(width * dots);
    canvas.height = Math.round(height * dots);
    canvas.style.height = `${height}px`;
    canvas.getContext("2d").setTransform(dots, 0, 0, dots, 0, 0);
  }

  function layRings(width, height) {
    const outer = Math.min(width, height) / 2 - 4, inner = outer * 0.17, many = groups.length;
    const pitch = (outer - inner) / many, labels = Math.min(15, 0.38 * pitch), band = pitch - labels;
    for (let g = 0; g < many; g += 1) {
      const cells = [];
      for (let i = 0; i < n; i += 1) if (map.groups[i] === g) cells.push(i);
      cells.sort((a, b) => map.x[a] - map.x[b] || map.y[a] - map.y[b] || a - b);
      const r0 = inner + g * (band + labels), middle = r0 + band / 2;
      const lanes = Math.max(1, Math.round(Math.sqrt(band * cells.length / (2 * Math.PI * middle))));
      const slots = Math.ceil(cells.length / lanes), turn = 2 * Math.PI / slots;
      cells.forEach((i, at) => {
        const slot = Math.floor(at / lanes), lane = at % lanes, thick = band / lanes;
        const pad = Math.min(0.12, 0.9 / (turn * middle));
        const from = -Math.PI / 2 + (slot + pad / 2) * turn;
        shapes[i] = { cx: width / 2, cy: height / 2, from, to: from + turn * (1 - pad), r0: r0 + lane * thick, r1: r0 + (lane + 1) * thick - Math.min(1, thick * 0.15) };
      });
    }
    rings = { labels, band, inner, x: width / 2, y: height / 2 };
  }

  function paint() {
    const c = canvas.getContext("2d");
    c.clearRect(0, 0, size[0], size[1]);
    let names = () => {};
    if (map.layout === "rings") {
      const { x, y, inner, labels, band } = rings;
      const glow = c.createRadialGradient(x, y, 0, x, y, inner * 0.85);
      glow.addColorStop(0, "#fffbe8"); glow.addColorStop(0.25, "#ffe9a8"); glow.addColorStop(0.55, "#f6a83344"); glow.addColorStop(1, "#f6a83300");
      c.fillStyle = glow;
      c.beginPath(); c.arc(x, y, inner * 0.85, 0, 7); c.fill();
      if (labels >= 9) {
        c.font = labels < 12 ? "9.5px system-ui, sans-serif" : "11px system-ui, sans-serif"; c.textAlign = "center"; c.textBaseline = "middle";
        const above = (i) => y - (inner + (i + 1) * band + i * labels + labels / 2 - 0.5);
        names = () => { c.fillStyle = "#c8d2ea"; c.strokeStyle = "#0a0f1d"; c.lineWidth = 4; c.lineJoin = "round"; groups.forEach((g, i) => { c.strokeText(g.name, x, above(i)); c.fillText(g.name, x, above(i)); }); };
      }
    }
    const first = shapes[0], wide = first.w ?? (first.r ? 2 * first.r : first.r1 - first.r0), rim = Math.min(1.6, wide * 0.07);
    for (let i = 0; i < n; i += 1) {
      const s = shapes[i], k = frame.kelvin[i], gone = known(k) ? frame.dark[i] / 255 : 1;
      const v = offset(k, i), over = judged && v > 0;
      if (gone > 0) { outline(c, s, 0, 1); c.fillStyle = "#141c30"; c.fill(); c.strokeStyle = "#6f81a8"; c.lineWidth = 0.8; c.stroke(); }
      if (gone < 1) {
        outline(c, s, 0, 1 - gone);
        c.fillStyle = over ? "#fff" : heat((v - bottom) / (top - bottom));
        c.fill();
        if (over) { c.strokeStyle = "#ff3b52"; c.lineWidth = rim; c.stroke(); }
      }
    }
    // Last, so that they lie over the inner rings, which curve into them.
    names();
    if (map.layout === "rows" && groups.length > 1) {
      const colours = groups.map((_, g) => oklch(0.56 + 0.34 * g / (groups.length - 1), 0.15, 305 - 205 * g / (groups.length - 1)));
      for (let i = 0; i < n; i += 1) {
        const s = shapes[i];
        c.fillStyle = colours[map.groups[i]];
        c.fillRect(s.x, s.y + s.h + 2, s.w + 3, 2.5);
      }
    }
  }

  // The part of a holon from `a` to `b` of its thickness.
  function outline(c, s, a, b) {
    c.beginPath();
    if (s.from !== undefined) {
      const r0 = s.r0 + (s.r1 - s.r0) * a, r1 = s.r0 + (s.r1 - s.r0) * b;
      c.arc(s.cx, s.cy, r1, s.from, s.to); c.arc(s.cx, s.cy, r0, s.to, s.from, true); c.closePath();
    } else if (s.w !== undefined) {
      c.rect(s.x, s.y + s.h * (1 - b), s.w, s.h * (b - a));
    } else {
      const r = s.r * Math.sqrt(b);
      for (let corner = 0; corner < 6; corner += 1) {
        const angle = Math.PI / 3 * corner + Math.PI / 6;
        c.lineTo(s.cx + r * Math.cos(angle), s.cy + r * Math.sin(angle));
      }
      c.closePath();
    }
  }

  function hit(x, y) {
    for (let i = 0; i < n; i += 1) {
      const s = shapes[i];
      if (s.from !== undefined) {
        const r = Math.hypot(x - s.cx, y - s.cy);
        if (r < s.r0 || r > s.r1) continue;
        let angle = Math.atan2(y - s.cy, x - s.cx);
        while (angle < s.from) angle += 2 * Math.PI;
        if (angle <= s.to) return i;
      } else if (s.w !== undefined ? x >= s.x && x <= s.x + s.w && y >= s.y && y <= s.y + s.h : Math.hypot(x - s.cx, y - s.cy) < s.r) return i;
    }
    return -1;
  }

  const versus = (k, i) => !known(limit[i]) ? "" : k > limit[i]
    ? `${fixed(k - limit[i], 1)} K over its limit` : `${fixed(limit[i] - k, 1)} K below its limit`;
  const degrees = (k) => kind === "site" ? `${fixed(k - 273.15, 1)} °C` : `${fixed(k, 1)} K`;

  function show(index, silent) {
    frame = frames[index];
    slider.value = index;
    clock.textContent = duration(frame.seconds);
    let hottest = -1, gone = 0;
    for (let i = 0; i < n; i += 1) {
      if (known(frame.kelvin[i]) && (hottest < 0 || offset(frame.kelvin[i], i) > offset(frame.kelvin[hottest], hottest))) hottest = i;
      if (frame.dark[i]) gone += 1;
    }
    hot.replaceChildren(...(hottest < 0 ? ["Nothing is alive."] : [
      !judged ? "Hottest: " : offset(frame.kelvin[hottest], hottest) > 0 ? "Furthest over its limit: " : "Closest to its limit: ", el("b", {}, name(hottest)), `, ${degrees(frame.kelvin[hottest])}`,
      judged ? ` (${versus(frame.kelvin[hottest], hottest).replace(" its limit", "")})` : "", "."]),
    gone ? ` ${gone.toLocaleString("en")} ${HOLON}${gone > 1 ? "s" : ""} ${map.layout === "hexagons" ? (gone > 1 ? "are" : "is") + " dark" : "with dark " + (kind === "site" ? "devices" : "tiles")}.` : "");
    paint();
    if (!silent) moved(frame.seconds);
  }

  function toggle() {
    if (playing) { cancelAnimationFrame(playing); playing = null; play.textContent = "▶"; return; }
    play.textContent = "❚❚";
    let began = null;
    const first = +slider.value >= frames.length - 1 ? 0 : +slider.value;
    const step = (time) => {
      began ??= time;
      // The whole run in twelve seconds.
      const index = first + Math.floor((time - began) / 12000 * frames.length);
      if (index >= frames.length) { show(frames.length - 1); toggle(); return; }
      if (index !== +slider.value) show(index);
      playing = requestAnimationFrame(step);
    };
    playing = requestAnimationFrame(step);
  }

  canvas.addEventListener("pointermove", (event) => {
    const box = canvas.getBoundingClientRect(), i = hit(event.clientX - box.left, event.clientY - box.top);
    if (i < 0) { hideTip(); return; }
    const k = frame.kelvin[i], gone = frame.dark[i] / 255;
    showTip(event.clientX, event.clientY, el("b", {}, name(i)), el("div", {}, groups[map.groups[i]].name),
      el("div", { class: known(limit[i]) && k > limit[i] ? "over" : null }, known(k) ? `${degrees(k)}, ${versus(k, i)}` : "dark"),
      known(k) && gone > 0 && el("div", {}, `${percent(gone, gone < 0.01 ? 2 : 0)} dark`));
  });
  canvas.addEventListener("pointerleave", hideTip);
  onWidth(host, () => { lay(); paint(); });
  lay();
  show(hottestFrame, true);
  return { seek: (t) => show(nearest(frames.map((f) => f.seconds), t)), seconds: () => frame.seconds };
}

// Parts of pages

const card = (title, ...children) => el("section", { class: "card" }, title && el("h2", {}, title), ...children);
const figure = ([value, unit], label, title, key) => el("div", { class: "figure", title }, el("b", { "data-of": key }, value, unit && el("i", {}, unit)), el("span", {}, label));
const measure = (label, share, text, target) => el("div", { class: "measure" }, el("span", {}, label),
  el("div", { class: "bar" }, el("i", { style: `width:${100 * Math.max(0, Math.min(1, share))}%` }), known(target) && el("u", { style: `left:${100 * target}%` })), el("span", {}, text));
const list = (pairs) => el("dl", {}, pairs.filter(([, value]) => value !== null && value !== undefined).map(([term, value]) => [el("dt", {}, term), el("dd", {}, value)]));
// A number of summary.json, which says which: the tests hold the two against each other.
const of = (key, ...shown) => el("span", { "data-of": key }, ...shown);
const said = ([value, unit]) => unit ? `${value} ${unit}` : value;

function masthead(what, title, intent) {
  const rings = svg("svg", { viewBox: "0 0 20 20", fill: "none", stroke: "currentColor", "stroke-width": 1.4, "aria-hidden": "true" },
    svg("circle", { cx: 10, cy: 10, r: 2, fill: "currentColor" }), svg("circle", { cx: 10, cy: 10, r: 5.2, opacity: 0.75 }), svg("circle", { cx: 10, cy: 10, r: 8.8, opacity: 0.45 }));
  return el("header", {}, el("div", { class: "brand" }, rings, `cosmOS twin · ${what}`), el("h1", {}, title), el("p", { class: "intent" }, intent));
}

function verdicts(summary) {
  const broken = summary.invariants.filter((i) => !i.held), n = summary.invariants.length;
  const head = !n ? null : el("div", { class: `verdict ${broken.length ? "bad" : "good"}` },
    broken.length ? `${broken.length} of ${n} invariants broken` : n === 1 ? "The invariant held" : `All ${n} invariants held`,
    el("span", {}, `over ${duration(summary.simulated_seconds)} of simulated time`));
  return el("section", {},
    head || el("div", { class: "verdict" }, "No invariants were checked"),
    el("ul", { class: "chips" }, [...broken, ...summary.invariants.filter((i) => i.held)].map((i) =>
      el("li", { class: `chip ${i.held ? "good" : "bad"}`, title: i.name }, words(i.name)))),
    broken.length > 0 && el("div", { class: "broken" }, broken.map(({ name, first_violation: v }) => el("div", {},
      el("b", {}, words(name)), v ? [` broken at ${duration(v.seconds)}: ${v.text} `,
        el("small", {}, `${v.subject}; found ${said([plain(v.found, 5), v.unit])}, allowed ${said([plain(v.bound, 5), v.unit])}`)] : ""))));
}

function repeat(command) {
  const button = el("button", {
    onclick: async () => {
      try { await navigator.clipboard.writeText(command); } catch {
        // From a file the clipboard may be closed: leave the text selected instead.
        getSelection().selectAllChildren(code);
        button.textContent = "Selected";
        return;
      }
      button.textContent = "Copied";
      setTimeout(() => { button.textContent = "Copy"; }, 1500);
    },
  }, "Copy");
  const code = el("code", {}, command);
  return card("Repeat it", el("div", { class: "command" }, code, button));
}

function decisions(rows) {
  const acted = rows.filter((r) => r.count > 0).sort((a, b) => b.count - a.count);
  if (!acted.length) return null;
  const total = Object.create(null);
  for (const r of acted) total[r.action] = (total[r.action] || 0) + r.count;
  acted.sort((a, b) => total[b.action] - total[a.action] || b.count - a.count);
  const most = Math.max(...acted.map((r) => r.count));
  return card("What was decided, and why", el("table", { class: "rows" },
    el("tr", {}, el("th", {}, "Action"), el("th", {}, "Reason"), el("th", { class: "share" }), el("th", { class: "n" }, "Count")),
    acted.map((r, i) => el("tr", {},
      el("td", { class: "action" }, i && acted[i - 1].action === r.action ? "" : words(r.action)), el("td", {}, r.reason),
      el("td", { class: "share" }, el("div", { class: "bar" }, el("i", { style: `width:${100 * r.count / most}%` }))),
      el("td", { class: "n", "data-of": `decisions/${rows.indexOf(r)}/count` }, r.count.toLocaleString("en"))))));
}

function faults(rows) {
  if (!rows.length) return null;
  return card("Faults", el("table", { class: "rows" },
    el("tr", {}, el("th", {}, "Kind"), el("th", { class: "n" }, "Injected"), el("th", { class: "n" }, "Fired"), el("th", {}, "")),
    rows.map((f, i) => el("tr", {}, el("td", {}, words(f.kind)), el("td", { class: "n", "data-of": `faults/${i}/injected` }, f.injected.toLocaleString("en")), el("td", { class: "n", "data-of": `faults/${i}/fired` }, f.fired.toLocaleString("en")),
      el("td", { class: f.fired ? (f.fired < f.injected ? "" : "yes") : "no" }, !f.injected ? "" : !f.fired ? "never fired" : f.fired < f.injected ? `${(f.injected - f.fired).toLocaleString("en")} met nothing` : "all fired")))),
  rows.some((f) => f.injected && !f.fired) && el("p", { class: "under" }, "A fault that never fired has tested nothing."));
}

// What hosts noticed, as rehearsed and, if there is a measurement, as it was.
function noticed(f) {
  const at = (i, which, q) => {
    const v = f.spans[i][which][q];
    return el("td", { class: "n" }, known(v) ? of(`fleet/spans/${i}/${which}/${q}`, duration(v)) : "–");
  };
  const row = (s, i, who) => el("tr", {}, el("td", { class: "action" }, who === "predicted" ? s.what : ""), el("td", {}, who),
    el("td", { class: "n", "data-of": `fleet/spans/${i}/${who}` }, s[who].toLocaleString("en")),
    ["p50", "p99", "max"].map((q) => at(i, `${who}_seconds`, q)),
    el("td", { class: "n" }, who === "measured" && known(s.ratio_p50) ? of(`fleet/spans/${i}/ratio_p50`, fixed(s.ratio_p50, 2)) : ""));
  return [el("h2", {}, "What was noticed, and when", el("small", {}, `${f.rehearsals.toLocaleString("en")} rehearsals${f.measured ? ", beside what real hosts did" : ""}`)),
    el("table", { class: "rows" },
      el("tr", {}, el("th", {}, "From when to when"), el("th", {}, ""), ["Times", "Half", "99 in 100", "Slowest", "Half, over predicted"].map((h) => el("th", { class: "n" }, h))),
      f.spans.flatMap((s, i) => [row(s, i, "predicted"), f.measured && row(s, i, "measured")].filter(Boolean)))];
}

// What a braid did, lost and made again.
function braidPanel(b) {
  if (!b) return null;
  const number = (key) => of(`braid/${key}`, b[key].toLocaleString("en"));
  const share = (a, n) => n ? percent(a / n) : "–";
  return card("Braid", list([
    ["Pieces of work that ended", [number("ended"), " of ", number("begun")]], ["Turns", number("turns")],
    ["too late", [number("missed"), ` (${share(b.missed, b.turns)})`]], ["Processes that moved", number("migrated")],
    ["Packets between tori", number("packets")], ["lost on the way", number("packets_lost")],
    ["Longest projection", [number("projection_bytes"), " bytes"]],
    ["Tori lost for good", el("span", { class: b.unrebuilt ? "no" : "yes", "data-of": "braid/unrebuilt" }, b.unrebuilt.toLocaleString("en"))],
    ["Turns run again for one, at most", number("replayed_max")],
    ["Damage found after, at most", known(b.found_seconds.max) ? of("braid/found_seconds/max", duration(b.found_seconds.max)) : null]]),
  b.rebuilds.length > 0 && el("table", { class: "rows" },
    el("tr", {}, el("th", {}, "Rebuilt after"), ["Times", "Half", "Slowest"].map((h) => el("th", { class: "n" }, h))),
    b.rebuilds.map((r, i) => el("tr", {}, el("td", {}, words(r.after)), el("td", { class: "n", "data-of": `braid/rebuilds/${i}/times` }, r.times.toLocaleString("en")),
      ["p50", "max"].map((q) => el("td", { class: "n" }, known(r.seconds[q]) ? of(`braid/rebuilds/${i}/seconds/${q}`, duration(r.seconds[q])) : "–"))))),
  b.scale.length > 0 && el("table", { class: "rows" },
    el("tr", {}, el("th", {}, "Processes"), ["Bytes an interval", "Packets", "Projection"].map((h) => el("th", { class: "n" }, h))),
    b.scale.map((s, i) => el("tr", {}, el("td", { "data-of": `braid/scale/${i}/players` }, s.players.toLocaleString("en")),
      el("td", { class: "n" }, known(s.bytes) ? of(`braid/scale/${i}/bytes`, fixed(s.bytes, 0)) : "–"), el("td", { class: "n" }, known(s.packets) ? of(`braid/scale/${i}/packets`, fixed(s.packets, 1)) : "–"),
      el("td", { class: "n", "data-of": `braid/scale/${i}/projection_bytes` }, s.projection_bytes.toLocaleString("en"))))));
}

function membership(m) {
  if (!m) return null;
  const d = m.detection_seconds, reach = Math.max(10, d.max || 0) * 1.05;
  return card("Membership",
    known(d.max) ? [["p50", "Half"], ["p99", "99 in 100"], ["max", "Slowest"]].filter(([q]) => known(d[q]))
      .map(([q, label]) => measure(label, d[q] / reach, of(`membership/detection_seconds/${q}`, duration(d[q])), 10 / reach)) : null,
    known(d.max) && el("p", { class: "under", style: "margin-bottom:10px" }, "From a hard failure until its cell knows; the mark is 10 s."),
    list([["Hard failures", of("membership/failures", m.failures.toLocaleString("en"))], ["Never noticed", of("membership/undetected", m.undetected.toLocaleString("en"))],
      ["Living, suspected for a while", of("membership/false_suspicions", m.false_suspicions.toLocaleString("en"))],
      ["Living, removed", el("span", { class: m.false_removals ? "no" : "yes", "data-of": "membership/false_removals" }, m.false_removals.toLocaleString("en"))],
      ["Messages", of("membership/messages", said(count(m.messages)))], ["Memory per tile", known(m.bytes_per_tile) ? of("membership/bytes_per_tile", said(bytes(m.bytes_per_tile))) : "–"]]));
}

function locality(l, kind) {
  if (!l) return null;
  const names = kind === "site" ? { cell: "rack", cluster: "row", region: "site", system: "federation" } : {};
  // On a linear bar 99.99 % and 99 % look alike: each step here is ten times fewer that leave.
  const nines = (share) => share >= 1 ? 1 : Math.min(1, -Math.log10(1 - share) / 7);
  return card("Locality", ["cell", "cluster", "region", "system"].filter((k) => known(l[k])).map((k) =>
    measure(`In ${names[k] || k}`, nines(l[k]), l[k] >= 1 ? "100 %" : `${Math.min(99.9999, Math.floor(l[k] * 1e6) / 1e4)} %`, 4 / 7)),
  el("p", { class: "under" }, "Messages that stay within the holon they start in. Each seventh of a bar is ten times fewer that leave; the mark is 99.99 %.",
    known(l.cell) && l.cell < 1 ? ` One message in ${Math.round(1 / (1 - l.cell)).toLocaleString("en")} leaves its ${names.cell || "cell"}.` : ""));
}

/** A small energy in the unit of which it is one to a thousand. */
function joules(x) {
  const units = [["J", 1], ["mJ", 1e-3], ["µJ", 1e-6], ["nJ", 1e-9], ["pJ", 1e-12], ["fJ", 1e-15], ["aJ", 1e-18]];
  const [unit, scale] = units.find(([, scale]) => x >= scale) ?? ["zJ", 1e-21];
  return `${(x / scale).toPrecision(3)} ${unit}`;
}

function heatPanel(s) {
  const h = s.heat;
  if (!h) return null;
  return card("Heat", list([
    ["Hottest", known(h.max_kelvin) ? [of("heat/max_kelvin", `${fixed(h.max_kelvin, 1)} K`), ` (${fixed(h.max_kelvin - 273.15, 1)} °C)`] : null],
    ["Against its limit", known(h.max_kelvin_over_limit) ? el("span", { class: h.max_kelvin_over_limit > 0 ? "no" : "yes" },
      h.max_kelvin_over_limit > 0 ? `${fixed(h.max_kelvin_over_limit, 1)} K over` : `${fixed(-h.max_kelvin_over_limit, 1)} K below`) : null],
    ["Highest load", known(h.max_load) ? of("heat/max_load", percent(h.max_load)) : null],
    ["Lost to heat", el("span", { class: h.tiles_lost ? "no" : "yes", "data-of": "heat/tiles_lost" }, h.tiles_lost.toLocaleString("en"))],
    ["Overshoot", known(h.overshoot) ? of("heat/overshoot", percent(h.overshoot)) : null],
    ["Least heat budget of a cell", known(h.budget_min) ? of("heat/budget_min", percent(h.budget_min)) : null],
    ["Throttled", known(h.throttled_tile_seconds) ? [of("heat/throttled_tile_seconds", said(count(h.throttled_tile_seconds))), " tile-seconds"] : null],
    ...s.operations.map((o, i) => [`An operation, ${o.shell}`, known(o.times_least)
      ? [of(`operations/${i}/joules`, joules(o.joules)), ", ", of(`operations/${i}/times_least`, said(count(o.times_least))), ` times the least at ${fixed(o.kelvin, 0)} K`]
      : known(o.joules) ? of(`operations/${i}/joules`, joules(o.joules)) : null]),
    ["Energy balance, relative error", known(h.energy_error) ? h.energy_error.toExponential(1).replace("-", "−") : null],
  ]));
}

function leases(rows) {
  if (!rows.some((r) => r.ended)) return null;
  const number = (i, key) => el("td", { class: "n", "data-of": `leases/${i}/${key}` }, rows[i][key].toLocaleString("en"));
  return card("Leases that are over", el("table", { class: "rows" },
    el("tr", {}, el("th", {}, "Service level"), el("th", { class: "n" }, "Ended"), el("th", { class: "n" }, "Breached")),
    rows.map((r, i) => el("tr", {}, el("td", { class: "action" }, words(r.level)), number(i, "ended"), number(i, "breached")))),
  el("p", { class: "under" }, "Breached: its tiles ran slower than promised, by their own reports, or it was lost with them."));
}

function sitePanel(s) {
  const t = s.site;
  if (!t) return null;
  const w = t.waiting_seconds;
  const jobs = (key) => of(`site/${key}`, t[key].toLocaleString("en"));
  const maybe = (value, key, shown) => known(value) ? of(`site/${key}`, shown) : null;
  return card("Site",
    known(t.utilisation) && measure("Utilised", t.utilisation, of("site/utilisation", percent(t.utilisation))),
    known(t.gpu_allocated_fraction) && measure("Allocated", t.gpu_allocated_fraction, of("site/gpu_allocated_fraction", percent(t.gpu_allocated_fraction))),
    el("div", { style: "height:8px" }),
    list([["Jobs arrived", jobs("arrived")], ["placed", jobs("placed")], ["finished", jobs("finished")], ["refused", jobs("refused")], ["lost", jobs("lost")],
      ["Still waiting at the end", known(t.waiting) ? jobs("waiting") : null],
      ["Waited, half of them at most", maybe(w.p50, "waiting_seconds/p50", duration(w.p50))], ["19 in 20", maybe(w.p95, "waiting_seconds/p95", duration(w.p95))],
      ["longest", maybe(w.max, "waiting_seconds/max", duration(w.max))],
      ["Throttled", known(t.throttled_device_seconds) ? [of("site/throttled_device_seconds", said(count(t.throttled_device_seconds))), " device-seconds"] : null],
      ["Hottest device", known(t.device_max_kelvin) ? `${fixed(t.device_max_kelvin - 273.15, 1)} °C` : null],
      ["Cooling loops overloaded", maybe(t.loop_overload_seconds, "loop_overload_seconds", duration(t.loop_overload_seconds))]]));
}

// How the work of a site fared as a whole.
function replayPanel(s) {
  const r = s.replay;
  if (!r) return null;
  const number = (key) => of(`replay/${key}`, r[key].toLocaleString("en"));
  const maybe = (value, key, shown) => known(value) ? of(`replay/${key}`, shown) : null;
  const work = (value, key) => known(value) ? [of(key, said(count(value))), " GPU-seconds"] : null, w = r.fault_window;
  const over = (v) => known(v) ? `${fixed(Math.abs(v), 1)} K ${v > 0 ? "above" : "below"}` : null;
  return card("Work", list([
    ["Gangs started", number("gangs")], ["Started before earlier jobs", number("backfilled")], ["Preempted", number("preempted")], ["Started again", number("restarted")], ["Ended at their limit", number("at_limit")],
    ["Slowdown, half of them at most", maybe(r.slowdown.p50, "slowdown/p50", fixed(r.slowdown.p50, 2))], ["19 in 20", maybe(r.slowdown.p95, "slowdown/p95", fixed(r.slowdown.p95, 2))],
    ["Done and kept", work(r.gpu_seconds, "replay/gpu_seconds")], ["Done and lost", work(r.gpu_seconds_lost, "replay/gpu_seconds_lost")],
    ["Least left by the file system", maybe(r.storage_share_min, "storage_share_min", percent(r.storage_share_min))],
    ["Hottest, to where a device slows itself down", over(r.max_kelvin_over_throttle)],
    ["Lines of lists that were no work", r.left_out ? number("left_out") : null],
    ["Jobs of lists that were over before the run", r.before_begin ? number("before_begin") : null], ["that would have come after it", r.after_end ? number("after_end") : null]]),
  w && [el("p", { class: "under", style: "margin-bottom:4px" }, `While something was broken, from ${duration(w.from_seconds)} to ${duration(w.to_seconds)}:`), list([
    ["Done, less what was lost", work(w.gpu_seconds, "replay/fault_window/gpu_seconds")], ["Lost, whenever it was done", work(w.gpu_seconds_lost, "replay/fault_window/gpu_seconds_lost")],
    ["Slowed by own heat", known(w.throttled_hot_device_seconds) ? [of("replay/fault_window/throttled_hot_device_seconds", said(count(w.throttled_hot_device_seconds))), " device-seconds"] : null],
    ["Hottest, to where a device slows itself down", over(w.max_kelvin_over_throttle)]])],
  r.distances.length > 0 && [el("p", { class: "under", style: "margin-bottom:4px" }, "How far this is from what was measured elsewhere (Kolmogorov–Smirnov distance: 0 the same, 1 apart):"),
    list(r.distances.map((d, i) => [`${d.replayed} / ${d.measured}`, known(d.distance) ? of(`replay/distances/${i}/distance`, fixed(d.distance, 2)) : "–"]))]);
}

function figures(s, seed) {
  return el("section", { class: "figures" },
    figure(count(s.tiles), { site: "devices", fleet: "hosts", braid: "processes" }[s.kind] || "tiles", null, "tiles"),
    figure([duration(s.simulated_seconds), ""], "simulated", null, "simulated_seconds"),
    figure([duration(s.wall_seconds), ""], `wall, ${s.threads} thread${s.threads === 1 ? "" : "s"}`, null, "wall_seconds"),
    figure(count(s.events), "events", s.events.toLocaleString("en"), "events"),
    figure(count(s.events_per_second), "events per second", null, "events_per_second"),
    figure(bytes(s.peak_rss_bytes), "memory, at most", null, "peak_rss_bytes"),
    known(s.os_overhead_fraction) && figure([share(s.os_overhead_fraction), ""], "of a core, per tile, at most",
      "Processor time of the whole run over tiles and simulated time: heat model and engine included, so the protocols cost less."),
    el("div", { class: "figure", title: seed }, el("b", { class: "mono" }, seed), el("span", {}, "seed")),
    el("div", { class: "figure", title: s.history_hash }, el("b", { class: "mono" }, s.history_hash), el("span", {}, "history hash")));
}

const subject = (group, colour, seconds) => ({
  name: group.name, colour, seconds, columns: group.columns, limit: group.limit_kelvin, throttle: group.throttle_kelvin, setpoint: group.setpoint,
});

// One run

function runPage() {
  const { summary: s, series, map, seed } = data;
  const cluster = data.cluster && decoded(data.cluster);
  page.append(masthead("run", s.universe, s.intent));
  const stack = el("div", { class: "stack" });
  page.append(stack);
  const clocks = [];
  const now = (t) => clocks.forEach((c) => c && c.now(t));
  if (!s.complete) stack.append(el("p", { class: "notice" }, `This run was stopped at ${duration(s.simulated_seconds)}, before its end. What is shown happened; what was still to come is not judged.`));
  stack.append(verdicts(s), figures(s, seed));

  let sky = null;
  if (cluster && cluster.film.frames) {
    const host = el("section", { class: "card sky" });
    stack.append(host);
    sky = clusterMap(host, cluster, s, series.notables, now);
  }
  const pick = (t) => sky && sky.seek(t);
  if (cluster) clocks.push(...clusterCards(stack, cluster, s, series.notables, pick));

  const groups = s.kind === "site" ? "Cooling loops" : s.kind === "braid" ? "Tori" : map && map.layout === "hexagons" ? "The cell" : "Shells";
  const pictures = el("div", { class: "pictures" }), side = el("div", { class: "side" });
  const main = el("section", { class: "card" });
  pictures.append(main, side);
  stack.append(pictures);
  let charts = null;
  if (map && map.frames.length) {
    const host = el("section", { class: "card sky" });
    side.append(host);
    sky = skyMap(host, map, series.groups, s.kind, now);
  }
  if (series.notables.length) {
    side.append(card("What happened", el("ol", { class: "happened" }, series.notables.map((n, i) =>
      el("li", {}, el("button", { title: sky && "Show on the map", onclick: () => pick(n.seconds) }, el("b", {}, String(i + 1)), el("span", {}, duration(n.seconds)), el("div", {}, n.text))))),
    series.notables_untold > 0 && el("p", { class: "under" }, `and ${series.notables_untold.toLocaleString("en")} more, in history.db.`)));
  }
  if (cluster) side.classList.add("still");
  else if (!side.children.length) { side.remove(); pictures.classList.add("alone"); }
  if (series.groups.length && series.seconds.length) {
    let subjects = [];
    const colour = () => {
      const colours = groupColours(series.groups.length);
      subjects = series.groups.map((g, i) => subject(g, colours[i], series.seconds));
    };
    colour();
    charts = timeCharts(main, {
      title: `${groups} over time`, subjects: () => subjects, marks: () => series.notables, scale: s.kind === "site" ? "C" : "K",
      pick: sky && pick,
      // A cluster's queue has a card of its own.
      charts: cluster && CHARTS.filter((c) => c.metric !== "waiting"),
      quietly: sky && el("p", { class: "quiet" }, "Click a chart to move the map to that time."),
    });
    clocks.push(charts);
    dark.addEventListener("change", () => { colour(); charts.redraw(); });
  } else if (s.fleet) {
    main.append(...noticed(s.fleet));
  } else {
    main.append(el("h2", {}, "Over time"), el("p", { class: "quiet" }, "No samples were taken."));
  }
  if (cluster && cluster.jobs.n) stack.append(jobsCard(cluster, s));
  if (sky) now(sky.seconds());
  const command = repeat(s.command);
  command.append(el("p", { class: "under hash" }, s.complete ? "Repeated, it must end in history hash " : "It was stopped: repeated, it goes on to its end and has another history hash than what happened until then, ", el("code", {}, s.history_hash), "."));
  if (s.overrides.length) command.append(el("p", { class: "under" }, "Changed from the universe file: ", s.overrides.join(", ")));
  stack.append(command);

  const panels = el("div", { class: "panels" }), columns = [el("div", { class: "stack" }), el("div", { class: "stack" })];
  panels.append(...columns);
  stack.append(panels);
  const parts = [decisions(s.decisions), faults(s.faults), sitePanel(s), replayPanel(s), heatPanel(s), leases(s.leases), braidPanel(s.braid), membership(s.membership), locality(s.locality, s.kind)];
  for (const part of parts) {
    // Each below the shorter column. A cluster's map is above, so that there is room at the side.
    if (part) (cluster ? side : columns.reduce((a, b) => b.offsetHeight < a.offsetHeight ? b : a)).append(part);
  }
  for (const column of columns) if (!column.children.length) column.remove();
  const ask = card("Ask further", el("p", { class: "under", style: "margin:0" }, "Every decision, event and sample is in history.db beside this page; the file describes itself in its table schema."),
    el("pre", {}, "sqlite3 history.db \"SELECT round(seconds) AS t, action, reason, subject, found, bound\n  FROM decisions WHERE action = 'refuse' ORDER BY seconds LIMIT 20\""));
  ask.classList.add("wide");
  panels.append(ask);
  if (cluster) jobRoutes(stack, cluster, s, series.notables);
}

// Runs over each other

function comparisonPage() {
  const runs = data.runs;
  page.append(masthead("comparison", data.title, data.intent));
  const stack = el("div", { class: "stack" });
  page.append(stack);
  const names = [...new Set(runs.flatMap((r) => r.series.groups.map((g) => g.name)))];
  const worst = (name) => Math.max(...runs.flatMap((r) => r.series.groups.filter((g) => g.name === name).map((g) =>
    (max(g.columns.kelvin_max || g.columns.kelvin_mean || []) ?? -Infinity) - (g.limit_kelvin ?? 0))));
  let chosen = names.reduce((a, b) => worst(b) > worst(a) ? b : a, names[0]);
  const ROWS = [
    ["Invariants held", (s) => s.invariants.length ? [`${s.invariants.filter((i) => i.held).length} of ${s.invariants.length}`, s.invariants.every((i) => i.held)] : null],
    ["Broken first", (s) => { const b = s.invariants.filter((i) => i.first_violation).sort((a, c) => a.first_violation.seconds - c.first_violation.seconds)[0]; return b ? [`${words(b.name)}, ${duration(b.first_violation.seconds)}`, false] : null; }],
    ["Hottest against its limit", (s) => s.heat && known(s.heat.max_kelvin_over_limit) ? [s.heat.max_kelvin_over_limit > 0 ? `${fixed(s.heat.max_kelvin_over_limit, 1)} K over` : `${fixed(-s.heat.max_kelvin_over_limit, 1)} K below`, s.heat.max_kelvin_over_limit <= 0] : null],
    ["Lost to heat", (s) => s.heat ? [s.heat.tiles_lost.toLocaleString("en"), s.heat.tiles_lost === 0] : null],
    ["Highest load", (s) => s.heat && known(s.heat.max_load) ? [percent(s.heat.max_load)] : null],
    ["Utilisation", (s) => s.site ? [percent(s.site.utilisation)] : null],
    ["GPUs allocated", (s) => s.site ? [percent(s.site.gpu_allocated_fraction)] : null],
    ["Waited, half of them at most", (s) => s.site ? [duration(s.site.waiting_seconds.p50)] : null],
    ["Waited, 19 in 20", (s) => s.site ? [duration(s.site.waiting_seconds.p95)] : null],
    ["Jobs placed", (s) => s.site ? [s.site.placed.toLocaleString("en")] : null],
    ["Living, removed", (s) => s.membership ? [s.membership.false_removals.toLocaleString("en"), s.membership.false_removals === 0] : null],
    ["Failure known, 99 in 100", (s) => s.membership ? [duration(s.membership.detection_seconds.p99)] : null],
    ["Of a core, per tile, at most", (s) => known(s.os_overhead_fraction) ? [share(s.os_overhead_fraction)] : null],
    ["Simulated", (s) => [duration(s.simulated_seconds)]],
    ["Changed", (s) => [s.overrides.join(", ") || "nothing"]],
  ].map(([label, of]) => [label, runs.map((r) => of(r.summary))]).filter(([, cells]) => cells.some(Boolean));
  const swatches = [];
  const table = card("Side by side", el("table", { class: "rows" },
    el("tr", {}, el("th", {}, ""), runs.map((r) => { const i = el("i", { class: "swatch" }); swatches.push(i); return el("th", {}, i, " ", r.label); })),
    ROWS.map(([label, cells]) => el("tr", {}, el("td", {}, label), cells.map((c) => el("td", { class: c && c[1] !== undefined ? (c[1] ? "yes" : "no") : null }, c ? c[0] : "–"))))));
  const main = el("section", { class: "card" });
  let subjects = [];
  const choose = () => {
    const colours = runColours();
    swatches.forEach((s, i) => { s.style.cssText = `display:inline-block;width:10px;height:10px;border-radius:3px;background:${colours[i]}`; });
    subjects = runs.map((r, i) => {
      const group = r.series.groups.find((g) => g.name === chosen);
      return group && { ...subject(group, colours[i], r.series.seconds), name: r.label };
    }).filter(Boolean);
  };
  choose();
  stack.append(table, main);
  if (data.curves.length) curveCard(stack, data.curves);
  stack.append(repeat(data.command));
  const charts = timeCharts(main, { title: "Over time", subjects: () => subjects, marks: () => runs[0].series.notables, scale: runs[0].summary.kind === "site" ? "C" : "K", pick: null });
  if (names.length > 1) {
    main.querySelector("h2").append(" ", el("select", { "aria-label": "Which", onchange: (event) => { chosen = event.target.value; choose(); charts.redraw(); } },
      names.map((name) => el("option", { selected: name === chosen }, name))));
  }
  dark.addEventListener("change", () => { choose(); charts.redraw(); });
}

// A sweep

function sweepPage() {
  const { sweep, theory } = data;
  page.append(masthead("sweep", sweep.universe, sweep.intent));
  const stack = el("div", { class: "stack" });
  page.append(stack);
  // Below a ten-thousandth it is rounding of the clock, not a swing.
  const overshoot = (v) => v < 1e-4 ? `${v > 1e-5 ? "below 0.01" : "0"} %` : `${plain(v * 100, 3)} %`;
  const points = sweep.points.filter((p) => known(p.gain_times_delay)), found = sweep.boundaries;
  const versus = (measured, predicted) => known(measured) ? `${plain(measured)} measured, ${plain(predicted)} predicted (${measured >= predicted ? "+" : "−"}${fixed(Math.abs(measured / predicted - 1) * 100, 1)} %)` : `not reached; ${plain(predicted)} predicted`;
  stack.append(el("section", { class: "figures" },
    figure([String(sweep.points.length), ""], "runs"),
    ...(points.length ? [
    figure([plain(found.overshoot_begins), ""], "gain × delay where overshoot begins"),
    figure([plain(theory.overshoot_begins), ""], "predicted: 1/e"),
    figure([plain(found.instability_begins), ""], "gain × delay where it grows"),
    figure([plain(theory.instability_begins), ""], "predicted: π/2")] : [])));
  const broken = (p) => el("td", { class: p.held ? "yes" : "no" }, p.broken.map(words).join(", ") || "none");
  if (!points.length) {
    // No loop had anything to do, so there is nothing to say of gain and delay.
    stack.append(repeat(sweep.command), card("Runs", el("table", { class: "rows slender" },
      el("tr", {}, el("th", { class: "n" }, sweep.unit ? `${sweep.parameter}, ${sweep.unit}` : sweep.parameter), el("th", { class: "n" }, "Lost to heat"), el("th", {}, "Broken")),
      sweep.points.map((p) => el("tr", {}, el("td", { class: "n" }, plain(p.value, 4)), el("td", { class: "n" }, p.tiles_lost.toLocaleString("en")), broken(p))))));
    return;
  }
  const main = card(null, el("h2", {}, "Overshoot", el("small", {}, `of the thermal loop, by gain times delay; varied: ${sweep.parameter}`)));
  const node = svg("svg", { class: "plot", role: "img", "aria-label": "Overshoot by gain times delay" });
  main.append(node, el("p", { class: "under" }, `Overshoot begins at ${versus(found.overshoot_begins, theory.overshoot_begins)}. Swings grow from ${versus(found.instability_begins, theory.instability_begins)} on.`));
  stack.append(main, repeat(sweep.command));
  const rows = points.slice().sort((a, b) => a.gain_times_delay - b.gain_times_delay);
  stack.append(card("Runs", el("div", { style: "overflow-x: auto" }, el("table", { class: "rows slender" },
    el("tr", {}, el("th", { class: "n" }, sweep.unit ? `${sweep.parameter}, ${sweep.unit}` : sweep.parameter), el("th", { class: "n" }, "Gain × delay"), el("th", { class: "n" }, "Overshoot"), el("th", {}, "Swings"), el("th", {}, "Broken")),
    rows.map((p) => el("tr", {}, el("td", { class: "n" }, plain(p.value, 4)), el("td", { class: "n" }, plain(p.gain_times_delay, 4)), el("td", { class: "n" }, p.stable ? overshoot(p.overshoot) : "–"),
      el("td", { class: p.stable ? "yes" : "no" }, p.stable ? "die out" : "grow"), broken(p)))))));

  function draw() {
    const width = Math.max(260, node.clientWidth || main.clientWidth - 36), height = Math.min(420, width * 0.72), slim = width < 560;
    const left = 50, right = width - 14, top = slim ? 58 : 44, bottom = height - 40;
    const reach = Math.max(theory.instability_begins * 1.15, ...rows.map((p) => p.gain_times_delay)) * 1.02;
    const tame = rows.filter((p) => p.stable && known(p.overshoot)).map((p) => p.overshoot);
    // Close to the edge overshoot has no end, and would flatten the rest.
    const high = Math.min(2, Math.max(0.1, ...tame)) * 1.15;
    const x = (v) => left + v / reach * (right - left), y = (v) => bottom - Math.min(1, v / high) * (bottom - top);
    const parts = [];
    const zone = (from, to, colour, label) => {
      if (to <= from) return;
      parts.push(svg("rect", { x: x(from), y: top, width: x(to) - x(from), height: bottom - top, fill: colour }));
      parts.push(svg("text", { x: (x(from) + x(to)) / 2, y: top + 32, "text-anchor": "middle", class: "end" }, label));
    };
    const a = theory.overshoot_begins, b = theory.instability_begins;
    zone(0, a, "color-mix(in srgb, var(--good) 9%, transparent)", slim ? "calm" : "settles without swinging");
    zone(a, b, "color-mix(in srgb, var(--mark) 9%, transparent)", slim ? "swings" : "swings, and settles");
    zone(b, reach, "color-mix(in srgb, var(--limit) 12%, transparent)", slim ? "grows" : "swings grow");
    for (const v of valueTicks(0, high, 5)) {
      parts.push(svg("line", { class: "grid", x1: left, x2: right, y1: y(v), y2: y(v) }), svg("text", { x: left - 7, y: y(v) + 4, "text-anchor": "end" }, `${plain(v * 100)} %`));
    }
    for (const v of valueTicks(0, reach, slim ? 4 : 8)) parts.push(svg("text", { x: x(v), y: bottom + 17, "text-anchor": "middle" }, plain(v)));
    parts.push(svg("text", { x: (left + right) / 2, y: height - 4, "text-anchor": "middle" }, "gain × delay"));
    for (const [v, symbol, measured] of [[a, "1/e", found.overshoot_begins], [b, "π/2", found.instability_begins]]) {
      parts.push(svg("line", { x1: x(v), x2: x(v), y1: top - 8, y2: bottom, stroke: "var(--ink)", "stroke-width": 1.4, "stroke-dasharray": "5 4" }),
        svg("text", { x: x(v), y: top - 28 - (slim ? 12 : 0), "text-anchor": "middle", class: "end", style: "fill:var(--ink)" }, slim ? symbol : `theory ${symbol} = ${plain(v)}`));
      if (known(measured)) {
        parts.push(svg("line", { x1: x(measured), x2: x(measured), y1: top - 8, y2: bottom, stroke: "var(--accent)", "stroke-width": 2 }),
          svg("text", { x: x(measured), y: top - 14, "text-anchor": "middle", class: "end", style: "fill:var(--accent)" }, `${slim ? "" : "measured "}${plain(measured)}`));
      }
    }
    const stable = rows.filter((p) => p.stable);
    parts.push(svg("path", { class: "line", d: path(stable.map((p) => p.gain_times_delay), stable.map((p) => p.overshoot), x, y), stroke: "var(--accent)", "stroke-width": 1.5, opacity: 0.5 }));
    for (const p of rows) {
      const px = x(p.gain_times_delay);
      const title = svg("title", {}, `${sweep.parameter} = ${plain(p.value, 4)}${sweep.unit}: gain × delay ${plain(p.gain_times_delay, 4)}, overshoot ${p.stable ? overshoot(p.overshoot) : "without end"}, ${p.stable ? "settles" : "grows"}`);
      if (p.stable && p.overshoot > high) parts.push(svg("path", { d: `M${px} ${top + 3}l5 9h-10z`, fill: "var(--accent)", stroke: "var(--card)", "stroke-width": 1 }, title));
      else if (p.stable) parts.push(svg("circle", { cx: px, cy: y(p.overshoot), r: 4, fill: "var(--accent)", stroke: "var(--card)", "stroke-width": 1 }, title));
      else parts.push(svg("path", { d: `M${px - 4} ${top + 4}l8 8m0 -8l-8 8`, stroke: "var(--limit)", "stroke-width": 2.2, "stroke-linecap": "round" }, title));
    }
    node.setAttribute("viewBox", `0 0 ${width} ${height}`);
    node.setAttribute("height", height);
    node.replaceChildren(...parts);
  }
  draw();
  onWidth(main, draw);
}

function start() {
  ({ run: runPage, comparison: comparisonPage, sweep: sweepPage, packing: packingPage })[data.page]();
}
