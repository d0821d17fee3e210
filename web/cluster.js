// What a cluster's run has besides: the map of its nodes, the queue, tenants, loops, and a page for
// each job, at #job/ID. Columns are decoded once into typed arrays; everything else is an index into them.

const UNUSED = 0xffffffff;

function decoded(raw) {
  const column = (text, type) => new type(bytesOf(text).buffer);
  const { film: f, jobs: j } = raw;
  const film = { ...f, n: f.names.length, frames: f.seconds.length };
  for (const key of ["utilisation", "kelvin", "free", "fragmented"]) film[key] = bytesOf(f[key]);
  const jobs = { ...j, n: j.names.length, id: column(j.id, Float64Array), state: bytesOf(j.state) };
  for (const key of ["tenant", "want", "gpu_milli", "tasks"]) jobs[key] = column(j[key], Uint32Array);
  for (const key of ["arrived", "started", "ended"]) jobs[key] = column(j[key], Float64Array);
  const steps = { ...j.steps, seconds: column(j.steps.seconds, Float64Array), action: bytesOf(j.steps.action), reason: bytesOf(j.steps.reason) };
  for (const key of ["of", "node", "text", "why"]) steps[key] = column(j.steps[key], Uint32Array);
  // Where each job's decisions begin.
  steps.first = new Uint32Array(jobs.n + 1);
  for (let i = 0; i < jobs.n; i += 1) steps.first[i + 1] = steps.first[i] + steps.of[i];
  const stays = { ...j.stays };
  for (const key of ["job", "node", "gpu_milli"]) stays[key] = column(j.stays[key], Uint32Array);
  for (const key of ["from", "to"]) stays[key] = column(j.stays[key], Float64Array);
  stays.onNode = grouped(stays.node, film.n);
  stays.ofJob = grouped(stays.job, jobs.n);
  const byId = new Map();
  for (let i = 0; i < jobs.n; i += 1) byId.set(jobs.id[i], i);
  return { ...raw, film, jobs, steps, stays, byId };
}

// The places of each key, in order: `of(k)` gives those of one.
function grouped(keys, n) {
  const first = new Uint32Array(n + 1), places = new Uint32Array(keys.length);
  for (const k of keys) first[k + 1] += 1;
  for (let k = 0; k < n; k += 1) first[k + 1] += first[k];
  const next = first.slice();
  keys.forEach((k, i) => { places[next[k]] = i; next[k] += 1; });
  return (k) => places.subarray(first[k], first[k + 1]);
}

const gpus = (milli) => plain(milli / 1000, 4);
const plural = (n, one) => `${n.toLocaleString("en")} ${one}${n === 1 ? "" : "s"}`;

// The map. Lightness always rises with the value, as in HEAT.
const ramp = (hue, to, low, high, chroma) => Array.from({ length: 256 }, (_, i) => {
  const t = i / 255;
  return oklch(low + (high - low) * t, chroma * (0.35 + 0.65 * Math.sin(Math.PI * Math.min(1, 0.15 + 0.7 * t))), hue + (to - hue) * t);
});
const BUSY = ramp(262, 190, 0.26, 0.9, 0.13);
const SPLIT = ramp(300, 350, 0.26, 0.92, 0.17);

