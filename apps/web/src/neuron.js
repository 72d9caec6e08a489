// One neuron: what it is, where it was strongest, what it writes, how its input is shaped, and who resembles it.
import { ask } from './api.js';
import { histogram, line } from './charts.js';
import { h } from './dom.js';
import { exemplars, tryText } from './exemplars.js';
import {
  count,
  figure,
  kindMeaning,
  kinds,
  neuronLink,
  percent,
  placeOf,
  times,
  token,
  tokens,
  whole,
} from './format.js';

export async function neuron(draw, _, signal, [layer, index]) {
  const [one, atlas] = await Promise.all([
    ask('neuron', { layer, neuron: index }, signal),
    ask('overview', {}, signal),
  ]);
  const step = (to, text, name) =>
    to >= 0 && to < one.neurons
      ? h(
          'a',
          {
            class: 'button',
            href: neuronLink(one.layer, to),
            'aria-label': `${name} neuron, ${placeOf(one.layer, to)}`,
          },
          text,
        )
      : h('span', { class: 'button off', 'aria-hidden': 'true' }, text);
  draw(
    h(
      'div',
      { class: 'title' },
      h(
        'nav',
        { class: 'crumbs', 'aria-label': 'Place' },
        h('a', { href: '#/' }, atlas.model),
        ' › ',
        h('a', { href: `#/neurons?layer=${one.layer}` }, `layer ${one.layer}`),
      ),
      h(
        'div',
        { class: 'bar' },
        h('h1', {}, 'Neuron ', h('span', { class: 'place' }, placeOf(one.layer, one.neuron))),
        h(
          'span',
          { class: 'steps' },
          step(one.neuron - 1, '‹', 'Previous'),
          step(one.neuron + 1, '›', 'Next'),
        ),
      ),
      one.kinds.length ? h('p', { class: 'kinds' }, kinds(one.kinds)) : null,
      h('p', { class: 'facts' }, summary(one)),
    ),
    h(
      'div',
      { class: 'columns' },
      h(
        'div',
        {},
        exemplars(one, atlas, signal),
        atlas.live ? tryText(one, signal) : null,
        positions(one),
      ),
      h('div', {}, writes(one), figures(one), findings(one), shape(one), matches(one, atlas)),
    ),
  );
  return `Neuron ${placeOf(one.layer, one.neuron)}`;
}

function summary(one) {
  if (one.dead)
    return `It never fired at ${whole(one.tokens)} tokens: with 95 % confidence it fires at less than ${percent(3 / one.tokens)} of such text.`;
  return `Fires at ${percent(one.rate)} of ${whole(one.tokens)} tokens and writes ${times(one.energy_ratio)} the mean output energy of its layer (place ${whole(one.rank.energy)} of ${whole(one.neurons)}).`;
}

function writes(one) {
  if (!one.promoted?.length) return null;
  const list = (name, words, what) =>
    h(
      'div',
      {},
      h('h3', {}, name),
      h(
        'p',
        { class: 'tokens' },
        words.map((word) => [
          h(
            'a',
            {
              href: `#/neurons?word=${encodeURIComponent(word.trim() || word)}&role=${what}`,
              'aria-label': `neurons with ${word}`,
            },
            token(word),
          ),
          ' ',
        ]),
      ),
    );
  return h(
    'section',
    {},
    h('h2', {}, 'What it writes'),
    h(
      'p',
      { class: 'what' },
      'Tokens whose logit its value row raises and lowers most; for a negative activation the two change places.',
    ),
    h(
      'div',
      { class: 'two' },
      list('Raises', one.promoted, 'promoted'),
      list('Lowers', one.lowered, 'lowered'),
    ),
  );
}

function figures(one) {
  const rows = [
    ['Fires', percent(one.rate), `${count(one.fired, 'token')}; rank ${whole(one.rank.rate)}`],
    ['Silent', percent(one.zero / Math.max(1, one.tokens)), 'activation exactly 0'],
    ['Hits', percent(one.hits), `in the strongest tenth; rank ${whole(one.rank.hits)}`],
    [
      'Output energy',
      times(one.energy_ratio),
      `of the layer’s mean; rank ${whole(one.rank.energy)}`,
    ],
    ['Output norm', figure(one.mean_norm), 'mean'],
    ['Activation', figure(one.mean), `mean; peak ${figure(one.peak)}`],
    [
      'Lengths',
      figure(one.key_norm),
      `key${one.gated ? ' × gate' : ''}; value ${figure(one.value_norm)}`,
    ],
  ];
  if (one.input)
    rows.push([
      'Input',
      figure(one.input.mean),
      `mean; deviation ${figure(Math.sqrt(one.input.variance))}, skew ${figure(one.input.skew)}, kurtosis ${figure(one.input.kurtosis)}`,
    ]);
  return h(
    'section',
    {},
    h('h2', {}, 'Figures'),
    h(
      'table',
      { class: 'figures' },
      h('caption', { class: 'unseen' }, 'Figures of this neuron'),
      h(
        'tbody',
        {},
        rows.map(([name, value, more]) =>
          h(
            'tr',
            {},
            h('th', { scope: 'row' }, name),
            h('td', { class: 'number' }, value),
            h('td', { class: 'more' }, more),
          ),
        ),
      ),
    ),
  );
}

