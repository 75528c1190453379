'use strict';
// Draws the forecast report from the data in the page.
const report = JSON.parse(document.getElementById('data').textContent);
const byId = (id) => document.getElementById(id);
const words = { plugged_in: 'vehicles plugged in', power_up_kw: 'power up, kW', energy_needed_kwh: 'energy needed, kWh' };
let charts = [];

const number = (value, digits = 0) => (value === null || value === undefined ? '–' : value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace('-', '−'));
const percent = (share, digits = 1) => `${number(100 * share, digits)} %`;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();

function element(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function row(cells, tag = 'td') {
  const tr = element('tr');
  for (const cell of cells) tr.append(element(tag, cell));
  return tr;
}

function headline() {
  byId('title').textContent = `${report.scenario}: forecast of availability`;
  byId('about').textContent = `${report.test_from} to ${report.test_to} (last day not included), ${report.zone}: ${number(report.origins)} origins, ${number(report.visits_before)} visits before, ${number(report.visits_in_test)} in the test. Model ${report.model} ${report.version}, ${report.paths} paths.`;
  const card = (value, text, className) => {
    const node = element('div', undefined, 'card');
    node.append(element('b', value, className), element('span', text));
    byId('headline').append(node);
  };
  for (const q of report.quantities) card(`${number(q.pinball.below_best_percent, 1)} %`, `below the best of naive, climatology and persistence: ${words[q.quantity]}`, q.pinball.below_best_percent > 0 ? 'good' : 'bad');
  const p = report.p90;
  card(`${p.short} of ${p.offered}`, `blocks sold with 90 % fell short; ${p.short_limit} would still be chance`, p.short <= p.short_limit ? 'good' : 'bad');
  if (report.origins_fallen_back) card(number(report.origins_fallen_back), 'origins at which the naive model had taken over', 'warn');
}

function losses() {
  const table = byId('losses');
  table.append(row(['quantity', 'leads, h', 'forecast', 'naive', 'climatology', '13 weeks', 'persistence', 'below naive', 'below climatology', 'below the best', '50 % band', '80 % band', '90 % band'], 'th'));
  const line = (name, leads, l, c) => table.append(row([name, leads, number(l.model, 3), number(l.naive, 3), number(l.climatology, 3), number(l.climatology_13_weeks, 3), number(l.persistence, 3), `${number(l.below_naive_percent, 1)} %`, `${number(l.below_climatology_percent, 1)} %`, `${number(l.below_best_percent, 1)} %`, c ? percent(c.band_50) : '', c ? percent(c.band_80) : '', c ? percent(c.band_90) : '']));
  for (const q of report.quantities) {
    line(words[q.quantity], '1–36', q.pinball, q.coverage);
    for (const b of q.bands) line('', b.from_hours === b.to_hours ? `${b.from_hours}` : `${b.from_hours}–${b.to_hours}`, b.pinball, b.coverage);
    line('', 'ordinary days', q.ordinary_days);
    line('', 'CRPS', q.crps);
  }
}

function more() {
  const table = byId('more');
  const line = (name, value, note) => { const tr = row([name, value, note]); tr.children[2].className = 'text'; table.append(tr); };
  line('four-hour sums, 90 % band', percent(report.joint.block_sum.band_90), `shuffled among paths: ${percent(report.joint.block_sum_shuffled.band_90)}`);
  line('energy score', number(report.joint.energy_score, 2), `shuffled among paths: ${number(report.joint.energy_score_shuffled, 2)}`);
  const d = report.departure;
  line('departure, mean error', `${number(d.model_hours, 2)} h`, `${d.said_hours === null ? '' : `drivers themselves ${number(d.said_hours, 2)} h, `}median by hour of arrival ${number(d.naive_hours, 2)} h, over ${number(d.visits)} visits`);
  const p = report.p90;
  line('energy not served', percent(p.unserved_ratio), 'of the energy sold');
  line('volume', percent(p.of_perfect_ratio), `of perfect foresight; ${percent(p.of_best_level_ratio)} of the best fixed level (${percent(p.best_level, 0)}) known afterwards`);
}

function notes() {
  const add = (text) => byId('notes').append(element('li', text));
  const days = ['', 'Monday', 'Tuesday', 'Wednesday', 'Thursday', 'Friday', 'Saturday', 'Sunday'];
  if (report.fortnights.length) add(`Every second ${report.fortnights.map((d) => days[d]).join(', ')} is different: found in the data.`);
  add(`${number(report.rows.rows_read)} rows read, ${number(report.rows.rows_refused)} refused.`);
  for (const [reason, count] of Object.entries(report.rows.refused)) add(`Refused, ${reason}: ${number(count.rows)} (first: ${count.first.split('/').pop()}).`);
  for (const doubt of report.doubts) add(`Doubt: ${doubt}.`);
  add('Every forecast was made from what was known at its origin; the energy of a visit that lasts is not known then.');
}

function axes(unit) {
  const line = { stroke: colour('dim'), grid: { stroke: colour('faint'), width: 1 }, ticks: { stroke: colour('faint') } };
  return [{ ...line, label: unit.x }, { ...line, label: unit.y, size: 60 }];
}

function draw(id, options, data) {
  const host = byId(id);
  host.replaceChildren();
  const chart = new uPlot({ width: host.clientWidth, height: host.clientHeight - 30, ...options }, data, host);
  charts.push(chart);
}

function fan() {
  const one = report.fans[Number(byId('pick').value) || 0];
  if (!one) return;
  const start = Date.parse(one.until) / 1000;
  const xs = one.bands.map((_, k) => start + k * one.step_seconds);
  const level = (i) => one.bands.map((b) => b[i]);
  const own = colour('p2');
  const series = [{}, ...one.levels.map((l, i) => ({ label: i === 2 ? 'median' : percent(l, 0), stroke: i === 2 ? own : 'transparent', width: 2, points: { show: false } })), { label: 'came', stroke: colour('p1'), width: 2, points: { show: false } }];
  const bands = [{ series: [5, 1], fill: `${own}30` }, { series: [4, 2], fill: `${own}50` }];
  const tzDate = (ts) => uPlot.tzDate(new Date(ts * 1e3), report.zone);
  draw('fan', { series, bands, tzDate, axes: axes({ x: 'local time', y: words[one.quantity] }) }, [xs, ...[0, 1, 2, 3, 4].map(level), one.outcome]);
}

function reliability() {
  const bins = report.quantities[0].pit.length;
  const xs = [...Array(bins + 1).keys()].map((i) => i / bins);
  const sums = report.quantities.map((q) => q.pit.reduce((all, share) => [...all, all[all.length - 1] + share], [0]));
  const series = [{}, { label: 'promised', stroke: colour('dim'), dash: [4, 4], points: { show: false } }, ...report.quantities.map((q, i) => ({ label: words[q.quantity], stroke: colour(`p${i + 2}`), width: 2, points: { show: false } }))];
  draw('reliability', { series, scales: { x: { time: false } }, axes: axes({ x: 'level', y: 'share below' }) }, [xs, xs, ...sums]);
}

function hours() {
  const xs = [...Array(24).keys()];
  const series = [{}, { label: 'promised', stroke: colour('dim'), dash: [4, 4], points: { show: false } }, ...report.quantities.map((q, i) => ({ label: words[q.quantity], stroke: colour(`p${i + 2}`), width: 2 }))];
  draw('hours', { series, scales: { x: { time: false }, y: { range: [0.5, 1] } }, axes: axes({ x: 'local hour', y: 'share inside' }) }, [xs, xs.map(() => 0.9), ...report.quantities.map((q) => q.coverage_by_hour.map((c) => c.band_90))]);
}

function redraw() {
  for (const chart of charts) chart.destroy();
  charts = [];
  fan();
  reliability();
  hours();
}

headline();
losses();
more();
notes();
report.fans.forEach((f, i) => {
  const option = element('option', `${words[f.quantity]}, from ${new Date(f.until).toLocaleString('en-GB', { timeZone: report.zone, dateStyle: 'medium', timeStyle: 'short' })}`);
  option.value = i;
  byId('pick').append(option);
});
byId('pick').addEventListener('change', redraw);
byId('theme').addEventListener('click', () => {
  const dark = getComputedStyle(document.documentElement).colorScheme.includes('dark');
  document.documentElement.dataset.theme = dark ? 'light' : 'dark';
  redraw();
});
addEventListener('resize', redraw);
redraw();
