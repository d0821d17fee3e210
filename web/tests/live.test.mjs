// Does the dashboard hold a thousand nodes? A rehearsal of as many is lived by `cosmos twin live` and looked at as a person would. COSMOS is the
// executable, CHROMIUM the browser; the nodes are the twin's, their work is made up here.

import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { mkdtempSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const { COSMOS, CHROMIUM, SCREENSHOTS } = process.env;
assert.ok(COSMOS && CHROMIUM, "run these by `cargo xtask verify`, which sets COSMOS and CHROMIUM");

/** 1,024 nodes of four kinds in eight rows, each with a loop, of which one fails. */
const UNIVERSE = `
kind = "site"
name = "thousand"
intent = "A thousand nodes to look at while a cooling loop fails."
[time]
end = "6 h"
step = "1 s"
step_hot = "1 s"
step_quiet = "1 s"
[nodes.h100]
count = 512
gpus = 8
model = "H100"
cpus = 192
memory = "2 TiB"
[nodes.h200]
count = 256
gpus = 8
model = "H200"
cpus = 192
memory = "2 TiB"
[nodes.gh200]
count = 128
gpus = 4
model = "GH200"
cpus = 288
memory = "1 TiB"
[nodes.cpu]
count = 128
cpus = 256
memory = "1 TiB"
[site]
nodes_per_rack = 8
racks_per_row = 16
rows_alike = true
[cooling]
loops = 8
capacity = "80 %"
coolant = 2
[work.jobs]
format = "openb"
path = "jobs.csv"
[tenant.jobs]
gpus_max = 3000
[scheduler]
heat_aware = true
[[fault]]
kind = "cooling_loop"
loop = 3
at = "31 min"
lasts = "1 h"
capacity_left = "30 %"
`;

let browser, folder, twin, url;
before(async () => {
  folder = mkdtempSync(join(tmpdir(), "live-tests-"));
  const jobs = ["name,cpu_milli,memory_mib,num_gpu,gpu_milli,gpu_spec,qos,creation_time,deletion_time"];
  for (let k = 0; k < 900; k += 1) {
    const gpus = [1, 2, 4, 8, 8, 8][k % 6], from = k * 2;
    jobs.push(`train-${String(k).padStart(4, "0")},${gpus * 8000},${gpus * 65536},${gpus},1000,,${k % 9 ? "BE" : "LS"},${from},${from + 1200 + k * 37 % 9000}`);
  }
  writeFileSync(join(folder, "thousand.toml"), UNIVERSE);
  writeFileSync(join(folder, "jobs.csv"), `${jobs.join("\n")}\n`);
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-quic"] });
  twin = spawn(COSMOS, ["twin", "live", join(folder, "thousand.toml"), "--trace", folder, "--at", "30 min", "--pace", "10", "--http", "127.0.0.1:0", "--quiet"], { stdio: ["ignore", "pipe", "pipe"] });
  url = await new Promise((ready, failed) => {
    let said = "", told = "";
    twin.stderr.on("data", (piece) => { said += piece; });
    twin.stdout.on("data", (piece) => { told += piece; if (told.includes("\n")) ready(told.trim()); });
    twin.on("exit", () => failed(new Error(said)));
  });
});
after(async () => {
  await browser?.close();
  twin?.removeAllListeners("exit");
  const ended = new Promise((done) => twin.on("exit", done));
  twin?.kill("SIGINT");
  await ended;
  rmSync(folder, { recursive: true, force: true });
});

const median = (all) => all.toSorted((a, b) => a - b)[Math.floor(all.length / 2)];

async function open(address, colorScheme = "light", viewport = { width: 1360, height: 1000 }) {
  const context = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce" });
  const page = await context.newPage(), said = [], asked = [];
  page.on("console", (message) => said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  page.on("request", (request) => asked.push(request.url()));
  await page.goto(address);
  return { page, said, asked, close: () => context.close() };
}
const whole = (page) => page.waitForFunction(() => document.querySelector(".fleet-map canvas")?.getAttribute("aria-label")?.startsWith("Map of 1024 machines"));

test("a thousand nodes are drawn as they are, and the page stays smooth", async (t) => {
  const { page, said, asked, close } = await open(url);
  await page.getByText("The rehearsal runs").waitFor();
  await whole(page);
  const canvas = page.locator(".fleet-map canvas"), box = await canvas.boundingBox();
  for (const measure of ["heat", "load", "leases"]) {
    await page.click(`[data-measure=${measure}]`);
    const measuring = page.evaluate(async () => {
      const canvas = document.querySelector(".fleet-map canvas"), first = +canvas.dataset.drawn, between = [];
      let last = await new Promise(requestAnimationFrame);
      for (const end = last + 4000; last < end;) {
        const now = await new Promise(requestAnimationFrame);
        between.push(now - last);
        last = now;
      }
      const copy = new OffscreenCanvas(canvas.width, canvas.height).getContext("2d", { willReadFrequently: true });
      copy.drawImage(canvas, 0, 0);
      const pixels = copy.getImageData(0, 0, canvas.width, canvas.height).data;
      return { between, drawn: +canvas.dataset.drawn - first, colours: new Set(new Uint32Array(pixels.buffer)).size };
    });
    for (let k = 0; k < 40; k += 1) await page.mouse.move(box.x + 20 + k * 25, box.y + 40 + k % 9 * 30);
    const { between, drawn, colours } = await measuring;
    t.diagnostic(`${measure}: ${between.length} frames in 4 s; ${median(between).toFixed(1)} ms from frame to frame (median; ${Math.max(...between).toFixed(1)} at most), drawn ${drawn} times`);
    assert.ok(drawn >= 4, `drawn ${drawn} times`);
    assert.ok(colours > 8, `${colours} colours`);
  }
  await page.mouse.move(0, 0);
  await page.waitForFunction(() => document.querySelectorAll(".live canvas").length === 3);
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, "live.png"), fullPage: true });
  // More rows than anybody reads are not made.
  assert.ok(await page.locator("tr[data-name]").count() <= 100);
  assert.equal(await page.locator("tr[data-machine]").count(), 64);
  assert.deepEqual(said, []);
  const own = new URL(url).origin;
  assert.deepEqual(asked.filter((address) => !address.startsWith(own) && !address.startsWith("data:")), [], "nobody else is asked");
  await close();
});

