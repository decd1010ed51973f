// What is said of the steps of a set-up.

import type { SetupView } from './api/types';

type Step = SetupView['steps'][number];

/** What a step has printed itself, without its name, which its terminal begins with. */
export function printedBy({ name, output }: Pick<Step, 'name' | 'output'>): string {
  const [first, ...rest] = output.trim().split('\n');
  return (first?.trim() === name.trim() ? rest.join('\n') : output).trim();
}
