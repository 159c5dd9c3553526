// Judge HTML pages by axe-core in Chromium: node tools/accessibility.js FOLDER_OR_PAGE...
//
// Pages with a light and a dark theme are judged in both. Beside axe's rules a page must fit a
// window of 1,200 pixels and have no picture that is missing or without words. A page that cannot
// be judged counts as one that fails. `make accessible` installs what this needs.
// CHROMIUM names the browser, AXE the folder whose node_modules has axe-core and puppeteer-core.

const fs = require("fs");
const path = require("path");

const tools = require("module").createRequire(path.resolve(process.env.AXE || ".", "package.json"));
const puppeteer = tools("puppeteer-core");
const axe = fs.readFileSync(tools.resolve("axe-core/axe.min.js"), "utf8");

const BROWSERS = [
  process.env.CHROMIUM, "/usr/bin/chromium", "/usr/bin/chromium-browser", "/usr/bin/google-chrome",
  "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome",
];
const WIDTH = 1200;
const MINUTES = 15; // the longest page, the reference of all calls, takes one or two

function pages(place) {
  if (!fs.statSync(place).isDirectory()) return [place];
  const found = [];
  for (const entry of fs.readdirSync(place, { withFileTypes: true })) {
    const inner = path.join(place, entry.name);
    if (entry.isDirectory()) found.push(...(entry.name.startsWith("_") ? [] : pages(inner)));
    else if (entry.name.endsWith(".html")) found.push(inner);
  }
  return found.sort();
}

// --- in the page -----------------------------------------------------------------------------------

async function violations(only) {
  const how = { resultTypes: ["violations"], elementRef: false, iframes: false };
  if (only) how.runOnly = { type: "rule", values: only };
  const found = await window.axe.run(document, how);
  return found.violations.map((rule) => ({
    id: rule.id,
    impact: rule.impact,
    count: rule.nodes.length,
    first: rule.nodes.slice(0, 3).map((node) =>
      [node.target.join(" "), node.html.slice(0, 200), (node.failureSummary || "").slice(0, 300)]),
  }));
}

function layout() {
  const found = [];
  const whole = document.documentElement;
  if (whole.scrollWidth > whole.clientWidth + 1)
    found.push({ id: "page-wider-than-window", count: 1, first: [[`${whole.scrollWidth} px`]] });
  for (const block of document.querySelectorAll("pre"))
    if (block.scrollWidth > block.clientWidth + 1)
      found.push({ id: "code-scrolls", count: 1, first: [[block.innerText.slice(0, 120)]] });
  for (const picture of document.querySelectorAll("img")) {
    const name = picture.src.slice(0, 80);
    if (!picture.getAttribute("alt")) found.push({ id: "no-words", count: 1, first: [[name]] });
    if (picture.complete && !picture.naturalWidth)
      found.push({ id: "missing-picture", count: 1, first: [[name]] });
  }
  return found;
}

function dark() {
  const { dataset } = document.documentElement;
  const themed = dataset.theme !== undefined;
  if (themed) dataset.theme = dataset.mode = "dark";
  return themed;
}

// --- one page after the other ----------------------------------------------------------------------

async function judged(browser, file) {
  const page = await browser.newPage();
  try {
    await page.setViewport({ width: WIDTH, height: 900 });
    await page.emulateMediaFeatures([
      { name: "prefers-color-scheme", value: "light" },
      { name: "prefers-reduced-motion", value: "reduce" },
    ]);
    const place = "file://" + path.resolve(file);
    await page.goto(place, { waitUntil: "load", timeout: MINUTES * 60e3 });
    await page.evaluate(axe);
    const found = [...(await page.evaluate(layout)), ...(await page.evaluate(violations, null))];
    const themed = await page.evaluate(dark);
    if (!themed)
      await page.emulateMediaFeatures([{ name: "prefers-color-scheme", value: "dark" }]);
    await new Promise((done) => setTimeout(done, 400));
    const more = await page.evaluate(violations, ["color-contrast", "link-in-text-block"]);
    return [...found, ...more.map((rule) => ({ ...rule, id: `${rule.id} (dark)` }))];
  } catch (error) {
    return [{ id: "could-not-be-judged", count: 1, first: [[error.message]] }];
  } finally {
    await page.close().catch(() => {});
  }
}

async function main() {
  const files = process.argv.slice(2).flatMap(pages);
  if (!files.length) throw new Error("no page: node tools/accessibility.js FOLDER_OR_PAGE...");
  const executablePath = BROWSERS.find((name) => name && fs.existsSync(name));
  if (!executablePath) throw new Error("no Chromium found: set CHROMIUM to its path");
  const browser = await puppeteer.launch({
    executablePath,
    protocolTimeout: MINUTES * 60e3,
    args: ["--no-sandbox", "--disable-gpu", "--disable-background-networking"],
  });
  let wrong = 0;
  for (const file of files) {
    const start = Date.now();
    const found = await judged(browser, file);
    wrong += found.length ? 1 : 0;
    console.log(`${found.length ? "FAIL" : "ok"} ${file} (${((Date.now() - start) / 1e3).toFixed(1)} s)`);
    for (const { id, impact, count, first } of found) {
      console.log(`  ${id}${impact ? `, ${impact}` : ""}: ${count}`);
      for (const lines of first) console.log(`    ${lines.join("\n      ").replaceAll("\n", "\n      ")}`);
    }
  }
  await browser.close();
  console.log(`${files.length} pages, ${wrong} with violations`);
  process.exit(wrong ? 1 : 0);
}

main().catch((error) => {
  console.error(error.message);
  process.exit(2);
});