test("whatever is clicked says why: a node, a job that runs, one that waits, the site", async () => {
  const { page, said, close } = await open(url);
  await whole(page);
  const why = page.getByLabel("Why", { exact: true });
  await page.locator(".fleet-map canvas").click({ position: { x: 8, y: 28 } });
  await why.getByText("Why: h100-").waitFor();
  await why.getByText(/is (alive|parked): \d+ % of it is claimed by \d+ jobs/).waitFor();
  const first = await why.locator("h2").textContent();
  // The same by keys.
  await page.locator(".fleet-map canvas").focus();
  await page.keyboard.press("ArrowRight");
  await page.keyboard.press("Enter");
  await page.waitForFunction((first) => document.querySelector("section[aria-label=Why] h2").textContent !== first, first);
  const find = page.getByLabel("Find a program");
  await find.fill("running");
  await page.locator("tr[data-name] button.state").first().click();
  await why.getByText(/ runs on .* since /).waitFor();
  await why.getByText(/placed on /).first().waitFor();
  await find.fill("waits");
  // Not the first, which starts next: it may run by the time it is asked about.
  await page.locator("tr[data-name] button.state").last().click();
  await why.getByText(/tenant jobs may hold 3000 GPUs at most/).first().waitFor();
  await find.fill("nobody is called this");
  await page.getByText("No program here is called").waitFor();
  await page.locator(".figure button.why").first().click();
  await why.getByText("Why: the whole site").waitFor();
  assert.doesNotMatch(await why.textContent(), /undefined|false|\[object/);
  await why.getByText("loop 3 fails").first().waitFor({ timeout: 60_000 }).catch(async () => {
    // Asked before it failed.
    await page.locator(".figure button.why").first().click();
    await why.getByText("loop 3 fails").first().waitFor();
  });
  assert.deepEqual(said, []);
  await close();
});

test("nothing is told without the key, and nothing can be commanded with it", async () => {
  const { origin, hash } = new URL(url), headers = { Authorization: `Bearer ${hash.slice(1)}`, "Content-Type": "application/json" };
  for (const path of ["/api/v1/members", "/api/v1/programs", "/api/v1/live", "/api/v1/members/h100-000/why", "/metrics"]) assert.equal((await fetch(origin + path)).status, 401, path);
  const run = await fetch(`${origin}/api/v1/programs`, { method: "POST", headers, body: JSON.stringify({ words: ["true"] }) });
  assert.equal(run.status, 409);
  assert.match((await run.json()).error, /rehearsal/);
  const { holons, members } = await (await fetch(`${origin}/api/v1/members`, { headers })).json();
  assert.equal(members.length, 1024);
  assert.deepEqual([...new Set(members.map((m) => holons[m.holon].level))], ["rack"]);
  for (const holon of holons.slice(1)) assert.ok(holons[holon.parent], holon.name);
  assert.equal((await fetch(`${origin}/api/v1/members/nobody/why`, { headers })).status, 404);
  assert.equal((await fetch(`${origin}/api/v1/programs/nobody/why`, { headers })).status, 404);
});

test("it can be read in the dark and on a telephone", async () => {
  const { page, close } = await open(url, "dark", { width: 390, height: 800 });
  await whole(page);
  await page.waitForFunction(() => document.querySelectorAll(".live canvas").length === 3, undefined, { timeout: 30_000 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= 390, `${wide} pixels wide`);
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, "live-dark.png"), fullPage: true });
  await close();
});
