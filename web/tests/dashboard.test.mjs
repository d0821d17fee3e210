// Does a person who opens the node's dashboard see the node, and can they command it? COSMOS is the
// executable, CHROMIUM the browser; the node, its programs and its answers are real.

import assert from "node:assert/strict";
import { execFileSync, spawn } from "node:child_process";
import { once } from "node:events";
import { createServer } from "node:net";
import { mkdtempSync, rmSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { chromium } from "playwright-core";

const { COSMOS, CHROMIUM, SCREENSHOTS } = process.env;
assert.ok(COSMOS && CHROMIUM, "run these by `cargo xtask verify`, which sets COSMOS and CHROMIUM");

let browser, folder, node, url;
const env = () => ({ ...process.env, COSMOS_DATA: join(folder, "data") });
const cosmos = (...words) => execFileSync(COSMOS, words, { encoding: "utf8", env: env() });
const up = (address = "127.0.0.1:0") => new Promise((ready, failed) => {
  node = spawn(COSMOS, ["up", "--http", address], { stdio: ["ignore", "ignore", "pipe"], env: env() });
  let said = "";
  node.stderr.on("data", (piece) => { said += piece; if (said.includes("dashboard on")) ready(); });
  node.on("exit", () => failed(new Error(said)));
});
before(async () => {
  folder = mkdtempSync(join(tmpdir(), "dashboard-tests-"));
  browser = await chromium.launch({ executablePath: CHROMIUM, args: ["--no-sandbox", "--disable-quic"] });
  await up();
  url = cosmos("dashboard").trim();
});
after(async () => {
  await browser?.close();
  node?.removeAllListeners("exit");
  node?.kill("SIGTERM");
  await new Promise((ended) => node ? node.on("exit", ended) : ended());
  rmSync(folder, { recursive: true, force: true });
});

async function open(address, colorScheme = "light", viewport = { width: 1360, height: 1000 }) {
  const context = await browser.newContext({ viewport, colorScheme, reducedMotion: "reduce" });
  const page = await context.newPage(), said = [], asked = [];
  page.on("console", (message) => said.push(message.text()));
  page.on("pageerror", (error) => said.push(String(error)));
  page.on("request", (request) => asked.push(request.url()));
  await page.goto(address);
  return { page, said, asked, close: () => context.close() };
}

test("a program is started from the page, heard, measured, stopped and forgotten", async () => {
  const { page, said, asked, close } = await open(url);
  await page.getByText("The node runs").waitFor();
  assert.equal(new URL(page.url()).hash, "", "the key does not stay in the address line");
  await page.getByLabel("Program and words").fill("sh -c 'echo \"hello from here\"; while :; do :; done'");
  await page.getByLabel("Name").fill("talker");
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await page.locator("pre.log", { hasText: "hello from here" }).waitFor();
  const row = page.locator("tr[data-name=talker]");
  await row.getByText("running").waitFor();
  // The command line knows it too, and it is seen to work.
  assert.equal(JSON.parse(cosmos("ps", "--json")).programs[0].phase, "running");
  await page.waitForFunction(() => Number(document.querySelector("tr[data-name=talker] .number").textContent) > 0.05, undefined, { timeout: 60_000 });
  assert.equal(await page.locator(".live canvas").count(), 3);
  // Waits for a second sample, so that there is a line to draw.
  await page.waitForFunction(() => document.querySelectorAll(".u-legend").length === 3);
  await page.waitForTimeout(4500);
  for (const picture of await page.locator(".live canvas").all()) {
    const colours = await picture.evaluate((canvas) => new Set(new Uint32Array(canvas.getContext("2d").getImageData(0, 0, canvas.width, canvas.height).data.buffer)).size);
    assert.ok(colours > 8, `a chart of ${colours} colours`);
  }
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, "dashboard.png"), fullPage: true });
  await row.getByRole("button", { name: "Stop" }).click();
  await row.getByText(/ended with 143|stopped/).waitFor({ timeout: 30_000 });
  await row.getByRole("button", { name: "Forget" }).click();
  await row.waitFor({ state: "detached" });
  assert.deepEqual(JSON.parse(cosmos("ps", "--json")).programs, []);
  // What is read and what can be set of the machine is told, and by what.
  await page.locator("[data-part='actuator processor time']").getByText("in force").waitFor();
  await page.locator("[data-part='sensor temperature']").getByText(/measured|modelled/).first().waitFor();
  const happened = await page.locator(".happened li").allTextContents();
  assert.match(happened[0], /talker.*forgotten/);
  assert.deepEqual(said, []);
  const own = new URL(url).origin;
  assert.deepEqual(asked.filter((address) => !address.startsWith(own) && !address.startsWith("data:")), [], "nobody else is asked");
  await close();
});

