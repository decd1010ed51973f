import { expect, test } from 'vitest';
import { ApiError } from '../api/request';
import { blame, nowhere, reason } from './faults';

const refusal = (message: string, details: Record<string, unknown>, code = 'server_unfit'): ApiError => new ApiError(422, { code, message, request_id: '', details: details as never });
const unfit = (fault: string, message = 'It is not reached.'): ApiError => refusal(message, { fault });

test('a fault is told beside the field that it concerns, with what to do', () => {
  const field = (fault: string, way: 'tls' | 'ssh' | 'socket'): string => blame(unfit(fault), way, 'paths').field;
  expect(field('name_not_resolved', 'tls')).toBe('hostname');
  expect([field('refused', 'tls'), field('refused', 'ssh'), field('refused', 'socket')]).toEqual(['docker_port', 'ssh.port', 'socket']);
  expect([field('no_socket', 'socket'), field('ssh_no_socket', 'ssh')]).toEqual(['socket', 'ssh.socket']);
  expect([field('ssh_key_refused', 'ssh'), field('ssh_host_key_changed', 'ssh')]).toEqual(['ssh.private_key', 'ssh.host_key']);
  expect([field('runtime_missing', 'tls'), field('architecture', 'tls')]).toEqual(['runtimes', 'architecture']);
  expect(blame(unfit('name_not_resolved', 'It is not reached: the name nowhere is not resolved.'), 'tls', 'paths').message).toBe(
    'It is not reached: the name nowhere is not resolved. Check its spelling, or give the IP address.',
  );
});

test('of the three of mutual TLS the right one is named', () => {
  const values = { tls_ca_path: '/c/ca.pem', tls_cert_path: '/c/cert.pem', tls_key_path: '/c/key.pem' };
  const file = unfit('tls_files', '/c/key.pem cannot be read on the machine of Rexec: No such file.');
  expect(blame(file, 'tls', 'paths', values).field).toBe('tls_key_path');
  const of = (fault: string, message = ''): string => blame(unfit(fault, message), 'tls', 'pem').field;
  expect(of('certificate_not_trusted')).toBe('tls_ca');
  expect(of('client_certificate_refused')).toBe('tls_cert');
  const material = 'The TLS material cannot be used: ';
  expect(of('tls_material', `${material}the CA's file has no certificate in it (PEM).`)).toBe('tls_ca');
  expect(of('tls_material', `${material}the certificate has expired.`)).toBe('tls_cert');
  expect(of('tls_material', `${material}the private key is not the certificate's.`)).toBe('tls_key');
  expect(of('tls_material', `${material}the key's file has no private key in it (PEM).`)).toBe('tls_key');
});

test('what concerns no field says its code, and a field that the server names is that field', () => {
  expect(blame(refusal('`region` may have letters.', { field: 'region' }, 'invalid_request'), 'tls', 'paths')).toEqual({ field: 'region', message: 'The region may have letters.' });
  expect(blame(refusal('`ssh://@h` is no address.', { field: 'ssh' }, 'invalid_request'), 'ssh', 'paths').field).toBe('ssh.user');
  expect(blame(refusal('That engine is the server `local` already.', { host: 'local' }, 'server_exists'), 'socket', 'paths')).toEqual({ field: 'socket', message: 'That engine is the server local already.' });
  expect(blame(refusal('There is a server `a` already.', { field: 'name', host: 'a' }, 'server_exists'), 'ssh', 'paths').field).toBe('name');
  expect(blame(unfit('of_a_newer_server', 'Something new.'), 'tls', 'paths')).toEqual({ field: '', message: 'Something new. (server_unfit)' });
});

test('a server that is there already is told of with the same advice', () => {
  expect(reason(unfit('timed_out', 'It did not answer within 60 s.'))).toBe('It did not answer within 60 s. Let Rexec’s address through the firewalls between the two.');
});

test('administrators are told of each server why it cannot', () => {
  const message = 'There is no room for it now. None of the 2 servers can; `details.hosts` says of each why.';
  const hosts = [{ host: 'a', reason: 'full', message: 'its memory is taken' }, { host: 'b', reason: 'draining', message: 'it is being drained' }];
  expect(nowhere(refusal(message, { hosts }, 'host_full'))).toBe('There is no room for it now. None of the 2 servers can. a: its memory is taken; b: it is being drained.');
  expect(nowhere(refusal(message, { hosts: hosts.map(({ reason: why }) => ({ reason: why })) }, 'host_full'))).toBe('There is no room for it now. None of the 2 servers can.');
  expect(nowhere(refusal('No.', {}, 'engine_error'))).toBeUndefined();
});
