// Running text whose tokens are lit by an activation.
import { h } from './dom.js';
import { figure, visible } from './format.js';

/** The background for an activation: warm above 0, cool below, as strong as its share of `most`. */
export function light(activation, most) {
  const share = most > 0 ? Math.min(1, Math.abs(activation) / most) : 0;
  return `color-mix(in oklab, var(${activation < 0 ? '--cool' : '--warm'}) ${(100 * share).toFixed(1)}%, transparent)`;
}

/** Tokens with their activations; the one at `peak` is framed. */
export function lit(tokens, activations, most, peak = -1) {
  return h('span', { class: 'lit' }, tokens.map((text, k) =>
    h(k === peak ? 'mark' : 'span', { style: { 'background-color': light(activations[k], most) }, title: `${visible(text)}: ${figure(activations[k])}` }, visible(text))));
}

/** What the colours mean. */
export const litLegend = (most) =>
  h('p', { class: 'legend' }, h('span', {}, `−${figure(most)}`), h('span', { class: 'ramp both', 'aria-hidden': 'true' }), h('span', {}, figure(most)));

export const largest = (lists) => Math.max(1e-9, ...lists.flat().map(Math.abs));
