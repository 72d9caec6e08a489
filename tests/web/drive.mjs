// Drives the pages of `cajal serve` in a real browser, as a person would, and fails on the first thing that is not
// as it should be, any message on the console, and any finding of axe.
//   node drive.mjs --modules FOLDER --small URL --large URL [--screenshots FOLDER] [--limits]
// small: an atlas with its model; large: the 100k neurons of bench/synthetic_atlas. --limits: also fails on slow views.
import assert from 'node:assert/strict';
import { mkdtempSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';

const { values: given } = parseArgs({
  options: {
    modules: { type: 'string' },
    small: { type: 'string' },
    large: { type: 'string' },
    screenshots: { type: 'string' },
    limits: { type: 'boolean' },
    chromium: { type: 'string', default: '/usr/bin/chromium' },
  },
});
const require = createRequire(join(resolve(given.modules), 'from.js'));
const { chromium } = require('playwright-core');
const axe = require('axe-core').source;

const profile = mkdtempSync(join(tmpdir(), 'cajal-web-'));
const context = await chromium.launchPersistentContext(profile, {
  executablePath: given.chromium,
  headless: true,
  viewport: { width: 1280, height: 860 },
  args: [
    '--no-sandbox',
    '--disable-gpu',
    '--disable-quic',
    '--no-first-run',
    '--disable-background-networking',
    '--disable-component-update',
    '--disable-sync',
  ],
});
const page = context.pages()[0];
page.setDefaultTimeout(10_000);
const messages = [];
page.on(
  'console',
  (message) =>
    ['error', 'warning'].includes(message.type()) &&
    messages.push(`${message.type()}: ${message.text()}`),
);
page.on('pageerror', (error) => messages.push(`thrown: ${error.message}`));
page.on('dialog', (dialog) => {
  messages.push(`dialog: ${dialog.message()}`);
  dialog.dismiss();
});
page.on('request', (request) => {
  if (!/^(http:\/\/127\.0\.0\.1:|data:)/.test(request.url()))
    messages.push(`asked ${request.url()}`);
});

let base;
const times = [];
// Nothing is loading any more.
const settled = () => page.waitForFunction(() => !document.querySelector('[aria-busy=true]'));
// Goes to another view and waits until the page before it is gone.
async function hash(text) {
  await page.evaluate(
    (to) =>
      new Promise((left) => {
        if (location.hash === `#${to}`) return left();
        addEventListener('hashchange', left, { once: true });
        location.hash = to;
      }),
    text,
  );
  await settled();
}
const text = (selector) => page.locator(selector).first().innerText();

async function step(name, action) {
  const begin = performance.now();
  try {
    await action();
    assert.deepEqual(messages, [], 'nothing is said on the console');
  } catch (error) {
    console.error(`FAIL ${name}: ${error.message}`);
    await page
      .screenshot({ path: join(given.screenshots ?? tmpdir(), 'failed.png') })
      .catch(() => {});
    throw error;
  }
  console.log(`ok   ${name} (${Math.round(performance.now() - begin)} ms)`);
}

async function accessible(
  name,
  rules = ['wcag2a', 'wcag2aa', 'wcag21a', 'wcag21aa', 'wcag22aa', 'best-practice'],
) {
  await page.evaluate(axe);
  const { violations } = await page.evaluate(
    (runOnly) => globalThis.axe.run(document, { runOnly }),
    rules,
  );
  assert.deepEqual(
    violations.map(
      ({ id, nodes }) =>
        `${id}: ${nodes
          .slice(0, 2)
          .map(({ html, failureSummary }) => html.slice(0, 160) + failureSummary.slice(0, 160))
          .join(' | ')}`,
    ),
    [],
    `axe on ${name}`,
  );
}

async function shoot(name, full = false) {
  if (given.screenshots)
    await page.screenshot({ path: join(given.screenshots, `${name}.png`), fullPage: full });
}

async function open(url, path = '') {
  base = url;
  await page.goto('about:blank');
  const begin = performance.now();
  await page.goto(`${url}#${path}`);
  await page.locator('main h1').waitFor();
  return performance.now() - begin;
}

try {
  await step('the overview opens', async () => {
    await open(given.small);
    assert.match(await page.title(), /cajal$/);
    assert.ok((await page.locator('.heat td').count()) > 50);
    await accessible('overview');
    await shoot('overview', true);
  });
  await step('the keyboard reaches everything', async () => {
    await page.keyboard.press('Tab');
    assert.equal(await page.evaluate(() => document.activeElement.className), 'skip');
    await page.locator('.heat td a').first().focus();
    await page.keyboard.press('ArrowRight');
    assert.ok(await page.evaluate(() => document.activeElement.matches('.heat td a')));
    await page.keyboard.press('/');
    assert.equal(await page.evaluate(() => document.activeElement.id), 'jump');
    await page.keyboard.type('1.7');
    await page.keyboard.press('Enter');
    await page.locator('h1 .place', { hasText: '1.7' }).waitFor();
    await page.goBack();
    await page.locator('h2', { hasText: 'Layers at a glance' }).waitFor();
  });
  await step('a statistic is chosen and one of its cells leads to its neurons', async () => {
    await page.getByText('Output energy', { exact: true }).click();
    const cell = page.locator('.heat.compact td a').last();
    const neurons = await cell.innerText();
    await cell.click();
    await page.locator('.count').waitFor();
    assert.equal((await text('.count')).match(/^[\d,]+/)[0], neurons);
  });
  await step('neurons are filtered, sorted and turned over', async () => {
    await hash('/neurons');
    await page.locator('.list').waitFor();
    const all = await text('.count');
    await page.locator('[data-order=rate]').click();
    await page.locator('th[aria-sort=descending] [data-order=rate]').waitFor();
    await accessible('neurons');
    await shoot('neurons');
    const first = await text('.list tbody th');
    await page.getByRole('button', { name: 'Next' }).click();
    await page.getByText('Page 2 of').waitFor();
    assert.notEqual(await text('.list tbody th'), first);
    await page.locator('[name=word]').fill('the');
    await page.waitForFunction(
      (before) =>
        location.hash.includes('word=the') &&
        !location.hash.includes('page=') &&
        !document.querySelector('.results[aria-busy]') &&
        !document.querySelector('.count').innerText.startsWith(before),
      all.split(' ')[0],
    );
    await page.locator('[name=word]').fill('zzzzqq');
    await page.getByText('No neuron is like that').waitFor();
    await accessible('no neurons');
  });
  await step('a neuron shows what it is', async () => {
    await hash('/neurons?order=energy&descending=1&layer=2');
    await page.locator('.list tbody th a').first().click();
    await page.getByText('Colours: its activation').waitFor();
    assert.ok((await page.locator('.exemplars li').count()) === 10);
    assert.ok((await page.locator('.exemplars mark').count()) >= 9);
    assert.ok((await page.locator('.chart rect').count()) > 5);
    await page.locator('.chart').first().hover();
    await page.locator('.chart .said[visibility=visible]').waitFor();
    await page.locator('#try').fill('He went to London and to the sea.');
    await page.locator('.tried .lit > *').first().waitFor();
    await page.evaluate(() => scrollTo(0, 0));
    await accessible('neuron');
    await shoot('neuron', true);
    const place = await text('h1 .place');
    await page.getByRole('link', { name: 'Next neuron' }).click();
    await page.waitForFunction(
      (before) => document.querySelector('h1 .place')?.innerText !== before,
      place,
    );
  });
  await step('a typed text lights its neurons', async () => {
    await hash('/live');
    await page.locator('.live td button').first().waitFor();
    const before = await page.locator('.live thead th').count();
    await page.locator('#text').pressSequentially(' A ship came in.');
    await page.waitForFunction(
      (count) => document.querySelectorAll('.live thead th').length > count,
      before,
    );
    await settled(); // the grid is drawn before what it says of one place
    await page.locator('.live td button').nth(6).click();
    await settled();
    await page.locator('.best .follow').first().click();
    await page.locator('.lights .legend').waitFor();
    assert.equal(await page.locator('.follow[aria-pressed=true]').count(), 1);
    await accessible('live');
    await shoot('live', true);
    await page.locator('#text').fill('');
    await page.getByText('Nothing to read yet').waitFor();
  });
  await step('nothing is wider than a small screen', async () => {
    await page.setViewportSize({ width: 320, height: 640 });
    for (const path of ['/', '/neurons?order=energy&descending=1', '/neuron/1/7', '/live']) {
      await open(given.small, path);
      await settled();
      assert.ok(
        (await page.evaluate(() => document.documentElement.scrollWidth)) <= 320,
        `${path} fits`,
      );
      if (path !== '/') await accessible(`${path} at 320 px`);
      await shoot(`small${path.split('?')[0].replaceAll('/', '-')}`);
    }
    await page.setViewportSize({ width: 1280, height: 860 });
  });
  await step('the dark form can be read', async () => {
    await page.emulateMedia({ colorScheme: 'dark' });
    for (const [path, name] of [
      ['/', 'overview-dark'],
      ['/neuron/2/7', 'neuron-dark'],
      ['/live', 'live-dark'],
      ['/neurons', 'neurons-dark'],
    ]) {
      await open(given.small, path);
      await settled();
      await accessible(name, ['color-contrast']);
      await shoot(name);
    }
    await page.emulateMedia({ colorScheme: 'light' });
  });
  await step('100,000 neurons come as quickly', async () => {
    await open(given.large); // once, so that the file is in memory
    times.push(['first view', await open(given.large), 1000]);
    for (const [name, path, seen] of [
      ['neuron page', '/neuron/7/4000', 'h1 .place'],
      ['list page', '/neurons?order=energy&descending=1&rate_min=0.1', '.list'],
      ['word search', '/neurons?word=kalo', '.count'],
    ]) {
      await hash('/live');
      await page.locator('h1', { hasText: 'Live' }).waitFor();
      const took = await page.evaluate(
        async ([to, selector]) => {
          const begin = performance.now();
          location.hash = to;
          while (!document.querySelector(selector) && performance.now() - begin < 10_000)
            await new Promise(requestAnimationFrame);
          return performance.now() - begin;
        },
        [path, seen],
      );
      assert.ok(took < 10_000, `${path}: ${await text('main')}`);
      times.push([name, took, name === 'neuron page' ? 200 : 1000]);
    }
    assert.equal(
      await page.locator('main img, main script, main b.hostile').count(),
      0,
      'text of an atlas stays text',
    );
  });
  await step('what is not there is said', async () => {
    await hash('/neuron/99/0');
    await page.getByText('the atlas has layers').waitFor();
    await hash('/nowhere');
    await page.getByText('There is no such page').waitFor();
    assert.ok(messages.splice(0).every((message) => /404/.test(message)));
  });
  for (const [name, took, limit] of times)
    console.log(`${name}: ${took.toFixed(0)} ms (wanted: below ${limit})`);
  if (given.limits)
    for (const [name, took, limit] of times)
      assert.ok(took < limit, `${name} took ${took.toFixed(0)} ms`);
} finally {
  await context.close();
  rmSync(profile, { recursive: true, force: true });
}
