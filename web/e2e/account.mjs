// The test's account at a server, by its API; whoever knows the server's `url` extends it.
import { eventually } from './environment.mjs';

export const EMAIL = 'ada@example.org';
export const PASSWORD = 'correct horse battery';

export class Account {
  #token;

  /** A request without credentials; answers status and parsed body. */
  async ask(method, path, body, headers = {}) {
    const response = await fetch(this.url + path, {
      method,
      headers: { ...(body === undefined ? {} : { 'content-type': 'application/json' }), ...headers },
      body: body === undefined ? undefined : JSON.stringify(body),
    });
    const text = await response.text();
    const json = response.headers.get('content-type')?.includes('json') && text !== '';
    return { status: response.status, body: json ? JSON.parse(text) : text };
  }

  async register() {
    const { status, body } = await this.ask('POST', '/api/auth/register', { email: EMAIL, password: PASSWORD });
    if (status !== 201) throw new Error(`register: ${status} ${JSON.stringify(body)}`);
    this.#token = body.token;
  }

  /** A request of the test's account, signed in when first needed; anything but success throws. */
  async api(method, path, body) {
    if (!this.#token) {
      const login = await this.ask('POST', '/api/auth/login', { email: EMAIL, password: PASSWORD });
      if (login.status !== 200) throw new Error(`login: ${login.status} ${JSON.stringify(login.body)}`);
      this.#token = login.body.token;
    }
    const answer = await this.ask(method, path, body, { authorization: `Bearer ${this.#token}` });
    if (answer.status >= 300) throw new Error(`${method} ${path}: ${answer.status} ${JSON.stringify(answer.body)}`);
    return answer.body;
  }

  /** A workspace that runs. */
  async workspace(name) {
    const made = await this.api('POST', '/api/workspaces', { name });
    return eventually(`${name} runs`, async () => {
      const view = await this.api('GET', `/api/workspaces/${made.id}`);
      if (view.status === 'error') throw new Error(view.status_reason);
      return view.status === 'running' && view;
    }, 60_000);
  }

  async file(workspace, path) {
    return this.api('GET', `/api/workspaces/${workspace}/files?path=${encodeURIComponent(path)}`);
  }

  async writeFile(workspace, path, text) {
    await this.api('GET', '/api/me');
    const response = await fetch(`${this.url}/api/workspaces/${workspace}/files?path=${encodeURIComponent(path)}`, {
      method: 'PUT',
      headers: { authorization: `Bearer ${this.#token}`, 'content-type': 'application/octet-stream' },
      body: text,
    });
    if (!response.ok) throw new Error(`PUT ${path}: ${response.status} ${await response.text()}`);
  }

  /** Deletes every workspace with all that it holds. */
  async deleteWorkspaces() {
    // Without an account there is no workspace.
    const { body } = await this.ask('GET', '/api/auth/status');
    if (body.first_account) return;
    this.#token = undefined;
    await eventually('every workspace is deleted', async () => {
      const { items } = await this.api('GET', '/api/workspaces');
      const left = items.filter((workspace) => workspace.status !== 'deleted');
      for (const { id } of left) await this.ask('DELETE', `/api/workspaces/${id}?purge=true`, undefined, { authorization: `Bearer ${this.#token}` });
      return left.length === 0;
    }, 60_000);
  }
}
