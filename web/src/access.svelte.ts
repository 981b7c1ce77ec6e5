// What the reader may do: buttons for anything else are not offered.

import { type Schemas, api, ask } from './api/client';
import { Resource } from './resource.svelte';
import { session } from './session.svelte';

export type Scope = Schemas['Scope'];

class Access {
  private own: Resource<Schemas['Principal']> | null = null;

  /// Belongs to the set-up of the whole page. Another token may permit something else.
  load() {
    this.own = new Resource(() => (void session.token, ask(api.GET('/api/v1/access'))));
  }

  /// Whether the coordinator would let the reader do what needs `scope`; not before it has said so. Who sees the page may look.
  may(scope: Exclude<Scope, 'read'>): boolean {
    const scopes = this.own?.value?.scopes ?? [];
    return scopes.includes('admin') || scopes.includes(scope);
  }
}

export const access = new Access();
