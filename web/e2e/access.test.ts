// A coordinator that answers only to who has a token.

import type { Browser, Page } from 'playwright-core';
import { afterAll, beforeAll, expect, test } from 'vitest';

import { eventually, expectFits, expectSound, launch, mark, expectNotReloaded, textOf, visit } from './browser';
import { Coordinator, type Schemas } from './coordinator';

let coordinator: Coordinator;
let browser: Browser;
let reading: string;

beforeAll(async () => {
  [coordinator, browser] = await Promise.all([Coordinator.start({ tokens: true }), launch()]);
  const { secret } = await coordinator.ask<Schemas['TokenCreated']>('POST', '/tokens', { name: 'reader', scopes: ['read'] });
  reading = secret;
});

afterAll(async () => {
  await browser.close();
  await coordinator.stop();
});

let experiments = 0;
/// An experiment of one job that waits: its data set is no other's.
async function experiment(name: string) {
  experiments++;
  const { id } = await coordinator.submit({ name, protocol: 'base_to_new', methods: ['coop'], datasets: ['dtd'], seeds: [experiments] });
  return id;
}

async function signIn(page: Page, token: string, { keep = false } = {}) {
  await page.getByLabel('Token').fill(token);
  if (keep) await page.getByLabel('keep it in this browser').check();
  await page.getByRole('main').getByRole('button', { name: 'Sign in' }).click();
}

const form = (page: Page) => page.getByRole('heading', { name: 'Sign in' });

test('without a token there is a form, and a wrong one is refused in words', async () => {
  await experiment('secret');
  const seen = await visit(browser, `${coordinator.url}/experiments`);
  const { page } = seen;
  await form(page).waitFor();
  expect(await page.getByText('secret').count()).toBe(0);
  await expectSound(seen);
  const button = page.getByRole('main').getByRole('button', { name: 'Sign in' });
  await page.getByLabel('Token').fill('letmein');
  expect(await button.isDisabled()).toBe(true);

  await signIn(page, `pf_${'0'.repeat(64)}`);
  await page.getByRole('alert').getByText('does not take this token').waitFor();
  await expectSound(seen);
  await page.setViewportSize({ width: 360, height: 740 });
  await expectFits(page);
});

test('with a token everything is there, the live stream too, and it outlives a reload of the tab', async () => {
  const id = await experiment('opened');
  const { page, complaints } = await visit(browser, `${coordinator.url}/experiments/${id}`);
  await form(page).waitFor();
  await signIn(page, coordinator.token ?? '');
  await page.getByRole('heading', { name: 'opened' }).waitFor();
  await page.getByText('live', { exact: true }).waitFor();
  await mark(page);
  await coordinator.ask('POST', `/experiments/${id}/cancel`);
  await eventually(() => textOf(page.getByText(/jobs done/))).toBe('0 of 2 jobs done, 2 cancelled');
  await expectNotReloaded(page);

  await page.reload();
  await page.getByRole('heading', { name: 'opened' }).waitFor();
  // Another tab has to sign in by itself.
  const other = await page.context().newPage();
  await other.goto(coordinator.url);
  await form(other).waitFor();
  expect(complaints).toEqual([]);
});

test('a token that is kept is there in a new tab, and is gone after signing out', async () => {
  await experiment('kept');
  const { page, complaints } = await visit(browser, `${coordinator.url}/experiments`);
  await form(page).waitFor();
  await signIn(page, coordinator.token ?? '', { keep: true });
  await page.getByRole('link', { name: 'kept', exact: true }).waitFor();
  const other = await page.context().newPage();
  await other.goto(`${coordinator.url}/experiments`);
  await other.getByRole('link', { name: 'kept', exact: true }).waitFor();

  await page.getByRole('button', { name: 'Sign out' }).click();
  await form(page).waitFor();
  // Nothing of what could be seen is left.
  expect(await page.getByText('kept').count()).toBe(0);
  await page.getByText('answers only to who has a token').waitFor();
  await other.reload();
  await form(other).waitFor();
  expect(complaints).toEqual([]);
});

