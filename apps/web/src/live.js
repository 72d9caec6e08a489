// A text is typed, and the neurons that it wakes light up: layers by tokens, then one cell in full.
import { ask, send } from './api.js';
import { arrows, debounced, h, say } from './dom.js';
import { figure, neuronLink, percent, placeOf, tokens, visible } from './format.js';
import { heated, legend, squareRoot } from './heat.js';
import { largest, light, litLegend } from './lit.js';

const START = 'The old man looked at the sea, and the sea was grey and very still.';

export async function live(draw, parameters, signal) {
  const atlas = await ask('overview', {}, signal);
  const title = h(
    'div',
    { class: 'title' },
    h('h1', {}, 'Live text'),
    h('p', { class: 'facts' }, 'Type, and see which neurons write most at each token.'),
  );
  if (!atlas.live) {
    draw(
      title,
      h(
        'div',
        { class: 'empty' },
        h('h2', {}, 'No model to read with'),
        h('p', {}, atlas.live_without),
        h('pre', {}, `cajal serve ${atlas.file} --model DIR`),
      ),
    );
    return 'Live text';
  }
  const state = { at: null, followed: null, answer: null };
  const grid = h('div', { class: 'grid' }, h('p', { class: 'loading' }, 'Reading …'));
  const detail = h('section', { class: 'detail', 'aria-live': 'polite' });
  const box = h('textarea', {
    id: 'text',
    rows: 3,
    maxlength: 1500,
    spellcheck: 'false',
    oninput: () => later(),
  });
  box.value = parameters.get('text') ?? START;
  const left = h('span', { class: 'left' });

  let waiting;
  async function read() {
    left.textContent = `${box.value.length} of 1500 characters`;
    waiting?.abort();
    if (!box.value.trim()) {
      grid.replaceChildren(h('p', { class: 'empty' }, 'Nothing to read yet.'));
      detail.replaceChildren();
      detail.removeAttribute('aria-busy');
      state.answer = null;
      return;
    }
    const mine = (waiting = new AbortController());
    signal.addEventListener('abort', () => mine.abort(), { once: true });
    try {
      grid.setAttribute('aria-busy', 'true');
      state.answer = await send('live', { text: box.value }, mine.signal);
      const last = state.answer.tokens.length - 1;
      if (!state.at || state.at.token > last)
        state.at = { layer: state.at?.layer ?? Math.floor(atlas.layers.length / 2), token: last };
      show();
      await Promise.all([describe(), follow()]);
      say(`${state.answer.tokens.length} tokens read`);
    } catch (error) {
      if (error.name === 'AbortError') return;
      grid.replaceChildren(h('p', { class: 'notice', role: 'alert' }, error.message));
    } finally {
      if (mine === waiting) grid.removeAttribute('aria-busy');
    }
  }
  const later = debounced(250, read);

  function show() {
    const { tokens: words, layers, cut } = state.answer;
    const choose = (layer, token) => {
      state.at = { layer, token };
      for (const one of grid.querySelectorAll('[aria-pressed=true]'))
        one.setAttribute('aria-pressed', 'false');
      grid.querySelector(`[data-at="${layer}.${token}"]`)?.setAttribute('aria-pressed', 'true');
      describe();
    };
    const table = h(
      'table',
      { class: 'heat live' },
      h('caption', {}, 'Share of each layer’s output energy that its strongest neuron holds'),
      h(
        'thead',
        {},
        h(
          'tr',
          {},
          h('th', { scope: 'col' }, 'layer'),
          words.map((word, k) =>
            h(
              'th',
              { scope: 'col', 'data-token': k },
              h('span', {}, visible(word).trimStart() || '◦'),
            ),
          ),
        ),
      ),
      h(
        'tbody',
        {},
        layers.map((layer, l) =>
          h(
            'tr',
            {},
            h('th', { scope: 'row' }, l),
            layer.map((top, k) => {
              const [id, , share] = top[0];
              return h(
                'td',
                heated(Math.sqrt(share)),
                h(
                  'button',
                  {
                    type: 'button',
                    'data-at': `${l}.${k}`,
                    'aria-pressed': String(state.at.layer === l && state.at.token === k),
                    'aria-label': `layer ${l}, ${words[k]}: neuron ${id}, ${percent(share)}`,
                    title: `${placeOf(l, id)}: ${percent(share)}`,
                    onclick: () => choose(l, k),
                  },
                  id,
                ),
              );
            }),
          ),
        ),
      ),
    );
    arrows(table, 'td button');
    grid.replaceChildren(
      h(
        'div',
        { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Layers by tokens' },
        table,
      ),
      legend('0 %', '100 % of the layer’s energy', squareRoot),
      cut ? h('p', { class: 'what' }, 'The text is longer than is read here.') : '',
    );
  }

  // What is described last is what stays, in whatever order the answers come.
  async function describe() {
    const { at: place, answer } = state;
    const { layer, token: at } = place;
    const top = answer.layers[layer][at];
    detail.setAttribute('aria-busy', 'true');
    const head = h(
      'h2',
      {},
      `Layer ${layer} at `,
      h('q', {}, visible(state.answer.tokens[at]).trimStart()),
    );
    const known = new Map();
    try {
      const { neurons } = await ask(
        'some',
        { ids: top.map(([id]) => placeOf(layer, id)).join(',') },
        signal,
      );
      for (const one of neurons) known.set(one.neuron, one);
    } catch (error) {
      if (error.name === 'AbortError') return;
    }
    if (place !== state.at || answer !== state.answer) return;
    detail.removeAttribute('aria-busy');
    detail.replaceChildren(
      head,
      h(
        'div',
        { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Strongest neurons' },
        h(
          'table',
          { class: 'plain best' },
          h(
            'thead',
            {},
            h(
              'tr',
              {},
              ['neuron', 'activation', 'energy', 'raises', 'strongest at', 'over the text'].map(
                (name, k) =>
                  h('th', { scope: 'col', class: k === 1 || k === 2 ? 'number' : null }, name),
              ),
            ),
          ),
          h(
            'tbody',
            {},
            top.map(([id, activation, share]) =>
              h(
                'tr',
                {},
                h(
                  'th',
                  { scope: 'row' },
                  h('a', { href: neuronLink(layer, id) }, placeOf(layer, id)),
                ),
                h('td', { class: 'number' }, figure(activation)),
                h(
                  'td',
                  { class: 'number' },
                  h('span', { class: 'share' }, h('i', { style: { width: `${100 * share}%` } })),
                  percent(share),
                ),
                h(
                  'td',
                  {},
                  known.get(id)?.promoted ? tokens(known.get(id).promoted.slice(0, 4)) : '',
                ),
                h('td', {}, known.has(id) ? tokens(known.get(id).strongest.slice(0, 4)) : ''),
                h(
                  'td',
                  {},
                  h(
                    'button',
                    {
                      type: 'button',
                      class: 'follow',
                      'aria-pressed': String(
                        state.followed?.layer === layer && state.followed?.neuron === id,
                      ),
                      'aria-label': `follow ${placeOf(layer, id)} over the text`,
                      onclick: (event) => toggle(layer, id, event.target),
                    },
                    'follow',
                  ),
                ),
              ),
            ),
          ),
        ),
      ),
    );
  }

  function toggle(layer, neuron, button) {
    const same = state.followed?.layer === layer && state.followed?.neuron === neuron;
    for (const one of detail.querySelectorAll('.follow')) one.setAttribute('aria-pressed', 'false');
    state.followed = same ? null : { layer, neuron };
    button.setAttribute('aria-pressed', String(!same));
    follow();
  }

  const lights = h('p', { class: 'lights', hidden: true });
  // The tokens above the grid are lit by the neuron that is followed.
  async function follow() {
    const heads = [...grid.querySelectorAll('th[data-token] span')];
    for (const head of heads) head.style.removeProperty('background-color');
    lights.hidden = !state.followed;
    if (!state.followed) return;
    const { followed } = state;
    const { texts } = await send('follow', { texts: [box.value], ...followed }, signal);
    if (followed !== state.followed) return;
    const most = largest([texts[0].activations]);
    heads.forEach((head, k) =>
      head.style.setProperty('background-color', light(texts[0].activations[k] ?? 0, most)),
    );
    lights.replaceChildren(
      h('b', {}, `Following ${placeOf(followed.layer, followed.neuron)}: `),
      litLegend(texts),
    );
  }

  draw(
    title,
    h(
      'section',
      {},
      h('label', { class: 'field', for: 'text' }, h('span', {}, 'Text')),
      box,
      left,
      lights,
      grid,
    ),
    detail,
  );
  await read();
  return 'Live text';
}
