import { expect, test } from 'vitest';
import { Parser } from './sse';

test('events come whole, however the stream is cut', () => {
  const stream = ': quiet\n\nid: 7\nevent: workspace.status\ndata: {"a":1}\n\ndata: one\r\ndata: two\r\n\r\nevent: resync\ndata: {}\n\n';
  const expected = [
    { event: 'workspace.status', data: '{"a":1}', id: '7' },
    { event: 'message', data: 'one\ntwo', id: undefined },
    { event: 'resync', data: '{}', id: undefined },
  ];
  expect(new Parser().push(stream)).toEqual(expected);
  const parser = new Parser();
  expect([...stream].flatMap((character) => parser.push(character))).toEqual(expected);
});

test('an event that has not ended is not told', () => {
  expect(new Parser().push('event: a\ndata: half')).toEqual([]);
});
