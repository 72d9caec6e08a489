// Charts drawn with D3; stands in for charts.js when the pages are built. Each carries its figures as a table.
import { bisectCenter, max } from 'd3-array';
import { axisBottom, axisLeft } from 'd3-axis';
import { scaleBand, scaleLinear } from 'd3-scale';
import { select } from 'd3-selection';
import { area, curveStepAfter } from 'd3-shape';
import { h, svg } from './dom.js';
import { pointTable } from './points.js';

const WIDTH = 560,
  HEIGHT = 200,
  LEFT = 44,
  RIGHT = 8,
  TOP = 10,
  BOTTOM = 36;

/** Bars of bins that lie side by side; ticks name a few of them. */
export function histogram({ caption, columns, bars, ticks, x, y, zero }) {
  const first = bars[0].at,
    last = bars.at(-1).at;
  const across = scaleBand()
    .domain(Array.from({ length: last - first + 1 }, (_, k) => first + k))
    .range([LEFT, WIDTH - RIGHT])
    .paddingInner(0.12);
  const up = scaleLinear()
    .domain([0, max(bars, (bar) => bar.value)])
    .nice(4)
    .range([HEIGHT - BOTTOM, TOP]);
  const root = frame(caption);
  grid(root, up, y);
  select(root)
    .append('g')
    .selectAll('rect')
    .data(bars)
    .join('rect')
    .attr('class', (bar) => (zero !== undefined && bar.at > zero ? 'over' : 'under'))
    .attr('x', (bar) => across(bar.at))
    .attr('width', across.bandwidth())
    .attr('y', (bar) => up(bar.value))
    .attr('height', (bar) => up(0) - up(bar.value));
  const marks = ticks.filter(({ at }) => at >= first && at <= last);
  const foot = select(root)
    .append('g')
    .attr('class', 'axis')
    .attr('transform', `translate(0,${HEIGHT - BOTTOM})`);
  foot.call(
    axisBottom(across)
      .tickValues(thin(marks, across).map(({ at }) => at))
      .tickFormat((at) => marks.find((mark) => mark.at === at).text)
      .tickSize(4),
  );
  name(root, x);
  follow(
    root,
    bars.map((bar) => across(bar.at) + across.bandwidth() / 2),
    bars.map((bar) => `${bar.label}: ${bar.shown}`),
  );
  return withTable(
    root,
    caption,
    columns,
    bars.map(({ label, shown }) => [label, shown]),
  );
}

/** A stepped line over positions. */
export function line({ caption, columns, points, x, y }) {
  const across = scaleLinear()
    .domain([points[0].x, points.at(-1).end])
    .range([LEFT, WIDTH - RIGHT]);
  const up = scaleLinear()
    .domain([0, max(points, (point) => point.y) || 1])
    .nice(4)
    .range([HEIGHT - BOTTOM, TOP]);
  const root = frame(caption);
  grid(root, up, y);
  const steps = [...points, { x: points.at(-1).end, y: points.at(-1).y }];
  const shape = area()
    .curve(curveStepAfter)
    .x((point) => across(point.x))
    .y1((point) => up(point.y))
    .y0(up(0));
  root.append(
    svg('path', { class: 'area', d: shape(steps) }),
    svg('path', { class: 'line', d: shape.lineY1()(steps) }),
  );
  select(root)
    .append('g')
    .attr('class', 'axis')
    .attr('transform', `translate(0,${HEIGHT - BOTTOM})`)
    .call(axisBottom(across).ticks(6).tickSize(4));
  name(root, x);
  follow(
    root,
    points.map((point) => across((point.x + point.end) / 2)),
    points.map((point) => `${point.label}: ${point.shown}`),
  );
  return withTable(
    root,
    caption,
    columns,
    points.map(({ label, shown }) => [label, shown]),
  );
}

const frame = (caption) =>
  svg('svg', {
    class: 'chart',
    viewBox: `0 0 ${WIDTH} ${HEIGHT}`,
    role: 'img',
    'aria-label': caption,
  });

function grid(root, up, y) {
  const axis = select(root)
    .append('g')
    .attr('class', 'axis grid')
    .attr('transform', `translate(${LEFT},0)`);
  axis.call(
    axisLeft(up)
      .ticks(4, y)
      .tickSize(-(WIDTH - LEFT - RIGHT)),
  );
}

const name = (root, text) =>
  root.append(
    svg(
      'text',
      { class: 'name', x: (LEFT + WIDTH - RIGHT) / 2, y: HEIGHT - 4, 'text-anchor': 'middle' },
      text,
    ),
  );

// Ticks that would touch one before them in the list are left out.
function thin(marks, across) {
  const out = [];
  for (const mark of marks)
    if (out.every((other) => Math.abs(across(mark.at) - across(other.at)) > 42)) out.push(mark);
  return out;
}

// The pointer reads values: the nearest one stands at the top.
function follow(root, places, texts) {
  const rule = svg('line', { class: 'rule', y1: TOP, y2: HEIGHT - BOTTOM, visibility: 'hidden' });
  const said = svg('text', { class: 'said', y: TOP + 8, visibility: 'hidden' });
  root.append(rule, said);
  const show = (seen) =>
    [rule, said].forEach((one) => one.setAttribute('visibility', seen ? 'visible' : 'hidden'));
  root.addEventListener('pointermove', (event) => {
    const box = root.getBoundingClientRect();
    const k = bisectCenter(places, ((event.clientX - box.left) / box.width) * WIDTH);
    rule.setAttribute('x1', places[k]);
    rule.setAttribute('x2', places[k]);
    said.textContent = texts[k];
    const right = places[k] > WIDTH / 2;
    said.setAttribute('x', places[k] + (right ? -6 : 6));
    said.setAttribute('text-anchor', right ? 'end' : 'start');
    show(true);
  });
  root.addEventListener('pointerleave', () => show(false));
}

const withTable = (root, caption, columns, rows) =>
  h(
    'figure',
    {},
    root,
    h('details', {}, h('summary', {}, 'As a table'), pointTable(caption, columns, rows)),
  );
