// The control room: binds the stream to the parts of the page.
import { redraw, takePoints } from './charts.js';
import { showFleet, startFleet } from './fleet.js';
import { clockSpeed, date, element, fullTime, hasClock, now, number, setClock, span, utc, zoneName } from './format.js';
import { startKeys } from './keys.js';
import { showSide, startSide, tick as tickSide } from './side.js';
import { follow } from './stream.js';
import { showStrip, tick as tickStrip } from './strip.js';

const byId = (id) => document.getElementById(id);

function showClock() {
  if (!hasClock()) return;
  const at = now();
  const speed = clockSpeed();
  const pace = speed === 1 ? 'real time' : `simulated, ${number(speed, Number.isInteger(speed) ? 0 : 2)}× real time`;
  byId('clock').replaceChildren(`${date(at)}  ${fullTime(at)}`, element('small', '', `${zoneName()} · ${pace}`));
  byId('clock').title = utc(at);
}

function showSources(sources) {
  byId('sources').replaceChildren(...sources.map((source) => {
    const made = element('span', source.up ? 'up' : 'away');
    made.append(element('span', 'mark', source.up ? '●' : source.since ? '■' : '○'), ` ${source.name}`);
    if (!source.up && source.since) made.append(` ${span(now() - Date.parse(source.since))}`);
    made.title = source.up ? `${source.name}: heard ${utc(Date.parse(source.heard_at))}` : `${source.name}: ${source.detail ?? 'not heard yet'}`;
    return made;
  }));
}

function showLink(live) {
  const link = byId('link');
  link.className = live ? 'link live' : 'link';
  link.replaceChildren(element('span', 'mark', live ? '●' : '▲'), live ? ' live' : ' connection lost, trying again');
}

const listen = follow({
  link: showLink,
  fleet: showFleet,
  live(message) {
    setClock(message.clock);
    showClock();
    showSources(message.sources);
    showStrip(message);
    showSide(message);
    takePoints(message);
    document.documentElement.dataset.ready = 'true';
  },
});

startSide();
startKeys(redraw);
startFleet(listen);
setInterval(() => { showClock(); tickStrip(); tickSide(); }, 250);
