// Does a person who opens a page see what the run found? `cargo xtask verify` makes the pages and
// says where they are: PAGES is a folder with invented ones (crates/twin/examples/pages.rs) and, in
// run/, what a real run left; CHROMIUM is the browser.

import assert from "node:assert/strict";
import { readFileSync, readdirSync, writeFileSync, mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { basename, join } from "node:path";
import { after, before, test } from "node:test";
import { pathToFileURL } from "node:url";
import { chromium } from "playwright-core";
import { contradictions, read } from "./reading.mjs";

const { PAGES, CHROMIUM } = process.env;
assert.ok(PAGES && CHROMIUM, "run these by `cargo xtask verify`, which sets PAGES and CHROMIUM");
const WIDE = { width: 1360, height: 1000 }, NARROW = { width: 390, height: 800 };
// Each page, and the summary it was made from if it is of one run.
const pages = readdirSync(PAGES).filter((name) => name.endsWith(".html")).map((name) => ({ name: basename(name, ".html"), file: join(PAGES, name), summary: join(PAGES, name.replace(/html$/, "json")) }));
pages.push({ name: "run", file: join(PAGES, "run", "report.html"), summary: join(PAGES, "run", "summary.json") });
const summaryOf = ({ summary }) => { try { return JSON.parse(readFileSync(summary, "utf8")); } catch { return null; } };
const runs = pages.filter((page) => summaryOf(page));

let browser, folder;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), "report-tests-"));
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-quic"] });
});
after(async () => {
  await browser?.close();
  rmSync(folder, { recursive: true, force: true });
});

