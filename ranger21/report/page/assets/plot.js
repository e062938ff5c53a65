// The lines of a panel, and their plot by uPlot.

const MOST_POINTS = 12000; // the most points over all lines of a panel; with more, an even grid is used

const darkly = matchMedia("(prefers-color-scheme: dark)");
let printing = false;
const isDark = () => darkly.matches && !printing;
const colourOf = group => isDark() ? group.dark : group.colour;
const markOf = run => DATA.states[run.status].mark;
const token = name => getComputedStyle(document.documentElement).getPropertyValue(name).trim();

// Time is shown in the largest unit of which the longest run has at least two.
const UNITS = [["d", 86400], ["h", 3600], ["min", 60], ["s", 1]];
let TIME_UNIT = "s", SECONDS = 1;

/** Choose the unit of time for the groups that are shown. */
function chooseTimeUnit() {
  const longest = Math.max(0, ...DATA.groups.flatMap(g => g.runs).flatMap(run => run.grids.map((grid, place) =>
    "time" in grid ? numbers(run, `${place} time`, grid.time).at(-1) : 0)));
  [TIME_UNIT, SECONDS] = UNITS.find(([, seconds]) => longest >= 2 * seconds) ?? UNITS.at(-1);
}

const axisTitle = axis => DATA.axes[axis] + (axis === "time" ? ` (${TIME_UNIT})` : "");

/** Return a run's curve in a panel, scaled and smoothed as it is drawn. */
function drawnCurve(run, panel) {
  const curve = curveOf(run, panel.metric, view.x);
  if (!curve) return null;
  const scaled = view.x === "time" ? { x: curve.x.map(value => value / SECONDS), y: curve.y } : curve;
  return panel.smooth ? smoothed(scaled, view.kind, view.smooth) : scaled;
}

/** Return the lines of a panel: per group the mean of its finished runs and each other run, or every run. */
function linesOf(panel) {
  return DATA.groups.flatMap(group => {
    const found = visibleRuns(group).map(run => ({ group, run, n: 1, curve: drawnCurve(run, panel) }))
      .filter(line => line.curve);
    if (view.lines === "runs") return found;
    const finished = found.filter(line => line.run.status === "finished").map(line => line.curve);
    const others = found.filter(line => line.run.status !== "finished");
    const curve = finished.length > 1 ? averaged(finished) : finished[0];
    return curve && curve.x.length ? [{ group, run: null, n: finished.length, curve }, ...others] : others;
  });
}

/** Return the band of a mean curve; null for a single run. A band of percentages ends at 0 and 100. */
function bandOf({ n, curve }, unit) {
  if (n < 2) return null;
  if (view.band === "range") return { low: curve.low, high: curve.high };
  const within = unit === "%" ? value => Math.min(Math.max(value, 0), 100) : value => value;
  return { low: curve.y.map((m, i) => within(m - curve.sd[i])), high: curve.y.map((m, i) => within(m + curve.sd[i])) };
}

/**
 * Return the x values at which all lines of a panel are drawn: their union or, if there are too many, an even grid with
 * at least one point per pixel.
 */
function gridOf(lines, [first, last], pixels) {
  const all = union(lines.map(line => line.curve));
  const from = Math.max(all.findLastIndex(value => value <= first), 0);
  const beyond = all.findIndex(value => value >= last);
  const seen = all.slice(from, beyond < 0 ? all.length : beyond + 1);
  const most = Math.max(Math.round(MOST_POINTS / lines.length), pixels), [start, end] = [seen[0], seen.at(-1)];
  if (seen.length <= most) return Array.from(seen);
  return Array.from({ length: most }, (_, i) => start + (end - start) * i / (most - 1));
}

/** Return the x range of all panels: the zoomed range, or from 0 to the end of the longest visible run. */
function xRange() {
  if (view.zoom) return view.zoom;
  const runs = DATA.groups.flatMap(visibleRuns);
  const ends = runs.flatMap(run => Object.keys(run.curves).map(metric => curveOf(run, metric, view.x)?.x.at(-1) ?? 0));
  const end = Math.max(0, ...ends) / (view.x === "time" ? SECONDS : 1);
  return [0, end || 1];
}

/** Return the y range: all values of the lines, except those of diverged runs. */
function yRange(lines, log, unit) {
  const calm = lines.filter(line => line.run?.status !== "diverged");
  const values = (calm.length ? calm : lines).flatMap(({ y, low, high }) => [y, low ?? [], high ?? []].flat())
    .filter(value => value !== null && (!log || value > 0));
  if (!values.length) return log ? [0.1, 1] : [0, 1];
  let low = Infinity, high = -Infinity;
  for (const value of values) { low = Math.min(low, value); high = Math.max(high, value); }
  if (log) {
    const pad = Math.max((high / low) ** 0.05, 1.01);
    return [low / pad, high * pad];
  }
  const pad = (high - low || Math.abs(high) || 1) * 0.06;
  const bottom = low >= 0 && low - pad < (high - low) * 0.15 ? Math.min(0, low) : low - pad;
  return [bottom, unit === "%" ? Math.min(high + pad, Math.max(100, high)) : high + pad];
}

// Ticks

/** Return about `count` round numbers from low to high, at least `least` apart. */
function evenTicks(low, high, count, least = 0) {
  const raw = Math.max((high - low) / Math.max(count, 1), least), unit = 10 ** Math.floor(Math.log10(raw));
  const step = unit * [1, 2, 5, 10].find(times => unit * times >= raw * 0.999);
  const ticks = [], digits = Math.max(0, -Math.floor(Math.log10(step) + 1e-9));
  for (let k = Math.ceil(low / step - 1e-9); k * step <= high + step * 1e-9; k++)
    ticks.push(digits > 15 ? k * step : Number((k * step).toFixed(digits)));  // without rounding artefacts
  return ticks;
}