function clusterMap(host, cluster, summary, notables, moved) {
  const { film, stays, jobs } = cluster, { n, whole, unknown } = film;
  // How far below its limit the scale of heat begins, rounded up to ten kelvin.
  const kelvinOf = (byte) => film.kelvin_low + film.kelvin_step * byte;
  let coldest = 0;
  for (let i = 0; i < film.kelvin.length; i += 1) {
    const limit = film.limit_kelvin[i % n];
    if (film.kelvin[i] && known(limit)) coldest = Math.max(coldest, limit - kelvinOf(film.kelvin[i]));
  }
  const judged = coldest > 0, below = Math.max(10, Math.ceil(coldest / 10) * 10);
  let hottestByte = 1, coldestByte = 255;
  if (!judged) for (const byte of film.kelvin) if (byte) { hottestByte = Math.max(hottestByte, byte); coldestByte = Math.min(coldestByte, byte); }
  const heatShare = (byte, i) => judged ? 1 + (kelvinOf(byte) - film.limit_kelvin[i]) / below : (byte - coldestByte) / Math.max(1, hottestByte - coldestByte);

  const MEASURES = {
    utilisation: { label: "Utilisation", ramp: BUSY, ends: ["idle", "all in use"], share: (at) => film.utilisation[at] / whole },
    heat: { label: "Heat", ramp: HEAT, ends: judged ? [`${below} K below`, "its limit"] : [`${fixed(kelvinOf(coldestByte) - 273.15, 0)} °C`, `${fixed(kelvinOf(hottestByte) - 273.15, 0)} °C`],
      share: (at, i) => film.kelvin[at] ? heatShare(film.kelvin[at], i) : NaN },
    fragmentation: { label: "Fragmentation", ramp: SPLIT, ends: ["none", "half its GPUs"], share: (at, i) => film.gpus[i] ? 2 * film.fragmented[at] / whole : NaN },
  };
  let measure = "utilisation", frame = 0, pinned = -1, pointed = -1, playing = null, boxes = new Float32Array(0), size = [0, 0, 1], labels = [];

  // Nodes of a rack stand in the order of the list.
  const slot = new Uint32Array(n), column = new Uint32Array(n), height = new Map(), place = new Map(), widths = new Map();
  for (let i = 0; i < n; i += 1) {
    const rack = film.rack[i], row = film.row[i];
    slot[i] = height.get(rack) || 0;
    height.set(rack, slot[i] + 1);
    if (!place.has(rack)) { place.set(rack, widths.get(row) || 0); widths.set(row, place.get(rack) + 1); }
    column[i] = place.get(rack);
  }
  const rows = [...new Set(film.row)].sort((a, b) => a - b), racks = Math.max(...widths.values()), slots = Math.max(...height.values());

  const canvas = el("canvas", { tabindex: 0, role: "application", "aria-roledescription": "map", "aria-label": `Map of ${plural(n, "node")}. Arrow keys go from node to node, Enter holds one, Escape lets it go.` });
  const slider = el("input", { type: "range", min: 0, max: film.frames - 1, value: 0, "aria-label": "Time", oninput: () => show(+slider.value) });
  const clock = el("output", {});
  const play = el("button", { class: "play", "aria-label": "Play", onclick: toggle }, "▶");
  const segments = el("div", { class: "segments", role: "group", "aria-label": "Colour by" }, Object.entries(MEASURES).map(([key, m]) =>
    el("button", { "aria-pressed": String(key === measure), "data-measure": key, onclick: () => colourBy(key) }, m.label)));
  const bar = el("div", { class: "bar" }), ends = el("div", { class: "ends" });
  const inspector = el("div", { class: "inspector", "aria-live": "polite" });
  host.classList.add("cluster-map");
  host.append(
    el("div", { class: "head" }, el("h2", {}, "Cluster", el("small", {}, `${plural(n, "node")} in ${plural(widths.size === 0 ? 0 : place.size, "rack")} and ${plural(rows.length, "row")}`)), segments),
    el("div", { class: "floor" },
      el("div", {}, canvas,
        el("div", { class: "scale" }, el("div", {}, bar, ends), el("div", {}, el("div", { class: "swatch over" }), "over"), el("div", {}, el("div", { class: "swatch gone" }), "dark"))),
      inspector),
    el("div", { class: "time" }, film.frames > 1 && play, film.frames > 1 && slider, clock));

  function lay() {
    const width = Math.max(220, canvas.parentNode.clientWidth), aisle = 20;
    // As few rows beside each other as keep the map low, and nodes no narrower than 7 pixels.
    const fit = (lines) => {
      const pitch = (width - aisle * (lines - 1)) / lines / racks, w = Math.max(1, pitch - Math.min(3, pitch * 0.14));
      const h = Math.max(4, Math.min(13, w * 0.5)), block = 16 + slots * (h + 1) + 12;
      return { lines, pitch, w, h, block, height: Math.ceil(rows.length / lines) * block };
    };
    const choices = rows.map((_, i) => fit(i + 1)).filter((c, i) => i === 0 || c.pitch >= 8), low = choices.filter((c) => c.height <= 600);
    const chosen = low.find((c) => rows.length % c.lines === 0) || low[0] || choices[choices.length - 1];
    const { lines, pitch, w, h, block } = chosen;
    boxes = new Float32Array(4 * n);
    const left = (at) => (at % lines) * (racks * pitch + aisle), top = (at) => Math.floor(at / lines) * block;
    const order = new Map(rows.map((row, at) => [row, at]));
    for (let i = 0; i < n; i += 1) {
      const at = order.get(film.row[i]);
      boxes.set([left(at) + column[i] * pitch, top(at) + 16 + slot[i] * (h + 1), w, h], 4 * i);
    }
    labels = rows.map((row, at) => {
      const coolants = [...new Set([...film.coolant].filter((_, i) => film.row[i] === row))].map((c) => cluster.loops[c] && cluster.loops[c].name).filter(Boolean);
      const text = `row ${row + 1}`, more = racks * pitch > 150 ? ` · ${coolants.join(", ")}` : "";
      return { x: left(at), y: top(at) + 10, text: coolants.length && more ? text + more : text };
    });
    const dots = Math.min(3, devicePixelRatio || 1);
    size = [width, chosen.height, dots];
    canvas.width = Math.round(width * dots);
    canvas.height = Math.round(chosen.height * dots);
    canvas.style.height = `${chosen.height}px`;
  }

  function paint() {
    const c = canvas.getContext("2d"), { ramp: colours, share } = MEASURES[measure], from = frame * n;
    c.setTransform(size[2], 0, 0, size[2], 0, 0);
    c.clearRect(0, 0, size[0], size[1]);
    c.font = "11px system-ui, sans-serif";
    c.fillStyle = "#93a0bf";
    for (const { x, y, text } of labels) c.fillText(text, x, y);
    const over = [], gone = [];
    for (let i = 0; i < n; i += 1) {
      const at = from + i, b = 4 * i;
      if (film.utilisation[at] === unknown) { gone.push(b); continue; }
      const v = share(at, i);
      if (measure === "heat" && judged && v > 1) { over.push(b); continue; }
      c.fillStyle = v >= 0 || v < 0 ? colours[v <= 0 ? 0 : v >= 1 ? 255 : (v * 255) | 0] : "#1a2238";
      c.fillRect(boxes[b], boxes[b + 1], boxes[b + 2], boxes[b + 3]);
    }
    c.lineWidth = 1;
    c.strokeStyle = "#6f81a8";
    for (const b of gone) c.strokeRect(boxes[b] + 0.5, boxes[b + 1] + 0.5, boxes[b + 2] - 1, boxes[b + 3] - 1);
    c.fillStyle = "#fff";
    c.strokeStyle = "#ff3b52";
    c.lineWidth = 1.5;
    for (const b of over) { c.fillRect(boxes[b], boxes[b + 1], boxes[b + 2], boxes[b + 3]); c.strokeRect(boxes[b] + 0.75, boxes[b + 1] + 0.75, boxes[b + 2] - 1.5, boxes[b + 3] - 1.5); }
    for (const [i, colour, by] of [[pointed, "#ffffff", 2], [pinned, "#ffffff", 2.5]]) {
      if (i < 0) continue;
      c.strokeStyle = "#0a0f1d"; c.lineWidth = by + 2;
      c.strokeRect(boxes[4 * i] - 1.5, boxes[4 * i + 1] - 1.5, boxes[4 * i + 2] + 3, boxes[4 * i + 3] + 3);
      c.strokeStyle = colour; c.lineWidth = by;
      c.strokeRect(boxes[4 * i] - 1.5, boxes[4 * i + 1] - 1.5, boxes[4 * i + 2] + 3, boxes[4 * i + 3] + 3);
    }
    canvas.dataset.frame = frame;
    canvas.dataset.drawn = 1 + (+canvas.dataset.drawn || 0);
  }

  function colourBy(key) {
    measure = key;
    for (const b of segments.children) b.setAttribute("aria-pressed", String(b.dataset.measure === key));
    const m = MEASURES[key];
    bar.style.background = `linear-gradient(90deg,${m.ramp.filter((_, i) => i % 15 === 0).join(",")})`;
    ends.replaceChildren(...m.ends.map((text) => el("span", {}, text)));
    host.classList.toggle("no-limit", key !== "heat" || !judged);
    paint();
  }

  // What is under the pointer, or held, or the site.
  function inspect() {
    const i = pointed >= 0 ? pointed : pinned, from = frame * n;
    inspector.replaceChildren(...(i >= 0 ? node(i) : site()).flat(Infinity).filter(Boolean));
    function node(i) {
      const at = from + i, dead = film.utilisation[at] === unknown, t = film.seconds[frame];
      const here = [...stays.onNode(i)].filter((s) => stays.from[s] <= t && !(stays.to[s] <= t));
      const kelvin = film.kelvin[at] ? kelvinOf(film.kelvin[at]) : NaN, limit = film.limit_kelvin[i];
      const model = film.models[film.model[i]];
      return [
        el("h3", {}, film.names[i]),
        el("p", {}, [film.gpus[i] ? `${film.gpus[i]} × ${model}` : "no GPUs", `row ${film.row[i] + 1}`, `rack ${column[i] + 1}`, cluster.loops[film.coolant[i]] && cluster.loops[film.coolant[i]].name].filter(Boolean).join(" · ")),
        dead ? el("p", { class: "dead" }, "Dark at this time.") : list([
          ["Utilisation", percent(film.utilisation[at] / whole, 0)],
          ["Hottest device", known(kelvin) ? `${fixed(kelvin - 273.15, 1)} °C` : null],
          ["", known(kelvin) && known(limit) ? (kelvin > limit ? `${fixed(kelvin - limit, 1)} K over its limit` : `${fixed(limit - kelvin, 1)} K below its limit`) : null],
          ["GPUs free", film.gpus[i] ? `${plain(film.gpus[i] * film.free[at] / whole, 2)} of ${film.gpus[i]}` : null],
          ["fragmented", film.gpus[i] ? plain(film.gpus[i] * film.fragmented[at] / whole, 2) : null]]),
        el("h4", {}, here.length ? plural(here.length, "job") : dead ? "" : "No jobs"),
        el("ul", {}, here.slice(0, 10).map((s) => el("li", {}, jobLink(cluster, stays.job[s]), el("span", {}, stays.gpu_milli[s] ? `${gpus(stays.gpu_milli[s])} GPU` : "CPU")))),
        here.length > 10 && el("p", {}, `and ${here.length - 10} more`),
      ];
    }
    function site() {
      let capacity = 0, used = 0, free = 0, lost = 0, dead = 0, hottest = -1, by = -Infinity;
      for (let i = 0; i < n; i += 1) {
        const at = from + i;
        if (film.utilisation[at] === unknown) { dead += 1; continue; }
        capacity += film.gpus[i]; free += film.gpus[i] * film.free[at] / whole; lost += film.gpus[i] * film.fragmented[at] / whole;
        used += film.gpus[i] * film.utilisation[at] / whole;
        const over = film.kelvin[at] ? kelvinOf(film.kelvin[at]) - (judged && known(film.limit_kelvin[i]) ? film.limit_kelvin[i] : 0) : -Infinity;
        if (over > by) { by = over; hottest = i; }
      }
      const q = nearest(cluster.seconds, film.seconds[frame]);
      return [
        el("h3", {}, "The whole site"),
        el("p", {}, "Point at a node, or click one to hold it."),
        list([
          ["Utilisation", capacity ? percent(used / capacity, 1) : null],
          ["GPUs free", `${plain(free, 3)} of ${capacity.toLocaleString("en")}`],
          ["fragmented", plain(lost, 3)],
          ["Dark nodes", String(dead)],
          ["Jobs waiting", cluster.seconds.length ? plain(cluster.queue.jobs[q]) : null],
          ["Hottest", hottest < 0 ? null : el("button", { class: "link", onclick: () => hold(hottest) }, film.names[hottest])],
          ["", hottest < 0 ? null : judged ? (by > 0 ? `${fixed(by, 1)} K over its limit` : `${fixed(-by, 1)} K below its limit`) : `${fixed(by - 273.15, 1)} °C`]]),
      ];
    }
  }

  function show(index, silent) {
    if (index === frame && canvas.dataset.frame !== undefined && !silent) return;
    frame = index;
    slider.value = index;
    clock.textContent = duration(film.seconds[frame]);
    slider.setAttribute("aria-valuetext", clock.textContent);
    paint();
    inspect();
    if (!silent) moved(film.seconds[frame]);
  }
  function point(i) { if (i === pointed) return; pointed = i; paint(); inspect(); }
  function hold(i) { pinned = i === pinned ? -1 : i; pointed = -1; paint(); inspect(); }

  function hit(event) {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    for (let i = 0; i < n; i += 1) {
      const b = 4 * i;
      if (x >= boxes[b] - 1 && x <= boxes[b] + boxes[b + 2] + 1 && y >= boxes[b + 1] - 0.5 && y <= boxes[b + 1] + boxes[b + 3] + 0.5) return i;
    }
    return -1;
  }
  // The next node in a direction: the nearest whose way there is mostly along it.
  function beside(i, dx, dy) {
    let best = i, least = Infinity;
    for (let k = 0; k < n; k += 1) {
      const x = boxes[4 * k] - boxes[4 * i], y = boxes[4 * k + 1] - boxes[4 * i + 1];
      const along = x * dx + y * dy, across = Math.abs(x * dy) + Math.abs(y * dx);
      if (along > 0.5 && along + 4 * across < least) { least = along + 4 * across; best = k; }
    }
    return best;
  }

  function toggle() {
    if (playing) { cancelAnimationFrame(playing); playing = null; play.textContent = "▶"; play.setAttribute("aria-label", "Play"); return; }
    play.textContent = "❚❚";
    play.setAttribute("aria-label", "Pause");
    let began = null;
    const first = frame >= film.frames - 1 ? 0 : frame;
    const step = (time) => {
      began ??= time;
      // The whole run in twenty seconds.
      const index = first + Math.floor((time - began) / 20000 * film.frames);
      if (index >= film.frames) { show(film.frames - 1); toggle(); return; }
      show(index);
      playing = requestAnimationFrame(step);
    };
    playing = requestAnimationFrame(step);
  }

  canvas.addEventListener("pointermove", (event) => point(hit(event)));
  canvas.addEventListener("pointerleave", () => point(-1));
  canvas.addEventListener("click", (event) => { const i = hit(event); if (i >= 0) hold(i); else if (pinned >= 0) hold(pinned); });
  canvas.addEventListener("keydown", (event) => {
    const step = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key];
    const at = pointed >= 0 ? pointed : pinned;
    if (step) { event.preventDefault(); point(at < 0 ? 0 : beside(at, ...step)); }
    else if (event.key === "Enter" && at >= 0) hold(at);
    else if (event.key === "Escape") { pinned = -1; pointed = -1; paint(); inspect(); }
  });
  canvas.addEventListener("blur", () => point(-1));
  onWidth(host, () => { lay(); paint(); });
  lay();
  // Where the most was in use, which shows more than the empty beginning.
  let busiest = 0, most = -1;
  for (let f = 0; f < film.frames; f += 1) {
    let sum = 0;
    for (let i = 0; i < n; i += 1) { const byte = film.utilisation[f * n + i]; if (byte !== unknown) sum += byte; }
    if (sum > most) { most = sum; busiest = f; }
  }
  const fault = notables.find((m) => m.seconds > 0);
  frame = busiest;
  colourBy(measure);
  show(fault && most <= 0 ? nearest(film.seconds, fault.seconds) : busiest, true);
  return {
    seek: (t) => show(nearest(film.seconds, t)),
    seconds: () => film.seconds[frame],
    hold: (i, t) => { if (known(t)) show(nearest(film.seconds, t)); pinned = i; pointed = -1; paint(); inspect(); },
  };
}

