// The language of a file by its name, and what draws it; each is loaded when first needed.

import { StreamLanguage, type StreamParser } from '@codemirror/language';
import type { Extension } from '@codemirror/state';
import { extension } from './kinds';

type Load = () => Promise<Extension>;

const stream = (load: () => Promise<StreamParser<unknown>>): Load => async () => StreamLanguage.define(await load());

const script = (typescript: boolean, jsx: boolean): Load => async () =>
  (await import('@codemirror/lang-javascript')).javascript({ typescript, jsx });
const shell = stream(async () => (await import('@codemirror/legacy-modes/mode/shell')).shell);
const toml = stream(async () => (await import('@codemirror/legacy-modes/mode/toml')).toml);
const clike = (name: 'c' | 'cpp' | 'java') => stream(async () => (await import('@codemirror/legacy-modes/mode/clike'))[name]);
const html: Load = async () => (await import('@codemirror/lang-html')).html();
const css: Load = async () => (await import('@codemirror/lang-css')).css();
const yaml: Load = async () => (await import('@codemirror/lang-yaml')).yaml();
const python: Load = async () => (await import('@codemirror/lang-python')).python();
const markdown: Load = async () => (await import('@codemirror/lang-markdown')).markdown();
const json: Load = async () => (await import('@codemirror/lang-json')).json();

const BY_EXTENSION: Record<string, Load> = {
  js: script(false, true), mjs: script(false, false), cjs: script(false, false), jsx: script(false, true),
  ts: script(true, false), mts: script(true, false), tsx: script(true, true),
  py: python, pyi: python,
  rs: async () => (await import('@codemirror/lang-rust')).rust(),
  go: async () => (await import('@codemirror/lang-go')).go(),
  json, jsonc: json, webmanifest: json,
  md: markdown, markdown,
  html, htm: html, svelte: html, vue: html, svg: html, xml: html,
  css, scss: css, less: css,
  yaml, yml: yaml,
  toml, lock: toml, ini: toml, conf: toml,
  sh: shell, bash: shell, zsh: shell, env: shell,
  c: clike('c'), h: clike('c'), cpp: clike('cpp'), cc: clike('cpp'), hpp: clike('cpp'), java: clike('java'),
  rb: stream(async () => (await import('@codemirror/legacy-modes/mode/ruby')).ruby),
  lua: stream(async () => (await import('@codemirror/legacy-modes/mode/lua')).lua),
  sql: stream(async () => (await import('@codemirror/legacy-modes/mode/sql')).standardSQL),
  diff: stream(async () => (await import('@codemirror/legacy-modes/mode/diff')).diff),
  patch: stream(async () => (await import('@codemirror/legacy-modes/mode/diff')).diff),
};

const docker = stream(async () => (await import('@codemirror/legacy-modes/mode/dockerfile')).dockerFile);
const BY_NAME: Record<string, Load> = {
  Dockerfile: docker, Containerfile: docker,
  '.bashrc': shell, '.profile': shell, '.bash_profile': shell, '.zshrc': shell, '.env': shell, Makefile: shell,
};

/** Nothing when the file's language is none that we draw: it is shown as plain text. */
export async function languageOf(name: string): Promise<Extension | undefined> {
  const load = BY_NAME[name] ?? BY_EXTENSION[extension(name)];
  try {
    return await load?.();
  } catch {
    // A newer page was installed meanwhile and the piece is gone: plain text is no harm.
    return undefined;
  }
}
