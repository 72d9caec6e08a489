// The whole model: what its layers do, how their neurons are spread, and how many are of each kind.
import { ask } from './api.js';
import { h } from './dom.js';
import { count, figure, kindMeaning, percent, whole } from './format.js';
import { heatTable, legend, squareRoot } from './heat.js';

const STATISTICS = {
  rate: { name: 'Firing rate', what: 'share of tokens at which a neuron fires', edge: percent },
  hits: {
    name: 'Hits',
    what: 'share of tokens at which it is among the strongest tenth of its layer',
    edge: percent,
  },
  energy: {
    name: 'Output energy',
    what: 'how much it writes, in units of the layer’s mean neuron',
    edge: (x) => `${figure(x)}×`,
  },
};

const COLUMNS = [
  { key: 'rate', name: 'fires', title: 'mean firing rate of its neurons', show: percent },
  {
    key: 'silent_share',
    name: 'silent',
    title: 'activations that are exactly 0: nothing is written',
    show: percent,
  },
  {
    key: 'dead_share',
    name: 'dead',
    title: 'neurons that never fired in the text',
    show: percent,
    filter: 'kind=dead',
  },
  {
    key: 'heavy_share',
    name: 'heavy hitters',
    title: 'neurons among the strongest tenth at half of the tokens',
    show: percent,
    filter: 'hits_min=0.5',
  },
  {
    key: 'energy_of_token',
    name: 'own 10 %',
    title: 'output energy in each token’s own strongest tenth of the neurons',
    show: percent,
  },
  {
    key: 'energy_of_fixed',
    name: 'fixed 10 %',
    title: 'output energy in the best tenth chosen once for all tokens',
    show: percent,
  },
];

export async function overview(draw, _, signal) {
  const atlas = await ask('overview', {}, signal);
  const tokens = atlas.layers[0].tokens;
  draw(
    h(
      'div',
      { class: 'title' },
      h('h1', {}, atlas.model || atlas.file),
      h(
        'p',
        { class: 'facts' },
        count(atlas.layers.length, 'layer'),
        ' · ',
        count(atlas.neurons, 'neuron'),
        ' · watched on ',
        count(tokens, 'token'),
        ' of ',
        h('q', {}, atlas.text),
        atlas.compared_with.length ? [' · compared with ', atlas.compared_with.join(', ')] : null,
      ),
    ),
    h('div', { class: 'pair' }, layersAtAGlance(atlas), kindsByLayer(atlas)),
    spread(atlas),
  );
  return atlas.model;
}

function layersAtAGlance(atlas) {
  // Each column has its own scale, so that the pattern over layers shows.
  const most = Object.fromEntries(
    COLUMNS.map(({ key }) => [key, Math.max(...atlas.layers.map((layer) => layer[key]))]),
  );
  return h(
    'section',
    {},
    h('h2', {}, 'Layers at a glance'),
    heatTable({
      caption: 'Statistics of every layer',
      corner: 'layer',
      columns: COLUMNS,
      rows: atlas.layers.map((layer) => ({
        name: layer.layer,
        href: `#/neurons?layer=${layer.layer}`,
        cells: COLUMNS.map(({ key, name, show, filter }) => ({
          text: show(layer[key]),
          share: most[key] > 0 ? layer[key] / most[key] : 0,
          href: filter && layer[key] > 0 ? `#/neurons?layer=${layer.layer}&${filter}` : undefined,
          label: `layer ${layer.layer}, ${name}: ${show(layer[key])}`,
        })),
      })),
    }),
    legend('0', 'largest of the column'),
    h(
      'details',
      {},
      h('summary', {}, 'What the columns say'),
      h(
        'dl',
        { class: 'words' },
        COLUMNS.map(({ name, title }) => [h('dt', {}, name), h('dd', {}, title)]),
      ),
    ),
  );
}

