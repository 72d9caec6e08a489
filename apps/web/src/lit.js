// Running text whose tokens are lit by an activation.
import { h } from './dom.js';
import { figure, visible } from './format.js';

/** The background for an activation: warm above 0, cool below, as strong as its share of `most`. */
export function light(activation, most) {
  const share = most > 0 ? Math.min(1, Math.abs(activation) / most) : 0;
  return `color-mix(in oklab, var(${activation < 0 ? '--cool' : '--warm'}) ${(100 * share).toFixed(1)}%, transparent)`;
}

/** Tokens with their activations; the one at `peak` is framed. Spaces stand between the lights, so that lines break there. */
export function lit(tokens, activations, most, peak = -1) {
  return h(
    'span',
    { class: 'lit' },
    tokens.map((text, k) => {
      const word = text.trimStart();
      const space = k === 0 ? '' : text.slice(0, text.length - word.length);
      return [
        visible(space),
        h(
          k === peak ? 'mark' : 'span',
          {
            style: { 'background-color': light(activations[k], most) },
            title: `${visible(text)}: ${figure(activations[k])}`,
          },
          visible(word),
        ),
      ];
    }),
  );
}

/** What the colours mean; without negative activations there is no cool half. */
export function litLegend(texts) {
  const all = texts.flatMap(({ activations }) => activations);
  const most = largest([all]);
  const both = all.some((activation) => activation < 0);
  return h(
    'p',
    { class: 'legend' },
    h('span', {}, both ? `−${figure(most)}` : '0'),
    h('span', { class: both ? 'ramp both' : 'ramp warm', 'aria-hidden': 'true' }),
    h('span', {}, figure(most)),
  );
}

export const largest = (lists) => Math.max(1e-9, ...lists.flat().map(Math.abs));
