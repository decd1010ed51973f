import { expect, test } from 'vitest';
import { idOfTime } from './event-id';

test('an id of a time begins with it, as a UUIDv7 does', () => {
  expect(idOfTime(0x0192_3456_789a)).toBe('01923456-789a-7000-8000-000000000000');
  expect(idOfTime(-1)).toBe('00000000-0000-7000-8000-000000000000');
});
