// What a result rests on, in words.

import type { Schemas } from '../api/client';
import { count } from '../format';
import type { Fact } from './facts';

type Manifest = Pick<Schemas['Manifest'], 'architecture' | 'assumed' | 'left_out'>;

const ACTIVATIONS: Record<Schemas['Activation'], string> = { quick_gelu: 'QuickGELU', gelu: 'GELU' };

/// What the shapes of the weights don't tell, each with whether something said it; nothing where the manifest has none of it.
export function aboutBackbone({ architecture, assumed = [] }: Manifest): Fact[] {
  if (architecture === undefined) return [];
  const { activation, vision_head_width, text_head_width, mean, std } = architecture;
  const facts = [
    ['activation', 'activation', ACTIVATIONS[activation]],
    ['vision_head_width', 'width of an image head', String(vision_head_width)],
    ['text_head_width', 'width of a text head', String(text_head_width)],
    ['mean', 'mean of the pixels', mean.join(', ')],
    ['std', 'deviation of the pixels', std.join(', ')],
  ] as const;
  return facts.map(([field, name, value]) => [name, assumed.includes(field) ? `${value} (assumed)` : value]);
}

/// The classes that are left out, with how many images; `null` if none is.
export function leftOut({ left_out = [] }: Manifest): string | null {
  const one = ({ class: name, images }: Schemas['LeftOut']) => `${name} (${images === 1 ? '1 image' : `${count(images)} images`})`;
  return left_out.length === 0 ? null : left_out.map(one).join(', ');
}

/// What computed an earlier result.
export function computedBy(manifest: Pick<Schemas['Manifest'], 'code_version' | 'device'> | null | undefined): string {
  return manifest ? `Promptfield ${manifest.code_version} on ${manifest.device}` : 'another tool: it was adopted';
}
