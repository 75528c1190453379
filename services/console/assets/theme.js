// Applies the chosen theme before the first paint; without a choice the system decides.
(() => {
  let chosen = null;
  try { chosen = localStorage.getItem('shoal-theme'); } catch { /* storage may be forbidden */ }
  if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
})();
