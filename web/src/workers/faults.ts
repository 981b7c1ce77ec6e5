// What machines were found unable to use, in words.

import type { Schemas } from '../api/client';
import { duration } from '../format';

export type Fault = Schemas['MachineFault'];

const NAMES: Record<Fault['of'], string> = {
  output_root: 'the output root',
  dataset: 'the data set',
  backbone: 'the backbone',
  method: 'the method',
  job: 'what is needed for job',
};

export function subject(fault: Pick<Fault, 'of' | 'name'>): string {
  return `${NAMES[fault.of]} ${fault.name}`;
}

/// When somebody tries it again.
export function nextTrial(fault: Pick<Fault, 'trial' | 'next_trial'>, now: number): string {
  if (fault.trial != null) return `lease ${fault.trial} tries it`;
  const left = Date.parse(fault.next_trial) - now;
  return left > 0 ? `tried again in ${duration(left)}` : 'the next job tries it';
}
