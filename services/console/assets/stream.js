// The stream of events: opens, tells how it fares, opens again with another filter.

/** Follows `/api/v1/events`; `on` has `live`, `fleet` and `link`. Returns a function that sets the filter. */
export function follow(on) {
  let source = null;
  let retry = 0;
  let heard = 0;
  let filter = {};
  const open = () => {
    clearTimeout(retry);
    source?.close();
    const query = new URLSearchParams(Object.entries(filter).filter(([, value]) => value !== '' && value !== false));
    source = new EventSource(`/api/v1/events?${query}`);
    source.addEventListener('live', (event) => { heard = performance.now(); on.link(true); on.live(JSON.parse(event.data)); });
    source.addEventListener('fleet', (event) => on.fleet(JSON.parse(event.data)));
    source.onerror = () => {
      on.link(false);
      if (source.readyState === EventSource.CLOSED) retry = setTimeout(open, 2000);
    };
  };
  // A server that fell silent without closing is a broken link too: it speaks at least once a second.
  setInterval(() => { if (heard && performance.now() - heard > 5000) on.link(false); }, 1000);
  return (wanted) => { filter = wanted; open(); };
}