test('signing out takes away what has happened, too', async () => {
  const { page } = await visit(browser, `${coordinator.url}/events`);
  await form(page).waitFor();
  await signIn(page, coordinator.token ?? '');
  await page.getByText('live', { exact: true }).waitFor();
  await experiment('overheard');
  await page.getByText(/overheard/).first().waitFor();
  await page.getByRole('button', { name: 'Sign out' }).click();
  await form(page).waitFor();
  expect(await page.getByText(/overheard/).count()).toBe(0);
  // The next who signs in has not seen what came before.
  await signIn(page, reading);
  await page.getByText('Nothing happened yet').waitFor();
});

/// A token with these scopes.
async function tokenOf(...scopes: Schemas['Scope'][]): Promise<string> {
  return (await coordinator.ask<Schemas['TokenCreated']>('POST', '/tokens', { name: scopes.join(' '), scopes })).secret;
}

test('everyone is offered what their token permits, and nothing else', async () => {
  const id = await experiment('read only');
  const worker = await coordinator.worker('drained by whom');
  // Nobody asks for a pilot of it.
  await coordinator.ask('PUT', '/pools/spare', { launcher: 'local', max: 1 });
  const [job] = (await coordinator.ask<{ items: { id: number }[] }>('GET', `/experiments/${id}/jobs`)).items;
  // For each view what it has to do, by the scope that is needed, and what tells that it is all there.
  const views: [address: string, ready: string | RegExp, Partial<Record<Schemas['Scope'], RegExp>>][] = [
    [`/experiments/${id}`, /0 of 2 jobs done/, { submit: /^(Cancel …|Select none|Cancel 0 …|Retry 0)$/ }],
    ['/experiments', 'read only', { submit: /^Cancel read only$/ }],
    ['/experiments/new', 'CoOp', { submit: /^Submit$/ }],
    [`/jobs/${job?.id}`, 'Curves', { submit: /^Cancel …$/, read: /^Download$/ }],
    ['/workers', 'drained by whom', { work: /^Drain …$/, admin: /^Turn off …$/ }],
  ];
  const owners: [string, Schemas['Scope'][]][] = [
    [reading, ['read']],
    [await tokenOf('submit'), ['read', 'submit']],
    [await tokenOf('work'), ['read', 'work']],
    [coordinator.token ?? '', ['read', 'submit', 'work', 'admin']],
  ];
  for (const [token, permitted] of owners) {
    const seen = await visit(browser, coordinator.url);
    const { page } = seen;
    await form(page).waitFor();
    await signIn(page, token);
    await page.getByText('live', { exact: true }).waitFor();
    for (const [address, ready, actions] of views) {
      await page.goto(coordinator.url + address);
      await page.getByText(ready).first().waitFor();
      // What is offered comes when the coordinator has said what is permitted.
      await page.waitForLoadState('load');
      for (const [scope, name] of Object.entries(actions) as [Schemas['Scope'], RegExp][]) {
        const buttons = page.getByRole('button', { name });
        if (permitted.includes(scope)) await buttons.first().waitFor();
        else expect(await buttons.count(), `${address} ${name} for ${permitted.join()}`).toBe(0);
      }
    }
    await expectSound(seen);
    await page.context().close();
  }
  await coordinator.ask('POST', `/workers/${worker.id}/leave`);
});

test('a reader who puts an experiment together is told who may submit it', async () => {
  const seen = await visit(browser, `${coordinator.url}/experiments/new`);
  await form(seen.page).waitFor();
  await signIn(seen.page, reading);
  await seen.page.getByText('Submitting it needs a token with the scope “submit”').waitFor();
  await expectSound(seen);
});

test('when the token is revoked, the reader is asked to sign in again', async () => {
  const { secret, id } = await coordinator.ask<Schemas['TokenCreated']>('POST', '/tokens', { name: 'short', scopes: ['read'] });
  await experiment('revoked');
  const { page } = await visit(browser, `${coordinator.url}/experiments`);
  await form(page).waitFor();
  await signIn(page, secret);
  await page.getByRole('link', { name: 'revoked', exact: true }).waitFor();
  await coordinator.ask('DELETE', `/tokens/${id}`);
  await page.getByRole('link', { name: 'Workers' }).click();
  await page.getByRole('alert').getByText('may have been revoked').waitFor();
  await signIn(page, reading);
  await page.getByRole('heading', { name: 'Workers', exact: true }).waitFor();
});