// Queue, tenants and loops

const QUEUE = [
  { metric: "jobs", title: "Jobs waiting", column: "jobs", height: 130, counts: true },
  { metric: "gpus", title: "GPUs they ask for", column: "GPUs", height: 110, counts: true },
  { metric: "oldest_seconds", title: "Waiting longest", note: "age of the job that has waited longest", column: "oldest", span: true, height: 130, counts: true },
];
const SHARES = [{ metric: "dominant_share", title: "Dominant share", note: "of the scarcest resource each uses; dotted, its weighted fair share", column: "share", percent: true, height: 400, own: "fair_share" }];

function clusterCards(stack, cluster, summary, notables, pick) {
  const clocks = [], { seconds } = cluster;
  const marks = () => notables;
  const pair = el("div", { class: "panels" });
  if (seconds.length) {
    const queue = el("section", { class: "card" });
    pair.append(queue);
    let subjects = [];
    const colour = () => { subjects = [{ name: "queue", colour: groupColours(1)[0], seconds, columns: cluster.queue }]; };
    colour();
    const charts = timeCharts(queue, { title: "Queue and waiting", subjects: () => subjects, marks, charts: QUEUE, pick });
    clocks.push(charts);
    dark.addEventListener("change", () => { colour(); charts.redraw(); });
    if (summary.site) queue.append(waited(summary.site.waiting_seconds));
  }
  if (cluster.tenants.length && seconds.length) {
    const fairness = el("section", { class: "card" });
    pair.append(fairness);
    const swatches = [];
    let subjects = [];
    const colour = () => {
      const colours = groupColours(cluster.tenants.length), weights = cluster.tenants.reduce((sum, t) => sum + t.weight, 0);
      subjects = cluster.tenants.map((t, i) => ({ name: t.name, colour: colours[i], seconds, columns: { dominant_share: t.dominant_share }, fair_share: t.weight / weights }));
      swatches.forEach((s, i) => { s.style.background = colours[i]; });
    };
    colour();
    const charts = timeCharts(fairness, { title: "Fairness among tenants", subjects: () => subjects, marks, charts: SHARES, pick, keys: [[null, "dominant share"], ["1.5 3", "fair share"]] });
    clocks.push(charts);
    if (summary.replay && summary.replay.tenants.length) {
      const table = card("Tenants", tenantTable(summary.replay.tenants, swatches));
      table.classList.add("wide");
      pair.append(table);
    }
    colour();
    dark.addEventListener("change", () => { colour(); charts.redraw(); });
  }
  if (pair.children.length === 1) pair.firstChild.classList.add("wide");
  if (pair.children.length) stack.append(pair);
  if (cluster.loops.length && seconds.length) {
    const host = el("section", { class: "card" });
    stack.append(host);
    clocks.push(loopCharts(host, cluster, notables, pick));
  }
  return clocks;
}

