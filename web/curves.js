// How placement policies fill the same cluster, one curve each, against what was published.

// Curves of the same policy with the same budget of moves on the same list, as one: mean, least
// and most over their seeds.
function together(curves) {
  const groups = new Map();
  for (const c of curves) {
    const key = `${c.published ? "p" : "m"}/${c.policy}/${c.migrate}`;
    if (!groups.has(key)) groups.set(key, { policy: c.policy, migrate: c.migrate, published: c.published, seeds: 0, at: new Map() });
    const group = groups.get(key);
    group.seeds += 1;
    for (const p of c.curve) {
      if (!group.at.has(p.arrived_percent)) group.at.set(p.arrived_percent, []);
      group.at.get(p.arrived_percent).push(p);
    }
  }
  return [...groups.values()].map((g) => {
    const points = [...g.at].sort((a, b) => a[0] - b[0]).map(([arrived, all]) => {
      const of = (key) => {
        const values = all.map((p) => p[key]).filter(known);
        return values.length ? { mean: values.reduce((s, v) => s + v, 0) / values.length, low: Math.min(...values), high: Math.max(...values) } : null;
      };
      const allocated = of("allocated_percent"), fragmented = of("fragmented_of_idle_percent");
      // What was asked for and could have been given, and was not.
      const could = Math.min(100, arrived), lacking = allocated && { mean: could - allocated.mean, low: could - allocated.high, high: could - allocated.low };
      return { arrived, allocated, fragmented, lacking };
    });
    return { ...g, points };
  });
}

