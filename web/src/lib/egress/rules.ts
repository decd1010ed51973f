// What a workspace may reach, as values: the presets in words, and rules added and taken away.

import type { EgressPreset, EgressSettings, EgressView } from '../api/types';

/** The list in which a rule stands. */
export type RuleKind = 'allow' | 'deny';

/** `brief` is for a list to choose from, before there is a workspace with rules. */
export const PRESETS: { preset: EgressPreset; label: string; brief: string; text: string }[] = [
  { preset: 'locked', label: 'Locked', brief: 'nothing, until you allow it', text: 'Nothing but what you allow below.' },
  { preset: 'balanced', label: 'Balanced', brief: 'packages, code hosts, models', text: 'Package registries, code hosts and model vendors, what its template needs, and what you allow.' },
  { preset: 'open', label: 'Open', brief: 'the public internet', text: 'The whole public internet, but for what you deny.' },
];

/** For a workspace that is to use secrets or models, unless another is chosen: they are for hosts outside. */
export const WITH_USES: EgressPreset = 'balanced';

/** What is asked for of a new workspace; nothing, where all is to be as the server has it. */
export function settingsOfNew({ reach, secrets, models }: { reach: EgressPreset | undefined; secrets: readonly string[]; models: boolean }): EgressSettings | undefined {
  const uses = { ...(secrets.length > 0 ? { secrets: [...secrets] } : {}), ...(models ? { models } : {}) };
  const preset = reach ?? (Object.keys(uses).length > 0 ? WITH_USES : undefined);
  return preset && { preset, ...uses };
}

/** What is asked for to keep what holds. */
export function settingsOf({ preset, allow, deny, lent, secrets, models, github }: EgressView): Required<EgressSettings> {
  return { preset, allow, deny, lent, secrets: secrets ?? [], models: models ?? false, github: github ?? null };
}

/** With this secret or without it, whichever it is not. */
export function withSecret(settings: Required<EgressSettings>, name: string, given: boolean): Required<EgressSettings> {
  const others = settings.secrets.filter((other) => other !== name);
  return { ...settings, secrets: given ? [...others, name] : others };
}

export function withRule(settings: Required<EgressSettings>, kind: RuleKind, rule: string): Required<EgressSettings> {
  const rules = settings[kind];
  return rules.includes(rule) ? settings : { ...settings, [kind]: [...rules, rule] };
}

export function withoutRule(settings: Required<EgressSettings>, kind: RuleKind, rule: string): Required<EgressSettings> {
  return { ...settings, [kind]: settings[kind].filter((other) => other !== rule) };
}

export function withoutLent(settings: Required<EgressSettings>, rule: string): Required<EgressSettings> {
  return { ...settings, lent: settings.lent.filter((other) => other.rule !== rule) };
}

/** The ports of a rule that names none. */
const WEB: readonly number[] = [80, 443];

/** The rule by which exactly this is reached. A name that was looked up was wanted at no port that is known. */
export function ruleFor({ how, host, port }: { how: string; host: string; port: number }): string {
  if (how === 'dns' || WEB.includes(port)) return host;
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}
