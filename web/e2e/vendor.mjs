// A vendor of language models that the tests have: a server that speaks the API of OpenAI, and says what was asked of it.
import { once } from 'node:events';
import { createServer } from 'node:http';

/** What every answer costs. */
export const USAGE = { prompt_tokens: 1_200, completion_tokens: 34, total_tokens: 1_234, prompt_tokens_details: { cached_tokens: 1_000 } };
const MODELS = ['gpt-5-mini', 'o3'];

export class Vendor {
  /** Requests in their order: `path`, `authorization`, `body`. */
  asked = [];
  #listener = createServer((request, answer) => void this.#answer(request, answer));

  static async start() {
    const vendor = new Vendor();
    vendor.#listener.listen(0, '127.0.0.1');
    await once(vendor.#listener, 'listening');
    return vendor;
  }

  /** Where its API begins, as `LLM_BASE_URL` names it. */
  get base() {
    return `http://127.0.0.1:${this.#listener.address().port}/v1`;
  }

  async #answer(request, answer) {
    const parts = [];
    for await (const part of request) parts.push(part);
    const body = parts.length > 0 ? JSON.parse(Buffer.concat(parts)) : undefined;
    this.asked.push({ path: request.url, authorization: request.headers.authorization, body });
    const [status, said] = this.#said(`${request.method} ${request.url}`, body);
    answer.writeHead(status, { 'content-type': 'application/json' }).end(JSON.stringify(said));
  }

  #said(what, body) {
    if (what === 'GET /v1/models') return [200, { object: 'list', data: MODELS.map((id) => ({ id, object: 'model', created: 0, owned_by: 'vendor' })) }];
    if (what !== 'POST /v1/chat/completions') return [404, { error: { message: `there is no ${what}`, type: 'invalid_request_error' } }];
    const message = { role: 'assistant', content: 'Hello from outside.' };
    return [200, { id: 'chatcmpl-1', object: 'chat.completion', created: 0, model: body.model, choices: [{ index: 0, message, finish_reason: 'stop' }], usage: USAGE }];
  }

  async close() {
    this.#listener.close();
    this.#listener.closeAllConnections();
    await once(this.#listener, 'close');
  }
}
