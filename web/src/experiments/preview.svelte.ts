// What an experiment would be: asked while it is being put together, when the typing has paused.

import { Failure } from '../api/client';
import { type Preview as Answer, preview } from '../api/questions';
import type { Document } from './draft';

const PAUSE = 400;

export class Preview {
  value = $state.raw<Answer | null>(null);
  error = $state.raw<Failure | null>(null);
  /// What is shown is of something else than what stands in the form.
  stale = $state(true);

  /// Belongs to the component in whose set-up it is made. `document` gives JSON: what is written alike is not asked again.
  constructor(document: () => string) {
    $effect(() => {
      const body = document();
      let dropped = false;
      this.stale = true;
      const timer = setTimeout(async () => {
        const answer = await preview(JSON.parse(body) as Document).catch((error: unknown) => (
          error instanceof Failure ? error : new Failure(String(error), null)
        ));
        if (dropped) return;
        this.error = answer instanceof Failure ? answer : null;
        this.value = answer instanceof Failure ? null : answer;
        this.stale = false;
      }, PAUSE);
      return () => {
        dropped = true;
        clearTimeout(timer);
      };
    });
  }
}