function waited(w) {
  const each = [["p50", "half"], ["p95", "19 in 20"], ["p99", "99 in 100"], ["max", "longest"]].filter(([q]) => known(w[q]));
  return el("p", { class: "under" }, each.length ? ["From arrival to start, at most: ", each.map(([q, label], i) => [i ? " · " : "", `${label} `, el("b", {}, of(`site/waiting_seconds/${q}`, duration(w[q])))])] : "No job started.");
}

function tenantTable(tenants, swatches) {
  const weights = tenants.reduce((sum, t) => sum + (t.weight || 0), 0);
  const fair = (t) => t.weight / weights, reach = Math.max(...tenants.map((t) => Math.max(t.gpu_share || 0, fair(t) || 0))) * 1.1 || 1;
  const spread = (t, i, what, say) => ["p50", "p95"].map((q) => el("td", { class: "n" }, known(t[what][q]) ? of(`replay/tenants/${i}/${what}/${q}`, say(t[what][q])) : "–"));
  const number = (t, i, key) => el("td", { class: "n" }, of(`replay/tenants/${i}/${key}`, t[key].toLocaleString("en")));
  const swatch = () => { const i = el("i", { class: "dot" }); swatches.push(i); return i; };
  return el("div", { class: "wide-table" }, el("table", { class: "rows tenants" },
    el("thead", {}, el("tr", {}, el("th", {}, "Tenant"), el("th", { class: "n" }, "Weight"), el("th", { class: "n" }, "Jobs"), el("th", { class: "n" }, "Finished"), el("th", { class: "n", title: "Times a job was stopped, to go on later" }, "Stopped"),
      el("th", { class: "n" }, "Waited, half"), el("th", { class: "n" }, "19 in 20"), el("th", { class: "n", title: "Time from arrival to end over run time; run times below 10 s count as 10 s" }, "Slowdown, half"), el("th", { class: "n" }, "19 in 20"),
      el("th", { class: "share" }, "Of all GPU time; the mark is fair"), el("th", { class: "n" }, ""))),
    el("tbody", {}, tenants.map((t, i) => el("tr", {}, el("td", {}, swatch(), t.name), el("td", { class: "n" }, known(t.weight) ? of(`replay/tenants/${i}/weight`, plain(t.weight)) : "–"),
      number(t, i, "arrived"), number(t, i, "finished"), number(t, i, "stopped"),
      spread(t, i, "waiting_seconds", duration), spread(t, i, "slowdown", (v) => fixed(v, 2)),
      el("td", { class: "share" }, el("div", { class: "bar" }, el("i", { style: `width:${100 * (t.gpu_share || 0) / reach}%` }), known(fair(t)) && el("u", { style: `left:${100 * fair(t) / reach}%` }))),
      el("td", { class: "n" }, known(t.gpu_share) ? of(`replay/tenants/${i}/gpu_share`, percent(t.gpu_share)) : "–"))))));
}

