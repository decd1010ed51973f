// A snapshot's archive on its way in. By XMLHttpRequest, because `fetch` does not tell how much it has sent.

import { ApiError } from './request';
import type { ErrorDetail, SnapshotView } from './types';

export interface Importing {
  done: Promise<SnapshotView>;
  stop(): void;
}

export function importSnapshot(archive: Blob, name: string, sent: (bytes: number) => void): Importing {
  const request = new XMLHttpRequest();
  const query = name ? `?${new URLSearchParams({ name })}` : '';
  const done = new Promise<SnapshotView>((resolve, reject) => {
    const failed = (code: string, message: string): void =>
      reject(new ApiError(request.status, { code, message, request_id: '', details: {} }));
    request.upload.onprogress = ({ loaded }) => sent(loaded);
    request.onload = () => {
      const body = request.response as (SnapshotView & { error?: ErrorDetail }) | null;
      if (request.status < 300 && body) resolve(body);
      else if (body?.error) reject(new ApiError(request.status, body.error));
      else failed(`http_${request.status}`, 'The server refused without saying why.');
    };
    request.onerror = () => failed('offline', 'The connection was cut. Send the archive again; nothing of it is kept.');
    request.onabort = () => failed('cancelled', 'The import was cancelled; nothing of it is kept.');
  });
  request.open('POST', `/api/snapshots/import${query}`);
  request.responseType = 'json';
  request.setRequestHeader('accept', 'application/json');
  request.setRequestHeader('content-type', 'application/zstd');
  request.send(archive);
  return { done, stop: () => request.abort() };
}