function curveCard(stack, curves) {
  const lists = [...new Set(curves.map((c) => c.pods))];
  const host = el("section", { class: "card" });
  stack.append(host);
  const select = lists.length > 1 && el("select", { "aria-label": "List of pods", onchange: () => show(select.value) }, lists.map((l) => el("option", {}, l)));
  const inside = el("div", {});
  host.append(el("div", { class: "head" }, el("h2", {}, "Allocation", el("small", {}, "pods arrive, none leaves")), select || el("span", { class: "quiet" }, lists[0])), inside);
  const hidden = new Set();
  let redraw = () => {};
  function show(pods) {
    const groups = together(curves.filter((c) => c.pods === pods));
    const measured = groups.filter((g) => !g.published);
    const same = (a, b) => a.migrate === b.migrate && a.policy.toLowerCase().replace(/[^a-z0-9]/g, "") === b.policy.toLowerCase().replace(/[^a-z0-9]/g, "");
    const colour = () => {
      // What was published has the colour of what it is held against, or one of its own.
      const twin = (g) => g.published && measured.find((m) => same(m, g));
      const own = groups.filter((g) => !twin(g)), colours = groupColours(own.length);
      own.forEach((g, i) => { g.colour = colours[i]; });
      groups.filter(twin).forEach((g) => { g.colour = twin(g).colour; });
    };
    colour();
    const name = (g) => `${g.policy}${g.migrate ? `, ${g.migrate} moves per 100` : ""}${g.published ? ", published" : ""}`;
    const legend = el("div", { class: "legend" });
    const PLOTS = [
      ["allocated", "GPUs given", "percent of those there are", 300],
      ["lacking", "Asked for and not given", "though there were GPUs enough, in percent of those there are", 210],
      ["fragmented", "Of idle GPUs, those of no use", "percent", 170],
    ].filter(([key]) => groups.some((g) => g.points.some((p) => p[key])));
    const plots = PLOTS.map(([key, title, note, tall]) => {
      const node = svg("svg", { class: "plot", role: "img", tabindex: 0, "aria-label": `${title}, by GPUs asked for` });
      const plot = { key, tall, node, block: el("div", { class: "chart" }, el("h3", {}, title, el("small", {}, note)), node) };
      const at = (x) => arrivals.reduce((a, b) => Math.abs(plot.place(b) - x) < Math.abs(plot.place(a) - x) ? b : a);
      node.addEventListener("pointermove", (event) => cross(at(event.clientX - node.getBoundingClientRect().left), event.clientX, event.clientY));
      node.addEventListener("pointerleave", () => cross(null));
      node.addEventListener("blur", () => cross(null));
      node.addEventListener("keydown", (event) => {
        const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
        if (!step) return;
        event.preventDefault();
        const k = Math.max(0, Math.min(arrivals.length - 1, arrivals.indexOf(crossed ?? arrivals[0]) + step)), box = node.getBoundingClientRect();
        cross(arrivals[k], box.left + plot.place(arrivals[k]), box.top + 40);
      });
      return plot;
    });
    const arrivals = [...new Set(groups.flatMap((g) => g.points.map((p) => p.arrived)))].sort((a, b) => a - b);
    let crossed = null;
    const seen = () => groups.filter((g) => !hidden.has(name(g)));
    inside.replaceChildren(legend, ...plots.map((p) => p.block), curveTable(groups, name, same));

    function draw() {
      legend.replaceChildren(...groups.map((g) => el("button", { "aria-pressed": String(!hidden.has(name(g))), onclick: () => { if (!hidden.delete(name(g))) hidden.add(name(g)); draw(); } },
        el("i", { class: g.published ? "dashes" : null, style: g.published ? `color:${g.colour}` : `background:${g.colour}` }), name(g))),
      measured.some((g) => g.seeds > 1) && el("span", { class: "key" }, el("i", { class: "sample band" }), "least to most over seeds"));
      for (const plot of plots) {
        const { node, key, tall } = plot, width = Math.max(240, node.clientWidth || inside.clientWidth), height = tall + 26;
        const left = 46, right = width - 18, top = 10, bottom = height - 34, reach = Math.max(100, ...arrivals);
        const values = seen().flatMap((g) => g.points.map((p) => p[key] && p[key].high)).filter(known);
        const high = Math.max(1, ...values) * 1.06;
        const x = (v) => left + v / reach * (right - left), y = (v) => bottom - Math.max(0, v) / high * (bottom - top);
        Object.assign(plot, { place: x, rise: y });
        const parts = [];
        for (const v of valueTicks(0, high, tall / 45)) parts.push(svg("line", { class: "grid", x1: left, x2: right, y1: y(v), y2: y(v) }), svg("text", { x: left - 7, y: y(v) + 4, "text-anchor": "end" }, `${plain(v)} %`));
        for (const v of valueTicks(0, reach, Math.max(3, width / 110))) parts.push(svg("text", { x: x(v), y: bottom + 16, "text-anchor": "middle" }, `${plain(v)} %`));
        parts.push(svg("text", { x: (left + right) / 2, y: height - 3, "text-anchor": "middle" }, "GPUs asked for, of those there are"));
        if (reach > 100) parts.push(svg("line", { class: "mark", x1: x(100), x2: x(100), y1: top, y2: bottom }));
        if (key === "allocated") parts.push(svg("path", { class: "line ideal", d: `M${x(0)} ${y(0)}L${x(100)} ${y(100)}L${x(reach)} ${y(100)}` }));
        for (const g of seen()) {
          const points = g.points.filter((p) => p[key]);
          if (g.seeds > 1) parts.push(svg("path", { d: `M${points.map((p) => `${x(p.arrived)} ${y(p[key].high)}`).join("L")}L${points.slice().reverse().map((p) => `${x(p.arrived)} ${y(p[key].low)}`).join("L")}Z`, fill: g.colour, opacity: 0.16 }));
          parts.push(svg("path", { class: "line", d: path(points.map((p) => p.arrived), points.map((p) => p[key].mean), x, y), stroke: g.colour, "stroke-width": g.published ? 1.6 : 2, "stroke-dasharray": g.published ? "6 4" : null }));
        }
        plot.cross = svg("line", { class: "cross", y1: top, y2: bottom, visibility: "hidden" });
        node.setAttribute("viewBox", `0 0 ${width} ${height}`);
        node.setAttribute("height", height);
        node.replaceChildren(...parts, plot.cross, svg("rect", { x: 0, y: 0, width, height, fill: "transparent" }));
      }
    }
    function cross(arrived, px, py) {
      crossed = arrived;
      for (const plot of plots) {
        plot.cross.setAttribute("visibility", arrived === null ? "hidden" : "visible");
        if (arrived !== null) { plot.cross.setAttribute("x1", plot.place(arrived)); plot.cross.setAttribute("x2", plot.place(arrived)); }
      }
      if (arrived === null) { hideTip(); return; }
      const rows = seen().map((g) => [g, g.points.find((p) => p.arrived === arrived)]).filter(([, p]) => p);
      rows.sort((a, b) => (b[1].allocated ? b[1].allocated.mean : 0) - (a[1].allocated ? a[1].allocated.mean : 0));
      const say = (v) => v ? `${fixed(v.mean, 2)} %` : "–";
      showTip(px, py, el("b", {}, `${plain(arrived)} % asked for`), el("table", {}, el("tr", {}, el("th", {}), el("th", {}, "given"), el("th", {}, "lacking"), el("th", {}, "of no use")),
        rows.map(([g, p]) => el("tr", {}, el("td", {}, el("i", { style: `background:${g.colour}` }), name(g)), el("td", {}, say(p.allocated)), el("td", {}, say(p.lacking)), el("td", {}, say(p.fragmented))))));
    }
    redraw = () => { colour(); draw(); };
    draw();
  }
  show(lists[0]);
  onWidth(host, () => redraw());
  dark.addEventListener("change", () => redraw());
}

