// Search: a form whose fields stand in the address, and the neurons that match, a page at a time.
import { ask } from './api.js';
import { debounced, h, say } from './dom.js';
import {
  count,
  figure,
  kinds,
  neuronLink,
  percent,
  placeOf,
  times,
  tokens,
  whole,
} from './format.js';

const ROLES = {
  '': 'anywhere',
  promoted: 'raised by it',
  lowered: 'lowered by it',
  trigger: 'a trigger of it',
  peak: 'where it was strongest',
};
const ORDERS = { place: 'place', rate: 'fires', hits: 'hits', energy: 'energy', peak: 'peak' };
const BOUNDS = [
  'rate_min',
  'rate_max',
  'rate_above',
  'rate_below',
  'hits_min',
  'hits_max',
  'hits_above',
  'hits_below',
  'energy_min',
  'energy_max',
  'energy_above',
  'energy_below',
];
const NAMES = ['layer', 'kind', 'word', 'role', ...BOUNDS, 'order', 'descending', 'page'];

export async function neurons(draw, parameters, signal) {
  const atlas = await ask('overview', {}, signal);
  const asked = Object.fromEntries(
    NAMES.filter((name) => parameters.get(name)).map((name) => [name, parameters.get(name)]),
  );
  const results = h('div', { class: 'results' });
  draw(
    h('div', { class: 'title' }, h('h1', {}, 'Neurons')),
    filters(atlas, asked, () => refresh()),
    results,
  );

  let waiting;
  // Typing changes the results and the address, but not the form.
  async function refresh() {
    if (signal.aborted) return; // a click on a page that is being left must not write the address
    waiting?.abort();
    waiting = new AbortController();
    signal.addEventListener('abort', () => waiting.abort(), { once: true });
    history.replaceState(null, '', address(asked));
    results.setAttribute('aria-busy', 'true');
    try {
      const found = await ask('neurons', asked, waiting.signal);
      results.replaceChildren(...show(found, asked, refresh));
      say(count(found.total, 'neuron'));
    } catch (error) {
      if (error.name === 'AbortError') return;
      results.replaceChildren(h('p', { class: 'notice', role: 'alert' }, error.message));
    }
    results.removeAttribute('aria-busy');
  }
  await refresh();
  return 'Neurons';
}

const address = (asked) => {
  const words = new URLSearchParams(Object.entries(asked)).toString();
  return `#/neurons${words ? `?${words}` : ''}`;
};

function filters(atlas, asked, changed) {
  const set = (name, value) => {
    if (value === '' || value === null) delete asked[name];
    else asked[name] = value;
    delete asked.page;
    changed();
  };
  const later = debounced(200, set);
  const field = (label, control, extra = '') =>
    h('label', { class: `field ${extra}` }, h('span', {}, label), control);
  const choose = (name, options) =>
    h(
      'select',
      { name, onchange: (event) => set(name, event.target.value) },
      options.map(([value, text]) =>
        h('option', { value, selected: String(asked[name] ?? '') === String(value) }, text),
      ),
    );
  // Shares are typed in percent.
  const bound = (name, label, scale) =>
    h('input', {
      type: 'number',
      name,
      min: 0,
      max: scale === 100 ? 100 : null,
      step: 'any',
      inputmode: 'decimal',
      'aria-label': label,
      placeholder: name.endsWith('min') ? 'from' : 'to',
      value: asked[name] !== undefined ? String(Number((asked[name] * scale).toPrecision(6))) : '',
      oninput: (event) =>
        event.target.validity.valid &&
        later(
          name,
          event.target.value === ''
            ? ''
            : String(Number((event.target.value / scale).toPrecision(10))),
        ),
    });
  const words = h('datalist', { id: 'words' });
  const suggest = debounced(120, async (text) => {
    if (!text.trim() || text.endsWith('*')) return;
    try {
      const { words: found } = await ask('words', { prefix: text });
      words.replaceChildren(
        ...found.map((one) =>
          h('option', { value: one.text, label: count(one.neurons, 'neuron') }),
        ),
      );
    } catch {
      words.replaceChildren(); // a list of suggestions may be missing
    }
  });
  const span = (name, label, scale, unit) => {
    const open = ['above', 'below'].filter((end) => asked[`${name}_${end}`] !== undefined);
    return h(
      'fieldset',
      { class: 'field span' },
      h('legend', {}, label),
      open.length
        ? h(
            'button',
            {
              type: 'button',
              class: 'chip',
              onclick: (event) => {
                for (const end of ['min', 'max', 'above', 'below']) delete asked[`${name}_${end}`];
                event.target.closest('fieldset').replaceWith(span(name, label, scale, unit));
                set('page', '');
              },
            },
            rangeText(asked, name, scale, unit),
            h('span', { 'aria-label': 'remove' }, ' ✕'),
          )
        : [
            bound(`${name}_min`, `${label} from, ${unit}`, scale),
            bound(`${name}_max`, `${label} to, ${unit}`, scale),
          ],
    );
  };
  return h(
    'form',
    {
      class: 'filters',
      role: 'search',
      'aria-label': 'Filter neurons',
      onsubmit: (event) => event.preventDefault(),
    },
    field(
      'Word',
      h('input', {
        type: 'search',
        name: 'word',
        list: 'words',
        value: asked.word ?? '',
        maxlength: 60,
        spellcheck: 'false',
        autocomplete: 'off',
        placeholder: 'sea, or un*',
        oninput: (event) => {
          later('word', event.target.value.trim() === '' ? '' : event.target.value);
          suggest(event.target.value);
        },
      }),
      'word',
    ),
    words,
    field('which is', choose('role', Object.entries(ROLES))),
    field(
      'Layer',
      choose('layer', [['', 'all'], ...atlas.layers.map(({ layer }) => [layer, layer])]),
    ),
    field(
      'Kind',
      choose('kind', [['', 'any'], ...Object.keys(atlas.kinds).map((kind) => [kind, kind])]),
    ),
    span('rate', 'Fires, %', 100, '%'),
    span('hits', 'Hits, %', 100, '%'),
    span('energy', 'Energy, × mean', 1, '×'),
    h('a', { class: 'clear', href: '#/neurons' }, 'Clear all'),
  );
}