test("what is started by command appears by itself, and what cannot be started is said", async () => {
  const { page, close } = await open(url);
  await page.getByText("The node runs").waitFor();
  cosmos("run", "-d", "--name", "elsewhere", "sleep", "1000");
  await page.locator("tr[data-name=elsewhere]").getByText("running").waitFor();
  await page.getByLabel("Program and words").fill("no-such-program");
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await page.getByRole("status").getByText("there is no program").waitFor();
  await page.getByLabel("Program and words").fill("sh 'half");
  await page.getByRole("button", { name: "Run", exact: true }).click();
  await page.getByRole("status").getByText("there is no second '").waitFor();
  await close();
});

test("whatever is clicked says why it is so, back to what caused it", async () => {
  const { page, said, close } = await open(url);
  await page.getByText("The node runs").waitFor();
  cosmos("run", "-d", "--name", "weak", "--restart", "on-failure", "sh", "-c", "sleep 0.2; exit 3");
  const row = page.locator("tr[data-name=weak]");
  await row.getByText("starts again").waitFor();
  await row.locator("button.state").click();
  const why = page.getByLabel("Why", { exact: true });
  await why.getByText("it ended with 3").first().waitFor();
  const cause = why.getByRole("button", { name: /because of #/ }).first();
  const number = (await cause.textContent()).match(/#(\d+)/)[1];
  await cause.click();
  assert.equal(await page.evaluate(() => document.activeElement.id), `decision-${number}`);
  cosmos("stop", "weak");
  cosmos("rm", "weak");
  await page.locator(".figure button.why", { hasText: "given to programs" }).click();
  await why.getByText("Why: this machine").waitFor();
  await why.getByText("the node started").waitFor();
  await why.getByRole("button", { name: "Close" }).click();
  assert.equal(await why.isVisible(), false);
  assert.deepEqual(said, []);
  await close();
});

test("a button that is pressed while the list changes is clicked all the same", async () => {
  const { page, close } = await open(url);
  await page.getByText("The node runs").waitFor();
  cosmos("run", "-d", "--name", "held", "sleep", "1000");
  const why = page.getByLabel("Why", { exact: true });
  const button = page.locator("tr[data-name=held] button.state"), line = page.locator(".happened li button", { hasText: "held" }).first();
  await button.getByText("running").waitFor();
  for (const [pressed, change] of [[button, ["stop", "held"]], [line, ["run", "-d", "--name", "newcomer", "sleep", "1000"]]]) {
    await pressed.scrollIntoViewIfNeeded();
    const { x, y, width, height } = await pressed.boundingBox();
    await page.mouse.move(x + width / 2, y + height / 2);
    await page.mouse.down();
    // The row is made anew, or another line comes above it.
    cosmos(...change);
    await page.waitForTimeout(1500);
    await page.mouse.up();
    await why.getByText("Why: held").waitFor();
    await why.getByRole("button", { name: "Close" }).click();
  }
  // What was not drawn meanwhile is drawn then.
  await page.locator("tr[data-name=newcomer]").getByText("running").waitFor();
  await page.locator(".happened li", { hasText: "newcomer" }).first().waitFor();
  await page.locator("tr[data-name=held]").getByText(/ended with|stopped/).waitFor();
  cosmos("stop", "newcomer");
  cosmos("rm", "held", "newcomer");
  await close();
});

test("what the fleet runs is shown, and why one of it waits", async () => {
  const { page, said, close } = await open(url);
  await page.getByText("The node runs").waitFor();
  const free = createServer().listen(0, "127.0.0.1");
  await once(free, "listening");
  const { port } = free.address();
  await new Promise((closed) => free.close(closed));
  cosmos("run", "-d", "--replicas", "2", "--name", "pair", "--port", `${port}:80`, "sleep", "1000");
  const row = (replica) => page.locator(`tr[data-replica='pair~${replica}']`);
  await row(1).locator("button.state", { hasText: "waiting" }).click();
  const why = page.getByLabel("Why", { exact: true });
  await why.getByText("every machine that has room runs something that takes one of its ports").first().waitFor();
  await why.getByText(`without port ${port}: now`).waitFor();
  await row(0).locator("button.state", { hasText: "running" }).click();
  await why.getByText("pair~0 was given to").waitFor();
  await why.getByRole("button", { name: "Close" }).click();
  cosmos("stop", "--fleet", "pair");
  cosmos("rm", "--fleet", "pair");
  await row(0).waitFor({ state: "detached" });
  assert.deepEqual(said, []);
  await close();
});

test("another machine is seen to come and to die, and heat to slow programs", async () => {
  const { page, close } = await open(url);
  const here = page.locator("tr[data-machine]", { hasText: "(here)" });
  await here.getByText("alive").waitFor();
  const invitation = cosmos("invite").trim(), second = join(folder, "second");
  const other = spawn(COSMOS, ["up", "--http", "off", "--name", "other", "--join", invitation], { stdio: "ignore", env: { ...process.env, COSMOS_DATA: second } });
  const row = page.locator("tr[data-machine=other]");
  await row.getByText("alive").waitFor({ timeout: 60_000 });
  // It says itself how hot and busy it is, and why.
  await page.waitForFunction(() => document.querySelector("tr[data-machine=other] .number").textContent.includes("°C"), undefined, { timeout: 30_000 });
  await page.waitForFunction(() => document.querySelector(".fleet-map canvas").getAttribute("aria-label").startsWith("Map of 2 machines: 2 alive"));
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, "dashboard-two.png"), fullPage: true });
  const why = page.getByLabel("Why", { exact: true });
  await row.locator("button.state").click();
  await why.getByText("Why: other").waitFor();
  await why.getByText("the node started").waitFor();
  other.kill("SIGKILL");
  await row.getByText("removed").waitFor({ timeout: 60_000 });
  await row.locator("button.state").click();
  await why.getByText("it is removed, as far as this machine knows").waitFor();
  assert.doesNotMatch(await why.textContent(), /undefined|false|\[object/);
  if (JSON.parse(cosmos("status", "--json")).heat.temperature.source === "modelled") {
    // Without any work of its own it comes into the band in which the guard slows, and not past the limit.
    cosmos("outside", "75");
    const given = () => [...document.querySelectorAll(".figure")].some((figure) => figure.textContent.includes("given to programs") && Number.parseInt(figure.textContent) < 95);
    await page.waitForFunction(given, undefined, { timeout: 90_000 });
    if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, "dashboard-hot.png"), fullPage: true });
    cosmos("outside", "20");
  }
  await close();
});

