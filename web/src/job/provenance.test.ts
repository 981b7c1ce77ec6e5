import { describe, expect, it } from 'vitest';

import { aboutBackbone, computedBy, leftOut } from './provenance';

const architecture = { activation: 'gelu', vision_head_width: 80, text_head_width: 64, mean: [0.5, 0.25, 0.125], std: [1, 2, 3] } as const;

describe('a backbone', () => {
  it('says what is known of it, and what was assumed', () => {
    const manifest = { architecture: { ...architecture, mean: [...architecture.mean], std: [...architecture.std] }, assumed: ['text_head_width', 'mean'] };
    expect(aboutBackbone(manifest)).toEqual([
      ['activation', 'GELU'],
      ['width of an image head', '80'],
      ['width of a text head', '64 (assumed)'],
      ['mean of the pixels', '0.5, 0.25, 0.125 (assumed)'],
      ['deviation of the pixels', '1, 2, 3'],
    ]);
  });
  it('has no facts where none were recorded', () => {
    expect(aboutBackbone({})).toEqual([]);
  });
});

it('classes that are left out are named with their images', () => {
  expect(leftOut({})).toBeNull();
  expect(leftOut({ left_out: [{ class: 'star', images: 1 }, { class: 'moon', images: 1200 }] })).toBe('star (1 image), moon (1\u202f200 images)');
});

it('an earlier result says what computed it', () => {
  expect(computedBy({ code_version: '0.1.0', device: 'cpu' })).toBe('Promptfield 0.1.0 on cpu');
  expect(computedBy(null)).toBe('another tool: it was adopted');
});
