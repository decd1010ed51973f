// What stands in the form of a server, by the server's own names of its fields, and the request that it makes. Whether that is right
// the server says; here is only told what would never get there: what is missing, and numbers and labels that are none.

import type { NewServer, PatchServer, ServerView } from '../api/types';

/** How a server is reached. */
export type Way = 'tls' | 'ssh' | 'socket';
/** Where mutual TLS has its certificates and key from. */
export type Material = 'paths' | 'pem';

export const FIELDS = [
  'name', 'region', 'hostname', 'docker_port',
  'tls_ca_path', 'tls_cert_path', 'tls_key_path', 'tls_ca', 'tls_cert', 'tls_key',
  'ssh.user', 'ssh.port', 'ssh.private_key', 'ssh.host_key', 'ssh.socket',
  'socket',
  'total_cpu', 'total_memory_mb', 'total_disk_gb', 'max_workspaces', 'labels', 'runtimes', 'architecture',
] as const;
export type Field = (typeof FIELDS)[number];
export type Values = Record<Field, string>;

/** What is wrong, and with which field; with none of them when that is empty. */
export interface Fault {
  field: Field | '';
  message: string;
}

/** Either what is asked for, or why it is not asked. */
export type Outcome<T> = { request: T; fault?: never } | { request?: never; fault: Fault };

/** Fields that stand together under "Room and rules". */
export const ROOM: ReadonlySet<string> = new Set<Field>(['total_cpu', 'total_memory_mb', 'total_disk_gb', 'max_workspaces', 'labels', 'runtimes', 'architecture']);

const TLS: Record<Material, readonly [Field, Field, Field]> = {
  paths: ['tls_ca_path', 'tls_cert_path', 'tls_key_path'],
  pem: ['tls_ca', 'tls_cert', 'tls_key'],
};
const PORT_MAX = 65_535;
const TOTALS = ['total_cpu', 'total_memory_mb', 'total_disk_gb'] as const;

export function empty(): Values {
  return Object.fromEntries(FIELDS.map((field) => [field, ''])) as Values;
}

export function valuesOf(server: ServerView): Values {
  return {
    ...empty(),
    name: server.name,
    region: server.region,
    total_cpu: String(server.total_cpu),
    total_memory_mb: String(server.total_memory_mb),
    total_disk_gb: String(server.total_disk_gb),
    max_workspaces: server.max_workspaces == null ? '' : String(server.max_workspaces),
    labels: labelsText(server.labels),
    runtimes: server.runtimes?.join(', ') ?? '',
  };
}

/** Such as `disk=nvme, gpu`. */
export function labelsText(labels: Record<string, string>): string {
  return Object.entries(labels).map(([key, value]) => (value === '' ? key : `${key}=${value}`)).join(', ');
}

const words = (text: string): string[] => text.split(/[\s,]+/).filter((word) => word !== '');

class Wrong extends Error {
  constructor(readonly fault: Fault) {
    super(fault.message);
  }
}

function wrong(field: Field, message: string): never {
  throw new Wrong({ field, message });
}

function attempt<T>(make: () => T): Outcome<T> {
  try {
    return { request: make() };
  } catch (error) {
    if (error instanceof Wrong) return { fault: error.fault };
    throw error;
  }
}

function needed(values: Values, field: Field, message: string): string {
  return values[field].trim() || wrong(field, message);
}

/** Nothing where nothing stands. */
function number(values: Values, field: Field, { min = 0, max = Number.MAX_SAFE_INTEGER, fraction = false } = {}): number | undefined {
  const text = values[field].trim();
  if (text === '') return undefined;
  const value = Number(text);
  const fits = Number.isFinite(value) && value >= min && value <= max && (fraction || Number.isInteger(value));
  if (!fits) wrong(field, max === PORT_MAX ? `A port is a number from 1 to ${PORT_MAX}.` : `Give a ${fraction ? '' : 'whole '}number, ${min} or more.`);
  return value;
}

function labelsOf(values: Values): Record<string, string> {
  const labels: Record<string, string> = {};
  for (const word of words(values.labels)) {
    const [key = '', ...rest] = word.split('=');
    if (key === '') wrong('labels', `Write a label as key=value; ${word} has no key.`);
    if (key in labels) wrong('labels', `${key} stands there twice.`);
    labels[key] = rest.join('=');
  }
  return labels;
}