test("a program given to the fleet is heard from its machine, and moves when that is killed", async () => {
  // Whoever is chosen to run it must not be the machine whose page this is, or nobody would be there to be looked at.
  const others = new Map();
  for (const name of ["ben", "cleo"]) {
    const invitation = cosmos("invite").trim(), data = join(folder, name);
    others.set(name, spawn(COSMOS, ["up", "--http", "off", "--name", name, "--join", invitation], { stdio: "ignore", env: { ...process.env, COSMOS_DATA: data } }));
    await new Promise((ready, failed) => {
      const until = Date.now() + 60_000;
      (function look() {
        const there = JSON.parse(cosmos("members", "--json")).members.find((m) => m.name === name);
        if (there?.state === "alive") return ready();
        if (Date.now() > until) return failed(new Error(`${name} does not come`));
        setTimeout(look, 200);
      })();
    });
  }
  const own = JSON.parse(cosmos("status", "--json")).fleet.name;
  cosmos("drain", own);
  const { page, said, close } = await open(url);
  await page.getByText("The node runs").waitFor();
  await page.getByLabel("Program and words").fill("sh -c 'echo I am $$; while :; do date +%s.%N; sleep 0.5; done'");
  await page.getByLabel("Name").fill("wanderer");
  await page.getByLabel("Where").selectOption("in the fleet");
  await page.getByLabel("Replicas").fill("1");
  await page.getByLabel("Start again").selectOption("always");
  await page.getByRole("button", { name: "Run", exact: true }).click();
  const row = page.locator("tr[data-replica='wanderer~0']");
  await row.getByText("running", { exact: true }).waitFor({ timeout: 60_000 });
  const first = await row.locator(".at").textContent();
  assert.ok(others.has(first), `it runs on ${first}`);
  await row.getByRole("button", { name: "Log" }).click();
  const log = page.locator("pre.log");
  await page.waitForFunction(() => document.querySelector("pre.log").textContent.match(/^\d+\.\d+$/gm)?.length >= 3, undefined, { timeout: 30_000 });
  assert.match(await log.textContent(), /^I am \d+$/m);
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, "dashboard-fleet.png"), fullPage: true });
  others.get(first).kill("SIGKILL");
  const second = [...others.keys()].find((name) => name !== first);
  await row.locator(".at", { hasText: second }).waitFor({ timeout: 60_000 });
  await row.getByText("running", { exact: true }).waitFor({ timeout: 60_000 });
  await page.waitForFunction((name) => document.querySelector("pre.log").textContent.match(new RegExp(`— on ${name} —\\nI am \\d+\\n\\d`)), second, { timeout: 30_000 });
  // Why it is there is said by the machine and by what was agreed on.
  await row.locator("button.state").click();
  const why = page.getByLabel("Why", { exact: true });
  await why.getByText("Why: wanderer~0").waitFor();
  await why.getByText(`was taken from ${first}`).waitFor();
  assert.doesNotMatch(await why.textContent(), /undefined|\[object/);
  if (SCREENSHOTS) {
    await page.screenshot({ path: join(SCREENSHOTS, "dashboard-moved.png"), fullPage: true });
  }
  // A telephone that is turned upright: charts follow with the next sample.
  await page.setViewportSize({ width: 390, height: 800 });
  await page.waitForFunction(() => document.documentElement.scrollWidth <= 390, undefined, { timeout: 20_000 });
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, "dashboard-moved-phone.png"), fullPage: true });
  await row.getByRole("button", { name: "Stop" }).click();
  const over = page.locator("tr[data-replica=wanderer]");
  await over.getByText("stopped").waitFor({ timeout: 60_000 });
  await over.getByRole("button", { name: "Forget" }).click();
  await over.waitFor({ state: "detached" });
  // Chromium itself says so when an answer is an error; the page has nothing to complain of.
  assert.deepEqual(said.filter((line) => !line.startsWith("Failed to load resource")), []);
  cosmos("drain", "--undo", own);
  others.get(second).kill("SIGTERM");
  await new Promise((ended) => others.get(second).on("exit", ended));
  await close();
});

