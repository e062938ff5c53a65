// Draw on a plot's canvas: bands, lines, dots, and marks at the ends of runs that did not finish.

// Browsers draw lines of more than one pixel, and dashed lines, 20 times more slowly.
const WIDE = 12;          // in a panel with more lines than this, they are one pixel wide and have no dots
const DASHED = 60;        // in a panel with more lines than this, they are solid
const PIECE = 40;         // points per path: canvases are slow with long jagged paths
const FEW_POINTS = 40;    // lines with at most this many points get dots
const FADED = 0.12;       // the opacity of the other groups while one group is highlighted
const FAR = 1e5;          // pixels; points further away than this are drawn there

/** Draw all lines of a panel, or all of them faded and those of the highlighted group on top. */
function drawLines(u) {
  const { ctx } = u, { width, height } = ctx.canvas;
  if (printing) return paint(ctx, u, u.lines, u.lines.length);  // a picture, and anything drawn before, prints as pixels
  if (u.picture?.width !== width || u.picture?.height !== height) {
    u.picture = new OffscreenCanvas(width, height);
    paint(u.picture.getContext("2d"), u, u.lines, u.lines.length);
  }
  ctx.save();
  ctx.globalAlpha = emphasised ? FADED : 1;
  ctx.drawImage(u.picture, 0, 0);
  ctx.restore();
  if (emphasised) paint(ctx, u, u.lines.filter(line => line.group === emphasised), 0);
}

/** Draw lines on top of their bands. `crowd` is the number of lines in the panel, or 0 if these should stand out. */
function paint(ctx, u, lines, crowd) {
  const { left, top, width, height } = u.bbox, ratio = devicePixelRatio, place = placing(u);
  const wide = crowd <= WIDE, dash = ({ group }) => crowd <= DASHED ? group.dash.map(part => part * ratio) : [];
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top - ratio, width, height + 2 * ratio);
  ctx.clip();
  ctx.lineJoin = "round";
  ctx.globalAlpha = 0.17;
  for (const line of lines.filter(({ band }) => band)) {
    ctx.fillStyle = colourOf(line.group);
    drawBand(ctx, placesOf(line, line.band.low, place), placesOf(line, line.band.high, place));
  }
  ctx.globalAlpha = 1;
  for (const line of lines) {
    ctx.strokeStyle = colourOf(line.group);
    ctx.lineWidth = wide ? (view.lines === "mean" && !line.run ? 1.2 : 0.7) * line.group.width * ratio : 1;
    drawLine(ctx, placesOf(line, line.curve.y, place), dash(line));
  }
  ctx.restore();
  ctx.save();
  for (const line of lines) {
    ctx.fillStyle = ctx.strokeStyle = colourOf(line.group);
    drawMarks(ctx, u, line, wide, place);
  }
  ctx.restore();
}

/** Draw dots on a line of few points, and × or ○ at the end of a run that did not finish, clamped to the plot. */
function drawMarks(ctx, u, line, dots, place) {
  const { left, top, width, height } = u.bbox, ratio = devicePixelRatio, { curve, run, span } = line;
  const inside = ([x]) => x >= left - 1 && x <= left + width + 1;
  if (dots && curve.x.length <= FEW_POINTS) placesOf(line, curve.y, place).filter(inside)
    .filter(([, y]) => y >= top - 1 && y <= top + height + 1).forEach(([x, y]) => dot(ctx, x, y, 2.3 * ratio));
  if (!run || run.status === "finished" || span[1] < curve.x.length - 1) return;
  const end = place(curve.x.at(-1), curve.y.at(-1));
  if (inside(end)) mark(ctx, run.status, [end[0], Math.max(top, Math.min(end[1], top + height))], 4 * ratio, ratio);
}

/** Return the function from a point of a plot to its place on the canvas, like uPlot's `valToPos`, but faster. */
function placing(u) {
  const { left, top, width, height } = u.bbox, { x, y } = u.scales;
  const least = y.min / 1e6, up = u.log ? value => Math.log10(Math.max(value, least)) : value => value;
  const across = width / (x.max - x.min), low = up(y.min), rise = height / (up(y.max) - low);
  return (a, b) => [left + (a - x.min) * across, Math.max(-FAR, Math.min(top + height - (up(b) - low) * rise, FAR))];
}

/** Return the places of the points of a line that are seen, with other y values: at most one per pixel. */
function placesOf({ curve, span: [from, to] }, ys, place) {
  const places = [];
  for (let i = from; i <= to; i++) places.push(place(curve.x[i], ys[i]));
  return places.length > places.at(-1)[0] - places[0][0] ? extremes(places, 2) : places;
}

/** Return the lowest and the highest of the places in each column of some pixels, in their order. */
function extremes(places, pixels) {
  const found = [];
  for (let i = 0; i < places.length;) {
    const column = Math.floor(places[i][0] / pixels);
    let lowest = i, highest = i;
    for (; i < places.length && Math.floor(places[i][0] / pixels) === column; i++) {
      if (places[i][1] < places[lowest][1]) lowest = i;
      if (places[i][1] > places[highest][1]) highest = i;
    }
    found.push(places[Math.min(lowest, highest)]);
    if (lowest !== highest) found.push(places[Math.max(lowest, highest)]);
  }
  return found;
}

/** Fill the area between two lines, in pieces that end at whole pixels so that no seams show. */
function drawBand(ctx, low, high) {
  for (let start = 0; start < low.length - 1; start += PIECE) {
    const end = start + PIECE + 1;
    ctx.beginPath();
    for (const [x, y] of low.slice(start, end)) ctx.lineTo(Math.round(x), y);
    for (const [x, y] of high.slice(start, end).reverse()) ctx.lineTo(Math.round(x), y);
    ctx.fill();
  }
}

/** Draw a line through positions, in pieces whose dash patterns continue from one to the next. */
function drawLine(ctx, places, dash) {
  ctx.setLineDash(dash);
  let length = 0;
  for (let start = 0; start < places.length - 1; start += PIECE) {
    const piece = places.slice(start, start + PIECE + 1);
    ctx.lineDashOffset = length;
    ctx.beginPath();
    piece.forEach(([x, y], i) => {
      ctx.lineTo(x, y);
      if (i) length += Math.hypot(x - piece[i - 1][0], y - piece[i - 1][1]);
    });
    ctx.stroke();
  }
  ctx.setLineDash([]);
}

function dot(ctx, x, y, radius) {
  ctx.beginPath();
  ctx.arc(x, y, radius, 0, 2 * Math.PI);
  ctx.fill();
}

function mark(ctx, status, [x, y], size, ratio) {
  ctx.setLineDash([]);
  ctx.lineWidth = 1.8 * ratio;
  ctx.beginPath();
  if (status === "diverged") {
    for (const slope of [-1, 1]) { ctx.moveTo(x - size, y - slope * size); ctx.lineTo(x + size, y + slope * size); }
  } else {
    ctx.arc(x, y, size, 0, 2 * Math.PI);
    ctx.fillStyle = token("--paper");
    ctx.fill();
  }
  ctx.stroke();
}
