// What the coordinator knows by name: methods, protocols, data sets, backbones, hyper-parameters.

import { type Failure } from './api/client';
import { type Catalogue, catalogue as ask } from './api/questions';
import { learn } from './names.svelte';

class Names {
  value = $state.raw<Catalogue | null>(null);
  error = $state.raw<Failure | null>(null);
  private asked: Promise<void> | null = null;

  /// Asks once; after a failure, whoever comes next asks again.
  load(): Promise<void> {
    this.asked ??= ask().then(
      (value) => {
        this.value = value;
        learn(value.methods);
        this.error = null;
      },
      (error: Failure) => {
        this.error = error;
        this.asked = null;
      },
    );
    return this.asked;
  }
}

export const catalogue = new Names();
