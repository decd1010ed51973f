import { expect, test } from 'vitest';
import { elsewhere, underOtherName } from './other-name';

test('the way into a preview tries the other name once, and comes back', () => {
  const first = 'http://localhost:8080/open-preview?workspace=a&port=80&path=%2Fx%3Fy';
  const second = elsewhere(first);
  expect(second).toBe('http://127.0.0.1:8080/open-preview?workspace=a&port=80&path=%2Fx%3Fy&tried=localhost');
  const back = elsewhere(second!);
  expect(back).toBe('http://localhost:8080/open-preview?workspace=a&port=80&path=%2Fx%3Fy&tried=both');
  expect(elsewhere(back!)).toBeUndefined();
});

test('no other page is left, and no other host', () => {
  expect(elsewhere('http://localhost:8080/w/abc')).toBeUndefined();
  expect(elsewhere('http://rexec.example.com/open-preview?workspace=a')).toBeUndefined();
  expect(elsewhere('https://localhost/open-preview?workspace=a')).toBeUndefined();
  expect(underOtherName('http://127.0.0.1:8080/w/abc')?.href).toBe('http://localhost:8080/w/abc');
  expect(underOtherName('http://192.168.0.7/')).toBeUndefined();
});
