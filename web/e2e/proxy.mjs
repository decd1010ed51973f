// A network between browser and server that can fail. `cut` ends every connection and refuses new ones;
// `swallow` keeps them open and loses what either side sends from then on, as a dead radio link does.
import { once } from 'node:events';
import { connect, createServer } from 'node:net';

export class Proxy {
  #target;
  #sockets = new Set();
  #state = 'open';
  #listener = createServer((client) => this.#accept(client));

  /** Forwards to the port on loopback. */
  static async start(port) {
    const proxy = new Proxy();
    proxy.#target = port;
    proxy.#listener.listen(0, '127.0.0.1');
    await once(proxy.#listener, 'listening');
    return proxy;
  }

  get url() {
    return `http://127.0.0.1:${this.#listener.address().port}`;
  }

  cut() {
    this.#state = 'cut';
    for (const socket of this.#sockets) socket.destroy();
  }

  swallow() {
    this.#state = 'swallowing';
  }

  restore() {
    // What was swallowed makes a connection useless: it ends, and the next one begins clean.
    for (const socket of this.#sockets) socket.destroy();
    this.#state = 'open';
  }

  async close() {
    this.cut();
    this.#listener.close();
    await once(this.#listener, 'close');
  }

  #accept(client) {
    if (this.#state === 'cut') return client.destroy();
    const server = connect(this.#target, '127.0.0.1');
    this.#forward(client, server);
    this.#forward(server, client);
  }

  #forward(from, to) {
    from.setNoDelay(true);
    this.#sockets.add(from);
    from.on('data', (bytes) => {
      if (this.#state !== 'open') return;
      if (to.write(bytes)) return;
      from.pause();
      to.once('drain', () => from.resume());
    });
    from.on('error', () => undefined);
    from.on('close', () => {
      this.#sockets.delete(from);
      to.destroy();
    });
  }
}
