// Reads a page the way a person does: the text of each number, back into a number, with as
// much doubt as its last digit leaves.

const SPANS = [["y", 31557600], ["d", 86400], ["h", 3600], ["min", 60], ["s", 1], ["ms", 1e-3], ["µs", 1e-6]];
const SCALES = { "": 1, thousand: 1e3, million: 1e6, billion: 1e9, trillion: 1e12, B: 1, kB: 1e3, MB: 1e6, GB: 1e9, TB: 1e12, K: 1, "%": 0.01, J: 1, mJ: 1e-3, µJ: 1e-6, nJ: 1e-9, pJ: 1e-12, fJ: 1e-15, aJ: 1e-18, zJ: 1e-21 };

/** The value that a text says, and by how much it may be off; `null` if it says none. */
export function read(text) {
  const parts = [...text.replaceAll(",", "").replaceAll("−", "-").matchAll(/(-?\d+(?:\.(\d+))?)\s*([a-zA-Zµ%]*)/g)];
  if (!parts.length) return null;
  let value = 0, doubt = 0;
  for (const [, digits, decimals, unit] of parts) {
    const span = SPANS.findIndex(([name]) => name === unit);
    const scale = span >= 0 ? SPANS[span][1] : SCALES[unit];
    if (scale === undefined) throw new Error(`${JSON.stringify(text)} has a unit nobody reads: ${unit}`);
    value += Number(digits) * scale;
    doubt = 0.5 * 10 ** -(decimals ? decimals.length : 0) * scale;
    // "2 h" is rounded to the minute, and its minutes were none. Three digits are said, so that 119 s is whole seconds.
    if (span >= 0 && span <= 3 && parts.length === 1) doubt = 0.5 * SPANS[span + 1][1];
  }
  // The scaled ones say three digits, whichever.
  if (/thousand|million|billion|trillion|[kMGT]B/.test(text)) doubt = Math.max(doubt, 0.005 * Math.abs(value));
  return { value, doubt };
}

/** What is at `site/waiting_seconds/p50` in a summary. */
export const at = (summary, key) => key.split("/").reduce((value, part) => (value === null || value === undefined ? undefined : value[part]), summary);

/** Everything a run's page shows that its summary does not say, and the other way round. */
export function contradictions(shown, summary) {
  const wrong = [];
  const seen = new Set(shown.numbers.map(({ key }) => key));
  for (const { key, text } of shown.numbers) {
    const said = read(text), is = at(summary, key);
    if (typeof is !== "number") wrong.push(`${key} is shown as ${JSON.stringify(text)}, and the summary has ${JSON.stringify(is)}`);
    else if (!said || Math.abs(said.value - is) > said.doubt * 1.0001 + 1e-12 * Math.abs(is)) wrong.push(`${key} is shown as ${JSON.stringify(text)}, and is ${is}`);
  }
  for (const key of mustShow(summary)) if (!seen.has(key)) wrong.push(`${key} is not shown`);
  if (shown.heading !== summary.universe) wrong.push(`the heading is ${JSON.stringify(shown.heading)}`);
  for (const { name, held } of summary.invariants) {
    const chip = shown.chips.find((c) => c.name === name);
    if (!chip) wrong.push(`no chip tells of ${name}`);
    else if (chip.good !== held) wrong.push(`the chip of ${name} says the opposite`);
  }
  return wrong;
}

/** The numbers that a page must show if its summary has them. */
function mustShow(summary) {
  const keys = ["tiles", "simulated_seconds", "wall_seconds", "events", "events_per_second", "peak_rss_bytes"];
  const under = (part, names) => { if (at(summary, part)) keys.push(...names.map((name) => `${part}/${name}`)); };
  under("membership", ["failures", "undetected", "false_suspicions", "false_removals", "messages", "bytes_per_tile", "detection_seconds/p50", "detection_seconds/p99", "detection_seconds/max"]);
  under("heat", ["max_kelvin", "max_load", "tiles_lost", "overshoot", "budget_min", "throttled_tile_seconds"]);
  under("site", ["utilisation", "gpu_allocated_fraction", "waiting_seconds/p50", "waiting_seconds/p95", "waiting_seconds/max", "arrived", "placed", "refused", "finished", "lost", "throttled_device_seconds", "loop_overload_seconds"]);
  under("replay", ["gangs", "backfilled", "preempted", "restarted", "at_limit", "slowdown/p50", "slowdown/p95", "gpu_seconds", "gpu_seconds_lost", "storage_share_min", "fault_window/gpu_seconds"]);
  at(summary, "replay/distances")?.forEach((_, i) => keys.push(`replay/distances/${i}/distance`));
  at(summary, "replay/tenants")?.forEach((_, i) => under(`replay/tenants/${i}`, ["weight", "arrived", "finished", "stopped", "waiting_seconds/p50", "waiting_seconds/p95", "slowdown/p50", "slowdown/p95", "gpu_share"]));
  summary.decisions.forEach((d, i) => { if (d.count > 0) keys.push(`decisions/${i}/count`); });
  summary.faults.forEach((_, i) => keys.push(`faults/${i}/injected`, `faults/${i}/fired`));
  // What was not measured is null, and shown as a dash or not at all.
  return keys.filter((key) => typeof at(summary, key) === "number");
}
