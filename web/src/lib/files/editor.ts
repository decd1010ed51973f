// The text editor, by CodeMirror: it draws only the lines in sight, so a file of megabytes scrolls, and
// brings undo, search and the keyboard of an editor. Loaded with the first file that is opened, and each
// language with the first file in it.

import { defaultKeymap, history, historyKeymap, indentWithTab } from '@codemirror/commands';
import { bracketMatching, defaultHighlightStyle, HighlightStyle, indentOnInput, indentUnit, syntaxHighlighting } from '@codemirror/language';
import { highlightSelectionMatches, search, searchKeymap } from '@codemirror/search';
import { Compartment, EditorState, Transaction } from '@codemirror/state';
import {
  crosshairCursor,
  drawSelection,
  dropCursor,
  EditorView,
  highlightActiveLine,
  highlightActiveLineGutter,
  highlightSpecialChars,
  keymap,
  lineNumbers,
  rectangularSelection,
} from '@codemirror/view';
import { tags } from '@lezer/highlight';
import type { Text } from './kinds';
import { languageOf } from './languages';

const colours = HighlightStyle.define([
  { tag: [tags.keyword, tags.modifier, tags.operatorKeyword, tags.controlKeyword], color: '#b79bff' },
  { tag: [tags.string, tags.special(tags.string), tags.regexp], color: '#43e097' },
  { tag: [tags.number, tags.bool, tags.null, tags.atom], color: '#ff9e64' },
  { tag: [tags.comment, tags.meta], color: '#7f8296', fontStyle: 'italic' },
  { tag: [tags.function(tags.variableName), tags.function(tags.propertyName), tags.labelName], color: '#6fb7ff' },
  { tag: [tags.typeName, tags.className, tags.tagName, tags.namespace], color: '#5fd7e0' },
  { tag: [tags.propertyName, tags.attributeName], color: '#9ecbff' },
  { tag: [tags.definition(tags.variableName), tags.self], color: '#ffcf70' },
  { tag: tags.heading, color: '#cbb6ff', fontWeight: '650' },
  { tag: tags.strong, fontWeight: '650' },
  { tag: tags.emphasis, fontStyle: 'italic' },
  { tag: [tags.link, tags.url], color: '#7aa8ff', textDecoration: 'underline' },
  { tag: tags.invalid, color: '#ff6b81' },
]);

const look = EditorView.theme(
  {
    '&': { height: '100%', color: 'var(--text)', fontSize: '13px', backgroundColor: 'transparent' },
    '&.cm-focused': { outline: 'none' },
    '.cm-scroller': { fontFamily: 'var(--mono)', fontVariantLigatures: 'none', fontFeatureSettings: 'normal', lineHeight: '1.62' },
    '.cm-content': { padding: '10px 0', caretColor: 'var(--violet-bright)' },
    '.cm-gutters': { border: '0', backgroundColor: 'transparent', color: '#565869' },
    '.cm-lineNumbers .cm-gutterElement': { minWidth: '44px', padding: '0 14px 0 8px' },
    '.cm-activeLine': { backgroundColor: 'rgb(139 92 246 / 7%)' },
    '.cm-activeLineGutter': { backgroundColor: 'transparent', color: 'var(--violet-bright)' },
    '.cm-cursor': { borderLeft: '2px solid var(--violet-bright)' },
    '&.cm-focused > .cm-scroller > .cm-selectionLayer .cm-selectionBackground, .cm-selectionBackground': {
      backgroundColor: 'rgb(139 92 246 / 36%)',
    },
    '.cm-selectionMatch': { backgroundColor: 'rgb(139 92 246 / 22%)' },
    '.cm-searchMatch': { backgroundColor: 'rgb(245 191 85 / 28%)' },
    '.cm-searchMatch-selected': { backgroundColor: 'rgb(245 191 85 / 55%)' },
    '.cm-matchingBracket': { backgroundColor: 'rgb(67 224 151 / 20%)', outline: '1px solid rgb(67 224 151 / 40%)' },
    '.cm-panels': { border: '0', backgroundColor: 'var(--titanium-2)', color: 'var(--text)' },
    '.cm-panel.cm-search': { padding: '8px 12px', fontFamily: 'var(--sans)' },
    '.cm-textfield': { border: '1px solid var(--line-strong)', borderRadius: '6px', backgroundColor: 'rgb(0 0 0 / 35%)' },
    '.cm-button': { border: '1px solid var(--line-strong)', borderRadius: '6px', background: 'var(--titanium-3)', color: 'var(--text)' },
  },
  { dark: true },
);

export interface EditorEvents {
  /** The text was changed by hand. */
  edited(): void;
  save(): void;
}

export class Editor {
  readonly #view: EditorView;
  readonly #language = new Compartment();

  constructor(host: HTMLElement, name: string, { text, ending }: Text, label: string, events: EditorEvents) {
    const save = { key: 'Mod-s', run: () => (events.save(), true) };
    this.#view = new EditorView({
      parent: host,
      state: EditorState.create({
        doc: text,
        extensions: [
          EditorState.lineSeparator.of(ending),
          lineNumbers(),
          highlightActiveLine(),
          highlightActiveLineGutter(),
          highlightSpecialChars(),
          highlightSelectionMatches(),
          history(),
          drawSelection(),
          dropCursor(),
          rectangularSelection(),
          crosshairCursor(),
          EditorState.allowMultipleSelections.of(true),
          indentOnInput(),
          indentUnit.of(indentation(text)),
          bracketMatching(),
          search({ top: true }),
          syntaxHighlighting(colours),
          syntaxHighlighting(defaultHighlightStyle, { fallback: true }),
          // Escape, then Tab, leaves the editor.
          keymap.of([save, ...searchKeymap, ...historyKeymap, ...defaultKeymap, indentWithTab]),
          EditorView.contentAttributes.of({ 'aria-label': label }),
          EditorView.updateListener.of((update) => update.docChanged && events.edited()),
          this.#language.of([]),
          look,
        ],
      }),
    });
    void languageOf(name).then((language) => {
      if (language) this.#view.dispatch({ effects: this.#language.reconfigure(language) });
    });
  }

  get text(): string {
    return this.#view.state.sliceDoc();
  }

  /** Shows what the file holds now, with the cursor where it was. */
  replace(text: string): void {
    const { state } = this.#view;
    const { anchor } = state.selection.main;
    const changes = state.changes({ from: 0, to: state.doc.length, insert: text });
    this.#view.dispatch({
      changes,
      selection: { anchor: Math.min(anchor, changes.newLength) },
      annotations: Transaction.addToHistory.of(false),
    });
  }

  focus(): void {
    this.#view.focus();
  }

  destroy(): void {
    this.#view.destroy();
  }
}

/** As the file has it: tabs if a line begins with one, else the first indentation found, else two blanks. */
function indentation(text: string): string {
  const [first] = /^(?:\t| {2,8})(?=\S)/m.exec(text) ?? ['  '];
  return first;
}