function findings(one) {
  const found = one.found;
  if (!found) return null;
  const items = one.kinds.map((kind) => [kind, kindMeaning(kind)]);
  if (found.trigger_order > 0) {
    const what =
      found.trigger_order === 1 ? 'Trigger tokens' : `Trigger ${found.trigger_order}-grams`;
    items.push([
      what,
      [
        tokens(found.triggers),
        ` cover ${percent(found.covered)} of its firings`,
        found.selectivity >= 0 ? `; it fires at ${percent(found.selectivity)} of them` : '',
        found.suppressed >= 0
          ? `; it lowers the logit of ${percent(found.suppressed)} of them`
          : '',
        '.',
      ],
    ]);
  } else if (found.rare) items.push(['Triggers', 'it fired too seldom to tell']);
  if (found.position !== 'none')
    items.push([
      'Position',
      `${found.position}; firing tells ${figure(found.information)} nats about the position`,
    ]);
  items.push([
    'Cosines with tokens',
    `kurtosis ${figure(found.cosine_kurtosis)}, skew ${figure(found.cosine_skew)}`,
  ]);
  items.push(['Unseen by the logits', `${percent(found.null_share)} of its value row`]);
  if (found.effect >= 0)
    items.push([
      'Ablation',
      `changes the loss by ${figure(found.effect)}: ${percent(found.norm_share)} through the final norm, ${percent(found.unigram_share)} along the token frequencies`,
    ]);
  return h(
    'section',
    {},
    h('h2', {}, 'What was found'),
    h(
      'dl',
      { class: 'words' },
      items.map(([name, text]) => [h('dt', {}, name), h('dd', {}, text)]),
    ),
  );
}

function shape(one) {
  if (!one.histogram?.length)
    return h(
      'section',
      {},
      h('h2', {}, 'Shape of its input'),
      h('p', { class: 'empty' }, 'This atlas was built without tables.'),
    );
  const middle = 64,
    perOctave = 4;
  const bars = one.histogram.map(([at, centre, n]) => ({
    at,
    value: n / one.tokens,
    label: figure(centre),
    shown: percent(n / one.tokens),
  }));
  const ticks = [];
  for (let k = -6; k <= 8; k += 2)
    ticks.push(
      { at: middle - (k + 8) * perOctave - 1, text: `−${power(k)}` },
      { at: middle + (k + 8) * perOctave + 1, text: power(k) },
    );
  ticks.push({ at: middle, text: '0' });
  ticks.reverse(); // the first come first: 0, then the large
  return h(
    'section',
    {},
    h('h2', {}, 'Shape of its input'),
    h(
      'p',
      { class: 'what' },
      `How often the input to ${one.gated ? 'its gate’s' : 'the'} law fell in each bin; bins widen with the size. Above 0 it fires.`,
    ),
    histogram({
      caption: 'Histogram of the input to the law',
      columns: ['input', 'share of tokens'],
      bars,
      ticks,
      zero: middle,
      x: 'input to the law',
      y: '%',
    }),
  );
}

const power = (k) => (k >= 0 ? String(2 ** k) : `1/${2 ** -k}`);

function positions(one) {
  if (!one.positions) return null;
  const { width, rates } = one.positions;
  const points = rates.map((y, k) => ({
    x: k * width,
    end: (k + 1) * width,
    y,
    label: width === 1 ? `position ${k}` : `positions ${k * width} to ${(k + 1) * width - 1}`,
    shown: percent(y),
  }));
  return h(
    'section',
    {},
    h('h2', {}, 'Where in the window it fires'),
    h('p', { class: 'what' }, 'Share of tokens at which it fires, by position.'),
    line({
      caption: 'Firing rate by position',
      columns: ['position', 'fires'],
      points,
      x: 'position in the window',
      y: '%',
    }),
  );
}

function matches(one, atlas) {
  if (!one.matches.length)
    return h(
      'section',
      {},
      h('h2', {}, 'In other models'),
      h(
        'p',
        { class: 'empty' },
        atlas.compared_with.length
          ? 'No match was kept.'
          : [
              'This atlas was not compared with other models; ',
              h('code', {}, 'cajal atlas match A.db MODEL --with OTHER --text F'),
              ' does that.',
            ],
      ),
    );
  return h(
    'section',
    {},
    h('h2', {}, 'In other models'),
    h(
      'p',
      { class: 'what' },
      'The neuron elsewhere whose activations follow this one’s most closely, and how close the best would be by chance (in a turned basis).',
    ),
    h(
      'div',
      { class: 'scroll', tabindex: '0', role: 'region', 'aria-label': 'Matches' },
      h(
        'table',
        { class: 'plain' },
        h(
          'thead',
          {},
          h(
            'tr',
            {},
            ['model', 'neuron', 'correlation', 'by chance', 'excess'].map((name, k) =>
              h('th', { scope: 'col', class: k > 1 ? 'number' : null }, name),
            ),
          ),
        ),
        h(
          'tbody',
          {},
          one.matches.map((match) =>
            h(
              'tr',
              {},
              h('th', { scope: 'row' }, match.model),
              h('td', {}, placeOf(match.layer, match.neuron)),
              h('td', { class: 'number' }, figure(match.rho)),
              h('td', { class: 'number' }, figure(match.turned)),
              h('td', { class: 'number' }, figure(match.rho - match.turned)),
            ),
          ),
        ),
      ),
    ),
  );
}