/** Opens a page and notes everything it says and asks for. */
async function open(file, { viewport = WIDE, colorScheme = "light", hash = "" } = {}) {
  const context = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce" });
  const page = await context.newPage(), said = [], asked = [];
  page.on("console", (message) => said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  page.on("request", (request) => asked.push(request.url()));
  await page.goto(pathToFileURL(file).href + hash);
  return { page, said, asked, close: () => context.close() };
}

/** Different colours in a picture, counted by the browser, which can read it. */
async function shades(picture) {
  const context = await browser.newContext(), page = await context.newPage();
  const count = await page.evaluate(async (base64) => {
    const image = await createImageBitmap(await (await fetch(`data:image/png;base64,${base64}`)).blob());
    const canvas = new OffscreenCanvas(image.width, image.height), c = canvas.getContext("2d");
    c.drawImage(image, 0, 0);
    return new Set(new Uint32Array(c.getImageData(0, 0, image.width, image.height).data.buffer)).size;
  }, picture.toString("base64"));
  await context.close();
  return count;
}

/** What a run's page shows. */
const shown = (page) => page.evaluate(() => ({
  heading: document.querySelector("main h1").textContent,
  chips: [...document.querySelectorAll(".chip")].map((c) => ({ name: c.title, good: c.classList.contains("good") })),
  numbers: [...document.querySelectorAll("[data-of]")].map((n) => ({ key: n.dataset.of, text: n.textContent.trim() })),
}));
const embedded = (page) => page.evaluate(() => JSON.parse(document.getElementById("data").textContent));
const median = (values) => values.slice().sort((a, b) => a - b)[values.length >> 1];

// A listener that hears nothing proves nothing, nor does a checker that never objects.

test("a page that must complain is heard", async () => {
  const file = join(folder, "complains.html");
  writeFileSync(file, "<script>console.warn('careful'); undefined.anything</script><img src='no-such.png'>");
  const { said, asked, close } = await open(file);
  await close();
  assert.ok(said.some((line) => line.includes("careful")), said.join("; "));
  assert.ok(said.some((line) => line.includes("TypeError")), said.join("; "));
  assert.ok(asked.some((url) => url.endsWith("no-such.png")), asked.join("; "));
});

test("a blank picture has few colours", async () => {
  const file = join(folder, "blank.html");
  writeFileSync(file, "<body></body>");
  const { page, close } = await open(file);
  assert.equal(await shades(await page.screenshot()), 1);
  await close();
});

test("a page that shows another number than its summary is noticed", async () => {
  const run = runs.find(({ name }) => name === "cluster"), summary = summaryOf(run);
  const { page, close } = await open(run.file);
  const honest = await shown(page);
  await close();
  assert.deepEqual(contradictions(honest, summary), []);
  const forged = (change) => { const copy = structuredClone(honest); change(copy); return contradictions(copy, summary); };
  const number = (copy, key) => copy.numbers.find((n) => n.key === key);
  for (const [says, change] of [
    [/site\/arrived is shown as "12,001"/, (c) => { number(c, "site/arrived").text = "12,001"; }],
    [/replay\/tenants\/2\/waiting_seconds\/p95 is shown/, (c) => { number(c, "replay/tenants/2/waiting_seconds/p95").text = "2 h 1 min"; }],
    [/replay\/tenants\/0\/gpu_share is not shown/, (c) => { c.numbers = c.numbers.filter((n) => n.key !== "replay/tenants/0/gpu_share"); }],
    [/site\/nothing is shown/, (c) => { c.numbers.push({ key: "site/nothing", text: "1" }); }],
    [/the heading is ""/, (c) => { c.heading = ""; }],
    [/the chip of energy_conserved says the opposite/, (c) => { c.chips.find((chip) => chip.name === "energy_conserved").good = false; }],
    [/no chip tells of/, (c) => { c.chips.pop(); }],
  ]) assert.match(forged(change).join("; "), says);
});

test("numbers are read back as they are said", () => {
  for (const [text, value, doubt] of [["12,345", 12345, 0.5], ["2 h 8 min", 7680, 30], ["2 h", 7200, 30], ["59.8 s", 59.8, 0.05], ["97.0 %", 0.97, 0.0005],
    ["1.20million", 1.2e6, 6e3], ["96.0MB", 9.6e7, 4.8e5], ["355.6 K", 355.6, 0.05], ["1 d", 86400, 1800], ["12.5 ms", 0.0125, 5e-5]]) {
    const said = read(text);
    assert.ok(Math.abs(said.value - value) < 1e-9 * Math.abs(value), `${text}: ${said.value}`);
    assert.ok(Math.abs(said.doubt - doubt) < 1e-6 * doubt, `${text}: ±${said.doubt}`);
  }
  assert.equal(read("–"), null);
});

// Every page

for (const { name, file } of pages) {
  for (const [viewport, colorScheme] of [[WIDE, "light"], [WIDE, "dark"], [NARROW, "light"]]) {
    test(`${name}, ${viewport.width} wide and ${colorScheme}: says nothing, asks nobody, is not blank, and fits`, async () => {
      const { page, said, asked, close } = await open(file, { viewport, colorScheme });
      const picture = await page.screenshot();
      const [wide, room] = await page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
      await close();
      assert.deepEqual(said, []);
      assert.deepEqual(asked, [pathToFileURL(file).href]);
      assert.ok(wide <= room, `${wide} pixels of page in ${room} of window`);
      const colours = await shades(picture);
      // Smoothed text alone makes a few dozen.
      assert.ok(colours >= 200, `${colours} colours`);
    });
  }
}

for (const run of runs) {
  test(`${run.name}: shows what its summary says`, async () => {
    const { page, close } = await open(run.file);
    assert.deepEqual(contradictions(await shown(page), summaryOf(run)), []);
    // A chart for each metric that was measured, each with a line.
    const charts = await page.evaluate(() => [...document.querySelectorAll("svg.plot")].filter((p) => p.getAttribute("aria-label").endsWith("over time")).map((p) => [p.getAttribute("aria-label"), p.querySelectorAll("path.line[d^=M]").length]));
    assert.ok(charts.length >= 3, JSON.stringify(charts));
    for (const [label, lines] of charts) assert.ok(lines > 0, `${label} has no line`);
    assert.ok(await page.locator("canvas").count(), "there is no map");
    await close();
  });
}

// A cluster

const cluster = pages.find(({ name }) => name === "cluster");

test("the map of 1,024 nodes draws every frame while its time is dragged", async (t) => {
  const { page, said, close } = await open(cluster.file);
  await page.locator(".cluster-map canvas").scrollIntoViewIfNeeded();
  for (const measure of ["utilisation", "heat", "fragmentation"]) {
    await page.click(`[data-measure=${measure}]`);
    const { script, between, drawn, frames, pictures } = await page.evaluate(async () => {
      const slider = document.querySelector(".cluster-map input[type=range]"), canvas = document.querySelector(".cluster-map canvas");
      const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true }), script = [], between = [], drawn = [], pictures = new Set();
      slider.value = 0;
      slider.dispatchEvent(new Event("input"));
      let last = await new Promise(requestAnimationFrame);
      for (let i = 0; i <= +slider.max; i += 1) {
        const began = performance.now();
        slider.value = i;
        slider.dispatchEvent(new Event("input"));
        script.push(performance.now() - began);
        drawn.push(+canvas.dataset.frame);
        const now = await new Promise(requestAnimationFrame);
        between.push(now - last);
        last = now;
      }
      // Reading pixels back is slow, so only some, and not while time is taken.
      for (let i = 0; i <= +slider.max; i += 12) {
        slider.value = i;
        slider.dispatchEvent(new Event("input"));
        copy.clearRect(0, 0, canvas.width, canvas.height);
        copy.drawImage(canvas, 0, 0);
        pictures.add(new Uint32Array(copy.getImageData(0, 0, canvas.width, canvas.height).data.buffer).reduce((h, v) => (h * 31 + v) | 0, 7));
      }
      return { script, between, drawn, frames: +slider.max + 1, pictures: pictures.size };
    });
    t.diagnostic(`${measure}: ${frames} frames; script and canvas calls ${median(script).toFixed(2)} ms a frame (median; ${Math.max(...script).toFixed(2)} at most), ${median(between).toFixed(1)} ms from frame to frame`);
    assert.ok(frames >= 150, `${frames} frames`);
    assert.deepEqual(drawn, Array.from({ length: frames }, (_, i) => i));
    assert.ok(pictures > frames / 12 / 2, `${pictures} different pictures`);
  }
  // By hand, and nothing is drawn again while nothing changes.
  const slider = page.locator(".cluster-map input[type=range]");
  await slider.scrollIntoViewIfNeeded();
  const box = await slider.boundingBox();
  const count = () => page.evaluate(() => +document.querySelector(".cluster-map canvas").dataset.drawn);
  await slider.focus();
  await page.keyboard.press("Home");
  const first = await count();
  await page.mouse.move(box.x + 8, box.y + box.height / 2);
  await page.mouse.down();
  await page.mouse.move(box.x + box.width / 2, box.y + box.height / 2, { steps: 20 });
  await page.mouse.up();
  const dragged = await count();
  assert.ok(dragged > first + 5, `${dragged - first} drawn`);
  await page.waitForTimeout(200);
  assert.equal(await count(), dragged);
  assert.deepEqual(said, []);
  await close();
});

