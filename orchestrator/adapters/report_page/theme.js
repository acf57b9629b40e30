// Sets the theme that was chosen earlier, before anything is drawn. Without a choice, the system's.
"use strict";
(() => {
  try {
    const chosen = localStorage.getItem("report-theme");
    if (chosen === "dark" || chosen === "light") document.documentElement.dataset.theme = chosen;
  } catch {
    // Some browsers keep nothing for files: then the system's theme it is.
  }
})();
