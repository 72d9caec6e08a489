// How figures and tokens are written.
import { h } from './dom.js';

const grouping = new Intl.NumberFormat('en', { maximumFractionDigits: 0 });

export const whole = (n) => grouping.format(n);

export function percent(share) {
  if (share === 0) return '0 %';
  const p = 100 * share;
  if (p < 0.01) return '< 0.01 %';
  if (p > 99.95 && p < 100) return '> 99.9 %';
  return `${p < 1 ? p.toFixed(2) : p < 10 ? p.toFixed(1) : Math.round(p * 10) / 10} %`;
}

/** Three figures that matter. */
export function figure(x) {
  if (x === null || !Number.isFinite(x)) return '–';
  if (x === 0) return '0';
  const size = Math.abs(x);
  const text = size >= 1e5 || size < 1e-3 ? x.toExponential(1) : String(Number(x.toPrecision(3)));
  return text.replace('-', '−');
}

export const times = (x) => `${figure(x)} ×`;

export const count = (n, one, many = `${one}s`) => `${whole(n)} ${n === 1 ? one : many}`;

export const placeOf = (layer, neuron) => `${layer}.${neuron}`;
export const neuronLink = (layer, neuron) => `#/neuron/${layer}/${neuron}`;

/** Text with line ends and tabs made visible. */
export const visible = (text) =>
  text.replaceAll('\n', '⏎').replaceAll('\r', '␍').replaceAll('\t', '⇥');

/** A token as a small box; a space at its head is shown as a dot. */
export function token(text, attributes = {}) {
  const head = text.startsWith(' ');
  const rest = visible(head ? text.slice(1) : text);
  return h(
    'span',
    { class: 'token', ...attributes },
    head ? h('i', { 'aria-hidden': 'true' }, '·') : null,
    rest === '' ? (head ? '' : '∅') : rest,
  );
}

export const tokens = (list) =>
  h(
    'span',
    { class: 'tokens' },
    list.map((text) => [token(text), ' ']),
  );

export const KINDS = {
  dead: 'never fired in the whole text',
  'heavy hitter': 'among the strongest tenth of its layer at half of the tokens',
  'token detector': 'at most 50 tokens cover 95 % of its firings',
  'suppresses its triggers': 'most of its trigger tokens get a lower logit from what it writes',
  predicts: 'raises a few tokens far above all others',
  suppresses: 'lowers a few tokens far below all others',
  entropy: 'acts through the scale of the final norm: how sure the model is',
  'token frequency': 'moves all logits towards or away from the usual frequencies',
  universal: 'other models have a neuron that follows it',
};

export function kindMeaning(kind) {
  if (kind in KINDS) return KINDS[kind];
  if (kind.endsWith('-gram detector')) return 'a small set of n-grams covers its firings';
  if (kind.startsWith('positional')) return 'fires by position in the window';
  return '';
}

export const kinds = (list) =>
  list.map((kind) =>
    h(
      'a',
      {
        class: `kind k-${kind.split(' ')[0]}`,
        href: `#/neurons?kind=${encodeURIComponent(kind)}`,
        title: kindMeaning(kind),
      },
      kind,
    ),
  );