test("without the key nothing is shown but where to find it", async () => {
  const { page, close } = await open(new URL(url).origin);
  await page.getByText("cosmos dashboard").waitFor();
  assert.equal(await page.locator("tr[data-name]").count(), 0);
  await close();
});

test("a node that is killed and starts again is found again, with what it ran", async () => {
  const address = new URL(url).host;
  const { page, close } = await open(url);
  await page.locator("tr[data-name=elsewhere]").getByText("running").waitFor();
  node.removeAllListeners("exit");
  node.kill("SIGKILL");
  await page.getByText("No connection").waitFor();
  await up(address);
  await page.getByText("The node runs").waitFor({ timeout: 60_000 });
  await page.locator("tr[data-name=elsewhere]").getByText("running").waitFor();
  await close();
});

test("it can be read in the dark and on a telephone", async () => {
  const { page, close } = await open(url, "dark", { width: 390, height: 800 });
  await page.getByText("The node runs").waitFor();
  await page.waitForFunction(() => document.querySelectorAll(".live canvas").length === 3, undefined, { timeout: 30_000 });
  const wide = await page.evaluate(() => document.documentElement.scrollWidth);
  assert.ok(wide <= 390, `${wide} pixels wide`);
  if (SCREENSHOTS) await page.screenshot({ path: join(SCREENSHOTS, "dashboard-dark.png"), fullPage: true });
  await close();
});
