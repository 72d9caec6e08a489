// Charts in their plain form, tables of figures; the built pages put drawings before them.
import { pointTable } from './points.js';

/** bars: {at, label, value, shown}. */
export const histogram = ({ caption, columns, bars }) =>
  pointTable(
    caption,
    columns,
    bars.map(({ label, shown }) => [label, shown]),
  );

/** points: {x, y, shown}. */
export const line = ({ caption, columns, points }) =>
  pointTable(
    caption,
    columns,
    points.map(({ x, shown }) => [x, shown]),
  );
