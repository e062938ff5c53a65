// The lines of a panel, and their plot by uPlot.

const MOST_POINTS = 12000; // the most x values at which the cursor can stop; with more, it stops at each pixel
const FOLLOWED = 40;       // in a panel with more lines than this, no dots follow the cursor
const ROUNDING = 1e-9;     // values that differ by less than this share of them are the same

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

/** What a drawn curve of a panel depends on, except for its runs. */
const drawing = panel => panel.smooth ? `${view.x} ${view.kind} ${view.smooth}` : view.x;

/** Return a run's curve in a panel, scaled and smoothed as it is drawn; null if the run did not log it. */
function drawnCurve(run, panel) {
  return cached(run, `drawn ${panel.metric}`, drawing(panel), () => {
    const curve = curveOf(run, panel.metric, view.x);
    if (!curve) return null;
    const scaled = view.x === "time" ? { x: curve.x.map(value => value / SECONDS), y: curve.y } : curve;
    return panel.smooth ? smoothed(scaled, view.kind, view.smooth) : scaled;
  });
}

/** Return the lines of a panel: per group the mean of its finished runs and each other run, or every run. */
function linesOf(panel) {
  return DATA.groups.flatMap(group => {
    const found = visibleRuns(group).map(run => ({ group, run, n: 1, curve: drawnCurve(run, panel) }))
      .filter(line => line.curve);
    if (view.lines === "runs") return found;
    const finished = found.filter(line => line.run.status === "finished");
    const others = found.filter(line => line.run.status !== "finished");
    const curve = finished.length > 1 ? meanOf(group, panel, finished) : finished[0]?.curve;
    return curve && curve.x.length ? [{ group, run: null, n: finished.length, curve }, ...others] : others;
  });
}

/** Return the mean curve of some lines of a group. */
function meanOf(group, panel, lines) {
  const inputs = [drawing(panel), ...lines.map(line => line.run.name)].join("\n");
  return cached(group, panel.metric, inputs, () => averaged(lines.map(line => line.curve)));
}

/** Return the band of a mean curve; null for a single run. A band of percentages ends at 0 and 100. */
function bandOf({ n, curve }, unit) {
  if (n < 2) return null;
  if (view.band === "range") return { low: curve.low, high: curve.high };
  const within = unit === "%" ? value => Math.min(Math.max(value, 0), 100) : value => value;
  return { low: curve.y.map((m, i) => within(m - curve.sd[i])), high: curve.y.map((m, i) => within(m + curve.sd[i])) };
}

/** Return the first and the last index of a curve's points in a range of x, with one point more on each side. */
function spanOf({ x }, [first, last]) {
  const beyond = x.findIndex(value => value >= last);
  return [Math.max(x.findLastIndex(value => value <= first), 0), beyond < 0 ? x.length - 1 : beyond];
}

/** Return the x values at which the cursor stops: those of all lines or, if there are too many, one per pixel. */
function gridOf(lines, [first, last], pixels) {
  const found = distinct(lines.map(line => line.curve));
  if (found.reduce((sum, x) => sum + x.length, 0) > MOST_POINTS)
    return Array.from({ length: pixels }, (_, i) => first + (last - first) * i / (pixels - 1));
  const all = union(found), [from, to] = spanOf({ x: all }, [first, last]);
  return Array.from(all.subarray(from, to + 1));
}

/** Return the x range of all panels: the zoomed range, or from 0 to the end of the longest visible run. */
function xRange() {
  if (view.zoom) return view.zoom;
  const ends = DATA.groups.flatMap(visibleRuns).flatMap(run => run.grids.map((grid, place) =>
    view.x in grid ? numbers(run, `${place} ${view.x}`, grid[view.x]).at(-1) : 0));
  const end = Math.max(0, ...ends) / (view.x === "time" ? SECONDS : 1);
  return [0, end || 1];
}

/** Return the y range: all values of the lines that are seen, with their bands, except those of diverged runs. */
function yRange(lines, log, unit) {
  const calm = lines.filter(line => line.run?.status !== "diverged");
  let low = Infinity, high = -Infinity;
  for (const { curve, band, span: [from, to] } of calm.length ? calm : lines)
    for (const values of band ? [curve.y, band.low, band.high] : [curve.y])
      for (let i = from; i <= to; i++) {
        if (log && values[i] <= 0) continue;
        low = Math.min(low, values[i]); high = Math.max(high, values[i]);
      }
  if (low > high) return log ? [0.1, 1] : [0, 1];
  if (log) {
    const pad = Math.max((high / low) ** 0.05, 1.01);
    return [low / pad, high * pad];
  }
  const span = high - low > ROUNDING * Math.abs(high) ? high - low : Math.abs(high) || 1;
  const pad = span * 0.06;
  const bottom = low >= 0 && low - pad < (high - low) * 0.15 ? Math.min(0, low) : low - pad;
  return [bottom, unit === "%" ? Math.min(high + pad, Math.max(100, high)) : high + pad];
}

// The plot

/** Create the uPlot of a panel in an element. uPlot draws axes and cursor; draw.js draws the `lines`. */
function makePlot(panel, host, range, onMove) {
  const lines = linesOf(panel), log = isLog(panel);
  const grid = lines.length ? gridOf(lines, range, host.clientWidth) : [0, 1];
  for (const line of lines) Object.assign(line, { span: spanOf(line.curve, range), band: bandOf(line, panel.unit) });
  const y = yRange(lines, log, panel.unit), followed = lines.length <= FOLLOWED ? lines : [];
  const invisible = ({ group }) => ({ stroke: colourOf(group), width: 0, pxAlign: 0, paths: () => null, points: { show: false } });
  const at = ({ curve }) => interpolated(curve.x, log ? curve.y.map(value => Math.max(value, y[0] / 1e6)) : curve.y, grid);
  const plot = new uPlot({ ...options(host, { log, range, y, onMove }), series: [{}, ...followed.map(invisible)] },
    [grid, ...followed.map(at)], host);
  return Object.assign(plot, { lines, panel, log });
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
      { ...axis, scale: "y", size, gap: 6, grid: { stroke: rule, width: 1 }, splits: places, values: texts, filter: (u, s) => s },
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

/** Zoom all panels to the range selected in one of them; the others follow its pointer, without events of their own. */
function zoomTo(u) {
  if (u.select.width < 4 || !u.cursor.event) return;
  const ends = [u.select.left, u.select.left + u.select.width].map(place => u.posToVal(place, "x"));
  u.setSelect({ left: 0, width: 0, top: 0, height: 0 }, false);
  queueMicrotask(() => change({ zoom: ends }));
}
