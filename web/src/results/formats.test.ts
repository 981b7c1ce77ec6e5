import { expect, it } from 'vitest';

import { addressOf } from './formats';

it('says which table is meant, legibly', () => {
  expect(addressOf(7, 'csv', {})).toBe('/api/v1/experiments/7/results?format=csv');
  expect(addressOf(7, 'latex', { compare: 'published', seeds: '1,3', methods: 'mmrl,a&b' })).toBe(
    '/api/v1/experiments/7/results?format=latex&compare=published&seeds=1,3&methods=mmrl,a%26b',
  );
});
