// Numbers, instants and missing values as people read them.

let zone = 'UTC';
let received = 0;
let told = 0;
let speed = 1;

/** Takes the platform's clock from a message; between messages it runs on by itself. */
export function setClock(clock) {
  zone = clock.zone;
  told = Date.parse(clock.now);
  received = performance.now();
  speed = clock.speed;
}

/** The platform's present instant in milliseconds since 1970. */
export const now = () => told + (performance.now() - received) * speed;
export const clockSpeed = () => speed;
export const zoneName = () => zone;
export const hasClock = () => told > 0;

const formats = new Map();
function formatter(options) {
  const key = zone + JSON.stringify(options);
  if (!formats.has(key)) formats.set(key, new Intl.DateTimeFormat('en-GB', { timeZone: zone, hourCycle: 'h23', ...options }));
  return formats.get(key);
}
export const clockTime = (ms) => formatter({ hour: '2-digit', minute: '2-digit' }).format(ms);
export const fullTime = (ms) => formatter({ hour: '2-digit', minute: '2-digit', second: '2-digit' }).format(ms);
export const dayTime = (ms) => formatter({ weekday: 'short', hour: '2-digit', minute: '2-digit' }).format(ms);
export const date = (ms) => formatter({ weekday: 'short', day: '2-digit', month: 'short', year: 'numeric' }).format(ms);
export const utc = (ms) => `${new Date(ms).toISOString().slice(0, 19).replace('T', ' ')} UTC`;

/** A span in the two largest units that matter. */
export function span(ms) {
  const s = Math.max(0, Math.round(ms / 1000));
  if (s < 100) return `${s} s`;
  const m = Math.floor(s / 60);
  if (m < 60) return `${m} min`;
  const h = Math.floor(m / 60);
  if (h < 48) return `${h} h ${String(m % 60).padStart(2, '0')} min`;
  return `${Math.floor(h / 24)} d ${h % 24} h`;
}
export const age = (instant) => `${span(now() - Date.parse(instant))} ago`;

/** A countdown as h:mm:ss. */
export function countdown(ms) {
  const s = Math.max(0, Math.floor(ms / 1000));
  const two = (n) => String(n).padStart(2, '0');
  return `${Math.floor(s / 3600)}:${two(Math.floor(s / 60) % 60)}:${two(s % 60)}`;
}

const numbers = [0, 1, 2, 3].map((digits) => new Intl.NumberFormat('en-GB', { minimumFractionDigits: digits, maximumFractionDigits: digits, useGrouping: true }));
/** A number with thin grouping and a real minus. */
export const number = (value, digits = 0) => {
  const text = numbers[digits].format(value).replaceAll(',', '\u202f');
  return Number(value.toFixed(digits)) === 0 ? text.replace('-', '') : text.replace('-', '\u2212');
};

export const flow = (kw) => (kw > 0.05 ? 'charging' : kw < -0.05 ? 'discharging' : 'still');
export const arrow = (kw) => (kw > 0.05 ? '▼' : kw < -0.05 ? '▲' : '■');

/** Power as magnitude with a word for the direction. */
export const power = (kw, digits = 0) => `${number(Math.abs(kw), digits)} kW ${flow(kw)}`;

/** An element with text. */
export function element(name, className, text) {
  const made = document.createElement(name);
  if (className) made.className = className;
  if (text !== undefined) made.textContent = text;
  return made;
}

/** What stands where a value did not arrive: hatched, with since when. */
export function missing(since, word = 'no value') {
  const made = element('span', 'missing');
  const text = since ? `${word} since ${fullTime(Date.parse(since))}` : `${word} yet`;
  made.append(element('span', '', text));
  made.title = since ? `last value ${utc(Date.parse(since))}` : 'nothing has arrived';
  return made;
}

export const productName = (product) => ({ day_ahead: 'Day-ahead', fcr: 'FCR', afrr_up: 'aFRR up', afrr_down: 'aFRR down', afrr: 'aFRR' })[product] ?? product;
