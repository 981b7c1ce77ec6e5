import { describe, expect, it } from 'vitest';

import type { Schemas } from '../api/client';
import { type Draft, blank, documentOf, draftOf } from './draft';
import { toml } from '../toml';

const draft = (some: Partial<Draft>): Draft => ({ ...blank(), name: 'x', methods: ['mmrl'], datasets: ['dtd'], backbone: 'ViT-B/16', ...some });

describe('what is submitted', () => {
  it('leaves out what is usual', () => {
    expect(documentOf(draft({}))).toEqual({
      name: 'x', protocol: 'base_to_new', methods: ['mmrl'], datasets: ['dtd'], seeds: [1, 2, 3], shots: [16], backbone: 'ViT-B/16', precision: 'fp32',
    });
  });
  it('has everything that was filled in', () => {
    const full = draft({
      protocol: 'cross_dataset', datasets: 'all', seeds: '1 5,7', priority: '-2', maxRunning: '4', labels: 'a100, fast',
      overrides: [{ dataset: '', name: 'lr', value: '1e-3' }, { dataset: 'dtd', name: 'eval', value: '5' }, { dataset: '', name: '', value: '1' }],
      sweep: [{ dataset: '', name: 'alpha', value: '0.5, 0.7' }, { dataset: '', name: 'rep_layers', value: '[1, 2], [3]' }],
    });
    expect(documentOf(full)).toMatchObject({
      source: 'imagenet', datasets: 'all', seeds: [1, 5, 7], priority: -2, max_running: 4, labels: ['a100', 'fast'],
      overrides: { lr: 0.001, dtd: { eval: { every_epochs: 5 } } },
      sweep: { alpha: [0.5, 0.7], rep_layers: [[1, 2], [3]] },
    });
  });
  it('leaves it to the coordinator to refuse', () => {
    const { seeds, max_running, sweep } = documentOf(draft({
      seeds: '1, x, 99999999999999999999', maxRunning: 'many', sweep: [{ dataset: '', name: 'lr', value: '0.1, y' }],
    }));
    expect([seeds, max_running, sweep]).toEqual([[1, 'x', '99999999999999999999'], 'many', { lr: [0.1, 'y'] }]);
  });
});

const experiment: Schemas['Experiment'] = {
  name: 'b2n', protocol: 'cross_dataset', methods: ['alignednorm', 'zero_shot'], datasets: ['eurosat', 'dtd'], source: 'imagenet',
  seeds: [1, 2], shots: [4, 16], backbone: 'ViT-B/16', precision: 'amp_bf16', priority: 3, max_running: 8, labels: ['big'],
  overrides: { lr: 0.01, rep_layers: [6, 7], eurosat: { beta: 0.3, eval: { every_epochs: 5 } } } as unknown as Schemas['OverrideTable'],
  sweep: { alpha: [0.5, 0.7] },
};

it('a clone is what was submitted', () => {
  expect(documentOf(draftOf(experiment))).toEqual(experiment);
});

it('is written as a file', () => {
  expect(toml({ ...experiment, name: 'say "hi"', max_running: null })).toBe(`name = "say \\"hi\\""
protocol = "cross_dataset"
methods = ["alignednorm", "zero_shot"]
datasets = ["eurosat", "dtd"]
source = "imagenet"
seeds = [1, 2]
shots = [4, 16]
backbone = "ViT-B/16"
precision = "amp_bf16"
priority = 3
labels = ["big"]

[overrides]
lr = 0.01
rep_layers = [6, 7]

[overrides.eurosat]
beta = 0.3

[overrides.eurosat.eval]
every_epochs = 5

[sweep]
alpha = [0.5, 0.7]
`);
});
