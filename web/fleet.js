// A fleet as a map: every machine in its holon, coloured by heat, load or leases. Five real machines and a thousand rehearsed ones come in the same shape.
"use strict";

/** Makes the map. `why` is called with the name of the machine that is clicked; `show` of what is returned draws another moment. */
function fleetMap({ el, why }) {
  const CARDS_MAX = 64, STALE_S = 15, HEAT_SPAN = 60;
  const dark = matchMedia("(prefers-color-scheme: dark)");
  const colour = (variable) => getComputedStyle(document.documentElement).getPropertyValue(variable).trim();
  const canvas = el("canvas", { tabindex: 0, role: "img" });
  const told = el("p", { class: "quiet", role: "status" }), legend = el("div", { class: "map-legend" });
  const tip = el("div", { id: "tip", hidden: true });
  const MEASURES = {
    heat: { label: "Heat", of: (m) => m.vitals && (m.vitals.temperature.celsius - m.vitals.temperature.limit_celsius + HEAT_SPAN) / HEAT_SPAN, ends: [`${HEAT_SPAN} K below where it slows itself`, "there"], stops: () => dark.matches ? ["#26406f", "#2a7f8f", "#c59a2c", "#ff5a4f"] : ["#c9dcf7", "#7cc0b5", "#e8b23c", "#c3283a"] },
    load: { label: "Load", of: (m) => m.vitals && m.vitals.busy, ends: ["idle", "all in use"], stops: () => dark.matches ? ["#1c2740", "#7ea2ff"] : ["#e6ecf8", "#2f5fd0"] },
    leases: { label: "Leases", of: (m) => m.vitals && m.vitals.leases / most, ends: ["none", ""], stops: () => dark.matches ? ["#1c2740", "#5fd3a5"] : ["#e8f1ec", "#0b6e4f"] },
  };
  let measure = "heat", holons = [], machines = [], most = 1, cells = [], headings = [], cards = false, size = [0, 0], ramp = [], hovered = -1, chosen = -1, drawn = 0;
  const segments = el("div", { class: "segments", role: "group", "aria-label": "What the map shows" }, Object.entries(MEASURES).map(([key, { label }]) =>
    el("button", { type: "button", "data-measure": key, "aria-pressed": String(key === measure), onclick: () => { measure = key; repaint(); } }, label)));
  const place = el("div", { class: "fleet-map" }, canvas, tip);
  const card = el("section", { class: "card", "aria-label": "Map" }, el("div", { class: "head" }, el("h2", {}, "Map", el("small", {}, "heat, load and leases of every machine")), segments), legend, place, told);
  document.addEventListener("visibilitychange", draw);

  function repaint() {
    for (const button of segments.children) button.setAttribute("aria-pressed", String(button.dataset.measure === measure));
    const rgb = (hex) => [1, 3, 5].map((k) => parseInt(hex.slice(k, k + 2), 16)), stops = MEASURES[measure].stops().map(rgb);
    ramp = Array.from({ length: 65 }, (_, k) => {
      const at = k / 64 * (stops.length - 1), low = Math.min(stops.length - 2, Math.floor(at)), mix = stops[low].map((v, c) => Math.round(v + (stops[low + 1][c] - v) * (at - low)));
      return { fill: `rgb(${mix})`, ink: mix[0] * .299 + mix[1] * .587 + mix[2] * .114 > 140 ? "#10182a" : "#ffffff" };
    });
    const ends = MEASURES[measure].ends;
    legend.replaceChildren(el("span", {}, ends[0]), el("i", { style: `background: linear-gradient(90deg, ${ramp.filter((_, k) => k % 16 === 0).map((c) => c.fill)})` }), el("span", {}, measure === "leases" ? `${most}` : ends[1]),
      el("span", { class: "key" }, el("b", { class: "cross" }, "✕"), "gone or dark"), el("span", { class: "key" }, el("b", { class: "still" }, "–"), "off, or not heard from"));
    draw();
  }

  /** Where every machine is drawn: holons that hold machines side by side under the name of the one they are part of. */
  function layout() {
    const width = Math.floor(place.clientWidth);
    if (!width || !machines.length) { cells = []; return; }
    cards = machines.length <= CARDS_MAX;
    const inside = new Map();
    machines.forEach((m, k) => { if (!inside.has(m.holon)) inside.set(m.holon, []); inside.get(m.holon).push(k); });
    const groups = new Map();
    for (const [leaf, all] of inside) {
      const over = holons[leaf]?.parent ?? leaf;
      if (!groups.has(over)) groups.set(over, []);
      groups.get(over).push(all);
    }
    cells = new Array(machines.length);
    headings = [];
    let y = 0;
    const ratio = window.devicePixelRatio || 1;
    for (const [over, leaves] of [...groups].sort((a, b) => a[0] - b[0])) {
      headings.push({ holon: over, y: y + 13, of: leaves.flat() });
      y += 20;
      if (cards) {
        const across = Math.max(1, Math.floor((width + 8) / 148)), w = Math.min(220, (width + 8) / across - 8);
        leaves.flat().forEach((k, at) => { cells[k] = { x: at % across * (w + 8), y: y + Math.floor(at / across) * 66, w, h: 58 }; });
        y += Math.ceil(leaves.flat().length / across) * 66;
      } else {
        const most = Math.max(...leaves.map((l) => l.length)), columns = Math.max(Math.ceil(Math.sqrt(most)), Math.min(most, 4));
        let s = 22;
        while (s > 9 && leaves.length * (columns * s + 6) - 6 > width) s -= 1;
        const block = columns * s + 6, tall = Math.ceil(most / columns) * s + 6, across = Math.max(1, Math.floor((width + 6) / block));
        leaves.forEach((l, b) => l.forEach((k, at) => { cells[k] = { x: b % across * block + at % columns * s, y: y + Math.floor(b / across) * tall + Math.floor(at / columns) * s, w: s - 1, h: s - 1 }; }));
        y += Math.ceil(leaves.length / across) * tall;
      }
      y += 8;
    }
    size = [width, y];
    canvas.width = Math.round(width * ratio);
    canvas.height = Math.round(y * ratio);
    canvas.style.width = `${width}px`;
    canvas.style.height = `${y}px`;
  }

  const WELL = new Set(["alive", "suspect"]), OFF = new Set(["parked"]);
  const temperature = (m) => `${m.vitals.temperature.celsius.toFixed(1)} °C`;
  const percent = (share) => `${Math.round(share * 100)} %`;
  const leases = (n) => `${n} ${n === 1 ? "lease" : "leases"}`;

  function draw() {
    if (!cells.length || document.hidden) return;
    const ratio = window.devicePixelRatio || 1, g = canvas.getContext("2d");
    const [soft, faint, bad, warn, ink, line] = ["--soft", "--faint", "--bad", "--warn", "--ink", "--line"].map(colour);
    g.setTransform(ratio, 0, 0, ratio, 0, 0);
    g.clearRect(0, 0, ...size);
    g.textBaseline = "alphabetic";
    for (const { holon, y, of } of headings) {
      const heard = of.map((k) => machines[k]).filter((m) => m.vitals && WELL.has(m.state)), mean = heard.reduce((sum, m) => sum + m.vitals.busy, 0) / heard.length;
      const hottest = heard.reduce((a, m) => !a || margin(m) < margin(a) ? m : a, null), cooling = holons[holon]?.cooling;
      g.font = "600 12px system-ui, sans-serif"; g.fillStyle = ink;
      const name = holons[holon]?.name ?? "";
      g.fillText(name, 0, y);
      const x = g.measureText(name).width + 8;
      g.font = "12px system-ui, sans-serif"; g.fillStyle = cooling > 1 ? bad : soft;
      const parts = [`${of.length} ${of.length === 1 ? "machine" : "machines"}`, heard.length && `load ${percent(mean)}`, hottest && `closest to its limit ${temperature(hottest)}`, cooling !== null && cooling !== undefined && `cooling ${percent(cooling)}`].filter(Boolean);
      while (parts.length > 1 && x + g.measureText(parts.join(", ")).width > size[0]) parts.splice(1, 1);
      g.fillText(parts.join(", "), x, y);
    }
    const value = MEASURES[measure].of;
    machines.forEach((m, k) => {
      const { x, y, w, h } = cells[k], v = value(m), gone = !WELL.has(m.state) && !OFF.has(m.state), off = OFF.has(m.state) || v === null || v === undefined;
      const shade = gone || off ? null : ramp[Math.round(Math.max(0, Math.min(1, v)) * 64)];
      g.globalAlpha = m.vitals && m.vitals.age_s > STALE_S && !gone ? .4 : 1;
      g.fillStyle = shade ? shade.fill : faint;
      if (cards) { g.beginPath(); g.roundRect(x, y, w, h, 8); g.fill(); } else g.fillRect(x, y, w, h);
      g.globalAlpha = 1;
      if (gone || off) {
        g.strokeStyle = gone ? bad : soft; g.lineWidth = 1.5; g.beginPath();
        const [cx, cy, r] = cards ? [x + w - 14, y + 14, 5] : [x + w / 2, y + h / 2, Math.min(w, h) / 4];
        if (gone) { g.moveTo(cx - r, cy - r); g.lineTo(cx + r, cy + r); g.moveTo(cx + r, cy - r); g.lineTo(cx - r, cy + r); } else { g.moveTo(cx - r, cy); g.lineTo(cx + r, cy); }
        g.stroke();
      }
      if (cards) {
        g.fillStyle = shade ? shade.ink : ink; g.font = "600 13px system-ui, sans-serif";
        let name = m.name;
        while (name.length > 3 && g.measureText(name).width > w - 20) name = `${name.slice(0, -2).replace(/…$/, "")}…`;
        g.fillText(name, x + 10, y + 19);
        g.font = "12px system-ui, sans-serif";
        const known = m.vitals && !gone;
        g.fillText(known ? `${temperature(m)}  ${percent(m.vitals.busy)} busy` : m.state, x + 10, y + 36);
        g.fillText(known ? m.vitals.age_s > STALE_S ? `heard ${Math.round(m.vitals.age_s)} s ago` : leases(m.vitals.leases) : gone ? "" : "not heard yet", x + 10, y + 51);
      }
      if (m.state === "suspect") { g.strokeStyle = warn; g.lineWidth = 2; g.strokeRect(x + 1, y + 1, w - 2, h - 2); }
      if (cards) { g.strokeStyle = line; g.lineWidth = 1; g.beginPath(); g.roundRect(x + .5, y + .5, w - 1, h - 1, 8); g.stroke(); }
    });
    for (const [k, width] of [[hovered, 1.5], [document.activeElement === canvas ? chosen : -1, 2.5]]) {
      if (!cells[k]) continue;
      g.strokeStyle = ink; g.lineWidth = width;
      g.strokeRect(cells[k].x - 1, cells[k].y - 1, cells[k].w + 2, cells[k].h + 2);
    }
    canvas.dataset.drawn = String(drawn += 1);
  }

  const margin = (m) => m.vitals.temperature.limit_celsius - m.vitals.temperature.celsius;
  function words(m) {
    const v = m.vitals, at = m.holon < holons.length && holons[m.holon].parent !== null ? `, ${holons[m.holon].name}` : "";
    return `${m.name}${at}: ${m.state}${v ? `, ${temperature(m)} of ${v.temperature.limit_celsius.toFixed(0)} °C${v.temperature.source === "modelled" ? " (modelled)" : ""}, ${percent(v.busy)} in use, clock ${percent(v.clock)}, ${leases(v.leases)}${v.age_s > STALE_S ? `, heard ${Math.round(v.age_s)} s ago` : ""}` : ", not heard yet"}`;
  }
  const under = (event) => {
    const box = canvas.getBoundingClientRect(), x = event.clientX - box.left, y = event.clientY - box.top;
    return cells.findIndex((c) => x >= c.x && x <= c.x + c.w && y >= c.y && y <= c.y + c.h);
  };
  canvas.addEventListener("pointermove", (event) => {
    const k = under(event);
    canvas.style.cursor = k < 0 ? "" : "pointer";
    tip.hidden = k < 0;
    if (k >= 0) {
      tip.textContent = words(machines[k]);
      tip.style.left = `${Math.min(event.clientX + 14, innerWidth - tip.offsetWidth - 8)}px`;
      tip.style.top = `${event.clientY + 16}px`;
    }
    if (k !== hovered) { hovered = k; draw(); }
  });
  canvas.addEventListener("pointerleave", () => { tip.hidden = true; hovered = -1; draw(); });
  canvas.addEventListener("click", (event) => { const k = under(event); if (k >= 0) { chosen = k; why(machines[k].name); draw(); } });
  canvas.addEventListener("focus", () => { if (chosen < 0 && machines.length) choose(0); else draw(); });
  canvas.addEventListener("blur", draw);
  canvas.addEventListener("keydown", (event) => {
    const [dx, dy] = { ArrowLeft: [-1, 0], ArrowRight: [1, 0], ArrowUp: [0, -1], ArrowDown: [0, 1] }[event.key] ?? [0, 0];
    if ((event.key === "Enter" || event.key === " ") && machines[chosen]) { event.preventDefault(); return why(machines[chosen].name); }
    if (!dx && !dy || !cells[chosen]) return;
    event.preventDefault();
    const from = cells[chosen], middle = (c) => [c.x + c.w / 2, c.y + c.h / 2], [fx, fy] = middle(from);
    let best = -1, least = Infinity;
    cells.forEach((c, k) => {
      const [x, y] = middle(c), along = dx ? (x - fx) * dx : (y - fy) * dy, aside = Math.abs(dx ? y - fy : x - fx);
      if (along > 1 && along + aside * 3 < least) { least = along + aside * 3; best = k; }
    });
    if (best >= 0) choose(best);
  });
  function choose(k) { chosen = k; told.textContent = words(machines[k]); draw(); }

  let shape = "";
  const fit = () => { layout(); draw(); };
  new ResizeObserver(() => { if (Math.floor(place.clientWidth) !== size[0]) fit(); }).observe(place);
  dark.addEventListener("change", repaint);
  repaint();
  return {
    card,
    show(there) {
      ({ holons, members: machines } = there);
      const before = most;
      most = Math.max(1, ...machines.map((m) => m.vitals?.leases ?? 0));
      if (chosen >= machines.length) chosen = -1;
      const now = `${holons.length} ${machines.map((m) => m.holon)}`;
      if (now !== shape) { shape = now; layout(); }
      const count = (is) => machines.filter(is).length, states = [...new Set(machines.map((m) => m.state))].map((s) => `${count((m) => m.state === s)} ${s}`).join(", ");
      canvas.setAttribute("aria-label", `Map of ${machines.length} machines: ${states}. Arrow keys move, Enter says why.`);
      if (document.activeElement === canvas && machines[chosen]) { const said = words(machines[chosen]); if (said !== told.textContent) told.textContent = said; }
      else told.textContent = machines.length ? `${machines.length} ${machines.length === 1 ? "machine" : "machines"}: ${states}. Click one to see why it is so.` : "No machine is known.";
      if (most !== before && measure === "leases") repaint(); else draw();
    },
  };
}
