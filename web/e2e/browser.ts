// A browser that notices everything that no page should do: errors, requests to other hosts, violations of the policy.

import { AxeBuilder } from '@axe-core/playwright';
import { type Browser, type Locator, type Page, chromium } from 'playwright-core';
import { expect } from 'vitest';

const FLAGS = [
  '--headless', '--no-sandbox', '--disable-gpu', '--disable-quic', '--no-first-run', '--disable-background-networking',
  '--disable-component-update', '--disable-sync',
];

export async function launch(): Promise<Browser> {
  return chromium.launch({ executablePath: process.env['CHROMIUM'] || '/usr/bin/chromium', args: FLAGS });
}

/// How long anything on a page may take on a slow machine.
const PATIENCE = 20_000;

export type Visit = { page: Page; complaints: string[] };

/// A page at an address, in a browser context of its own.
export async function visit(browser: Browser, url: string, options: Parameters<Browser['newContext']>[0] = {}): Promise<Visit> {
  const context = await browser.newContext({ viewport: { width: 1280, height: 900 }, ...options });
  context.setDefaultTimeout(PATIENCE);
  const page = await context.newPage();
  const complaints: string[] = [];
  const origin = new URL(url).origin;
  page.on('pageerror', (error) => complaints.push(`error: ${error.message}`));
  page.on('dialog', (dialog) => {
    complaints.push(`dialog: ${dialog.message()}`);
    void dialog.dismiss();
  });
  page.on('console', (message) => {
    const text = message.text();
    // A coordinator that is down, or wants a token, is part of some tests; the browser says so by itself.
    if (message.type() === 'error' && !/Failed to load resource|ERR_/.test(text)) complaints.push(`console: ${text}`);
  });
  page.on('request', (request) => {
    const to = new URL(request.url());
    if (to.origin !== origin && to.protocol !== 'data:' && to.protocol !== 'blob:') complaints.push(`request: ${request.url()}`);
  });
  await page.goto(url);
  return { page, complaints };
}

/// Looks again and again until what is expected holds.
export function eventually<T>(look: () => Promise<T>) {
  return expect.poll(look, { timeout: PATIENCE, interval: 50 });
}

/// The text of something as a reader takes it in: without regard to how it is broken into lines and boxes.
export async function textOf(what: Locator): Promise<string> {
  return (await what.innerText()).replaceAll(/\s+/g, ' ').trim();
}

/// Something on the page that a reload would take away.
export async function mark(page: Page) {
  await page.evaluate(() => Object.assign(window, { isStillHere: true }));
}

export async function expectNotReloaded(page: Page) {
  expect(await page.evaluate(() => 'isStillHere' in window)).toBe(true);
}

/// The page itself does not scroll sideways; what is wide scrolls by itself.
export async function expectFits(page: Page) {
  // What is drawn for a width is drawn anew a frame after that has changed.
  const beyond = () => page.evaluate(() => Math.max(0, (document.scrollingElement?.scrollWidth ?? 0) - innerWidth));
  await expect.poll(beyond, { message: `px beyond the window of ${page.url()}`, timeout: 3000 }).toBe(0);
}

/// No violation that axe knows of, and none of the above.
export async function expectSound(seen: Visit) {
  await expectNoViolation(new AxeBuilder({ page: seen.page }));
  expect(seen.complaints).toEqual([]);
}

/// The same in the other colours: nothing else is different in them.
export async function expectLegible(seen: Visit) {
  await expectNoViolation(new AxeBuilder({ page: seen.page }).withRules(['color-contrast']));
  expect(seen.complaints).toEqual([]);
}

async function expectNoViolation(axe: AxeBuilder) {
  const { violations } = await axe.analyze();
  const found = violations.map(({ id, help, nodes }) => `${id}: ${help} (${nodes.map((node) => node.target.join(' ')).join('; ')})`);
  expect(found).toEqual([]);
}
