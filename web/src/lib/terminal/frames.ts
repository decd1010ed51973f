// The frames of `rexec.terminal.v1` as the page sends and reads them. The wire is specified in
// crates/api/src/frames.rs: one frame is one binary message, the first byte is the kind, integers
// are big-endian. Invariant: whatever is not exactly a frame is refused with a `FrameFault`.
//
// Offsets are u64 on the wire and numbers here: exact up to 2^53, which is 2,800 years at 100 kB/s.

export const SUBPROTOCOL = 'rexec.terminal.v1';
/** The longest frame that a server takes from a client. */
export const CLIENT_FRAME_BYTES_MAX = 64 * 1024;

export const CLOSE_SIGN_IN = 4401;
export const CLOSE_FORBIDDEN = 4403;
export const CLOSE_ENDED = 4410;

export const KIND_INPUT = 0x00;
const KIND_RESIZE = 0x01;
const KIND_ACK = 0x02;
const KIND_CONTROL = 0x03;

export type ServerControl =
  | { type: 'attached'; end: number; cols: number; rows: number; controller: boolean }
  | { type: 'size'; offset: number; cols: number; rows: number }
  | { type: 'title'; title: string }
  | { type: 'viewers'; count: number; controller: boolean }
  | { type: 'status'; status: string; reason: string | null }
  | { type: 'error'; code: string; message: string };

export type ServerFrame =
  | { kind: 'output'; offset: number; bytes: Uint8Array }
  | { kind: 'snapshot'; offset: number; bytes: Uint8Array }
  | { kind: 'exit'; code: number }
  | { kind: 'control'; control: ServerControl }
  | { kind: 'accepted'; total: number };

export class FrameFault extends Error {}

const U32 = 2 ** 32;

function readU64(view: DataView, at: number): number {
  return view.getUint32(at) * U32 + view.getUint32(at + 4);
}

function expectLength(buffer: ArrayBuffer, length: number): void {
  if (buffer.byteLength !== length) throw new FrameFault(`frame has ${buffer.byteLength} bytes, not ${length}`);
}

const decoder = new TextDecoder();

function readControl(buffer: ArrayBuffer): ServerControl {
  try {
    return JSON.parse(decoder.decode(new Uint8Array(buffer, 1))) as ServerControl;
  } catch {
    throw new FrameFault('control frame is not JSON');
  }
}

/** Reads one server frame. The bytes of output and snapshots are a view, not a copy. */
export function parseServerFrame(buffer: ArrayBuffer): ServerFrame {
  if (buffer.byteLength === 0) throw new FrameFault('empty frame');
  const view = new DataView(buffer);
  const kind = view.getUint8(0);
  switch (kind) {
    case 0x00:
    case 0x01: {
      if (buffer.byteLength < 9) throw new FrameFault('output frame is too short');
      const bytes = new Uint8Array(buffer, 9);
      return { kind: kind === 0x00 ? 'output' : 'snapshot', offset: readU64(view, 1), bytes };
    }
    case 0x02:
      expectLength(buffer, 5);
      return { kind: 'exit', code: view.getInt32(1) };
    case KIND_CONTROL:
      return { kind: 'control', control: readControl(buffer) };
    case 0x04:
      expectLength(buffer, 9);
      return { kind: 'accepted', total: readU64(view, 1) };
    default:
      throw new FrameFault(`unknown frame kind ${kind}`);
  }
}

export function resizeFrame(cols: number, rows: number): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(5);
  const view = new DataView(frame.buffer);
  view.setUint8(0, KIND_RESIZE);
  view.setUint16(1, cols);
  view.setUint16(3, rows);
  return frame;
}

export function ackFrame(offset: number): Uint8Array<ArrayBuffer> {
  const frame = new Uint8Array(9);
  const view = new DataView(frame.buffer);
  view.setUint8(0, KIND_ACK);
  view.setUint32(1, Math.floor(offset / U32));
  view.setUint32(5, offset % U32);
  return frame;
}

const encoder = new TextEncoder();

export function visibilityFrame(hidden: boolean): Uint8Array<ArrayBuffer> {
  const json = encoder.encode(JSON.stringify({ type: 'visibility', hidden }));
  const frame = new Uint8Array(1 + json.length);
  frame[0] = KIND_CONTROL;
  frame.set(json, 1);
  return frame;
}

/** Where text is encoded before it is cut to size: one allocation per keystroke, the frame itself. */
const scratch = new Uint8Array(CLIENT_FRAME_BYTES_MAX);
scratch[0] = KIND_INPUT;

/** Text as input frames; a long paste becomes several, never cut inside a character. */
export function inputFrames(text: string): Uint8Array<ArrayBuffer>[] {
  const frames: Uint8Array<ArrayBuffer>[] = [];
  let rest = text;
  while (rest.length > 0) {
    const { read, written } = encoder.encodeInto(rest, scratch.subarray(1));
    frames.push(scratch.slice(0, 1 + written));
    rest = read === rest.length ? '' : rest.slice(read);
  }
  return frames;
}

/** Raw bytes, one per character, as input frames: how emulators hand over old mouse reports. */
export function binaryInputFrames(text: string): Uint8Array<ArrayBuffer>[] {
  const frames: Uint8Array<ArrayBuffer>[] = [];
  for (let at = 0; at < text.length; at += CLIENT_FRAME_BYTES_MAX - 1) {
    const piece = text.slice(at, at + CLIENT_FRAME_BYTES_MAX - 1);
    const frame = new Uint8Array(1 + piece.length);
    frame[0] = KIND_INPUT;
    for (let i = 0; i < piece.length; i += 1) frame[i + 1] = piece.charCodeAt(i) & 0xff;
    frames.push(frame);
  }
  return frames;
}
