// The page: theme, copying, figures drawn when they come into view. Runs last.
"use strict";
const PAGE = (() => {
  const root = document.documentElement;
  const system = matchMedia("(prefers-color-scheme: dark)");
  const figures = [...document.querySelectorAll("[data-figure]")];
  const drawn = new Set();
  let atWork = 0; // figures that are being drawn

  // --- light and dark ---------------------------------------------------------------------------

  function isDark() {
    return root.dataset.theme ? root.dataset.theme === "dark" : system.matches;
  }

  function tellTheme() {
    document.getElementById("theme").textContent = isDark() ? "Light theme" : "Dark theme";
    for (const place of figures) if (drawn.has(place)) draw(place);
  }

  function switchTheme() {
    root.dataset.theme = isDark() ? "light" : "dark";
    try {
      localStorage.setItem("report-theme", root.dataset.theme);
    } catch {
      // Then it holds until the page is closed.
    }
    tellTheme();
  }

  // --- copying ----------------------------------------------------------------------------------

  async function copy(text, target) {
    let isCopied = false;
    try {
      await navigator.clipboard.writeText(text);
      isCopied = true;
    } catch {
      isCopied = copyOldWay(text); // the clipboard is not for pages opened as files everywhere
    }
    document.getElementById("said").textContent = isCopied ? "Copied" : "Not copied";
    if (target === undefined) return;
    target.dataset.said = isCopied ? "Copied" : "Not copied";
    setTimeout(() => delete target.dataset.said, 1500);
    target.focus();
  }

  function copyOldWay(text) {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "hidden";
    document.body.append(area);
    area.select();
    const isCopied = document.execCommand("copy");
    area.remove();
    return isCopied;
  }

  // --- figures ----------------------------------------------------------------------------------

  function theme() {
    if (root.classList.contains("printing")) return "light";
    const style = getComputedStyle(root);
    const names = ["text", "muted", "line", "surface", "accent", "good", "warn", "bad"];
    const colors = names.map((name) => [name, style.getPropertyValue(`--${name}`).trim()]);
    return { dark: isDark(), font: style.fontFamily, ...Object.fromEntries(colors) };
  }

  async function draw(place) {
    const id = place.dataset.figure;
    drawn.add(place);
    atWork += 1;
    try {
      const data = JSON.parse(document.getElementById(`data-${id}`).textContent);
      await FIGURES[id](place, data, theme());
      place.dataset.drawn = "yes";
    } catch (error) {
      place.dataset.drawn = "no";
      place.textContent = "This figure could not be drawn; its numbers are in the table above.";
      console.error(`figure ${id}: ${error.stack || error}`);
    } finally {
      atWork -= 1;
    }
  }

  async function drawAll() {
    await Promise.all(figures.filter((place) => !drawn.has(place)).map(draw));
  }

  // On paper all figures are there, in the light theme, as wide as a page.
  function print(isPrinting) {
    root.classList.toggle("printing", isPrinting);
    for (const place of figures) if (isPrinting || drawn.has(place)) draw(place);
  }

  function isQuiet() {
    return atWork === 0;
  }

  function watchFigures() {
    const watcher = new IntersectionObserver(
      (entries) => {
        for (const entry of entries) {
          if (entry.isIntersecting && !drawn.has(entry.target)) draw(entry.target);
        }
      },
      { rootMargin: "400px" },
    );
    for (const place of figures) watcher.observe(place);
    addEventListener("beforeprint", () => print(true));
    addEventListener("afterprint", () => print(false));
  }

  function start() {
    const button = document.getElementById("theme");
    button.hidden = false;
    button.addEventListener("click", switchTheme);
    system.addEventListener("change", tellTheme);
    tellTheme();
    for (const target of document.querySelectorAll("[data-copy]")) {
      target.addEventListener("click", () => copy(target.dataset.copy, target));
    }
    TABLE.build();
    watchFigures();
  }

  return { copy, drawAll, isQuiet, start };
})();
PAGE.start();
