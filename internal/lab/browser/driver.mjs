// SPDX-License-Identifier: Apache-2.0
//
// Drives Chromium: one JSON object for each line of standard input is a command,
// one for each line of standard output its answer. The Go package beside this
// file is the only one that speaks with it.
import { createRequire } from 'node:module';
import { createInterface } from 'node:readline';
import { readFileSync } from 'node:fs';

const require = createRequire('/opt/latchkey-lab/');
const { chromium } = require('playwright-core');
const axe = readFileSync(require.resolve('axe-core/axe.min.js'), 'utf8');

const pages = new Map();
let browser, profile;

const ops = {
  async launch({ args, kept }) {
    if (kept) {
      profile = await chromium.launchPersistentContext(kept, { executablePath: '/usr/bin/chromium', headless: true, ignoreHTTPSErrors: true, args });
      return profile.browser()?.version() ?? '';
    }
    browser = await chromium.launch({ executablePath: '/usr/bin/chromium', headless: true, args });
    return browser.version();
  },
  async open({ page, beside, options }) {
    const context = profile ?? pages.get(beside)?.context ?? await browser.newContext({ ignoreHTTPSErrors: true, ...options });
    context.setDefaultTimeout(15000);
    const p = await context.newPage();
    const outside = [];
    p.on('request', (r) => outside.push(r.url()));
    pages.set(page, { p, context, outside });
  },
  async close({ page }) { await pages.get(page).context.close(); pages.delete(page); },
  async back({ p }) { await p.goBack(); },
  async goto({ p, url }) { const r = await p.goto(url); return { status: r?.status() ?? 0, headers: r?.headers() ?? {} }; },
  async click({ p, sel }) { await p.locator(sel).first().click(); await p.waitForLoadState(); },
  async fill({ p, sel, text }) { await p.locator(sel).first().fill(text); },
  async press({ p, key }) { await p.keyboard.press(key); },
  async waitURL({ p, part }) { await p.waitForURL((u) => u.href.includes(part)); await p.waitForLoadState(); },
  async text({ p, sel }) { return p.locator(sel).first().innerText(); },
  async count({ p, sel }) { return p.locator(sel).count(); },
  async url({ p }) { return p.url(); },
  async eval({ p, text }) { return p.evaluate(text); },
  async cookies({ context }) { return context.cookies(); },
  async requests({ outside }) { return outside; },
  async shot({ p }) { return (await p.screenshot({ fullPage: true })).toString('base64'); },
  async axe({ p }) {
    // The page's own policy allows no script; this one comes by the debugger.
    await p.evaluate(axe + '; void 0');
    const r = await p.evaluate(() => window.axe.run(document, { resultTypes: ['violations'] }));
    return { violations: r.violations.map((v) => ({ id: v.id, help: v.help, nodes: v.nodes.map((n) => n.html + ' | ' + n.failureSummary) })), passes: r.passes.length };
  },
};

for await (const line of createInterface({ input: process.stdin })) {
  const c = JSON.parse(line);
  let answer;
  try {
    answer = { value: (await ops[c.op]({ ...c, ...(c.op === 'open' ? {} : pages.get(c.page) ?? {}) })) ?? null };
  } catch (err) {
    answer = { error: String(err.message ?? err) };
  }
  process.stdout.write(JSON.stringify(answer) + '\n');
}
await browser?.close();
await profile?.close();
