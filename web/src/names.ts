// What methods and protocols are called in papers.

const METHODS: Record<string, string> = {
  alignednorm: 'AlignedNorm',
  mmrl: 'MMRL',
  mmrlpp: 'MMRL++',
  coop: 'CoOp',
  zero_shot: 'zero-shot CLIP',
};

const PROTOCOLS: Record<string, string> = {
  base_to_new: 'base to new',
  cross_dataset: 'cross-dataset',
  few_shot: 'few-shot',
};

/// A method that a newer coordinator knows keeps its key.
export function methodName(key: string): string {
  return METHODS[key] ?? key;
}

export function protocolName(key: string): string {
  return PROTOCOLS[key] ?? key.replaceAll('_', ' ');
}
