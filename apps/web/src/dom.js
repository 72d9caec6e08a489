// Elements from plain data. Text only ever becomes text nodes: nothing of an atlas is read as HTML.

/** An element with attributes (on*: listeners; style: CSS properties) and children (nodes, text, null). */
export function h(name, attributes = {}, ...children) {
  return fill(document.createElement(name), attributes, children);
}

export function svg(name, attributes = {}, ...children) {
  return fill(document.createElementNS('http://www.w3.org/2000/svg', name), attributes, children);
}

function fill(element, attributes, children) {
  for (const [key, value] of Object.entries(attributes)) {
    if (value === null || value === undefined || value === false) continue;
    if (key.startsWith('on')) element.addEventListener(key.slice(2), value);
    else if (key === 'style')
      for (const [name, of] of Object.entries(value)) element.style.setProperty(name, of);
    else element.setAttribute(key, value === true ? '' : value);
  }
  element.append(
    ...children
      .flat(Infinity)
      .filter((child) => child !== null && child !== undefined && child !== false),
  );
  return element;
}

/** Tells those who listen to the page. */
export function say(text) {
  document.getElementById('said').textContent = text;
}

/** Calls `action` once nothing has called it for a while. */
export function debounced(milliseconds, action) {
  let timer;
  return (...given) => {
    clearTimeout(timer);
    timer = setTimeout(() => action(...given), milliseconds);
  };
}

/** Of all links or buttons in `container` one can be tabbed to; arrow keys move between them by row and column. */
export function arrows(container, selector) {
  const rows = () =>
    [...container.querySelectorAll('tr')]
      .map((row) => [...row.querySelectorAll(selector)])
      .filter((row) => row.length);
  const all = [...container.querySelectorAll(selector)];
  all.forEach((one, k) => one.setAttribute('tabindex', k === 0 ? '0' : '-1'));
  container.addEventListener('focusin', (event) => {
    if (!event.target.matches(selector)) return;
    for (const one of container.querySelectorAll(selector))
      one.setAttribute('tabindex', one === event.target ? '0' : '-1');
  });
  container.addEventListener('keydown', (event) => {
    const steps = {
      ArrowLeft: [0, -1],
      ArrowRight: [0, 1],
      ArrowUp: [-1, 0],
      ArrowDown: [1, 0],
      Home: [0, -Infinity],
      End: [0, Infinity],
    };
    const step = steps[event.key];
    const grid = rows();
    const y = grid.findIndex((row) => row.includes(document.activeElement));
    if (!step || y < 0) return;
    const x = grid[y].indexOf(document.activeElement);
    const row = grid[Math.min(grid.length - 1, Math.max(0, y + step[0]))];
    row[Math.min(row.length - 1, Math.max(0, x + step[1]))].focus();
    event.preventDefault();
  });
}
