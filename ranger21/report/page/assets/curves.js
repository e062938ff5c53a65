// The data embedded in the page, and arithmetic on curves. A curve is {x, y}: arrays of equal length, x ascending.
"use strict";

const DATA = JSON.parse(document.getElementById("data").textContent);
DATA.tabs.forEach(tab => tab.groups.forEach(group =>
  group.runs.forEach(run => { run.group = group; run.decoded = new Map(); })));
DATA.groups = DATA.tabs[0].groups;  // of the tab that is shown

/** Decode the numbers in a string, cached per run. */
function numbers(run, key, text) {
  if (!run.decoded.has(key)) run.decoded.set(key, Float64Array.from(text.split(" "), Number));
  return run.decoded.get(key);
}

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

/** Return all distinct x values of several curves, ascending. */
function union(curves) {
  const all = Float64Array.from(curves.flatMap(curve => Array.from(curve.x))).sort();
  return all.filter((value, i) => i === 0 || value !== all[i - 1]);
}

/**
 * Return the mean, minimum, maximum and sample standard deviation over curves, on the union of their x. The range is
 * limited to where every curve has values, so that the same runs are averaged along the whole line, as by `average` in
 * ranger21/report/figures/curves.py.
 */
function averaged(curves) {
  const first = Math.max(...curves.map(curve => curve.x[0]));
  const last = Math.min(...curves.map(curve => curve.x[curve.x.length - 1]));
  const x = union(curves).filter(value => value >= first && value <= last);
  const columns = curves.map(curve => interpolated(curve.x, curve.y, x));
  const at = i => columns.map(column => column[i]);
  const mean = Array.from(x, (_, i) => at(i).reduce((sum, value) => sum + value, 0) / curves.length);
  const spread = mean.map((m, i) =>
    Math.sqrt(at(i).reduce((sum, value) => sum + (value - m) ** 2, 0) / Math.max(curves.length - 1, 1)));
  return {
    x, y: mean, sd: spread,
    low: mean.map((_, i) => Math.min(...at(i))), high: mean.map((_, i) => Math.max(...at(i))),
  };
}
