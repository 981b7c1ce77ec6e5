// What can be done to an experiment from the list, and what is said before and after.

import { count } from '../format';
import { type Counts, open } from '../states';

export type Action = 'cancel' | 'retry';

type Confirmation = {
  title: string;
  says: (counts: Counts) => string;
  button: { words: string; kind: 'danger' | 'main' };
  leave: string;
  done: (changed: number) => string;
};

function jobs(number: number): string {
  return number === 1 ? '1 job' : `${count(number)} jobs`;
}

export const CONFIRM: Record<Action, Confirmation> = {
  cancel: {
    title: 'Cancel',
    says: (counts) => {
      const running = counts.running + counts.leased;
      const stopped = running === 0 ? '' : `, ${count(running)} of them in the middle of their work`;
      return `${jobs(open(counts))} will not be done${stopped}. What is complete stays, and what another experiment wants too.`;
    },
    button: { words: 'Cancel the experiment', kind: 'danger' },
    leave: 'Let it run',
    done: (changed) => `${jobs(changed)} cancelled`,
  },
  retry: {
    title: 'Retry',
    says: ({ failed, cancelled }) => {
      const parts = [failed > 0 ? `${jobs(failed)} that failed` : '', cancelled > 0 ? `${jobs(cancelled)} cancelled` : ''];
      return `Will be queued again: ${parts.filter((part) => part !== '').join(' and ')}.`;
    },
    button: { words: 'Retry', kind: 'main' },
    leave: 'Leave them',
    done: (changed) => `${jobs(changed)} queued again`,
  },
};
