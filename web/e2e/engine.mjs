// What a test's server left at the engine, by a label that is this server's own: kept homes, snapshots, whatever
// the server was killed in the middle of.
import { request } from 'node:http';
import { eventually } from './environment.mjs';

const CALL_MS_MAX = 60_000;

/** One call of the engine's API, at DOCKER_HOST or the usual socket. */
function call(method, path) {
  const host = process.env.DOCKER_HOST || 'unix:///var/run/docker.sock';
  const where = host.startsWith('unix://') ? { socketPath: host.slice('unix://'.length) } : new URL(host.replace(/^tcp:/, 'http:'));
  const { hostname, port, socketPath } = where;
  return new Promise((resolve, reject) => {
    const asked = request({ hostname, port, socketPath, path, method, timeout: CALL_MS_MAX }, async (response) => {
      let text = '';
      for await (const chunk of response.setEncoding('utf8')) text += chunk;
      // What is gone already is as it should be.
      if (response.statusCode < 300 || response.statusCode === 404) resolve(text && JSON.parse(text));
      else reject(new Error(`${method} ${path}: ${response.statusCode} ${text}`));
    });
    asked.on('timeout', () => asked.destroy(new Error(`${method} ${path}: no answer`)));
    asked.on('error', reject);
    asked.end();
  });
}

/** Removes every container, volume and image with the label, until there is none. */
export async function sweep(label) {
  const filters = encodeURIComponent(JSON.stringify({ label: [label] }));
  await eventually(`nothing with the label ${label} is left at the engine`, async () => {
    const containers = await call('GET', `/containers/json?all=true&filters=${filters}`);
    for (const { Id } of containers) await call('DELETE', `/containers/${Id}?force=true&v=true`);
    const volumes = (await call('GET', `/volumes?filters=${filters}`)).Volumes ?? [];
    for (const { Name } of volumes) await call('DELETE', `/volumes/${Name}`);
    // The one of workspaces whose way out is decided; a gateway's end frees it.
    const networks = await call('GET', `/networks?filters=${filters}`);
    for (const { Id } of networks) await call('DELETE', `/networks/${Id}`);
    const images = await call('GET', `/images/json?filters=${filters}`);
    for (const { RepoTags, Id } of images) {
      // An image without a name has, in some versions, this one.
      const names = RepoTags?.filter((name) => name !== '<none>:<none>') ?? [];
      for (const name of names.length ? names : [Id]) await call('DELETE', `/images/${name}?force=true`);
    }
    return containers.length + volumes.length + networks.length + images.length === 0;
  }, CALL_MS_MAX);
}
