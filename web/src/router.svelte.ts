// Where the page is: a path and a query, both in the address, so that every view can be shared and gone back to.

class Place {
  path = $state(location.pathname);
  query = $state.raw(new URLSearchParams(location.search));

  constructor() {
    addEventListener('popstate', () => this.read());
    // Links are plain links; those within the page don't load it anew.
    addEventListener('click', (event) => {
      if (event.defaultPrevented || event.button !== 0 || event.metaKey || event.ctrlKey || event.shiftKey || event.altKey) return;
      const link = event.target instanceof Element ? event.target.closest('a') : null;
      if (link === null || link.origin !== location.origin || link.target !== '' || link.hasAttribute('download')) return;
      if (link.pathname.startsWith('/api/') || link.pathname.startsWith('/problems/')) return;
      // A place within the page is the browser's to find.
      if (link.hash !== '' && link.pathname === location.pathname && link.search === location.search) return;
      event.preventDefault();
      this.go(link.pathname + link.search);
    });
  }

  go(address: string) {
    history.pushState(null, '', address);
    this.read();
    scrollTo(0, 0);
  }

  /// Changes the query in place; `null` takes a value out.
  set(changes: Record<string, string | null>) {
    const query = new URLSearchParams(this.query);
    for (const [name, value] of Object.entries(changes)) {
      if (value === null || value === '') query.delete(name);
      else query.set(name, value);
    }
    const text = query.toString();
    history.replaceState(null, '', text === '' ? this.path : `${this.path}?${text}`);
    this.query = query;
  }

  /// A value of the query that lists names.
  list(name: string): string[] {
    return (this.query.get(name) ?? '').split(',').filter((part) => part !== '');
  }

  private read() {
    this.path = location.pathname;
    this.query = new URLSearchParams(location.search);
  }
}

export const place = new Place();

/// The variable part of `path`, if it has the form of `pattern`, in which `:id` stands for a whole number.
export function match(pattern: string, path: string): { id: number } | null {
  const expression = new RegExp(`^${pattern.replace(':id', '(?<id>\\d{1,15})')}/?$`);
  const found = expression.exec(path);
  return found === null ? null : { id: Number(found.groups?.id ?? 0) };
}