const named = <T extends object>(fields: T): { [K in keyof T]?: Exclude<T[K], undefined | ''> } =>
  Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== '')) as { [K in keyof T]?: Exclude<T[K], undefined | ''> };

function reached(values: Values, way: Way, material: Material): Omit<NewServer, 'name'> {
  if (way === 'socket') return { socket: needed(values, 'socket', 'Name the socket, such as /run/user/1000/docker.sock.') };
  const hostname = needed(values, 'hostname', 'Say where it is: a name or an address, such as 10.0.1.10.');
  if (way === 'ssh') {
    const user = needed(values, 'ssh.user', 'Say as whom to log in.');
    const privateKey = needed(values, 'ssh.private_key', 'Paste the private key that lets that user in.');
    const more = named({ port: number(values, 'ssh.port', { min: 1, max: PORT_MAX }), host_key: values['ssh.host_key'].trim(), socket: values['ssh.socket'].trim() });
    return { hostname, ssh: { user, private_key: `${privateKey}\n`, ...more } };
  }
  const port = named({ docker_port: number(values, 'docker_port', { min: 1, max: PORT_MAX }) });
  const fields = TLS[material];
  const missing = fields.find((field) => values[field].trim() === '');
  if (missing) wrong(missing, 'Mutual TLS takes all three: the CA, a certificate and its key.');
  return { hostname, ...port, ...Object.fromEntries(fields.map((field) => [field, values[field].trim()])) };
}

export function newServer(values: Values, way: Way, material: Material): Outcome<NewServer> {
  return attempt(() => {
    const name = needed(values, 'name', 'Give it a name, such as ws-1.');
    const [labels, runtimes] = [labelsOf(values), words(values.runtimes)];
    return {
      name,
      ...reached(values, way, material),
      ...named({
        region: values.region.trim(),
        total_cpu: number(values, 'total_cpu', { fraction: true }),
        total_memory_mb: number(values, 'total_memory_mb'),
        total_disk_gb: number(values, 'total_disk_gb'),
        max_workspaces: number(values, 'max_workspaces'),
        architecture: values.architecture.trim(),
      }),
      ...(Object.keys(labels).length > 0 ? { labels } : {}),
      ...(runtimes.length > 0 ? { runtimes } : {}),
    };
  });
}

/** How a server is reached, as far as its address tells it; what lets us in never comes back. */
export function accessOf(address: string): { way: Way; values: Partial<Values> } {
  const socket = /^unix:\/\/(.+)$/.exec(address);
  if (socket) return { way: 'socket', values: { socket: socket[1] ?? '' } };
  const [, scheme, user = '', bracketed, plain = '', port = '', path = ''] = /^(\w+):\/\/(?:([^@/]*)@)?(?:\[([^\]]+)\]|([^:/]*))(?::(\d+))?(\/.*)?$/.exec(address) ?? [];
  const hostname = bracketed ?? plain;
  if (scheme === 'ssh') return { way: 'ssh', values: { hostname, 'ssh.user': user, 'ssh.port': port, 'ssh.socket': path } };
  return { way: 'tls', values: { hostname, docker_port: port } };
}

/** What differs from what the server has; with how it is to be reached from now on, if that is said anew. */
export function changeOf(server: ServerView, values: Values, anew?: { way: Way; material: Material }): Outcome<PatchServer> {
  return attempt(() => {
    const before = valuesOf(server);
    const change: PatchServer = anew ? reached(values, anew.way, anew.material) : {};
    const differs = (field: Field): boolean => values[field].trim() !== before[field];
    if (differs('name')) change.name = needed(values, 'name', 'It must have a name.');
    if (differs('region')) change.region = needed(values, 'region', 'It must be in a region; the usual one is “default”.');
    for (const field of TOTALS) {
      const total = number(values, field, { fraction: field === 'total_cpu' });
      if (total === undefined) wrong(field, 'Give a number; 0 is without a limit.');
      if (total !== server[field]) change[field] = total;
    }
    if (differs('max_workspaces')) change.max_workspaces = number(values, 'max_workspaces') ?? null;
    const labels = labelsOf(values);
    if (labelsText(labels) !== before.labels) change.labels = labels;
    const runtimes = words(values.runtimes);
    if (runtimes.join(', ') !== before.runtimes) change.runtimes = runtimes.length > 0 ? runtimes : null;
    return change;
  });
}
