// The figures of a chart as a table.
import { h } from './dom.js';

export const pointTable = (caption, columns, rows) =>
  h(
    'div',
    { class: 'scroll small', tabindex: '0', role: 'region', 'aria-label': caption },
    h(
      'table',
      { class: 'points' },
      h('caption', { class: 'unseen' }, caption),
      h(
        'thead',
        {},
        h(
          'tr',
          {},
          columns.map((name) => h('th', { scope: 'col' }, name)),
        ),
      ),
      h(
        'tbody',
        {},
        rows.map((row) =>
          h(
            'tr',
            {},
            row.map((one, k) => h(k ? 'td' : 'th', k ? {} : { scope: 'row' }, one)),
          ),
        ),
      ),
    ),
  );
