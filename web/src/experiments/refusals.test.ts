import { expect, it } from 'vitest';

import { otherRefusals, refusalsOf, words } from './refusals';

const errors = ['name', 'seeds[0]', 'overrides.dtd.lr', 'seedsman', ''].map((field) => ({ field, value: 'x', expected: 'y' }));

it('refusals are shown at the field that they are of', () => {
  const of = (field: string) => refusalsOf(errors, field).map((error) => error.field);
  expect([of('name'), of('seeds'), of('overrides')]).toEqual([['name'], ['seeds[0]'], ['overrides.dtd.lr']]);
  expect(otherRefusals(errors, ['name', 'seeds', 'overrides']).map((error) => error.field)).toEqual(['seedsman', '']);
});

it('say what is wrong where', () => {
  const expected = 'a whole number';
  expect(words({ field: 'seeds[0]', value: 'x', expected }, 'seeds')).toBe('[0]: x is not valid; expected a whole number');
  expect(words({ field: 'overrides.dtd.lr', value: '-1', expected }, 'overrides')).toBe('dtd.lr: -1 is not valid; expected a whole number');
  expect(words({ field: 'shots', value: '0', expected }, 'shots')).toBe('0 is not valid; expected a whole number');
  expect(words({ field: 'name', value: '', expected: '1 to 200 characters' }, 'name')).toBe('expected 1 to 200 characters');
});