// A small chart for each loop, all to one scale of share: heat as an area under what can be carried.
function loopCharts(host, cluster, notables, pick) {
  const { seconds, loops } = cluster, end = seconds[seconds.length - 1];
  const megawatts = (w) => { const [value, unit] = scaled(w, 1000, ["W", "kW", "MW", "GW"]); return `${value} ${unit}`; };
  const grid = el("div", { class: "small-charts" });
  host.append(el("div", { class: "head" }, el("h2", {}, "Cooling loops", el("small", {}, "heat they are given against what they can carry"))),
    el("div", { class: "legend" }, ...[["area", "heat"], ["line", "capacity"], ["overload", "more than it can carry"], ["fault", "part of it failed"]].map(([name, text]) => el("span", { class: "key" }, el("i", { class: `sample ${name}` }), text))), grid);
  let at = null;
  const plots = loops.map((loop) => {
    const most = Math.max(0, ...loop.watts.map((w, i) => known(w) && loop.capacity_watts[i] > 0 ? w / loop.capacity_watts[i] : 0));
    const over = loop.watts.some((w, i) => w > loop.capacity_watts[i]);
    const node = svg("svg", { class: "plot", role: "img", tabindex: 0, "aria-label": `Heat of ${loop.name} against its capacity; at most ${percent(most, 0)}` });
    grid.append(el("div", {}, el("h3", {}, loop.name, el("small", { class: over ? "no" : null }, `at most ${percent(most, 0)}`)), node));
    const plot = { loop, node };
    const time = (event) => Math.max(0, Math.min(end, plot.time(event.clientX - node.getBoundingClientRect().left)));
    node.addEventListener("pointermove", (event) => cross(plot, time(event), event.clientX, event.clientY));
    node.addEventListener("pointerleave", () => cross(null));
    node.addEventListener("blur", () => cross(null));
    node.addEventListener("click", (event) => pick(time(event)));
    node.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
      if (!step) { if (event.key === "Escape") cross(null); return; }
      event.preventDefault();
      const box = node.getBoundingClientRect(), t = Math.max(0, Math.min(end, (plot.crossed ?? at ?? 0) + step * end / 100));
      cross(plot, t, box.left + plot.place(t), box.top + 30);
      pick(t);
    });
    return plot;
  });

  function draw() {
    for (const plot of plots) {
      const { loop, node } = plot, width = Math.max(180, node.clientWidth || 240), height = 116, left = 4, right = width - 4, top = 8, bottom = height - 18;
      const high = Math.max(1, ...loop.watts.filter(known), ...loop.capacity_watts.filter(known)) * 1.06;
      const x = (t) => left + t / (end || 1) * (right - left), y = (w) => bottom - w / high * (bottom - top);
      Object.assign(plot, { place: x, rise: y, time: (px) => (px - left) / (right - left) * end });
      const line = path(seconds, loop.watts, x, y), first = x(seconds[0]), last = x(end);
      const ceiling = path(seconds, loop.capacity_watts, x, y, true);
      const under = `${line}L${last} ${bottom}L${first} ${bottom}Z`;
      const id = `over-${plots.indexOf(plot)}`;
      const parts = [
        svg("clipPath", { id }, svg("path", { d: `${ceiling}L${last} 0L${first} 0Z` })),
        loop.faults.map((f) => svg("rect", { class: "fault", x: x(f.from_seconds), y: top - 6, width: Math.max(2, x(known(f.to_seconds) ? f.to_seconds : end) - x(f.from_seconds)), height: bottom - top + 6 },
          svg("title", {}, `${percent(f.left, 0)} of its capacity left`))),
        svg("line", { class: "grid", x1: left, x2: right, y1: bottom, y2: bottom }),
        svg("path", { class: "area", d: under }),
        svg("path", { class: "overload", d: under, "clip-path": `url(#${id})` }),
        svg("path", { class: "line", d: line, stroke: "var(--accent)", "stroke-width": 1.5 }),
        svg("path", { class: "line", d: ceiling, stroke: "var(--ink)", "stroke-width": 1.3, "stroke-dasharray": "5 3" }),
        timeTicks(0, end, Math.max(2, width / 90)).map(([t, label]) => svg("text", { x: x(t), y: height - 4, "text-anchor": x(t) > width - 22 ? "end" : x(t) < 14 ? "start" : "middle" }, label)),
      ];
      plot.now = svg("line", { class: "now", y1: top - 6, y2: bottom, visibility: "hidden" });
      plot.cross = svg("line", { class: "cross", y1: top - 6, y2: bottom, visibility: "hidden" });
      node.setAttribute("viewBox", `0 0 ${width} ${height}`);
      node.setAttribute("height", height);
      node.replaceChildren(...parts.flat(Infinity), plot.now, plot.cross, svg("rect", { x: 0, y: 0, width, height, fill: "transparent" }));
    }
    if (at !== null) now(at);
  }
  function line(node, x) { node.setAttribute("visibility", x === null ? "hidden" : "visible"); if (x !== null) { node.setAttribute("x1", x); node.setAttribute("x2", x); } }
  function cross(of, t, x, y) {
    for (const plot of plots) { plot.crossed = of ? t : null; line(plot.cross, of ? plot.place(t) : null); }
    if (!of) { hideTip(); return; }
    const i = nearest(seconds, t), w = of.loop.watts[i], capacity = of.loop.capacity_watts[i];
    showTip(x, y, el("b", {}, `${of.loop.name}, ${duration(t)}`), el("div", { class: w > capacity ? "over" : null }, `${megawatts(w)} of ${megawatts(capacity)}, ${percent(w / capacity, 0)}`),
      of.loop.faults.filter((f) => f.from_seconds <= t && !(f.to_seconds <= t)).map((f) => el("div", { class: "what" }, `${percent(f.left, 0)} of its capacity left`)));
  }
  function now(t) { at = t; for (const plot of plots) line(plot.now, plot.place(t)); }
  draw();
  onWidth(host, draw);
  return { now };
}

// Jobs

const jobHash = (cluster, i) => `#job/${cluster.jobs.id[i]}`;
function jobLink(cluster, i) { return el("button", { class: "link", onclick: () => { location.hash = jobHash(cluster, i); } }, cluster.jobs.names[i]); }

// The run's end stands in for what has not happened.
const waitOf = (jobs, i, end) => (known(jobs.started[i]) ? jobs.started[i] : known(jobs.ended[i]) ? jobs.ended[i] : end) - jobs.arrived[i];
const ranOf = (jobs, i, end) => known(jobs.started[i]) ? (known(jobs.ended[i]) ? jobs.ended[i] : end) - jobs.started[i] : NaN;

