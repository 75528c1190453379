// Who is asking, the plan's age, and taking over.
import { age, dayTime, element, flow, fullTime, missing, now, number, productName, span, utc } from './format.js';

const byId = (id) => document.getElementById(id);
const names = { schedule: 'Schedule', fcr: 'TSO, FCR', afrr: 'TSO, aFRR', driver: 'Drivers', hold: 'Hold', 'kill switch': 'Kill switch' };
let live = null;

export function showSide(message) {
  live = message;
  asking(message.cycle);
  tick();
}

export function tick() {
  if (live) plan(live.plan, live.sources.find((s) => s.name === 'plan'));
}

function asking(cycle) {
  const list = byId('asking');
  const chip = byId('state');
  if (!cycle) {
    chip.className = 'chip';
    chip.textContent = '○ no cycle yet';
    return list.replaceChildren(element('li', '', ''));
  }
  const [mark, look] = { running: ['●', 'good'], held: ['❚❚', 'warn'], killed: ['■', 'bad'] }[cycle.state] ?? ['○', ''];
  chip.className = cycle.stale ? 'chip bad' : `chip ${look}`;
  chip.textContent = cycle.stale ? `■ silent since ${fullTime(Date.parse(cycle.at))}` : `${mark} ${cycle.state}`;
  list.replaceChildren(...cycle.asking.map((ask) => {
    const item = element('li', ask.won ? 'won' : '');
    const amount = ask.kw === null ? '' : ask.who === 'schedule' ? `${number(Math.abs(ask.kw))} kW` : `${ask.kw > 0 ? '+' : ''}${number(ask.kw)} kW`;
    item.append(element('b', '', names[ask.who] ?? ask.who), element('span', '', ask.text), element('em', '', ask.won ? `${amount} ✓ won` : amount));
    item.title = `${names[ask.who] ?? ask.who}: ${ask.text}${ask.won ? '; decides the target' : ''}`;
    return item;
  }));
  return undefined;
}

function plan(p, source) {
  const root = byId('plan');
  const chip = byId('plan-chip');
  const list = root.querySelector('dl');
  const reason = root.querySelector('.reason');
  if (!p) {
    chip.className = 'chip warn';
    chip.textContent = '▲ none';
    list.replaceChildren(missing(source?.heard_at, 'no plan'));
    reason.textContent = '';
    return;
  }
  const [look, mark] = { fresh: ['good', '●'], amber: ['warn', '▲'], red: ['bad', '■'] }[p.age];
  chip.className = `chip ${look}`;
  chip.textContent = `${mark} ${p.age === 'fresh' ? 'fresh' : p.age === 'amber' ? 'one interval old' : 'two intervals old'}`;
  const pair = (term, value, title) => {
    const dd = element('dd');
    dd.append(value);
    if (title) dd.title = title;
    return [element('dt', '', term), dd];
  };
  list.replaceChildren(
    ...pair('solved', age(p.solved_at), utc(Date.parse(p.solved_at))),
    ...pair('status', p.status),
    ...pair('gap', p.relative_gap === null ? missing(null, 'no bound') : gap(p.relative_gap)),
    ...pair(Number(p.expected) < 0 ? 'to pay' : 'to receive', p.expected === null ? missing(null, 'none') : `${number(Math.abs(Number(p.expected)), 0)} ${p.currency}`, 'expected over the horizon of the plan'),
  );
  const data = p.data_until ? `data until ${dayTime(Date.parse(p.data_until))}` : 'data until unknown';
  reason.textContent = `${data} · ${p.reason ?? 'nothing limits this interval'}`;
  reason.title = reason.textContent;
}

const gap = (relative) => (relative === 0 ? '0' : relative < 1e-3 ? relative.toExponential(0).replace('-', '\u2212') : `${number(relative * 100, 1)} %`);

const titles = { hold: 'Hold the schedule', release: 'Release', kill: 'Pull the kill switch' };
let kind = null;
const dialog = byId('command');

const expiry = () => (kind === 'release' ? null : new Date(now() + Number(byId('command-minutes').value) * 60_000).toISOString());

async function preview() {
  const query = new URLSearchParams({ kind });
  if (kind !== 'release') query.set('expires_at', expiry());
  const box = byId('effect');
  try {
    const answer = await fetch(`/api/v1/dispatch/effect?${query}`);
    const effect = await answer.json();
    if (!answer.ok) throw new Error(effect.detail);
    const lines = [element('strong', '', effect.summary)];
    const power = (kw) => (kw === null ? 'not known' : `${number(Math.abs(kw))} kW ${flow(kw)}`);
    lines.push(element('p', '', `Pool power: ${power(effect.pool_now_kw)} now, ${effect.pool_after_kw === null ? 'then as the grid asks' : `${power(effect.pool_after_kw)} after`}.`));
    if (kind !== 'release') {
      const lost = effect.reserve_lost.map((r) => `${productName(r.product)} ${number(r.sold_mw, 2)} MW`).join(', ');
      lines.push(element('p', '', lost ? `Not delivered: ${lost}.` : 'No reserve is sold now.'));
      lines.push(element('p', '', effect.payment_at_risk === null ? 'Capacity payment at risk: none.' : `Capacity payment at risk: ${effect.payment_at_risk} ${effect.currency}, penalties apart.`));
      lines.push(element('p', '', `Vehicles plugged in: ${effect.vehicles}; stop discharging: ${effect.stop_discharging}.`));
    }
    box.replaceChildren(...lines);
  } catch (error) {
    box.replaceChildren(element('p', 'problem', `The effect is not known: ${error.message}`));
  }
}

function open(wanted) {
  kind = wanted;
  byId('command-title').textContent = titles[kind];
  byId('command-send').textContent = titles[kind];
  byId('command-send').className = kind === 'kill' ? 'danger' : '';
  byId('command-span').hidden = kind === 'release';
  byId('command-minutes').value = kind === 'kill' ? '240' : '15';
  byId('command-reason').value = '';
  byId('command-problem').textContent = '';
  byId('effect').replaceChildren();
  dialog.showModal();
  preview();
}

async function send(event) {
  event.preventDefault();
  const command = { kind, by: byId('command-by').value, reason: byId('command-reason').value };
  if (kind !== 'release') command.expires_at = expiry();
  byId('command-send').disabled = true;
  try {
    const answer = await fetch('/api/v1/dispatch/command', { method: 'POST', headers: { 'content-type': 'application/json' }, body: JSON.stringify(command) });
    const body = await answer.json();
    if (!answer.ok) throw new Error(body.detail);
    dialog.close();
    byId('outcome').textContent = `${titles[kind]}: ${body.state}${command.expires_at ? `, ends in ${span(Date.parse(command.expires_at) - now())}` : ''}`;
  } catch (error) {
    byId('command-problem').textContent = `Not done: ${error.message}`;
  } finally {
    byId('command-send').disabled = false;
  }
}

export function startSide() {
  document.querySelectorAll('.actions [data-kind]').forEach((button) => button.addEventListener('click', () => open(button.dataset.kind)));
  dialog.querySelector('form').addEventListener('submit', send);
  byId('command-cancel').addEventListener('click', () => dialog.close());
  byId('command-minutes').addEventListener('change', preview);
}