// Where each policy is when the cluster has been asked for once, and at the end.
function curveTable(groups, name, same) {
  const arrivals = [...new Set(groups.flatMap((g) => g.points.map((p) => p.arrived)))].sort((a, b) => a - b), last = arrivals[arrivals.length - 1];
  const at = [...new Set([arrivals.includes(100) ? 100 : null, last])].filter(known);
  const point = (g, arrived) => g && g.points.find((p) => p.arrived === arrived);
  const value = (g, arrived) => { const p = point(g, arrived); return p && p.allocated ? p.allocated.mean : NaN; };
  const published = groups.filter((g) => g.published);
  const rows = groups.slice().sort((a, b) => value(b, at[0]) - value(a, at[0]));
  const signed = (v) => known(v) ? `${v < 0 ? "−" : "+"}${fixed(Math.abs(v), 2)}` : "–";
  return el("div", { class: "wide-table" }, el("table", { class: "rows curves" },
    el("thead", {}, el("tr", {}, el("th", {}, "Policy"), el("th", { class: "n" }, "Seeds"), at.flatMap((a) => [el("th", { class: "n" }, `Given at ${plain(a)} %`), published.length > 0 && el("th", { class: "n", title: "In points, to the published result of the same policy" }, "to published"), el("th", { class: "n" }, "of idle, no use")]))),
    el("tbody", {}, rows.map((g) => el("tr", {}, el("td", {}, el("i", { class: "dot", style: `background:${g.colour}` }), name(g)), el("td", { class: "n" }, g.published ? "" : String(g.seeds)),
      at.flatMap((a) => {
        const twin = g.published ? null : published.find((p) => same(p, g)), p = point(g, a);
        return [el("td", { class: "n" }, known(value(g, a)) ? `${fixed(value(g, a), 2)} %` : "–"), published.length > 0 && el("td", { class: "n" }, twin ? signed(value(g, a) - value(twin, a)) : ""), el("td", { class: "n" }, p && p.fragmented ? `${fixed(p.fragmented.mean, 1)} %` : "–")];
      }))))));
}

function packingPage() {
  page.append(masthead("placement", data.title, data.intent));
  const stack = el("div", { class: "stack" });
  page.append(stack);
  if (data.curves.length) curveCard(stack, data.curves);
  else stack.append(el("p", { class: "notice" }, "No curves were given."));
  stack.append(repeat(data.command));
}