function jobsCard(cluster, summary) {
  const { jobs, tenants } = cluster, end = summary.simulated_seconds, ROW = 31;
  const text = jobs.names.map((name, i) => `${name} ${jobs.id[i]} ${(tenants[jobs.tenant[i]] || { name: "" }).name} ${jobs.wants[jobs.want[i]]}`.toLowerCase());
  const COLUMNS = [
    { key: "name", label: "Job", text: (i) => jobs.names[i] },
    { key: "tenant", label: "Tenant", text: (i) => (tenants[jobs.tenant[i]] || { name: "–" }).name },
    { key: "wants", label: "Asks for", text: (i) => jobs.wants[jobs.want[i]], value: (i) => jobs.gpu_milli[i] },
    { key: "state", label: "State", text: (i) => words(jobs.states[jobs.state[i]]), value: (i) => jobs.state[i] },
    { key: "arrived", label: "Arrived", n: true, text: (i) => duration(jobs.arrived[i]), value: (i) => jobs.arrived[i] },
    { key: "waited", label: "Waited", n: true, text: (i) => duration(waitOf(jobs, i, end)), value: (i) => waitOf(jobs, i, end) },
    { key: "ran", label: "Ran", n: true, text: (i) => duration(ranOf(jobs, i, end)), value: (i) => ranOf(jobs, i, end) },
    { key: "decisions", label: "Decisions", n: true, text: (i) => String(cluster.steps.of[i]), value: (i) => cluster.steps.of[i] },
  ];
  let order = [], by = COLUMNS[5], falling = true, selected = 0;
  const found = el("output", { class: "quiet" });
  const search = el("input", { type: "search", placeholder: "Name, number, tenant, or what it asks for", "aria-label": "Search jobs", oninput: () => refresh() });
  const state = el("select", { "aria-label": "State", onchange: () => refresh() }, el("option", { value: "" }, "Any state"), jobs.states.map((s, i) => el("option", { value: i }, words(s))));
  const heads = COLUMNS.map((c) => el("button", { class: c.n ? "n" : null, role: "columnheader", "data-column": c.key, onclick: () => { if (by === c) falling = !falling; else { by = c; falling = Boolean(c.n); } refresh(); } }));
  const inside = el("div", { class: "inside", role: "presentation" });
  const view = el("div", { class: "jobs-view", role: "rowgroup", tabindex: 0, "aria-label": "Jobs; arrow keys choose, Enter opens" }, inside);
  const table = el("div", { class: "jobs", role: "table", "aria-label": "Jobs" }, el("div", { class: "jobs-head", role: "row" }, heads), view);

  function refresh() {
    const parts = search.value.toLowerCase().split(/\s+/).filter(Boolean), wanted = state.value;
    order = [];
    for (let i = 0; i < jobs.n; i += 1) {
      if ((wanted === "" || jobs.state[i] === +wanted) && parts.every((p) => text[i].includes(p))) order.push(i);
    }
    const sign = falling ? -1 : 1;
    // What has no value stands last, whichever way.
    if (by.value) order.sort((a, b) => { const x = by.value(a), y = by.value(b); return known(x) && known(y) ? sign * (x - y) || a - b : known(y) - known(x) || a - b; });
    else order.sort((a, b) => { const x = by.text(a), y = by.text(b); return x < y ? -sign : x > y ? sign : a - b; });
    found.textContent = order.length === jobs.n ? plural(jobs.n, "job") : `${order.length.toLocaleString("en")} of ${plural(jobs.n, "job")}`;
    COLUMNS.forEach((c, k) => {
      heads[k].textContent = `${c.label}${c === by ? (falling ? " ↓" : " ↑") : ""}`;
      heads[k].setAttribute("aria-sort", c !== by ? "none" : falling ? "descending" : "ascending");
    });
    inside.style.height = `${order.length * ROW}px`;
    table.setAttribute("aria-rowcount", order.length + 1);
    selected = 0;
    view.scrollTop = 0;
    rows();
  }
  // Only what can be seen is there.
  function rows() {
    const first = Math.max(0, Math.floor(view.scrollTop / ROW) - 4), last = Math.min(order.length, first + Math.ceil((view.clientHeight || 430) / ROW) + 9);
    inside.replaceChildren(...order.slice(first, last).map((i, k) => el("div", {
      class: `job ${jobs.states[jobs.state[i]]}${first + k === selected ? " selected" : ""}`, role: "row", "aria-rowindex": first + k + 2, "data-job": jobs.id[i],
      style: `top:${(first + k) * ROW}px`, onclick: () => { location.hash = jobHash(cluster, i); },
    }, COLUMNS.map((c) => el("span", { class: c.n ? "n" : null, role: "cell", "data-column": c.key }, c.text(i))))));
    if (!order.length) inside.append(el("p", { class: "quiet" }, "No job is like that."));
  }
  view.addEventListener("scroll", rows, { passive: true });
  view.addEventListener("keydown", (event) => {
    const page_ = Math.floor(view.clientHeight / ROW);
    const step = { ArrowUp: -1, ArrowDown: 1, PageUp: -page_, PageDown: page_, Home: -Infinity, End: Infinity }[event.key];
    if (event.key === "Enter" && order.length) location.hash = jobHash(cluster, order[selected]);
    if (!step || !order.length) return;
    event.preventDefault();
    selected = Math.max(0, Math.min(order.length - 1, selected + step));
    if (selected * ROW < view.scrollTop) view.scrollTop = selected * ROW;
    if ((selected + 1) * ROW > view.scrollTop + view.clientHeight) view.scrollTop = (selected + 1) * ROW - view.clientHeight;
    rows();
  });
  const host = card(null, el("div", { class: "head" }, el("h2", {}, "Jobs", el("small", {}, "each with its life and its why")), el("div", { class: "seek" }, search, state)), table,
    el("div", { class: "head" }, found, jobs.untold > 0 && el("span", { class: "quiet" }, `${plural(jobs.untold, "job")} that came later ${jobs.untold === 1 ? "is" : "are"} not told one by one; their decisions are in history.db.`)));
  host.classList.add("jobs-card");
  onWidth(host, rows);
  refresh();
  return host;
}

// Shows the page of a job while the address says so, else the run.
function jobRoutes(stack, cluster, summary, notables) {
  const head = page.querySelector("header"), title = document.title;
  const shown = el("article", { class: "stack job-page", tabindex: -1, hidden: true });
  page.append(shown);
  let scrolled = 0;
  const route = () => {
    const asked = /^#job\/(\d+)$/.exec(location.hash);
    if (asked && shown.hidden) scrolled = scrollY;
    stack.hidden = head.hidden = Boolean(asked);
    shown.hidden = !asked;
    hideTip();
    if (asked) {
      const i = cluster.byId.get(+asked[1]);
      shown.replaceChildren(...(i === undefined ? unknownJob(asked[1]) : jobPage(cluster, summary, notables, i)));
      document.title = i === undefined ? title : `${cluster.jobs.names[i]} · ${title}`;
      scrollTo(0, 0);
      shown.focus({ preventScroll: true });
    } else {
      shown.replaceChildren();
      document.title = title;
      scrollTo(0, scrolled);
    }
  };
  const back = () => el("button", { class: "back", onclick: () => { location.hash = ""; } }, `← ${summary.universe}`);
  function unknownJob(id) {
    return [back(), el("h1", {}, `Job ${id}`), el("p", { class: "intent" }, cluster.jobs.untold ? "It is not told one by one here; ask history.db for its decisions." : "This run had no such job."),
      el("pre", {}, `sqlite3 history.db "SELECT seconds, action, reason, found, bound FROM decisions WHERE work = ${id} ORDER BY seconds"`)];
  }
  jobRoutes.back = back;
  addEventListener("hashchange", route);
  route();
}

