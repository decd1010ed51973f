import { describe, expect, test } from 'vitest';
import {
  ackFrame,
  binaryInputFrames,
  CLIENT_FRAME_BYTES_MAX,
  FrameFault,
  inputFrames,
  parseServerFrame,
  resizeFrame,
  visibilityFrame,
} from './frames';

const buffer = (...bytes: number[]): ArrayBuffer => new Uint8Array(bytes).buffer;
const text = (kind: number, json: string): ArrayBuffer => buffer(kind, ...new TextEncoder().encode(json));

describe('client frames', () => {
  test('are as the wire specification writes them', () => {
    expect([...resizeFrame(80, 24)]).toEqual([1, 0, 80, 0, 24]);
    expect([...resizeFrame(1000, 500)]).toEqual([1, 3, 232, 1, 244]);
    expect([...ackFrame(1)]).toEqual([2, 0, 0, 0, 0, 0, 0, 0, 1]);
    expect([...ackFrame(2 ** 40 + 5)]).toEqual([2, 0, 0, 1, 0, 0, 0, 0, 5]);
    expect(new TextDecoder().decode(visibilityFrame(true))).toBe('\x03{"type":"visibility","hidden":true}');
    expect(inputFrames('é').map((frame) => [...frame])).toEqual([[0, 0xc3, 0xa9]]);
    expect(binaryInputFrames('\xff\x00').map((frame) => [...frame])).toEqual([[0, 255, 0]]);
    expect(inputFrames('')).toEqual([]);
  });

  test('a long paste is cut between characters, never inside one', () => {
    const pasted = 'a' + '🙂'.repeat(50_000);
    const frames = inputFrames(pasted);
    expect(frames.length).toBeGreaterThan(3);
    let joined = '';
    for (const frame of frames) {
      expect(frame.length).toBeLessThanOrEqual(CLIENT_FRAME_BYTES_MAX);
      joined += new TextDecoder('utf-8', { fatal: true }).decode(frame.subarray(1));
    }
    expect(joined).toBe(pasted);
  });
});

describe('server frames', () => {
  test('are read as written', () => {
    expect(parseServerFrame(buffer(0, 0, 0, 0, 0, 0, 0, 0, 2, 120))).toEqual({
      kind: 'output',
      offset: 2,
      bytes: new Uint8Array([120]),
    });
    expect(parseServerFrame(buffer(1, 0, 0, 0, 1, 0, 0, 0, 0))).toMatchObject({ kind: 'snapshot', offset: 2 ** 32 });
    expect(parseServerFrame(buffer(2, 255, 255, 255, 255))).toEqual({ kind: 'exit', code: -1 });
    expect(parseServerFrame(buffer(4, 0, 0, 0, 0, 0, 0, 1, 0))).toEqual({ kind: 'accepted', total: 256 });
    expect(parseServerFrame(text(3, '{"type":"title","title":"vim"}'))).toEqual({
      kind: 'control',
      control: { type: 'title', title: 'vim' },
    });
  });

  test('anything else is a fault', () => {
    for (const bad of [buffer(), buffer(9), buffer(0, 1), buffer(2, 0), buffer(4, 0), text(3, '{')]) {
      expect(() => parseServerFrame(bad)).toThrow(FrameFault);
    }
  });
});