test("a node is told by pointing, by clicking and by keys", async () => {
  const { page, close } = await open(cluster.file);
  const { cluster: c } = await embedded(page), inspector = page.locator(".inspector h3"), canvas = page.locator(".cluster-map canvas");
  assert.equal(await inspector.textContent(), "The whole site");
  const box = await canvas.boundingBox();
  // The first node stands in the upper left corner, under the row's name.
  await page.mouse.move(box.x + 6, box.y + 20);
  assert.equal(await inspector.textContent(), c.film.names[0]);
  const about = await page.locator(".inspector").textContent();
  assert.ok(about.includes(c.film.models[c.film.model[0]]) && about.includes("Utilisation") && about.includes("Hottest device"), about);
  await page.mouse.click(box.x + 6, box.y + 20);
  await page.mouse.move(0, 0);
  assert.equal(await inspector.textContent(), c.film.names[0]);
  await canvas.focus();
  await page.keyboard.press("ArrowDown");
  assert.equal(await inspector.textContent(), c.film.names[1]);
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  const held = await inspector.textContent();
  assert.equal(c.film.rack[c.film.names.indexOf(held)], 1);
  // A job on it leads to the job's page.
  const job = page.locator(".inspector .link").first(), name = await job.textContent();
  await job.click();
  assert.equal(await page.locator(".job-page h1").textContent(), name);
  await close();
});

test("play runs through time and stops", async () => {
  const { page, close } = await open(cluster.file);
  const frame = () => page.evaluate(() => +document.querySelector(".cluster-map canvas").dataset.frame);
  await page.locator(".cluster-map input[type=range]").focus();
  await page.keyboard.press("Home");
  await page.click(".cluster-map .play");
  await page.waitForFunction(() => +document.querySelector(".cluster-map canvas").dataset.frame > 3);
  await page.click(".cluster-map .play");
  const stopped = await frame();
  await page.waitForTimeout(150);
  assert.equal(await frame(), stopped);
  await close();
});

