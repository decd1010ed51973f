// What a refusal of a server means for whoever reads it: the field that it concerns, and what to do.

import { ApiError } from '../api/request';
import { inWords } from '../api/told';
import { FIELDS, type Fault, type Field, type Material, type Way } from './draft';

/** The field that says where the server is. */
const PLACE: Record<Way, Field> = { tls: 'hostname', ssh: 'hostname', socket: 'socket' };
const PORT: Record<Way, Field> = { tls: 'docker_port', ssh: 'ssh.port', socket: 'socket' };

type Part = 'place' | 'port' | 'ca' | 'cert' | 'key' | Field;

/** By the word of `details.fault`. Words that are not here concern no one field, and say all that there is to say. */
const FAULTS: Record<string, { part: Part; advice?: string }> = {
  name_not_resolved: { part: 'hostname', advice: 'Check its spelling, or give the IP address.' },
  refused: { part: 'port', advice: 'Is the engine, or for SSH sshd, started there, and is the port right?' },
  timed_out: { part: 'place', advice: 'Let Rexec’s address through the firewalls between the two.' },
  not_reached: { part: 'place', advice: 'Check the address and port, and that the two machines are on networks that meet.' },
  no_answer: { part: 'port', advice: 'Something else may listen there: check the port.' },
  tls_needed: { part: 'ca', advice: 'Give CA, certificate and key, or reach it by SSH.' },
  not_tls: { part: 'docker_port', advice: 'Docker speaks TLS at 2376 as a rule, once it is started with --tlsverify.' },
  certificate_not_trusted: { part: 'ca', advice: 'Give the CA that signed the certificate of the server.' },
  certificate_expired: { part: 'hostname', advice: 'Renew it on the server and restart the engine there.' },
  certificate_not_yet_valid: { part: 'hostname', advice: 'Set the clocks right on both machines.' },
  certificate_wrong_name: { part: 'hostname', advice: 'Reach it by a name of the certificate, or make one with this name among its subjectAltName.' },
  certificate_not_accepted: { part: 'hostname', advice: 'Make another that is meant for servers (extendedKeyUsage = serverAuth).' },
  client_certificate_refused: { part: 'cert', advice: 'It must be signed by the CA that the engine’s --tlscacert names, and be meant for clients (clientAuth).' },
  client_certificate_expired: { part: 'cert', advice: 'Make another, signed by the same CA.' },
  tls_material: { part: 'ca' },
  tls_files: { part: 'ca', advice: 'The path is on the machine of Rexec, and the user that Rexec runs as must be able to read it.' },
  no_socket: { part: 'place', advice: 'Start the engine, or look for its socket elsewhere: a rootless one has it in /run/user/UID/docker.sock.' },
  socket_denied: { part: 'place', advice: 'Add the user that Rexec runs as to the socket’s group.' },
  not_ssh: { part: 'port', advice: 'Check the port; SSH is at 22 as a rule.' },
  ssh_too_weak: { part: 'hostname', advice: 'Update OpenSSH there.' },
  ssh_host_key_changed: { part: 'ssh.host_key', advice: 'Compare with what ssh-keyscan shows before you take the new one.' },
  ssh_key_refused: { part: 'ssh.private_key', advice: 'Put its public half into that user’s ~/.ssh/authorized_keys.' },
  ssh_no_socket: { part: 'ssh.socket', advice: 'Check the path, and that the user may open it, as a member of the group docker may.' },
  ssh_broken: { part: 'hostname', advice: 'Try again; what sshd logs there says more.' },
  ssh_key: { part: 'ssh.private_key' },
  ssh_host_key: { part: 'ssh.host_key' },
  address: { part: 'place' },
  api_too_old: { part: 'place', advice: 'Update the engine there.' },
  disk_full: { part: 'place' },
  refused_by_engine: { part: 'place' },
  not_ready: { part: 'place' },
  architecture: { part: 'architecture', advice: 'Leave it empty to take any.' },
  runtime_missing: { part: 'runtimes', advice: 'Install it there, or leave it out.' },
};

const details = (error: ApiError): Record<string, unknown> => (error.detail.details ?? {}) as Record<string, unknown>;

/** Of the three of mutual TLS that which the message is about; the CA unless it names another. */
function ofTls(message: string, part: 'ca' | 'cert' | 'key', material: Material, values: Partial<Record<Field, string>>): Field {
  const suffix = material === 'paths' ? '_path' : '';
  const fields = (['ca', 'cert', 'key'] as const).map((each) => `tls_${each}${suffix}` as Field);
  const byPath = fields.find((field) => material === 'paths' && values[field]?.trim() && message.startsWith(`${values[field].trim()} `));
  if (byPath) return byPath;
  const told = /the CA’?'?s file/.test(message) ? 'ca' : /private key|key's file/.test(message) ? 'key' : /the certificate/.test(message) ? 'cert' : part;
  return `tls_${part === 'ca' && message.includes('TLS material') ? told : part}${suffix}`;
}

/** What is told beside which field of the form. */
export function blame(error: unknown, way: Way, material: Material, values: Partial<Record<Field, string>> = {}): Fault {
  if (!(error instanceof ApiError)) return { field: '', message: String(error) };
  const known = FAULTS[String(details(error).fault)];
  const message = [inWords(error.message), known?.advice].filter(Boolean).join(' ');
  if (known) {
    const { part } = known;
    if (part === 'place') return { field: PLACE[way], message };
    if (part === 'port') return { field: PORT[way], message };
    if (part === 'ca' || part === 'cert' || part === 'key') return { field: ofTls(error.message, part, material, values), message };
    return { field: part, message };
  }
  const field = error.field === 'ssh' ? 'ssh.user' : FIELDS.find((each) => each === error.field);
  if (field) return { field, message };
  // That engine is another server already.
  if (error.code === 'server_exists') return { field: PLACE[way], message };
  return { field: '', message: `${message} (${error.code})` };
}

/** A refusal about a server that is there already, in one go. */
export function reason(error: unknown): string {
  if (!(error instanceof ApiError)) return String(error);
  const advice = FAULTS[String(details(error).fault)]?.advice;
  return [inWords(error.message), advice].filter(Boolean).join(' ');
}

/** Why there is no server for a workspace: for administrators of each by its name. */
export function nowhere(error: unknown): string | undefined {
  if (!(error instanceof ApiError) || !['no_host', 'host_full'].includes(error.code)) return undefined;
  const hosts = details(error).hosts as { host?: string; message?: string }[] | undefined;
  const each = (hosts ?? []).filter(({ host, message }) => host && message).map(({ host, message }) => `${host}: ${message}`);
  const message = inWords(error.message.replace('; `details.hosts` says of each why', ''));
  return each.length > 1 ? `${message} ${each.join('; ')}.` : message;
}
