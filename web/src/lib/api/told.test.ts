import { expect, test } from 'vitest';
import { ApiError } from './request';
import { inWords, told } from './told';

test('fields are named as the page names them', () => {
  expect(inWords('`memory_mb` must be from 32 to 64 MiB.')).toBe('Memory must be from 32 to 64 MiB.');
  expect(inWords('`git_url` must begin with `https://`.')).toBe('The repository must begin with https://.');
  expect(inWords('By `egress.github` or by the secret GITHUB_TOKEN.')).toBe('By “GitHub” or by the secret GITHUB_TOKEN.');
  expect(inWords('It uses 40 MiB of memory now.')).toBe('It uses 40 MiB of memory now.');
});

test('a failure is told with its code', () => {
  const detail = { code: 'invalid_request', message: '`pids` must be 16 at least.', request_id: '', details: {} };
  expect(told(new ApiError(400, detail))).toBe('Processes must be 16 at least. (invalid_request)');
  expect(told(new Error('no'))).toBe('Error: no');
});