// What was decided, as what became of the job.
const PAST = { place: "Placed", refuse: "Refused", queue: "Had to wait", migrate: "Moved", preempt: "Preempted", throttle: "Slowed down", release: "Speeded up again", expire: "Ran out of its term", lose: "Lost" };

function jobPage(cluster, summary, notables, i) {
  const { jobs, steps, stays, film, tenants } = cluster, end = summary.simulated_seconds;
  const state = jobs.states[jobs.state[i]], mine = [...stays.ofJob(i)], wait = waitOf(jobs, i, end), ran = ranOf(jobs, i, end);
  const tenant = (tenants[jobs.tenant[i]] || { name: "no tenant" }).name;
  const seconds = mine.reduce((sum, s) => sum + stays.gpu_milli[s] / 1000 * ((known(stays.to[s]) ? stays.to[s] : end) - stays.from[s]), 0);
  const parts = [jobRoutes.back(), el("header", {}, el("div", { class: "brand" }, `job ${jobs.id[i]} · ${tenant}`), el("h1", {}, jobs.names[i]), el("p", { class: "intent" }, `Asked for ${jobs.wants[jobs.want[i]]}.`)),
    el("section", { class: "figures" }, figure([words(state), ""], "at the end"), figure([duration(jobs.arrived[i]), ""], "arrived"),
      figure([duration(wait), ""], known(jobs.started[i]) ? "waited" : state === "waiting" ? "waited so far" : "until turned away"),
      known(ran) && figure([duration(ran), ""], state === "running" ? "ran so far" : "from start to end"),
      figure([gpus(jobs.gpu_milli[i]), ""], jobs.tasks[i] > 1 ? `GPUs, ${jobs.tasks[i]} tasks` : "GPUs"),
      mine.length > 0 && figure([plain(seconds / 3600), "h"], "GPU time held"))];
  if (known(jobs.started[i]) || wait > 0) parts.push(lifeLine(cluster, notables, i, end));

  // Its story: arrival, decisions, where it was, its end, in order of time.
  const story = [{ t: jobs.arrived[i], what: "Arrived" }];
  for (let s = steps.first[i]; s < steps.first[i + 1]; s += 1) {
    story.push({ t: steps.seconds[s], step: s, action: jobs.actions[steps.action[s]], what: PAST[jobs.actions[steps.action[s]]] || words(jobs.actions[steps.action[s]]), reason: jobs.reasons[steps.reason[s]], node: steps.node[s], text: steps.texts[steps.text[s]], why: steps.why[s] ? steps.whys[steps.why[s] - 1] : null });
  }
  const starts = new Map();
  for (const s of mine) { const at = starts.get(stays.from[s]) || []; at.push(s); starts.set(stays.from[s], at); }
  for (const [t, on] of starts) {
    story.push({ t, late: 1, what: "Started", on });
    const left = stays.to[on[0]];
    if (known(left) && left !== jobs.ended[i]) story.push({ t: left, what: "Left its place", early: 1 });
  }
  if (known(jobs.ended[i]) && state !== "refused") story.push({ t: jobs.ended[i], late: 2, what: words(state) });
  if (!known(jobs.ended[i])) story.push({ t: end, late: 2, what: state === "waiting" ? "Still waiting when the run ended" : "Still running when the run ended" });
  story.sort((a, b) => a.t - b.t || (a.late || 0) - (b.late || 0));
  // The page has what many decisions rest on, and not all: what it lacks is said, and who has it.
  const isUntried = story.some((s) => s.action === "queue" && s.why?.tried !== SOONER), lacks = isUntried || story.some((s) => s.action === "place" && !(s.why && s.why.candidates));
  parts.push(card("Its life, and why", el("ol", { class: "story" }, story.map((s) => el("li", { class: s.action || s.what.split(" ")[0].toLowerCase() }, el("span", { class: "when" }, duration(s.t)),
    el("div", {}, el("p", {}, el("b", {}, s.what), s.reason && `: ${s.reason}`, s.node !== undefined && s.node !== UNUSED && s.action !== "queue" && [" · ", nodeName(cluster, s.node)]),
      s.on && el("p", {}, "on ", s.on.slice(0, 12).map((k, n) => [n ? ", " : "", nodeName(cluster, stays.node[k])]), s.on.length > 12 && ` and ${s.on.length - 12} more`),
      s.text && el("p", {}, `${s.text.charAt(0).toUpperCase()}${s.text.slice(1)}.`.replace(/\.\.$/, ".")),
      s.why && grounds(cluster, s, i))))),
  lacks && el("p", { class: "under unasked" }, "Not all that these decisions rest on is on this page. In the folder of the run, ", el("code", {}, `cosmos why ${jobs.names[i]} --run .`), " tells it", isUntried && ", and all that would have let it start sooner", ".")));
  return parts;
}

const nodeName = (cluster, i) => el("span", { class: "node", title: `${cluster.film.gpus[i]} × ${cluster.film.models[cluster.film.model[i]]}` }, cluster.film.names[i]);

/** Of what was tried that could let a job start: whatever starts it sooner; 1 is only what starts it at once. */
const SOONER = 2;