/** The columns of the jobs as the page was given them. */
async function jobsOf(page) {
  const { cluster: { jobs }, summary } = await embedded(page);
  const column = (text, type) => { const bytes = Uint8Array.from(Buffer.from(text, "base64")); return new type(bytes.buffer); };
  const f64 = (text) => column(text, Float64Array), u32 = (text) => column(text, Uint32Array);
  return { names: jobs.names, id: f64(jobs.id), arrived: f64(jobs.arrived), started: f64(jobs.started), ended: f64(jobs.ended), state: column(jobs.state, Uint8Array), states: jobs.states,
    steps: u32(jobs.steps.of), actions: Array.from(column(jobs.steps.action, Uint8Array), (a) => jobs.actions[a]), why: u32(jobs.steps.why), whys: jobs.steps.whys, end: summary.simulated_seconds, untold: jobs.untold };
}

test("the list of jobs holds all of them, and finds and sorts", async () => {
  const { page, said, close } = await open(cluster.file);
  const jobs = await jobsOf(page), n = jobs.names.length;
  assert.ok(n >= 10_000 && jobs.untold === 0);
  assert.equal(n, summaryOf(cluster).site.arrived);
  const found = page.locator(".jobs-card output"), rows = page.locator(".jobs .job");
  assert.equal(await found.textContent(), `${n.toLocaleString("en")} jobs`);
  assert.ok(await rows.count() < 60, "only what can be seen is there");
  const waited = (i) => (Number.isFinite(jobs.started[i]) ? jobs.started[i] : Number.isFinite(jobs.ended[i]) ? jobs.ended[i] : jobs.end) - jobs.arrived[i];
  const longest = [...jobs.names.keys()].sort((a, b) => waited(b) - waited(a))[0];
  assert.equal(await rows.first().getAttribute("data-job"), String(jobs.id[longest]));
  const text = await rows.first().locator("[data-column=waited]").textContent(), said_ = read(text);
  assert.ok(Math.abs(said_.value - waited(longest)) <= said_.doubt, `${text} of ${waited(longest)}`);
  // The other way round, and by name.
  await page.click("[data-column=waited][role=columnheader]");
  assert.equal(read(await rows.first().locator("[data-column=waited]").textContent()).value, 0);
  await page.click("[data-column=name][role=columnheader]");
  assert.equal(await rows.first().locator("[data-column=name]").textContent(), jobs.names.slice().sort()[0]);
  // Far down there are rows too.
  await page.evaluate(() => { const view = document.querySelector(".jobs-view"); view.scrollTop = view.scrollHeight; });
  await page.waitForFunction((last) => [...document.querySelectorAll(".jobs .job")].pop().textContent.startsWith(last), jobs.names.slice().sort().pop());
  await page.fill(".jobs-card input", "speech H100");
  const some = await found.textContent();
  assert.match(some, /^[\d,]+ of 12,000 jobs$/);
  assert.ok((await rows.locator("[data-column=tenant]").allTextContents()).every((name) => name === "speech"));
  await page.fill(".jobs-card input", "no such job");
  assert.equal(await found.textContent(), "0 of 12,000 jobs");
  await page.fill(".jobs-card input", "");
  await page.selectOption(".jobs-card select", { label: "Refused" });
  const refused = [...jobs.state].filter((s) => jobs.states[s] === "refused").length;
  assert.equal(refused, summaryOf(cluster).site.refused);
  assert.equal(await found.textContent(), `${refused.toLocaleString("en")} of 12,000 jobs`);
  assert.deepEqual(said, []);
  await close();
});

