// Target, actual and tolerance; the tracking error; frequency. One time axis, one cursor.
import { clockTime, element, flow, fullTime, now as present, number, utc } from './format.js';

const points = [];
let seconds = 900;
let charts = null;
let hovered = null;
const readout = document.getElementById('readout');

/** Takes new points; `whole` replaces all. */
export function takePoints(message) {
  if (message.whole) points.length = 0;
  for (const p of message.points) points.push({ ...p, ms: Date.parse(p.at) });
  seconds = message.trace_seconds;
  const newest = Math.max(points.at(-1)?.ms ?? 0, present());
  while (points.length && points[0].ms < newest - seconds * 1000) points.shift();
  document.getElementById('empty').hidden = points.length > 0;
  document.getElementById('window').textContent = `last ${seconds < 5400 ? `${Math.round(seconds / 60)} minutes` : `${number(seconds / 3600, seconds % 3600 ? 1 : 0)} hours`}`;
  draw();
}

/** Draws again, with the colours of the present theme. */
export function redraw() {
  charts?.forEach((chart) => chart.destroy());
  charts = null;
  draw();
}

const columns = () => {
  const of = (pick) => points.map(pick);
  const x = of((p) => p.ms / 1000);
  const error = of((p) => (p.actual_kw === null ? null : p.actual_kw - p.target_kw));
  return [
    [x, of((p) => p.target_kw + p.tolerance_kw), of((p) => p.target_kw - p.tolerance_kw), of((p) => p.target_kw), of((p) => p.actual_kw)],
    [x, of((p) => p.tolerance_kw), of((p) => -p.tolerance_kw), error],
    [x, of((p) => p.frequency_hz)],
  ];
};

function draw() {
  const boxes = ['power', 'error', 'frequency'].map((name) => document.getElementById(`chart-${name}`));
  if (points.length === 0 || boxes.some((box) => box.clientHeight < 20)) return;
  charts ??= build(boxes);
  const data = columns();
  charts.forEach((chart, i) => chart.setData(data[i]));
  if (hovered === null) say(points.at(-1));
}

new ResizeObserver(() => charts?.forEach((chart) => {
  const box = chart.root.parentElement;
  chart.setSize({ width: box.clientWidth, height: box.clientHeight });
})).observe(document.getElementById('centre'));

function build(boxes) {
  const style = getComputedStyle(document.documentElement);
  const colour = (name) => style.getPropertyValue(`--${name}`).trim();
  const font = '11px system-ui, "DejaVu Sans", sans-serif';
  const axis = (label, more = {}) => ({ stroke: colour('dim'), font, size: 56, gap: 4, ticks: { show: false }, grid: { stroke: colour('faint'), width: 1 }, ...more, label: undefined, title: label });
  const time = (show) => axis('', { size: show ? 20 : 0, space: 90, values: show ? (_, at) => at.map((s) => clockTime(s * 1000)) : (_, at) => at.map(() => '') });
  const now = () => Math.max(points.at(-1)?.ms ?? 0, present()) / 1000;
  const silent = silence(colour('hatch'));
  const common = (box, scale) => ({
    width: box.clientWidth, height: box.clientHeight, padding: [6, 56, 0, 0], legend: { show: false },
    cursor: { sync: { key: 'control' }, drag: { x: false, y: false }, y: false, points: { size: 6 } },
    scales: { x: { time: true, range: () => [now() - seconds, Math.max(now(), 1)] }, y: scale },
  });
  const area = { stroke: null, width: 0, points: { show: false } };
  const wide = (least) => ({ range: (_, low, high) => {
    const middle = ((low ?? 0) + (high ?? 0)) / 2;
    const half = Math.max(((high ?? 0) - (low ?? 0)) / 2, least / 2) * 1.12;
    return [middle - half, middle + half];
  } });
  const line = (name, stroke, more = {}) => ({ label: name, stroke: colour(stroke), width: 2, spanGaps: false, points: { show: false }, ...more });
  const kw = (_, at) => at.map((v) => number(v));
  const powerChart = new uPlot({
    ...common(boxes[0], wide(10)),
    series: [{}, area, area, line('target', 'accent', { dash: [7, 4] }), line('actual', 'actual')],
    bands: [{ series: [1, 2], fill: colour('accent-soft') }],
    axes: [time(false), axis('kW', { values: kw })],
    hooks: { drawClear: [silent], draw: [labels(colour, font, [[3, 'target', 'accent'], [4, 'actual', 'actual']])], setCursor: [hover] },
  }, [[]], boxes[0]);
  const errorChart = new uPlot({
    ...common(boxes[1], { range: (_, low, high) => { const most = Math.max(Math.abs(low ?? 0), Math.abs(high ?? 0), 1) * 1.15; return [-most, most]; } }),
    series: [{}, area, area, line('error', 'error', { width: 1.5, fill: colour('error-soft'), fillTo: 0 })],
    bands: [{ series: [1, 2], fill: colour('accent-soft') }],
    axes: [time(false), axis('kW', { values: kw, splits: () => { const most = points.at(-1)?.tolerance_kw ?? 0; return most > 0 ? [-most, 0, most] : [0]; } })],
    hooks: { drawClear: [silent], draw: [labels(colour, font, [[3, 'error', 'error']])] },
  }, [[]], boxes[1]);
  const frequencyChart = new uPlot({
    ...common(boxes[2], { range: (_, low, high) => [Math.min(low ?? 50, 49.97) - 0.005, Math.max(high ?? 50, 50.03) + 0.005] }),
    series: [{}, line('frequency', 'accent', { width: 1.5 })],
    axes: [time(true), axis('Hz', { values: (_, at) => at.map((v) => v.toFixed(2)), space: 24 })],
    hooks: { drawClear: [silent], draw: [labels(colour, font, [[1, 'Hz', 'accent']])] },
  }, [[]], boxes[2]);
  return [powerChart, errorChart, frequencyChart];
}

