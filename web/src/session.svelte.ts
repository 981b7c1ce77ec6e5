// Who is looking. A token is kept for this tab, or on request for this browser, and is sent with every question.

const KEY = 'promptfield.token';

class Session {
  token = $state(sessionStorage.getItem(KEY) ?? localStorage.getItem(KEY));
  /// The coordinator wants a token, and has none that it takes.
  refused = $state(false);

  signIn(token: string, keep: boolean) {
    this.signOut();
    (keep ? localStorage : sessionStorage).setItem(KEY, token);
    this.token = token;
    this.refused = false;
  }

  signOut() {
    sessionStorage.removeItem(KEY);
    localStorage.removeItem(KEY);
    this.token = null;
  }

  headers(): Record<string, string> {
    return this.token === null ? {} : { authorization: `Bearer ${this.token}` };
  }
}

export const session = new Session();
