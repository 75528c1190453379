'use strict';
// Draws the back-test report from the data in the page.
const data = JSON.parse(document.getElementById('data').textContent);
const { report } = data;
const byId = (id) => document.getElementById(id);
const order = ['unmanaged', 'v1g', 'v2g', 'v1g-perfect', 'v2g-perfect'];
const words = {
  unmanaged: 'full power from plug-in', v1g: 'charging only, on what was known', v2g: 'charging and discharging, on what was known',
  'v1g-perfect': 'charging only, everything known', 'v2g-perfect': 'charging and discharging, everything known',
};
const shown = new Set(report.policies.map((p) => p.name));
let charts = [];

const number = (value, digits = 0) => (value === null || value === undefined ? '–' : value.toLocaleString('en', { minimumFractionDigits: digits, maximumFractionDigits: digits }).replace('-', '−'));
const money = (value) => `${number(value, 2)} ${report.currency}`;
const colour = (name) => getComputedStyle(document.documentElement).getPropertyValue(`--${name}`).trim();
const policyColour = (name) => colour(`p${order.indexOf(name)}`);

function element(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function row(cells, tag = 'td') {
  const tr = element('tr');
  for (const cell of cells) {
    if (cell instanceof Node) { const td = element(tag); td.append(cell); tr.append(td); } else tr.append(element(tag, cell));
  }
  return tr;
}

function named(name) {
  const span = element('span');
  const swatch = element('span', '', 'swatch');
  swatch.style.background = `var(--p${order.indexOf(name)})`;
  span.append(swatch, name);
  span.title = words[name] ?? '';
  return span;
}

const policy = (name) => report.policies.find((p) => p.name === name);

function headline() {
  byId('title').textContent = report.scenario;
  const skipped = report.sessions_skipped ? `, ${number(report.sessions_skipped)} skipped` : '';
  byId('about').textContent = `${report.area}, ${report.from} to ${report.to} (last day not included): ${number(report.sessions)} sessions of ${number(report.vehicles)} vehicles${skipped}. ${report.price_gaps_filled ? `${number(report.price_gaps_filled)} missing prices were held over.` : 'No price was missing.'}`;
  const card = (value, text, className) => {
    const node = element('div', undefined, 'card');
    node.append(element('b', value, className), element('span', text));
    byId('headline').append(node);
  };
  const unmanaged = policy('unmanaged');
  const managed = policy('v2g') ?? policy('v1g') ?? policy('v2g-perfect') ?? policy('v1g-perfect');
  if (report.value_capture !== null) card(`${number(report.value_capture * 100, 1)} %`, 'value capture: how far v2g goes from unmanaged to the bound with everything known');
  if (unmanaged && managed) {
    const saved = unmanaged.net_cost - managed.net_cost;
    card(money(saved), `${saved < 0 ? 'more' : 'less'} to pay under ${managed.name} than unmanaged`, saved < 0 ? 'bad' : undefined);
  }
  if (managed) {
    const kept = managed.short_departures === 0 && managed.site_limit_breaches === 0;
    card(kept ? 'kept' : 'broken', `promise of ${managed.name}: ${number(managed.short_departures)} vehicles left short, ${number(managed.site_limit_breaches)} site limit breaches`, kept ? 'good' : 'bad');
  }
  if (unmanaged) card(`${number(unmanaged.site_limit_breaches)}`, 'site limit breaches if nobody managed charging', unmanaged.site_limit_breaches ? 'warn' : undefined);
}

function costs() {
  const most = Math.max(...report.policies.map((p) => p.net_cost), 0);
  const least = Math.min(...report.policies.map((p) => p.net_cost), 0);
  const at = (value) => ((value - least) / (most - least || 1)) * 100;
  byId('cost-note').textContent = `Net cost over the period in ${report.currency}. Left of zero the fleet earns.`;
  for (const p of report.policies) {
    const bar = element('div', undefined, 'bar');
    const track = element('i');
    const fill = element('u');
    fill.style.left = `${at(Math.min(0, p.net_cost))}%`;
    fill.style.width = `${Math.abs(at(p.net_cost) - at(0))}%`;
    fill.style.background = `var(--p${order.indexOf(p.name)})`;
    track.append(fill);
    bar.append(named(p.name), track, element('b', money(p.net_cost)));
    byId('bars').append(bar);
  }
  const table = byId('costs');
  const has = (pick) => report.policies.some((p) => pick(p) !== 0);
  const capacity = (p) => p.capacity_revenue.fcr + p.capacity_revenue.afrr_up + p.capacity_revenue.afrr_down;
  const columns = [
    ['policy', (p) => named(p.name), true],
    ['charged, kWh', (p) => number(p.energy_charged_kwh), true],
    ['discharged, kWh', (p) => number(p.energy_discharged_kwh), true],
    ['energy', (p) => number(p.energy_cost, 2), true],
    ['fees', (p) => number(p.fees, 2), has((p) => p.fees)],
    ['wear', (p) => number(p.wear_cost, 2), has((p) => p.wear_cost)],
    ['imbalance', (p) => number(p.imbalance_cost, 2), has((p) => p.imbalance_cost)],
    ['demand', (p) => number(p.demand_cost, 2), has((p) => p.demand_cost)],
    ['capacity earned', (p) => number(capacity(p), 2), has(capacity)],
    ['penalties', (p) => number(p.penalties, 2), has((p) => p.penalties)],
    [`net cost, ${report.currency}`, (p) => number(p.net_cost, 2), true],
    ['per vehicle-year', (p) => number(p.net_cost_per_vehicle_year, 2), true],
    ['left short', (p) => number(p.short_departures), true],
    ['out of reach', (p) => number(p.unreachable_sessions), true],
    ['breaches', (p) => number(p.site_limit_breaches), true],
    ['proven gap', (p) => (p.relative_gap === null ? '–' : p.relative_gap.toExponential(1).replace('-', '−')), true],
    ['seconds', (p) => number(p.solve_seconds, 2), true],
  ].filter((c) => c[2]);
  table.append(row(columns.map((c) => c[0]), 'th'));
  for (const p of report.policies) table.append(row(columns.map((c) => c[1](p))));
  for (const p of report.unsolved) table.append(row([named(p.name), p.reason]));
}

function limits() {
  const table = byId('limits');
  table.append(row(['policy', 'limit', 'intervals', `price, ${report.currency}`], 'th'));
  for (const p of report.policies) {
    for (const limit of p.limits.slice(0, 4)) {
      const tr = row([named(p.name), limit.what, number(limit.steps), limit.cost === null ? '–' : number(limit.cost, 2)]);
      tr.children[1].className = 'text';
      table.append(tr);
    }
  }
  table.rows[0].cells[1].style.textAlign = 'left';
}

function blocks() {
  const held = report.policies.flatMap((p) => p.reserve_blocks.filter((b) => b.relaxed_mw > 1e-6).map((b) => [p, b]));
  if (held.length === 0) return;
  byId('reserve').hidden = false;
  byId('blocks').append(row(['policy', 'product', 'from (UTC)', `price, ${report.currency} per MW and block`, 'paid', 'MW as solved', 'whole MW'], 'th'));
  for (const [p, b] of held) byId('blocks').append(row([named(p.name), b.product, b.start.slice(0, 16).replace('T', ' '), number(b.price, 2), number(b.paid, 2), number(b.relaxed_mw, 3), number(b.integer_mw)]));
}

const axis = (label, more = {}) => ({ label, labelSize: 18, labelFont: '12px system-ui, "DejaVu Sans", sans-serif', font: '11px system-ui, "DejaVu Sans", sans-serif', stroke: colour('dim'), grid: { stroke: colour('faint'), width: 1 }, ticks: { show: false }, ...more });
const clock = (hours) => hours.map((h) => `${String(Math.floor(h)).padStart(2, '0')}:00`);

function draw(id, x, xLabel, hoursAxis, loads, price, names = report.policies.map((p) => p.name)) {
  const box = typeof id === 'string' ? byId(id) : id;
  box.replaceChildren();
  const lines = names.map((name, i) => ({ name, values: loads[i] })).filter((l) => shown.has(l.name));
  const series = [{ label: xLabel, value: (_, v) => (v === null ? '–' : hoursAxis ? `${String(Math.floor(v)).padStart(2, '0')}:${String(Math.round((v % 1) * 60)).padStart(2, '0')}` : `${number(v, 1)} ${report.currency}/MWh`) }];
  const columns = [x];
  const step = hoursAxis ? uPlot.paths.stepped({ align: 1 }) : uPlot.paths.linear();
  if (price) {
    columns.push(price);
    series.push({ label: 'price', scale: 'price', stroke: colour('price'), fill: `${colour('price')}55`, width: 1, points: { show: false }, paths: step, value: (_, v) => (v === null ? '–' : `${number(v, 1)} ${report.currency}/MWh`) });
  }
  for (const line of lines) {
    columns.push(line.values);
    series.push({ label: line.name, stroke: policyColour(line.name), width: 2, dash: line.name.endsWith('-perfect') ? [5, 3] : undefined, points: { show: !hoursAxis, size: 4 }, paths: step, value: (_, v) => (v === null ? '–' : `${number(v, 1)} kW`) });
  }
  const axes = [axis(xLabel, hoursAxis ? { values: (_, at) => clock(at), incrs: [1, 2, 3, 4, 6], size: 34 } : { size: 34 }), axis('fleet power, kW', { size: 52 })];
  if (price) axes.push(axis(`price, ${report.currency}/MWh`, { scale: 'price', side: 1, grid: { show: false }, size: 52 }));
  const chart = new uPlot({ width: box.clientWidth, height: box.clientHeight - 26, series, axes, scales: { x: { time: false }, ...(price ? { price: {} } : {}) }, cursor: { y: false }, legend: { live: true } }, columns, box);
  charts.push([chart, box]);
}

function dayPanel(id, day, word) {
  const panel = byId(id);
  panel.replaceChildren();
  if (!day) { panel.hidden = true; return; }
  const managed = report.policies[data.managed].name;
  const saved = day.cost[data.against] - day.cost[data.managed];
  panel.append(element('h2', `${word} day of ${managed}: ${day.date}`));
  panel.append(element('p', `${managed} paid ${money(Math.abs(saved))} ${saved < 0 ? 'more' : 'less'} than unmanaged (${money(day.cost[data.managed])} against ${money(day.cost[data.against])}). Above zero charging, below zero discharging.`, 'note'));
  const box = element('div', undefined, 'chart');
  panel.append(box);
  const picked = [data.against, data.managed];
  draw(box, day.hour, 'hours after midnight', true, picked.map((i) => day.load[i]), day.price, picked.map((i) => report.policies[i].name));
}

function drawAll() {
  charts.forEach(([chart]) => chart.destroy());
  charts = [];
  draw('average', data.average_day.hour, 'local time', true, data.average_day.load, data.average_day.price);
  draw('bands', data.price_bands.price, `day-ahead price, ${report.currency}/MWh`, false, data.price_bands.load, null);
  dayPanel('best', data.days[0], 'Best');
  dayPanel('worst', data.days[1], 'Worst');
}

function keys() {
  for (const p of report.policies) {
    const label = element('label');
    const box = element('input');
    box.type = 'checkbox';
    box.checked = true;
    box.addEventListener('change', () => { if (box.checked) shown.add(p.name); else shown.delete(p.name); drawAll(); });
    label.append(box, named(p.name));
    byId('keys').append(label);
  }
}

byId('theme').addEventListener('click', () => {
  const dark = getComputedStyle(document.documentElement).colorScheme === 'dark';
  document.documentElement.dataset.theme = dark ? 'light' : 'dark';
  drawAll();
});
matchMedia('(prefers-color-scheme: dark)').addEventListener('change', drawAll);
addEventListener('resize', () => charts.forEach(([chart, box]) => chart.setSize({ width: box.clientWidth, height: box.clientHeight - 26 })));
headline();
costs();
limits();
blocks();
for (const note of report.notes) byId('notes').append(element('li', note));
byId('notes-panel').hidden = report.notes.length === 0;
keys();
drawAll();