test("a job's page tells its life and why, and leads back", async () => {
  const { page, said, close } = await open(cluster.file);
  const jobs = await jobsOf(page), end = jobs.end;
  // One that waited behind others and started, and of whose decisions the grounds are known.
  let step = 0, chosen = -1;
  jobs.names.forEach((_, i) => {
    const [first, second] = [jobs.why[step], jobs.why[step + 1]];
    if (chosen < 0 && jobs.steps[i] >= 2 && first && second && jobs.whys[first - 1].ahead && jobs.whys[first - 1].tried === 2 && jobs.started[i] > jobs.arrived[i]) chosen = i;
    step += jobs.steps[i];
  });
  assert.ok(chosen >= 0);
  // By keys alone.
  await page.fill(".jobs-card input", jobs.names[chosen]);
  await page.locator(".jobs-view").focus();
  await page.keyboard.press("Enter");
  await page.waitForFunction(() => !document.querySelector(".job-page").hidden);
  assert.equal(new URL(page.url()).hash, `#job/${jobs.id[chosen]}`);
  assert.equal(await page.locator(".job-page h1").textContent(), jobs.names[chosen]);
  assert.ok(!(await page.locator(".cluster-map").isVisible()));
  const figures = await page.locator(".job-page .figure").evaluateAll((all) => all.map((f) => [f.querySelector("span").textContent, f.querySelector("b").textContent]));
  for (const [label, value] of [["arrived", jobs.arrived[chosen]], ["waited", jobs.started[chosen] - jobs.arrived[chosen]], ["from start to end", (Number.isFinite(jobs.ended[chosen]) ? jobs.ended[chosen] : end) - jobs.started[chosen]]]) {
    const figure = figures.find(([name]) => name === label);
    assert.ok(figure, `${label} in ${JSON.stringify(figures)}`);
    const number = read(figure[1]);
    assert.ok(Math.abs(number.value - value) <= number.doubt * 1.0001, `${label}: ${figure[1]} of ${value}`);
  }
  const story = await page.locator(".story > li > div > p:first-child b").allTextContents();
  assert.deepEqual([story[0], story[1], story.includes("Placed"), story.includes("Started")], ["Arrived", "Had to wait", true, true], story.join(", "));
  const why = await page.locator(".story").textContent();
  for (const part of ["Nodes left after each test", "Before it", "Expected to start", "What would let it start sooner", "Candidates", "chosen"]) assert.ok(why.includes(part), `${part} in ${why}`);
  assert.equal(await page.locator(".unasked").count(), 0, "all of it is here");
  // Who stood before it has a page as well.
  const ahead = page.locator(".evidence .link").first(), other = await ahead.textContent();
  await ahead.click();
  await page.waitForFunction((name) => document.querySelector(".job-page h1").textContent === name, other);
  await page.goBack();
  await page.waitForFunction((name) => document.querySelector(".job-page h1").textContent === name, jobs.names[chosen]);
  await page.click(".back");
  await page.waitForFunction(() => document.querySelector(".job-page").hidden);
  // Of whom only that was tried what starts it at once says so, and who can tell the rest. Every placement has its candidates.
  let place = 0, bare = -1, lacking = 0;
  jobs.names.forEach((_, i) => {
    if (bare < 0 && jobs.why[place] && jobs.whys[jobs.why[place] - 1].tried === 1) bare = i;
    for (let s = place; s < place + jobs.steps[i]; s += 1) lacking += jobs.actions[s] === "place" && !jobs.whys[jobs.why[s] - 1]?.candidates;
    place += jobs.steps[i];
  });
  assert.ok(bare >= 0);
  assert.equal(lacking, 0);
  await page.evaluate((id) => { location.hash = `#job/${id}`; }, jobs.id[bare]);
  await page.waitForFunction((name) => document.querySelector(".job-page h1").textContent === name, jobs.names[bare]);
  assert.match(await page.locator(".unasked").textContent(), new RegExp(`cosmos why ${jobs.names[bare]} --run`));
  assert.match(await page.locator(".story").textContent(), /What would start it at once/);
  await page.click(".back");
  await page.waitForFunction(() => document.querySelector(".job-page").hidden);
  assert.ok(await page.locator(".cluster-map").isVisible());
  assert.deepEqual(said, []);
  await close();
});

test("a job's page says in one line how it was slowed", async () => {
  const { page, said, close } = await open(cluster.file);
  const jobs = await jobsOf(page);
  let step = 0;
  const slowed = jobs.names.findIndex((_, i) => {
    const mine = jobs.actions.slice(step, step + jobs.steps[i]);
    step += jobs.steps[i];
    return mine.includes("throttle");
  });
  assert.ok(slowed >= 0);
  await page.evaluate((hash) => { location.hash = hash; }, `#job/${jobs.id[slowed]}`);
  await page.waitForFunction((name) => document.querySelector(".job-page h1")?.textContent === name, jobs.names[slowed]);
  const told = page.locator(".story > li.throttle");
  assert.equal(await told.count(), 1);
  const text = await told.textContent();
  for (const part of ["Slowed down", "Slowed 3 times between 2 h and 3 h, in all for 12 min"]) assert.ok(text.includes(part), `${part} in ${text}`);
  assert.deepEqual(said, []);
  await close();
});