/** Return round numbers for a logarithmic axis, enough of them even for less than a decade. */
function logTicks(low, high, count) {
  if (high / low < 4) return evenTicks(low, high, count).filter(value => value > 0);
  const decades = Math.log10(high / low);
  const fine = count > 10 ? [1, 1.2, 1.5, 2, 2.5, 3, 4, 5, 6, 8] : [1, 1.5, 2, 3, 4, 6];
  const digits = decades < 1.3 ? fine : decades < 2 ? [1, 2, 5] : [1];
  const every = digits.length > 1 ? 1 : Math.ceil(decades / count);
  const ticks = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.log10(high); e++)
    if (e % every === 0) digits.forEach(digit => ticks.push(Number(`${digit}e${e}`)));
  return ticks.filter(value => value >= low && value <= high);
}

/** Format ticks: short, but so that no two have the same text. */
function tickTexts(ticks) {
  const short = ticks.map(value => tickText(value));
  return new Set(short).size === ticks.length ? short : ticks.map(value => tickText(value, 15));
}

function tickText(value, digits = 6) {
  const size = Math.abs(value);
  if (size >= 1e15 || (size > 0 && size < 1e-4)) return Number(value.toPrecision(3)).toExponential().replace("e+", "e");
  for (const [unit, letter] of [[1e9, "G"], [1e6, "M"], [1e4, "k"]])
    if (size >= unit) return `${Number((value / (unit === 1e4 ? 1e3 : unit)).toPrecision(digits))} ${letter}`;
  return String(Number(value.toPrecision(digits)));
}

// The plot

/** Create the uPlot of a panel in an element. uPlot draws axes and cursor; draw.js draws the `lines`. */
function makePlot(panel, host, range, onMove) {
  const lines = linesOf(panel), log = isLog(panel);
  const grid = lines.length ? gridOf(lines, range, host.clientWidth) : [0, 1];
  for (const line of lines) {
    const at = values => interpolated(line.curve.x, values, grid), band = bandOf(line, panel.unit);
    Object.assign(line, { y: at(line.curve.y), low: band && at(band.low), high: band && at(band.high) });
  }
  const y = yRange(lines, log, panel.unit);
  if (log) lines.forEach(line => keepPositive(line, y[0] / 1e6));
  const invisible = ({ group }) => ({ stroke: colourOf(group), width: 0, pxAlign: 0, points: { show: false } });
  const plot = new uPlot({ ...options(host, { log, range, y, onMove }), series: [{}, ...lines.map(invisible)] },
    [grid, ...lines.map(line => line.y)], host);
  return Object.assign(plot, { lines, panel, log });
}

/** Replace values that a logarithmic axis cannot show by one far below the axis. */
function keepPositive(line, least) {
  for (const key of ["y", "low", "high"])
    line[key] &&= line[key].map(value => value === null ? null : Math.max(value, least));
}

/** Return uPlot's options, except for the series. */
function options(host, { log, range, y, onMove }) {
  const [ink, rule] = [token("--soft"), token("--rule")];
  const axis = { stroke: ink, font: `11px ${token("--font")}`, ticks: { show: false } };
  const whole = view.x === "step" || view.x === "images_seen" ? 1 : 0;
  const last = tickTexts(evenTicks(...range, host.clientWidth / 52, whole)).at(-1) ?? "";
  const places = (u, a, low, high) => (log ? logTicks : evenTicks)(low, high, u.bbox.height / devicePixelRatio / 30);
  const along = (u, a, low, high) => evenTicks(low, high, u.bbox.width / devicePixelRatio / 52, whole);
  const texts = (u, ticks) => tickTexts(ticks);
  const size = (u, found) => Math.max(34, 14 + Math.ceil(widthOf(found ?? [], axis.font)));
  return {
    width: host.clientWidth, height: host.clientHeight, padding: [8, Math.max(10, widthOf([last], axis.font) / 2 + 2), 0, 0],
    legend: { show: false },
    scales: { x: { time: false, range: () => range }, y: { range: () => y, distr: log ? 3 : 1 } },
    axes: [
      { ...axis, size: 24, gap: 4, grid: { show: false }, label: axisTitle(view.x), labelSize: 16, labelGap: 0,
        labelFont: axis.font, ticks: { show: true, stroke: rule, size: 4, width: 1 },
        border: { show: true, stroke: rule, width: 1 }, splits: along, values: texts },
      { ...axis, size, gap: 6, grid: { stroke: rule, width: 1 }, splits: places, values: texts, filter: (u, s) => s },
    ],
    cursor: {
      sync: { key: "panels", scales: ["x", null], setSeries: false }, y: false,
      drag: { x: true, y: false, setScale: false },
      points: { size: 7 },
      bind: { dblclick: () => () => { change({ zoom: null }); return null; } },
    },
    hooks: { draw: [u => u.lines && drawLines(u)], setSelect: [zoomTo], setCursor: [onMove] },
  };
}

const measure = document.createElement("canvas").getContext("2d");

/** Return the width in pixels of the widest of several texts. */
function widthOf(texts, font) {
  measure.font = font;
  return Math.max(0, ...texts.map(text => measure.measureText(text ?? "").width));
}

/** Zoom all panels to the selected range. */
function zoomTo(u) {
  if (u.select.width < 4) return;
  const ends = [u.select.left, u.select.left + u.select.width].map(place => u.posToVal(place, "x"));
  u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  queueMicrotask(() => change({ zoom: ends }));
}
