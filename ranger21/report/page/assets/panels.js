// The panels: built once; their plots are redrawn whenever the view changes.

const panels = [];         // {panel, host, figure, plot, seen: near the visible area, stale: plot is out of date}
let hovered = null;        // the panel under the pointer, or with keyboard focus
let emphasised = null;     // the group that is highlighted, because the pointer is on it in the list

/** Return the up-to-date plot of a metric, for the console and for tests. */
function plotted(metric) {
  const entry = panels.find(({ panel }) => panel.metric === metric);
  if (entry.stale) drawPanel(entry);
  return entry.plot;
}

function buildPanels() {
  const place = document.getElementById("panels");
  panels.splice(0).forEach(({ host, plot }) => { plot?.destroy(); near.unobserve(host); sizes.unobserve(host); });
  place.replaceChildren();
  const logged = new Set(DATA.groups.flatMap(group => group.runs.flatMap(run => Object.keys(run.curves))));
  const shown = DATA.panels.filter(panel => logged.has(panel.metric));
  shown.forEach((panel, i) => {
    const first = panel.section !== shown[i - 1]?.section;
    place.append(buildPanel(panel, h(first ? "h2" : "p", { class: "section" }, first ? panel.section : "")));
  });
  if (!shown.length) place.append(h("p", { class: "note" }, "Nothing has been logged yet."));
}

/** Build a panel's frame: the section's heading if it is the first of its section, the title, the log switch, the plot's element. */
function buildPanel(panel, section) {
  const title = h("button", { type: "button", class: "title", click: () => { toggle(view.wide, panel.metric); change(); } },
    panel.title, h("span", { class: "unit" }, panel.unit && `\u00a0${panel.unit}`));
  const scale = h("button", { type: "button", class: "scale", "aria-label": `Logarithmic y axis of ${panel.title}`,
    click: () => { view.scale.set(panel.metric, isLog(panel) ? "linear" : "log"); change(); } }, "log");
  const host = h("div", { class: "plot", tabindex: "0", role: "img" });
  const figure = h("figure", { "data-metric": panel.metric }, section, h("figcaption", {}, title, scale), host);
  const entry = { panel, figure, host, title, scale, plot: null, seen: false, stale: true };
  const enter = () => { hovered = entry; };
  const leave = event => { if (event.pointerType !== "touch") { hovered = null; hideTooltip(); } };
  for (const [event, act] of Object.entries({ pointerenter: enter, focus: enter, pointerleave: leave, blur: leave }))
    host.addEventListener(event, act);
  host.addEventListener("keydown", event => moveCursor(event, entry));
  host.addEventListener("pointerup", event => { if (event.pointerType === "touch") tapped(event, entry); });
  panels.push(entry);
  near.observe(host);
  sizes.observe(host);
  return figure;
}

/** Draw a panel for the current view, unless nothing that it shows has changed. */
function drawPanel(entry, range = xRange()) {
  const { panel, figure, host, title, scale } = entry, log = isLog(panel);
  title.setAttribute("aria-expanded", view.wide.has(panel.metric));
  scale.setAttribute("aria-pressed", log);
  entry.stale = false;
  const shown = DATA.groups.map(group => visibleRuns(group).map(run => run.name));
  const inputs = JSON.stringify([drawing(panel), view.lines, view.band, range, log, isDark(), printing, shown]);
  if (entry.plot && entry.inputs === inputs) return;
  entry.inputs = inputs;
  entry.plot?.destroy();
  entry.plot = makePlot(panel, host, range, plot => { if (hovered?.plot === plot) showTooltip(plot); });
  const { lines } = entry.plot, ends = lines.slice(0, MOST_ROWS).map(line =>
    `${lineName(line)}: ${valueTexts([line.curve.y.at(-1)], panel.unit)[0]}`);
  if (lines.length > MOST_ROWS) ends.push(`and ${lines.length - MOST_ROWS} more`);
  host.setAttribute("aria-label", `${panel.title} against ${axisTitle(view.x)}. Last values: ${ends.join("; ")}`);
  figure.classList.toggle("empty", !lines.length);
}

/** Draw the panels near the visible area in the next frame, once for all changes until then; the others when they come near it. */
function drawPanels() {
  hideTooltip();
  if (emphasised && !isVisible(emphasised)) emphasised = null;
  for (const entry of panels) {
    entry.stale = true;
    entry.figure.classList.toggle("wide", view.wide.has(entry.panel.metric));
  }
  if (printing) drawStale(); else nextFrame(drawStale);
}

function drawStale() {
  const range = xRange();
  for (const entry of panels) if (entry.stale && (entry.seen || printing)) drawPanel(entry, range);
}

const waiting = new Set();

/** Call a function in the next frame, once. */
function nextFrame(act) {
  if (waiting.has(act)) return;
  waiting.add(act);
  requestAnimationFrame(() => { waiting.delete(act); act(); });
}

/** Show the values where the reader has tapped; a tap elsewhere hides them. */
function tapped(event, entry) {
  const { left, top } = entry.plot.over.getBoundingClientRect();
  hovered = entry;
  setTimeout(() => {  // after the events of a mouse that browsers make up for a tap
    hovered = entry;
    entry.plot.setCursor({ left: event.clientX - left, top: event.clientY - top });
    showTooltip(entry.plot);
  });
}

addEventListener("pointerdown", event => {
  if (event.pointerType === "touch" && !event.target.closest?.(".plot")) { hovered = null; hideTooltip(); }
});

/** Highlight one group by fading all others; null restores all. */
function emphasise(group) {
  const now = group && isVisible(group) ? group : null;
  if (now === emphasised) return;
  emphasised = now;
  nextFrame(drawEmphasis);
}

function drawEmphasis() {
  panels.filter(entry => entry.plot && !entry.stale).forEach(entry => entry.plot.redraw(false));
}

/** Move the cursor along the curves with the left and right arrow keys; zoom out with Escape. */
function moveCursor(event, { plot }) {
  if (event.key === "Escape") return change({ zoom: null });
  const step = { ArrowLeft: -1, ArrowRight: 1 }[event.key];
  if (!step || !plot.lines.length) return;
  event.preventDefault();
  const xs = plot.data[0], inside = place => Math.max(0, Math.min(place, xs.length - 1));
  const index = plot.cursor.left < 0 ? (step > 0 ? 0 : xs.length - 1) : inside((plot.cursor.idx ?? 0) + step);
  plot.setCursor({ left: plot.valToPos(xs[index], "x"), top: plot.over.clientHeight / 2 });
}

/** Draws plots when they come near the visible area. */
const near = new IntersectionObserver(found => found.forEach(({ target, isIntersecting }) => {
  const entry = panels.find(({ host }) => host === target);
  if (!entry) return;
  entry.seen = isIntersecting;
  if (entry.seen && entry.stale) drawPanel(entry);
}), { rootMargin: "200px" });

/** Resizes plots with their elements. */
const sizes = new ResizeObserver(found => found.forEach(({ target }) => {
  const { host, plot } = panels.find(entry => entry.host === target) ?? {};
  if (plot && (plot.width !== host.clientWidth || plot.height !== host.clientHeight))
    plot.setSize({ width: host.clientWidth, height: host.clientHeight });
}));