/** Hatches the time since the newest point, once it is wide enough to be seen. */
function silence(colour) {
  const widest = 12;
  return (chart) => {
    const { ctx, bbox } = chart;
    const right = bbox.left + bbox.width;
    const left = Math.max(bbox.left, chart.valToPos((points.at(-1)?.ms ?? 0) / 1000, 'x', true));
    if (right - left < widest * devicePixelRatio) return;
    ctx.save();
    ctx.beginPath();
    ctx.rect(left, bbox.top, right - left, bbox.height);
    ctx.clip();
    ctx.beginPath();
    for (let x = left - bbox.height; x < right; x += 8 * devicePixelRatio) {
      ctx.moveTo(x, bbox.top + bbox.height);
      ctx.lineTo(x + bbox.height, bbox.top);
    }
    ctx.strokeStyle = colour;
    ctx.lineWidth = devicePixelRatio;
    ctx.stroke();
    ctx.restore();
  };
}

/** Writes each line's name at its right end, pushed apart where two would cover each other. */
function labels(colour, font, wanted) {
  return (chart) => {
    const { ctx, bbox } = chart;
    const scale = devicePixelRatio;
    const ends = wanted.map(([index, text, name]) => ({ text, name, y: endOf(chart, index) })).filter((end) => end.y !== null).sort((a, b) => a.y - b.y);
    ends.forEach((end, i) => { if (i > 0) end.y = Math.max(end.y, ends[i - 1].y + 13 * scale); });
    const over = ends.length ? Math.max(0, ends.at(-1).y - (bbox.top + bbox.height - 5 * scale)) : 0;
    ctx.save();
    ctx.font = font.replace('11px', `${11 * scale}px`);
    ctx.textAlign = 'left';
    ctx.textBaseline = 'middle';
    for (const end of ends) {
      ctx.fillStyle = colour(end.name);
      ctx.fillText(end.text, bbox.left + bbox.width + 6 * scale, end.y - over);
    }
    ctx.restore();
  };
}

function endOf(chart, index) {
  const values = chart.data[index] ?? [];
  for (let i = values.length - 1; i >= 0; i -= 1) {
    if (values[i] !== null && values[i] !== undefined) return chart.valToPos(values[i], 'y', true);
  }
  return null;
}

function hover(chart) {
  const { idx, left } = chart.cursor;
  hovered = left >= 0 && idx !== null && idx !== undefined ? idx : null;
  say(hovered === null ? points.at(-1) : points[hovered]);
}

function say(p) {
  if (!p) return readout.replaceChildren();
  const part = (name, text) => { const made = element('span'); made.append(element('i', name), text); return made; };
  const when = element('span', '', fullTime(p.ms));
  when.title = utc(p.ms);
  const error = p.actual_kw === null ? null : p.actual_kw - p.target_kw;
  readout.replaceChildren(when,
    part('target', `target ${number(Math.abs(p.target_kw))} kW ${flow(p.target_kw)}`),
    part('actual', p.actual_kw === null ? 'actual not measured' : `actual ${number(Math.abs(p.actual_kw))} kW ${flow(p.actual_kw)}`),
    part('error', error === null ? 'error unknown' : `error ${number(error)} kW ${Math.abs(error) <= p.tolerance_kw ? 'inside' : 'outside'} ±${number(p.tolerance_kw)}`));
  return undefined;
}
