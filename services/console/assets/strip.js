// The strip: frequency, next gate, reserves, pool power, alarms.
import { age, arrow, countdown, dayTime, element, flow, missing, number, now, productName, span, utc } from './format.js';

const tile = (name) => {
  const root = document.getElementById(`tile-${name}`);
  return { root, value: root.querySelector('.value'), note: root.querySelector('.note') };
};
const tiles = { frequency: tile('frequency'), gate: tile('gate'), pool: tile('pool'), alarms: tile('alarms') };
const reserves = document.querySelector('#tile-reserve .reserves');
let live = null;

export function showStrip(message) {
  live = message;
  frequency(message.frequency);
  pool(message.cycle);
  reserve(message.cycle);
  alarms(message.alarms);
  tick();
}

/** What moves with time alone. */
export function tick() {
  if (!live) return;
  const { frequency: f, cycle } = live;
  if (f.hz !== null && f.at) tiles.frequency.note.textContent = `${frequencyWord(f.hz)} · ${age(f.at)}`;
  if (cycle && !cycle.stale && cycle.pool.actual_kw !== null) tiles.pool.note.textContent = poolNote(cycle);
  const next = live.gates.find((gate) => Date.parse(gate.closes_at) > now());
  if (!next) return gateless();
  const closes = Date.parse(next.closes_at);
  tiles.gate.value.textContent = countdown(closes - now());
  tiles.gate.note.textContent = `${productName(next.product)}, ${dayTime(closes)}`;
  tiles.gate.note.title = live.gates.map((gate) => `${productName(gate.product)}: ${utc(Date.parse(gate.closes_at))}`).join('\n');
  tiles.gate.root.classList.toggle('warn', closes - now() < 15 * 60_000);
}

function gateless() {
  tiles.gate.value.replaceChildren(missing(live.sources.find((s) => s.name === 'market')?.heard_at, 'no gate'));
  tiles.gate.note.textContent = '';
  tiles.gate.root.classList.remove('warn');
}

const frequencyWord = (hz) => {
  const mhz = Math.round((hz - 50) * 1000);
  return mhz === 0 ? 'nominal' : `${number(Math.abs(mhz))} mHz ${mhz < 0 ? 'low' : 'high'}`;
};

function frequency(f) {
  const { root, value, note } = tiles.frequency;
  const off = f.hz === null ? 0 : Math.abs(f.hz - 50);
  root.classList.toggle('warn', off >= 0.1 && off < 0.2);
  root.classList.toggle('bad', off >= 0.1999);
  if (f.hz === null) {
    value.replaceChildren(missing(f.at));
    note.textContent = f.at ? age(f.at) : '';
  } else value.replaceChildren(number(f.hz, 3), element('small', '', ' Hz'));
}

const poolNote = (cycle) => {
  const { pool: p } = cycle;
  const wanted = flow(p.target_kw) === flow(p.actual_kw) ? '' : ` ${flow(p.target_kw)}`;
  return `target ${number(Math.abs(p.target_kw))}${wanted} · ${p.measured_evses} of ${p.connected_evses} metered · ${age(cycle.at)}`;
};

function pool(cycle) {
  const { root, value, note } = tiles.pool;
  const actual = cycle && !cycle.stale ? cycle.pool.actual_kw : null;
  if (actual === null) {
    value.replaceChildren(missing(cycle?.at));
    note.textContent = cycle ? `last target ${number(Math.abs(cycle.pool.target_kw))} kW ${flow(cycle.pool.target_kw)}` : '';
    root.classList.remove('warn');
    return;
  }
  value.replaceChildren(`${arrow(actual)} ${number(Math.abs(actual))}`, element('small', '', ` kW ${flow(actual)}`));
  note.textContent = poolNote(cycle);
  note.title = note.textContent;
  root.classList.toggle('warn', Math.abs(cycle.pool.error_kw) > cycle.pool.tolerance_kw);
}

function reserve(cycle) {
  const known = cycle && !cycle.stale ? cycle.reserves : [];
  reserves.replaceChildren(...['fcr', 'afrr_up', 'afrr_down'].map((product) => {
    const box = element('div', 'reserve');
    const found = known.find((r) => r.product === product);
    const name = element('div', 'name');
    name.append(element('b', '', `${productName(product)}${product === 'fcr' ? ' up, down' : ''}`));
    box.append(name);
    if (!found) {
      box.append(missing(cycle?.at));
      return box;
    }
    const scale = Math.max(found.held_mw, found.sold_mw, 0.001);
    const bar = element('div', 'bar');
    const held = element('i');
    const sold = element('u');
    held.style.width = `${(found.held_mw / scale) * 100}%`;
    sold.style.left = `calc(${(found.sold_mw / scale) * 100}% - 2px)`;
    bar.append(held, sold);
    const short = found.margin_mw < -0.0005;
    const figures = element('div', 'figures');
    const margin = element('div', short ? 'figures short' : 'figures', short ? `■ short ${number(-found.margin_mw, 2)}` : `margin ${number(found.margin_mw, 2)}`);
    figures.textContent = `${number(found.sold_mw, 2)} of ${number(found.held_mw, 2)}`;
    figures.title = `${productName(product)}: sold ${number(found.sold_mw, 3)} MW, held ${number(found.held_mw, 3)} MW, ${found.direction}; ${span(now() - Date.parse(cycle.at))} old`;
    box.append(bar, figures, margin);
    return box;
  }));
}

function alarms(list) {
  const { root, value } = tiles.alarms;
  const critical = list.filter((alarm) => alarm.severity === 'critical').length;
  root.classList.toggle('bad', critical > 0);
  root.classList.toggle('warn', critical === 0 && list.length > 0);
  value.textContent = list.length === 0 ? '✓ none' : `${critical ? '■' : '▲'} ${list.length}`;
  root.querySelector('ul').replaceChildren(...list.map((alarm) => {
    const item = element('li', alarm.severity, `${alarm.severity === 'critical' ? '■' : '▲'} ${alarm.text}`);
    item.title = `${alarm.severity}: ${alarm.text}`;
    return item;
  }));
}
