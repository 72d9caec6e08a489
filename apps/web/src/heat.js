// Colour scales, and tables whose cells are coloured by their value.
import { arrows, h } from './dom.js';

/** The colour of a share between 0 and 1; three stops that the style sheet sets for light and dark. */
export function heat(share) {
  const v = Math.min(1, Math.max(0, share));
  const [low, high, part] =
    v < 0.5 ? ['--heat-0', '--heat-1', 2 * v] : ['--heat-1', '--heat-2', 2 * v - 1];
  return `color-mix(in oklab, var(${high}) ${(100 * part).toFixed(1)}%, var(${low}))`;
}

/** A cell's colour, and which of three inks can be read on it (contrast 4.5 at least, light and dark). */
export const heated = (share) => ({
  style: { 'background-color': heat(share) },
  'data-heat': share < 0.51 ? 'low' : share < 0.765 ? 'middle' : 'high',
});

/** A bar with the colours of the scale between the words for its ends; `scale` says how values grow along it. */
export const legend = (low, high, scale) =>
  h(
    'p',
    { class: 'legend' },
    h('span', {}, low),
    h('span', { class: 'ramp', 'aria-hidden': 'true' }),
    h('span', {}, high),
    scale ? h('span', {}, `(${scale})`) : null,
  );

/** Shows small values too. */
export const squareRoot = 'square root scale';

/**
 * A table of coloured cells. columns: {name, title}; rows: {name, href, cells: [{text, share, href, label}]}.
 * Cells with href are links; the arrow keys move between them.
 */
export function heatTable({ caption, corner, columns, rows, compact = false }) {
  const cell = (one) =>
    h(
      'td',
      one.share === null ? { class: 'none' } : heated(one.share),
      one.href
        ? h('a', { href: one.href, 'aria-label': one.label, title: one.label }, one.text)
        : h('span', { title: one.label }, one.text),
    );
  const table = h(
    'table',
    { class: compact ? 'heat compact' : 'heat' },
    h('caption', {}, caption),
    h(
      'thead',
      {},
      h(
        'tr',
        {},
        h('th', { scope: 'col' }, corner),
        columns.map((column) => h('th', { scope: 'col', title: column.title }, column.name)),
      ),
    ),
    h(
      'tbody',
      {},
      rows.map((row) =>
        h(
          'tr',
          {},
          h('th', { scope: 'row' }, row.href ? h('a', { href: row.href }, row.name) : row.name),
          row.cells.map(cell),
        ),
      ),
    ),
  );
  arrows(table, 'td a');
  return h('div', { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': caption }, table);
}