// What a decision rests on: which nodes fell to which test, who stands before, what would help, who competed.
function grounds(cluster, step, i) {
  const { jobs, steps, stays } = cluster, why = step.why, parts = [];
  // All of a gang's nodes, not only the one the decision names.
  const chosen = new Set([step.node]);
  for (const s of stays.ofJob(i)) if (stays.from[s] === step.t) chosen.add(stays.node[s]);
  if (why.funnel) {
    let before = why.nodes;
    const rows = [el("div", { class: "test" }, el("span", {}, "Nodes of the site"), el("div", { class: "bar" }, el("i", { style: "width:100%" })), el("b", {}, why.nodes.toLocaleString("en")), el("small", {}))];
    for (const [test, left] of why.funnel) {
      const fell = before - left;
      before = left;
      if (fell === 0) continue;
      rows.push(el("div", { class: `test${left === 0 ? " none" : ""}` }, el("span", {}, steps.tests[test]), el("div", { class: "bar" }, el("i", { style: `width:${100 * left / (why.nodes || 1)}%` })), el("b", {}, left.toLocaleString("en")), el("small", {}, fell ? `−${fell.toLocaleString("en")}` : "")));
    }
    parts.push(el("div", { class: "evidence funnel" }, el("h4", {}, "Nodes left after each test"), rows));
  }
  if (why.ahead) {
    parts.push(el("div", { class: "evidence" }, el("h4", {}, step.action === "queue" ? "Before it" : "Because of"), el("p", {}, why.ahead.map((id, k) => [k ? ", " : "", cluster.byId.has(id) ? jobLink(cluster, cluster.byId.get(id)) : `job ${id}`]))));
  }
  if (why.start_text || why.start) {
    // What was said then, and what came of it.
    const started = jobs.started[i], said = why.start_text || "";
    const outcome = () => {
      if (!why.start) return "";
      const [from, to] = why.start, slack = 1;
      if (!known(started) || started < step.t) return "";
      if (from === to && Math.abs(started - from) <= slack) return " It did.";
      if (started > to + slack) return ` It started at ${duration(started)}, ${duration(started - to)} after that.`;
      if (started < from - slack) return ` It started at ${duration(started)}, ${duration(from - started)} before that.`;
      return ` It started at ${duration(started)}, between the two.`;
    };
    parts.push(el("div", { class: "evidence start" }, el("h4", {}, "Expected to start", el("small", {}, "if nobody else comes")), el("p", {}, `${said.charAt(0).toUpperCase()}${said.slice(1)}.`, outcome())));
  }
  const helps = why.tried === SOONER ? "What would let it start sooner" : "What would start it at once";
  if (why.tried && !why.changes) parts.push(el("div", { class: "evidence change" }, el("h4", {}, helps), el("p", {}, "No single change that was tried: to its request, to its tenant's rights, or to the bound on heat.")));
  if (why.changes) {
    parts.push(el("div", { class: "evidence" }, el("h4", {}, helps, el("small", {}, "the cheapest first")), el("ul", {}, why.changes.map(([text, t]) => el("li", {}, `${text}: `, el("b", {}, t <= step.t + 0.5 ? "at once" : `in ${duration(t - step.t)}`))))));
  }
  if (why.candidates) {
    const most = Math.max(1e-12, ...why.candidates.map((c) => Math.abs(c[1])));
    parts.push(el("div", { class: "evidence" }, el("h4", {}, "Candidates", el("small", {}, "the lowest score wins")), el("table", { class: "rows" },
      el("thead", {}, el("tr", {}, el("th", {}, "Node"), jobs.terms.map((t) => el("th", { class: "n" }, words(t))), el("th", { class: "share" }), el("th", { class: "n" }, "Score"))),
      el("tbody", {}, why.candidates.map(([node, score, terms]) => el("tr", { class: chosen.has(node) ? "chosen" : null }, el("td", {}, nodeName(cluster, node), chosen.has(node) && el("small", {}, " chosen")),
        jobs.terms.map((_, k) => el("td", { class: "n" }, known(terms[k]) ? fixed(terms[k], 3) : "–")),
        el("td", { class: "share" }, el("div", { class: "bar" }, el("i", { style: `width:${100 * Math.abs(score) / most}%` }))), el("td", { class: "n" }, fixed(score, 3))))))));
  }
  return el("details", { open: true, class: "grounds" }, el("summary", {}, "Why"), el("div", {}, parts));
}

// Waiting and running on one line, with a mark for each decision and each thing that happened meanwhile.
function lifeLine(cluster, notables, i, end) {
  const { jobs, steps, stays } = cluster, host = card("Life line");
  const node = svg("svg", { class: "plot life", role: "img", "aria-label": "When it waited and when it ran" });
  host.append(node, el("div", { class: "legend" }, [["waiting", "waits"], ["running", "runs"], ["decision", "decision"], ["happened", "something happened to the site"]].map(([name, text]) => el("span", { class: "key" }, el("i", { class: `sample ${name}` }), text))));
  const from = jobs.arrived[i], to = known(jobs.ended[i]) ? jobs.ended[i] : end, span = Math.max(1e-9, to - from);
  const runs = new Map();
  for (const s of stays.ofJob(i)) runs.set(stays.from[s], known(stays.to[s]) ? stays.to[s] : to);
  const spans = [...runs].sort((a, b) => a[0] - b[0]);
  function draw() {
    const width = Math.max(240, node.clientWidth || 600), left = 8, right = width - 8, y = 22, thick = 18;
    const x = (t) => left + (t - from) / span * (right - left);
    const parts = [svg("defs", {}, svg("pattern", { id: "hatch", width: 6, height: 6, patternUnits: "userSpaceOnUse", patternTransform: "rotate(45)" }, svg("rect", { width: 6, height: 6, fill: "var(--faint)" }), svg("line", { x1: 0, x2: 0, y1: 0, y2: 6, stroke: "var(--soft)", "stroke-width": 1.6, opacity: 0.55 })))];
    const waits = jobs.states[jobs.state[i]] === "refused" && span < 1e-6 ? [] : [[from, to]];
    for (const [a, b] of waits) parts.push(svg("rect", { x: x(a), y, width: Math.max(2, x(b) - x(a)), height: thick, rx: 3, fill: "url(#hatch)", stroke: "var(--line)" }));
    for (const [a, b] of spans) parts.push(svg("rect", { x: x(a), y, width: Math.max(2, x(b) - x(a)), height: thick, rx: 3, fill: "var(--accent)" }, svg("title", {}, `ran from ${duration(a)} to ${duration(b)}`)));
    for (const m of notables) if (m.seconds >= from && m.seconds <= to) parts.push(svg("line", { class: "mark", x1: x(m.seconds), x2: x(m.seconds), y1: 6, y2: y + thick + 8 }, svg("title", {}, m.text)));
    for (let s = steps.first[i]; s < steps.first[i + 1]; s += 1) {
      const at = x(steps.seconds[s]);
      parts.push(svg("path", { d: `M${at} ${y - 3}l-5 -8h10z`, fill: "var(--ink)" }, svg("title", {}, `${duration(steps.seconds[s])}: ${jobs.actions[steps.action[s]]}, ${jobs.reasons[steps.reason[s]]}`)));
    }
    for (const [t, label] of timeTicks(from, to, Math.max(2, width / 110))) {
      parts.push(svg("line", { class: "grid", x1: x(t), x2: x(t), y1: y + thick + 4, y2: y + thick + 9 }), svg("text", { x: x(t), y: y + thick + 21, "text-anchor": x(t) > width - 26 ? "end" : x(t) < 26 ? "start" : "middle" }, label));
    }
    node.setAttribute("viewBox", `0 0 ${width} 66`);
    node.setAttribute("height", 66);
    node.replaceChildren(...parts);
  }
  onWidth(host, draw);
  draw();
  return host;
}
