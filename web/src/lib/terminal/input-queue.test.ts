import { expect, test } from 'vitest';
import { inputFrames } from './frames';
import { INPUT_BYTES_MAX, InputQueue } from './input-queue';

const read = (frames: Uint8Array[]): string => frames.map((f) => new TextDecoder().decode(f.subarray(1))).join('|');

test('what the guest took is never sent again', () => {
  const queue = new InputQueue();
  queue.push(inputFrames('hello'));
  queue.push(inputFrames(' world'));
  expect(read(queue.takeUnsent())).toBe('hello| world');
  expect(queue.takeUnsent()).toEqual([]);
  queue.accept(5);
  expect(queue.bytes).toBe(6);
  queue.resume(8);
  expect(read(queue.takeUnsent())).toBe('rld');
  queue.accept(11);
  expect([queue.bytes, queue.unanswered]).toEqual([0, false]);
});

test('what was typed while offline follows what was lost', () => {
  const queue = new InputQueue();
  queue.push(inputFrames('ab'));
  queue.takeUnsent();
  queue.push(inputFrames('cd'));
  queue.resume(1);
  expect(read(queue.takeUnsent())).toBe('b|cd');
});

test('a guest that forgot the client is sent nothing twice', () => {
  const queue = new InputQueue();
  queue.push(inputFrames('abc'));
  queue.takeUnsent();
  queue.accept(1);
  queue.push(inputFrames('xyz'));
  queue.resume(0);
  expect(read(queue.takeUnsent())).toBe('xyz');
  queue.accept(3);
  expect(queue.bytes).toBe(0);
});

test('the bound refuses whole pieces and recovers', () => {
  const queue = new InputQueue();
  expect(queue.push(inputFrames('a'.repeat(INPUT_BYTES_MAX)))).toBe(true);
  expect(queue.push(inputFrames('b'))).toBe(false);
  queue.takeUnsent();
  queue.accept(1);
  expect(queue.push(inputFrames('b'))).toBe(true);
});
