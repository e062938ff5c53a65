// Build the controls above the panels, and start the page.

const controls = document.getElementById("controls");

/** Offer the x axes that the shown runs logged. */
function buildAxes() {
  const axes = CHOICES.x.filter(axis => DATA.groups.some(g => g.runs.some(run => run.grids.some(grid => axis in grid))));
  document.querySelector("#axis .options").replaceChildren(...axes.map(axis => h("label", {},
    h("input", { type: "radio", name: "x", value: axis }), h("span", {}, axis === "images_seen" ? "images" : axis))));
}

function startControls() {
  controls.addEventListener("submit", event => event.preventDefault());
  controls.addEventListener("input", ({ target: { name, value } }) => {
    if (name === "smooth") change({ smooth: Number(value) });
    else change(name === "x" ? { x: value, zoom: null } : { [name]: value });
  });
  controls.querySelectorAll("[data-scale]").forEach(button => button.addEventListener("click", () => {
    const { scale } = button.dataset;
    change({ scale: new Map(scale === "own" ? [] : DATA.panels.map(panel => [panel.metric, scale])) });
  }));
  document.getElementById("reset").addEventListener("click", () => change(freshView()));
  document.querySelector("[data-skip]").addEventListener("click", event => {
    event.preventDefault();
    document.getElementById("panels").focus();
  });
}

/** Update the controls to the current view. */
function drawControls() {
  for (const name of ["x", "lines", "band"])
    controls.querySelectorAll(`[name=${name}]`).forEach(radio => { radio.checked = radio.value === view[name]; });
  controls.elements.smooth.value = view.smooth;
  controls.elements.kind.value = view.kind;
  controls.querySelectorAll("[name=band]").forEach(radio => { radio.disabled = view.lines === "runs"; });
  const window = `mean of ${2 * halfWindow(view.smooth) + 1} points`;
  const told = view.kind === "window" ? window : `debiased, weight ${view.smooth.toFixed(2)}`;
  document.getElementById("smoothing").textContent = view.smooth > 0 ? told : "none";
}

/** Draw line samples in front of the groups' names. */
function drawSwatches() {
  DATA.tabs.forEach(({ key, groups }) => parts(key).forEach(part => part.querySelectorAll("[data-group]").forEach(name => {
    name.querySelector("svg")?.remove();
    name.prepend(swatch(groups[name.dataset.group]));
  })));
  entries.forEach(({ group, item }) => item.querySelector("svg").replaceWith(swatch(group)));
}

function recolour() {
  drawSwatches();
  drawPanels();
}

startControls();
startSidebar();
Object.assign(view, fromFragment(location.hash.slice(1)));
listeners.push(showTab, drawControls, drawSidebar, drawPanels);
listeners.forEach(listener => listener());
darkly.addEventListener("change", recolour);
if (DATA.reload) {
  const watch = document.getElementById("watch");
  watch.textContent = `reloads every ${DATA.reload} s`;
  watch.hidden = false;
  setTimeout(() => location.reload(), 1000 * DATA.reload);
}
for (const [event, now] of [["beforeprint", true], ["afterprint", false]])
  addEventListener(event, () => {
    printing = now;
    document.documentElement.classList.toggle("printing", now);
    recolour();
  });
