import { describe, expect, it } from 'vitest';

import { toml } from './toml';

describe('toml', () => {
  it('writes values first and tables after them', () => {
    const experiment = {
      name: 'a "wide" one',
      methods: ['alignednorm', 'mmrl'],
      overrides: { lr: 0.001, eurosat: { epochs: 5, eval: { every_epochs: 1 } }, dtd: {} },
      seeds: [1, 2],
      max_running: null,
      sweep: { 'odd key': [0.1, 1] },
    };
    expect(toml(experiment)).toBe(
      [
        'name = "a \\"wide\\" one"',
        'methods = ["alignednorm", "mmrl"]',
        'seeds = [1, 2]',
        '',
        '[overrides]',
        'lr = 0.001',
        '',
        '[overrides.eurosat]',
        'epochs = 5',
        '',
        '[overrides.eurosat.eval]',
        'every_epochs = 1',
        '',
        '[sweep]',
        '"odd key" = [0.1, 1]',
        '',
      ].join('\n'),
    );
  });

  it('keeps what people type within its quotes', () => {
    expect(toml({ name: 'a\nb\\c\u007f' })).toBe('name = "a\\nb\\\\c\\u007f"\n');
  });

  it('leaves out what is empty', () => {
    expect(toml({ name: 'x', overrides: {}, sweep: { deep: {} } })).toBe('name = "x"\n');
  });
});
