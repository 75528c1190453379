// The keyboard.
const byId = (id) => document.getElementById(id);
const dark = () => {
  const chosen = document.documentElement.dataset.theme;
  return chosen ? chosen === 'dark' : matchMedia('(prefers-color-scheme: dark)').matches;
};

function switchTheme(changed) {
  const theme = dark() ? 'light' : 'dark';
  document.documentElement.dataset.theme = theme;
  try { localStorage.setItem('shoal-theme', theme); } catch { /* storage may be forbidden */ }
  changed();
}

/** Listens to keys; `changed` is called when the theme is. */
export function startKeys(changed) {
  let going = false;
  byId('theme').addEventListener('click', () => switchTheme(changed));
  byId('help').addEventListener('click', () => byId('keys').showModal());
  byId('keys-close').addEventListener('click', () => byId('keys').close());
  matchMedia('(prefers-color-scheme: dark)').addEventListener('change', changed);
  const search = byId('search');
  search.addEventListener('keydown', (event) => {
    if (event.key !== 'Escape') return;
    search.value = '';
    search.dispatchEvent(new Event('input'));
    search.blur();
  });
  document.addEventListener('keydown', (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey || event.target.closest('input, select, textarea, dialog')) return;
    const act = going ? { c: () => location.assign('/') }[event.key] : {
      '/': () => search.focus(),
      '?': () => byId('keys').showModal(),
      a: () => byId('attention').click(),
      t: () => switchTheme(changed),
    }[event.key];
    going = !going && event.key === 'g';
    if (act) { event.preventDefault(); act(); }
  });
}
