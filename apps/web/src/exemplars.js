// Where a neuron was strongest, and what it does on a text of one's own.
import { send } from './api.js';
import { debounced, h, say } from './dom.js';
import { figure, visible } from './format.js';
import { largest, lit, litLegend } from './lit.js';

/** Where a neuron was strongest; with the model at hand its tokens are lit. */
export function exemplars(one, atlas, signal) {
  const most = largest([one.exemplars.map(({ activation }) => activation)]);
  const section = h('section', {}, h('h2', {}, 'Strongest at'));
  if (!one.exemplars.length) {
    section.append(h('p', { class: 'empty' }, 'It answered nothing anywhere in the text.'));
    return section;
  }
  const texts = one.exemplars.map(({ before, word, after }) =>
    h(
      'span',
      { class: 'lit' },
      visible(before.trimStart()),
      word.startsWith(' ') ? ' ' : '',
      h('mark', { class: 'only' }, visible(word.trimStart())),
      visible(after),
    ),
  );
  const note = h('p', { class: 'what' }, 'The framed token is where it was that strong.');
  section.append(
    h(
      'ol',
      { class: 'exemplars' },
      one.exemplars.map((peak, k) =>
        h(
          'li',
          {},
          h(
            'span',
            { class: 'much' },
            h('b', {}, figure(peak.activation)),
            h(
              'span',
              { class: 'share' },
              h('i', { style: { width: `${(100 * Math.abs(peak.activation)) / most}%` } }),
            ),
          ),
          h('div', {}, texts[k]),
        ),
      ),
    ),
    note,
  );
  if (atlas.live && one.exemplars.some(({ word }) => word)) lightUp(one, texts, note, signal);
  return section;
}

// With the model at hand, every token of an exemplar is lit by the activation there.
async function lightUp(one, texts, note, signal) {
  try {
    const sources = one.exemplars.map(({ before, word, after }) => before + word + after);
    const { texts: read } = await send(
      'follow',
      { texts: sources, layer: one.layer, neuron: one.neuron },
      signal,
    );
    const most = largest(read.map(({ activations }) => activations));
    read.forEach(({ tokens: words, activations }, k) => {
      const { before, word } = one.exemplars[k];
      texts[k].replaceWith(lit(words, activations, most, indexAt(words, before.length, word)));
    });
    note.replaceWith(
      h(
        'div',
        {},
        h(
          'p',
          { class: 'what' },
          'Colours: its activation when the model reads these words alone; framed: the token at which it was strongest, and the figure it had in the whole text.',
        ),
        litLegend(read),
      ),
    );
  } catch (error) {
    if (error.name !== 'AbortError')
      note.textContent = `The words could not be lit: ${error.message}`;
  }
}

// The token that begins at a character, or holds it.
function indexAt(words, place, word) {
  let at = 0;
  for (let k = 0; k < words.length; ++k) {
    if (at >= place && words[k] === word) return k;
    if (at + words[k].length > place) return k;
    at += words[k].length;
  }
  return -1;
}

/** A box in which a text shows where the neuron fires. */
export function tryText(one, signal) {
  const output = h(
    'div',
    { class: 'tried' },
    h('p', { class: 'what' }, 'Its activation at each token appears here.'),
  );
  const read = debounced(200, async (text) => {
    if (!text.trim()) return;
    try {
      const { texts } = await send(
        'follow',
        { texts: [text], layer: one.layer, neuron: one.neuron },
        signal,
      );
      const most = largest([texts[0].activations]);
      output.replaceChildren(
        h('p', { class: 'tried' }, lit(texts[0].tokens, texts[0].activations, most)),
        litLegend(texts),
      );
      say(`strongest activation ${figure(most)}`);
    } catch (error) {
      if (error.name !== 'AbortError')
        output.replaceChildren(h('p', { class: 'notice', role: 'alert' }, error.message));
    }
  });
  return h(
    'section',
    {},
    h('h2', {}, h('label', { for: 'try' }, 'Try your own text')),
    h('textarea', {
      id: 'try',
      rows: 2,
      maxlength: 1000,
      spellcheck: 'false',
      placeholder: 'Type, and see where it fires …',
      oninput: (event) => read(event.target.value),
    }),
    output,
  );
}
