// What the coordinator knows by name: methods, protocols, data sets, backbones, hyper-parameters.

import { type Failure } from './api/client';
import { type Catalogue, catalogue as ask } from './api/questions';

class Names {
  value = $state.raw<Catalogue | null>(null);
  error = $state.raw<Failure | null>(null);
  private asked: Promise<void> | null = null;

  /// Asks once; after a failure, whoever comes next asks again.
  load(): Promise<void> {
    this.asked ??= ask().then(
      (value) => {
        this.value = value;
        this.error = null;
      },
      (error: Failure) => {
        this.error = error;
        this.asked = null;
      },
    );
    return this.asked;
  }

  /// A method's name in tables.
  method(key: string): string {
    return this.value?.methods.find((method) => method.key === key)?.label ?? key;
  }
}

export const catalogue = new Names();