test("every kind of job has a page, at its address", async () => {
  const { page, said, close } = await open(cluster.file);
  const jobs = await jobsOf(page);
  for (const state of ["waiting", "running", "finished", "refused"]) {
    const i = [...jobs.state].findIndex((s) => jobs.states[s] === state);
    assert.ok(i >= 0, state);
    await page.evaluate((hash) => { location.hash = hash; }, `#job/${jobs.id[i]}`);
    await page.waitForFunction((name) => document.querySelector(".job-page h1")?.textContent === name, jobs.names[i]);
    assert.equal((await page.locator(".job-page .figure b").first().textContent()).toLowerCase(), state);
  }
  await page.evaluate(() => { location.hash = "#job/999999999"; });
  await page.waitForFunction(() => document.querySelector(".job-page").textContent.includes("no such job"));
  assert.deepEqual(said, []);
  await close();
  for (const viewport of [WIDE, NARROW]) {
    const direct = await open(cluster.file, { viewport, colorScheme: "dark", hash: `#job/${jobs.id[0]}` });
    assert.equal(await direct.page.locator(".job-page h1").textContent(), jobs.names[0]);
    const [wide, room] = await direct.page.evaluate(() => [document.documentElement.scrollWidth, innerWidth]);
    assert.ok(wide <= room, `${wide} pixels of page in ${room} of window`);
    assert.deepEqual(direct.said, []);
    await direct.close();
  }
});

test("loops show their faults, tenants their fair share", async () => {
  const { page, close } = await open(cluster.file);
  const { cluster: c } = await embedded(page);
  assert.equal(await page.locator(".small-charts svg").count(), c.loops.length);
  const faults = c.loops.reduce((sum, l) => sum + l.faults.length, 0);
  assert.ok(faults > 0);
  assert.equal(await page.locator(".small-charts .fault").count(), faults);
  const shares = page.locator("svg[aria-label='Dominant share over time']");
  assert.equal(await shares.locator("path.line").count(), c.tenants.length);
  assert.equal(await shares.locator("line.rule").count(), c.tenants.length);
  // A click on a chart moves the map.
  await shares.scrollIntoViewIfNeeded();
  const clock = page.locator(".cluster-map output"), then = await clock.textContent(), box = await shares.boundingBox();
  await page.mouse.click(box.x + box.width / 2, box.y + box.height / 2);
  assert.notEqual(await clock.textContent(), then);
  await close();
});

// Policies

for (const name of ["packing", "comparison"]) {
  test(`${name}: a curve for each policy, and the means of their seeds`, async () => {
    const { page, close } = await open(pages.find((p) => p.name === name).file);
    const { curves } = await embedded(page), list = curves[0].pods;
    const mine = curves.filter((c) => c.pods === list), policies = [...new Set(mine.map((c) => `${c.policy} ${c.migrate} ${c.published}`))];
    const lines = page.locator("svg[aria-label^='GPUs given'] path.line:not(.ideal)");
    assert.equal(await lines.count(), policies.length);
    const rows = await page.locator("table.curves tbody tr").evaluateAll((all) => all.map((r) => [...r.cells].map((c) => c.textContent)));
    assert.equal(rows.length, policies.length);
    // Moves make another policy of it, and no two have one colour but a twin and what was published of it.
    assert.ok(rows.some(([policy]) => policy === "cosmos") && rows.some(([policy]) => policy === "cosmos, 5 moves per 100"), rows.join(" "));
    const strokes = await lines.evaluateAll((all) => all.map((l) => getComputedStyle(l).stroke));
    assert.equal(new Set(strokes).size, policies.length - 1, strokes.join(" "));
    const mean = (policy, published) => {
      const values = mine.filter((c) => c.policy === policy && c.published === published).map((c) => c.curve.find((p) => p.arrived_percent === 100).allocated_percent);
      return values.reduce((s, v) => s + v, 0) / values.length;
    };
    const fgd = rows.find(([policy]) => policy === "fgd");
    assert.ok(Math.abs(parseFloat(fgd[2]) - mean("fgd", false)) <= 0.005001, fgd.join(" "));
    assert.ok(Math.abs(parseFloat(fgd[3].replace("−", "-")) - (mean("fgd", false) - mean("FGD", true))) <= 0.005001, fgd.join(" "));
    // Another list of pods.
    const before_ = await lines.first().getAttribute("d");
    const select = page.locator("select[aria-label='List of pods']");
    await select.selectOption([...new Set(curves.map((c) => c.pods))][1]);
    assert.notEqual(await lines.first().getAttribute("d"), before_);
    await close();
  });
}
