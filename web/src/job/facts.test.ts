import { describe, expect, it } from 'vitest';

import { aboutHyper, bytes } from './facts';

describe('hyper-parameters', () => {
  it('are flat and sorted, without those that are absent', () => {
    const hyper = { lr: 0.001, epochs: 10, momentum: null, rep_layers: [6, 7], eval: { every_epochs: 0 } };
    expect(aboutHyper(hyper as never)).toEqual([
      ['epochs', '10'],
      ['eval.every_epochs', '0'],
      ['lr', '0.001'],
      ['rep_layers', '6, 7'],
    ]);
  });
});

describe('sizes', () => {
  it('have a unit that keeps them short', () => {
    expect([1250, 656_344, 12_400_000, 3.2e9].map(bytes)).toEqual(['1250 B', '656 kB', '12.4 MB', '3.2 GB']);
  });
});
