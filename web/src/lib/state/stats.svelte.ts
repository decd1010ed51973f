// What one workspace uses, followed while somebody looks.

import { workspacePath } from '../api/client';
import type { ApiError } from '../api/request';
import { listen } from '../api/sse';
import type { StatsHistory, StatsSample } from '../api/types';
import { extend, ofHistory, ofSample, type Point } from '../stats/series';
import { session } from './session.svelte';

export class WorkspaceStats {
  history = $state.raw<Point[]>([]);
  live = $state.raw<Point[]>([]);
  sample = $state.raw<StatsSample>();
  on = $state(false);
  fault = $state.raw<ApiError>();

  constructor(private readonly workspace: string) {}

  /** Until the returned function is called. */
  watch(): () => void {
    return listen(`${workspacePath(this.workspace)}/stats?history=1`, {
      message: ({ event, data }) => {
        if (event === 'history') this.history = ofHistory((JSON.parse(data) as StatsHistory).points);
        if (event === 'sample') this.#take(JSON.parse(data) as StatsSample);
      },
      live: (on) => {
        this.on = on;
        if (on) this.fault = undefined;
      },
      refused: (error) => {
        if (error.status === 401) session.lost();
        else this.fault = error;
        return error.status !== 401 && error.status !== 404;
      },
    });
  }

  #take(sample: StatsSample): void {
    this.sample = sample;
    this.live = extend(this.live, ofSample(sample));
  }
}
