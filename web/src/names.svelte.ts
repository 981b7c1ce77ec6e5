// What methods and protocols are called in print. Methods are named by the coordinator, whose registry has them; until it has
// answered, and for a method that it doesn't know any more, the key stands for the name.

let methods = $state.raw<Record<string, string>>({});

const PROTOCOLS: Record<string, string> = {
  base_to_new: 'base-to-new',
  cross_dataset: 'cross-dataset',
  few_shot: 'few-shot',
};

export function learn(known: readonly { key: string; label: string }[]) {
  methods = Object.fromEntries(known.map(({ key, label }) => [key, label]));
}

export function methodName(key: string): string {
  return methods[key] ?? key;
}

export function protocolName(key: string): string {
  return PROTOCOLS[key] ?? key.replaceAll('_', ' ');
}
