// The log of what a workspace asked for: why it was refused in words, what helps, and pages of it put together.

import type { EgressEntry, EgressView } from '../api/types';
import { ruleFor } from './rules';

export interface Log {
  /** The newest first. */
  entries: EgressEntry[];
  /** Where older ones begin, if there are any. */
  next: string | undefined;
}

const MINUTE_MS = 60_000;

/** What is alike within a minute is one entry, which grows. */
export function keyOf({ at, how, host, port, allowed, why }: EgressEntry): string {
  return [Math.floor(Date.parse(at) / MINUTE_MS), how, host, port, allowed, why].join(' ');
}

/** The log with its newest page read again. Older ones stay, unless so much has come that there would be a gap. */
export function refreshed(kept: Log, fresh: Log): Log {
  const [newest, last] = [kept.entries[0], fresh.entries.at(-1)];
  if (!newest || !last || !fresh.next || Date.parse(last.at) > Date.parse(newest.at)) return fresh;
  const known = new Set(fresh.entries.map(keyOf));
  const older = kept.entries.filter((entry) => !known.has(keyOf(entry)) && Date.parse(entry.at) <= Date.parse(last.at));
  return older.length === 0 ? fresh : { entries: [...fresh.entries, ...older], next: kept.next };
}

/** The log with its next page. */
export function continued(kept: Log, page: Log): Log {
  const known = new Set(kept.entries.map(keyOf));
  return { entries: [...kept.entries, ...page.entries.filter((entry) => !known.has(keyOf(entry)))], next: page.next };
}

/** What is told at once when only what was refused is asked for, before the server's answer. */
export function refusedOf({ entries, next }: Log): Log {
  return { entries: entries.filter(({ allowed }) => !allowed), next };
}

/** Why something was refused; each ends "refused: ...". */
const WHY: Record<string, string> = {
  egress_not_allowed: 'no rule allows it',
  egress_denied_by_rule: 'a rule denies it, which is stronger than any that allows',
  egress_request_not_allowed: 'rules allow other requests there, and not this one',
  egress_path_ambiguous: 'its path could be taken for another',
  egress_unreadable: 'rules are about single requests there, and these could not be read',
  egress_address_literal: 'no rule names this address',
  egress_private_range: 'it leads into a private network; a rule with its range, such as 10.1.0.0/16, allows that',
  egress_closed_range: 'it leads to where no rule may lead',
  egress_no_such_name: 'there is no such name',
  egress_no_resolver: 'names cannot be looked up now',
  egress_unreachable: 'nothing answers there',
  egress_timed_out: 'it took too long to answer',
  egress_too_many: 'too many were open at once',
  egress_no_upstream: 'the proxy that everything leaves by does not answer',
  egress_upstream_refused: 'the operator\'s proxy refuses it',
  egress_untrusted: 'its certificate is not in order, so nothing was sent',
  egress_not_trusted_inside: 'the program does not trust this workspace\'s certificates',
  egress_http1_only: 'the program speaks HTTP/2 alone, which is not had where requests are read',
  egress_no_certificate: 'the gateway could not speak for it',
  egress_not_bound: 'its gateway did not know it any more',
  egress_no_name: 'its TLS names no host',
  egress_not_tls: 'it did not speak TLS',
  egress_broken_tls: 'its TLS was broken',
  egress_sni_mismatch: 'it asked for another name within TLS',
  egress_host_mismatch: 'it asked for another host within',
  egress_bad_host: 'the host is none',
  egress_bad_request: 'the request was malformed',
  egress_github_refused: 'not what it may do at GitHub; the program was told why',
  egress_github_unavailable: 'it may, but there is no token of GitHub for it now',
  model_not_let: 'models are not switched on here',
  model_not_allowed: 'the operator does not allow this model',
  model_budget_spent: 'the budget of tokens is spent',
  model_too_many: 'too many requests were being answered at once',
  model_outward: 'the vendor would reach other hosts for it',
  model_not_counted: 'what it costs could not be written down',
  model_no_vendor: 'the operator offers no model of this API',
  model_no_such_path: 'this path of the API is not offered',
  model_bad_method: 'this path of the API has another method',
  model_too_long: 'the request was too long',
  model_bad_request: 'the request was malformed',
  model_missing: 'the request named no model',
  model_background: 'answers in the background are not offered',
  model_vendor_unreachable: 'the vendor does not answer',
  model_vendor_refused: 'the vendor does not take the operator\'s key',
  model_vendor_unreadable: 'the vendor\'s list of models could not be read',
};

const HOW: Record<string, string> = { http: 'HTTP', https: 'HTTPS', connect: 'CONNECT', socks: 'SOCKS', direct: 'TLS', model: 'language model', dns: 'name looked up' };

const MODEL = 'model';
/** What stands for a model's name where all were asked for. */
const LIST = 'models';

export const howTold = (how: string): string => HOW[how] ?? how;

/** In words, also by a newer server. */
export function whyTold({ how, allowed, why }: EgressEntry): string {
  if (allowed && how === MODEL) return why === LIST ? 'to list the models' : `to ask ${why}`;
  if (allowed) return `by ${why}`;
  return WHY[why] ?? why.replace(/^(egress|model)_/, '').replaceAll('_', ' ');
}

/** Where it led, as it was asked for. */
export function whereTold({ how, host, port }: EgressEntry): string {
  if (how === 'dns' || how === MODEL) return host;
  return host.includes(':') ? `[${host}]:${port}` : `${host}:${port}`;
}

/** Refusals that a rule of the workspace's ends; a denial is stronger than any, and others are not about rules. */
const CURABLE: ReadonlySet<string> = new Set(['egress_not_allowed', 'egress_address_literal']);

/** The rule that would have allowed it, and whether it has come since. */
export function cureOf(entry: EgressEntry, { allow, lent }: Pick<EgressView, 'allow' | 'lent'>): { rule: string; done: boolean } | undefined {
  if (entry.allowed || !CURABLE.has(entry.why)) return undefined;
  const rule = ruleFor(entry);
  return { rule, done: allow.includes(rule) || lent.some((one) => one.rule === rule) };
}
