// The ticks of the axes, and their texts.

/** Return about `count` round numbers from low to high, at least `least` apart. */
function evenTicks(low, high, count, least = 0) {
  const finest = ROUNDING * Math.max(Math.abs(low), Math.abs(high));
  const raw = Math.max((high - low) / Math.max(count, 1), least, finest), unit = 10 ** Math.floor(Math.log10(raw));
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