function kindsByLayer(atlas) {
  const names = Object.keys(atlas.kinds).sort(
    (a, b) => total(atlas.kinds[b]) - total(atlas.kinds[a]),
  );
  const section = h('section', {}, h('h2', {}, 'Kinds of neurons'));
  if (!names.length)
    section.append(
      h(
        'p',
        { class: 'empty' },
        atlas.findings
          ? 'No neuron of this model stands out.'
          : 'This atlas holds counts only. One that cajal atlas build writes with its tables also says what each neuron is.',
      ),
    );
  else
    section.append(
      heatTable({
        caption: 'Neurons of each kind by layer',
        corner: 'kind',
        columns: [
          ...atlas.layers.map((layer) => ({ name: layer.layer, title: `layer ${layer.layer}` })),
          { name: 'all', title: 'all layers' },
        ],
        rows: names.map((name) => ({
          name,
          href: `#/neurons?kind=${encodeURIComponent(name)}`,
          cells: [
            ...atlas.kinds[name].map((neurons, layer) => ({
              text: neurons ? whole(neurons) : '·',
              share: Math.sqrt(neurons / Math.max(...atlas.kinds[name])),
              href: neurons
                ? `#/neurons?layer=${layer}&kind=${encodeURIComponent(name)}`
                : undefined,
              label: `${name}, layer ${layer}: ${count(neurons, 'neuron')}`,
            })),
            { text: whole(total(atlas.kinds[name])), share: null, label: `${name}, all layers` },
          ],
        })),
      }),
      legend('none', 'most of the row', squareRoot),
      h(
        'details',
        {},
        h('summary', {}, 'What the kinds mean'),
        h(
          'dl',
          { class: 'words' },
          names.map((name) => [h('dt', {}, name), h('dd', {}, kindMeaning(name))]),
        ),
      ),
    );
  return section;
}

const total = (counts) => counts.reduce((sum, n) => sum + n, 0);

function spread(atlas) {
  const place = h('div', {});
  const what = h('p', { class: 'what' });
  const draw = (name) => {
    const { edges, counts } = atlas.spread[name];
    const { what: meaning, edge } = STATISTICS[name];
    what.textContent = `Each row is a layer; a cell is the neurons whose value lies in its range: ${meaning}.`;
    const open = name === 'energy';
    const columns = edges.map((high, bin) => ({
      name:
        bin === 0
          ? '0'
          : open && bin === edges.length - 1
            ? `≥ ${edge(edges[bin - 1])}`
            : `< ${edge(high)}`,
      title:
        bin === 0
          ? 'exactly 0'
          : `from ${edge(edges[bin - 1])}${open && bin === edges.length - 1 ? '' : ` to ${edge(high)}`}`,
    }));
    if (!open) columns[columns.length - 1].name = `≤ ${edge(edges.at(-1))}`;
    const most = Math.max(...counts.map((row, l) => Math.max(...row) / atlas.layers[l].neurons));
    place.replaceChildren(
      heatTable({
        caption: `${STATISTICS[name].name}: neurons by value and layer`,
        corner: 'layer',
        compact: true,
        columns,
        rows: counts.map((row, layer) => ({
          name: layer,
          href: `#/neurons?layer=${layer}&order=${name}&descending=1`,
          cells: row.map((neurons, bin) => ({
            text: neurons ? whole(neurons) : '',
            share: Math.sqrt(neurons / atlas.layers[layer].neurons / most),
            href: neurons
              ? `#/neurons?layer=${layer}&order=${name}&descending=1&${range(name, edges, bin, open)}`
              : undefined,
            label: `layer ${layer}, ${columns[bin].title}: ${count(neurons, 'neuron')}`,
          })),
        })),
      }),
    );
  };
  const choice = h(
    'fieldset',
    { class: 'choice' },
    h('legend', { class: 'unseen' }, 'Statistic'),
    Object.entries(STATISTICS).map(([name, { name: shown }], k) =>
      h(
        'label',
        {},
        h('input', {
          type: 'radio',
          name: 'statistic',
          value: name,
          checked: k === 0,
          onchange: () => draw(name),
        }),
        h('span', {}, shown),
      ),
    ),
  );
  draw('rate');
  return h(
    'section',
    {},
    h('div', { class: 'bar' }, h('h2', {}, 'How the neurons are spread'), choice),
    what,
    place,
    legend('none', 'most neurons of a layer', squareRoot),
  );
}

function range(name, edges, bin, open) {
  if (bin === 0) return `${name}_max=0`;
  const low = bin === 1 ? `${name}_above=0` : `${name}_min=${edges[bin - 1]}`;
  return bin === edges.length - 1 ? low : `${low}&${name}_below=${edges[bin]}`;
}
