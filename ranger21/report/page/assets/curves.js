// The data embedded in the page, and arithmetic on curves. A curve is {x, y}: arrays of equal length, x ascending.
"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);
DATA.tabs.forEach(tab => tab.groups.forEach(group => {
  group.made = new Map();
  group.runs.forEach(run => { run.group = group; run.made = new Map(); });
}));
DATA.groups = DATA.tabs[0].groups;  // of the tab that is shown

/** Return what `make` returns, from the owner's cache if it was made for the same inputs. Of each name, the latest is kept. */
function cached(owner, name, inputs, make) {
  const kept = owner.made.get(name);
  if (kept?.inputs === inputs) return kept.value;
  const value = make();
  owner.made.set(name, { inputs, value });
  return value;
}

/** Decode the numbers in a string. */
const numbers = (run, name, text) => cached(run, name, "", () => Float64Array.from(text.split(" "), Number));

/** Return a run's curve of a metric against an axis; null if the run did not log both. */
function curveOf(run, metric, axis) {
  if (!(metric in run.curves)) return null;
  const [place, values] = run.curves[metric];
  if (!(axis in run.grids[place])) return null;
  return { x: numbers(run, `${place} ${axis}`, run.grids[place][axis]), y: numbers(run, metric, values) };
}

/** Return the debiased exponential moving average: past values weighted by 1, w, w², …, divided by the sum of weights. */
function exponential(values, weight) {
  let sum = 0, weights = 0;
  return values.map(value => {
    sum = weight * sum + value;
    weights = weight * weights + 1;
    return sum / weights;
  });
}

/** Return the centred moving average over 2 half + 1 points; near the ends the window shrinks symmetrically. */
function movingAverage(values, half) {
  return values.map((_, i) => {
    const reach = Math.min(half, i, values.length - 1 - i);
    let sum = 0;
    for (let k = i - reach; k <= i + reach; k++) sum += values[k];
    return sum / (2 * reach + 1);
  });
}

/** The half-width of the moving average's window for a strength from 0 to 1. */
const halfWindow = strength => Math.round(60 * strength);

function smoothed(curve, kind, strength) {
  if (!(strength > 0)) return curve;
  const y = kind === "window" ? movingAverage(curve.y, halfWindow(strength)) : exponential(curve.y, strength);
  return { x: curve.x, y };
}

/** Interpolate y linearly at each point of an ascending grid; null outside the curve. */
function interpolated(x, y, grid) {
  const last = x.length - 1, found = new Array(grid.length).fill(null);
  for (let i = 0, k = 0; i < grid.length; i++) {
    if (grid[i] < x[0] || grid[i] > x[last]) continue;
    while (k < last && x[k + 1] <= grid[i]) k++;
    const exact = k === last || x[k] === grid[i];
    found[i] = exact ? y[k] : y[k] + (y[k + 1] - y[k]) * (grid[i] - x[k]) / (x[k + 1] - x[k]);
  }
  return found;
}

/** Return all distinct values of several ascending arrays, ascending. */
function union(arrays) {
  const all = new Float64Array(arrays.reduce((sum, values) => sum + values.length, 0));
  let place = 0;
  for (const values of arrays) { all.set(values, place); place += values.length; }
  return all.sort().filter((value, i) => i === 0 || value !== all[i - 1]);
}

/** Return the x arrays of curves without those that equal the first. Runs of one recipe are logged at the same steps. */
function distinct([first, ...others]) {
  const differs = ({ x }) => x !== first.x && (x.length !== first.x.length || x.some((value, i) => value !== first.x[i]));
  return [first.x, ...others.filter(differs).map(({ x }) => x)];
}

/**
 * Return the mean, minimum, maximum and sample standard deviation over curves, on the union of their x. The range is
 * limited to where every curve has values, so that the same runs are averaged along the whole line, as by `average` in
 * ranger21/report/figures/curves.py.
 */
function averaged(curves) {
  const first = Math.max(...curves.map(curve => curve.x[0]));
  const last = Math.min(...curves.map(curve => curve.x[curve.x.length - 1]));
  const x = union(distinct(curves)).filter(value => value >= first && value <= last);
  const columns = curves.map(curve => interpolated(curve.x, curve.y, x)), n = columns.length;
  const [mean, sd, low, high] = [0, 0, 0, 0].map(() => new Array(x.length));
  for (let i = 0; i < x.length; i++) {
    let sum = 0, squares = 0;
    low[i] = Infinity; high[i] = -Infinity;
    for (const { [i]: value } of columns) {
      sum += value;
      low[i] = Math.min(low[i], value); high[i] = Math.max(high[i], value);
    }
    mean[i] = sum / n;
    for (const { [i]: value } of columns) squares += (value - mean[i]) ** 2;
    sd[i] = Math.sqrt(squares / Math.max(n - 1, 1));
  }
  return { x, y: mean, sd, low, high };
}
