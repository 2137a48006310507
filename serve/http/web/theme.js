// Light or dark: as the system has it, until somebody chooses; the choice stays with the browser.

const KEY = "nextswipe.theme";
const GROUNDS = { dark: "#0c0b10", light: "#f3f1f7" };

/** Follow the system's theme, or the one that was chosen here. */
export function followTheme(storage) {
  const light = matchMedia("(prefers-color-scheme: light)");
  const show = () => put(storage.getItem(KEY) ?? (light.matches ? "light" : "dark"));
  light.addEventListener("change", show);
  show();
}

/** Change to the other theme, and keep that. */
export function turnTheme(storage) {
  const next = document.documentElement.dataset.theme === "light" ? "dark" : "light";
  storage.setItem(KEY, next);
  put(next);
}

function put(theme) {
  document.documentElement.dataset.theme = theme;
  document.querySelector("meta[name=theme-color]").content = GROUNDS[theme];
}
