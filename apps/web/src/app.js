// The frame of the pages: which view the address asks for, its loading and its errors.
import { ask } from './api.js';
import { h, say } from './dom.js';
import { live } from './live.js';
import { neuron } from './neuron.js';
import { neurons } from './neurons.js';
import { overview } from './overview.js';

const VIEWS = [
  [/^\/?$/, overview, 'overview'],
  [/^\/neurons$/, neurons, 'neurons'],
  [/^\/neuron\/(\d{1,9})\/(\d{1,12})$/, neuron, 'neurons'],
  [/^\/live$/, live, 'live'],
];
const main = document.getElementById('main');
let leaving = new AbortController();
let first = true;

async function show() {
  leaving.abort();
  leaving = new AbortController();
  const { signal } = leaving;
  const [path, words = ''] = location.hash.slice(1).split('?');
  const [pattern, view, tab] = VIEWS.find(([one]) => one.test(path)) ?? [/^/, missing, ''];
  for (const link of document.querySelectorAll('header nav a'))
    link.dataset.view === tab
      ? link.setAttribute('aria-current', 'page')
      : link.removeAttribute('aria-current');
  // A view that comes at once must not flash.
  const slow = setTimeout(
    () => main.replaceChildren(h('p', { class: 'loading' }, 'Loading …')),
    300,
  );
  const draw = (...parts) => {
    if (signal.aborted) return;
    clearTimeout(slow);
    main.replaceChildren(...parts.filter(Boolean));
  };
  main.setAttribute('aria-busy', 'true');
  try {
    const title = await view(
      draw,
      new URLSearchParams(words),
      signal,
      path.match(pattern).slice(1),
    );
    document.title = `${title} · cajal`;
    if (!first) {
      scrollTo(0, 0);
      main.focus({ preventScroll: true });
      say(title);
    }
    first = false;
  } catch (error) {
    if (error.name === 'AbortError') return;
    main.replaceChildren(
      h(
        'div',
        { class: 'empty', role: 'alert' },
        h('h1', {}, 'That did not work'),
        h('p', {}, error.message),
        h('a', { class: 'button', href: '#/' }, 'To the overview'),
      ),
    );
  } finally {
    clearTimeout(slow);
    if (!signal.aborted) main.removeAttribute('aria-busy');
  }
}

async function missing() {
  throw new Error('There is no such page.');
}

document.querySelector('.jump').addEventListener('submit', (event) => {
  event.preventDefault();
  const text = event.target.elements.jump.value.trim();
  event.target.reset();
  const place = text.match(/^(?:L|layer\s*)?(\d+)\s*[.:/ ]\s*(\d+)$/i);
  if (place) location.hash = `/neuron/${place[1]}/${place[2]}`;
  else if (text) location.hash = `/neurons?word=${encodeURIComponent(text)}`;
});
document.addEventListener('keydown', (event) => {
  if (
    event.key !== '/' ||
    event.ctrlKey ||
    event.metaKey ||
    event.altKey ||
    event.target.closest('input, textarea, select')
  )
    return;
  document.getElementById('jump').focus();
  event.preventDefault();
});
document.querySelector('.skip').addEventListener('click', (event) => {
  event.preventDefault();
  main.focus();
});
addEventListener('hashchange', show);
show();
ask('overview')
  .then(({ file, version }) =>
    document.getElementById('about').replaceChildren(h('code', {}, file), ` · cajal ${version}`),
  )
  .catch(() => {});