function rangeText(asked, name, scale, unit) {
  const at = (end) =>
    asked[`${name}_${end}`] === undefined
      ? null
      : `${figure(asked[`${name}_${end}`] * scale)} ${unit}`;
  const low = at('min') ? `from ${at('min')}` : at('above') ? `above ${at('above')}` : '';
  const high = at('max') ? `to ${at('max')}` : at('below') ? `below ${at('below')}` : '';
  return `${low} ${high}`.trim();
}

function show(found, asked, refresh) {
  if (!found.total)
    return [
      h(
        'div',
        { class: 'empty' },
        h('h2', {}, 'No neuron is like that'),
        h('p', {}, 'Loosen a filter, or look for all words that begin so: un*.'),
        h('a', { class: 'button', href: '#/neurons' }, 'Show all neurons'),
      ),
    ];
  const pages = Math.ceil(found.total / found.page_size);
  const sort = (name) => {
    const now = (asked.order ?? 'place') === name;
    if (now) asked.descending = asked.descending === '1' ? '0' : '1';
    else Object.assign(asked, { order: name, descending: name === 'place' ? '0' : '1' });
    delete asked.page;
    refresh().then(() => document.querySelector(`[data-order=${name}]`)?.focus());
  };
  const head = (name, title, number = true) => {
    const now = (asked.order ?? 'place') === name;
    const down = asked.descending === '1';
    return h(
      'th',
      {
        scope: 'col',
        role: 'columnheader',
        class: number ? 'number' : null,
        'aria-sort': now ? (down ? 'descending' : 'ascending') : null,
      },
      h(
        'button',
        { type: 'button', 'data-order': name, title, onclick: () => sort(name) },
        ORDERS[name],
        h('span', { class: 'way', 'aria-hidden': 'true' }, now ? (down ? '▾' : '▴') : ''),
      ),
    );
  };
  const first = found.page * found.page_size;
  const bar = (share) => [
    h(
      'span',
      { class: 'share' },
      h('i', {
        'aria-hidden': 'true',
        style: { width: `${(100 * Math.min(1, share)).toFixed(1)}%` },
      }),
    ),
    h('span', { class: 'much' }, percent(share)),
  ];
  const cell = (label, ...content) => {
    const inside = content.flat(Infinity).filter(Boolean);
    return h(
      'td',
      { role: 'cell', 'data-label': label },
      inside.length ? h('div', {}, inside) : null,
    );
  };
  const number = (label, content) => {
    const made = cell(label, content);
    made.classList.add('number');
    return made;
  };
  const table = h(
    'table',
    { class: 'list', role: 'table' },
    h('caption', { class: 'unseen' }, 'Neurons that match'),
    h(
      'thead',
      { role: 'rowgroup' },
      h(
        'tr',
        { role: 'row' },
        head('place', 'layer and neuron', false),
        h('th', { scope: 'col', role: 'columnheader' }, 'kinds'),
        head('rate', 'share of tokens at which it fires'),
        head('hits', 'share of tokens at which it is among the strongest tenth of its layer'),
        head('energy', 'output energy, in units of the layer’s mean'),
        head('peak', 'strongest activation'),
        h('th', { scope: 'col', role: 'columnheader' }, 'strongest at'),
        h('th', { scope: 'col', role: 'columnheader' }, 'raises'),
      ),
    ),
    h(
      'tbody',
      { role: 'rowgroup' },
      found.neurons.map((one) =>
        h(
          'tr',
          { role: 'row' },
          h(
            'th',
            { scope: 'row', role: 'rowheader' },
            h('a', { href: neuronLink(one.layer, one.neuron) }, placeOf(one.layer, one.neuron)),
          ),
          cell('kinds', kinds(one.kinds)),
          number('fires', bar(one.rate)),
          number('hits', bar(one.hits)),
          number('energy', times(one.energy)),
          number('peak', figure(one.peak)),
          cell('strongest at', tokens(one.strongest)),
          cell('raises', one.promoted ? tokens(one.promoted) : ''),
        ),
      ),
    ),
  );
  const turn = (text, to, off) =>
    h(
      'button',
      {
        type: 'button',
        disabled: off,
        onclick: () => {
          asked.page = String(to);
          refresh().then(() => {
            document.querySelector('.results').scrollIntoView({ block: 'start' });
            document.querySelector('.results h2').focus();
          });
        },
      },
      text,
    );
  return [
    h(
      'h2',
      { class: 'count', tabindex: '-1' },
      count(found.total, 'neuron'),
      h(
        'small',
        {},
        found.neurons.length
          ? ` ${whole(first + 1)} to ${whole(first + found.neurons.length)}`
          : ' none on this page',
      ),
    ),
    table,
    pages > 1 &&
      h(
        'nav',
        { class: 'pages', 'aria-label': 'Pages' },
        turn('« First', 0, found.page === 0),
        turn('‹ Previous', found.page - 1, found.page === 0),
        h('span', {}, `Page ${whole(found.page + 1)} of ${whole(pages)}`),
        turn('Next ›', found.page + 1, found.page >= pages - 1),
        turn('Last »', pages - 1, found.page >= pages - 1),
      ),
  ].filter(Boolean);
}
