// Sites and charge points: exceptions first, everything one keystroke away.
import { arrow, clockTime, element, flow, missing, now, number, span, utc } from './format.js';

const byId = (id) => document.getElementById(id);
const chosen = { attention: true, q: '', site: '' };
const words = { offline: '✕ offline', free: '○ free', charging: '▼ charging', discharging: '▲ discharging', waiting: '❚❚ waiting', ready: '✓ ready', unmeasured: '? not metered' };

/** Starts the filters; `apply` is told each new choice. */
export function startFleet(apply) {
  let wait = 0;
  const soon = (ms) => { clearTimeout(wait); wait = setTimeout(() => apply({ ...chosen }), ms); };
  byId('attention').checked = chosen.attention;
  byId('attention').addEventListener('change', (event) => { chosen.attention = event.target.checked; soon(0); });
  byId('search').addEventListener('input', (event) => { chosen.q = event.target.value.trim(); soon(200); });
  byId('one-site').addEventListener('click', () => { chosen.site = ''; soon(0); });
  byId('sites').addEventListener('click', (event) => {
    const tile = event.target.closest('.site');
    if (!tile) return;
    chosen.site = chosen.site === tile.dataset.site ? '' : tile.dataset.site;
    if (chosen.site) { chosen.attention = false; byId('attention').checked = false; }
    soon(0);
  });
  apply({ ...chosen });
}

export function showFleet(view) {
  byId('attention-count').textContent = `(${number(view.attention)})`;
  byId('fleet-note').textContent = `${view.matched > view.rows.length ? `first ${number(view.rows.length)} of ` : ''}${number(view.matched)} of ${number(view.total)} shown`;
  byId('one-site').hidden = !chosen.site;
  byId('one-site').textContent = `✕ ${chosen.site}`;
  byId('rows').replaceChildren(...view.rows.map(row));
  const calm = byId('calm');
  calm.hidden = view.rows.length > 0;
  calm.textContent = view.total === 0 ? 'No charge point is registered yet.'
    : chosen.attention && !chosen.q && !chosen.site ? `✓ Nothing needs attention: ${number(view.plugged)} vehicles at ${number(view.total)} charge points.` : 'Nothing matches.';
  showSites(view.sites);
}

function showSites(sites) {
  const plugged = sites.reduce((sum, site) => sum + site.plugged, 0);
  byId('sites-note').textContent = `${sites.length} sites, ${number(plugged)} vehicles plugged in`;
  const ordered = [...sites].sort((a, b) => b.attention - a.attention || b.evses - a.evses || a.site.localeCompare(b.site));
  byId('sites').replaceChildren(...ordered.map(siteTile));
}

const size = (kw) => (kw < 999.5 ? `${number(kw)} kW` : `${number(kw / 1000, 2)} MW`);

function siteTile(site) {
  const tile = element('button', `site${site.attention ? ' look' : ''}`);
  tile.type = 'button';
  tile.dataset.site = site.site;
  tile.setAttribute('aria-pressed', String(chosen.site === site.site));
  const name = element('b', '', site.name);
  name.append(element('span', 'dim', `${site.attention ? '▲ ' : ''}${site.plugged}/${site.evses}`));
  tile.append(name, bar(site));
  const power = element('span');
  if (site.power_kw === null) power.append(missing(null, 'not metered'));
  else power.textContent = `${arrow(site.power_kw)} ${size(Math.abs(site.power_kw))} ${flow(site.power_kw)}`;
  tile.append(power);
  const limit = site.import_limit_kw === null ? 'limits unknown' : `limits ${number(site.import_limit_kw)} kW import, ${number(site.export_limit_kw)} kW export`;
  tile.title = `${site.name}: ${site.plugged} of ${site.evses} plugged in, ${site.attention} need attention, ${site.charging} charging, ${site.discharging} discharging, ${site.offline} offline, ${site.unmeasured} not metered; ${limit}${site.power_at ? `; oldest reading ${span(now() - Date.parse(site.power_at))} ago` : ''}`;
  return tile;
}

/** Power between the export and the import limit, zero marked. */
function bar(site) {
  const made = element('span', 'bar');
  if (site.power_kw === null || !site.import_limit_kw) return made;
  const whole = site.import_limit_kw + site.export_limit_kw;
  const zero = (site.export_limit_kw / whole) * 100;
  const length = Math.min(100, (Math.abs(site.power_kw) / whole) * 100);
  const fill = element('i');
  fill.style.left = `${site.power_kw < 0 ? Math.max(0, zero - length) : zero}%`;
  fill.style.width = `${length}%`;
  const mark = element('u');
  mark.style.left = `${zero}%`;
  made.append(fill, mark);
  return made;
}

function row(evse) {
  const tr = document.createElement('tr');
  const cell = (className, ...content) => { const td = element('td', className); td.append(...content); tr.append(td); return td; };
  const amount = (kw, at, word) => {
    if (kw === null) return cell('n', evse.plugged ? unknown(at, word) : '–');
    const td = cell('n', `${number(Math.abs(kw), 1)} ${arrow(kw)}`);
    td.title = `${number(Math.abs(kw), 1)} kW ${flow(kw)}${at ? `, ${span(now() - Date.parse(at))} ago (${utc(Date.parse(at))})` : ''}`;
    return td;
  };
  const name = cell('', evse.evse, ' ', element('span', 'dim', evse.site));
  name.title = `${evse.evse} at ${evse.site}, ${evse.class}, ${evse.protocol}${evse.vehicle ? `, vehicle ${evse.vehicle}` : ''}`;
  cell('', words[evse.doing] ?? evse.doing);
  amount(evse.power_kw, evse.power_at, 'none');
  amount(evse.setpoint_kw, evse.setpoint_at, 'none');
  amount(evse.planned_kw, null, 'none');
  leaves(cell, evse);
  cell('n', evse.missing_kwh === null ? (evse.plugged ? unknown(null, '?') : '–') : number(evse.missing_kwh, 1));
  why(cell, evse);
  return tr;
}

/** A missing value in a narrow cell: since when, or a word. */
function unknown(at, word) {
  const made = missing(at);
  made.firstChild.textContent = at ? `since ${clockTime(Date.parse(at))}` : word;
  return made;
}

function leaves(cell, evse) {
  if (!evse.departure) return cell('dim', evse.plugged ? 'not stated' : '–');
  const at = Date.parse(evse.departure);
  const slack = evse.slack_minutes;
  const td = cell('', `${clockTime(at)} `, element('span', 'dim', slack === null ? '' : slack < 0 ? `${number(-slack)} min late` : span(slack * 60_000)));
  td.title = `leaves ${utc(at)}; slack is the time left beyond charging at full power`;
  return td;
}

function why(cell, evse) {
  const td = cell('');
  const [first] = evse.attention;
  if (first) td.append(element('span', `exception${first.code === 'short' ? ' critical' : ''}`, `${first.code === 'short' ? '■' : '▲'} ${first.text}`), ' ');
  if (evse.reason) td.append(element('span', first ? 'dim' : '', evse.reason));
  else if (!first) td.append(element('span', 'dim', evse.plugged ? 'no schedule yet' : ''));
  td.title = [...evse.attention.map((a) => a.text), evse.reason].filter(Boolean).join('; ');
}
