// What a workspace may do at GitHub, as values: what is typed of it, what of it is sent, and where a refusal belongs.

import type { EgressView, GithubAccess } from '../api/types';

type EgressState = EgressView['state'];

/** As it stands in the form. */
export interface Draft {
  repositories: string;
  branches: string;
  readOnly: boolean;
}

/** One per line, as they are shown; also what is separated by commas or blanks, as people write lists. */
export function namesIn(text: string): string[] {
  return text.split(/[\s,]+/).filter((name) => name !== '');
}

export function draftOf(access: GithubAccess | null | undefined): Draft {
  const { repositories = [], branches = [], read_only: readOnly = false } = access ?? {};
  return { repositories: repositories.join('\n'), branches: branches.join('\n'), readOnly };
}

/** What is asked for. Branches say what may be pushed to: they stay in the form and are not sent where nothing is. */
export function accessOf({ repositories, branches, readOnly }: Draft): GithubAccess {
  return { repositories: namesIn(repositories), branches: readOnly ? [] : namesIn(branches), read_only: readOnly };
}

/** Whether the two mean the same. */
export function isSame(one: GithubAccess, other: GithubAccess | null | undefined): boolean {
  return other != null && JSON.stringify(accessOf(draftOf(one))) === JSON.stringify(accessOf(draftOf(other)));
}

export type Place = 'repositories' | 'branches' | 'all';

/** The part of the form that a field of a request is in. */
export function placeOf(field: string | undefined): Place {
  if (field === 'egress.github.repositories') return 'repositories';
  return field === 'egress.github.branches' ? 'branches' : 'all';
}

/** Most names that are told; of more, how many. */
const TOLD_MAX = 3;

function listed(names: readonly string[]): string {
  const shown = names.length > TOLD_MAX ? [...names.slice(0, TOLD_MAX - 1), `${names.length - TOLD_MAX + 1} more`] : names;
  return shown.length < 2 ? shown.join('') : `${shown.slice(0, -1).join(', ')} and ${shown.at(-1)}`;
}

/** `acme/*` in words. */
function worded(repository: string): string {
  if (repository === '*') return 'every repository';
  return repository.endsWith('/*') ? `all of ${repository.slice(0, -2)}` : repository;
}

function told({ repositories, branches = [], read_only: readOnly }: GithubAccess): string {
  const where = listed(repositories.map(worded));
  if (readOnly) return `it reads ${where}, and changes nothing there.`;
  return branches.length === 0 ? `it reads and changes ${where}, on all branches.` : `it reads ${where}, and pushes to ${listed(branches)} alone.`;
}

/** What it comes to, in a sentence: what is typed and not saved, or else what holds. */
export function standsFor(given: GithubAccess | null | undefined, state: EgressState, typed?: GithubAccess): string {
  if (typed && typed.repositories.length > 0) return `Once saved, ${told(typed)}`;
  if (!given) return 'It sees of GitHub what everybody sees.';
  return state === 'next_start' ? `Once restarted, ${told(given)}` : `I${told(given).slice(1)}`;
}
