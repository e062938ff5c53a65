// Draw on a plot's canvas: bands, lines, dots, and marks at the ends of runs that did not finish.

const PIECE = 40;         // points per path: canvases are slow with long jagged paths
const FEW_POINTS = 40;    // lines with at most this many points get dots
const FADED = 0.12;       // the opacity of the other groups while one group is highlighted

/** Draw all lines of a panel on top of their bands. */
function drawLines(u) {
  const { ctx, bbox: { left, top, width, height } } = u, ratio = devicePixelRatio;
  const opacity = line => emphasised && line.group !== emphasised ? FADED : 1;
  ctx.save();
  ctx.beginPath();
  ctx.rect(left, top - ratio, width, height + 2 * ratio);
  ctx.clip();
  ctx.lineJoin = "round";
  for (const line of u.lines.filter(({ low }) => low)) {
    ctx.globalAlpha = 0.17 * opacity(line);
    ctx.fillStyle = colourOf(line.group);
    drawBand(ctx, placesOf(u, u.data[0], line.low), placesOf(u, u.data[0], line.high));
  }
  for (const line of u.lines) {
    ctx.globalAlpha = opacity(line);
    ctx.strokeStyle = colourOf(line.group);
    ctx.lineWidth = (view.lines === "mean" && !line.run ? 1.2 : 0.7) * line.group.width * ratio;
    drawLine(ctx, placesOf(u, u.data[0], line.y), line.group.dash.map(part => part * ratio));
  }
  ctx.restore();
  ctx.save();
  for (const line of u.lines) {
    ctx.globalAlpha = opacity(line);
    ctx.fillStyle = ctx.strokeStyle = colourOf(line.group);
    drawMarks(u, line, ratio);
  }
  ctx.restore();
}

/** Draw dots on a line of few points, and × or ○ at the end of a run that did not finish, clamped to the plot. */
function drawMarks(u, line, ratio) {
  const { ctx, bbox: { left, top, width, height } } = u;
  const few = line.curve.x.length <= FEW_POINTS, from = few ? 0 : -1;
  const seen = placesOf(u, line.curve.x.slice(from), line.curve.y.slice(from))
    .filter(([x]) => x >= left - 1 && x <= left + width + 1);
  if (few) seen.filter(([, y]) => y >= top - 1 && y <= top + height + 1).forEach(([x, y]) => dot(ctx, x, y, 2.3 * ratio));
  const ended = line.run && line.run.status !== "finished" && line.curve.x.at(-1) <= u.scales.x.max;
  if (!ended || !seen.length) return;
  const [x, y] = seen.at(-1);
  mark(ctx, line.run.status, [x, Math.max(top, Math.min(y, top + height))], 4 * ratio, ratio);
}

/** Return the canvas positions of a curve's points, without the points that have no value. */
function placesOf(u, xs, ys) {
  const places = [], far = 1e5, near = y => Math.max(-far, Math.min(y, far));
  for (let i = 0; i < xs.length; i++)
    if (ys[i] !== null) places.push([u.valToPos(xs[i], "x", true), near(u.valToPos(ys[i], "y", true))]);
  return places;
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
